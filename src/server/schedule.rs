//! When which node is dialled: candidates, results and the time in; what to dial and when to wake out.
//!
//! It is pure: the switch opens the connections and tells what came of them. Each id is at most once waiting, being
//! dialled, or a peer. What waits is ordered by time; of what is due begins first what the application has asked for,
//! then persistent peers, then dynamic ones, then feelers. Persistent peers are kept and redialled until they are
//! removed, past the limit of outbound peers. What is not asked for by the application begins a short random time after
//! what has begun before, so that a machine that wakes after hours does not dial everybody at once.

mod history;
mod node;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use crate::node::{Address, NodeAddr, NodeId};
use crate::p2p::MAX_TIMEOUT;
use crate::peer::Direction;
use history::History;
use node::Node;
pub(crate) use node::Purpose;

/// For how long a node that has answered over TCP is not redialled.
pub(crate) const REST: Duration = Duration::from_secs(35);

/// For how long a dynamic peer that shares no capability is not redialled.
const USELESS_REST: Duration = Duration::from_secs(3600);

/// How long a connection must have lasted for the backoff to begin anew.
const STABLE: Duration = Duration::from_secs(60);

/// The shortest time between two dials to a node, whatever the backoff says.
const SHORTEST: Duration = Duration::from_millis(100);

/// The time between two dials to a node when the backoff panics.
const FALLBACK: Duration = Duration::from_secs(60);

/// The longest time between two dials that begin by themselves; the mean is half of it.
const PACE: Duration = Duration::from_millis(50);

/// How many candidates are asked for, for each free place.
const CANDIDATES_PER_PLACE: usize = 2;

/// How many feelers there are at once.
const MAX_FEELERS: usize = 1;

/// How much the schedule may take on. It can change at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DialLimits {
    /// Dials at once.
    pub(crate) dials: usize,
    /// Dynamic outbound peers, those that are being dialled included.
    pub(crate) outbound: usize,
    /// For each purpose, how many nodes wait to be dialled; of persistent ones, how many there are.
    pub(crate) waiting: usize,
}

impl Default for DialLimits {
    fn default() -> Self {
        Self { dials: 16, outbound: 16, waiting: 1000 }
    }
}

/// A dial to begin now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dial {
    pub(crate) id: NodeId,
    /// The addresses are to be tried in turn.
    pub(crate) node: NodeAddr,
    pub(crate) purpose: Purpose,
}

/// What [`Schedule::poll`] says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) dials: Vec<Dial>,
    /// When to ask again, if nothing happens until then; `None` when there is nothing to wait for.
    pub(crate) wake: Option<Instant>,
}

/// What becomes of a node that is to be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It waits until it is due.
    Waiting,
    /// It is being dialled already; whoever asks can wait for that dial.
    Dialling,
    /// It is a peer already.
    Connected,
    /// It has been dialled, or was useless, a moment ago.
    Resting,
    /// As many nodes wait as may.
    Full,
}

/// How a peer was lost, as far as it matters for the next dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The other end has said 0x04 (too many peers) or 0x05 (already connected).
    Refused,
    /// No capability is shared.
    Useless,
    /// Anything else.
    Ended,
}

/// The dial schedule.
#[derive(Debug)]
pub(crate) struct Schedule {
    limits: DialLimits,
    backoff: Arc<dyn Backoff>,
    random: fastrand::Rng,
    nodes: HashMap<NodeId, Node>,
    /// Nodes that wait, for each purpose by the time at which they are due, and among equals in the order in which they came.
    queues: [BTreeSet<(Instant, u64, NodeId)>; 4],
    /// How many have come so far.
    came: u64,
    /// Dials under way, for each purpose.
    dialling: [usize; 4],
    /// Places of outbound peers that are taken.
    outbound: usize,
    persistent: usize,
    history: History,
    /// When the next dial may begin that nobody has asked for.
    next_start: Option<Instant>,
    /// Whether one node may be dialled above the limit of outbound peers, to take the place of another.
    is_rotating: bool,
}

impl Schedule {
    /// An empty schedule.
    pub(crate) fn new(limits: DialLimits, backoff: Arc<dyn Backoff>, random: fastrand::Rng) -> Self {
        Self {
            limits,
            backoff,
            random,
            nodes: HashMap::new(),
            queues: Default::default(),
            came: 0,
            dialling: [0; 4],
            outbound: 0,
            persistent: 0,
            history: History::default(),
            next_start: None,
            is_rotating: false,
        }
    }

