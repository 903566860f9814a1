//! The server: one node of a network, which listens, dials, and keeps its peers.

mod access;
mod attempt;
mod backoff;
mod builder;
mod candidates;
pub(crate) mod claims;
mod connection;
mod dial;
mod dialler;
mod dialling;
pub(crate) mod events;
pub(crate) mod gate;
mod limits;
#[cfg(feature = "metrics")]
mod metrics;
mod peer_set;
mod saver;
pub(crate) mod schedule;
mod shared;
mod start_error;
mod status;
mod switch;
mod turn;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

pub use access::Trust;
pub use backoff::{Backoff, BackoffError, ExponentialBackoff, FibonacciBackoff};
pub use builder::ServerBuilder;
pub use dialling::{NotAdded, UnknownNode};
pub use events::{Event, EventFilter, EventKind, EventStream};
pub(crate) use events::{Hub as EventHub, MessageEvent};
pub use gate::{AcceptLimits, Refusal};
pub use limits::{InvalidLimits, PeerLimits, UnknownProtocol};
pub use start_error::StartError;
pub use status::ServerStatus;

use crate::book::{AddressBook, SharedBook};
use crate::node::{Address, Enode, NodeAddr, NodeId, NodeKey};
use crate::p2p::{Capability, Registered};
use crate::peer::setup::Config;
use crate::peer::{ByteRates, Counters, Ending, Peer, Traffic};
use crate::peers::ProtocolPeers;
use crate::transport::{BoxedListener, BoxedTransport};
use builder::{Limits, Nodes};
use candidates::Candidates;
use dialler::Dialler;
use events::Emitter;
use gate::Gate;
use peer_set::PeerSet;
use saver::Saver;
use schedule::DialLimits;
use shared::Shared;
use switch::{Command, Switch};

/// How many orders of the application wait for the task of the server.
const COMMANDS: usize = 16;

/// A running node.
///
/// Dropping it aborts everything at once; [`Server::shutdown`] ends it in order.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    switch: AbortHandle,
}

impl Server {
    /// The settings of a server for the node with this key.
    pub fn builder(key: NodeKey) -> ServerBuilder {
        ServerBuilder::new(key)
    }

    fn spawn(
        settings: ServerBuilder,
        config: Arc<Config>,
        listener: Option<BoxedListener>,
    ) -> Result<Self, StartError> {
        let ServerBuilder { limits, nodes, transports, .. } = settings;
        let mut random = match nodes.seed {
            Some(seed) => fastrand::Rng::with_seed(seed),
            None => fastrand::Rng::with_seed(getrandom::u64().map_err(StartError::Random)?),
        };
        let local_address = listener.as_ref().map(BoxedListener::local_address);
        let shared = Arc::new(Self::share(config, limits, &nodes, transports, local_address, random.fork())?);
        shared.gate.set_exempt(nodes.access.exempt_addresses());
        shared.introduce(&nodes)?;
        let (commands, incoming) = mpsc::channel(COMMANDS);
        #[cfg(feature = "book-file")]
        let saver = Saver::new(nodes.book_file, &shared);
        #[cfg(not(feature = "book-file"))]
        let saver = Saver;
        let switch = Switch {
            shared: shared.clone(),
            listener,
            commands: incoming,
            candidates: Candidates::new(nodes.bootnodes, nodes.candidates, random),
            saver,
            connections: JoinSet::new(),
        };
        let switch = tokio::spawn(switch.run()).abort_handle();
        Ok(Self { shared, commands, switch })
    }

    fn share(
        config: Arc<Config>,
        limits: Limits,
        nodes: &Nodes,
        transports: Vec<BoxedTransport>,
        local_address: Option<Address>,
        random: fastrand::Rng,
    ) -> Result<Shared, StartError> {
        let of_peers = limits.of_peers();
        let dials = DialLimits { dials: limits.dials, outbound: of_peers.max_outbound, ..DialLimits::default() };
        Ok(Shared {
            peers: PeerSet::new(config.public_key.node_id(), of_peers, nodes.access.clone()),
            events: Emitter(config.events.clone()),
            transports,
            traffic: Counters::default(),
            gate: Gate::new(limits.accept),
            dialler: Dialler::new(dials, nodes.backoff.clone(), random),
            keeps_book: nodes.are_looked_for(),
            book: match &nodes.book {
                Some(book) => book.clone(),
                None => SharedBook::new(AddressBook::random().map_err(StartError::Random)?),
            },
            orders: Mutex::default(),
            local_address: Mutex::new(local_address),
            config,
        })
    }

    /// The id of this node.
    pub fn id(&self) -> NodeId {
        self.shared.config.public_key.node_id()
    }

