//! Protocols: what a user registers to be run with every peer that shares them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::p2p::{Capability, InvalidCapability, MAX_MESSAGE_SIZE, Registered};
use crate::peer::{Channel, Peer};

/// An error of any kind, where user code meets ours.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a protocol does with one peer.
///
/// # How a peer ends
/// A handler that returns ends its peer: after `Ok` the other end is told [`ClientQuitting`], after an error
/// [`SubprotocolError`], unless the error is, or was caused by, a [`DisconnectReason`], which is then told itself. What
/// the handler had sent is written first, for a second at most. A panic is an error that ends this peer alone.
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
    queue_messages: usize,
    handler: Arc<dyn ErasedHandler>,
}

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
            inbox_messages: 64,
            queue_messages: 64,
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
    /// A peer that sends a larger one is disconnected before memory is taken for it. A peer can make this end hold as
    /// much as the inbox has places for.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// How many messages from one peer wait for its handler before reading from that peer pauses. Default 64, at least 1.
    pub fn inbox_messages(mut self, messages: usize) -> Self {
        self.inbox_messages = messages;
        self
    }

    /// How many messages to one peer wait to be written before [`Channel::send`](crate::Channel::send) waits.
    /// Default 64, at least 1.
    pub fn queue_messages(mut self, messages: usize) -> Self {
        self.queue_messages = messages;
        self
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
        ] {
            if value == 0 {
                return Err(ProtocolError::Zero { capability, setting });
            }
        }
        Ok(Registered { capability, length: self.length, max_message_size: self.max_message_size, rate: None })
    }

    pub(crate) fn inbox_limit(&self) -> usize {
        self.inbox_messages
    }

    pub(crate) fn queue_limit(&self) -> usize {
        self.queue_messages
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
            .field("inbox_messages", &self.inbox_messages)
            .field("queue_messages", &self.queue_messages)
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
