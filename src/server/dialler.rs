//! The dial schedule as the tasks of a server share it, and who waits for a dial.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::schedule::{DialLimits, Due, Loss, Purpose, Schedule, Taken};
use crate::node::{Address, NodeAddr, NodeId};
use crate::p2p::DisconnectReason;
use crate::peer::{Ending, Party, Peer, PeerError, Stage};

pub(super) type DialReply = oneshot::Sender<Result<Peer, Ending>>;

pub(super) struct Dialler {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    schedule: Schedule,
    /// Who waits for a node to be dialled.
    asking: HashMap<NodeId, Vec<DialReply>>,
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialler")
    }
}

impl Dialler {
    pub(super) fn new(limits: DialLimits, backoff: Arc<dyn Backoff>, random: fastrand::Rng) -> Self {
        let state = State { schedule: Schedule::new(limits, backoff, random), asking: HashMap::new() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Waits until the schedule may want something else than it did.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes a node that is to be dialled for this purpose.
    pub(super) fn add(&self, node: &NodeAddr, purpose: Purpose) -> Taken {
        self.change(|state, now| state.schedule.add(node, purpose, now))
    }

    /// Takes nodes to be dialled while there is a place, the first of them first. Returns whether any was news.
    pub(super) fn offer(&self, nodes: &[NodeAddr]) -> bool {
        self.change(|state, now| {
            let mut is_news = false;
            for (place, node) in (0..).zip(nodes) {
                // Of those that are due at the same time, the schedule knows no order.
                let due = now + Duration::from_nanos(place);
                is_news |= state.schedule.add(node, Purpose::Dynamic, due) == Taken::Waiting;
            }
            is_news
        })
    }

    /// Takes a node that is to be dialled once, as soon as possible. `reply` is answered when it is a peer or was
    /// dialled in vain; it is given back if neither will be.
    pub(super) fn ask(&self, node: &NodeAddr, reply: DialReply) -> Result<(), Taken> {
        self.change(|state, now| match state.schedule.add(node, Purpose::Asked, now) {
            Taken::Waiting | Taken::Dialling => {
                let asking = state.asking.entry(node.node_id()).or_default();
                asking.retain(|reply| !reply.is_closed());
                asking.push(reply);
                Ok(())
            }
            refused => Err(refused),
        })
    }

    /// The dials to begin now, and when to ask again.
    pub(super) fn poll(&self) -> Due {
        self.lock().schedule.poll(now())
    }

    /// Has one more dynamic node dialled than there are places, if all are taken.
    pub(super) fn rotate(&self) {
        self.change(|state, _| state.schedule.rotate());
    }

    /// The dynamic outbound peers, if they are more than there are places.
    pub(super) fn surplus(&self) -> Vec<NodeId> {
        self.lock().schedule.surplus()
    }

    /// How many further dynamic candidates would be of use.
    pub(super) fn wanted(&self) -> usize {
        self.lock().schedule.wanted(now())
    }

    /// Whether a node is waiting, being dialled, a peer, or rests.
    pub(super) fn knows(&self, id: &NodeId) -> bool {
        self.lock().schedule.knows(id, now())
    }

    pub(super) fn is_persistent(&self, id: &NodeId) -> bool {
        self.lock().schedule.is_persistent(id)
    }

    /// Nobody wants this node any more. Returns whether it was persistent.
    pub(super) fn remove(&self, id: &NodeId) -> bool {
        let (was_persistent, asking) =
            self.change(|state, now| (state.schedule.remove(id, now), state.asking.remove(id)));
        let removed = Ending::new(Stage::Dial, PeerError::Requested(DisconnectReason::Requested));
        answer(asking, &Err(removed));
        was_persistent
    }

    pub(super) fn set_limits(&self, change: impl FnOnce(&mut DialLimits)) {
        self.change(|state, now| {
            let mut limits = state.schedule.limits();
            change(&mut limits);
            state.schedule.set_limits(limits, now);
        });
    }

    /// A dial has reached the node at this address, which is now this peer; none if the dial was a feeler.
    pub(super) fn dial_connected(&self, id: &NodeId, address: &Address, peer: Option<&Peer>) {
        let asking = self.change(|state, now| {
            state.schedule.dial_connected(id, address, now);
            peer.and_then(|_| state.asking.remove(id))
        });
        if let Some(peer) = peer {
            answer(asking, &Ok(peer.clone()));
        }
    }

    /// A dial has ended without a peer, or with the one that there was already. `failed` are the addresses at which
    /// nobody was found.
    pub(super) fn dial_failed(
        &self,
        id: &NodeId,
        purpose: Purpose,
        failed: &[Address],
        outcome: &Result<Peer, Ending>,
    ) {
        let ending = outcome.as_ref().err();
        let has_answered = ending.is_none_or(|ending| ending.stage() > Stage::Dial);
        let asking = self.change(|state, now| {
            state.schedule.dial_failed(id, has_answered, failed, now);
            if ending.is_some_and(|ending| loss(ending) == Loss::Useless) {
                state.schedule.useless(id, now);
            }
            if purpose == Purpose::Feeler { None } else { state.asking.remove(id) }
        });
        answer(asking, outcome);
    }

    /// There is a peer that has dialled this node. `node` has the addresses where it may listen.
    pub(super) fn peer_accepted(&self, node: &NodeAddr, peer: &Peer) {
        let asking = self.change(|state, now| {
            state.schedule.peer_accepted(node, now);
            let is_dialling = state.schedule.is_dialling(&peer.id());
            // A dial under way finds out by itself.
            if is_dialling { None } else { state.asking.remove(&peer.id()) }
        });
        answer(asking, &Ok(peer.clone()));
    }

    /// A peer is gone.
    pub(super) fn peer_dropped(&self, id: &NodeId, lived: Duration, ending: &Ending) {
        self.change(|state, now| state.schedule.peer_dropped(id, lived, loss(ending), now));
    }

    fn change<T>(&self, change: impl FnOnce(&mut State, std::time::Instant) -> T) -> T {
        let changed = change(&mut self.lock(), now());
        self.changed.notify_one();
        changed
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn answer(asking: Option<Vec<DialReply>>, outcome: &Result<Peer, Ending>) {
    for reply in asking.into_iter().flatten() {
        // Who asked may have stopped waiting.
        let _ = reply.send(outcome.clone());
    }
}

/// What the end of a connection means for the next dial.
fn loss(ending: &Ending) -> Loss {
    match ending.reason() {
        Some(DisconnectReason::UselessPeer) => Loss::Useless,
        Some(DisconnectReason::TooManyPeers | DisconnectReason::AlreadyConnected) if ending.by() == Party::Remote => {
            Loss::Refused
        }
        _ => Loss::Ended,
    }
}
