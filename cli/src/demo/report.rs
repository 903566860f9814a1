//! The demo's result: one JSON document, or a table.

use std::fmt::Write as _;
use std::time::Duration;

use capmux::Traffic;
use console::style;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::graph::Graph;
use super::load::ECHO_BYTES;
use super::scenes::Played;
use super::sections::{self, Ban, Comeback, Flood, Isolation, Newcomer, Shares};
use super::tally::{Counts, Times};
use crate::exit::{Exit, Failure};

/// What came of the demo.
pub(super) struct Outcome {
    pub(super) seed: u64,
    pub(super) graph: Graph,
    /// How long the nodes were to talk, and how long they did.
    pub(super) asked: Duration,
    pub(super) talked: Duration,
    pub(super) traffic: Traffic,
    pub(super) played: Played,
    pub(super) counts: Counts,
}

impl Outcome {
    /// Whether they talked less than they were to: interrupted, or never begun.
    fn was_cut(&self) -> bool {
        self.talked < self.asked
    }
}

/// The document of `--json`: its field names are promised.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    nodes: usize,
    seconds: u64,
    connections: usize,
    handshake_ms: Quantiles,
    echo: Echo,
    gossip: Gossip,
    bytes_sent: u64,
    bytes_received: u64,
    /// Null, as are the next five, where it was cut short or failed.
    shares: Option<Shares>,
    isolation: Option<Isolation>,
    flood: Option<Flood>,
    comeback: Option<Comeback>,
    ban: Option<Ban>,
    newcomer: Option<Newcomer>,
    pub(super) errors: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Echo {
    messages: u64,
    rtt_us: Quantiles,
}

#[derive(Debug, Serialize)]
struct Gossip {
    messages: u64,
    deliveries: u64,
    expected_deliveries: u64,
    spread_ms: Quantiles,
}

/// `null` where nothing was measured.
#[derive(Debug, Serialize)]
pub(super) struct Quantiles {
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Quantiles {
    pub(super) fn new(times: &Times, unit_us: f64) -> Self {
        let quantile = |share| times.quantile_us(share).map(|time| time as f64 / unit_us);
        Self { p50: quantile(0.5), p99: quantile(0.99) }
    }
}

impl Report {
    pub(super) fn new(outcome: &Outcome) -> Self {
        let Outcome { counts, traffic, played, .. } = outcome;
        let talked = if outcome.was_cut() { outcome.talked } else { outcome.asked };
        Self {
            nodes: outcome.graph.nodes(),
            seconds: talked.as_secs_f64().round() as u64,
            connections: counts.connections,
            handshake_ms: Quantiles::new(&counts.handshakes, 1000.0),
            echo: Echo { messages: counts.round_trips.count(), rtt_us: Quantiles::new(&counts.round_trips, 1.0) },
            gossip: Gossip {
                messages: counts.published,
                deliveries: counts.deliveries,
                expected_deliveries: counts.expected_deliveries(),
                spread_ms: Quantiles::new(&counts.spreads, 1000.0),
            },
            bytes_sent: traffic.bytes_sent,
            bytes_received: traffic.bytes_received,
            shares: played.shares.as_ref().map(Shares::new),
            isolation: played.isolation.as_ref().map(Isolation::new),
            flood: played.flood.as_ref().map(Flood::new),
            comeback: played.comeback.as_ref().map(Comeback::new),
            ban: played.ban.as_ref().map(Ban::new),
            newcomer: played.newcomer.as_ref().map(Newcomer::new),
            errors: counts.errors.clone(),
        }
    }

    pub(super) fn to_json(&self) -> Result<String, Failure> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot write the report as JSON: {error}")))?;
        Ok(json + "\n")
    }
}

/// The report for people.
pub(super) fn table(report: &Report, outcome: &Outcome) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    introduction(report, outcome).into_iter().for_each(&mut line);
    line(String::new());
    line(heading("median", "99 %"));
    measured(report, outcome).into_iter().for_each(&mut line);
    sections::of(&outcome.played).into_iter().for_each(&mut line);
    line(String::new());
    verdict(report, outcome).into_iter().for_each(&mut line);
    text
}

