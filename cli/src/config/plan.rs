//! What a configuration comes to: the node that is to be started.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use capmux::book::{AddressBook, SharedBook};
use capmux::p2p::LivenessSettings;
use capmux::{
    AcceptLimits, BackoffError, ByteRates, Enode, ExponentialBackoff, FibonacciBackoff, NodeId, NodeKey, PeerLimits,
    Protocol, RateLimit, Server, ServerBuilder, StartError, Trust,
};
use capmux_pex::{Pex, PexSettings};
use clap::ValueEnum;

/// A node as the configuration wants it.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) persistent: Vec<Enode>,
    pub(crate) private: Vec<Enode>,
    pub(crate) bootnodes: Vec<Enode>,
    pub(crate) trusted: Vec<Enode>,
    /// Which nodes alone may be peers; all where there is no list.
    pub(crate) allow_only: Option<Vec<NodeId>>,
    pub(crate) rates: ByteRates,
    pub(crate) peer_rates: ByteRates,
    pub(crate) liveness: LivenessSettings,
    pub(crate) backoff: BackoffPlan,
    pub(crate) book_capacity: usize,
    pub(crate) save_interval: Duration,
    pub(crate) has_pex: bool,
    pub(crate) pex: PexSettings,
    pub(crate) protocols: Vec<ProtocolPlan>,
    steps: Vec<Step<ServerBuilder>>,
}

type Step<T> = Box<dyn Fn(T) -> T + Send + Sync>;

impl Plan {
    /// Does this to the server that is to be started. What is done later wins.
    pub(crate) fn server(&mut self, step: impl Fn(ServerBuilder) -> ServerBuilder + Send + Sync + 'static) {
        self.steps.push(Box::new(step));
    }

    /// Runs a protocol with its own settings, unless it is there already.
    pub(crate) fn protocol(&mut self, name: ProtocolName) {
        if self.protocols.iter().all(|protocol| protocol.name != name) {
            self.protocols.push(ProtocolPlan { name, ..ProtocolPlan::default() });
        }
    }

    /// The server that is planned, with everything but where it listens, and the nodes that it dials by itself.
    pub(crate) fn builder(&self, key: NodeKey) -> ServerBuilder {
        let builder =
            Server::builder(key).byte_rates(self.rates).peer_byte_rates(self.peer_rates).liveness(self.liveness);
        let builder = self.trusted.iter().fold(builder.trust(self.trust()), ServerBuilder::trusted);
        let builder = self.steps.iter().fold(self.backoff.apply(builder), |builder, step| step(builder));
        self.protocols.iter().fold(builder, |builder, protocol| builder.protocol(protocol.protocol()))
    }

    /// Adds the nodes that the server knows from the start.
    pub(crate) fn meet(&self, builder: ServerBuilder) -> ServerBuilder {
        let builder = self.persistent.iter().fold(builder, ServerBuilder::persistent);
        self.private.iter().fold(builder, ServerBuilder::private).bootnodes(&self.bootnodes)
    }

    /// Whether the server has use for an address book.
    pub(crate) fn wants_book(&self) -> bool {
        self.data_dir.is_some() || self.has_pex || !self.bootnodes.is_empty()
    }

    /// The peer exchange, if it is wanted.
    pub(crate) fn exchange(&self, book: &SharedBook) -> Option<(Protocol, Pex)> {
        self.has_pex.then(|| Pex::new(book.clone(), self.pex))
    }

    /// Which nodes may be peers.
    pub(crate) fn trust(&self) -> Trust {
        self.allow_only.as_ref().map_or(Trust::Open, |ids| ids.iter().copied().collect())
    }

    /// Whether a server could be started: whether the settings hold together. Returns the limits that it would have.
    pub(crate) async fn check(&self) -> Result<Limits, PlanError> {
        let mut builder = self.builder(NodeKey::random());
        if let Some((protocol, _)) = self.exchange(&SharedBook::new(AddressBook::new(1, [0; 16]))) {
            builder = builder.protocol(protocol);
        } else if self.protocols.is_empty() {
            // Without any the library would warn.
            let none = Protocol::from_fn("none", 1, 1, |_, _| async { Ok(()) });
            builder = builder.protocol(none.max_message_size(1));
        }
        let server = self.start(builder).await?;
        let limits = Limits { peers: server.limits(), accept: server.accept_limits() };
        server.abort().await;
        Ok(limits)
    }

