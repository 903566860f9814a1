//! Which peers there are, and which are about to be.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::PoisonError;

use tokio::sync::Notify;

use super::access::{Access, Mark, Trust};
use super::claims::{Claims, Ticket, Verdict};
use crate::metrics::ends::direction_place;
use crate::node::{NodeAddr, NodeId};
use crate::peer::{Direction, Peer, PeerError};
use crate::sync::{Mutex, MutexGuard};

/// How many peers a server may have, for [`Server::set_limits`](crate::Server::set_limits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    /// In both directions together, 1 at least; see [`ServerBuilder::max_peers`](crate::ServerBuilder::max_peers).
    pub max_peers: usize,
    /// That have dialled this node; see [`ServerBuilder::max_inbound`](crate::ServerBuilder::max_inbound).
    pub max_inbound: usize,
    /// That this node has dialled of its own accord; see
    /// [`ServerBuilder::max_outbound`](crate::ServerBuilder::max_outbound).
    pub max_outbound: usize,
}

impl PeerLimits {
    /// The name of a setting that will not do.
    pub(super) fn out_of_range(&self) -> Option<&'static str> {
        let most = self.max_peers;
        let settings = [
            ("max_peers", most > 0),
            ("max_inbound", self.max_inbound <= most),
            ("max_outbound", self.max_outbound <= most),
        ];
        settings.into_iter().find(|(_, is_good)| !is_good).map(|(setting, _)| setting)
    }
}

/// The peers of a server, one for each node id at the most, in the order of their ids.
#[derive(Debug)]
pub(super) struct PeerSet {
    state: Mutex<State>,
    /// A connection has become a peer, or is over.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    limits: PeerLimits,
    access: Access,
    peers: BTreeMap<NodeId, Member>,
    claims: Claims,
    /// How many have been added so far.
    added: u64,
}

#[derive(Debug)]
struct Member {
    peer: Peer,
    ticket: Ticket,
    /// How many were added before it.
    order: u64,
}

impl PeerSet {
    pub(super) fn new(own: NodeId, limits: PeerLimits, access: Access) -> Self {
        let (peers, claims) = (BTreeMap::new(), Claims::new(own));
        Self { state: Mutex::new(State { limits, access, peers, claims, added: 0 }), changed: Notify::new() }
    }

    /// Whether anybody at all could be an inbound peer now. Who it is, is only a claim yet, and who lies must not learn
    /// which nodes pass the limits: while there are such nodes, everybody may go on to the Hello, which proves the key.
    pub(super) fn check_unproved(&self) -> Result<(), PeerError> {
        let state = self.lock();
        if state.access.has_exempt() { Ok(()) } else { state.check_places(None, Direction::Inbound) }
    }

    /// There is a connection with this node, or with one that claims to be it.
    pub(super) fn claim(&self, id: NodeId, direction: Direction) -> Ticket {
        self.lock().claims.connected(id, direction)
    }

    /// The other end of this connection has proved its key.
    pub(super) fn proved(&self, ticket: &Ticket) {
        self.lock().claims.proved(ticket);
    }

