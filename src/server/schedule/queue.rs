//! What waits to be dialled, and what is counted.

use std::time::Instant;

use super::node::Node;
use super::{Dial, MAX_FEELERS, PACE, Purpose, Schedule, Taken};
use crate::node::{NodeAddr, NodeId};

impl Schedule {
    /// Has one more dynamic node dialled than there are places, if all are taken. When it becomes a peer, one of
    /// [`Schedule::surplus`] has to leave.
    pub(crate) fn rotate(&mut self) {
        self.is_rotating = self.limits.outbound > 1 && self.outbound == self.limits.outbound;
    }

    /// The dynamic outbound peers, if they are more than there are places.
    pub(crate) fn surplus(&self) -> Vec<NodeId> {
        let holds_place = |node: &Node| node.has_place && node.peer.is_some();
        let peers: Vec<NodeId> = self.nodes.iter().filter(|(_, node)| holds_place(node)).map(|(id, _)| *id).collect();
        if peers.len() > self.limits.outbound { peers } else { Vec::new() }
    }

    /// Whether a node may be taken on.
    pub(super) fn admit(&self, id: &NodeId, purpose: Purpose, now: Instant) -> Result<(), Taken> {
        let known = self.nodes.get(id);
        let limit = self.limits.waiting;
        let is_full = match purpose {
            Purpose::Persistent => self.persistent >= limit && !self.is_persistent(id),
            // Who waits for longer than this one would makes room.
            Purpose::Dynamic if known.is_none() => {
                let last = self.queues[purpose as usize].last();
                self.queues[purpose as usize].len() >= limit && last.is_none_or(|(due, ..)| *due <= now)
            }
            _ => known.is_none_or(|node| !node.is(purpose)) && self.queues[purpose as usize].len() >= limit,
        };
        let can_rest = matches!(purpose, Purpose::Dynamic | Purpose::Feeler);
        match can_rest && self.history.rests(id, now) {
            true => Err(Taken::Resting),
            false if is_full => Err(Taken::Full),
            false => Ok(()),
        }
    }

    /// What begins next if nothing happens, and when: of what is due, by the order of the purposes.
    pub(super) fn next(&self, now: Instant) -> Option<(Instant, Purpose)> {
        if self.dialling.iter().sum::<usize>() >= self.limits.dials {
            return None;
        }
        let mut next: Option<(Instant, Purpose)> = None;
        for purpose in Purpose::ALL {
            let has_room = match purpose {
                Purpose::Asked | Purpose::Persistent => true,
                Purpose::Dynamic => self.outbound < self.places(),
                Purpose::Feeler => self.dialling[purpose as usize] < MAX_FEELERS,
            };
            let Some((due, ..)) = self.queues[purpose as usize].first().filter(|_| has_room) else { continue };
            let start = match purpose {
                Purpose::Asked => now.max(*due),
                _ => self.next_start.unwrap_or(now).max(*due).max(now),
            };
            next = Some(next.filter(|(best, _)| *best <= start).unwrap_or((start, purpose)));
        }
        next
    }

    pub(super) fn begin(&mut self, purpose: Purpose, now: Instant) -> Option<Dial> {
        let (.., id) = *self.queues[purpose as usize].first()?;
        let mut node = self.take(&id)?;
        node.due = None;
        node.dialling = Some(purpose);
        node.has_place = node.is_dialled_into_a_place();
        // This is the one above the limit.
        self.is_rotating &= !(node.has_place && self.outbound >= self.limits.outbound);
        let dial = Dial { id, node: node.addr(), purpose };
        self.put(id, node, now);
        if purpose != Purpose::Asked {
            self.next_start = Some(now + PACE.mul_f64(self.random.f64()));
        }
        Some(dial)
    }

    /// The places of dynamic outbound peers.
    pub(super) fn places(&self) -> usize {
        self.limits.outbound.saturating_add(usize::from(self.is_rotating))
    }

    /// Takes a node out, with all that is counted for it.
    pub(super) fn take(&mut self, id: &NodeId) -> Option<Node> {
        let node = self.nodes.remove(id)?;
        if let (Some(due), Some(purpose)) = (node.due, node.purpose()) {
            self.queues[purpose as usize].remove(&(due, node.order, *id));
        }
        if let Some(purpose) = node.dialling {
            self.dialling[purpose as usize] -= 1;
        }
        self.outbound -= usize::from(node.has_place);
        self.persistent -= usize::from(node.is(Purpose::Persistent));
        Some(node)
    }

    /// The same, or a new one, with what is remembered of it.
    pub(super) fn take_or_new(&mut self, id: &NodeId, node: &NodeAddr) -> Node {
        self.take(id).unwrap_or_else(|| {
            let mut new = Node::new(node.public_key);
            new.not_before = self.history.take(id);
            new
        })
    }

    /// Puts a node in, or forgets it if it is neither dialled nor connected nor to be dialled.
    pub(super) fn put(&mut self, id: NodeId, mut node: Node, now: Instant) {
        let purpose = node.purpose();
        if purpose.is_none() && node.is_idle() {
            if let Some(until) = node.not_before {
                self.history.remember(id, until, now);
            }
            return;
        }
        let rest = node.not_before.filter(|_| purpose != Some(Purpose::Asked));
        node.due = node.due.filter(|_| node.is_idle()).map(|due| rest.map_or(due, |rest| rest.max(due)));
        if let (Some(due), Some(purpose)) = (node.due, purpose) {
            self.queues[purpose as usize].insert((due, node.order, id));
        }
        if let Some(purpose) = node.dialling {
            self.dialling[purpose as usize] += 1;
        }
        self.outbound += usize::from(node.has_place);
        self.persistent += usize::from(node.is(Purpose::Persistent));
        self.nodes.insert(id, node);
        self.trim(now);
    }

    /// Forgets the dynamic candidates that would have to wait longest, if there are too many.
    pub(super) fn trim(&mut self, now: Instant) {
        while self.queues[Purpose::Dynamic as usize].len() > self.limits.waiting {
            let Some((due, _, id)) = self.queues[Purpose::Dynamic as usize].last().copied() else { return };
            let until = self.take(&id).and_then(|node| node.not_before).unwrap_or(due);
            self.history.remember(id, until, now);
        }
    }
}
