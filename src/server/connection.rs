//! The task of a connection: from its setup to the end of the peer that it became.

use std::net::SocketAddr;
use std::sync::Arc;

use super::attempt::Attempt;
use super::dial::Underway;
use super::events::Event;
use super::gate::Ticket;
use super::shared::Shared;
use super::turn::Claim;
use crate::book::Source;
use crate::node::{Address, NodeAddr, PublicKey};
use crate::p2p::DisconnectReason;
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
        Box::pin(run_peer(&shared, set_up, endpoints, Origin::Accepted(attempt))).await
    };
    if let Err(ending) = served.await {
        tracing::debug!(?remote, stage = %ending.stage(), "refused: {ending}");
        shared.emit(Event::Refused { remote_addr: remote.and_then(|address| address.socket_addr()), id, ending });
    }
}

/// Where a connection comes from.
pub(super) enum Origin<'a> {
    Accepted(Box<Attempt>),
    /// At this address.
    Dialled(&'a mut Underway, Address),
}

/// Makes a peer of a connection and runs it to its end. What `origin` waits for is over as soon as it is a peer.
///
/// The error is why it did not become one.
pub(super) async fn run_peer(
    shared: &Arc<Shared>,
    (ready, claim): (Box<Ready>, Claim),
    endpoints: Endpoints,
    origin: Origin<'_>,
) -> Result<(), Ending> {
    let direction = match origin {
        Origin::Accepted(_) => Direction::Inbound,
        Origin::Dialled(..) => Direction::Outbound,
    };
    let listens_at = listening_address(&ready, &endpoints);
    let inner = PeerInner::new(&shared.config, &ready, direction, endpoints, &shared.traffic);
    let peer = Peer::new(inner.clone());
    if let Err(error) = shared.check_ban_of(&peer).and_then(|()| claim.admit(&peer)) {
        return Err(Box::pin(setup::refuse(ready.connection, error)).await);
    }
    let (ticket, dialled) = match origin {
        Origin::Accepted(mut attempt) => (attempt.settle(), None),
        Origin::Dialled(underway, address) => (None, Some((underway, address))),
    };
    let mut membership =
        Membership { shared: shared.clone(), peer: peer.clone(), inner: inner.clone(), ending: None, ticket };
    let driver = Driver::start(&shared.config, ready, inner);
    shared.emit(Event::Added { peer: peer.clone() });
    match dialled {
        Some((underway, address)) => underway.connected(&address, Some(&peer)),
        None => accepted(shared, &peer, listens_at),
    }
    // Who was banned a moment ago was not found among the peers.
    if shared.check_ban_of(&peer).is_err() {
        peer.disconnect(DisconnectReason::UselessPeer);
    }
    let report = &mut |end: HandlerEnd| {
        let (peer, ending) = (membership.peer.clone(), Ending::new(Stage::Session, end.error));
        membership.shared.emit(Event::HandlerEnded { peer, capability: end.capability, ending });
    };
    membership.ending = Some(driver.run(report).await);
    Ok(())
}

/// Where a node that has dialled this one listens, if it has said so: it may not be reachable there.
fn listening_address(ready: &Ready, endpoints: &Endpoints) -> Option<Address> {
    let port = u16::try_from(ready.session.remote().listen_port).ok().filter(|port| *port != 0)?;
    Some(SocketAddr::new(endpoints.remote.as_ref()?.ip()?, port).into())
}

/// Tells those who decide about dials of a peer that has dialled this node.
fn accepted(shared: &Shared, peer: &Peer, listens_at: Option<Address>) {
    let node = NodeAddr::new(*peer.public_key(), listens_at);
    shared.known(|book, now| {
        let ip = peer.remote_address().and_then(Address::ip);
        // What it says of itself may be of no use.
        let _ = book.offer(&node, &Source::Peer { id: peer.id(), ip }, now);
        book.connected(&peer.id(), None, now);
    });
    shared.dialler.peer_accepted(&node, peer);
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
        let claim = self.shared.peers.remove(&self.peer);
        self.shared.dialler.peer_dropped(&self.peer.id(), self.peer.age(), &ending);
        // At the end of a run the book keeps who is connected: they are dialled first in the next.
        let config = &self.shared.config;
        if !(config.shutdown.is_cancelled() || config.abort.is_cancelled()) {
            self.shared.known(|book, now| book.disconnected(&self.peer.id(), now));
        }
        self.ticket = None;
        self.inner.set_ending(ending.clone());
        self.shared.emit(Event::Dropped { peer: self.peer.clone(), ending });
        // Only now may another connection with the node become a peer: everybody hears of this one's end first.
        if let Some(claim) = claim {
            self.shared.peers.unclaim(&claim);
        }
    }
}
