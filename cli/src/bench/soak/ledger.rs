//! What was accepted at one end of each connection, what came at the other, and whether that is what was promised.
//!
//! The promises: what comes is 0, 1, 2 and so on, for each stream; nothing comes that was not accepted; and what was
//! accepted is missing at the end only where the connection broke, or was ended without a drain. When an end has shut
//! down in order, and says that nothing was left unsent, the other must have all of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use capmux::{NodeId, Peer};

use super::end::{Conduct, End, Over, STREAMS};
use super::sequence::{Faults, Label};

/// How many errors are reported one by one.
const SHOWN_ERRORS: usize = 20;

/// How long an end waits to be told of the other, once it is over.
const LONELY: Duration = Duration::from_secs(10);

/// What has come of the messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Accepted, and not arrived, where that is allowed.
    pub(super) missing: u64,
    /// That were on connections which ended in order, so that all of them had to arrive.
    pub(super) promised: u64,
    pub(super) faults: Faults,
    /// Arrived, and never accepted.
    pub(super) unaccepted: u64,
    /// Arrived, and not as they were sent.
    pub(super) corrupted: u64,
}

impl Counts {
    /// Whether every promise was kept.
    pub(super) fn are_good(&self) -> bool {
        self.faults == Faults::default() && self.unaccepted == 0 && self.corrupted == 0
    }
}

/// All ends.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The nodes behind the proxy, and those that read slowly.
    faulty: BTreeSet<NodeId>,
    slow: BTreeSet<NodeId>,
    next: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    corrupted: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ends: HashMap<u64, Arc<End>>,
    judged: Counts,
    connections: u64,
    errors: Vec<String>,
    unshown_errors: usize,
}

impl Ledger {
    /// Of connections with nodes among which these are on a bad network, and those read slowly.
    pub(super) fn new(faulty: BTreeSet<NodeId>, slow: BTreeSet<NodeId>) -> Self {
        Self { faulty, slow, ..Self::default() }
    }

    /// Takes note of a new end, that of the node `own`.
    pub(super) fn open(&self, own: NodeId, peer: Peer) -> Arc<End> {
        let other = peer.id();
        let has = |nodes: &BTreeSet<NodeId>, id: &NodeId| nodes.contains(id);
        let conduct = Conduct {
            is_faulty: has(&self.faulty, &own) || has(&self.faulty, &other),
            reads_slowly: has(&self.slow, &own),
            is_read_slowly: has(&self.slow, &other),
        };
        let end = Arc::new(End::new(self.next.fetch_add(1, Ordering::Relaxed), own, Some(peer), conduct));
        let mut state = self.lock();
        state.connections += 1;
        state.ends.insert(end.id, end.clone());
        end
    }

