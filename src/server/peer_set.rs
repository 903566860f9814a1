//! Which peers there are, and which are about to be.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::node::NodeId;
use crate::peer::{Peer, PeerError};

/// The peers of a server, one for each node id at the most.
#[derive(Debug)]
pub(super) struct PeerSet {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    peers: HashMap<NodeId, Peer>,
    dialling: HashSet<NodeId>,
}

impl PeerSet {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// Whether a node could become a peer now.
    pub(super) fn admits(&self, id: &NodeId) -> Result<(), PeerError> {
        self.lock().admits(id, self.limit)
    }

    /// Makes a peer of a connection, if there is a place for it now.
    pub(super) fn insert(&self, peer: &Peer) -> Result<(), PeerError> {
        let mut state = self.lock();
        state.admits(&peer.id(), self.limit)?;
        state.peers.insert(peer.id(), peer.clone());
        Ok(())
    }

    /// Removes a peer, and not another connection to the same node.
    pub(super) fn remove(&self, peer: &Peer) {
        let mut state = self.lock();
        if state.peers.get(&peer.id()) == Some(peer) {
            state.peers.remove(&peer.id());
        }
    }

    pub(super) fn find(&self, id: &NodeId) -> Option<Peer> {
        self.lock().peers.get(id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Peer> {
        self.lock().peers.values().cloned().collect()
    }

    /// Notes that a node is being dialled; an error when it is connected, or being dialled already.
    pub(super) fn begin_dial(&self, id: NodeId) -> Result<(), PeerError> {
        let mut state = self.lock();
        state.admits(&id, self.limit)?;
        if state.dialling.insert(id) { Ok(()) } else { Err(PeerError::AlreadyConnected) }
    }

    pub(super) fn end_dial(&self, id: &NodeId) {
        self.lock().dialling.remove(id);
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admits(&self, id: &NodeId, limit: usize) -> Result<(), PeerError> {
        if self.peers.contains_key(id) {
            return Err(PeerError::AlreadyConnected);
        }
        if self.peers.len() >= limit { Err(PeerError::TooManyPeers { limit }) } else { Ok(()) }
    }
}