    /// The IP address and port it listens on; `None` when it does not, or on an address of another kind.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_address()?.socket_addr()
    }

    /// The address it listens on, of whatever kind; `None` when it does not.
    pub fn local_address(&self) -> Option<Address> {
        self.shared.local_address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What others dial to reach this node, as an `enode` URL; `None` when it does not listen, or on an address that is
    /// no IP address. A node that listens on all addresses is shown with the loopback address.
    pub fn enode(&self) -> Option<Enode> {
        Some(Enode::new(self.shared.config.public_key, reachable(self.local_addr()?)))
    }

    /// What others dial to reach this node, whatever it listens on; `None` when it does not. The loopback address is
    /// shown as in [`Server::enode`].
    pub fn node_addr(&self) -> Option<NodeAddr> {
        let address = match self.local_address()? {
            Address::Ip(address) => reachable(address).into(),
            other => other,
        };
        Some(NodeAddr::new(self.shared.config.public_key, [address]))
    }

    /// The peers of this moment, in the order of their ids.
    pub fn peers(&self) -> Vec<Peer> {
        self.shared.peers.all()
    }

    /// The peer with this id, if there is one.
    pub fn peer(&self, id: &NodeId) -> Option<Peer> {
        self.shared.peers.find(id)
    }

    /// The peers of one of its protocols, the handle that [`Protocol::peers`](crate::Protocol::peers) returns; `None`
    /// when no such protocol is registered.
    pub fn protocol(&self, name: &str, version: u64) -> Option<ProtocolPeers> {
        Some(self.shared.config.protocols[self.place_of(name, version)?].peers())
    }

    fn place_of(&self, name: &str, version: u64) -> Option<usize> {
        let is_it = |known: &Registered| known.capability.name() == name && known.capability.version() == version;
        self.shared.config.registered.iter().position(is_it)
    }

    /// What has gone over all connections so far, those that are gone included.
    pub fn traffic(&self) -> Traffic {
        self.shared.traffic.read()
    }

    /// A snapshot of the server and of all its peers.
    pub fn status(&self) -> ServerStatus {
        ServerStatus::of(&self.shared)
    }

    /// What happens from now on, but for single messages: the same as [`Server::events_with`] and the default filter.
    pub fn events(&self) -> EventStream {
        self.events_with(EventFilter::default())
    }

    /// What happens from now on of what passes the filter. There may be any number of subscribers; each costs a little
    /// time for each event, and memory for those that it has not read.
    pub fn events_with(&self, filter: EventFilter) -> EventStream {
        self.shared.events.subscribe(filter)
    }

    /// Sets the byte rates of all peers together, from now on; 0 is unlimited.
    pub fn set_byte_rates(&self, rates: ByteRates) {
        self.shared.config.shapers.set(rates);
    }

    /// The byte rates of all peers together.
    pub fn byte_rates(&self) -> ByteRates {
        self.shared.config.shapers.rates()
    }

    /// Pings all peers at once, and returns for each how long its Pong took, or how it ended before; see
    /// [`Peer::ping`].
    ///
    /// # Cancel safety
    /// It can be dropped; the Pings that have been asked for are sent all the same.
    pub async fn ping_all(&self) -> Vec<(Peer, Result<Duration, Ending>)> {
        let mut pings: JoinSet<_> = self
            .peers()
            .into_iter()
            .map(|peer| async move {
                let time = peer.ping().await;
                (peer, time)
            })
            .collect();
        let mut times = Vec::new();
        while let Some(ended) = pings.join_next().await {
            times.extend(ended.ok());
        }
        times
    }

    /// What the protocols say of this node: those that have a [`node_info`](crate::Protocol::node_info), in the order
    /// in which they were registered.
    pub fn node_info(&self) -> Vec<(Capability, String)> {
        let config = &self.shared.config;
        let infos = config.protocols.iter().zip(&config.registered);
        infos.filter_map(|(protocol, known)| Some((known.capability.clone(), protocol.describe_node()?))).collect()
    }

    /// Ends the server at once: connections are closed without a Disconnect, and all tasks joined. What was not sent is
    /// counted in [`Ending::unsent`].
    ///
    /// # Cancel safety
    /// When the future is dropped, the end goes on.
    pub async fn abort(&self) {
        self.shared.config.abort.cancel();
        self.shutdown().await;
    }

    /// Ends the server in order: it accepts and dials no more, what has been sent is written for a second at most,
    /// every peer is told [`ClientQuitting`](crate::DisconnectReason::ClientQuitting), and all tasks are joined. It
    /// takes three seconds at most, after which what is left is aborted.
    ///
    /// # Cancel safety
    /// When the future is dropped, the shutdown goes on. Further calls wait for the same end.
    pub async fn shutdown(&self) {
        self.shared.config.shutdown.cancel();
        self.forget_waiting();
        // The switch holds the receiver until everything has ended.
        self.commands.closed().await;
        self.forget_waiting();
    }

    /// What waits for peers that are not connected fails.
    fn forget_waiting(&self) {
        self.shared.config.protocols.iter().for_each(|protocol| protocol.registry().forget_all());
    }
}

/// What to dial on this machine for an address that is listened on.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

impl Drop for Server {
    fn drop(&mut self) {
        self.switch.abort();
        self.forget_waiting();
    }
}
