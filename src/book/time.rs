//! The wall clock as a number that can neither overflow nor panic.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The end of the year 9999.
const MAX_MILLIS: u64 = 253_402_300_799_999;

/// Milliseconds since 1970, none before and none after the year 9999.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(MAX_MILLIS).min(MAX_MILLIS)
}

/// The other way round.
pub(super) fn system_time(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis.min(MAX_MILLIS))).unwrap_or(UNIX_EPOCH)
}
