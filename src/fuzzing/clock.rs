//! What the clock of a session must do, told a second time.

use std::time::{Duration, Instant};

use crate::p2p::{SessionError, TimerAction};

/// The setting that every session has.
pub(super) const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// The model of the clock.
pub(super) struct Clock {
    /// `ping_after`, `pong_timeout` and `idle_timeout`.
    settings: [Duration; 3],
    pub(super) last_inbound: Instant,
    pub(super) frame_since: Option<Instant>,
    pub(super) ping_since: Option<Instant>,
    is_written: bool,
}

impl Clock {
    pub(super) fn new(settings: [Duration; 3], now: Instant) -> Self {
        Self { settings, last_inbound: now, frame_since: None, ping_since: None, is_written: false }
    }

    pub(super) fn ping(&mut self, now: Instant) -> bool {
        let allowed = self.ping_since.is_none();
        if allowed {
            (self.ping_since, self.is_written) = (Some(now), false);
        }
        allowed
    }

    pub(super) fn ping_written(&mut self, now: Instant) {
        if self.ping_since.is_some() && !self.is_written {
            (self.ping_since, self.is_written) = (Some(now), true);
        }
    }

    pub(super) fn frame_pending(&mut self, now: Instant, begun: bool) -> Option<Instant> {
        self.frame_since = begun.then_some(self.frame_since.unwrap_or(now));
        self.frame_since.map(|since| since + FRAME_TIMEOUT)
    }

    pub(super) fn excuse(&mut self, pause: Duration) {
        self.last_inbound += pause;
        self.frame_since = self.frame_since.map(|since| since + pause);
        self.ping_since = self.ping_since.map(|since| since + pause);
    }

    pub(super) fn poll(&mut self, now: Instant) -> Result<TimerAction, SessionError> {
        let [ping_after, pong_timeout, idle_timeout] = self.settings;
        let silence = now - self.last_inbound;
        if silence >= idle_timeout {
            return Err(SessionError::IdleTimeout { limit: idle_timeout });
        }
        let mut left = idle_timeout - silence;
        if let Some(since) = self.frame_since {
            if now - since >= FRAME_TIMEOUT {
                return Err(SessionError::FrameTimeout { limit: FRAME_TIMEOUT });
            }
            left = left.min(FRAME_TIMEOUT - (now - since));
        }
        let waited = self.ping_since.filter(|_| self.is_written).map(|since| now - since);
        match waited {
            Some(waited) if waited >= pong_timeout => return Err(SessionError::PingTimeout { limit: pong_timeout }),
            Some(waited) => left = left.min(pong_timeout - waited),
            None if self.ping_since.is_some() => {}
            None if silence >= ping_after => {
                self.ping(now);
                return Ok(TimerAction::Ping);
            }
            None => left = left.min(ping_after - silence),
        }
        Ok(TimerAction::Wait(now + left))
    }
}
