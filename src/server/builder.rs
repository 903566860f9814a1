//! The settings of a server, checked when it is started.

mod nodes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Server;
use super::events::{Hub, MAX_EVENT_CAPACITY};
use super::start_error::StartError;
use crate::metrics::{Meters, ProtocolMeter};
use crate::node::{Address, NodeKey};
use crate::p2p::{
    Chunking, ClientId, LivenessSettings, MAX_BASE_MESSAGE_SIZE, MAX_TIMEOUT, Registered, SessionSettings,
};
use crate::peer::ByteRates;
use crate::peer::budget::Budget;
use crate::peer::rates::MessageRates;
use crate::peer::setup::{Config, Timeouts};
use crate::peer::shaper::Shapers;
use crate::protocol::Protocol;
use crate::transport::{BoxedListener, BoxedTransport, Tcp, Transport};
pub(super) use nodes::{Limits, Nodes};

/// The sizes that pieces of messages can have.
const CHUNK_SIZES: std::ops::RangeInclusive<usize> = 1024..=Chunking::MAX_PIECE;

/// Settings of a [`Server`], from [`Server::builder`].
#[derive(Debug)]
pub struct ServerBuilder {
    key: NodeKey,
    client_id: ClientId,
    listen: Option<Address>,
    /// TCP when there is none.
    pub(super) transports: Vec<BoxedTransport>,
    protocols: Vec<Protocol>,
    pub(super) limits: Limits,
    pub(super) nodes: Nodes,
    timeouts: Timeouts,
    liveness: LivenessSettings,
    event_capacity: usize,
    chunk_size: Option<usize>,
    rates: ByteRates,
    peer_rates: ByteRates,
    receive_budget: usize,
}

impl ServerBuilder {
    pub(super) fn new(key: NodeKey) -> Self {
        Self {
            key,
            client_id: concat!("capmux/", env!("CARGO_PKG_VERSION")).into(),
            listen: None,
            transports: Vec::new(),
            protocols: Vec::new(),
            limits: Limits::default(),
            nodes: Nodes::default(),
            timeouts: Timeouts::default(),
            liveness: LivenessSettings::default(),
            event_capacity: 1024,
            chunk_size: None,
            rates: ByteRates::default(),
            peer_rates: ByteRates::default(),
            receive_budget: 256 * 1024 * 1024,
        }
    }

    /// Listens on this IP address and port; port 0 lets the operating system choose. Without it the server only dials.
    pub fn listen(self, address: SocketAddr) -> Self {
        self.listen_on(address)
    }

    /// Listens on an address of any kind, with the first [transport](Self::transport) that is for such addresses.
    pub fn listen_on(mut self, address: impl Into<Address>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// Uses this transport. The first call replaces the default, which is [`Tcp`]; each further one adds a transport.
    ///
    /// An address is dialled with the first transport that is for addresses of its kind. The others that are for it are
    /// fallbacks, tried in their order once that has failed at all addresses of the node.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transports.push(BoxedTransport::new(transport));
        self
    }

