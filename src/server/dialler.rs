//! The dial schedule as the tasks of a server share it, and who waits for a dial.

use std::collections::{HashMap, HashSet};
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
    /// Nodes that nobody wanted any more while they were being dialled.
    unwanted: HashSet<NodeId>,
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialler")
    }
}

impl Dialler {
    pub(super) fn new(limits: DialLimits, backoff: Arc<dyn Backoff>, random: fastrand::Rng) -> Self {
        let state = State {
            schedule: Schedule::new(limits, backoff, random),
            asking: HashMap::new(),
            unwanted: HashSet::new(),
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Waits until the schedule may want something else than it did.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes a node that is to be dialled for this purpose.
    pub(super) fn add(&self, node: &NodeAddr, purpose: Purpose) -> Taken {
        self.change(|state, now| state.add(node, purpose, now))
    }

    /// Takes nodes to be dialled while there is a place, the first of them first. Returns whether any was news.
    pub(super) fn offer(&self, nodes: &[NodeAddr]) -> bool {
        self.change(|state, now| {
            let waiting = nodes.iter().filter(|node| state.schedule.add(node, Purpose::Dynamic, now) == Taken::Waiting);
            waiting.count() > 0
        })
    }

    /// Takes a node that is to be dialled once, as soon as possible. `reply` is answered when it is a peer or was
    /// dialled in vain; it is given back if neither will be.
    pub(super) fn ask(&self, node: &NodeAddr, reply: DialReply) -> Result<(), Taken> {
        self.change(|state, now| match state.add(node, Purpose::Asked, now) {
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

    /// Nobody wants this node any more, what comes of a dial under way neither. Returns whether somebody did: it was
    /// persistent, or asked for.
    pub(super) fn remove(&self, id: &NodeId) -> bool {
        let (was_persistent, asking) = self.change(|state, now| {
            if state.schedule.is_dialling(id) {
                state.unwanted.insert(*id);
            }
            (state.schedule.remove(id, now), state.asking.remove(id))
        });
        let was_wanted = was_persistent || asking.is_some();
        let removed = Ending::new(Stage::Dial, PeerError::Requested(DisconnectReason::Requested));
        answer(asking, &Err(removed));
        was_wanted
    }

    pub(super) fn set_limits(&self, change: impl FnOnce(&mut DialLimits)) {
        self.change(|state, now| {
            let mut limits = state.schedule.limits();
            change(&mut limits);
            state.schedule.set_limits(limits, now);
        });
    }

    /// A dial has reached the node at this address, which is now this peer; none if the dial was a feeler. Returns whether
    /// it is still wanted.
    pub(super) fn dial_connected(&self, id: &NodeId, address: &Address, peer: Option<&Peer>) -> bool {
        let (asking, is_unwanted) = self.change(|state, now| {
            state.schedule.dial_connected(id, address, now);
            (peer.and_then(|_| state.asking.remove(id)), state.unwanted.remove(id))
        });
        if let Some(peer) = peer {
            answer(asking, &Ok(peer.clone()));
        }
        !is_unwanted
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
            state.unwanted.remove(id);
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
            state.asking.remove(&peer.id())
        });
        answer(asking, &Ok(peer.clone()));
    }

    /// A peer is gone.
    pub(super) fn peer_dropped(&self, id: &NodeId, lived: Duration, ending: &Ending) {
        self.change(|state, now| state.schedule.peer_dropped(id, lived, loss(ending), now));
    }

    /// Has the switch look again, after a change elsewhere that matters to it.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    fn change<T>(&self, change: impl FnOnce(&mut State, std::time::Instant) -> T) -> T {
        let changed = change(&mut self.lock(), now());
        self.wake();
        changed
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, node: &NodeAddr, purpose: Purpose, now: std::time::Instant) -> Taken {
        if matches!(purpose, Purpose::Asked | Purpose::Persistent) {
            self.unwanted.remove(&node.node_id());
        }
        self.schedule.add(node, purpose, now)
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
