//! What was measured, as a table or as lines of JSON, row by row.

use serde::Serialize;
use serde_json::Value;

use crate::Failure;
use crate::workloads::Row;

/// The figures of one round.
pub(crate) struct Round {
    pub(crate) capmux: Value,
    pub(crate) geth: Option<Value>,
    /// Of TCP alone, where that makes sense.
    pub(crate) bare: Option<Value>,
}

pub(crate) struct Report {
    json: bool,
}

impl Report {
    pub(crate) fn new(json: bool, rounds: usize) -> Self {
        if !json {
            println!("medians of {rounds}, also of the ratio; above 1, capmux is better");
            println!(
                "{:<14} {:>12} {:>12} {:>7}  {:<15} {:<10}",
                "", "capmux", "geth", "ratio", "lowest-highest", "unit"
            );
        }
        Self { json }
    }

    /// Prints one row.
    pub(crate) fn row(&mut self, row: &Row, rounds: &[Round]) -> Result<(), Failure> {
        let capmux = rounds.iter().map(|round| row.read(&round.capmux)).collect::<Option<Vec<_>>>();
        // Without these the run was for nothing; the platform may not tell them, or too little was measured.
        let Some(capmux) = capmux else {
            eprintln!("SKIPPED: {}: it was not measured here", row.name);
            return Ok(());
        };
        let side = |of: fn(&Round) -> Option<&Value>| {
            rounds.iter().map(|round| row.read(of(round)?)).collect::<Option<Vec<_>>>()
        };
        let (geth, bare) = (side(|round| round.geth.as_ref()), side(|round| round.bare.as_ref()));
        let ratios = geth.as_ref().map(|geth| {
            let mut ratios: Vec<_> = capmux.iter().zip(geth).map(|(capmux, geth)| row.ratio(*capmux, *geth)).collect();
            ratios.sort_by(f64::total_cmp);
            ratios
        });
        let over_tcp =
            bare.as_ref().map(|bare| median(capmux.iter().zip(bare).map(|(ours, tcp)| ours / tcp).collect()));
        let figures =
            Figures { capmux: median(capmux), geth: geth.map(median), ratios, tcp: bare.map(median).zip(over_tcp) };
        println!("{}", if self.json { figures.json(row) } else { figures.text(row) });
        Ok(())
    }
}

/// A line of `--json`: its field names are promised.
#[derive(Serialize)]
struct Line {
    workload: &'static str,
    unit: &'static str,
    capmux: f64,
    geth: Option<f64>,
    ratio: Option<f64>,
    ratio_min: Option<f64>,
    ratio_max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    over_tcp: Option<f64>,
}

struct Figures {
    capmux: f64,
    geth: Option<f64>,
    /// In ascending order.
    ratios: Option<Vec<f64>>,
    /// TCP alone, and how many times as much capmux takes.
    tcp: Option<(f64, f64)>,
}

impl Figures {
    fn json(&self, row: &Row) -> String {
        let ratios = self.ratios.as_deref();
        let line = Line {
            workload: row.name,
            unit: row.unit,
            capmux: self.capmux,
            geth: self.geth,
            ratio: ratios.map(|ratios| median(ratios.to_vec())),
            ratio_min: ratios.and_then(<[f64]>::first).copied(),
            ratio_max: ratios.and_then(<[f64]>::last).copied(),
            tcp: self.tcp.map(|(tcp, _)| tcp),
            over_tcp: self.tcp.map(|(_, over_tcp)| over_tcp),
        };
        serde_json::to_string(&line).expect("names and numbers")
    }

    fn text(&self, row: &Row) -> String {
        let (mut geth, mut ratio, mut range) = ("-".to_owned(), "-".to_owned(), String::new());
        if let (Some(theirs), Some(ratios)) = (self.geth, &self.ratios) {
            (geth, ratio) = (figure(theirs), format!("{:.2}", median(ratios.clone())));
            range = format!("{:.2}-{:.2}", ratios[0], ratios[ratios.len() - 1]);
        }
        let tcp = self.tcp.map(|(tcp, over)| format!("{} with TCP alone, {over:.2} times that", figure(tcp)));
        let line = format!(
            "{:<14} {:>12} {geth:>12} {ratio:>7}  {range:<15} {:<10} {}",
            row.name,
            figure(self.capmux),
            row.unit,
            tcp.unwrap_or_default()
        );
        line.trim_end().to_owned()
    }
}

/// Four digits at least, as far as there are any.
fn figure(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] }
}
