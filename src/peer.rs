//! Peers: an encrypted connection, its session, and the tasks that run it.

pub(crate) mod budget;
mod channel;
mod connection;
pub(crate) mod driver;
pub(crate) mod drr;
mod ending;
mod frames;
pub(crate) mod handlers;
pub(crate) mod inbox;
#[cfg(test)]
pub(crate) mod orders;
pub(crate) mod outbox;
pub(crate) mod rates;
mod reader;
mod scratch;
mod send;
pub(crate) mod setup;
pub(crate) mod shaper;
mod shared;
mod status;
mod tap;
mod traffic;
mod wire;
mod writer;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::rates::MessageRates;
pub use channel::{Channel, ChannelReceiver, Message};
pub use connection::Connection;
pub use ending::{Ending, FailedAttempt, Party, PeerError, Stage};
pub(crate) use send::ReceiptSender;
pub use send::{ChannelSender, Receipt, SendError};
pub use setup::SetupTimes;
pub use shaper::ByteRates;
pub use shared::SharedMessage;
pub use status::{PeerStatus, ProtocolState, ProtocolStatus};
pub use traffic::{Traffic, TrafficRates};

pub(crate) use traffic::Counters;

use crate::metrics::Meters;
use crate::node::{Address, NodeId, PublicKey};
use crate::p2p::{Capability, ClientId, DisconnectReason, RateLimit, RoundTrip};
use crate::protocol::Protocol;
use crate::transport::Endpoints;
use inbox::Inbox;
use outbox::Outbox;
use setup::{Config, Ready};
use shaper::Shapers;

/// Who dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The other end.
    Inbound,
    /// This end.
    Outbound,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        })
    }
}

/// A live connection to a node, or one that has been: a handle that is cheap to clone and does not keep the
/// connection open.
#[derive(Clone)]
pub struct Peer {
    inner: Arc<PeerInner>,
}

pub(crate) struct PeerInner {
    pub(crate) id: NodeId,
    public_key: PublicKey,
    client_id: ClientId,
    p2p_version: u64,
    capabilities: Vec<Capability>,
    shared: Vec<Capability>,
    direction: Direction,
    endpoints: Endpoints,
    times: SetupTimes,
    since: Instant,
    pub(crate) traffic: Counters,
    meters: Arc<Meters>,
    /// The protocols of `shared`, in the same order.
    protocols: Vec<Protocol>,
    pub(crate) shapers: Arc<Shapers>,
    links: OnceLock<Links>,
    round_trip: watch::Sender<Option<RoundTrip>>,
    asked: Notify,
    is_ping_asked: AtomicBool,
    /// Of all registered protocols; those of this peer are `places`.
    rates: Arc<MessageRates>,
    places: Box<[usize]>,
    unsolicited_pongs: AtomicU64,
    /// What was left when the queues were closed.
    unsent: AtomicU64,
    requested: OnceLock<DisconnectReason>,
    stop: CancellationToken,
    ending: watch::Sender<Option<Ending>>,
}

/// Where what waits can be counted, as long as the peer lives.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) outbox: Weak<Outbox>,
    pub(crate) inboxes: Vec<Weak<Inbox>>,
}

impl PeerInner {
    pub(crate) fn new(
        config: &Config,
        ready: &Ready,
        direction: Direction,
        endpoints: Endpoints,
        total: &Counters,
    ) -> Arc<Self> {
        let hello = ready.session.remote();
        let shared = ready.session.shared();
        Arc::new(Self {
            id: hello.public_key.node_id(),
            public_key: hello.public_key,
            client_id: hello.client_id.clone(),
            p2p_version: hello.version,
            capabilities: hello.capabilities.clone(),
            shared: shared.iter().map(|shared| shared.capability.clone()).collect(),
            direction,
            endpoints,
            times: ready.times,
            since: Instant::now(),
            traffic: total.child(),
            meters: config.meters.clone(),
            protocols: shared.iter().map(|shared| config.protocols[shared.index].clone()).collect(),
            shapers: Shapers::new(config.peer_rates),
            links: OnceLock::new(),
            round_trip: watch::Sender::new(None),
            asked: Notify::new(),
            is_ping_asked: AtomicBool::new(false),
            rates: config.rates.clone(),
            places: shared.iter().map(|shared| shared.index).collect(),
            unsolicited_pongs: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            requested: OnceLock::new(),
            stop: CancellationToken::new(),
            ending: watch::Sender::new(None),
        })
    }

