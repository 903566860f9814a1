//! Values as they are written in a configuration file: numbers, sizes, times, lists of nodes.

use std::time::Duration;

use capmux::p2p::MAX_TIMEOUT;
use capmux::{Enode, NodeId, RateLimit};
use toml::de::DeValue;

/// The units of sizes, the largest first.
const UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A whole number that is not negative.
pub(super) fn whole(given: &DeValue<'_>) -> Option<u64> {
    let number = given.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A number of bytes: a whole number, or a text with a unit.
pub(super) fn size(given: &DeValue<'_>) -> Option<u64> {
    let Some(text) = given.as_str() else { return whole(given) };
    let (unit, bytes) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let digits = text.strip_suffix(unit)?.trim_end();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(bytes)
}

/// A size as it would be written: with the largest unit that it is a whole number of, or as a number.
pub(super) fn show_size(size: impl TryInto<u64>) -> String {
    let size = size.try_into().unwrap_or(u64::MAX);
    let unit = UNITS.into_iter().find(|(_, bytes)| size >= *bytes && size.is_multiple_of(*bytes) && *bytes > 1);
    unit.map_or_else(|| size.to_string(), |(unit, bytes)| format!("\"{}{unit}\"", size / bytes))
}

/// A time above 0, and at most as long as the library allows.
pub(super) fn time(given: &DeValue<'_>) -> Option<Duration> {
    let time = humantime::parse_duration(given.as_str()?).ok()?;
    Some(time).filter(|time| !time.is_zero() && *time <= MAX_TIMEOUT)
}

pub(super) fn show_time(time: Duration) -> String {
    format!("\"{}\"", humantime::format_duration(time))
}

/// A time as text: the longest in days, which `humantime` would show in years and months.
pub(super) fn show_bound(time: Duration) -> String {
    match time {
        MAX_TIMEOUT => "365 days".into(),
        time => humantime::format_duration(time).to_string(),
    }
}

/// A number from 0 to 1.
pub(super) fn part(given: &DeValue<'_>) -> Option<f64> {
    let number = match given.as_float() {
        Some(number) => number.as_str().parse().ok()?,
        None => f64::from(u32::try_from(whole(given)?).ok()?),
    };
    Some(number).filter(|number| (0.0..=1.0).contains(number))
}

/// Nodes; an error with its cause when one of them will not do, without when it is no list of texts.
pub(super) fn enodes(given: &DeValue<'_>) -> Result<Vec<Enode>, Option<String>> {
    let items = given.as_array().ok_or(None)?;
    let node = |text: &str| text.parse().map_err(|error| Some(format!("{text:?}: {error}")));
    items.iter().map(|item| item.get_ref().as_str().ok_or(None).and_then(node)).collect()
}

/// The ids of nodes, each alone or in an enode; errors as those of [`enodes`].
pub(super) fn node_ids(given: &DeValue<'_>) -> Result<Vec<NodeId>, Option<String>> {
    let items = given.as_array().ok_or(None)?;
    let id = |text: &str| node_id(text).map_err(|error| Some(format!("{text:?}: {error}")));
    items.iter().map(|item| item.get_ref().as_str().ok_or(None).and_then(id)).collect()
}

fn node_id(text: &str) -> Result<NodeId, String> {
    match text.starts_with("enode:") {
        true => text.parse::<Enode>().map(|enode| enode.node_id()).map_err(|error| error.to_string()),
        false => text.parse::<NodeId>().map_err(|error| error.to_string()),
    }
}

/// A table of two whole numbers.
pub(super) fn message_rate(given: &DeValue<'_>) -> Option<RateLimit> {
    let number = |name| whole(given.get(name)?.get_ref()).and_then(|number| u32::try_from(number).ok());
    let (per_second, burst) = (number("per_second")?, number("burst")?);
    given.as_table().filter(|table| table.len() == 2).and_then(|_| RateLimit::new(per_second, burst).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DeValue<'_> {
        DeValue::parse(text).expect("TOML").into_inner()
    }

    #[test]
    fn sizes_are_numbers_or_texts_with_a_unit() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("65_504", Some(65504)),
            ("0x10", Some(16)),
            ("'7B'", Some(7)),
            ("'64KiB'", Some(65536)),
            ("'2 MiB'", Some(2 << 20)),
            ("'1GiB'", Some(1 << 30)),
            ("-1", None),
            ("1.5", None),
            ("'12'", None),
            ("'KiB'", None),
            ("'+1KiB'", None),
            ("'1MB'", None),
            ("'99999999999TiB'", None),
            ("true", None),
        ] {
            assert_eq!(size(&parse(text)), bytes, "{text}");
        }
    }

    #[test]
    fn a_size_that_is_shown_can_be_read_again() {
        for bytes in [0, 1, 1023, 1024, 1536, 65504, 1 << 20, 3 << 30, 1 << 40, u64::MAX / 2] {
            assert_eq!(size(&parse(&show_size(bytes))), Some(bytes), "{}", show_size(bytes));
        }
    }

    #[test]
    fn parts_are_numbers_from_0_to_1() {
        for (text, part) in [
            ("0", Some(0.0)),
            ("1", Some(1.0)),
            ("0.25", Some(0.25)),
            ("1_0e-1", Some(1.0)),
            ("1.01", None),
            ("-0.1", None),
            ("2", None),
            ("nan", None),
            ("inf", None),
            ("'0.5'", None),
        ] {
            assert_eq!(super::part(&parse(text)), part, "{text}");
        }
    }

    #[test]
    fn times_have_a_unit_and_an_end() {
        for (text, time) in [
            ("'15s'", Some(Duration::from_secs(15))),
            ("'500ms'", Some(Duration::from_millis(500))),
            ("'1m 30s'", Some(Duration::from_secs(90))),
            ("'365days'", Some(MAX_TIMEOUT)),
            ("'366days'", None),
            ("'0s'", None),
            ("'15'", None),
            ("15", None),
            ("'-1s'", None),
            ("''", None),
        ] {
            assert_eq!(super::time(&parse(text)), time, "{text}");
        }
    }
}
