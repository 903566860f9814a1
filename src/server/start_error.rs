//! Why a server does not start.

use std::io;

use crate::book::Refusal;
use crate::node::{Address, NodeId};
use crate::p2p::{LivenessSettingsError, MAX_BASE_MESSAGE_SIZE, RegistrationError};
use crate::protocol::ProtocolError;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings of a protocol will not do.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The protocols cannot be offered together.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// The liveness settings contradict one another.
    #[error(transparent)]
    Liveness(#[from] LivenessSettingsError),
    /// The budget for what was received cannot hold the largest message.
    #[error("receive_budget is {budget}, which is less than a protocol's max_message_size of {max_message_size}")]
    ReceiveBudget {
        /// The setting, in bytes.
        budget: usize,
        /// The largest message of any protocol, in bytes.
        max_message_size: usize,
    },
    /// A setting is 0, which would let nothing through, or beyond what it can be: a year for times, 2^20 for
    /// `event_capacity`, 1 KiB to 64 KiB less 32 bytes for `chunk_size`, a thousand for `persistent` nodes.
    #[error("{setting} is out of range: its documentation tells the least and the most")]
    OutOfRange {
        /// The name of the setting.
        setting: &'static str,
    },
    /// The client id and the protocols make a Hello above 2 KiB, which no node would accept.
    #[error("the client id and the protocols make a Hello of {size} bytes, where the limit is {MAX_BASE_MESSAGE_SIZE}")]
    HelloTooLarge {
        /// Its size.
        size: usize,
    },
    /// No transport of the server is for such an address.
    #[error("cannot listen on {address}: no transport is configured for it")]
    NoTransport {
        /// The address.
        address: Address,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Address,
        /// What the operating system says.
        source: io::Error,
    },
    /// A node that is to be private has no place in the address book, so that it might be told of one day.
    #[error("{id} cannot be kept private: {source}")]
    Private {
        /// The node.
        id: NodeId,
        /// Why.
        source: Refusal,
    },
    /// The operating system has no random numbers.
    #[error("the operating system has no random numbers: {0}")]
    Random(getrandom::Error),
}