    /// The dials to begin now, each of which has to be answered with [`Schedule::dial_connected`] or
    /// [`Schedule::dial_failed`].
    pub(crate) fn poll(&mut self, now: Instant) -> Due {
        // It cannot be further ahead, unless the clock was set back.
        self.next_start = self.next_start.map(|next| next.min(now + PACE)).filter(|next| *next > now);
        let mut due = Due::default();
        while let Some((start, purpose)) = self.next(now) {
            if start > now {
                due.wake = Some(start);
                break;
            }
            due.dials.extend(self.begin(purpose, now));
        }
        due
    }

    /// How many further dynamic candidates would be of use now.
    pub(crate) fn wanted(&self, now: Instant) -> usize {
        let free = self.places().saturating_sub(self.outbound);
        let useful = free.saturating_mul(CANDIDATES_PER_PLACE).min(self.limits.waiting);
        let soon = after(now, SHORTEST);
        let ready = self.queues[Purpose::Dynamic as usize].iter().take(useful).take_while(|(due, ..)| *due <= soon);
        useful - ready.count()
    }

    /// Takes a node to dial once, for one of these: [`Purpose::Asked`] as soon as possible, whenever it has answered
    /// last; [`Purpose::Persistent`] for ever, until [`Schedule::remove`]; the others when there is a place. A known id
    /// is extended by the addresses.
    pub(crate) fn add(&mut self, node: &NodeAddr, purpose: Purpose, now: Instant) -> Taken {
        let id = node.node_id();
        if let Err(refused) = self.admit(&id, purpose, now) {
            return refused;
        }
        let mut entry = self.take_or_new(&id, node);
        match purpose {
            Purpose::Asked => entry.prefer(&node.addresses),
            _ => entry.learn(&node.addresses),
        }
        let taken = match (entry.dialling, entry.peer) {
            (_, Some(_)) => Taken::Connected,
            (Some(Purpose::Feeler), _) => Taken::Waiting,
            (Some(_), _) => Taken::Dialling,
            (None, None) => Taken::Waiting,
        };
        if purpose == Purpose::Persistent {
            // It leaves its place to another, and is not left alone for as long as one of many that was of no use.
            entry.has_place = false;
            entry.rest_at_most_until(now + REST);
        }
        let is_news = match purpose {
            Purpose::Persistent => true,
            Purpose::Asked => taken == Taken::Waiting,
            _ => taken == Taken::Waiting && entry.purpose().is_none(),
        };
        if is_news && !entry.is(purpose) {
            entry.set(purpose, true);
            self.came += 1;
            entry.order = self.came;
            entry.due = Some(entry.due.filter(|_| purpose != Purpose::Asked).unwrap_or(now));
        }
        self.put(id, entry, now);
        taken
    }

    /// A node is persistent no longer, and nobody asks for it any more. What is being dialled or connected stays.
    /// Returns whether it was persistent.
    pub(crate) fn remove(&mut self, id: &NodeId, now: Instant) -> bool {
        let Some(mut node) = self.take(id) else { return false };
        let was_persistent = node.is(Purpose::Persistent);
        node.clear();
        let is_outbound = node.peer == Some(Direction::Outbound) || node.is_dialled_into_a_place();
        node.has_place |= was_persistent && is_outbound;
        self.put(*id, node, now);
        was_persistent
    }

