//! What there is before an attack, and must be there after it.

use capmux::Server;
use tokio::runtime::Handle;

/// A count of everything that a connection takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    /// Of the runtime: those of the server and of its honest peers.
    tasks: usize,
    /// Of the process; 0 where nobody counts them.
    descriptors: usize,
    inbound: usize,
    outbound: usize,
    pending: usize,
    dialling: usize,
    /// Bytes of the receive budget.
    budget: usize,
    /// Whether something waits for a socket.
    is_sending: bool,
}

impl Account {
    pub(crate) fn of(server: &Server, counts_descriptors: bool) -> Self {
        let status = server.status();
        Self {
            tasks: Handle::current().metrics().num_alive_tasks(),
            descriptors: if counts_descriptors { descriptors() } else { 0 },
            inbound: status.inbound,
            outbound: status.outbound,
            pending: status.pending,
            dialling: status.dialling,
            budget: status.receive_budget_used,
            is_sending: status.peers.iter().any(|peer| peer.unsent_messages > 1),
        }
    }
}

/// How many descriptors this process has open; 0 where the system does not tell.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
