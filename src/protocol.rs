//! Protocols: what a user registers to be run with every peer that shares them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::p2p::{Capability, InvalidCapability, MAX_MESSAGE_SIZE, MAX_TIMEOUT, RateLimit, Registered};
use crate::peer::inbox::InboxLimits;
use crate::peer::outbox::QueueLimits;
use crate::peer::{Channel, Peer, ProtocolState};
use crate::peers::{ProtocolPeers, Registry};

/// An error of any kind, where user code meets ours.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a protocol does with one peer.
///
/// # How a peer ends
/// A handler that returns ends its peer: after `Ok` the other end is told [`ClientQuitting`], after an error
/// [`SubprotocolError`], unless the error is, or was caused by, a [`DisconnectReason`], which is then told itself. What
/// the handler had sent is written first, for a second at most. A panic is an error, too, that ends this peer alone;
/// what was sent before it and is not written is dropped. With [`ExitPolicy::Detach`] the peer's other protocols go on
/// instead.
///
/// When the peer ends for another reason, [`Channel::recv`] returns `None` and sends fail. A handler that has not
/// returned two seconds later is cancelled at its next `await`.
///
/// [`ClientQuitting`]: crate::DisconnectReason::ClientQuitting
/// [`SubprotocolError`]: crate::DisconnectReason::SubprotocolError
/// [`DisconnectReason`]: crate::DisconnectReason
pub trait ProtocolHandler: Send + Sync + 'static {
    /// Runs the protocol with one peer, in a task of its own, until the protocol or the peer ends.
    ///
    /// State that belongs to one peer is a local variable of this function; what is shared between peers is in `self`.
    fn run(&self, peer: Peer, channel: Channel) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// A subprotocol to be registered: its name, version and number of message codes, the handler, and its limits.
///
/// ```
/// use capmux::Protocol;
///
/// let echo = Protocol::from_fn("echo", 1, 2, |_peer, mut channel| async move {
///     while let Some(message) = channel.recv().await {
///         channel.send(1, message.payload).await?;
///     }
///     Ok(())
/// })
/// .max_message_size(64 * 1024);
/// ```
#[derive(Clone)]
pub struct Protocol {
    name: String,
    version: u64,
    length: u64,
    max_message_size: usize,
    inbox_messages: usize,
    inbox_bytes: Option<usize>,
    queue_messages: usize,
    queue_bytes: Option<usize>,
    send_timeout: Duration,
    weight: u16,
    rate: Option<RateLimit>,
    exit: ExitPolicy,
    peer_info: Option<PeerInfo>,
    node_info: Option<NodeInfo>,
    peers: ProtocolPeers,
    handler: Arc<dyn ErasedHandler>,
}

type PeerInfo = Arc<dyn Fn(&Peer) -> Option<String> + Send + Sync>;
type NodeInfo = Arc<dyn Fn() -> String + Send + Sync>;

/// What the end of a handler means for its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ExitPolicy {
    /// The peer ends.
    #[default]
    EndPeer,
    /// The other protocols of the peer go on, and [`Event::HandlerEnded`](crate::Event::HandlerEnded) tells. What comes
    /// for this one is dropped. The peer ends with its last handler.
    Detach,
}

/// The bytes that an inbox and a queue hold by default, if the largest message is not larger.
const DEFAULT_BYTES: usize = 1024 * 1024;

impl Protocol {
    /// A protocol called `name` (1 to 8 printable ASCII characters) in this version, with the message codes from 0 to
    /// `length - 1`. What is wrong with them is told when the server is started.
    ///
    /// To speak several versions, register one protocol for each; the handler learns from
    /// [`Channel::capability`](crate::Channel::capability) which was agreed on.
    pub fn new(name: impl Into<String>, version: u64, length: u64, handler: impl ProtocolHandler) -> Self {
        Self {
            name: name.into(),
            version,
            length,
            max_message_size: 1024 * 1024,
            inbox_messages: 256,
            inbox_bytes: None,
            queue_messages: 256,
            queue_bytes: None,
            send_timeout: Duration::from_secs(10),
            weight: 1,
            rate: None,
            exit: ExitPolicy::EndPeer,
            peer_info: None,
            node_info: None,
            peers: ProtocolPeers::default(),
            handler: Arc::new(handler),
        }
    }

