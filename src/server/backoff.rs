//! How long to wait before a node is dialled again.

use std::fmt;
use std::time::Duration;

use crate::p2p::MAX_TIMEOUT;

/// How the time between two dials to a node grows with every failure.
///
/// ```
/// use std::time::Duration;
///
/// use capmux::{Backoff, ExponentialBackoff};
///
/// let backoff = ExponentialBackoff::default().max(Duration::from_secs(60));
/// backoff.check()?;
/// assert_eq!(backoff.delay(0, 0.0), Duration::from_secs(1));
/// assert_eq!(backoff.delay(3, 0.0), Duration::from_secs(8));
/// assert!(backoff.delay(1_000_000, 0.5) <= Duration::from_secs(60));
/// # Ok::<(), capmux::BackoffError>(())
/// ```
pub trait Backoff: fmt::Debug + Send + Sync {
    /// How long to wait after `attempt` failures in a row before this one, thus 0 after the first; `random` is from 0
    /// up to 1, and spreads nodes that have failed at the same time.
    ///
    /// It is called with any number, and must not panic. What is shorter than 100 ms or longer than a year is taken for
    /// that.
    fn delay(&self, attempt: u64, random: f64) -> Duration;

    /// After how long without a stable connection a node that is not persistent is given up; `None`, the default, is
    /// never.
    fn give_up_after(&self) -> Option<Duration> {
        None
    }
}

/// Settings of a backoff that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BackoffError {
    /// A time is zero, or so long that the clock cannot tell its end.
    #[error("{setting} must be longer than 0 and at most {MAX_TIMEOUT:?}")]
    OutOfRange {
        /// The name of the setting.
        setting: &'static str,
    },
    /// The first time is longer than the longest.
    #[error("first ({first:?}) must be at most max ({max:?})")]
    FirstPastMax {
        /// The setting of that name.
        first: Duration,
        /// The setting of that name.
        max: Duration,
    },
    /// The jitter is no part of the whole.
    #[error("jitter must be from 0 to 1, and is {jitter}")]
    Jitter {
        /// The setting.
        jitter: f64,
    },
}

/// Every time is twice the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExponentialBackoff(Range);

impl Default for ExponentialBackoff {
    fn default() -> Self {
        Self(Range { first: Duration::from_secs(1), max: Duration::from_secs(600), jitter: 0.1, give_up: None })
    }
}

impl Backoff for ExponentialBackoff {
    fn delay(&self, attempt: u64, random: f64) -> Duration {
        // Further than this, every time is past the longest that can be set.
        let exponent = attempt.min(128) as i32;
        self.0.spread(self.0.first.as_secs_f64() * 2f64.powi(exponent), random)
    }

    fn give_up_after(&self) -> Option<Duration> {
        self.0.give_up
    }
}

/// Every time is the sum of the two before: slower than [`ExponentialBackoff`], and sooner at the first tries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FibonacciBackoff(Range);

impl Default for FibonacciBackoff {
    fn default() -> Self {
        Self(Range { first: Duration::from_millis(100), max: Duration::from_secs(3600), jitter: 0.1, give_up: None })
    }
}

impl Backoff for FibonacciBackoff {
    fn delay(&self, attempt: u64, random: f64) -> Duration {
        let first = self.0.first.as_secs_f64();
        let (mut time, mut next) = (first, first);
        // Further than this, every time is past the longest that can be set.
        for _ in 0..attempt.min(256) {
            (time, next) = (next, time + next);
        }
        self.0.spread(time, random)
    }

    fn give_up_after(&self) -> Option<Duration> {
        self.0.give_up
    }
}

/// The setters, which are the same for each kind.
macro_rules! setters {
    ($kind:ident, $first:literal, $max:literal) => {
        impl $kind {
            #[doc = concat!("The time after the first failure. Default: ", $first, ". A shorter time finds a node sooner that was gone for a moment.")]
            #[must_use]
            pub fn first(mut self, time: Duration) -> Self {
                self.0.first = time;
                self
            }

            #[doc = concat!("The longest time, jitter included. Default: ", $max, ". So long may it take until a node is found again that was gone for long.")]
            #[must_use]
            pub fn max(mut self, time: Duration) -> Self {
                self.0.max = time;
                self
            }

            /// By which part, from 0 to 1, a time may be longer by chance. Default: 0.1. With 0, nodes that were lost
            /// together are dialled together.
            #[must_use]
            pub fn jitter(mut self, part: f64) -> Self {
                self.0.jitter = part;
                self
            }

            /// After how long without a stable connection a node that is not persistent is given up. Default: `None`,
            /// never.
            #[must_use]
            pub fn give_up(mut self, after: impl Into<Option<Duration>>) -> Self {
                self.0.give_up = after.into();
                self
            }

            /// Checks that the settings can hold together.
            ///
            /// # Errors
            /// [`BackoffError`].
            pub fn check(&self) -> Result<(), BackoffError> {
                self.0.check()
            }
        }
    };
}

