//! Who came when, and how many were sent away.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::prefix::Prefix;
use super::{REMEMBERED, TELL, THROTTLE};

/// Who came in the last [`THROTTLE`], the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    came: VecDeque<(Instant, Prefix)>,
    known: BTreeSet<Prefix>,
}

impl History {
    pub(super) fn contains(&mut self, prefix: Prefix, now: Instant) -> bool {
        while self.came.front().is_some_and(|(time, _)| now.saturating_duration_since(*time) >= THROTTLE) {
            self.forget();
        }
        self.known.contains(&prefix)
    }

    /// Remembers who has come. It must not be known.
    pub(super) fn note(&mut self, prefix: Prefix, now: Instant) {
        if self.came.len() >= REMEMBERED {
            self.forget();
        }
        self.came.push_back((now, prefix));
        self.known.insert(prefix);
    }

    fn forget(&mut self) {
        if let Some((_, prefix)) = self.came.pop_front() {
            self.known.remove(&prefix);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.came.len(), self.known.len());
        self.came.len()
    }
}

/// How many connections were closed that nobody was told of yet.
#[derive(Debug, Default)]
pub(super) struct Tally {
    untold: u64,
    told: Option<Instant>,
}

impl Tally {
    pub(super) fn count(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TELL) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}
