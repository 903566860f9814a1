//! Where the messages of a peer become events, for those who asked for them.

use std::sync::Arc;

use super::{Counters, Peer, PeerInner};
use crate::metrics::Way;
use crate::p2p::Capability;
use crate::server::{EventHub, MessageEvent};

/// Tells of the messages of one peer. While nobody wants to know, asking so is all that it costs.
#[derive(Clone)]
pub(crate) struct Tap {
    events: Arc<EventHub>,
    peer: Arc<PeerInner>,
}

impl Tap {
    pub(crate) fn new(events: Arc<EventHub>, peer: Arc<PeerInner>) -> Self {
        Self { events, peer }
    }

    /// What goes over the connection is counted here.
    pub(super) fn traffic(&self) -> &Counters {
        &self.peer.traffic
    }

    /// Whether anybody wants to know of messages that go this way.
    pub(super) fn is_open(&self, way: Way) -> bool {
        self.events.wants_messages(way)
    }

    /// Tells of a message. `bytes` is the size of its payload.
    pub(super) fn tell(&self, way: Way, capability: &Capability, code: u64, bytes: usize) {
        let peer = || Peer::new(self.peer.clone());
        self.events.message(&MessageEvent { way, id: self.peer.id, capability, code, bytes }, peer);
    }
}