    /// Waits until it is this connection's turn to be sent Hello. The error is that another is the peer, which is then
    /// asked for a sign of life: a node that dials may know that it is gone.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub(super) async fn turn(&self, ticket: &Ticket) -> Result<(), PeerError> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let verdict = self.lock().claims.verdict(ticket);
            match verdict {
                Verdict::Turn => return Ok(()),
                Verdict::Wait => changed.await,
                Verdict::Refuse => {
                    if ticket.direction == Direction::Inbound
                        && let Some(peer) = self.find(&ticket.id)
                    {
                        peer.ask_ping();
                    }
                    return Err(PeerError::AlreadyConnected);
                }
            }
        }
    }

    /// This connection has waited for long enough.
    pub(super) fn lose_patience(&self, ticket: &Ticket) {
        self.lock().claims.lose_patience(ticket);
        self.changed.notify_waiters();
    }

    /// A connection has not become a peer, or is one no longer.
    pub(super) fn unclaim(&self, ticket: &Ticket) {
        self.lock().claims.end(ticket);
        self.changed.notify_waiters();
    }

    /// Waits until a node is a peer, or no connection is under way that it has dialled.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub(super) async fn settled(&self, id: &NodeId) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_settled(id) {
                return;
            }
            changed.await;
        }
    }

    fn is_settled(&self, id: &NodeId) -> bool {
        let state = self.lock();
        state.peers.contains_key(id) || !state.claims.is_coming(id)
    }

    /// Makes a peer of a connection that has its turn, if the node may be one and there is a place for it now.
    pub(super) fn insert(&self, peer: &Peer, ticket: Ticket) -> Result<(), PeerError> {
        let mut state = self.lock();
        let id = peer.id();
        state.access.check(&id)?;
        if state.peers.contains_key(&id) {
            return Err(PeerError::AlreadyConnected);
        }
        state.check_places(Some(&id), peer.direction())?;
        if !state.claims.admit(&ticket) {
            return Err(PeerError::AlreadyConnected);
        }
        let order = state.added;
        state.added += 1;
        state.peers.insert(id, Member { peer: peer.clone(), ticket, order });
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Removes a peer. No other connection with the node can be one until [`unclaim`](Self::unclaim) is told of the result.
    pub(super) fn remove(&self, peer: &Peer) -> Option<Ticket> {
        self.lock().peers.remove(&peer.id()).map(|member| member.ticket)
    }

    pub(super) fn find(&self, id: &NodeId) -> Option<Peer> {
        self.lock().peers.get(id).map(|member| member.peer.clone())
    }

    /// The one of these peers that was added last, but for one.
    pub(super) fn youngest(&self, ids: &[NodeId], except: &Peer) -> Option<Peer> {
        let state = self.lock();
        let members = ids.iter().filter_map(|id| state.peers.get(id)).filter(|member| member.peer != *except);
        members.max_by_key(|member| member.order).map(|member| member.peer.clone())
    }

    /// Whether there is a peer that this node has dialled.
    pub(super) fn has_outbound(&self) -> bool {
        self.lock().peers.values().any(|member| member.peer.direction() == Direction::Outbound)
    }

    pub(super) fn all(&self) -> Vec<Peer> {
        self.lock().peers.values().map(|member| member.peer.clone()).collect()
    }

    /// How many peers there are, by direction, and how many nodes are being dialled.
    pub(super) fn count(&self) -> ([usize; 2], usize) {
        let state = self.lock();
        let mut peers = [0; 2];
        for member in state.peers.values() {
            peers[direction_place(member.peer.direction())] += 1;
        }
        (peers, state.claims.dials())
    }

    /// Notes that a node is being dialled; an error when it may not be a peer, is connected, or being dialled already.
    /// One that is only to be looked at needs no place.
    pub(super) fn begin_dial(&self, id: NodeId, is_feeler: bool) -> Result<(), PeerError> {
        let mut state = self.lock();
        state.access.check(&id)?;
        if state.peers.contains_key(&id) {
            return Err(PeerError::AlreadyConnected);
        }
        if !is_feeler {
            state.check_places(Some(&id), Direction::Outbound)?;
        }
        if state.claims.begin_dial(id) { Ok(()) } else { Err(PeerError::AlreadyConnected) }
    }

    pub(super) fn end_dial(&self, id: &NodeId) {
        self.lock().claims.end_dial(id);
    }

    /// Whether there is a place for another peer that this node dials of its own accord.
    pub(super) fn has_place(&self) -> bool {
        self.lock().check_places(None, Direction::Outbound).is_ok()
    }

    pub(super) fn limits(&self) -> PeerLimits {
        self.lock().limits
    }

    /// From now on these limits hold. The result is the peers that have no place any more, the youngest first.
    pub(super) fn set_limits(&self, limits: PeerLimits) -> Vec<Peer> {
        let mut state = self.lock();
        state.limits = limits;
        state.surplus()
    }

    pub(super) fn trust(&self) -> Trust {
        self.lock().access.trust.clone()
    }

    /// From now on these nodes may be peers. The result is the peers that may not be any more.
    pub(super) fn change_trust(&self, change: impl FnOnce(&mut Trust)) -> Vec<Peer> {
        let mut state = self.lock();
        change(&mut state.access.trust);
        let denied = state.peers.iter().filter(|(id, _)| state.access.check(id).is_err());
        denied.map(|(_, member)| member.peer.clone()).collect()
    }

    /// Marks a node. The result is the addresses that have no limits of their own from now on.
    pub(super) fn mark(&self, mark: Mark, node: &NodeAddr) -> Vec<IpAddr> {
        let mut state = self.lock();
        state.access.mark(mark, node);
        state.access.exempt_addresses().collect()
    }

    /// Takes a mark away; `None` if the node did not have it, otherwise as [`mark`](Self::mark). A peer keeps its
    /// place.
    pub(super) fn unmark(&self, mark: Mark, id: &NodeId) -> Option<Vec<IpAddr>> {
        let mut state = self.lock();
        state.access.unmark(mark, id).then(|| state.access.exempt_addresses().collect())
    }

    pub(super) fn is_marked(&self, mark: Mark, id: &NodeId) -> bool {
        self.lock().access.is(mark, id)
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether there is a place for this node, or for any that is nothing special.
    fn check_places(&self, id: Option<&NodeId>, direction: Direction) -> Result<(), PeerError> {
        let too_many = |limit| Err(PeerError::TooManyPeers { limit });
        if id.is_some_and(|id| self.access.is(Mark::Persistent, id)) {
            return Ok(());
        }
        if self.within_total().count() >= self.limits.max_peers {
            return too_many(self.limits.max_peers);
        }
        let is_limited = direction == Direction::Inbound && !id.is_some_and(|id| self.access.is_exempt(id));
        if is_limited && self.within_inbound().count() >= self.limits.max_inbound {
            return too_many(self.limits.max_inbound);
        }
        Ok(())
    }

    /// The peers that take one of all places.
    fn within_total(&self) -> impl Iterator<Item = &Member> {
        let members = self.peers.iter();
        members.filter(|(id, _)| !self.access.is(Mark::Persistent, id)).map(|(_, member)| member)
    }

    /// The peers that take a place of inbound ones.
    fn within_inbound(&self) -> impl Iterator<Item = &Member> {
        let members = self.peers.iter().filter(|(_, member)| member.peer.direction() == Direction::Inbound);
        members.filter(|(id, _)| !self.access.is_exempt(id)).map(|(_, member)| member)
    }

    /// The peers above the limits: of inbound ones, and then of all that are not trusted or persistent, the youngest.
    fn surplus(&self) -> Vec<Peer> {
        let youngest = |mut members: Vec<&Member>, count: usize| {
            members.sort_by_key(|member| std::cmp::Reverse(member.order));
            members.into_iter().take(count).map(|member| member.peer.clone()).collect::<Vec<_>>()
        };
        let inbound: Vec<_> = self.within_inbound().collect();
        let above = inbound.len().saturating_sub(self.limits.max_inbound);
        let mut surplus = youngest(inbound, above);
        let above = self.within_total().count().saturating_sub(self.limits.max_peers + surplus.len());
        let rest = self.peers.iter().filter(|(id, _)| !self.access.is_exempt(id)).map(|(_, member)| member);
        let rest = rest.filter(|member| !surplus.contains(&member.peer)).collect();
        surplus.extend(youngest(rest, above));
        surplus
    }
}

#[cfg(test)]
mod orders;