    /// [`Protocol::new`] with a function as the handler. It is called once for each peer.
    ///
    /// What it returns ends the peer: [`ProtocolHandler`] says how, and how to choose the reason that the peer is told.
    pub fn from_fn<F, Fut>(name: impl Into<String>, version: u64, length: u64, function: F) -> Self
    where
        F: Fn(Peer, Channel) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Self::new(name, version, length, FromFn(function))
    }

    /// The largest message that is received or sent, in bytes before compression. Default 1 MiB, at most 16 MiB - 1.
    ///
    /// A peer that sends a larger one is disconnected before memory is taken for it.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// How many messages from one peer wait for its handler before reading from that peer pauses. Default 256, and 1 at
    /// least. Reading goes on when half of the inbox is free.
    pub fn inbox_messages(mut self, messages: usize) -> Self {
        self.inbox_messages = messages;
        self
    }

    /// How many bytes from one peer wait for its handler before reading from that peer pauses. Default 1 MiB or
    /// [`Protocol::max_message_size`], whichever is more; at least the latter.
    pub fn inbox_bytes(mut self, bytes: usize) -> Self {
        self.inbox_bytes = Some(bytes);
        self
    }

    /// How many messages to one peer wait to be written before [`Channel::send`](crate::Channel::send) waits.
    /// Default 256, at least 1.
    pub fn queue_messages(mut self, messages: usize) -> Self {
        self.queue_messages = messages;
        self
    }

    /// How many bytes to one peer wait to be written before [`Channel::send`](crate::Channel::send) waits. Default
    /// 1 MiB or [`Protocol::max_message_size`], whichever is more; at least the latter.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = Some(bytes);
        self
    }

    /// How long [`Channel::send`](crate::Channel::send) waits for a place in the queue. Default 10 s, at most a year.
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.send_timeout = timeout;
        self
    }

    /// The protocol's share of the connection while others have something to send, too: bytes are written in proportion
    /// to the weights. Default 1, at least 1.
    ///
    /// A share is had in full by a queue that holds a kilobyte for each unit of its weight.
    pub fn weight(mut self, weight: u16) -> Self {
        self.weight = weight;
        self
    }

    /// How many messages a second a peer may send. No limit by default. Above it reading from that peer is slowed down,
    /// for all its protocols; one that keeps it up for 30 s is disconnected with
    /// [`ProtocolError`](crate::DisconnectReason::ProtocolError).
    pub fn rate_limit(mut self, rate: RateLimit) -> Self {
        self.rate = Some(rate);
        self
    }

    /// What the end of a handler means for its peer. Default [`ExitPolicy::EndPeer`].
    pub fn on_exit(mut self, policy: ExitPolicy) -> Self {
        self.exit = policy;
        self
    }

    /// What the protocol says of a peer, for [`Peer::status`](crate::Peer::status): `None` until its handler has
    /// finished its own handshake. It is called on the asker's task, and must not wait.
    pub fn peer_info(mut self, info: impl Fn(&Peer) -> Option<String> + Send + Sync + 'static) -> Self {
        self.peer_info = Some(Arc::new(info));
        self
    }

    /// What the protocol says of this node, for [`Server::node_info`](crate::Server::node_info). It is called on the
    /// asker's task, and must not wait.
    pub fn node_info(mut self, info: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.node_info = Some(Arc::new(info));
        self
    }

    /// Lists the peers in a handle that exists already: one that the handler holds, or that of another version of the
    /// protocol. The versions of one protocol may share a handle, but no two protocols should. A handle that was had of
    /// the protocol before, also from [`Reactor::peers`](crate::Reactor::peers), lists nobody then.
    pub fn with_peers(mut self, peers: &ProtocolPeers) -> Self {
        self.peers = peers.clone();
        self
    }

    /// The peers that the protocol runs with, at all servers that it is registered at. The handle can be had before the
    /// protocol is registered, and afterwards from [`Server::protocol`](crate::Server::protocol).
    pub fn peers(&self) -> ProtocolPeers {
        self.peers.clone()
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        self.peers.registry()
    }

    /// What the base protocol has to know of it.
    pub(crate) fn registered(&self) -> Result<Registered, ProtocolError> {
        let capability = Capability::new(self.name.as_str(), self.version)?;
        if self.max_message_size > MAX_MESSAGE_SIZE {
            return Err(ProtocolError::MessageSize { capability, size: self.max_message_size });
        }
        for (setting, value) in [
            ("max_message_size", self.max_message_size),
            ("inbox_messages", self.inbox_messages),
            ("queue_messages", self.queue_messages),
            ("weight", self.weight.into()),
        ] {
            if value == 0 {
                return Err(ProtocolError::Zero { capability, setting });
            }
        }
        for (setting, value) in [("inbox_bytes", self.inbox_limits().bytes), ("queue_bytes", self.queue_limits().bytes)]
        {
            if value < self.max_message_size {
                let max_message_size = self.max_message_size;
                return Err(ProtocolError::BelowMessageSize { capability, setting, value, max_message_size });
            }
        }
        if self.send_timeout.is_zero() || self.send_timeout > MAX_TIMEOUT {
            return Err(ProtocolError::SendTimeout { capability });
        }
        let Self { length, max_message_size, rate, .. } = *self;
        Ok(Registered { capability, length, max_message_size, rate })
    }

    pub(crate) fn largest(&self) -> usize {
        self.max_message_size
    }

    pub(crate) fn inbox_limits(&self) -> InboxLimits {
        InboxLimits { messages: self.inbox_messages, bytes: self.bytes(self.inbox_bytes) }
    }

    pub(crate) fn queue_limits(&self) -> QueueLimits {
        QueueLimits { messages: self.queue_messages, bytes: self.bytes(self.queue_bytes), weight: self.weight }
    }

    fn bytes(&self, setting: Option<usize>) -> usize {
        setting.unwrap_or(self.max_message_size.max(DEFAULT_BYTES))
    }

    pub(crate) fn send_limit(&self) -> Duration {
        self.send_timeout
    }

    pub(crate) fn exit(&self) -> ExitPolicy {
        self.exit
    }

    pub(crate) fn state_of(&self, peer: &Peer) -> ProtocolState {
        match &self.peer_info {
            None => ProtocolState::Running,
            Some(info) => info(peer).map_or(ProtocolState::Handshake, ProtocolState::Info),
        }
    }

    pub(crate) fn describe_node(&self) -> Option<String> {
        self.node_info.as_ref().map(|info| info())
    }

    pub(crate) fn handler(&self) -> Arc<dyn ErasedHandler> {
        self.handler.clone()
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protocol")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("length", &self.length)
            .field("max_message_size", &self.max_message_size)
            .field("inbox", &self.inbox_limits())
            .field("queue", &self.queue_limits())
            .field("send_timeout", &self.send_timeout)
            .field("rate", &self.rate)
            .field("exit", &self.exit)
            .finish_non_exhaustive()
    }
}

