//! What the connections of a server share.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::access::Mark;
use super::dialler::Dialler;
use super::events::{Emitter, Event};
use super::gate::{Gate, Refusal, Ticket};
use super::peer_set::PeerSet;
use crate::book::{AddressBook, SharedBook};
use crate::metrics::Load;
use crate::node::{Address, NodeAddr, NodeId};
use crate::peer::setup::Config;
use crate::peer::{Counters, Peer, PeerError};
use crate::transport::BoxedTransport;

/// What the connections of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) peers: PeerSet,
    /// At least one, the preferred ones first.
    pub(super) transports: Vec<BoxedTransport>,
    pub(super) events: Emitter,
    pub(super) traffic: Counters,
    /// Lets inbound connections in.
    pub(super) gate: Arc<Gate>,
    /// Decides when which node is dialled.
    pub(super) dialler: Dialler,
    pub(super) book: SharedBook,
    /// Whether nodes are looked for, and what is learnt of them is noted.
    pub(super) keeps_book: bool,
    /// One order at a time of which nodes are persistent or trusted: all who know of it are told in the same order.
    pub(super) orders: Mutex<()>,
    /// Where it listens.
    pub(super) local_address: Mutex<Option<Address>>,
}

impl Shared {
    /// Counts what has happened, and tells who listens.
    pub(super) fn emit(&self, event: Event) {
        self.events.emit(&event);
    }

    /// Notes in the book what was learnt of a node.
    pub(super) fn known(&self, note: impl FnOnce(&mut AddressBook, SystemTime)) {
        if self.keeps_book {
            self.book.with(note);
        }
    }

    /// Whether a node that is to be dialled is banned.
    pub(super) fn check_ban(&self, id: &NodeId) -> Result<(), PeerError> {
        if self.book.with(|book, now| book.is_banned(id, now)) { Err(PeerError::Banned) } else { Ok(()) }
    }

    /// Whether a peer, or what is about to be one, is banned, or the network of its address.
    pub(super) fn check_ban_of(&self, peer: &Peer) -> Result<(), PeerError> {
        self.check_ban(&peer.id())?;
        if peer.remote_address().is_some_and(|address| self.is_banned_at(address)) {
            return Err(PeerError::Banned);
        }
        Ok(())
    }

    /// Whether an address is of a banned network.
    pub(super) fn is_banned_at(&self, address: &Address) -> bool {
        address.ip().is_some_and(|ip| self.is_banned_ip(ip))
    }

    fn is_banned_ip(&self, ip: IpAddr) -> bool {
        self.book.with(|book, now| book.is_banned_ip(ip.to_canonical(), now))
    }

    /// Lets an inbound connection in, or tells why not.
    pub(super) fn admit(&self, ip: Option<IpAddr>, now: Instant) -> Result<Ticket, Refusal> {
        if ip.is_some_and(|ip| self.is_banned_ip(ip)) {
            return Err(Refusal::Banned);
        }
        self.gate.admit(ip, now)
    }

    /// Marks a node, whose addresses have no limits of their own from now on.
    pub(super) fn mark(&self, mark: Mark, node: &NodeAddr) {
        self.gate.set_exempt(self.peers.mark(mark, node));
    }

    /// Takes a mark away; whether the node had it.
    pub(super) fn unmark(&self, mark: Mark, id: &NodeId) -> bool {
        let exempt = self.peers.unmark(mark, id);
        let was_marked = exempt.is_some();
        if let Some(exempt) = exempt {
            self.gate.set_exempt(exempt);
        }
        was_marked
    }

    /// Waits for its turn to give orders. Nothing is guarded that a panic could leave in disorder.
    pub(super) fn order(&self) -> MutexGuard<'_, ()> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn load(&self) -> Load {
        let (peers, dialling) = self.peers.count();
        let budget = &self.config.budget;
        Load {
            peers,
            pending: [self.gate.pending(), dialling],
            budget_used: budget.used(),
            budget_limit: budget.limit(),
        }
    }
}
