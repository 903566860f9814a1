//! Who may be a peer, and who is more than that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::node::{NodeAddr, NodeId};
use crate::peer::PeerError;

/// Which nodes may be peers, whoever dials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// All.
    #[default]
    Open,
    /// These alone. When there are none, nobody may.
    Only(BTreeSet<NodeId>),
}

impl Trust {
    /// Whether this node may be a peer.
    pub fn allows(&self, id: &NodeId) -> bool {
        match self {
            Self::Open => true,
            Self::Only(ids) => ids.contains(id),
        }
    }
}

impl FromIterator<NodeId> for Trust {
    /// These nodes alone.
    fn from_iter<I: IntoIterator<Item = NodeId>>(ids: I) -> Self {
        Self::Only(ids.into_iter().collect())
    }
}

/// What a server knows about nodes that are not, or not only, any others.
#[derive(Debug, Clone, Default)]
pub(super) struct Access {
    pub(super) trust: Trust,
    special: BTreeMap<NodeId, Special>,
}

/// What is special about a node. A list by the application, as long as it makes it.
#[derive(Debug, Clone, Default)]
struct Special {
    is_trusted: bool,
    is_persistent: bool,
    /// Where it may come from.
    addresses: Vec<IpAddr>,
}

/// What can be special about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// It passes the inbound limit.
    Trusted,
    /// It passes all limits.
    Persistent,
}

impl Access {
    pub(super) fn check(&self, id: &NodeId) -> Result<(), PeerError> {
        if self.trust.allows(id) { Ok(()) } else { Err(PeerError::NotAllowed) }
    }

    pub(super) fn is(&self, mark: Mark, id: &NodeId) -> bool {
        self.special.get(id).is_some_and(|special| special.has(mark))
    }

    /// Whether the node may be a peer when there is no place for others.
    pub(super) fn is_exempt(&self, id: &NodeId) -> bool {
        self.is(Mark::Trusted, id) || self.is(Mark::Persistent, id)
    }

    /// Whether there is any such node.
    pub(super) fn has_exempt(&self) -> bool {
        self.special.values().any(|special| special.is_trusted || special.is_persistent)
    }

    /// Marks a node, whose numeric addresses have no limits of their own if it is trusted or persistent.
    pub(super) fn mark(&mut self, mark: Mark, node: &NodeAddr) {
        let special = self.special.entry(node.node_id()).or_default();
        special.set(mark, true);
        for ip in node.addresses.iter().filter_map(crate::node::Address::ip) {
            if !special.addresses.contains(&ip) {
                special.addresses.push(ip);
            }
        }
    }

    /// Takes a mark away; whether the node had it.
    pub(super) fn unmark(&mut self, mark: Mark, id: &NodeId) -> bool {
        let Some(special) = self.special.get_mut(id) else { return false };
        let had = special.has(mark);
        special.set(mark, false);
        if !(special.is_trusted || special.is_persistent) {
            self.special.remove(id);
        }
        had
    }

    /// The addresses that have no limits of their own.
    pub(super) fn exempt_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let exempt = self.special.values().filter(|special| special.is_trusted || special.is_persistent);
        exempt.flat_map(|special| special.addresses.iter().copied())
    }
}

impl Special {
    fn has(&self, mark: Mark) -> bool {
        match mark {
            Mark::Trusted => self.is_trusted,
            Mark::Persistent => self.is_persistent,
        }
    }

    fn set(&mut self, mark: Mark, to: bool) {
        match mark {
            Mark::Trusted => self.is_trusted = to,
            Mark::Persistent => self.is_persistent = to,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeKey;
    use crate::node::Enode;

    fn node(address: &str) -> NodeAddr {
        Enode::new(NodeKey::random().public_key(), address.parse().unwrap()).into()
    }

    #[test]
    fn an_empty_allow_list_admits_nobody() {
        let [one, other] = ["8.8.8.8:1", "8.8.8.9:1"].map(node);
        let mut access = Access::default();
        assert!(access.check(&one.node_id()).is_ok(), "R41: open");
        access.trust = Trust::from_iter([one.node_id()]);
        assert!(access.check(&one.node_id()).is_ok(), "R41: listed");
        assert!(matches!(access.check(&other.node_id()), Err(PeerError::NotAllowed)), "R41: not listed");
        access.trust = Trust::from_iter([]);
        access.mark(Mark::Trusted, &one);
        assert!(
            matches!(access.check(&one.node_id()), Err(PeerError::NotAllowed)),
            "R41: empty, for trusted ones, too"
        );
    }

    #[test]
    fn marks_are_independent_and_leave_nothing() {
        let (mut access, node) = (Access::default(), node("8.8.8.8:1"));
        let id = node.node_id();
        for mark in [Mark::Trusted, Mark::Persistent] {
            access.mark(mark, &node);
        }
        assert_eq!(access.exempt_addresses().collect::<Vec<_>>(), ["8.8.8.8".parse::<IpAddr>().unwrap()], "H20");
        assert!(access.unmark(Mark::Trusted, &id) && !access.unmark(Mark::Trusted, &id), "R47");
        assert!(access.is_exempt(&id) && access.is(Mark::Persistent, &id), "R46");
        assert!(access.unmark(Mark::Persistent, &id) && !access.has_exempt(), "R46");
        assert_eq!(access.exempt_addresses().count(), 0, "H20: its address is like others again");
        assert!(access.special.is_empty(), "R46");
    }
}
