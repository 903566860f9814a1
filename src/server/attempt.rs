//! An inbound connection that is not a peer yet.

use std::sync::Arc;

use super::events::Event;
use super::gate::Ticket;
use super::shared::Shared;
use crate::node::Address;
use crate::peer::{Ending, PeerError, Stage};

/// Holds a place among the connections that are being set up. If it is dropped because the setup panics, everybody is
/// told; all other failures are told of where they happen.
pub(super) struct Attempt {
    shared: Arc<Shared>,
    remote: Option<Address>,
    ticket: Option<Ticket>,
}

impl Attempt {
    /// On the heap, and only for as long as it takes: the task stays as long as the peer.
    pub(super) fn new(shared: Arc<Shared>, remote: Option<Address>, ticket: Ticket) -> Box<Self> {
        Box::new(Self { shared, remote, ticket: Some(ticket) })
    }

    /// The attempt has led to a peer, with which goes the place among those from its address.
    pub(super) fn settle(&mut self) -> Option<Ticket> {
        self.ticket.as_mut().map(Ticket::settle);
        self.ticket.take()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let remote_addr = self.remote.as_ref().and_then(Address::socket_addr);
            let ending = Ending::new(Stage::Encryption, PeerError::Internal);
            self.shared.emit(Event::Refused { remote_addr, id: None, ending });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn a_setup_that_panics_is_an_event_and_is_counted() {
        let server = testing::node().start().await.unwrap();
        let mut events = server.events();
        let ticket = server.shared.gate.admit(None, std::time::Instant::now()).unwrap();
        let attempt = Attempt::new(server.shared.clone(), "127.0.0.1:2".parse().ok(), ticket);
        let task = tokio::spawn(async move {
            let _attempt = attempt;
            panic!("a defect");
        });
        assert!(task.await.unwrap_err().is_panic());
        let Some(Event::Refused { ending, .. }) = events.recv().await else { panic!("R76: an event") };
        assert!(matches!(ending.error(), PeerError::Internal), "R76");
        assert_eq!(server.shared.config.meters.ends.internal_errors.load(Ordering::Relaxed), 1, "R76");
        assert_eq!(server.status().pending, 0, "R71");
    }
}
