//! One dial: from a name or address to a peer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::attempt::Attempt;
use super::events::Event;
use super::switch::{Shared, addresses, run_peer};
use crate::node::{Enode, NodeId};
use crate::p2p::{DisconnectReason, SessionError};
use crate::peer::setup::{self, within};
use crate::peer::{Direction, Ending, Peer, PeerError, Stage};
use crate::rlpx::HandshakeError;
use crate::transport::connect_tcp;

pub(super) type DialReply = oneshot::Sender<Result<Peer, Ending>>;

/// A node to be dialled, and who wants to know.
#[derive(Debug)]
pub(super) struct DialRequest {
    pub(super) enode: Enode,
    pub(super) reply: Option<DialReply>,
}

/// Dials, and runs the peer to its end. `attempt` is over when the dial is.
pub(super) async fn dial(shared: Arc<Shared>, request: DialRequest, attempt: Box<Attempt>) {
    let DialRequest { enode, mut reply } = request;
    let Err(ending) = dial_and_run(&shared, &enode, attempt, &mut reply).await else { return };
    if says_connected(&ending)
        && let Some(peer) = shared.peers.find(&enode.node_id())
    {
        // It has dialled this node meanwhile.
        shared.config.meters.ends.dials_met.fetch_add(1, Ordering::Relaxed);
        if let Some(reply) = reply {
            let _ = reply.send(Ok(peer));
        }
        return;
    }
    tracing::debug!(%enode, stage = %ending.stage(), "dial failed: {ending}");
    if let Some(reply) = reply {
        // Who dialled may have stopped waiting.
        let _ = reply.send(Err(ending.clone()));
    }
    shared.emit(Event::DialFailed { enode, ending });
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
    enode: &Enode,
    attempt: Box<Attempt>,
    reply: &mut Option<DialReply>,
) -> Result<(), Ending> {
    let failed = |error| Ending::new(Stage::Dial, error);
    if enode.public_key == shared.config.public_key {
        return Err(failed(HandshakeError::ConnectedToSelf.into()));
    }
    let dialling = Dialling::begin(shared, enode.node_id()).map_err(failed)?;
    let limit = shared.config.timeouts.dial;
    // On the heap, and only for as long as it takes: the task stays as long as the peer.
    let stream = Box::pin(within(&shared.config, Stage::Dial, limit, connect_tcp(enode, limit))).await?;
    let addresses = addresses(&stream).map_err(|error| failed(PeerError::Io(error)))?;
    let ready = Box::pin(setup::initiate(&shared.config, stream, enode.public_key)).await?;
    drop(dialling);
    run_peer(shared, ready, Direction::Outbound, addresses, attempt, reply).await
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
