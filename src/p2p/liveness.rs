//! Whether the other end is alive: one Ping after a silence, one deadline for its Pong, one for a frame that has begun,
//! and one for any byte at all.

use std::time::{Duration, Instant};

use super::error::SessionError;
use super::round_trip::RoundTrip;

/// The longest time that a setting may have: a year, which is as good as for ever.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// When a silent peer is asked for a sign of life, and when it is given up.
///
/// ```
/// use std::time::Duration;
///
/// use capmux::p2p::LivenessSettings;
///
/// let settings = LivenessSettings::default().ping_after(Duration::from_secs(5)).pong_timeout(Duration::from_secs(10));
/// settings.check()?;
/// # Ok::<(), capmux::p2p::LivenessSettingsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivenessSettings {
    ping_after: Duration,
    pong_timeout: Duration,
    idle_timeout: Duration,
    frame_timeout: Duration,
}

impl Default for LivenessSettings {
    fn default() -> Self {
        Self {
            ping_after: Duration::from_secs(15),
            pong_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(60),
            frame_timeout: Duration::from_secs(30),
        }
    }
}

/// Liveness settings that contradict one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LivenessSettingsError {
    /// A setting is zero, or so long that the clock cannot tell its end.
    #[error("{setting} must be longer than 0 and at most {MAX_TIMEOUT:?}")]
    OutOfRange {
        /// The name of the setting.
        setting: &'static str,
    },
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
    /// A Ping is sent after this long without inbound traffic, and a thirtieth sooner by the end that has dialled
    /// ([`LivenessSettings::of_dialler`]). Default: 15 s. A shorter time finds a dead peer sooner and costs a frame of 64
    /// bytes each way.
    #[must_use]
    pub fn ping_after(mut self, time: Duration) -> Self {
        self.ping_after = time;
        self
    }

    /// How long a Pong may take, from when its Ping was written, before the peer is disconnected with [`PingTimeout`].
    /// Default: 20 s.
    ///
    /// [`PingTimeout`]: super::DisconnectReason::PingTimeout
    #[must_use]
    pub fn pong_timeout(mut self, time: Duration) -> Self {
        self.pong_timeout = time;
        self
    }

    /// How long a connection may stay without an inbound byte, whatever else happens. Default: 60 s.
    #[must_use]
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = time;
        self
    }

    /// How long a frame may take from its first byte to its last, however its bytes trickle in. Default: 30 s, in which
    /// 16 MiB arrive at 4.5 Mbit/s. A longer time lets slow links send larger messages, and lets a peer hold the memory
    /// for one as long.
    #[must_use]
    pub fn frame_timeout(mut self, time: Duration) -> Self {
        self.frame_timeout = time;
        self
    }

    /// The settings of the end that has dialled: it sends its Ping a thirtieth sooner. Both ends have been silent for the same
    /// time, and the answer to one Ping is a sign of life for both.
    #[must_use]
    pub fn of_dialler(mut self) -> Self {
        self.ping_after -= self.ping_after / 30;
        self
    }

    /// Checks that the settings can hold together.
    ///
    /// # Errors
    /// [`LivenessSettingsError`].
    pub fn check(&self) -> Result<(), LivenessSettingsError> {
        let Self { ping_after, pong_timeout, idle_timeout, frame_timeout } = *self;
        for (setting, time) in [
            ("ping_after", ping_after),
            ("pong_timeout", pong_timeout),
            ("idle_timeout", idle_timeout),
            ("frame_timeout", frame_timeout),
        ] {
            if time.is_zero() || time > MAX_TIMEOUT {
                return Err(LivenessSettingsError::OutOfRange { setting });
            }
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
    /// Since when a frame has been incomplete.
    frame_since: Option<Instant>,
    ping: Option<Outstanding>,
    round_trip: Option<RoundTrip>,
}

/// A Ping that is not answered yet.
#[derive(Debug)]
struct Outstanding {
    /// When it was written, or as long as it is not, when it was decided on.
    since: Instant,
    is_written: bool,
}

impl Liveness {
    pub(super) fn new(settings: LivenessSettings, now: Instant) -> Self {
        Self { settings, last_inbound: now, frame_since: None, ping: None, round_trip: None }
    }

    /// Bytes have come.
    pub(super) fn inbound(&mut self, now: Instant) {
        self.last_inbound = now;
    }

    /// A frame is whole.
    pub(super) fn frame_complete(&mut self, now: Instant) {
        self.inbound(now);
        self.frame_since = None;
    }

    /// Whether a frame has begun that is not whole. Returns when it must be.
    pub(super) fn frame_pending(&mut self, now: Instant, is_pending: bool) -> Option<Instant> {
        self.frame_since = is_pending.then(|| self.frame_since.unwrap_or(now));
        self.frame_limit()
    }

    fn frame_limit(&self) -> Option<Instant> {
        self.frame_since.map(|since| since + self.settings.frame_timeout)
    }

    /// Nothing was read for a while because this end did not: the other end cannot be blamed for that time.
    pub(super) fn excuse(&mut self, pause: Duration) {
        self.last_inbound += pause;
        if let Some(since) = &mut self.frame_since {
            *since += pause;
        }
        if let Some(ping) = &mut self.ping {
            ping.since += pause;
        }
    }

    /// Notes that a Ping is to be sent; `false` when one is outstanding, and none must be sent.
    pub(super) fn ping(&mut self, now: Instant) -> bool {
        let free = self.ping.is_none();
        self.ping.get_or_insert(Outstanding { since: now, is_written: false });
        free
    }

    pub(super) fn ping_written(&mut self, at: Instant) {
        if let Some(ping @ Outstanding { is_written: false, .. }) = &mut self.ping {
            // It may have been written in a pause that has been excused since.
            *ping = Outstanding { since: at.max(ping.since), is_written: true };
        }
    }

    /// The time that the Ping took, if one was outstanding.
    pub(super) fn pong(&mut self, now: Instant) -> Option<Duration> {
        let time = now.saturating_duration_since(self.ping.take()?.since);
        self.round_trip = Some(self.round_trip.map_or_else(|| RoundTrip::new(time), |times| times.and(time)));
        Some(time)
    }

    pub(super) fn round_trip(&self) -> Option<RoundTrip> {
        self.round_trip
    }

    pub(super) fn poll(&mut self, now: Instant) -> Result<TimerAction, SessionError> {
        let LivenessSettings { ping_after, pong_timeout, idle_timeout, frame_timeout } = self.settings;
        let mut until = self.last_inbound + idle_timeout;
        if now >= until {
            return Err(SessionError::IdleTimeout { limit: idle_timeout });
        }
        if let Some(frame_limit) = self.frame_limit() {
            if now >= frame_limit {
                return Err(SessionError::FrameTimeout { limit: frame_timeout });
            }
            until = until.min(frame_limit);
        }
        match self.ping {
            None if now >= self.last_inbound + ping_after => {
                self.ping(now);
                return Ok(TimerAction::Ping);
            }
            None => until = until.min(self.last_inbound + ping_after),
            Some(Outstanding { since, is_written: true }) => {
                if now >= since + pong_timeout {
                    return Err(SessionError::PingTimeout { limit: pong_timeout });
                }
                until = until.min(since + pong_timeout);
            }
            // What is not written cannot be answered; that it is not has a deadline of its own.
            Some(Outstanding { is_written: false, .. }) => {}
        }
        Ok(TimerAction::Wait(until))
    }
}
