//! Which peers there are, and which are about to be.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::metrics::ends::direction_place;
use crate::node::NodeId;
use crate::peer::{Direction, Peer, PeerError};

/// The peers of a server, one for each node id at the most.
#[derive(Debug)]
pub(super) struct PeerSet {
    own: NodeId,
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    peers: HashMap<NodeId, Peer>,
    dialling: HashSet<NodeId>,
}

impl PeerSet {
    pub(super) fn new(own: NodeId, limit: usize) -> Self {
        Self { own, limit, state: Mutex::default() }
    }

    /// Whether there is a place for another peer.
    pub(super) fn check_limit(&self) -> Result<(), PeerError> {
        self.lock().check_limit(self.limit)
    }

    /// Makes a peer of a connection, if there is a place for it now. It may take the place of another connection to the
    /// same node, which is then returned and has to be ended.
    pub(super) fn insert(&self, peer: &Peer) -> Result<Option<Peer>, PeerError> {
        let mut state = self.lock();
        match state.peers.get(&peer.id()) {
            Some(existing) if !self.replaces(peer, existing) => return Err(PeerError::AlreadyConnected),
            Some(_) => {}
            None => state.check_limit(self.limit)?,
        }
        Ok(state.peers.insert(peer.id(), peer.clone()))
    }

    /// When both ends dial at once there are two connections, and each end sees them in its own order. Both keep the one
    /// that the node with the smaller id has dialled.
    fn replaces(&self, new: &Peer, existing: &Peer) -> bool {
        let kept = if self.own < new.id() { Direction::Outbound } else { Direction::Inbound };
        new.direction() == kept && existing.direction() != kept
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

    /// How many peers there are, by direction, and how many nodes are being dialled.
    pub(super) fn count(&self) -> ([usize; 2], usize) {
        let state = self.lock();
        let mut peers = [0; 2];
        for peer in state.peers.values() {
            peers[direction_place(peer.direction())] += 1;
        }
        (peers, state.dialling.len())
    }

    /// Notes that a node is being dialled; an error when it is connected, or being dialled already.
    pub(super) fn begin_dial(&self, id: NodeId) -> Result<(), PeerError> {
        let mut state = self.lock();
        if state.peers.contains_key(&id) {
            return Err(PeerError::AlreadyConnected);
        }
        state.check_limit(self.limit)?;
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
    fn check_limit(&self, limit: usize) -> Result<(), PeerError> {
        if self.peers.len() >= limit { Err(PeerError::TooManyPeers { limit }) } else { Ok(()) }
    }
}
