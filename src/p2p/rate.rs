//! How many messages of one protocol a peer may send: a token bucket on the caller's clock that slows a peer down, and
//! tells when it has had to for too long.

use std::time::{Duration, Instant};

/// How long a peer may keep the bucket of a protocol empty before the session ends.
///
/// The time runs from the first message that found the bucket empty, and starts over with the first that did not. Who
/// sends less than the rate on average gets there when what it sent at once is paid for.
pub const RATE_PATIENCE: Duration = Duration::from_secs(30);

/// How many messages a second a peer may send for one protocol on average, and how many at once.
///
/// The bucket holds `burst` messages, is full at the start, and gets `per_second` back each second: silence, however
/// long, earns no more than a full bucket. A message that finds it empty is delivered, and reading from the peer pauses
/// until its place is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    per_second: u32,
    burst: u32,
}

/// A rate that lets nothing through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RateLimitError {
    /// A setting is 0. No limit at all is no [`RateLimit`].
    #[error("{setting} of a rate limit must be at least 1")]
    Zero {
        /// The name of the setting.
        setting: &'static str,
    },
}

impl RateLimit {
    /// `per_second` messages a second, and `burst` at once.
    ///
    /// # Errors
    /// [`RateLimitError::Zero`] when one of them is 0.
    pub const fn new(per_second: u32, burst: u32) -> Result<Self, RateLimitError> {
        match (per_second, burst) {
            (0, _) => Err(RateLimitError::Zero { setting: "per_second" }),
            (_, 0) => Err(RateLimitError::Zero { setting: "burst" }),
            _ => Ok(Self { per_second, burst }),
        }
    }

    /// How many messages a second, on average.
    pub const fn per_second(self) -> u32 {
        self.per_second
    }

    /// How many at once.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// How long it takes until there is a place for one more.
    fn interval(self) -> Duration {
        (Duration::from_secs(1) / self.per_second).max(Duration::from_nanos(1))
    }

    /// How far ahead of the clock the messages may be that are within the burst.
    fn tolerance(self) -> Duration {
        self.interval() * (self.burst - 1)
    }
}

/// The bucket was kept empty for [`RATE_PATIENCE`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exceeded;

/// A bucket. It keeps the time up to which the messages so far are paid for, so that there is nothing to refill.
#[derive(Debug)]
pub(super) struct RateLimiter {
    limit: RateLimit,
    paid_until: Option<Instant>,
    empty_since: Option<Instant>,
}

impl RateLimiter {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self { limit, paid_until: None, empty_since: None }
    }

    pub(super) fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Counts a message that came at `now`. Returns how long to wait before the next is read.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Option<Duration>, Exceeded> {
        let from = self.paid_until.map_or(now, |paid_until| paid_until.max(now));
        self.paid_until = Some(from + self.limit.interval());
        let pause = from.duration_since(now).saturating_sub(self.limit.tolerance());
        if pause.is_zero() {
            self.empty_since = None;
            return Ok(None);
        }
        let since = *self.empty_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= RATE_PATIENCE { Err(Exceeded) } else { Ok(Some(pause)) }
    }

    /// Puts another limit in force. As many messages as are missing from the bucket stay missing, or all that it holds;
    /// the patience starts over.
    pub(super) fn set(&mut self, limit: RateLimit, now: Instant) {
        let ahead = self.paid_until.map_or(Duration::ZERO, |paid_until| paid_until.saturating_duration_since(now));
        let missing = ahead.div_duration_f64(self.limit.interval()).min(limit.burst.into());
        *self = Self { limit, paid_until: Some(now + limit.interval().mul_f64(missing)), empty_since: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limiter(per_second: u32, burst: u32) -> (RateLimiter, Instant) {
        (RateLimiter::new(RateLimit::new(per_second, burst).unwrap()), Instant::now())
    }

    /// How many messages at once are within the limit.
    fn free(limiter: &mut RateLimiter, now: Instant) -> usize {
        (0..1000).take_while(|_| limiter.admit(now) == Ok(None)).count()
    }

    #[test]
    fn a_limit_of_nothing_is_refused() {
        assert_eq!(RateLimit::new(0, 1), Err(RateLimitError::Zero { setting: "per_second" }), "R28 R77");
        assert_eq!(RateLimit::new(1, 0), Err(RateLimitError::Zero { setting: "burst" }), "R28 R77");
        let limit = RateLimit::new(u32::MAX, u32::MAX).unwrap();
        let (mut limiter, now) = (RateLimiter::new(limit), Instant::now());
        assert_eq!(limiter.admit(now), Ok(None), "R28");
    }

    #[test]
    fn silence_earns_a_full_bucket_and_no_more() {
        let (mut limiter, start) = limiter(10, 5);
        assert_eq!(free(&mut limiter, start), 5, "R28");
        let (mut limiter, start) = self::limiter(10, 5);
        (0..5).for_each(|_| assert_eq!(limiter.admit(start), Ok(None), "R28"));
        assert_eq!(free(&mut limiter, start + SECOND * 24 * 3600), 5, "R28: after a day");
    }

    #[test]
    fn who_is_always_over_the_rate_is_slowed_to_it_and_then_given_up() {
        let (mut limiter, start) = limiter(10, 5);
        let (mut now, mut count) = (start, 0);
        let end = loop {
            match limiter.admit(now) {
                Ok(pause) => now += pause.unwrap_or_default(),
                Err(Exceeded) => break now,
            }
            count += 1;
        };
        assert_eq!(end - start, RATE_PATIENCE, "R28: the sixth came at once");
        assert_eq!(count, 5 + 300, "R28: ten a second in that time");
    }

    #[test]
    fn a_break_starts_the_patience_over() {
        let (mut limiter, start) = limiter(10, 5);
        let mut now = start;
        for _ in 0..10 {
            let until = now + SECOND * 20;
            while now < until {
                now += limiter.admit(now).expect("R28: 20 s are not too long").unwrap_or_default();
            }
            now += SECOND;
        }
        let (mut limiter, start) = self::limiter(10, 5);
        for tenth in 0..1000 {
            let at = start + SECOND * 8 * tenth / 10;
            for _ in 0..7 {
                limiter.admit(at).expect("R28: seven each 0.8 s are fewer than ten a second");
            }
        }
    }

    #[test]
    fn a_new_limit_keeps_what_is_missing() {
        let (mut limiter, now) = limiter(1, 10);
        (0..6).for_each(|_| assert_eq!(limiter.admit(now), Ok(None)));
        limiter.set(RateLimit::new(1000, 10).unwrap(), now);
        assert_eq!(free(&mut limiter, now), 4, "R28: six of ten are used up");
        limiter.set(RateLimit::new(1, 3).unwrap(), now);
        assert_eq!(limiter.admit(now), Ok(Some(SECOND)), "R28: all three are used up");
        assert_eq!(limiter.admit(now + SECOND), Ok(Some(SECOND)), "R28");
        assert_eq!(limiter.admit(now + SECOND * 3), Ok(None), "R28");
    }
}
