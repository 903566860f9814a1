//! What is counted while the demo runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use capmux::SetupTimes;
use hdrhistogram::Histogram;
use tokio::time::Instant;

/// How many errors are reported one by one.
const SHOWN_ERRORS: usize = 20;

/// A distribution of times, kept in microseconds with three digits, up to a minute.
#[derive(Debug)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> Self {
        Self(Histogram::new_with_max(60_000_000, 3).expect("the bounds are valid"))
    }

    pub(super) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time in microseconds that this share of them does not exceed; `None` when there are none.
    pub(super) fn quantile_us(&self, share: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(share))
    }
}

/// A message on its way.
#[derive(Debug)]
struct Spread {
    published: Instant,
    by: usize,
    missing: BTreeSet<usize>,
}

/// All the counts; [`Tally::finish`] hands them out.
#[derive(Debug)]
pub(super) struct Counts {
    nodes: usize,
    /// When the nodes began to talk.
    pub(super) begun: Option<Instant>,
    pub(super) connections: usize,
    pub(super) handshakes: Times,
    pub(super) encryption: Times,
    pub(super) hello: Times,
    pub(super) round_trips: Times,
    /// From a publication to the last delivery.
    pub(super) spreads: Times,
    pub(super) published: u64,
    pub(super) deliveries: u64,
    /// By the number of the message, those that have not reached every node.
    spreading: BTreeMap<u64, Spread>,
    pub(super) errors: Vec<String>,
    unshown_errors: usize,
}

impl Counts {
    fn new(nodes: usize) -> Self {
        Self {
            nodes,
            begun: None,
            connections: 0,
            handshakes: Times::new(),
            encryption: Times::new(),
            hello: Times::new(),
            round_trips: Times::new(),
            spreads: Times::new(),
            published: 0,
            deliveries: 0,
            spreading: BTreeMap::new(),
            errors: Vec::new(),
            unshown_errors: 0,
        }
    }

    /// How many deliveries there are to be: the node that publishes a message is not given it.
    pub(super) fn expected_deliveries(&self) -> u64 {
        self.published * (self.nodes as u64 - 1)
    }

    fn error(&mut self, error: String) {
        if self.errors.len() < SHOWN_ERRORS {
            self.errors.push(error);
        } else {
            self.unshown_errors += 1;
        }
    }

    fn delivered(&mut self, node: usize, number: u64) {
        self.deliveries += 1;
        if number >= self.published {
            return self.error(format!("node {node} was given message {number}, which nobody has published"));
        }
        let Some(spread) = self.spreading.get_mut(&number).filter(|spread| spread.missing.contains(&node)) else {
            return self.error(format!("node {node} was given message {number}, which it had or has published"));
        };
        spread.missing.remove(&node);
        if spread.missing.is_empty() {
            self.spreads.record(spread.published.elapsed());
            self.spreading.remove(&number);
        }
    }
}

/// The counts, shared by all tasks of the demo.
#[derive(Debug)]
pub(super) struct Tally {
    counts: Mutex<Counts>,
}

impl Tally {
    pub(super) fn new(nodes: usize) -> Self {
        Self { counts: Mutex::new(Counts::new(nodes)) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, now: Instant) {
        self.lock().begun = Some(now);
    }

    pub(super) fn connected(&self, time: Duration, stages: SetupTimes) {
        let mut counts = self.lock();
        counts.connections += 1;
        counts.handshakes.record(time);
        counts.encryption.record(stages.encryption);
        counts.hello.record(stages.hello);
    }

    pub(super) fn round_trip(&self, time: Duration) {
        self.lock().round_trips.record(time);
    }

    /// Counts a message that `node` is about to publish, and returns its number.
    pub(super) fn publishing(&self, node: usize) -> u64 {
        let mut counts = self.lock();
        let number = counts.published;
        counts.published += 1;
        let missing = (0..counts.nodes).filter(|other| *other != node).collect();
        counts.spreading.insert(number, Spread { published: Instant::now(), by: node, missing });
        number
    }

    /// Counts a message that the application of `node` was given; `None` is one that is not as it was published.
    pub(super) fn delivered(&self, node: usize, number: Option<u64>) {
        match number {
            Some(number) => self.lock().delivered(node, number),
            None => self.error(format!("node {node} was given a message that is not as it was published")),
        }
    }

    pub(super) fn all_delivered(&self) -> bool {
        self.lock().spreading.is_empty()
    }

    pub(super) fn error(&self, error: String) {
        self.lock().error(error);
    }

    /// Takes the counts, to which what has not arrived is added as errors.
    pub(super) fn finish(&self) -> Counts {
        let mut counts = self.lock();
        let nodes = counts.nodes;
        let mut counts = std::mem::replace(&mut *counts, Counts::new(nodes));
        for (number, spread) in std::mem::take(&mut counts.spreading) {
            let missing: Vec<_> = spread.missing.iter().map(ToString::to_string).collect();
            let by = spread.by;
            counts.error(format!("message {number} of node {by} did not reach node {}", missing.join(", ")));
        }
        if counts.unshown_errors > 0 {
            let more = counts.unshown_errors;
            counts.errors.push(format!("and {more} more errors"));
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_delivery_is_an_error() {
        let tally = Tally::new(3);
        let number = tally.publishing(0);
        tally.delivered(1, Some(number));
        assert!(!tally.all_delivered());
        tally.delivered(2, Some(number));
        assert!(tally.all_delivered());
        let faults: [(usize, Option<u64>); 4] = [(1, Some(number)), (0, Some(number)), (1, Some(9)), (1, None)];
        for (count, (node, number)) in faults.into_iter().enumerate() {
            tally.delivered(node, number);
            assert_eq!(tally.lock().errors.len(), count + 1);
        }
        tally.publishing(2);
        tally.delivered(2, Some(1));
        tally.delivered(1, Some(1));
        let counts = tally.finish();
        assert_eq!(counts.expected_deliveries(), 4);
        assert!(counts.errors[4].ends_with("had or has published"), "{:?}", counts.errors);
        assert_eq!(counts.errors[5], "message 1 of node 2 did not reach node 0");
        assert_eq!(counts.spreads.count(), 1);
    }

    #[test]
    fn errors_are_bounded() {
        let tally = Tally::new(2);
        (0..100).for_each(|number| tally.error(number.to_string()));
        let errors = tally.finish().errors;
        assert_eq!((errors.len(), &errors[SHOWN_ERRORS][..]), (SHOWN_ERRORS + 1, "and 80 more errors"));
    }
}
