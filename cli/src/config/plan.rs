//! What a configuration comes to: the node that is to be started.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use capmux::p2p::LivenessSettings;
use capmux::{
    AcceptLimits, ByteRates, Enode, NodeId, NodeKey, PeerLimits, Protocol, Server, ServerBuilder, StartError, Trust,
};
use clap::ValueEnum;

/// A node as the configuration wants it.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) dial: Vec<Enode>,
    pub(crate) trusted: Vec<Enode>,
    /// Which nodes alone may be peers; all where there is no list.
    pub(crate) allow_only: Option<Vec<NodeId>>,
    pub(crate) rates: ByteRates,
    pub(crate) peer_rates: ByteRates,
    pub(crate) liveness: LivenessSettings,
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

    /// The server that is planned, with everything but where it listens.
    pub(crate) fn builder(&self, key: NodeKey) -> ServerBuilder {
        let builder =
            Server::builder(key).byte_rates(self.rates).peer_byte_rates(self.peer_rates).liveness(self.liveness);
        let builder = self.trusted.iter().fold(builder.trust(self.trust()), ServerBuilder::trusted);
        let builder = self.steps.iter().fold(builder, |builder, step| step(builder));
        self.protocols.iter().fold(builder, |builder, protocol| builder.protocol(protocol.protocol()))
    }

    /// Which nodes may be peers.
    pub(crate) fn trust(&self) -> Trust {
        self.allow_only.as_ref().map_or(Trust::Open, |ids| ids.iter().copied().collect())
    }

    /// Whether a server could be started: whether the settings hold together. Returns the limits that it would have.
    pub(crate) async fn check(&self) -> Result<Limits, StartError> {
        let builder = self.builder(NodeKey::random());
        // Without any the library would warn.
        let builder = match self.protocols.is_empty() {
            true => builder.protocol(Protocol::from_fn("none", 1, 1, |_, _| async { Ok(()) }).max_message_size(1)),
            false => builder,
        };
        let server = builder.start().await?;
        let limits = Limits { peers: server.limits(), accept: server.accept_limits() };
        server.abort().await;
        Ok(limits)
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
    steps: Vec<Step<Protocol>>,
}

impl ProtocolPlan {
    pub(super) fn set(&mut self, step: impl Fn(Protocol) -> Protocol + Send + Sync + 'static) {
        self.steps.push(Box::new(step));
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.steps.iter().fold(self.name.protocol(), |protocol, step| step(protocol))
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
