//! What the dial schedule knows of one node.

use std::time::{Duration, Instant};

use crate::node::{Address, NodeAddr, PublicKey};
use crate::peer::Direction;

/// How many addresses of a node are kept.
pub(crate) const MAX_ADDRESSES: usize = 8;

/// Why a node is dialled, in the order in which dials that are due begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// The application has asked for it, once.
    Asked,
    /// The node is to be a peer as long as this one runs.
    Persistent,
    /// One of many that would do.
    Dynamic,
    /// To learn whether somebody is there: the dial closes after Hello.
    Feeler,
}

impl Purpose {
    pub(crate) const ALL: [Self; 4] = [Self::Asked, Self::Persistent, Self::Dynamic, Self::Feeler];
}

#[derive(Debug)]
pub(super) struct Node {
    public_key: PublicKey,
    /// The one that has worked last, first.
    addresses: Vec<Address>,
    /// For each [`Purpose`], whether the node is to be dialled for it.
    purposes: [bool; 4],
    /// When it is dialled next: only while it is neither dialled nor a peer.
    pub(super) due: Option<Instant>,
    /// How many came before it.
    pub(super) order: u64,
    pub(super) dialling: Option<Purpose>,
    pub(super) peer: Option<Direction>,
    /// Whether it has a place among the outbound peers.
    pub(super) has_place: bool,
    /// How many times in a row there was no stable connection, and since when.
    pub(super) failures: u64,
    pub(super) failing_since: Option<Instant>,
    /// Because it has answered a moment ago.
    pub(super) not_before: Option<Instant>,
}

impl Node {
    pub(super) fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            addresses: Vec::new(),
            purposes: [false; 4],
            due: None,
            order: 0,
            dialling: None,
            peer: None,
            has_place: false,
            failures: 0,
            failing_since: None,
            not_before: None,
        }
    }

    pub(super) fn addr(&self) -> NodeAddr {
        NodeAddr::new(self.public_key, self.addresses.iter().cloned())
    }

    /// For what it is to be dialled.
    pub(super) fn purpose(&self) -> Option<Purpose> {
        Purpose::ALL.into_iter().find(|purpose| self.is(*purpose))
    }

    pub(super) fn is(&self, purpose: Purpose) -> bool {
        self.purposes[purpose as usize]
    }

    pub(super) fn set(&mut self, purpose: Purpose, is_set: bool) {
        self.purposes[purpose as usize] = is_set;
    }

    /// It is not to be dialled any more.
    pub(super) fn clear(&mut self) {
        self.purposes = [false; 4];
    }

    pub(super) fn is_idle(&self) -> bool {
        self.dialling.is_none() && self.peer.is_none()
    }

    /// Whether it is being dialled, and will have a place among the outbound peers: what was dialled as persistent,
    /// too, when it is persistent no longer.
    pub(super) fn is_dialled_into_a_place(&self) -> bool {
        matches!(self.dialling, Some(Purpose::Dynamic | Purpose::Persistent)) && !self.is(Purpose::Persistent)
    }

    /// A dial for this purpose is over: what is to be done once has been done.
    pub(super) fn dial_ended(&mut self, purpose: Purpose) {
        self.dialling = None;
        self.set(Purpose::Feeler, false);
        // The connection that a feeler makes is of no use to who has asked for one meanwhile.
        if purpose != Purpose::Feeler {
            self.set(Purpose::Asked, false);
        }
    }

    /// Adds addresses behind those that are known. The last ones make room.
    pub(super) fn learn(&mut self, addresses: &[Address]) {
        for address in addresses.iter().take(MAX_ADDRESSES) {
            if !self.addresses.contains(address) {
                self.addresses.truncate(MAX_ADDRESSES - 1);
                self.addresses.push(address.clone());
            }
        }
    }

    /// Adds addresses before those that are known.
    pub(super) fn prefer(&mut self, addresses: &[Address]) {
        let known = std::mem::take(&mut self.addresses);
        for address in addresses.iter().chain(&known) {
            if self.addresses.len() < MAX_ADDRESSES && !self.addresses.contains(address) {
                self.addresses.push(address.clone());
            }
        }
    }

    /// Puts the addresses last that have failed.
    pub(super) fn failed_at(&mut self, failed: &[Address]) {
        // Sorting keeps the order of equals.
        self.addresses.sort_by_key(|address| failed.contains(address));
    }

    /// There was no stable connection.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
    }

    /// There was a stable connection.
    pub(super) fn recovered(&mut self) {
        self.failures = 0;
        self.failing_since = None;
    }

    /// Whether it has been failing for that long.
    pub(super) fn is_hopeless(&self, now: Instant, limit: Option<Duration>) -> bool {
        let failing = self.failing_since.map(|since| now.saturating_duration_since(since));
        !self.is(Purpose::Persistent) && limit.is_some_and(|limit| failing.is_some_and(|time| time >= limit))
    }

    /// It has answered: it is left alone for a while.
    pub(super) fn rest_until(&mut self, time: Instant) {
        self.not_before = self.not_before.max(Some(time));
    }

    /// It is left alone for so long at the most.
    pub(super) fn rest_at_most_until(&mut self, time: Instant) {
        self.not_before = self.not_before.map(|until| until.min(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeKey;

    fn address(port: u16) -> Address {
        Address::Ip(([10, 0, 0, 1], port).into())
    }

    #[test]
    fn the_address_that_has_worked_is_first_and_there_are_eight_at_most() {
        let mut node = Node::new(NodeKey::random().public_key());
        node.learn(&[address(1), address(2), address(1)]);
        node.learn(&[address(3), address(2)]);
        assert_eq!(node.addr().addresses, [1, 2, 3].map(address), "R59: a known id is extended");
        node.failed_at(&[address(1)]);
        assert_eq!(node.addr().addresses, [2, 3, 1].map(address), "R59: what has failed is tried last");
        node.prefer(&[address(3)]);
        assert_eq!(node.addr().addresses, [3, 2, 1].map(address), "R59: what has worked is tried first");
        node.learn(&(4..100).map(address).collect::<Vec<_>>());
        assert_eq!(node.addr().addresses.len(), MAX_ADDRESSES, "R59");
        assert_eq!(node.addr().addresses[0], address(3), "R59: what has worked makes room for none");
        node.prefer(&(4..100).map(address).collect::<Vec<_>>());
        assert_eq!(node.addr().addresses.len(), MAX_ADDRESSES, "R59");
    }
}
