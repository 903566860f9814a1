//! A connection that is not a peer yet.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::events::Event;
use super::gate::Ticket;
use super::shared::Shared;
use crate::node::{Address, NodeAddr};
use crate::peer::{Ending, PeerError, Stage};

/// Holds a place among the connections that are being set up. If it is dropped because the setup panics, everybody is
/// told; all other failures are told of where they happen.
pub(super) struct Attempt {
    shared: Arc<Shared>,
    origin: Origin,
    place: Option<Place>,
}

/// What an attempt occupies.
pub(super) enum Place {
    Accepted(Ticket),
    Dialled { _permit: OwnedSemaphorePermit },
}

/// Where a connection comes from.
pub(super) enum Origin {
    Accepted(Option<Address>),
    Dialled(NodeAddr),
}

impl Attempt {
    /// On the heap, and only for as long as it takes: the task stays as long as the peer.
    pub(super) fn new(shared: Arc<Shared>, origin: Origin, place: Place) -> Box<Self> {
        Box::new(Self { shared, origin, place: Some(place) })
    }

    /// The attempt has led to a peer. What it still occupies, if anything, goes with the peer.
    pub(super) fn settle(&mut self) -> Option<Ticket> {
        match self.place.take() {
            Some(Place::Accepted(mut ticket)) => {
                ticket.settle();
                Some(ticket)
            }
            _ => None,
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let failed = |stage| Ending::new(stage, PeerError::Internal);
        self.shared.emit(match &self.origin {
            Origin::Accepted(remote) => {
                let remote_addr = remote.as_ref().and_then(Address::socket_addr);
                Event::Refused { remote_addr, id: None, ending: failed(Stage::Encryption) }
            }
            Origin::Dialled(node) => Event::DialFailed { node: node.clone(), ending: failed(Stage::Dial) },
        });
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
        let node = NodeAddr::new(crate::NodeKey::random().public_key(), ["127.0.0.1:1".parse().unwrap()]);
        let origins = [Origin::Accepted("127.0.0.1:2".parse().ok()), Origin::Dialled(node)];
        for (origin, count) in origins.into_iter().zip(1..) {
            let place = Place::Accepted(server.shared.gate.admit(None, std::time::Instant::now()).unwrap());
            let attempt = Attempt::new(server.shared.clone(), origin, place);
            let task = tokio::spawn(async move {
                let _attempt = attempt;
                panic!("a defect");
            });
            assert!(task.await.unwrap_err().is_panic());
            let ending = match events.recv().await {
                Some(Event::Refused { ending, .. } | Event::DialFailed { ending, .. }) => ending,
                other => panic!("a failed setup should have been told of: {other:?}"),
            };
            assert!(matches!(ending.error(), PeerError::Internal), "R76");
            assert_eq!(server.shared.config.meters.ends.internal_errors.load(Ordering::Relaxed), count, "R76");
            assert_eq!(server.status().pending, 0, "R71");
        }
    }
}
