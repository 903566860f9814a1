//! The task of a connection: from its setup to the end of the peer that it became.

use std::sync::Arc;

use super::attempt::Attempt;
use super::dial::DialReply;
use super::events::Event;
use super::gate::Ticket;
use super::shared::Shared;
use super::turn::Claim;
use crate::node::PublicKey;
use crate::peer::driver::Driver;
use crate::peer::handlers::HandlerEnd;
use crate::peer::setup::{self, Ready};
use crate::peer::{Direction, Ending, Peer, PeerInner, Stage};
use crate::transport::{ByteStream, Endpoints};

/// An inbound connection, from its first byte to its end.
pub(super) async fn serve(shared: Arc<Shared>, stream: ByteStream, endpoints: Endpoints, attempt: Box<Attempt>) {
    let mut id = None;
    let remote = endpoints.remote.clone();
    let served = async {
        // Whose key it is, is only a claim yet: what is told now must not depend on it.
        let admit = |key: &PublicKey| {
            id = Some(key.node_id());
            shared.peers.check_unproved()?;
            Ok(Claim::new(&shared, key.node_id(), Direction::Inbound))
        };
        // On the heap, and only for as long as it takes: the task stays as long as the peer.
        let set_up = Box::pin(setup::accept(&shared.config, stream, admit)).await?;
        // On the heap, and only now: who stays silent does not pay for what a peer needs.
        Box::pin(run_peer(&shared, set_up, Direction::Inbound, endpoints, attempt, &mut None)).await
    };
    if let Err(ending) = served.await {
        tracing::debug!(?remote, stage = %ending.stage(), "refused: {ending}");
        shared.emit(Event::Refused { remote_addr: remote.and_then(|address| address.socket_addr()), id, ending });
    }
}

/// Makes a peer of a connection and runs it to its end. `attempt` is over as soon as it is a peer.
///
/// The error is why it did not become one; `reply` is answered only if it did.
pub(super) async fn run_peer(
    shared: &Arc<Shared>,
    (ready, claim): (Box<Ready>, Claim),
    direction: Direction,
    endpoints: Endpoints,
    mut attempt: Box<Attempt>,
    reply: &mut Option<DialReply>,
) -> Result<(), Ending> {
    let inner = PeerInner::new(&shared.config, &ready, direction, endpoints, &shared.traffic);
    let peer = Peer::new(inner.clone());
    if let Err(error) = shared.check_ban(&peer.id()).and_then(|()| claim.admit(&peer)) {
        return Err(Box::pin(setup::refuse(ready.connection, error)).await);
    }
    let ticket = attempt.settle();
    drop(attempt);
    let mut membership =
        Membership { shared: shared.clone(), peer: peer.clone(), inner: inner.clone(), ending: None, ticket };
    let driver = Driver::start(&shared.config, ready, inner);
    shared.emit(Event::Added { peer: peer.clone() });
    if let Some(reply) = reply.take() {
        // Who dialled may have stopped waiting.
        let _ = reply.send(Ok(peer));
    }
    let report = &mut |end: HandlerEnd| {
        let (peer, ending) = (membership.peer.clone(), Ending::new(Stage::Session, end.error));
        membership.shared.emit(Event::HandlerEnded { peer, capability: end.capability, ending });
    };
    membership.ending = Some(driver.run(report).await);
    Ok(())
}

/// A peer's place in the set. When it is dropped, after the last task of the peer, the peer is gone and everybody is
/// told: also when the task that held it panicked or was aborted.
struct Membership {
    shared: Arc<Shared>,
    peer: Peer,
    inner: Arc<PeerInner>,
    ending: Option<Ending>,
    /// Of an inbound peer: its place among those from its address.
    ticket: Option<Ticket>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let ending = self.ending.take().unwrap_or_else(|| self.inner.abandoned());
        self.shared.peers.remove(&self.peer);
        self.ticket = None;
        self.inner.set_ending(ending.clone());
        self.shared.emit(Event::Dropped { peer: self.peer.clone(), ending });
    }
}