    /// A Pong has come.
    pub(crate) fn set_round_trip(&self, times: Option<RoundTrip>) {
        if let Some(times) = &times {
            self.meters.round_trips.record(times.last);
        }
        self.round_trip.send_replace(times);
    }

    /// Waits until the reader is asked for something.
    ///
    /// # Cancel safety
    /// What was asked for is not lost.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Whether a Ping is to be sent, told once.
    pub(crate) fn take_ping(&self) -> bool {
        self.is_ping_asked.swap(false, Ordering::Relaxed)
    }

    /// The message rate in force for the protocol at this place.
    pub(crate) fn rate_of(&self, place: usize) -> Option<RateLimit> {
        self.rates.of(self.places[place])
    }

    pub(crate) fn ask_for_ping(&self) {
        self.is_ping_asked.store(true, Ordering::Relaxed);
        self.asked.notify_one();
    }

    pub(crate) fn link(&self, links: Links) {
        // It is done once, when the tasks start.
        let _ = self.links.set(links);
    }

    pub(crate) fn unsolicited_pong(&self) {
        self.unsolicited_pongs.fetch_add(1, Ordering::Relaxed);
    }

    /// The end of a session whose task is being dropped before it could tell.
    pub(crate) fn abandoned(&self) -> Ending {
        Ending::abandoned().with_unsent(self.unsent.load(Ordering::Relaxed))
    }

    pub(crate) fn set_ending(&self, ending: Ending) {
        self.ending.send_replace(Some(ending));
    }

    async fn disconnect_requested(&self) -> DisconnectReason {
        self.stop.cancelled().await;
        *self.requested.get().expect("the reason is set before the token is cancelled")
    }
}

impl Peer {
    pub(crate) fn new(inner: Arc<PeerInner>) -> Self {
        Self { inner }
    }

    /// The id of the node.
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// The key that the node has proved to hold.
    pub fn public_key(&self) -> &PublicKey {
        &self.inner.public_key
    }

    /// What the node calls itself.
    pub fn client_id(&self) -> &ClientId {
        &self.inner.client_id
    }

    /// The version of `p2p` that the node speaks.
    pub fn p2p_version(&self) -> u64 {
        self.inner.p2p_version
    }

    /// Everything that the node offers.
    pub fn capabilities(&self) -> &[Capability] {
        &self.inner.capabilities
    }

    /// What both ends have, and run.
    pub fn shared_capabilities(&self) -> &[Capability] {
        &self.inner.shared
    }

    /// Who dialled.
    pub fn direction(&self) -> Direction {
        self.inner.direction
    }

