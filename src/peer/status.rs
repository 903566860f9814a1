//! What can be said of a peer at a moment.

use std::net::SocketAddr;
use std::sync::Weak;
use std::time::Duration;

use super::{ByteRates, Direction, Peer, SetupTimes, Traffic, TrafficRates};
use crate::node::NodeId;
use crate::p2p::{Capability, ClientId, RoundTrip};

/// A snapshot of a connection, from [`Peer::status`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PeerStatus {
    /// The id of the node.
    pub id: NodeId,
    /// What the node calls itself.
    pub client_id: ClientId,
    /// The version of `p2p` that the node speaks.
    pub p2p_version: u64,
    /// Everything that the node offers.
    pub capabilities: Vec<Capability>,
    /// What the connection runs over, as [`Peer::transport`].
    pub transport: &'static str,
    /// Who dialled.
    pub direction: Direction,
    /// The other end's address; `None` where the transport has none.
    pub remote_addr: Option<SocketAddr>,
    /// This end's address, likewise.
    pub local_addr: Option<SocketAddr>,
    /// How long it took to set the connection up.
    pub setup_times: SetupTimes,
    /// How long it has been a peer.
    pub age: Duration,
    /// What has gone over it so far.
    pub traffic: Traffic,
    /// The same for each second since it became a peer. [`Traffic::rates_since`] has that of less time.
    pub rates: TrafficRates,
    /// The limits in force for this connection.
    pub byte_rates: ByteRates,
    /// Round-trip times, if there is one yet.
    pub round_trip: Option<RoundTrip>,
    /// Pongs that have come and nobody asked for.
    pub unsolicited_pongs: u64,
    /// Messages that were accepted and are not written yet.
    pub unsent_messages: u64,
    /// The protocols that run.
    pub protocols: Vec<ProtocolStatus>,
}

/// A snapshot of one protocol with one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtocolStatus {
    /// Its name and version.
    pub capability: Capability,
    /// What the protocol itself says.
    pub state: ProtocolState,
    /// Messages that wait for the handler.
    pub inbox_messages: usize,
    /// Their size, in bytes.
    pub inbox_bytes: usize,
    /// Messages that wait to be written.
    pub queue_messages: usize,
    /// Their size, in bytes.
    pub queue_bytes: usize,
    /// Copies of broadcasts that were not sent, because there was no place in the queue.
    pub lagged: u64,
}

/// What a protocol says of one of its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolState {
    /// The protocol has no [`peer_info`](crate::Protocol::peer_info).
    Running,
    /// Its handler has not finished its own handshake: `peer_info` has nothing to tell.
    Handshake,
    /// What `peer_info` told.
    Info(String),
}

impl std::fmt::Display for ProtocolState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Handshake => f.write_str("handshake"),
            Self::Info(info) => f.write_str(info),
        }
    }
}

impl PeerStatus {
    pub(super) fn of(peer: &Peer) -> Self {
        let outbox = peer.inner.links.get().and_then(|links| links.outbox.upgrade());
        let (age, traffic) = (peer.inner.since.elapsed(), peer.traffic());
        Self {
            id: peer.id(),
            client_id: peer.client_id().clone(),
            p2p_version: peer.p2p_version(),
            capabilities: peer.capabilities().to_vec(),
            transport: peer.transport(),
            direction: peer.direction(),
            remote_addr: peer.remote_addr(),
            local_addr: peer.local_addr(),
            setup_times: peer.setup_times(),
            age,
            traffic,
            rates: traffic.rates_since(&Traffic::default(), age),
            byte_rates: peer.byte_rates(),
            round_trip: peer.round_trip(),
            unsolicited_pongs: peer.unsolicited_pongs(),
            unsent_messages: outbox.map_or(0, |outbox| outbox.unsent()),
            protocols: (0..peer.inner.shared.len()).map(|place| protocol_status(peer, place)).collect(),
        }
    }
}

fn protocol_status(peer: &Peer, place: usize) -> ProtocolStatus {
    let links = peer.inner.links.get();
    let inbox = links.and_then(|links| links.inboxes[place].upgrade());
    let outbox = links.map_or_else(Weak::new, |links| links.outbox.clone()).upgrade();
    let (inbox_messages, inbox_bytes) = inbox.map_or((0, 0), |inbox| inbox.load());
    let (queue_messages, queue_bytes) = outbox.as_ref().map_or((0, 0), |outbox| outbox.load(place));
    ProtocolStatus {
        capability: peer.inner.shared[place].clone(),
        state: peer.inner.protocols[place].state_of(peer),
        inbox_messages,
        inbox_bytes,
        queue_messages,
        queue_bytes,
        lagged: outbox.map_or(0, |outbox| outbox.lagged(place)),
    }
}
