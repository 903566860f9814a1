//! Round-trip times, from Pings and their Pongs.

use std::time::Duration;

/// The round-trip times of a connection so far.
///
/// The smoothed time gives each new one a weight of an eighth, as TCP does (RFC 6298, section 2). Each is that of a Ping
/// that was answered, from when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoundTrip {
    /// The latest.
    pub last: Duration,
    /// Seven eighths of what it was before, and an eighth of the latest; the first one at first.
    pub smoothed: Duration,
    /// The shortest.
    pub min: Duration,
    /// How many there were.
    pub samples: u64,
}

impl RoundTrip {
    /// After the first one.
    pub const fn new(first: Duration) -> Self {
        Self { last: first, smoothed: first, min: first, samples: 1 }
    }

    /// After another one.
    #[must_use]
    pub fn and(self, next: Duration) -> Self {
        Self {
            last: next,
            smoothed: self.smoothed - self.smoothed / 8 + next / 8,
            min: self.min.min(next),
            samples: self.samples + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smoothed_time_follows_slowly_and_the_shortest_stays() {
        let milliseconds = Duration::from_millis;
        let first = RoundTrip::new(milliseconds(80));
        let expected =
            RoundTrip { last: milliseconds(80), smoothed: milliseconds(80), min: milliseconds(80), samples: 1 };
        assert_eq!(first, expected, "R26");
        let second = first.and(milliseconds(160));
        let expected =
            RoundTrip { last: milliseconds(160), smoothed: milliseconds(90), min: milliseconds(80), samples: 2 };
        assert_eq!(second, expected, "R26: 7/8 of 80 and 1/8 of 160");
        let steady = (0..1000).fold(second, |times, _| times.and(milliseconds(7)));
        assert_eq!((steady.last, steady.min, steady.samples), (milliseconds(7), milliseconds(7), 1002), "R26");
        assert!(steady.smoothed.abs_diff(milliseconds(7)) < Duration::from_nanos(10), "R26: {:?}", steady.smoothed);
        let same = (0..1000).fold(RoundTrip::new(milliseconds(3)), |times, _| times.and(milliseconds(3)));
        assert_eq!(same.smoothed, milliseconds(3), "R26: rounding does not add up");
    }
}
