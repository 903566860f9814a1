//! How many messages may come, told a second time.

use std::time::{Duration, Instant};

use crate::p2p::{RATE_PATIENCE, RateLimit, SessionError};

/// The promise about messages of the base protocol: 64 at once, and one more each 100 ms.
pub(super) struct BaseRate {
    start: Instant,
    admitted: u128,
}

impl BaseRate {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, admitted: 0 }
    }

    pub(super) fn admitted(&mut self, now: Instant) {
        self.admitted += 1;
        let earned = now.duration_since(self.start).as_millis() / 100;
        assert!(self.admitted <= 64 + earned, "more base messages than the rate allows");
    }

    pub(super) fn refused(&self) {
        assert!(self.admitted >= 64, "a base message was refused before the burst was used up");
    }
}

/// The promise about messages of one protocol, as long as its limit is the same.
pub(super) struct MessageRate {
    limit: Option<RateLimit>,
    since: Instant,
    admitted: u128,
}

impl MessageRate {
    pub(super) fn new(limit: Option<RateLimit>, now: Instant) -> Self {
        Self { limit, since: now, admitted: 0 }
    }

    pub(super) fn limit(&self) -> Option<RateLimit> {
        self.limit
    }

    /// What must hold for a message that was counted: how long nothing is to be read, or that the peer is given up.
    /// `Err` when the session is over.
    pub(super) fn counted(
        &mut self,
        admitted: Result<Option<Duration>, SessionError>,
        now: Instant,
    ) -> Result<Duration, ()> {
        let Some(limit) = self.limit else {
            assert_eq!(admitted, Ok(None), "a message is over a rate that there is not");
            return Ok(Duration::ZERO);
        };
        self.admitted += 1;
        let elapsed = now - self.since;
        let pause = admitted.map_err(|error| {
            assert!(matches!(error, SessionError::RateExceeded { .. }) && elapsed >= RATE_PATIENCE);
        })?;
        let pause = pause.unwrap_or_default();
        let earned = (elapsed + pause).as_nanos() * u128::from(limit.per_second()) / 1_000_000_000;
        assert!(self.admitted <= u128::from(limit.burst()) + earned + 1, "more messages than the rate allows");
        Ok(pause)
    }
}