setters!(ExponentialBackoff, "1 s", "10 min");
setters!(FibonacciBackoff, "100 ms", "1 h");

#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    first: Duration,
    max: Duration,
    jitter: f64,
    give_up: Option<Duration>,
}

impl Range {
    fn check(&self) -> Result<(), BackoffError> {
        let Self { first, max, jitter, give_up } = *self;
        for (setting, time) in [("first", first), ("max", max), ("give_up", give_up.unwrap_or(MAX_TIMEOUT))] {
            if time.is_zero() || time > MAX_TIMEOUT {
                return Err(BackoffError::OutOfRange { setting });
            }
        }
        match (0.0..=1.0).contains(&jitter) {
            _ if first > max => Err(BackoffError::FirstPastMax { first, max }),
            false => Err(BackoffError::Jitter { jitter }),
            true => Ok(()),
        }
    }

    /// Adds the jitter in such a way that there is some at the longest time too.
    fn spread(&self, seconds: f64, random: f64) -> Duration {
        let longest = self.max.as_secs_f64() / (1.0 + self.jitter);
        let seconds = seconds.min(longest) * (1.0 + self.jitter * random.clamp(0.0, 1.0));
        Duration::try_from_secs_f64(seconds).unwrap_or(self.max).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_grow_from_the_first_to_the_longest_and_never_overflow() {
        let second = Duration::from_secs(1);
        let exponential = ExponentialBackoff::default();
        let fibonacci = FibonacciBackoff::default();
        let grown: Vec<_> = (0..6).map(|attempt| exponential.delay(attempt, 0.0).as_secs()).collect();
        assert_eq!(grown, [1, 2, 4, 8, 16, 32], "R49");
        let grown: Vec<_> = (0..7).map(|attempt| fibonacci.delay(attempt, 0.0).as_millis()).collect();
        assert_eq!(grown, [100, 100, 200, 300, 500, 800, 1300], "R49");
        let cases: [(&dyn Backoff, _, _); 2] =
            [(&exponential, second, 600 * second), (&fibonacci, second / 10, 3600 * second)];
        for (backoff, first, max) in cases {
            for attempt in (0..1_000_000).chain([u64::MAX]) {
                for random in [0.0, 0.999] {
                    let delay = backoff.delay(attempt, random);
                    assert!((first..=max).contains(&delay), "R49: {delay:?} after {attempt}");
                }
            }
            assert!(backoff.delay(u64::MAX, 0.0) >= max.mul_f64(0.9), "R49: the longest is reached");
            assert!(backoff.delay(u64::MAX, 0.9) > backoff.delay(u64::MAX, 0.1), "R49: with jitter at the longest too");
            assert_eq!(backoff.give_up_after(), None, "R50");
        }
    }

    #[test]
    fn settings_that_cannot_be_are_told() {
        let backoff = FibonacciBackoff::default();
        let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
        assert_eq!(backoff.first(second).max(second).jitter(0.0).give_up(second).check(), Ok(()));
        assert_eq!(backoff.first(zero).check(), Err(BackoffError::OutOfRange { setting: "first" }));
        assert_eq!(backoff.max(2 * MAX_TIMEOUT).check(), Err(BackoffError::OutOfRange { setting: "max" }));
        assert_eq!(backoff.give_up(zero).check(), Err(BackoffError::OutOfRange { setting: "give_up" }));
        let (first, max) = (2 * second, second);
        assert_eq!(backoff.first(first).max(max).check(), Err(BackoffError::FirstPastMax { first, max }));
        assert_eq!(backoff.jitter(1.5).check(), Err(BackoffError::Jitter { jitter: 1.5 }));
        assert!(ExponentialBackoff::default().jitter(f64::NAN).check().is_err());
    }

    proptest! {
        #[test]
        fn no_settings_make_it_panic(
            first: Duration, max: Duration, jitter: f64, attempt: u64, random: f64,
        ) {
            let exponential = ExponentialBackoff::default().first(first).max(max).jitter(jitter);
            prop_assert!(exponential.delay(attempt, random) <= max, "R49");
            let fibonacci = FibonacciBackoff::default().first(first).max(max).jitter(jitter);
            prop_assert!(fibonacci.delay(attempt, random) <= max, "R49");
        }
    }
}