    /// Whether a node is persistent.
    pub(crate) fn is_persistent(&self, id: &NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| node.is(Purpose::Persistent))
    }

    /// Whether a node is being dialled.
    pub(crate) fn is_dialling(&self, id: &NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| node.dialling.is_some())
    }

    /// Whether a node waits, is being dialled, is a peer, or must not be dialled yet.
    pub(crate) fn knows(&self, id: &NodeId, now: Instant) -> bool {
        self.nodes.contains_key(id) || self.history.rests(id, now)
    }

    /// A dynamic node shares no capability: it is not dialled for long.
    pub(crate) fn useless(&mut self, id: &NodeId, now: Instant) {
        let Some(mut node) = self.take(id) else { return };
        if !node.is(Purpose::Persistent) {
            node.rest_until(now + USELESS_REST);
            node.set(Purpose::Dynamic, false);
        }
        self.put(*id, node, now);
    }

    /// The limits in force.
    pub(crate) fn limits(&self) -> DialLimits {
        self.limits
    }

    /// Changes the limits from now on. Nobody is dropped.
    pub(crate) fn set_limits(&mut self, limits: DialLimits, now: Instant) {
        self.limits = limits;
        self.trim(now);
    }

    /// A dial has led to Hello at this address: to a peer, unless it was a feeler.
    pub(crate) fn dial_connected(&mut self, id: &NodeId, address: &Address, now: Instant) {
        let Some(mut node) = self.take(id) else { return };
        if let Some(purpose) = node.dialling {
            let has_place = node.is_dialled_into_a_place();
            node.dial_ended(purpose);
            node.prefer(std::slice::from_ref(address));
            node.rest_until(now + REST);
            if purpose != Purpose::Feeler {
                node.peer = Some(Direction::Outbound);
                node.has_place = has_place;
            } else if node.peer.is_none() {
                self.wait(&mut node, now);
            }
        }
        self.put(*id, node, now);
    }

    /// A dial has failed at these addresses. `has_answered`: there was somebody at one of them, whatever came of it.
    pub(crate) fn dial_failed(&mut self, id: &NodeId, has_answered: bool, failed: &[Address], now: Instant) {
        let Some(mut node) = self.take(id) else { return };
        if let Some(purpose) = node.dialling {
            node.dial_ended(purpose);
            node.failed_at(failed);
            node.has_place = false;
            if has_answered {
                node.rest_until(now + REST);
            }
            // Whoever has dialled this node meanwhile has not failed.
            if node.peer.is_none() {
                self.lost(&mut node, now);
            }
        }
        self.put(*id, node, now);
    }

    /// There is a peer that was not dialled, or one in the other direction takes the place of the one there was. Of one
    /// that was dialled, [`Schedule::dial_connected`] is told instead.
    pub(crate) fn peer_accepted(&mut self, peer: &NodeAddr, now: Instant) {
        let id = peer.node_id();
        let mut node = self.take_or_new(&id, peer);
        node.peer = Some(Direction::Inbound);
        node.has_place = node.is_dialled_into_a_place();
        // Who has asked for it has it.
        node.set(Purpose::Asked, false);
        node.due = None;
        self.put(id, node, now);
    }

    /// The last connection to a peer has ended, after this time. Of a node that is no peer nothing is learnt.
    pub(crate) fn peer_dropped(&mut self, id: &NodeId, lived: Duration, loss: Loss, now: Instant) {
        if self.nodes.get(id).is_none_or(|node| node.peer.is_none()) {
            return;
        }
        let Some(mut node) = self.take(id) else { return };
        node.peer = None;
        node.has_place = node.is_dialled_into_a_place();
        if lived >= STABLE {
            node.recovered();
        }
        match loss {
            Loss::Refused => node.rest_until(now + REST),
            Loss::Useless if !node.is(Purpose::Persistent) => {
                node.rest_until(now + USELESS_REST);
                node.set(Purpose::Dynamic, false);
            }
            _ => {}
        }
        if node.dialling.is_none() {
            self.lost_after(&mut node, lived, now);
        }
        self.put(*id, node, now);
    }

    fn lost_after(&mut self, node: &mut Node, lived: Duration, now: Instant) {
        if lived >= STABLE {
            self.wait(node, now);
        } else {
            self.lost(node, now);
        }
    }

    /// There was no stable connection: the node waits, or is given up.
    fn lost(&mut self, node: &mut Node, now: Instant) {
        self.wait(node, now);
        node.failed(now);
        if node.is_hopeless(now, contained(|| self.backoff.give_up_after(), None)) {
            node.set(Purpose::Dynamic, false);
        }
    }

    fn wait(&mut self, node: &mut Node, now: Instant) {
        let random = self.random.f64();
        let delay = contained(|| self.backoff.delay(node.failures, random), FALLBACK).clamp(SHORTEST, MAX_TIMEOUT);
        node.due = Some(if node.is(Purpose::Asked) { now } else { after(now, delay) });
    }
}

/// What the application's backoff says, or this when it panics: the node must not be lost for that.
fn contained<T>(ask: impl FnOnce() -> T, otherwise: T) -> T {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|_| {
        tracing::error!("the backoff panicked");
        otherwise
    })
}

/// A time after another, however far.
fn after(time: Instant, delay: Duration) -> Instant {
    time.checked_add(delay).unwrap_or(time)
}
