//! What a configuration comes to: the node that is to be started.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use capmux::p2p::LivenessSettings;
use capmux::{ByteRates, Enode, NodeKey, Protocol, Server, ServerBuilder, StartError};
use clap::ValueEnum;

/// A node as the configuration wants it.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) dial: Vec<Enode>,
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
        let builder = self.steps.iter().fold(builder, |builder, step| step(builder));
        self.protocols.iter().fold(builder, |builder, protocol| builder.protocol(protocol.protocol()))
    }

    /// Whether a server could be started: whether the settings hold together.
    pub(crate) async fn check(&self) -> Result<(), StartError> {
        if self.protocols.is_empty() {
            return Ok(self.liveness.check()?);
        }
        self.builder(NodeKey::random()).start().await?.abort().await;
        Ok(())
    }
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
