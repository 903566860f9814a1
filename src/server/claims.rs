//! Which of several connections with the same node is sent this end's Hello.
//!
//! When both ends dial at once there are two connections, and each end sees them in its own order. No node can take a
//! connection as a peer on which it has not had the other's Hello, go-ethereum included, which keeps what reaches its
//! checks first. So nothing has to be ended that the other end may have kept if an end sends its Hello *on one
//! connection with a node at a time*, and on none while that node is a peer. That connection has its *turn*, until it
//! is a peer or has failed:
//!
//! - A dial asks for its turn after the encryption handshake. If another connection has it, the dial waits.
//! - An inbound connection is sent Hello at once if no other has the turn, and the node is not being dialled. Otherwise
//!   the other end's Hello is read first: it proves the key, and shows that the other end has given it *its* turn. Then
//!   it gets the turn here if that is free, and waits if another has it.
//! - But if a dial of this end has it, each end may have given the turn to its own dial, and waits for the other. The
//!   end with the smaller id then refuses the inbound connection with 0x05 (already connected), so that the dial of the
//!   larger one fails, and the turn there passes on.
//! - What waits or comes while the node is a peer is refused with 0x05: inbound connections when they have proved the
//!   key.
//! - The turn passes on to inbound connections that wait first, which have proved the key, then to a dial.
//!
//! An inbound connection that lies about its key can be given the turn, but not after a dial has begun, and what waits
//! for it has patience for half the time that Hellos may take. The turn is then taken from it, unless the other end's
//! Hello has come. If it comes after all, that end was honest, had to wait itself, and may keep the connection: so it
//! waits, whatever the ids are.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::NodeId;
use crate::peer::Direction;

/// One connection with a node, among all that there have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The node.
    pub(crate) id: NodeId,
    /// Who has dialled.
    pub(crate) direction: Direction,
    number: u64,
}

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is sent Hello.
    Turn,
    /// It is sent nothing yet.
    Wait,
    /// It is ended with 0x05, in place of Hello if that has not been sent.
    Refuse,
}

/// The connections with all nodes, and the dials.
#[derive(Debug)]
pub(crate) struct Claims {
    own: NodeId,
    /// How many connections there have been.
    count: u64,
    dials: BTreeSet<NodeId>,
    /// By node, in the order in which they have come. Those that are refused are not among them any more.
    nodes: BTreeMap<NodeId, Vec<Claim>>,
}

#[derive(Debug)]
struct Claim {
    ticket: Ticket,
    standing: Standing,
    /// The other end's Hello has come.
    is_proved: bool,
    /// It had the turn, and has lost it.
    was_late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// An inbound one, whose key is not proved.
    Unproved,
    Waits,
    HasTurn,
    IsPeer,
}

impl Claims {
    pub(crate) fn new(own: NodeId) -> Self {
        Self { own, count: 0, dials: BTreeSet::new(), nodes: BTreeMap::new() }
    }

    /// A dial begins, before there is a connection. `false` if the node is being dialled already.
    pub(crate) fn begin_dial(&mut self, id: NodeId) -> bool {
        self.dials.insert(id)
    }

    /// A dial is over, whatever came of it.
    pub(crate) fn end_dial(&mut self, id: &NodeId) {
        self.dials.remove(id);
    }

    /// How many nodes are being dialled.
    pub(crate) fn dials(&self) -> usize {
        self.dials.len()
    }

    /// There is a connection, as far as its encryption.
    pub(crate) fn connected(&mut self, id: NodeId, direction: Direction) -> Ticket {
        self.count += 1;
        let ticket = Ticket { id, direction, number: self.count };
        let is_dialled = self.dials.contains(&id);
        let claims = self.nodes.entry(id).or_default();
        let standing = match (direction, holder(claims)) {
            (Direction::Outbound, None) => Standing::HasTurn,
            (Direction::Outbound, Some(Claim { standing: Standing::IsPeer, .. })) => return ticket,
            (Direction::Outbound, Some(_)) => Standing::Waits,
            (Direction::Inbound, None) if !is_dialled => Standing::HasTurn,
            (Direction::Inbound, _) => Standing::Unproved,
        };
        claims.push(Claim { ticket, standing, is_proved: false, was_late: false });
        ticket
    }

