//! What of the limits and of the rules about peers can change while a server runs.

use super::Server;
use super::access::{Mark, Trust};
use super::gate::AcceptLimits;
pub use super::peer_set::PeerLimits;
use crate::node::{NodeAddr, NodeId};
use crate::p2p::{DisconnectReason, RateLimit};
use crate::peer::Peer;

/// A limit is 0, which would let nothing through, or above `max_peers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{setting} is out of range: its documentation tells the least and the most")]
#[non_exhaustive]
pub struct InvalidLimits {
    /// The name of the setting.
    pub setting: &'static str,
}

/// No such protocol is registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no protocol {name}/{version} is registered")]
#[non_exhaustive]
pub struct UnknownProtocol {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
}

impl Server {
    /// How many peers there may be.
    pub fn limits(&self) -> PeerLimits {
        self.shared.peers.limits()
    }

    /// Sets how many peers there may be, from now on. Where there are more, the youngest that are neither trusted nor
    /// persistent are disconnected with [`DisconnectReason::TooManyPeers`] and returned: inbound ones above
    /// `max_inbound`, then any above `max_peers`.
    ///
    /// # Errors
    /// [`InvalidLimits`]; then nothing has changed.
    pub fn set_limits(&self, limits: PeerLimits) -> Result<Vec<Peer>, InvalidLimits> {
        if let Some(setting) = limits.out_of_range() {
            return Err(InvalidLimits { setting });
        }
        let surplus = self.shared.peers.set_limits(limits);
        // The switch wakes, and finds the places that there are now.
        self.shared.dialler.set_limits(|dials| dials.outbound = limits.max_outbound);
        Ok(disconnect(surplus, DisconnectReason::TooManyPeers))
    }

    /// Sets how many messages a second a peer may send for one of the protocols, from now on; `None` lifts the limit.
    /// What a peer has used up of the old limit stays used up. Nobody is disconnected for it.
    ///
    /// # Errors
    /// [`UnknownProtocol`].
    pub fn set_rate_limit(
        &self,
        name: &str,
        version: u64,
        limit: impl Into<Option<RateLimit>>,
    ) -> Result<(), UnknownProtocol> {
        let place = self.place_of(name, version).ok_or_else(|| UnknownProtocol { name: name.into(), version })?;
        self.shared.config.rates.set(place, limit.into());
        self.peers().iter().for_each(Peer::review_rates);
        Ok(())
    }

    /// How many inbound connections are let in.
    pub fn accept_limits(&self) -> AcceptLimits {
        self.shared.gate.limits()
    }

    /// Sets how many inbound connections are let in, from now on. Those that have been let in stay.
    ///
    /// # Errors
    /// [`InvalidLimits`]; then nothing has changed.
    pub fn set_accept_limits(&self, limits: AcceptLimits) -> Result<(), InvalidLimits> {
        if let Some(setting) = limits.out_of_range() {
            return Err(InvalidLimits { setting });
        }
        self.shared.gate.set_limits(limits);
        Ok(())
    }

    /// Which nodes may be peers.
    pub fn trust(&self) -> Trust {
        self.shared.peers.trust()
    }

    /// Sets which nodes may be peers, from now on. Peers that may not be any more are disconnected with
    /// [`DisconnectReason::UselessPeer`] and returned.
    pub fn set_trust(&self, trust: Trust) -> Vec<Peer> {
        let denied = self.shared.peers.change_trust(|current| *current = trust);
        disconnect(denied, DisconnectReason::UselessPeer)
    }

    /// Puts a node on the list of those that may be peers. Without a list, when all may, nothing changes.
    pub fn allow(&self, id: NodeId) {
        self.shared.peers.change_trust(|trust| {
            if let Trust::Only(ids) = trust {
                ids.insert(id);
            }
        });
    }

    /// Takes a node off the list of those that may be peers. If it is a peer, it is disconnected with
    /// [`DisconnectReason::UselessPeer`] and returned. Without a list, when all may, nothing changes.
    pub fn disallow(&self, id: &NodeId) -> Option<Peer> {
        let denied = self.shared.peers.change_trust(|trust| {
            if let Trust::Only(ids) = trust {
                ids.remove(id);
            }
        });
        disconnect(denied, DisconnectReason::UselessPeer).into_iter().find(|peer| peer.id() == *id)
    }

    /// Adds a trusted node; see [`ServerBuilder::trusted`](crate::ServerBuilder::trusted).
    pub fn add_trusted(&self, node: impl Into<NodeAddr>) {
        let node = node.into();
        let _order = self.shared.order();
        self.shared.mark(Mark::Trusted, &node);
    }

    /// From now on the node is like any other; whether it was trusted. If it is a peer, it stays one.
    pub fn remove_trusted(&self, id: &NodeId) -> bool {
        let _order = self.shared.order();
        self.shared.unmark(Mark::Trusted, id)
    }

    /// Whether the node is trusted.
    pub fn is_trusted(&self, id: &NodeId) -> bool {
        self.shared.peers.is_marked(Mark::Trusted, id)
    }

    /// Disconnects the peers that are banned by now, or their networks, with [`DisconnectReason::UselessPeer`], and returns them: to be
    /// called after a ban, which is otherwise looked up when a node connects or is dialled.
    pub fn drop_banned(&self) -> Vec<Peer> {
        let is_banned = |peer: &Peer| self.shared.check_ban_of(peer).is_err();
        let banned = self.peers().into_iter().filter(is_banned).collect();
        disconnect(banned, DisconnectReason::UselessPeer)
    }
}

fn disconnect(peers: Vec<Peer>, reason: DisconnectReason) -> Vec<Peer> {
    for peer in &peers {
        peer.disconnect(reason);
    }
    peers
}
