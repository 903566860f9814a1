//! How long a measurement and the soak may take.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::exit::{Exit, Failure};

const MEASUREMENT: RangeInclusive<f64> = 0.1..=60.0;
const SOAK: RangeInclusive<f64> = 1.0..=86_400.0;

/// A number of seconds that is not checked yet: what it may be depends on what it is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seconds(f64);

/// A time that cannot be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum InvalidSeconds {
    /// It is no number.
    NotANumber,
    /// It is out of the range for this.
    OutOfRange {
        /// What it is for.
        what: &'static str,
        seconds: f64,
        allowed: RangeInclusive<f64>,
    },
}

impl FromStr for Seconds {
    type Err = InvalidSeconds;

    fn from_str(text: &str) -> Result<Self, InvalidSeconds> {
        let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite());
        seconds.map(Self).ok_or(InvalidSeconds::NotANumber)
    }
}

/// How long each measurement takes, by default a second.
pub(super) fn of_measurement(asked: Option<Seconds>) -> Result<Duration, InvalidSeconds> {
    check("a measurement", asked.unwrap_or(Seconds(1.0)), MEASUREMENT)
}

/// How long the soak takes, by default a minute.
pub(super) fn of_soak(asked: Option<Seconds>) -> Result<Duration, InvalidSeconds> {
    check("the soak", asked.unwrap_or(Seconds(60.0)), SOAK)
}

fn check(
    what: &'static str,
    Seconds(seconds): Seconds,
    allowed: RangeInclusive<f64>,
) -> Result<Duration, InvalidSeconds> {
    if allowed.contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(InvalidSeconds::OutOfRange { what, seconds, allowed })
    }
}

impl fmt::Display for InvalidSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |range: &RangeInclusive<f64>| format!("from {} to {}", range.start(), range.end());
        match self {
            Self::NotANumber => {
                write!(f, "give a number of seconds: {}, for the soak {}", range(&MEASUREMENT), range(&SOAK))
            }
            Self::OutOfRange { what, seconds, allowed } => {
                write!(f, "{what} cannot take {seconds} seconds: give a number {}", range(allowed))
            }
        }
    }
}

impl std::error::Error for InvalidSeconds {}

impl From<InvalidSeconds> for Failure {
    fn from(error: InvalidSeconds) -> Self {
        Self::new(Exit::Usage, format!("--seconds: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_limits_of_its_own() {
        let seconds = |text: &str| text.parse::<Seconds>().ok();
        assert_eq!(of_measurement(None), Ok(Duration::from_secs(1)));
        assert_eq!(of_soak(None), Ok(Duration::from_secs(60)));
        assert_eq!(of_soak(seconds("3600")), Ok(Duration::from_secs(3600)));
        assert_eq!(of_measurement(seconds("0.1")), Ok(Duration::from_millis(100)));
        for text in ["0", "-1", "0.99", "86401"] {
            assert!(
                matches!(of_soak(seconds(text)), Err(InvalidSeconds::OutOfRange { what: "the soak", .. })),
                "{text}"
            );
        }
        assert!(of_measurement(seconds("61")).is_err_and(|error| error.to_string().contains("from 0.1 to 60")));
        for text in ["NaN", "inf", "long", ""] {
            assert_eq!(text.parse::<Seconds>(), Err(InvalidSeconds::NotANumber), "{text}");
        }
    }
}
