//! Which connection with a node has its turn: at one end whatever happens there, and at two ends that dial at once.

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};

use super::{choice, dialling};
use crate::NodeId;
use crate::peer::Direction;
use crate::server::claims::{Claims, Ticket, Verdict};

/// Of the connections with a node one at most has its turn; who is refused stays refused, and who is a peer stays one
/// until it ends; none waits for nobody. And when two ends dial each other, in whatever order what they send arrives,
/// exactly one connection survives, the same at both. Returns how many connections became peers.
///
/// The input: whether there are one or two ends (1 byte). For one, operations of a byte, a node and a connection. For
/// two, of which kind the other is (1 byte), whose id is smaller (1 byte), and which of what can happen does.
pub fn claims(data: &[u8]) -> usize {
    let mut input = Unstructured::new(data);
    let outcome = match choice(&mut input, 2) {
        Ok(0) => one_end(&mut input),
        _ => dialling::two_ends(&mut input),
    };
    outcome.unwrap_or(0)
}

/// How many nodes there are.
const NODES: u8 = 3;

/// A connection as the model knows it.
struct Known {
    ticket: Ticket,
    /// It would have its turn if no other had it.
    is_proved: bool,
    is_peer: bool,
    was_refused: bool,
}

struct OneEnd {
    claims: Claims,
    dials: BTreeSet<NodeId>,
    connections: Vec<Known>,
    peers: usize,
}

fn one_end(input: &mut Unstructured<'_>) -> Result<usize> {
    // Larger than one of the others, smaller than two.
    let claims = Claims::new(NodeId::from_bytes([1; 32]));
    let mut end = OneEnd { claims, dials: BTreeSet::new(), connections: Vec::new(), peers: 0 };
    while !input.is_empty() {
        let operation = choice(input, 10)?;
        let id = NodeId::from_bytes([2 * choice(input, NODES)?; 32]);
        let place = usize::from(input.arbitrary::<u8>()?);
        end.step(operation, id, place);
        end.check();
    }
    Ok(end.peers)
}

impl OneEnd {
    fn step(&mut self, operation: u8, id: NodeId, place: usize) {
        match operation {
            0 => assert_eq!(self.claims.begin_dial(id), self.dials.insert(id), "one dial at a time"),
            1 => {
                self.claims.end_dial(&id);
                self.dials.remove(&id);
            }
            2 | 3 if self.connections.len() < 32 => {
                let direction = if operation == 2 { Direction::Outbound } else { Direction::Inbound };
                let ticket = self.claims.connected(id, direction);
                let is_proved = direction == Direction::Outbound;
                self.connections.push(Known { ticket, is_proved, is_peer: false, was_refused: false });
            }
            _ if self.connections.is_empty() => {}
            4 | 5 => {
                let known = self.at(place);
                let is_waiting = self.claims.verdict(&self.connections[known].ticket) == Verdict::Wait;
                self.claims.proved(&self.connections[known].ticket);
                self.connections[known].is_proved |= is_waiting;
            }
            6 => self.lose_patience(place),
            7 | 8 => self.admit(place),
            _ => {
                let known = self.at(place);
                let Known { ticket, .. } = self.connections.swap_remove(known);
                self.claims.end(&ticket);
                assert_eq!(self.claims.verdict(&ticket), Verdict::Refuse, "what is over stays over");
            }
        }
    }

    fn at(&self, place: usize) -> usize {
        place % self.connections.len()
    }

    fn lose_patience(&mut self, place: usize) {
        let known = self.at(place);
        let before: Vec<Verdict> = self.connections.iter().map(|known| self.claims.verdict(&known.ticket)).collect();
        self.claims.lose_patience(&self.connections[known].ticket);
        for (known, before) in self.connections.iter_mut().zip(before) {
            // What has lost its turn has to prove the key, or is over.
            let has_lost = before == Verdict::Turn && self.claims.verdict(&known.ticket) == Verdict::Wait;
            known.is_proved &= !has_lost;
            assert!(!has_lost || known.ticket.direction == Direction::Inbound && !known.is_peer);
        }
    }

    fn admit(&mut self, place: usize) {
        let known = self.at(place);
        let ticket = self.connections[known].ticket;
        let may = self.claims.verdict(&ticket) == Verdict::Turn && !self.connections[known].is_peer;
        assert_eq!(self.claims.admit(&ticket), may, "R45: who has its turn becomes a peer, once");
        self.connections[known].is_peer |= may;
        self.peers += usize::from(may);
    }

    fn check(&mut self) {
        assert_eq!(self.claims.dials(), self.dials.len());
        for known in &mut self.connections {
            let is_refused = self.claims.verdict(&known.ticket) == Verdict::Refuse;
            assert!(is_refused || !known.was_refused, "H63: what was refused stays refused");
            assert!(!is_refused || !known.is_peer, "R45: a peer is not given away");
            known.was_refused = is_refused;
        }
        for node in 0..NODES {
            let id = NodeId::from_bytes([2 * node; 32]);
            let own = || self.connections.iter().filter(|known| known.ticket.id == id);
            let count = |verdict| own().filter(|known| self.claims.verdict(&known.ticket) == verdict).count();
            assert!(count(Verdict::Turn) <= 1, "R45: one connection with a node at a time");
            let waits = own().any(|known| known.is_proved && self.claims.verdict(&known.ticket) == Verdict::Wait);
            assert!(!waits || count(Verdict::Turn) == 1, "R45: nobody waits for nothing");
            let comes = |known: &Known| known.ticket.direction == Direction::Inbound && !known.is_peer;
            let is_coming = own().any(|known| comes(known) && !known.was_refused);
            assert_eq!(self.claims.is_coming(&id), is_coming, "R45");
        }
    }
}