    /// What this node calls itself in its Hello. Default `capmux/` and the version of this crate.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into().into();
        self
    }

    /// Runs this protocol with every peer that shares it. A peer that shares none is disconnected.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocols.push(protocol);
        self
    }

    /// How long resolving names and making a connection may take, at all addresses of a node together. Default 15 s.
    pub fn dial_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.dial = timeout;
        self
    }

    /// How long the encryption handshake may take, from the first byte to the last. Default 5 s.
    pub fn encryption_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.encryption = timeout;
        self
    }

    /// How long the exchange of Hellos may take, from the first byte to the last. Default 5 s.
    pub fn hello_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.hello = timeout;
        self
    }

    /// How long the other end may take no byte of what is written before the peer is dropped. Default 20 s.
    pub fn write_stall_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.write_stall = timeout;
        self
    }

    /// How long a handler may take no message while its inbox is full before its peer is dropped. Default 20 s.
    pub fn inbox_stall_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.inbox_stall = timeout;
        self
    }

    /// When a silent peer is pinged, and when it is given up. Default 15 s, 20 s for the Pong, and 60 s in all.
    pub fn liveness(mut self, settings: LivenessSettings) -> Self {
        self.liveness = settings;
        self
    }

    /// How many events a subscriber may be behind before it loses the oldest, unless it says otherwise
    /// ([`EventFilter::capacity`](crate::EventFilter::capacity)). Default 1024, at most 2^20. Memory is taken for those
    /// alone that wait.
    pub fn event_capacity(mut self, events: usize) -> Self {
        self.event_capacity = events;
        self
    }

    /// Cuts messages above this size, in bytes, into pieces of it, so that a large message does not hold up the other
    /// protocols. Off by default; from 1 KiB to 64 KiB less 32 bytes. It takes effect with peers that have it, too:
    /// both ends offer the capability `chunk/1`, and other clients never see a piece.
    pub fn chunk_size(mut self, bytes: usize) -> Self {
        self.chunk_size = Some(bytes);
        self
    }

    /// The byte rates of all peers together; see [`Server::set_byte_rates`]. Unlimited by default.
    pub fn byte_rates(mut self, rates: ByteRates) -> Self {
        self.rates = rates;
        self
    }

    /// The byte rates of each peer, until [`Peer::set_byte_rates`](crate::Peer::set_byte_rates). Unlimited by default.
    pub fn peer_byte_rates(mut self, rates: ByteRates) -> Self {
        self.peer_rates = rates;
        self
    }

    /// How many bytes of messages from all peers together may wait for their handlers. Default 256 MiB; at least the
    /// largest `max_message_size`.
    ///
    /// Messages in chunks that are not whole yet count, too. Each peer may have 64 KiB in any case. Above that, reading
    /// from a peer pauses while the budget is used up, and goes on in the order in which peers came to wait. While
    /// peers wait, one whose handlers take nothing of what they hold for the
    /// [`inbox_stall_timeout`](Self::inbox_stall_timeout) is ended.
    pub fn receive_budget(mut self, bytes: usize) -> Self {
        self.receive_budget = bytes;
        self
    }

    /// Checks the settings, begins to listen and starts the server on the current tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn start(mut self) -> Result<Server, StartError> {
        if self.transports.is_empty() {
            self = self.transport(Tcp);
        }
        let listener = match &self.listen {
            Some(address) => {
                self.config(port(address))?;
                Some(listen(&self.transports, address).await?)
            }
            None => None,
        };
        let config = self.config(listener.as_ref().map_or(0, |listener| port(&listener.local_address())))?;
        if config.protocols.is_empty() {
            tracing::warn!("no protocol is registered: every peer will be disconnected as useless");
        }
        Server::spawn(self, Arc::new(config), listener)
    }

    /// Checks the settings and makes of them what all connections share.
    pub(crate) fn config(&self, listen_port: u16) -> Result<Config, StartError> {
        self.check()?;
        let registered = self.protocols.iter().map(Protocol::registered).collect::<Result<Vec<_>, _>>()?;
        let session = SessionSettings::default().liveness(self.liveness).chunking(self.chunk_size.is_some());
        session.check_protocols(&registered)?;
        let meter = |registered: &Registered| ProtocolMeter::new(registered.capability.clone(), registered.length);
        let meters = Arc::new(Meters { protocols: registered.iter().map(meter).collect(), ..Meters::default() });
        let config = Config {
            public_key: self.key.public_key(),
            key: self.key.clone(),
            client_id: self.client_id.clone(),
            listen_port: AtomicU16::new(listen_port),
            protocols: self.protocols.clone(),
            rates: Arc::new(MessageRates::new(&registered)),
            registered,
            timeouts: self.timeouts,
            session,
            chunk_size: self.chunk_size,
            shapers: Shapers::new(self.rates),
            peer_rates: self.peer_rates,
            budget: Budget::new(self.receive_budget),
            events: Hub::new(self.event_capacity, meters.clone()),
            meters,
            shutdown: CancellationToken::new(),
            abort: CancellationToken::new(),
        };
        match config.hello().encode().len() {
            size if size > MAX_BASE_MESSAGE_SIZE => Err(StartError::HelloTooLarge { size }),
            _ => Ok(config),
        }
    }

    fn check(&self) -> Result<(), StartError> {
        self.liveness.check()?;
        let Limits { mut accept, dials, .. } = self.limits;
        if self.listen.is_none() {
            accept.max_pending = 1;
        }
        let counts = [("max_dials", dials, usize::MAX), ("event_capacity", self.event_capacity, MAX_EVENT_CAPACITY)];
        if let Some(largest) = self.protocols.iter().map(Protocol::largest).max()
            && self.receive_budget < largest
        {
            return Err(StartError::ReceiveBudget { budget: self.receive_budget, max_message_size: largest });
        }
        if self.chunk_size.is_some_and(|size| !CHUNK_SIZES.contains(&size)) {
            return Err(StartError::OutOfRange { setting: "chunk_size" });
        }
        if let Some((setting, ..)) = counts.into_iter().find(|(_, count, most)| *count == 0 || count > most) {
            return Err(StartError::OutOfRange { setting });
        }
        if let Some(setting) =
            self.limits.of_peers().out_of_range().or(accept.out_of_range()).or(self.nodes.out_of_range())
        {
            return Err(StartError::OutOfRange { setting });
        }
        let Timeouts { dial, encryption, hello, write_stall, inbox_stall } = self.timeouts;
        let times = [
            ("dial_timeout", dial),
            ("encryption_timeout", encryption),
            ("hello_timeout", hello),
            ("write_stall_timeout", write_stall),
            ("inbox_stall_timeout", inbox_stall),
        ];
        match times.into_iter().find(|(_, time)| time.is_zero() || *time > MAX_TIMEOUT) {
            Some((setting, _)) => Err(StartError::OutOfRange { setting }),
            None => Ok(()),
        }
    }
}

pub(super) async fn listen(transports: &[BoxedTransport], address: &Address) -> Result<BoxedListener, StartError> {
    let transport = transports.iter().find(|transport| transport.can_dial(address));
    let transport = transport.ok_or_else(|| StartError::NoTransport { address: address.clone() })?;
    transport.listen(address).await.map_err(|source| StartError::Listen { address: address.clone(), source })
}

/// What the Hello tells.
pub(super) fn port(address: &Address) -> u16 {
    match address {
        Address::Ip(address) => address.port(),
        Address::Domain(_, port) => *port,
        Address::Other(..) => 0,
    }
}
