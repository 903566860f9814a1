//! Groups: the nodes that belong together, connected or not.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Broadcast, ProtocolPeers};
use crate::node::NodeId;
use crate::peer::SharedMessage;

/// A list of nodes, to those of which that are peers messages are broadcast. Clones are the same group.
///
/// It neither dials nor disconnects: [`Group::set`] tells what has changed, which is what is left to be done.
/// [`Server::set_group`](crate::Server::set_group) does that, too.
#[derive(Clone)]
pub struct Group {
    peers: ProtocolPeers,
    members: Arc<Mutex<Arc<BTreeSet<NodeId>>>>,
}

/// How a list of members differs from the one before: the nodes to connect to, and those that are no longer needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupChange {
    /// Members that were none before, smallest id first.
    pub added: Vec<NodeId>,
    /// Members no longer, likewise.
    pub removed: Vec<NodeId>,
}

impl Group {
    /// A group without members, among the peers of a protocol.
    pub fn new(peers: &ProtocolPeers) -> Self {
        Self { peers: peers.clone(), members: Arc::default() }
    }

    /// Sets the members, and returns only what is different from before: nothing has to be done about the rest.
    pub fn set(&self, members: impl IntoIterator<Item = NodeId>) -> GroupChange {
        let new: Arc<BTreeSet<NodeId>> = Arc::new(members.into_iter().collect());
        let old = std::mem::replace(&mut *self.lock(), new.clone());
        GroupChange { added: new.difference(&old).copied().collect(), removed: old.difference(&new).copied().collect() }
    }

    /// The members, smallest id first, whether they are connected or not.
    pub fn members(&self) -> Vec<NodeId> {
        self.lock().iter().copied().collect()
    }

    /// Whether a node is a member.
    pub fn contains(&self, id: &NodeId) -> bool {
        self.lock().contains(id)
    }

    /// [`ProtocolPeers::broadcast`] to the members that are peers.
    pub fn broadcast(&self, code: u64, payload: impl Into<Bytes>) -> Broadcast {
        self.deliver(None, code, payload.into())
    }

    /// Passes on what has come from a node to all other members that are peers. It never returns to that node.
    pub fn relay(&self, from: &NodeId, code: u64, payload: impl Into<Bytes>) -> Broadcast {
        self.deliver(Some(from), code, payload.into())
    }

    fn deliver(&self, except: Option<&NodeId>, code: u64, payload: Bytes) -> Broadcast {
        let members = self.lock().clone();
        let is_for = |id: NodeId| Some(&id) != except && members.contains(&id);
        self.peers.broadcast_shared(&SharedMessage::new(code, payload), |peer| is_for(peer.id()))
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Arc<BTreeSet<NodeId>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("members", &self.lock().len()).finish_non_exhaustive()
    }
}