    pub(super) fn accepted(&self, end: &End, stream: usize) {
        end.accept(stream);
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of what has come at an end; `None` is a message that is not as it was sent.
    pub(super) fn received(&self, end: &End, label: Option<Label>) {
        self.received.fetch_add(1, Ordering::Relaxed);
        let known = label.filter(|label| label.stream < STREAMS && self.pair(end, label.end));
        match known {
            Some(label) => end.note(label.stream, label.number),
            None => {
                self.corrupted.fetch_add(1, Ordering::Relaxed);
                self.error(format!("a message came changed, or to the wrong end: {label:?} at end {}", end.id));
            }
        }
    }

    /// Whether these two are the ends of one connection, as far as is known.
    fn pair(&self, end: &End, other: u64) -> bool {
        if let Some(known) = end.other() {
            return known == other;
        }
        let state = self.lock();
        let opposite = state.ends.get(&other).filter(|_| other != end.id);
        opposite.is_some_and(|opposite| end.learn(other) && opposite.learn(end.id))
    }

    /// Takes note that this node is about to be shut down in order.
    pub(super) fn leaving(&self, own: NodeId) {
        self.lock().ends.values().for_each(|end| end.leaving(own));
    }

    /// Takes note that this node is about to be dropped, which is no orderly end.
    pub(super) fn dropping(&self, own: NodeId) {
        self.lock().ends.values().for_each(|end| end.dropping(own));
    }

    pub(super) fn error(&self, error: String) {
        self.lock().error(error);
    }

    /// Judges the connections that are over at both ends.
    pub(super) fn sweep(&self) {
        self.judge(|end| end.over_for().is_some_and(|time| time > LONELY));
    }

    /// Whether every connection has ended.
    pub(super) fn are_all_over(&self) -> bool {
        self.lock().ends.values().all(|end| end.over(&mut |_| ()).is_some())
    }

    /// Judges what is left, when every node is gone.
    pub(super) fn finish(&self) {
        self.judge(|_| true);
        let mut state = self.lock();
        let open = std::mem::take(&mut state.ends);
        if !open.is_empty() {
            state.error(format!("{} ends of connections never ended", open.len()));
        }
    }

    fn judge(&self, is_alone: impl Fn(&End) -> bool) {
        let mut state = self.lock();
        let over: HashMap<u64, Over> =
            state.ends.values().filter_map(|end| Some((end.id, end.over(&mut |_| ())?))).collect();
        for id in over.keys() {
            let Some(end) = state.ends.get(id).cloned() else { continue };
            let other = end.other().and_then(|other| state.ends.get(&other)).cloned();
            let pair = match other {
                Some(other) if over.contains_key(&other.id) => vec![end, other],
                None if is_alone(&end) => vec![end],
                _ => continue,
            };
            for from in &pair {
                let to = pair.iter().find(|to| to.id != from.id);
                let lost = state.judged.judge(from, &over[&from.id], to.map(|to| (&**to, &over[&to.id])));
                if let Some(to) = to.filter(|_| lost > 0) {
                    state.error(format!("{lost} messages lost from an end {} to one {}", from.story(), to.story()));
                }
                state.ends.remove(&from.id);
                from.over(&mut |error| state.error(error));
            }
        }
    }

    /// What is known so far. What is on its way is neither missing nor lost.
    pub(super) fn counts(&self) -> Counts {
        let judged = self.lock().judged;
        Counts {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            corrupted: self.corrupted.load(Ordering::Relaxed),
            ..judged
        }
    }

    /// How many connections there were, and what went wrong.
    pub(super) fn connections(&self) -> u64 {
        self.lock().connections / 2
    }

    pub(super) fn errors(&self) -> Vec<String> {
        let state = self.lock();
        let more = (state.unshown_errors > 0).then(|| format!("and {} more errors", state.unshown_errors));
        state.errors.iter().cloned().chain(more).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn error(&mut self, error: String) {
        if self.errors.len() < SHOWN_ERRORS {
            self.errors.push(error);
        } else {
            self.unshown_errors += 1;
        }
    }
}

impl Counts {
    /// Adds what was sent in one direction, and returns how much of that was lost at its end.
    fn judge(&mut self, from: &End, over: &Over, to: Option<(&End, &Over)>) -> u64 {
        let mut lost = 0;
        let is_promised = to.is_some_and(|(_, at)| over.promises(from.conduct(), at));
        for stream in 0..STREAMS {
            let accepted = from.sent(stream);
            let received = to.map(|(to, _)| to.received(stream)).unwrap_or_default();
            self.faults += received.faults();
            self.unaccepted += received.reached().saturating_sub(accepted);
            let missing = accepted.saturating_sub(received.reached());
            if is_promised {
                self.promised += accepted;
                lost += missing;
            } else {
                self.missing += missing;
            }
        }
        self.faults.lost += lost;
        lost
    }
}

#[cfg(test)]
mod tests {
    use capmux::NodeKey;

    use super::*;

    const BROKEN: Over = Over {
        is_orderly: false,
        unsent: 0,
        farewell: Duration::from_millis(10),
        has_read_goodbye: false,
        is_local: false,
        has_read_all: true,
    };
    const GOODBYE: Over = Over { has_read_goodbye: true, ..BROKEN };
    const DRAINED: Over = Over { is_orderly: true, is_local: true, ..BROKEN };

    /// What is counted when this was accepted and that has come.
    fn judged(accepted: u64, came: &[u64], over: Over, at: Over, conduct: Conduct) -> Counts {
        let own = NodeKey::random().public_key().node_id();
        let (from, to) = (End::new(0, own, None, conduct), End::new(1, own, None, conduct));
        (0..accepted).for_each(|_| from.accept(1));
        came.iter().for_each(|number| to.note(1, *number));
        let mut counts = Counts::default();
        counts.judge(&from, &over, Some((&to, &at)));
        counts
    }

    #[test]
    fn an_orderly_end_promises_everything() {
        let honest = Conduct::default();
        let whole = judged(3, &[0, 1, 2], DRAINED, GOODBYE, honest);
        assert_eq!(whole, Counts { promised: 3, ..Counts::default() }, "R63");
        for at in [GOODBYE, BROKEN] {
            let cut = judged(3, &[0, 1], DRAINED, at, honest);
            assert_eq!((cut.faults.lost, cut.missing), (1, 0), "R63");
            assert!(!cut.are_good());
        }
        let slow = Conduct { is_read_slowly: true, ..honest };
        let faulty = Conduct { is_faulty: true, ..honest };
        assert_eq!(judged(3, &[0], DRAINED, GOODBYE, faulty).faults.lost, 2, "the goodbye comes behind everything");
        for conduct in [slow, faulty] {
            assert_eq!(judged(3, &[0], DRAINED, BROKEN, conduct).missing, 2);
        }
    }

    #[test]
    fn a_farewell_has_its_time_and_no_more() {
        let honest = Conduct::default();
        let left = Over { unsent: 2, ..DRAINED };
        assert_eq!(judged(3, &[0], left, GOODBYE, honest).faults.lost, 2, "R63: there was time left");
        let long = |over| Over { farewell: Duration::from_secs(2), ..over };
        assert_eq!(judged(3, &[0], long(left), GOODBYE, honest).missing, 2, "R63: the time was up");
        assert_eq!(judged(3, &[0], long(DRAINED), GOODBYE, honest).faults.lost, 2, "R63");
        assert_eq!(judged(3, &[0], long(DRAINED), BROKEN, honest).missing, 2, "it did not close in time");
    }

    #[test]
    fn a_connection_that_broke_may_lack_the_last_messages_alone() {
        let honest = Conduct::default();
        for (over, at) in [(BROKEN, BROKEN), (BROKEN, DRAINED), (DRAINED, DRAINED)] {
            let counts = judged(3, &[0], over, at, honest);
            assert_eq!(counts, Counts { missing: 2, ..Counts::default() });
            assert!(counts.are_good());
            assert_eq!(judged(3, &[1], over, at, honest).faults.lost, 1, "a gap is no suffix");
            assert_eq!(judged(3, &[0, 0], over, at, honest).faults.doubled, 1);
            assert_eq!(judged(3, &[1, 0], over, at, honest).faults.out_of_order, 1);
            assert_eq!(judged(1, &[0, 1], over, at, honest).unaccepted, 1);
        }
    }

    #[test]
    fn errors_are_bounded() {
        let ledger = Ledger::default();
        (0..100).for_each(|number| ledger.error(number.to_string()));
        let errors = ledger.errors();
        assert_eq!((errors.len(), &errors[SHOWN_ERRORS][..]), (SHOWN_ERRORS + 1, "and 80 more errors"));
    }
}
