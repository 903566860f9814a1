//! Why a connection ended: at which stage, by whom, and the error with its causes.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::node::Address;
use crate::p2p::{Capability, DisconnectReason, SessionError};
use crate::protocol::BoxError;
use crate::rlpx::{FrameError, HandshakeError};
use crate::text::escaped;

/// How far a connection had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Names are resolved and the connection of the transport is made.
    Dial,
    /// `auth` and `ack` are exchanged.
    Encryption,
    /// The Hellos are exchanged.
    Hello,
    /// The protocols run.
    Session,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dial => "dial",
            Self::Encryption => "encryption handshake",
            Self::Hello => "Hello exchange",
            Self::Session => "session",
        })
    }
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Party {
    /// This end: the application, a handler, or a limit.
    Local,
    /// The other end, which said Disconnect or closed the connection.
    Remote,
    /// Neither: the network failed or a deadline passed.
    Network,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Network => "network",
        })
    }
}

/// What ends a connection, one variant for each cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The host's name cannot be resolved.
    #[error("cannot resolve {host}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// No connection can be made.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address, or the last of several.
        address: Address,
        /// What the operating system says.
        source: io::Error,
    },
    /// No transport of this server is for such an address.
    #[error("no transport is configured for {address}")]
    NoTransport {
        /// The address.
        address: Address,
    },
    /// The node is known by its key alone.
    #[error("the node has no address")]
    NoAddress,
    /// The node was tried at several addresses, or over several transports, and none led to it.
    #[error("none of {} ways leads to the node: {}", attempts.len(), each(attempts))]
    Unreachable {
        /// What came of each attempt, in their order.
        attempts: Vec<FailedAttempt>,
    },
    /// The connection failed while it was used.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The other end closed the connection without a Disconnect.
    #[error("the other end closed the connection{}", if *.inside_message { " in the middle of a message" } else { "" })]
    Closed {
        /// Whether a message had begun.
        inside_message: bool,
    },
    /// A stage took longer than its limit.
    #[error("the {stage} was not complete within {limit:?}")]
    Timeout {
        /// The stage.
        stage: Stage,
        /// Its limit.
        limit: Duration,
    },
    /// The encryption handshake failed.
    #[error("the encryption handshake failed")]
    Handshake(#[from] HandshakeError),
    /// A frame is not acceptable.
    #[error("a frame was refused")]
    Frame(#[from] FrameError),
    /// The base protocol ended the session: a breach of it, no sign of life, or the other end's Disconnect.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// There is no place for another peer.
    #[error("there is no place for another peer (the limit is {limit})")]
    TooManyPeers {
        /// The limit in force.
        limit: usize,
    },
    /// The node is not on the list of those that may be peers.
    #[error("the node is not allowed to be a peer")]
    NotAllowed,
    /// The node is banned.
    #[error("the node is banned")]
    Banned,
    /// There is a connection with that node already, or one is being made.
    #[error("there is a connection with this node already")]
    AlreadyConnected,
    /// As many nodes wait to be dialled as may.
    #[error("too many nodes wait to be dialled")]
    TooManyDials,
    /// The application asked for it.
    #[error("the application disconnected: {0}")]
    Requested(DisconnectReason),
    /// The server shuts down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The server was aborted.
    #[error("the server was aborted")]
    Aborted,
    /// The memory for what all peers have sent is used up, and this peer's handlers have taken nothing of what they
    /// hold of it for too long.
    #[error("the handlers of the peer hold memory that others wait for, and take nothing of it")]
    MemoryExhausted,
    /// A protocol's handler returned without an error.
    #[error("the handler of {capability} finished")]
    HandlerFinished {
        /// The protocol.
        capability: Capability,
    },
    /// A protocol's handler returned an error.
    #[error("the handler of {capability} failed")]
    HandlerFailed {
        /// The protocol.
        capability: Capability,
        /// Its error.
        source: BoxError,
    },
    /// A protocol's handler panicked.
    #[error("the handler of {capability} panicked: {message}")]
    HandlerPanicked {
        /// The protocol.
        capability: Capability,
        /// What it said.
        message: String,
    },
    /// A protocol's handler took no message for too long while its inbox was full.
    #[error("the handler of {capability} took no message for {limit:?} while its inbox was full")]
    HandlerStalled {
        /// The protocol.
        capability: Capability,
        /// The limit in force.
        limit: Duration,
    },
    /// The other end took no byte for too long.
    #[error("the other end took no byte for {limit:?}")]
    WriteStalled {
        /// The limit in force.
        limit: Duration,
    },
    /// A task of the library panicked: a defect of capmux.
    #[error("a task of the library panicked")]
    Internal,
}

/// One of several attempts to reach a node.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The name of the transport.
    pub transport: &'static str,
    /// Where it was tried.
    pub address: Address,
    /// What came of it, and at which stage.
    pub ending: Ending,
}

impl FailedAttempt {
    pub(crate) fn new(transport: &'static str, address: &Address, ending: Ending) -> Self {
        Self { transport, address: address.clone(), ending }
    }
}

