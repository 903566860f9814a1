//! One dial: from the addresses of a node to a peer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::connection::{Origin, run_peer};
use super::events::Event;
use super::schedule::{Dial, Purpose};
use super::shared::Shared;
use super::turn::Claim;
use crate::book::Source;
use crate::node::{Address, NodeAddr, NodeId};
use crate::p2p::{DisconnectReason, SessionError};
use crate::peer::setup::{self, Ready, within};
use crate::peer::{Direction, Ending, FailedAttempt, Party, Peer, PeerError, Stage};
use crate::rlpx::HandshakeError;
use crate::transport::{BoxedTransport, Endpoints};

/// So many ways to a node are tried, so that each has a share of the time that is worth something.
const MAX_WAYS: usize = 16;

/// Dials, and runs the peer to its end.
pub(super) async fn dial(shared: Arc<Shared>, dial: Dial) {
    let mut underway = Underway { shared, dial: Some(dial) };
    if let Err(ending) = dial_and_run(&mut underway).await {
        underway.failed(ending);
    }
}

/// A dial that the schedule waits for. If it is dropped because its task panics or is aborted, it has failed.
pub(super) struct Underway {
    shared: Arc<Shared>,
    dial: Option<Dial>,
}

impl Underway {
    /// It has led to the node at this address, which is this peer; none if it was a feeler.
    pub(super) fn connected(&mut self, address: &Address, peer: Option<&Peer>) {
        let Some(dial) = self.dial.take() else { return };
        self.shared.known(|book, now| {
            if matches!(dial.purpose, Purpose::Asked | Purpose::Persistent) {
                // The application's own nodes may be new to the book, and may not fit into it.
                let _ = book.offer(&dial.node, &Source::Local, now);
            }
            book.connected(&dial.id, Some(address), now);
            if peer.is_none() {
                book.disconnected(&dial.id, now);
            }
        });
        let is_wanted = self.shared.dialler.dial_connected(&dial.id, address, peer);
        match peer {
            Some(peer) if !is_wanted => peer.disconnect(DisconnectReason::Requested),
            Some(peer) if dial.purpose == Purpose::Dynamic => self.make_room(peer),
            _ => {}
        }
    }

    /// A peer that was dialled though all places were taken takes the place of the youngest: what has lasted stays.
    fn make_room(&self, newcomer: &Peer) {
        let surplus = self.shared.dialler.surplus();
        if let Some(youngest) = self.shared.peers.youngest(&surplus, newcomer) {
            youngest.disconnect(DisconnectReason::TooManyPeers);
        }
    }

    fn failed(&mut self, ending: Ending) {
        let Some(dial) = self.dial.take() else { return };
        let Dial { id, node, purpose } = dial;
        if says_connected(&ending)
            && let Some(peer) = self.shared.peers.find(&id)
        {
            // It has dialled this node meanwhile.
            self.shared.config.meters.ends.dials_met.fetch_add(1, Ordering::Relaxed);
            self.shared.dialler.dial_failed(&id, purpose, &[], &Ok(peer));
            return;
        }
        tracing::debug!(%node, stage = %ending.stage(), "dial failed: {ending}");
        let failed = failed_addresses(&node, &ending);
        if !is_of_this_end(&ending) {
            self.shared.known(|book, now| {
                book.failed(&id, now);
            });
        }
        let outcome = Err(ending);
        self.shared.dialler.dial_failed(&id, purpose, failed, &outcome);
        if let Err(ending) = outcome {
            self.shared.emit(Event::DialFailed { node, ending });
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let error = if std::thread::panicking() { PeerError::Internal } else { PeerError::ShuttingDown };
        self.failed(Ending::new(Stage::Dial, error));
    }
}

/// The addresses at which nobody was found.
fn failed_addresses<'a>(node: &'a NodeAddr, ending: &Ending) -> &'a [Address] {
    if ending.stage() == Stage::Dial && ending.by() == Party::Network { &node.addresses } else { &[] }
}

/// Whether a dial failed for a reason that tells nothing of the node.
fn is_of_this_end(ending: &Ending) -> bool {
    use PeerError::{Aborted, AlreadyConnected, Banned, Internal, NotAllowed, ShuttingDown, TooManyPeers};
    let error = ending.error();
    matches!(error, Aborted | AlreadyConnected | Banned | Internal | NotAllowed | ShuttingDown | TooManyPeers { .. })
}

fn says_connected(ending: &Ending) -> bool {
    let disconnected = SessionError::Disconnected(Some(DisconnectReason::AlreadyConnected));
    match ending.error() {
        PeerError::AlreadyConnected => true,
        PeerError::Session(error) => *error == disconnected,
        _ => false,
    }
}

