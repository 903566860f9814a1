//! What the connections of a server share.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::access::Bans;
use super::events::{Emitter, Event};
use super::gate::{Gate, Refusal, Ticket};
use super::peer_set::PeerSet;
use crate::metrics::Load;
use crate::node::NodeId;
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
    pub(super) bans: Option<Arc<dyn Bans>>,
}

impl Shared {
    /// Counts what has happened, and tells who listens.
    pub(super) fn emit(&self, event: Event) {
        self.events.emit(&event);
    }

    /// Whether a node that has proved its key, or is to be dialled, is banned.
    pub(super) fn check_ban(&self, id: &NodeId) -> Result<(), PeerError> {
        let now = Instant::now().into_std();
        if self.bans.as_ref().is_some_and(|bans| bans.bans_node(id, now)) { Err(PeerError::Banned) } else { Ok(()) }
    }

    /// Lets an inbound connection in, or tells why not.
    pub(super) fn admit(&self, ip: Option<IpAddr>, now: std::time::Instant) -> Result<Ticket, Refusal> {
        if ip.zip(self.bans.as_ref()).is_some_and(|(ip, bans)| bans.bans_address(ip.to_canonical(), now)) {
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