impl fmt::Display for FailedAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.address, self.transport, self.ending)
    }
}

fn each(attempts: &[FailedAttempt]) -> String {
    attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl PeerError {
    /// What the other end is told, where it can still be told: the one place where errors become reasons. `None` is a
    /// silent close.
    pub fn disconnect_reason(&self) -> Option<DisconnectReason> {
        use DisconnectReason as Reason;
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Io(_) | Self::Closed { .. } => None,
            Self::NoTransport { .. } | Self::NoAddress | Self::Unreachable { .. } => None,
            Self::Timeout { .. } | Self::Handshake(_) | Self::Internal | Self::Aborted => None,
            // After a wrong MAC nobody knows who is at the other end.
            Self::Frame(FrameError::Empty | FrameError::TooLarge { .. }) => Some(Reason::ProtocolError),
            Self::Frame(_) => None,
            Self::Session(error) => error.disconnect_reason(),
            Self::TooManyPeers { .. } => Some(Reason::TooManyPeers),
            // Not for now, but for long: and it is nobody's business which of the two.
            Self::NotAllowed | Self::Banned => Some(Reason::UselessPeer),
            Self::AlreadyConnected => Some(Reason::AlreadyConnected),
            Self::TooManyDials => None,
            Self::Requested(reason) => Some(*reason),
            Self::ShuttingDown | Self::HandlerFinished { .. } => Some(Reason::ClientQuitting),
            Self::HandlerFailed { source, .. } => Some(reason_within(&**source).unwrap_or(Reason::SubprotocolError)),
            Self::HandlerPanicked { .. } => Some(Reason::SubprotocolError),
            Self::HandlerStalled { .. } | Self::WriteStalled { .. } | Self::MemoryExhausted => {
                Some(Reason::NetworkError)
            }
        }
    }

    fn by(&self) -> Party {
        match self {
            Self::Session(SessionError::Disconnected(_)) | Self::Closed { .. } => Party::Remote,
            Self::Resolve { .. } | Self::Connect { .. } | Self::Io(_) | Self::Timeout { .. } => Party::Network,
            Self::Session(
                SessionError::PingTimeout { .. } | SessionError::IdleTimeout { .. } | SessionError::FrameTimeout { .. },
            ) => Party::Network,
            Self::WriteStalled { .. } => Party::Network,
            Self::Unreachable { attempts } => attempts.last().map_or(Party::Network, |attempt| attempt.ending.by()),
            _ => Party::Local,
        }
    }

    /// Whether what handlers have sent is still worth writing.
    pub(crate) fn drains(&self) -> bool {
        matches!(self, Self::ShuttingDown | Self::HandlerFinished { .. } | Self::HandlerFailed { .. })
    }
}

/// The reason that an error is, or was caused by.
fn reason_within(error: &(dyn std::error::Error + 'static)) -> Option<DisconnectReason> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<DisconnectReason>().copied())
}

/// How much of the chain of causes is shown, in characters.
const SHOWN: usize = 512;

/// How a connection ended, or why it never came to be.
///
/// `Display` is one line with the whole chain of causes, escaped and cut at 512 characters, since handlers may have put
/// into their errors what peers sent; [`std::error::Error::source`] leads to the [`PeerError`].
#[derive(Debug, Clone)]
pub struct Ending {
    stage: Stage,
    error: Arc<PeerError>,
    unsent: u64,
}

impl Ending {
    pub(crate) fn new(stage: Stage, error: impl Into<PeerError>) -> Self {
        Self { stage, error: Arc::new(error.into()), unsent: 0 }
    }

    pub(crate) fn with_unsent(self, unsent: u64) -> Self {
        Self { unsent, ..self }
    }

    /// Of a session whose task is being dropped before it could tell.
    pub(crate) fn abandoned() -> Self {
        let panicked = std::thread::panicking();
        Self::new(Stage::Session, if panicked { PeerError::Internal } else { PeerError::ShuttingDown })
    }

    /// How far the connection had come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Who ended it.
    pub fn by(&self) -> Party {
        self.error.by()
    }

    /// The reason of the Disconnect: the one that came, or the one that this end sent, if the network still let it.
    /// `None` when there was none, as when the network failed.
    pub fn reason(&self) -> Option<DisconnectReason> {
        match &*self.error {
            PeerError::Session(SessionError::Disconnected(reason)) => *reason,
            // Before there are keys nothing can be said.
            _ if self.stage < Stage::Hello => None,
            error => error.disconnect_reason(),
        }
    }

    /// How many messages were accepted for sending and did not, or not wholly, get into the socket.
    pub fn unsent(&self) -> u64 {
        self.unsent
    }

    /// What happened.
    pub fn error(&self) -> &PeerError {
        &self.error
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error: &(dyn std::error::Error + 'static) = &*self.error;
        let chain = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
        f.write_str(&escaped(&chain.collect::<Vec<_>>().join(": "), SHOWN))
    }
}

impl std::error::Error for Ending {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.error)
    }
}
