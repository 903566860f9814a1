//! A connection that is being set up, and waits for its turn to be sent Hello.

use std::sync::Arc;

use tokio::time::timeout;

use super::claims::Ticket;
use super::shared::Shared;
use crate::node::NodeId;
use crate::peer::setup::Turn;
use crate::peer::{Direction, Peer, PeerError};

/// A connection among those with the same node. When it is dropped and has not become a peer, the next has its turn.
pub(super) struct Claim {
    shared: Arc<Shared>,
    ticket: Ticket,
    is_peer: bool,
}

impl Claim {
    pub(super) fn new(shared: &Arc<Shared>, id: NodeId, direction: Direction) -> Self {
        let ticket = shared.peers.claim(id, direction);
        Self { shared: shared.clone(), ticket, is_peer: false }
    }

    /// Makes a peer of the connection. If it may not be one, the next has its turn.
    pub(super) fn admit(mut self, peer: &Peer) -> Result<(), PeerError> {
        self.shared.peers.insert(peer, self.ticket)?;
        self.is_peer = true;
        Ok(())
    }
}

impl Turn for Claim {
    async fn granted(&self) -> Result<(), PeerError> {
        let patience = self.shared.config.timeouts.hello / 2;
        loop {
            match timeout(patience, self.shared.peers.turn(&self.ticket)).await {
                Ok(turn) => return turn,
                Err(_) => self.shared.peers.lose_patience(&self.ticket),
            }
        }
    }

    fn proved(&self) {
        self.shared.peers.proved(&self.ticket);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_peer {
            self.shared.peers.unclaim(&self.ticket);
        }
    }
}
