//! Why a workload gave no figure.

use std::io;

use capmux::{Ending, PeerError, SendError, StartError};

/// Why a workload gave no figure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PerfError {
    /// A node did not start.
    #[error("cannot start a node: {0}")]
    Start(#[from] StartError),
    /// A node could not dial another.
    #[error("cannot connect two nodes: {0}")]
    Dial(#[from] Ending),
    /// A connection without a server failed.
    #[error("a connection failed: {0}")]
    Connection(#[from] PeerError),
    /// A message could not be sent.
    #[error("cannot send: {0}")]
    Send(#[from] SendError),
    /// A peer went, or did not come, while the workload needed it.
    #[error("a peer is missing: {have} of {needed}")]
    Missing {
        /// How many there were.
        have: usize,
        /// How many there should have been.
        needed: usize,
    },
    /// The operating system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the operating system says.
        source: io::Error,
    },
    /// The process may not open as many files as the workload has sockets.
    #[error(
        "{needed} open files are needed, and this process may open {limit}: raise the limit (`ulimit -n {needed}`)"
    )]
    OpenFiles {
        /// How many are needed.
        needed: u64,
        /// How many are allowed, at most.
        limit: u64,
    },
}

impl PerfError {
    /// For `map_err`: says what was tried.
    pub(crate) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// For `map_err`: the operating system gave no random bytes.
    pub(crate) fn random(error: getrandom::Error) -> Self {
        Self::io("make random bytes")(io::Error::other(error))
    }

    /// For `map_err`: a task of the workload did not end by itself.
    pub(crate) fn task(error: tokio::task::JoinError) -> Self {
        Self::io("run a task")(error.into())
    }
}
