//! The task of a server: it accepts and dials, and owns the tasks of all connections.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::access::Bans;
use super::attempt::{Attempt, Origin, Place};
use super::dial::{self, DialReply, DialRequest};
use super::events::{Emitter, Event};
use super::gate::{Gate, Refusal, Ticket};
use super::peer_set::PeerSet;
use crate::metrics::Load;
use crate::node::{Address, NodeId, PublicKey};
use crate::p2p::DisconnectReason;
use crate::peer::driver::Driver;
use crate::peer::handlers::HandlerEnd;
use crate::peer::setup::{self, Config, Ready};
use crate::peer::{Counters, Direction, Ending, Peer, PeerError, PeerInner, Stage};
use crate::transport::{BoxedListener, BoxedTransport, ByteStream, Endpoints};

/// How long everything may take to end after a shutdown.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// How long connections may take to end by themselves after an abort, which may come when a shutdown has begun.
const ABORT: Duration = Duration::from_millis(100);

/// After an accept that failed, most likely for want of descriptors: five a second.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

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
    fn admit(&self, ip: Option<IpAddr>, now: std::time::Instant) -> Result<Ticket, Refusal> {
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

pub(super) struct Switch {
    pub(super) shared: Arc<Shared>,
    pub(super) listener: Option<BoxedListener>,
    pub(super) requests: mpsc::Receiver<DialRequest>,
    /// Places for dials.
    pub(super) dials: Arc<Semaphore>,
    pub(super) connections: JoinSet<()>,
}

impl Switch {
    /// Runs until the shutdown, and until every connection has ended after it.
    pub(super) async fn run(mut self) {
        let shutdown = self.shared.config.shutdown.clone();
        let mut not_before = None;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = self.connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!("the task of a connection failed: {error}");
                    }
                }
                (permit, request) = next_dial(&self.dials, &mut self.requests) => {
                    let place = Place::Dialled { _permit: permit };
                    let attempt = Attempt::new(self.shared.clone(), Origin::Dialled(request.node.clone()), place);
                    self.connections.spawn(dial::dial(self.shared.clone(), request, attempt));
                }
                accepted = accept(self.listener.as_mut(), not_before) => match accepted {
                    Ok((stream, endpoints)) => self.accepted(stream, endpoints),
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        not_before = Some(Instant::now() + ACCEPT_PAUSE);
                    }
                }
            }
        }
        self.listener = None;
        let abort = self.shared.config.abort.clone();
        let late = async {
            let aborted = async {
                abort.cancelled().await;
                sleep(ABORT).await;
            };
            // It does not matter which.
            let _ = timeout(SHUTDOWN, aborted).await;
        };
        tokio::select! {
            () = async { while self.connections.join_next().await.is_some() {} } => return,
            () = late => {}
        }
        self.connections.shutdown().await;
    }

    fn accepted(&mut self, stream: ByteStream, endpoints: Endpoints) {
        let now = Instant::now().into_std();
        match self.shared.admit(endpoints.remote.as_ref().and_then(Address::ip), now) {
            Ok(ticket) => {
                let place = Place::Accepted(ticket);
                let attempt = Attempt::new(self.shared.clone(), Origin::Accepted(endpoints.remote.clone()), place);
                self.connections.spawn(serve(self.shared.clone(), stream, endpoints, attempt));
            }
            Err(refusal) => {
                drop(stream);
                self.shared.config.meters.closed_unread();
                if let Some(count) = self.shared.gate.tell(now) {
                    let remote_addr = endpoints.remote.as_ref().and_then(Address::socket_addr);
                    tracing::debug!(remote = ?endpoints.remote, count, "closed unread: {refusal}");
                    self.shared.emit(Event::ClosedUnread { remote_addr, refusal, count });
                }
            }
        }
    }
}

async fn next_dial(
    places: &Arc<Semaphore>,
    requests: &mut mpsc::Receiver<DialRequest>,
) -> (OwnedSemaphorePermit, DialRequest) {
    let permit = places.clone().acquire_owned().await;
    match (permit, requests.recv().await) {
        (Ok(permit), Some(request)) => (permit, request),
        // The server is gone, and this task about to be aborted.
        _ => std::future::pending().await,
    }
}

/// Accepts a connection, though not before the time given.
async fn accept(
    listener: Option<&mut BoxedListener>,
    not_before: Option<Instant>,
) -> io::Result<(ByteStream, Endpoints)> {
    if let Some(time) = not_before {
        sleep_until(time).await;
    }
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// An inbound connection, from its first byte to its end.
async fn serve(shared: Arc<Shared>, stream: ByteStream, endpoints: Endpoints, attempt: Box<Attempt>) {
    let mut id = None;
    let remote = endpoints.remote.clone();
    let served = async {
        // Whose key it is, is only a claim yet: what is told now must not depend on it.
        let admit = |key: &PublicKey| {
            id = Some(key.node_id());
            shared.peers.check_unproved()
        };
        // On the heap, and only for as long as it takes: the task stays as long as the peer.
        let ready = Box::pin(setup::accept(&shared.config, stream, admit)).await?;
        // On the heap, and only now: who stays silent does not pay for what a peer needs.
        Box::pin(run_peer(&shared, ready, Direction::Inbound, endpoints, attempt, &mut None)).await
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
    ready: Box<Ready>,
    direction: Direction,
    endpoints: Endpoints,
    mut attempt: Box<Attempt>,
    reply: &mut Option<DialReply>,
) -> Result<(), Ending> {
    let inner = PeerInner::new(&shared.config, &ready, direction, endpoints, &shared.traffic);
    let peer = Peer::new(inner.clone());
    match shared.check_ban(&peer.id()).and_then(|()| shared.peers.insert(&peer)) {
        Ok(None) => {}
        Ok(Some(replaced)) => replaced.disconnect(DisconnectReason::AlreadyConnected),
        Err(error) => return Err(Box::pin(setup::refuse(ready.connection, error)).await),
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