/// What is wrong with the settings of one protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Its name will not do.
    #[error(transparent)]
    Name(#[from] InvalidCapability),
    /// Its largest message is more than a frame can hold.
    #[error("max_message_size of {capability} is {size}; the wire allows {MAX_MESSAGE_SIZE}")]
    MessageSize {
        /// The protocol.
        capability: Capability,
        /// The setting.
        size: usize,
    },
    /// A limit is 0, which would let nothing through.
    #[error("{setting} of {capability} must be at least 1")]
    Zero {
        /// The protocol.
        capability: Capability,
        /// The name of the setting.
        setting: &'static str,
    },
    /// An inbox or a queue cannot hold the largest message.
    #[error("{setting} of {capability} is {value}, which is less than its max_message_size of {max_message_size}")]
    BelowMessageSize {
        /// The protocol.
        capability: Capability,
        /// The name of the setting.
        setting: &'static str,
        /// The setting, in bytes.
        value: usize,
        /// The largest message, in bytes.
        max_message_size: usize,
    },
    /// The time is 0, or above a year.
    #[error("send_timeout of {capability} must be more than 0 and at most {MAX_TIMEOUT:?}")]
    SendTimeout {
        /// The protocol.
        capability: Capability,
    },
}

pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// [`ProtocolHandler`] without its type.
pub(crate) trait ErasedHandler: Send + Sync {
    fn run(self: Arc<Self>, peer: Peer, channel: Channel) -> HandlerFuture;
}

impl<H: ProtocolHandler> ErasedHandler for H {
    fn run(self: Arc<Self>, peer: Peer, channel: Channel) -> HandlerFuture {
        Box::pin(async move { ProtocolHandler::run(&*self, peer, channel).await })
    }
}

struct FromFn<F>(F);

impl<F, Fut> ProtocolHandler for FromFn<F>
where
    F: Fn(Peer, Channel) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    fn run(&self, peer: Peer, channel: Channel) -> impl Future<Output = Result<(), BoxError>> + Send {
        (self.0)(peer, channel)
    }
}
