//! Whether the other end is alive: one Ping after a silence, one deadline for its Pong.

use std::time::{Duration, Instant};

use super::session::SessionError;

/// The longest time that a setting may have: a year, which is as good as for ever.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// When a silent peer is asked for a sign of life, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivenessSettings {
    /// A Ping is sent after this long without inbound traffic. Default: 15 s.
    pub ping_after: Duration,
    /// How long a Pong may take before the peer is disconnected with [`PingTimeout`]. Default: 20 s.
    ///
    /// [`PingTimeout`]: super::DisconnectReason::PingTimeout
    pub pong_timeout: Duration,
    /// How long a connection may stay without an inbound byte, whatever else happens. Default: 60 s.
    pub idle_timeout: Duration,
}

impl Default for LivenessSettings {
    fn default() -> Self {
        Self {
            ping_after: Duration::from_secs(15),
            pong_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// Liveness settings that contradict one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LivenessSettingsError {
    /// A setting is zero, or so long that the clock cannot tell its end.
    #[error("ping_after, pong_timeout and idle_timeout must be longer than 0 and at most {MAX_TIMEOUT:?}")]
    OutOfRange,
    /// The idle limit would end a connection before its Ping could time out.
    #[error(
        "ping_after ({ping_after:?}) and pong_timeout ({pong_timeout:?}) together must be below idle_timeout ({idle_timeout:?})"
    )]
    PingPastIdle {
        /// The setting of that name.
        ping_after: Duration,
        /// The setting of that name.
        pong_timeout: Duration,
        /// The setting of that name.
        idle_timeout: Duration,
    },
}

impl LivenessSettings {
    /// Checks that the settings can hold together.
    ///
    /// # Errors
    /// [`LivenessSettingsError`].
    pub fn check(&self) -> Result<(), LivenessSettingsError> {
        let Self { ping_after, pong_timeout, idle_timeout } = *self;
        if [ping_after, pong_timeout, idle_timeout].iter().any(|time| time.is_zero() || *time > MAX_TIMEOUT) {
            return Err(LivenessSettingsError::OutOfRange);
        }
        if ping_after + pong_timeout >= idle_timeout {
            return Err(LivenessSettingsError::PingPastIdle { ping_after, pong_timeout, idle_timeout });
        }
        Ok(())
    }
}

/// What the clock asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimerAction {
    /// Nothing before this time.
    Wait(Instant),
    /// Send a Ping, and ask again.
    Ping,
}

#[derive(Debug)]
pub(super) struct Liveness {
    settings: LivenessSettings,
    last_inbound: Instant,
    ping_sent: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(settings: LivenessSettings, now: Instant) -> Self {
        Self { settings, last_inbound: now, ping_sent: None }
    }

    /// Bytes have come.
    pub(super) fn inbound(&mut self, now: Instant) {
        self.last_inbound = now;
    }

    /// Nothing was read for a while because this end did not: the other end cannot be blamed for that time.
    pub(super) fn excuse(&mut self, pause: Duration) {
        self.last_inbound += pause;
        if let Some(sent) = &mut self.ping_sent {
            *sent += pause;
        }
    }

    /// Notes that a Ping is being sent; `false` when one is outstanding, and none must be sent.
    pub(super) fn ping(&mut self, now: Instant) -> bool {
        let free = self.ping_sent.is_none();
        self.ping_sent.get_or_insert(now);
        free
    }

    /// The time that the Ping took, if one was outstanding.
    pub(super) fn pong(&mut self, now: Instant) -> Option<Duration> {
        self.ping_sent.take().map(|sent| now.saturating_duration_since(sent))
    }

    pub(super) fn poll(&mut self, now: Instant) -> Result<TimerAction, SessionError> {
        let idle_limit = self.last_inbound + self.settings.idle_timeout;
        if now >= idle_limit {
            return Err(SessionError::IdleTimeout { limit: self.settings.idle_timeout });
        }
        let Some(sent) = self.ping_sent else {
            let ping_at = self.last_inbound + self.settings.ping_after;
            if now < ping_at {
                return Ok(TimerAction::Wait(ping_at));
            }
            self.ping(now);
            return Ok(TimerAction::Ping);
        };
        let pong_limit = sent + self.settings.pong_timeout;
        if now >= pong_limit {
            return Err(SessionError::PingTimeout { limit: self.settings.pong_timeout });
        }
        Ok(TimerAction::Wait(pong_limit.min(idle_limit)))
    }
}
