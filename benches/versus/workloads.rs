//! What is measured, and how the figures are read. Both sides take the same arguments and give the same fields.

use serde_json::Value;

/// What one process measures; one or more rows of the table.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// For the bench mode of either side.
    pub(crate) args: Vec<String>,
    /// The same work on TCP alone, by this program.
    pub(crate) bare: Option<Vec<String>>,
    pub(crate) rows: Vec<Row>,
}

/// A figure.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    read: fn(&Value) -> Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

use Better::{Higher, Lower};

impl Workload {
    /// Whether the pattern is in the name of a row, or of the whole.
    pub(crate) fn matches(&self, pattern: &str) -> bool {
        self.rows.iter().any(|row| self.shows(row, pattern))
    }

    pub(crate) fn shows(&self, row: &Row, pattern: &str) -> bool {
        self.name.contains(pattern) || row.name.contains(pattern)
    }
}

impl Row {
    pub(crate) fn read(&self, figures: &Value) -> Option<f64> {
        (self.read)(figures).filter(|value| value.is_finite() && *value > 0.0)
    }

    /// How many times better the first is than the second.
    pub(crate) fn ratio(&self, capmux: f64, other: f64) -> f64 {
        if self.better == Higher { capmux / other } else { other / capmux }
    }
}

/// All of them, in the order of the table.
pub(crate) fn workloads(quick: bool) -> Vec<Workload> {
    // A silent peer is pinged every 15 s.
    let (time, ping_periods, nodes) = if quick { ((0.3, 0.1), 3.0, 8) } else { ((2.0, 0.5), 30.0, 32) };
    let window = |command: &str, (seconds, warm_up): (f64, f64)| {
        format!("{command} --seconds {seconds} --warm-up {warm_up}").split(' ').map(str::to_owned).collect()
    };
    let work = |name, command: &str, rows| Workload { name, args: window(command, time), bare: None, rows };
    let small = |name| row(name, "messages/s", Higher, |figures| number(figures, "messages_per_s"));
    let large = |name| row(name, "MB/s", Higher, |figures| Some(number(figures, "bytes_per_s")? / 1e6));
    let mut all = vec![
        work("32B", "stream --size 32", vec![small("32B")]),
        work("1KiB", "stream --size 1024", vec![small("1KiB")]),
        work("16KiB", "stream --size 16384", vec![large("16KiB")]),
        work("128KiB", "stream --size 131072", vec![large("128KiB")]),
        work("1MiB", "stream --size 1048576", vec![large("1MiB")]),
        work("rtt", "rtt --size 32", round_trip()),
        work("handshake", "handshake --at-once 8", handshake()),
        work("idle_heap", &format!("idle-memory --nodes {nodes}"), vec![idle_heap()]),
        work("idle_cpu", &format!("idle-cpu --nodes {nodes}"), vec![idle_cpu()]),
        work("broadcast", "broadcast --size 131072 --peers 64", vec![broadcast()]),
    ];
    for workload in &mut all {
        match workload.name {
            "rtt" => workload.bare = Some(window("tcp-rtt --size 32", time)),
            "idle_cpu" => workload.args = window(&format!("idle-cpu --nodes {nodes}"), (ping_periods, 1.0)),
            _ => {}
        }
    }
    all
}

fn row(name: &'static str, unit: &'static str, better: Better, read: fn(&Value) -> Option<f64>) -> Row {
    Row { name, unit, better, read }
}

fn round_trip() -> Vec<Row> {
    vec![
        row("rtt", "us", Lower, |figures| number(figures, "p50_us")),
        row("rtt_p99", "us", Lower, |figures| number(figures, "p99_us")),
    ]
}

fn handshake() -> Vec<Row> {
    vec![
        row("handshake", "per s", Higher, |figures| number(figures, "per_s")),
        row("handshake_cpu", "us", Lower, |figures| number(figures, "cpu_us")),
    ]
}

fn idle_heap() -> Row {
    row("idle_heap", "bytes", Lower, |figures| Some(number(figures, "resident_bytes")? / number(figures, "ends")?))
}

/// Of a core, for a thousand ends of connections.
fn idle_cpu() -> Row {
    row("idle_cpu", "%", Lower, |figures| {
        let share = number(figures, "cpu_s")? / number(figures, "seconds")?;
        Some(100.0 * share * 1000.0 / number(figures, "ends")?)
    })
}

fn broadcast() -> Row {
    row("broadcast", "MB/CPU s", Higher, |figures| Some(number(figures, "bytes_per_cpu_s")? / 1e6))
}

fn number(figures: &Value, field: &str) -> Option<f64> {
    figures.get(field)?.as_f64()
}