async fn dial_and_run(underway: &mut Underway) -> Result<(), Ending> {
    let (shared, dial) = (underway.shared.clone(), underway.dial.clone());
    let Some(Dial { id, node, purpose }) = dial else { return Ok(()) };
    let failed = |error| Ending::new(Stage::Dial, error);
    if node.public_key == shared.config.public_key {
        return Err(failed(HandshakeError::ConnectedToSelf.into()));
    }
    let dialling = Dialling::begin(&shared, id, purpose).map_err(failed)?;
    shared.known(|book, now| {
        book.tried(&id, now);
    });
    // On the heap, and only for as long as it takes: the task stays as long as the peer.
    let reached = Box::pin(reach(&shared, &node)).await;
    if let Err(ending) = &reached
        && says_connected(ending)
    {
        // The other end may have refused this connection for one that it has dialled.
        let settled = async {
            shared.peers.settled(&id).await;
            Ok(())
        };
        // If it takes too long, nothing has come of it.
        let _ = within(&shared.config, Stage::Hello, shared.config.timeouts.hello, settled).await;
    }
    drop(dialling);
    let (set_up, endpoints, address) = reached?;
    if purpose == Purpose::Feeler {
        underway.connected(&address, None);
        let (ready, _claim) = set_up;
        Box::pin(setup::refuse(ready.connection, PeerError::Requested(DisconnectReason::ClientQuitting))).await;
        return Ok(());
    }
    run_peer(&shared, set_up, endpoints, Origin::Dialled(underway, address)).await
}

/// Tries the addresses of a node in turn, until it answers at one of them: an address may be out of date, and what is
/// there another node.
async fn reach(shared: &Arc<Shared>, node: &NodeAddr) -> Result<((Box<Ready>, Claim), Endpoints, Address), Ending> {
    let addresses: Vec<_> = node.addresses.iter().filter(|address| !shared.is_banned_at(address)).cloned().collect();
    if addresses.is_empty() && !node.addresses.is_empty() {
        return Err(Ending::new(Stage::Dial, PeerError::Banned));
    }
    let (ways, mut left) = (ways(&shared.transports, &addresses)?, shared.config.timeouts.dial);
    let mut attempts = Vec::new();
    for (place, (address, transport)) in ways.iter().enumerate() {
        let (begin, limit) = (Instant::now(), left.div_f64((ways.len() - place) as f64));
        let dialled = within(&shared.config, Stage::Dial, limit, transport.dial(address, limit)).await;
        left = left.saturating_sub(begin.elapsed());
        let reached = match dialled {
            Ok((stream, endpoints)) => {
                let claim = || Claim::new(shared, node.node_id(), Direction::Outbound);
                let set_up = setup::initiate(&shared.config, stream, node.public_key, claim).await;
                set_up.map(|set_up| (set_up, endpoints, (*address).clone()))
            }
            Err(ending) => Err(ending),
        };
        match reached {
            Err(ending) if ways.len() > 1 && is_elsewhere(&ending) => {
                tracing::debug!(%address, transport = transport.name(), "one of several ways failed: {ending}");
                attempts.push(FailedAttempt::new(transport.name(), address, ending));
            }
            reached => return reached,
        }
    }
    let stage = attempts.iter().map(|attempt| attempt.ending.stage()).max().unwrap_or(Stage::Dial);
    Err(Ending::new(stage, PeerError::Unreachable { attempts }))
}

/// The ways to a node, at least one: every address with the transport that is for it, then the fallbacks.
fn ways<'a>(
    transports: &'a [BoxedTransport],
    addresses: &'a [Address],
) -> Result<Vec<(&'a Address, &'a BoxedTransport)>, Ending> {
    let fitting = |address, rank| transports.iter().filter(|transport| transport.can_dial(address)).nth(rank);
    let ranked = |rank| addresses.iter().filter_map(move |address| Some((address, fitting(address, rank)?)));
    let ways: Vec<_> = (0..transports.len()).flat_map(ranked).take(MAX_WAYS).collect();
    match addresses.first() {
        Some(_) if !ways.is_empty() => Ok(ways),
        Some(address) => Err(Ending::new(Stage::Dial, PeerError::NoTransport { address: address.clone() })),
        None => Err(Ending::new(Stage::Dial, PeerError::NoAddress)),
    }
}

/// Whether the node may be found elsewhere. A node that has proved who it is has been found, whatever it says then.
fn is_elsewhere(ending: &Ending) -> bool {
    ending.stage() < Stage::Hello && !matches!(ending.error(), PeerError::ShuttingDown | PeerError::Aborted)
}

/// Marks a node as being dialled.
struct Dialling {
    shared: Arc<Shared>,
    id: NodeId,
}

impl Dialling {
    fn begin(shared: &Arc<Shared>, id: NodeId, purpose: Purpose) -> Result<Self, PeerError> {
        shared.check_ban(&id)?;
        shared.peers.begin_dial(id, purpose == Purpose::Feeler)?;
        Ok(Self { shared: shared.clone(), id })
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.shared.peers.end_dial(&self.id);
    }
}
