//! One dial: from the addresses of a node to a peer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::connection::run_peer;
use super::events::Event;
use super::shared::Shared;
use super::turn::Claim;
use crate::node::{Address, NodeAddr, NodeId};
use crate::p2p::{DisconnectReason, SessionError};
use crate::peer::setup::{self, Ready, within};
use crate::peer::{Direction, Ending, FailedAttempt, Peer, PeerError, Stage};
use crate::rlpx::HandshakeError;
use crate::transport::{BoxedTransport, Endpoints};

/// So many ways to a node are tried, so that each has a share of the time that is worth something.
const MAX_WAYS: usize = 16;

pub(super) type DialReply = oneshot::Sender<Result<Peer, Ending>>;

/// A node to be dialled, and who wants to know.
#[derive(Debug)]
pub(super) struct DialRequest {
    pub(super) node: NodeAddr,
    pub(super) reply: Option<DialReply>,
}

/// Dials, and runs the peer to its end. `attempt` is over when the dial is.
pub(super) async fn dial(shared: Arc<Shared>, request: DialRequest, attempt: Box<Attempt>) {
    let DialRequest { node, mut reply } = request;
    let Err(ending) = dial_and_run(&shared, &node, attempt, &mut reply).await else { return };
    if says_connected(&ending)
        && let Some(peer) = shared.peers.find(&node.node_id())
    {
        // It has dialled this node meanwhile.
        shared.config.meters.ends.dials_met.fetch_add(1, Ordering::Relaxed);
        if let Some(reply) = reply {
            let _ = reply.send(Ok(peer));
        }
        return;
    }
    tracing::debug!(%node, stage = %ending.stage(), "dial failed: {ending}");
    if let Some(reply) = reply {
        // Who dialled may have stopped waiting.
        let _ = reply.send(Err(ending.clone()));
    }
    shared.emit(Event::DialFailed { node, ending });
}

fn says_connected(ending: &Ending) -> bool {
    let disconnected = SessionError::Disconnected(Some(DisconnectReason::AlreadyConnected));
    match ending.error() {
        PeerError::AlreadyConnected => true,
        PeerError::Session(error) => *error == disconnected,
        _ => false,
    }
}

async fn dial_and_run(
    shared: &Arc<Shared>,
    node: &NodeAddr,
    attempt: Box<Attempt>,
    reply: &mut Option<DialReply>,
) -> Result<(), Ending> {
    let failed = |error| Ending::new(Stage::Dial, error);
    if node.public_key == shared.config.public_key {
        return Err(failed(HandshakeError::ConnectedToSelf.into()));
    }
    let dialling = Dialling::begin(shared, node.node_id()).map_err(failed)?;
    // On the heap, and only for as long as it takes: the task stays as long as the peer.
    let reached = Box::pin(reach(shared, node)).await;
    if let Err(ending) = &reached
        && says_connected(ending)
    {
        // The other end may have refused this connection for one that it has dialled.
        let settled = async {
            shared.peers.settled(&node.node_id()).await;
            Ok(())
        };
        // If it takes too long, nothing has come of it.
        let _ = within(&shared.config, Stage::Hello, shared.config.timeouts.hello, settled).await;
    }
    drop(dialling);
    let (set_up, endpoints) = reached?;
    run_peer(shared, set_up, Direction::Outbound, endpoints, attempt, reply).await
}

/// Tries the addresses of a node in turn, until it answers at one of them: an address may be out of date, and what is
/// there another node.
async fn reach(shared: &Arc<Shared>, node: &NodeAddr) -> Result<((Box<Ready>, Claim), Endpoints), Ending> {
    let (ways, mut left) = (ways(&shared.transports, &node.addresses)?, shared.config.timeouts.dial);
    let mut attempts = Vec::new();
    for (place, (address, transport)) in ways.iter().enumerate() {
        let (begin, limit) = (Instant::now(), left.div_f64((ways.len() - place) as f64));
        let dialled = within(&shared.config, Stage::Dial, limit, transport.dial(address, limit)).await;
        left = left.saturating_sub(begin.elapsed());
        let reached = match dialled {
            Ok((stream, endpoints)) => {
                let claim = || Claim::new(shared, node.node_id(), Direction::Outbound);
                let set_up = setup::initiate(&shared.config, stream, node.public_key, claim).await;
                set_up.map(|set_up| (set_up, endpoints))
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
    fn begin(shared: &Arc<Shared>, id: NodeId) -> Result<Self, PeerError> {
        shared.check_ban(&id)?;
        shared.peers.begin_dial(id)?;
        Ok(Self { shared: shared.clone(), id })
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.shared.peers.end_dial(&self.id);
    }
}
