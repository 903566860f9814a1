//! What a peer can do wrong.

use rlp::DecoderError;

use crate::p2p::Capability;
use crate::protocol::BoxError;

/// What a peer has done wrong. A handler that returns it ends that peer with
/// [`SubprotocolError`](crate::DisconnectReason::SubprotocolError); one that goes on receives the next message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Breach {
    /// The body of a message is not what the message consists of.
    #[error("the body of {capability} message {code} is malformed")]
    Malformed {
        /// The protocol.
        capability: Capability,
        /// The message's code.
        code: u64,
        /// What is wrong with the RLP, or what the message's own decoding has found.
        source: DecoderError,
    },
    /// The code is within the protocol's length, but no message has it.
    #[error("{capability} has no message with code {code}")]
    UnknownCode {
        /// The protocol.
        capability: Capability,
        /// The code.
        code: u64,
    },
    /// An answer under an id that no request has, or one that was answered already. It was not decoded.
    #[error("{capability} message {code} answers {id}, which was not asked")]
    Unsolicited {
        /// The protocol.
        capability: Capability,
        /// The answer's code.
        code: u64,
        /// The request id in it.
        id: u64,
    },
    /// An answer to another kind of request than the one with this id. It was not decoded.
    #[error("{capability} message {code} answers {id}, which is to be answered with {expected}")]
    WrongKind {
        /// The protocol.
        capability: Capability,
        /// The answer's code.
        code: u64,
        /// The code it should have.
        expected: u64,
        /// The request id in it.
        id: u64,
    },
    /// An answer that its request's [`check`](super::Request::check) has refused.
    #[error("{capability} message {code} does not answer what {id} asked")]
    Unfit {
        /// The protocol.
        capability: Capability,
        /// The answer's code.
        code: u64,
        /// The request id.
        id: u64,
        /// What the check has found.
        source: BoxError,
    },
}
