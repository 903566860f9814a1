//! What ends a session, and what the other end is told of it.

use std::time::Duration;

use super::capability::Capability;
use super::chunk::ChunkError;
use super::disconnect::DisconnectReason;
use super::hello::{HelloError, MAX_BASE_MESSAGE_SIZE};
use super::rate::{RATE_PATIENCE, RateLimit};
use crate::rlpx::SnappyError;

/// What a peer did that ends the session, or failed to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The other end sent Disconnect, with the reason that could be made out.
    #[error("the other end disconnected: {}", .0.as_ref().map_or("no reason given".to_owned(), ToString::to_string))]
    Disconnected(Option<DisconnectReason>),
    /// A frame does not begin with a message id.
    #[error("a frame does not begin with a message id")]
    InvalidMessageId,
    /// The first message is neither Hello nor Disconnect.
    #[error("the first message has id {id:#x}, which is neither Hello nor Disconnect")]
    ExpectedHello {
        /// Its id.
        id: u64,
    },
    /// The Hello is not acceptable.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// A second Hello.
    #[error("a second Hello")]
    UnexpectedHello,
    /// No capability is shared.
    #[error("no capability is shared")]
    NoSharedCapability,
    /// A message of the base protocol above 2 KiB.
    #[error("a base protocol message of {size} bytes, where the limit is {MAX_BASE_MESSAGE_SIZE}")]
    BaseMessageTooLarge {
        /// Its size.
        size: usize,
    },
    /// More messages of the base protocol than are allowed.
    #[error("too many base protocol messages")]
    BaseMessageFlood,
    /// A message id that belongs to no shared capability.
    #[error("the message id {id:#x} belongs to no shared capability")]
    UnknownMessageId {
        /// The id.
        id: u64,
    },
    /// An uncompressed message is larger than its protocol allows.
    #[error("a message of {size} bytes for {capability}, where the limit is {limit}")]
    MessageTooLarge {
        /// The protocol it is for.
        capability: Capability,
        /// Its size.
        size: usize,
        /// The protocol's limit.
        limit: usize,
    },
    /// A compressed message is damaged or declares a size that its protocol does not allow.
    #[error("a message for {capability} does not decompress")]
    Snappy {
        /// The protocol it is for.
        capability: Capability,
        /// What is wrong.
        source: SnappyError,
    },
    /// A chunk breaks the rules, or a message came between those of another.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A peer was over the message rate of a protocol for [`RATE_PATIENCE`] without a break.
    #[error("more messages for {capability} than {} a second for {RATE_PATIENCE:?}", .limit.per_second())]
    RateExceeded {
        /// The protocol they are for.
        capability: Capability,
        /// The limit in force.
        limit: RateLimit,
    },
    /// No Pong in time.
    #[error("no Pong within {limit:?}")]
    PingTimeout {
        /// The limit in force.
        limit: Duration,
    },
    /// A frame that had begun was not whole in time.
    #[error("a frame was not complete within {limit:?}")]
    FrameTimeout {
        /// The limit in force.
        limit: Duration,
    },
    /// Not a byte in time.
    #[error("no inbound byte for {limit:?}")]
    IdleTimeout {
        /// The limit in force.
        limit: Duration,
    },
}

impl SessionError {
    /// What the other end is told; `None` when nothing is to be said.
    pub fn disconnect_reason(&self) -> Option<DisconnectReason> {
        use DisconnectReason::{NetworkError, PingTimeout, ProtocolError, UselessPeer};
        match self {
            Self::Disconnected(_) => None,
            Self::Hello(error) => Some(error.disconnect_reason()),
            Self::NoSharedCapability => Some(UselessPeer),
            Self::PingTimeout { .. } => Some(PingTimeout),
            Self::FrameTimeout { .. } | Self::IdleTimeout { .. } => Some(NetworkError),
            Self::InvalidMessageId
            | Self::ExpectedHello { .. }
            | Self::UnexpectedHello
            | Self::BaseMessageTooLarge { .. }
            | Self::BaseMessageFlood
            | Self::UnknownMessageId { .. }
            | Self::MessageTooLarge { .. }
            | Self::Snappy { .. }
            | Self::Chunk(_)
            | Self::RateExceeded { .. } => Some(ProtocolError),
        }
    }
}