    /// The other end's IP address and port; `None` where the transport has none.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.remote_address()?.socket_addr()
    }

    /// This end's IP address and port; `None` where the transport has none.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_address()?.socket_addr()
    }

    /// The other end's address, of whatever kind; `None` where the transport does not know it.
    pub fn remote_address(&self) -> Option<&Address> {
        self.inner.endpoints.remote.as_ref()
    }

    /// This end's address, likewise.
    pub fn local_address(&self) -> Option<&Address> {
        self.inner.endpoints.local.as_ref()
    }

    /// What the connection runs over: the [name](crate::Transport::name) of the transport, such as `tcp`.
    pub fn transport(&self) -> &'static str {
        self.inner.endpoints.transport
    }

    /// How long it took to set the connection up.
    pub fn setup_times(&self) -> SetupTimes {
        self.inner.times
    }

    /// The round-trip times so far, from Pings and their Pongs; `None` before the first, which follows 15 s of silence
    /// or [`Peer::ping`].
    pub fn round_trip(&self) -> Option<RoundTrip> {
        *self.inner.round_trip.borrow()
    }

    /// Sends a Ping, and returns how long the Pong took. While a Ping is outstanding none is sent, and the answer to
    /// that one counts.
    ///
    /// # Errors
    /// How the connection ended, if it did. Without a Pong it does, after the
    /// [`pong_timeout`](crate::p2p::LivenessSettings::pong_timeout).
    ///
    /// # Cancel safety
    /// It can be dropped; the Ping is sent all the same.
    pub async fn ping(&self) -> Result<Duration, Ending> {
        let (mut times, mut ending) = (self.inner.round_trip.subscribe(), self.inner.ending.subscribe());
        self.inner.ask_for_ping();
        tokio::select! {
            biased;
            ended = ending.wait_for(Option::is_some) => {
                Err(ended.ok().and_then(|ending| ending.clone()).expect("this handle holds the sender, which is set once"))
            }
            changed = times.changed() => {
                changed.expect("this handle holds the sender");
                Ok(times.borrow().map(|times| times.last).unwrap_or_default())
            }
        }
    }

    /// Asks for a Ping without waiting for its Pong; see [`Peer::ping`].
    pub(crate) fn ask_ping(&self) {
        self.inner.ask_for_ping();
    }

    /// Sets the byte rates of this connection, from now on; 0 is unlimited. Those of the
    /// [server](crate::Server::set_byte_rates) hold as well.
    pub fn set_byte_rates(&self, rates: ByteRates) {
        self.inner.shapers.set(rates);
    }

    /// The message rates of its protocols may have changed.
    pub(crate) fn review_rates(&self) {
        self.inner.asked.notify_one();
    }

    /// The byte rates of this connection.
    pub fn byte_rates(&self) -> ByteRates {
        self.inner.shapers.rates()
    }

    /// How long the connection has been a peer.
    pub fn age(&self) -> Duration {
        self.inner.since.elapsed()
    }

    /// A snapshot of the connection: what is on its way, and what its protocols say of it.
    pub fn status(&self) -> PeerStatus {
        PeerStatus::of(self)
    }

    /// How many Pongs have come that nobody asked for.
    pub fn unsolicited_pongs(&self) -> u64 {
        self.inner.unsolicited_pongs.load(Ordering::Relaxed)
    }

    /// What has gone over the connection so far.
    pub fn traffic(&self) -> Traffic {
        self.inner.traffic.read()
    }

    /// Ends the connection, telling the other end the reason. What is queued for it is dropped.
    ///
    /// Returns at once; [`Peer::closed`] waits for the end. Only the first call counts.
    pub fn disconnect(&self, reason: DisconnectReason) {
        if self.inner.requested.set(reason).is_ok() {
            self.inner.stop.cancel();
        }
    }

    /// Whether this end has been asked to end the connection.
    pub(crate) fn is_leaving(&self) -> bool {
        self.inner.requested.get().is_some()
    }

    /// How the connection ended; `None` while it lives.
    pub fn ending(&self) -> Option<Ending> {
        self.inner.ending.borrow().clone()
    }

    /// Waits until the connection has ended and all its handlers with it. A handler that waits for its own peer here
    /// is cancelled after the grace time.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub async fn closed(&self) -> Ending {
        let mut ending = self.inner.ending.subscribe();
        let ended = ending.wait_for(Option::is_some).await;
        ended.ok().and_then(|ending| ending.clone()).expect("this handle holds the sender, which is set once")
    }
}

impl PartialEq for Peer {
    /// Whether both are the same connection.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Peer {}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("id", &self.inner.id)
            .field("client_id", &self.inner.client_id)
            .field("shared", &self.inner.shared)
            .field("direction", &self.inner.direction)
            .field("remote_addr", &self.remote_addr())
            .finish_non_exhaustive()
    }
}
