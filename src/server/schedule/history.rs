//! Nodes that are forgotten but for when they may be dialled again.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use crate::node::NodeId;

/// How many nodes are remembered: when there are more, those that could be dialled soonest are forgotten.
const CAPACITY: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct History {
    until: HashMap<NodeId, Instant>,
    order: BTreeSet<(Instant, NodeId)>,
}

impl History {
    /// Notes that a node must not be dialled before this time.
    pub(super) fn remember(&mut self, id: NodeId, until: Instant, now: Instant) {
        let until = self.take(&id).map_or(until, |known| known.max(until));
        if until <= now {
            return;
        }
        self.until.insert(id, until);
        self.order.insert((until, id));
        while self.order.first().is_some_and(|(until, _)| *until <= now || self.order.len() > CAPACITY) {
            let forgotten = self.order.pop_first();
            forgotten.map(|(_, id)| self.until.remove(&id));
        }
    }

    /// Until when a node must not be dialled, which is forgotten.
    pub(super) fn take(&mut self, id: &NodeId) -> Option<Instant> {
        let until = self.until.remove(id)?;
        self.order.remove(&(until, *id));
        Some(until)
    }

    pub(super) fn rests(&self, id: &NodeId, now: Instant) -> bool {
        self.until.get(id).is_some_and(|until| *until > now)
    }
}
