//! How often: what is asked of others, and what others may ask.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use crate::{MAX_INTERVAL, MIN_INTERVAL, PexSettings, Violation};

/// By how much a request may come too early: an asker may count from when it has asked, and the network delays one
/// request more than the next. It is borrowed from the time after, so that the rate holds all the same.
const TOLERANCE: Duration = Duration::from_secs(1);

/// How many intervals a peer is left alone that has not answered.
const PATIENCE: u32 = 10;

/// When a peer may ask next.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    next: Option<Instant>,
}

impl Gate {
    /// Lets a request in, or says what is wrong with it.
    pub(crate) fn enter(&mut self, now: Instant) -> Result<(), Violation> {
        let due = self.next.unwrap_or(now);
        let early = due.saturating_duration_since(now);
        if early > TOLERANCE {
            return Err(Violation::TooSoon { early });
        }
        self.next = Some(due.max(now) + MIN_INTERVAL);
        Ok(())
    }
}

/// How a request of this node went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// New nodes were learnt.
    News,
    NoNews,
    Unanswered,
}

/// When a peer is asked next.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    /// The wait while few nodes are known.
    eager: Duration,
    rng: Rng,
}

impl Pace {
    pub(crate) fn new(settings: &PexSettings, rng: Rng) -> Self {
        Self { interval: settings.interval.clamp(MIN_INTERVAL, MAX_INTERVAL), eager: MIN_INTERVAL, rng }
    }

    /// Before the first request, so that those of a node that has just started do not go out all at once.
    pub(crate) fn first(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(0..1_000))
    }

    /// How long to wait after the answer, or after its time was over.
    pub(crate) fn after(&mut self, outcome: Outcome, are_few: bool) -> Duration {
        self.eager = match outcome {
            Outcome::News => MIN_INTERVAL,
            _ => (self.eager * 2).min(self.interval),
        };
        let wait = match outcome {
            Outcome::Unanswered => self.interval.saturating_mul(PATIENCE),
            _ if are_few => self.eager,
            _ => self.interval,
        };
        // Up to a tenth more or less.
        let jittered = wait.mul_f64(0.9 + 0.2 * self.rng.f64());
        jittered.max(MIN_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_request_in_three_seconds_is_let_in_give_or_take_one() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        for milliseconds in [0, 3_000, 5_000, 8_100, 30_000, 32_500] {
            assert_eq!(gate.enter(start + Duration::from_millis(milliseconds)), Ok(()), "R56: at {milliseconds} ms");
        }
        // The half second is still owed.
        let early = Duration::from_millis(1_500);
        assert_eq!(gate.enter(start + Duration::from_millis(34_500)), Err(Violation::TooSoon { early }), "R56");
    }

    #[test]
    fn nobody_gets_above_the_rate_by_being_a_little_early_each_time() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let let_in = (0..10).take_while(|n| gate.enter(start + Duration::from_millis(2_500 * n)).is_ok());
        assert_eq!(let_in.count(), 3, "R56");
    }

    #[test]
    fn waits_are_never_below_the_least_and_grow_without_news() {
        let mut pace = Pace::new(&PexSettings { interval: seconds(30), ..PexSettings::default() }, Rng::with_seed(1));
        let near = |wait: Duration, expected: u64| (wait.as_secs_f64() / expected as f64 - 1.0).abs() < 0.101;
        let mut after = |outcome, are_few| pace.after(outcome, are_few);
        for (outcome, are_few, expected) in [
            (Outcome::NoNews, true, 6),
            (Outcome::NoNews, true, 12),
            (Outcome::NoNews, true, 24),
            (Outcome::NoNews, true, 30),
            (Outcome::News, false, 30),
            (Outcome::Unanswered, true, 300),
        ] {
            assert!(near(after(outcome, are_few), expected), "R56: {outcome:?}, {expected} s");
        }
        for _ in 0..100 {
            let wait = after(Outcome::News, true);
            assert!(wait >= MIN_INTERVAL && wait < seconds(4), "R56: {wait:?}");
        }
        let settings = PexSettings { interval: Duration::ZERO, ..PexSettings::default() };
        let mut pace = Pace::new(&settings, Rng::with_seed(1));
        assert!(pace.after(Outcome::NoNews, false) >= MIN_INTERVAL, "R56: whatever the setting");
        let settings = PexSettings { interval: Duration::MAX, ..PexSettings::default() };
        assert!(Pace::new(&settings, Rng::with_seed(1)).after(Outcome::Unanswered, false) < 12 * MAX_INTERVAL);
    }
}