    /// The Hello of the other end has come: the key is proved.
    pub(crate) fn proved(&mut self, ticket: &Ticket) {
        let is_smaller = self.own < ticket.id;
        let Some(claims) = self.nodes.get_mut(&ticket.id) else { return };
        let Some(place) = claims.iter().position(|claim| claim.ticket == *ticket) else { return };
        claims[place].is_proved = true;
        if claims[place].standing != Standing::Unproved {
            return;
        }
        let may_wait = !is_smaller || claims[place].was_late;
        let standing = match holder(claims).map(|holder| (holder.standing, holder.ticket.direction)) {
            None => Some(Standing::HasTurn),
            Some((Standing::IsPeer, _)) => None,
            Some((_, Direction::Outbound)) if !may_wait => None,
            Some(_) => Some(Standing::Waits),
        };
        match standing {
            Some(standing) => claims[place].standing = standing,
            None => drop(claims.remove(place)),
        }
    }

    pub(crate) fn verdict(&self, ticket: &Ticket) -> Verdict {
        match self.standing(ticket) {
            Some(Standing::HasTurn | Standing::IsPeer) => Verdict::Turn,
            Some(Standing::Unproved | Standing::Waits) => Verdict::Wait,
            None => Verdict::Refuse,
        }
    }

    /// A connection has waited for half the time that it has: the one that has the turn loses it.
    pub(crate) fn lose_patience(&mut self, ticket: &Ticket) {
        if self.standing(ticket) != Some(Standing::Waits) {
            return;
        }
        let Some(claims) = self.nodes.get_mut(&ticket.id) else { return };
        claims.retain(|claim| claim.standing != Standing::HasTurn || claim.ticket.direction == Direction::Inbound);
        // One whose Hello has come is about to be a peer.
        for late in claims.iter_mut().filter(|claim| claim.standing == Standing::HasTurn && !claim.is_proved) {
            (late.standing, late.was_late) = (Standing::Unproved, true);
        }
        pass_on(claims);
    }

    /// Makes a peer of the connection that has the turn; `false` if it has lost it.
    pub(crate) fn admit(&mut self, ticket: &Ticket) -> bool {
        let Some(claims) = self.nodes.get_mut(&ticket.id) else { return false };
        let Some(claim) = claims.iter_mut().find(|claim| claim.ticket == *ticket) else { return false };
        if claim.standing != Standing::HasTurn {
            return false;
        }
        claim.standing = Standing::IsPeer;
        claims.retain(|claim| claim.standing != Standing::Waits);
        true
    }

    /// A connection is over: it has failed or been refused, or the peer is gone.
    pub(crate) fn end(&mut self, ticket: &Ticket) {
        let Some(claims) = self.nodes.get_mut(&ticket.id) else { return };
        claims.retain(|claim| claim.ticket != *ticket);
        pass_on(claims);
        if claims.is_empty() {
            self.nodes.remove(&ticket.id);
        }
    }

    /// Whether a connection that the node has dialled may still become a peer.
    pub(crate) fn is_coming(&self, id: &NodeId) -> bool {
        let mut claims = self.nodes.get(id).into_iter().flatten();
        claims.any(|claim| claim.ticket.direction == Direction::Inbound && claim.standing != Standing::IsPeer)
    }

    fn standing(&self, ticket: &Ticket) -> Option<Standing> {
        let claims = self.nodes.get(&ticket.id)?;
        claims.iter().find(|claim| claim.ticket == *ticket).map(|claim| claim.standing)
    }
}

/// The connection that has the turn, or is the peer.
fn holder(claims: &[Claim]) -> Option<&Claim> {
    claims.iter().find(|claim| matches!(claim.standing, Standing::HasTurn | Standing::IsPeer))
}

/// Gives the turn to the next if nobody has it.
fn pass_on(claims: &mut [Claim]) {
    if holder(claims).is_some() {
        return;
    }
    let next_of =
        |direction| move |claim: &Claim| claim.standing == Standing::Waits && claim.ticket.direction == direction;
    let inbound = claims.iter().position(next_of(Direction::Inbound));
    if let Some(next) = inbound.or_else(|| claims.iter().position(next_of(Direction::Outbound))) {
        claims[next].standing = Standing::HasTurn;
    }
}

#[cfg(test)]
mod tests;
