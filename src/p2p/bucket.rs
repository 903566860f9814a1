//! A token bucket on the caller's clock.

use std::time::{Duration, Instant};

/// Admits `burst` events at once and one more each `interval`.
///
/// It keeps the time up to which the admitted events are paid for, so that there is one value to store, no drift, and
/// nothing to refill.
#[derive(Debug)]
pub(super) struct TokenBucket {
    interval: Duration,
    burst: u32,
    paid_until: Option<Instant>,
}

impl TokenBucket {
    pub(super) const fn new(burst: u32, interval: Duration) -> Self {
        Self { interval, burst, paid_until: None }
    }

    /// Whether an event at `now` is within the rate. If it is not, it is not counted either.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let from = self.paid_until.map_or(now, |paid_until| paid_until.max(now));
        let ahead = from.saturating_duration_since(now);
        if ahead > self.interval * (self.burst - 1) {
            return false;
        }
        self.paid_until = Some(from + self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_pause_earns_the_burst_and_no_more() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(3, Duration::from_secs(1));
        let admitted = |bucket: &mut TokenBucket, now| (0..10).filter(|_| bucket.admit(now)).count();
        assert_eq!(admitted(&mut bucket, start), 3);
        assert_eq!(admitted(&mut bucket, start + Duration::from_millis(999)), 0);
        assert_eq!(admitted(&mut bucket, start + Duration::from_secs(1)), 1);
        assert_eq!(admitted(&mut bucket, start + Duration::from_secs(3600)), 3);
    }
}