    /// Starts what was made with [`builder`](Self::builder).
    pub(crate) async fn start(&self, builder: ServerBuilder) -> Result<Server, PlanError> {
        self.backoff.check()?;
        Ok(builder.start().await?)
    }
}

/// Why a plan cannot be carried out.
#[derive(Debug)]
pub(crate) enum PlanError {
    Start(StartError),
    Backoff(BackoffError),
}

impl From<StartError> for PlanError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl From<BackoffError> for PlanError {
    fn from(error: BackoffError) -> Self {
        Self::Backoff(error)
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::Backoff(error) => error.fmt(f),
        }
    }
}

/// When a node is dialled again; what is not given is as the library has it for the kind.
#[derive(Debug, Default)]
pub(crate) struct BackoffPlan {
    pub(super) is_fibonacci: bool,
    pub(super) first: Option<Duration>,
    pub(super) max: Option<Duration>,
    pub(super) jitter: f64,
    pub(super) give_up: Option<Duration>,
}

impl BackoffPlan {
    fn exponential(&self) -> ExponentialBackoff {
        let backoff = ExponentialBackoff::default().jitter(self.jitter).give_up(self.give_up);
        let backoff = self.first.into_iter().fold(backoff, ExponentialBackoff::first);
        self.max.into_iter().fold(backoff, ExponentialBackoff::max)
    }

    fn fibonacci(&self) -> FibonacciBackoff {
        let backoff = FibonacciBackoff::default().jitter(self.jitter).give_up(self.give_up);
        let backoff = self.first.into_iter().fold(backoff, FibonacciBackoff::first);
        self.max.into_iter().fold(backoff, FibonacciBackoff::max)
    }

    fn apply(&self, builder: ServerBuilder) -> ServerBuilder {
        if self.is_fibonacci { builder.backoff(self.fibonacci()) } else { builder.backoff(self.exponential()) }
    }

    fn check(&self) -> Result<(), BackoffError> {
        if self.is_fibonacci { self.fibonacci().check() } else { self.exponential().check() }
    }
}

/// How many connections a plan comes to, with the defaults that depend on other settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) peers: PeerLimits,
    pub(crate) accept: AcceptLimits,
}

/// A protocol as the configuration wants it.
#[derive(Default)]
pub(crate) struct ProtocolPlan {
    pub(crate) name: ProtocolName,
    pub(crate) rate_limit: Option<RateLimit>,
    steps: Vec<Step<Protocol>>,
}

impl ProtocolPlan {
    pub(super) fn set(&mut self, step: impl Fn(Protocol) -> Protocol + Send + Sync + 'static) {
        self.steps.push(Box::new(step));
    }

    pub(super) fn protocol(&self) -> Protocol {
        let protocol = self.rate_limit.into_iter().fold(self.name.protocol(), Protocol::rate_limit);
        self.steps.iter().fold(protocol, |protocol, step| step(protocol))
    }
}

/// The protocols that a node can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ProtocolName {
    /// Sends every message back
    #[default]
    Echo,
    /// Passes the messages of its peers on to all others
    Gossip,
    /// Keeps entries in memory that peers write and read
    Kv,
}

impl ProtocolName {
    /// The version of all of them.
    pub(crate) const VERSION: u64 = 1;

    fn protocol(self) -> Protocol {
        match self {
            Self::Echo => capmux_echo::protocol(),
            Self::Gossip => capmux_gossip::Gossip::new(capmux_gossip::Settings::default()).0,
            Self::Kv => capmux_kv::Kv::new(capmux_kv::Settings::default()).0,
        }
    }
}

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Echo => "echo",
            Self::Gossip => "gossip",
            Self::Kv => "kv",
        })
    }
}
