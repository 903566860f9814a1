//! What can be said of a server at a moment.

use super::shared::Shared;
use crate::peer::{ByteRates, PeerStatus, Traffic};

/// A snapshot of a server, from [`Server::status`](crate::Server::status).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Its peers, in the order of their ids.
    pub peers: Vec<PeerStatus>,
    /// How many peers have dialled this node.
    pub inbound: usize,
    /// How many peers this node has dialled.
    pub outbound: usize,
    /// Inbound connections that are being set up.
    pub pending: usize,
    /// Nodes that are being dialled.
    pub dialling: usize,
    /// What has gone over all connections so far, those that are gone included.
    pub traffic: Traffic,
    /// The limits in force for all peers together.
    pub byte_rates: ByteRates,
    /// How many bytes of messages from all peers together may wait for their handlers; see
    /// [`ServerBuilder::receive_budget`](crate::ServerBuilder::receive_budget).
    pub receive_budget: usize,
    /// How many of them are taken, in steps of 16 KiB.
    pub receive_budget_used: usize,
}

impl ServerStatus {
    pub(super) fn of(shared: &Shared) -> Self {
        let load = shared.load();
        let ([inbound, outbound], [pending, dialling]) = (load.peers, load.pending);
        Self {
            peers: shared.peers.all().iter().map(crate::Peer::status).collect(),
            inbound,
            outbound,
            pending,
            dialling,
            traffic: shared.traffic.read(),
            byte_rates: shared.config.shapers.rates(),
            receive_budget: load.budget_limit,
            receive_budget_used: load.budget_used,
        }
    }
}