fn introduction(report: &Report, outcome: &Outcome) -> Vec<String> {
    let title =
        format!("{} nodes, {} over loopback TCP", report.nodes, plural(report.connections, "encrypted connection"));
    let peers = match outcome.graph.degrees() {
        (1, 1) => "its peer".to_owned(),
        (fewest, most) if fewest == most => format!("each of its {most} peers"),
        (fewest, most) => format!("each of its {fewest} to {most} peers"),
    };
    let talked = outcome.talked.as_secs_f64();
    let cut = if outcome.was_cut() { format!(" of {}", outcome.asked.as_secs()) } else { String::new() };
    vec![
        style(title).bold().to_string(),
        format!("Each node runs two protocols, echo and gossip, with {peers}."),
        format!("They talked for {talked:.1}{cut} s, all in this process."),
    ]
}

fn measured(report: &Report, outcome: &Outcome) -> Vec<String> {
    let Outcome { counts, graph, traffic, .. } = outcome;
    let count = HumanCount;
    let (smallest, largest) = ECHO_BYTES;
    let stage = |times: &Times| times.quantile_us(0.5).map_or("-".to_owned(), duration);
    let (encryption, hello) = (stage(&counts.encryption), stage(&counts.hello));
    vec![
        row("handshake", &counts.handshakes, format!("TCP, encryption ({encryption}) and Hello ({hello})")),
        row(
            "echo",
            &counts.round_trips,
            format!("{} round trips of {smallest} to {largest} bytes", count(report.echo.messages)),
        ),
        row(
            "gossip",
            &counts.spreads,
            format!(
                "{} messages to all nodes, {} at most",
                count(report.gossip.messages),
                plural(graph.diameter(), "hop")
            ),
        ),
        format!(
            "  {:<12}{:>20}   in {} frames",
            "traffic",
            HumanBytes(traffic.bytes_sent).to_string(),
            count(traffic.messages_sent)
        ),
    ]
}

/// The names of the columns.
pub(super) fn heading(first: &str, second: &str) -> String {
    style(format!("  {:<12}{first:>10}{second:>10}", "")).dim().to_string()
}

pub(super) fn row(name: &str, times: &Times, what: String) -> String {
    let time = |share| times.quantile_us(share).map_or("-".to_owned(), duration);
    format!("  {name:<12}{:>10}{:>10}   {what}", time(0.5), time(0.99))
}

fn verdict(report: &Report, outcome: &Outcome) -> Vec<String> {
    let gossip = &report.gossip;
    let (came, expected) = (HumanCount(gossip.deliveries), HumanCount(gossip.expected_deliveries));
    let mut lines = Vec::new();
    if report.errors.is_empty() {
        let good = style("ok").green().bold();
        lines.push(format!("{good}  {came} of {expected} deliveries, each exactly once; no errors"));
    } else {
        let bad = style("failed").red().bold();
        lines.push(format!("{bad}  {came} of {expected} deliveries; {} errors:", report.errors.len()));
        lines.extend(report.errors.iter().map(|error| format!("  {error}")));
    }
    let again = format!("The same network again: capmux demo --nodes {} --seed {}", report.nodes, outcome.seed);
    lines.push(style(again).dim().to_string());
    lines
}

/// Microseconds with a unit that suits them.
pub(super) fn duration(us: u64) -> String {
    let mut text = String::new();
    let written = match us {
        0..1_000 => write!(text, "{us} µs"),
        1_000..1_000_000 => write!(text, "{:.1} ms", us as f64 / 1e3),
        _ => write!(text, "{:.1} s", us as f64 / 1e6),
    };
    written.expect("a String takes everything");
    text
}

/// A number of things, with the plural that it takes.
pub(super) fn plural(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let shown = [0, 999, 1_000, 12_340, 999_900, 1_000_000].map(duration);
        assert_eq!(shown, ["0 µs", "999 µs", "1.0 ms", "12.3 ms", "999.9 ms", "1.0 s"]);
    }
}
