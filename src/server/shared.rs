//! What the connections of a server share.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use super::dialler::Dialler;
use super::events::{Emitter, Event};
use super::gate::{Gate, Refusal, Ticket};
use super::peer_set::PeerSet;
use crate::book::{AddressBook, SharedBook};
use crate::metrics::Load;
use crate::node::{Address, NodeId};
use crate::peer::setup::Config;
use crate::peer::{Counters, PeerError};
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

    /// Whether a node that has proved its key, or is to be dialled, is banned.
    pub(super) fn check_ban(&self, id: &NodeId) -> Result<(), PeerError> {
        if self.book.with(|book, now| book.is_banned(id, now)) { Err(PeerError::Banned) } else { Ok(()) }
    }

    /// Lets an inbound connection in, or tells why not.
    pub(super) fn admit(&self, ip: Option<IpAddr>, now: Instant) -> Result<Ticket, Refusal> {
        if ip.is_some_and(|ip| self.book.with(|book, now| book.is_banned_ip(ip.to_canonical(), now))) {
            return Err(Refusal::Banned);
        }
        self.gate.admit(ip, now)
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
