//! Peers: an encrypted connection, its session, and the tasks that run it.

mod channel;
mod connection;
pub(crate) mod driver;
mod ending;
mod outbox;
mod reader;
pub(crate) mod setup;
mod traffic;
mod writer;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use channel::{Channel, ChannelReceiver, ChannelSender, Message, SEND_TIMEOUT, SendError};
pub use connection::Connection;
pub use ending::{Ending, Party, PeerError, Stage};
pub use setup::SetupTimes;
pub use traffic::Traffic;

pub(crate) use traffic::Counters;

use crate::node::{NodeId, PublicKey};
use crate::p2p::{Capability, ClientId, DisconnectReason};
use setup::Ready;

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
    addresses: Option<Addresses>,
    times: SetupTimes,
    pub(crate) traffic: Counters,
    /// In microseconds plus one; 0 before the first Pong.
    round_trip: AtomicU64,
    unsolicited_pongs: AtomicU64,
    requested: OnceLock<DisconnectReason>,
    stop: CancellationToken,
    ending: watch::Sender<Option<Ending>>,
}

/// Both ends of a TCP connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

impl PeerInner {
    pub(crate) fn new(
        ready: &Ready,
        direction: Direction,
        addresses: Option<Addresses>,
        total: &Counters,
    ) -> Arc<Self> {
        let hello = ready.session.remote();
        Arc::new(Self {
            id: hello.public_key.node_id(),
            public_key: hello.public_key,
            client_id: hello.client_id.clone(),
            p2p_version: hello.version,
            capabilities: hello.capabilities.clone(),
            shared: ready.session.shared().iter().map(|shared| shared.capability.clone()).collect(),
            direction,
            addresses,
            times: ready.times,
            traffic: total.child(),
            round_trip: AtomicU64::new(0),
            unsolicited_pongs: AtomicU64::new(0),
            requested: OnceLock::new(),
            stop: CancellationToken::new(),
            ending: watch::Sender::new(None),
        })
    }

    pub(crate) fn set_round_trip(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.round_trip.store(micros.saturating_add(1), Ordering::Relaxed);
    }

    pub(crate) fn unsolicited_pong(&self) {
        self.unsolicited_pongs.fetch_add(1, Ordering::Relaxed);
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

    /// The other end's address; `None` where the transport has none, as in memory.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.inner.addresses.map(|addresses| addresses.remote)
    }

    /// This end's address; `None` where the transport has none, as in memory.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.addresses.map(|addresses| addresses.local)
    }

    /// How long it took to set the connection up.
    pub fn setup_times(&self) -> SetupTimes {
        self.inner.times
    }

    /// How long the last Ping took to be answered; `None` before the first, which follows 15 s of silence.
    pub fn round_trip_time(&self) -> Option<Duration> {
        self.inner.round_trip.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_micros)
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
