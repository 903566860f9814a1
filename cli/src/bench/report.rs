//! The figures: one JSON document, or a table.

use std::fmt::Write as _;
use std::time::Duration;

use capmux_perf::{RoundTrips, Throughput};
use console::style;
use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;

use super::soak::Soak;
use crate::exit::{Exit, Failure};

/// The document of `--json`: its field names are promised.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) codec: Vec<Codec>,
    pub(super) streams: Vec<Stream>,
    pub(super) round_trip: Option<RoundTrip>,
    pub(super) handshake: Option<Handshake>,
    pub(super) idle_peers: Option<IdlePeers>,
    pub(super) soak: Option<Soak>,
}

/// One frame, without sockets.
#[derive(Debug, Serialize)]
pub(super) struct Codec {
    pub(super) size_bytes: usize,
    pub(super) seal_us: f64,
    pub(super) open_us: f64,
}

/// One connection, one way.
#[derive(Debug, Serialize)]
pub(super) struct Stream {
    size_bytes: usize,
    messages_per_s: f64,
    bytes_per_s: f64,
    /// Of both ends, for a message.
    cpu_us: Option<f64>,
}

/// From handler to handler and back, and the same with TCP alone.
#[derive(Debug, Serialize)]
pub(super) struct RoundTrip {
    size_bytes: usize,
    rtt_us: Quantiles,
    tcp_rtt_us: Quantiles,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

/// Both ends.
#[derive(Debug, Serialize)]
pub(super) struct Handshake {
    pub(super) per_s: f64,
    pub(super) cpu_us: Option<f64>,
}

/// Ends of connections on which nothing is said.
#[derive(Debug, Serialize)]
pub(super) struct IdlePeers {
    pub(super) ends: usize,
    /// For each.
    pub(super) resident_bytes: Option<f64>,
    /// Of a core, for a thousand.
    pub(super) cpu_percent: Option<f64>,
}

impl Stream {
    pub(super) fn new(size: usize, stream: &Throughput) -> Self {
        Self {
            size_bytes: size,
            messages_per_s: stream.messages_per_s(),
            bytes_per_s: stream.bytes_per_s(),
            cpu_us: stream.cpu_per_message().map(micros),
        }
    }
}

impl RoundTrip {
    pub(super) fn new(size: usize, times: &RoundTrips, tcp: &RoundTrips) -> Self {
        Self { size_bytes: size, rtt_us: Quantiles::new(times), tcp_rtt_us: Quantiles::new(tcp) }
    }
}

impl Quantiles {
    fn new(times: &RoundTrips) -> Self {
        Self { p50: micros(times.quantile(0.5)), p99: micros(times.quantile(0.99)) }
    }
}

impl Report {
    pub(super) fn to_json(&self) -> Result<String, Failure> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot write the report as JSON: {error}")))?;
        Ok(json + "\n")
    }

    /// The report for people.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{}", line.trim_end()).expect("a String takes everything");
        if !self.codec.is_empty() {
            line(heading("one frame", ["seal", "open"]));
            self.codec.iter().for_each(|codec| line(codec.row()));
        }
        if !self.streams.is_empty() {
            line(heading("one connection, one way", ["messages/s", "bytes/s"]));
            self.streams.iter().for_each(|stream| line(stream.row()));
        }
        if let Some(RoundTrip { size_bytes, rtt_us, tcp_rtt_us }) = &self.round_trip {
            line(heading("there and back", ["median", "99 %"]));
            line(row(&size(*size_bytes), time(rtt_us.p50), time(rtt_us.p99)));
            line(row("with TCP alone", time(tcp_rtt_us.p50), time(tcp_rtt_us.p99)));
        }
        if let Some(Handshake { per_s, cpu_us }) = &self.handshake {
            line(heading("handshakes, both ends", ["a second", "CPU for each"]));
            line(row("TCP and encryption", count(*per_s), cpu_us.map_or("-".to_owned(), time)));
        }
        if let Some(IdlePeers { ends, resident_bytes, cpu_percent }) = &self.idle_peers {
            let memory = resident_bytes.map_or("-".to_owned(), |bytes| BinaryBytes(bytes as u64).to_string());
            let cpu = cpu_percent.map_or("-".to_owned(), |percent| format!("{percent:.2} %"));
            line(heading("idle peers", ["memory each", "CPU of 1,000"]));
            line(row(&format!("{ends} ends"), memory, cpu));
        }
        if let Some(soak) = &self.soak {
            text.push_str(&soak.table());
        }
        text
    }
}

impl Codec {
    fn row(&self) -> String {
        row(&size(self.size_bytes), time(self.seal_us), time(self.open_us))
    }
}

impl Stream {
    fn row(&self) -> String {
        row(&size(self.size_bytes), count(self.messages_per_s), format!("{:.1} MB", self.bytes_per_s / 1e6))
    }
}

fn heading(what: &str, columns: [&str; 2]) -> String {
    let [first, second] = columns.map(|column| style(format!("{column:>14}")).dim().to_string());
    format!("{}{first}{second}", style(format!("{what:<26}")).bold())
}

fn row(name: &str, first: String, second: String) -> String {
    format!("  {name:<24}{first:>14}{second:>14}")
}

fn size(bytes: usize) -> String {
    BinaryBytes(bytes as u64).to_string().replace(".00", "")
}

fn count(value: f64) -> String {
    HumanCount(value.round() as u64).to_string()
}

/// Microseconds with a unit that suits them.
fn time(us: f64) -> String {
    match us {
        us if us < 100.0 => format!("{us:.2} µs"),
        us if us < 10_000.0 => format!("{us:.0} µs"),
        us => format!("{:.1} ms", us / 1000.0),
    }
}

pub(super) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_in_the_table() {
        assert_eq!(Report::default().table(), "");
        let handshake = Some(Handshake { per_s: 1234.4, cpu_us: None });
        let table = console::strip_ansi_codes(&Report { handshake, ..Report::default() }.table()).into_owned();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], "handshakes, both ends           a second  CPU for each");
        assert_eq!(lines[1], "  TCP and encryption               1,234             -");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn times_and_sizes_have_units() {
        let shown = [0.95, 99.994, 249.4, 9_999.0, 12_345.0].map(time);
        assert_eq!(shown, ["0.95 µs", "99.99 µs", "249 µs", "9999 µs", "12.3 ms"]);
        assert_eq!([32, 16 << 10, 1 << 20].map(size), ["32 B", "16 KiB", "1 MiB"]);
    }
}
