//! The scenes in the demo's result: fields of the document, and sections of the table.

use capmux::Party;
use console::style;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::report::{Quantiles, duration, heading, plural, row};
use super::scenes::{Played, flood, isolation, shares};

#[derive(Debug, Serialize)]
pub(super) struct Shares {
    weights: [u16; 3],
    bytes: [u64; 3],
    percent: [f64; 3],
}

impl Shares {
    pub(super) fn new(shares: &shares::Shares) -> Self {
        let percent = shares.percent().map(|percent| (percent * 100.0).round() / 100.0);
        Self { weights: shares::WEIGHTS, bytes: shares.bytes, percent }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Isolation {
    before_us: Quantiles,
    during_us: Quantiles,
    sleep_ms: u64,
    waiting: usize,
}

impl Isolation {
    pub(super) fn new(isolation: &isolation::Isolation) -> Self {
        Self {
            before_us: Quantiles::new(&isolation.before, 1.0),
            during_us: Quantiles::new(&isolation.during, 1.0),
            sleep_ms: u64::try_from(isolation.slept.as_millis()).unwrap_or(u64::MAX),
            waiting: isolation.waiting,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Flood {
    reason: Reason,
    by: String,
    pings: u64,
    others_answered: u64,
}

#[derive(Debug, Serialize)]
struct Reason {
    code: u64,
    name: String,
}

impl Flood {
    pub(super) fn new(flood: &flood::Flood) -> Self {
        Self {
            reason: Reason { code: flood.reason.code(), name: flood.reason.to_string() },
            by: flood.by.to_string(),
            pings: flood.pings,
            others_answered: flood.others_answered,
        }
    }
}

/// The sections of the scenes that there is something to tell of.
pub(super) fn of(played: &Played) -> Vec<String> {
    let Played { shares, isolation, flood } = played;
    let sections = [shares.as_ref().map(of_shares), isolation.as_ref().map(of_isolation), flood.as_ref().map(of_flood)];
    sections.into_iter().flatten().flat_map(|lines| [vec![String::new()], lines].concat()).collect()
}

fn of_shares(shares: &shares::Shares) -> Vec<String> {
    let weights = shares::WEIGHTS.into_iter().zip(shares.percent()).zip(shares::Shares::ideal()).zip(shares.bytes);
    let rows = weights.map(|(((weight, had), due), bytes)| {
        let (had, due) = (format!("{had:.2} %"), format!("{due:.2} %"));
        format!("  {:<12}{had:>10}{due:>10}   {} came", format!("weight {weight}"), HumanBytes(bytes))
    });
    let title = format!("Three protocols fill a link of {} MB/s, by their weights.", shares::RATE / 1_000_000);
    [style(title).bold().to_string(), heading("share", "due")].into_iter().chain(rows).collect()
}

fn of_isolation(isolation: &isolation::Isolation) -> Vec<String> {
    let isolation::Isolation { before, during, slept, waiting } = isolation;
    let trips = |number| format!("{} round trips", HumanCount(number));
    let waiting = plural(*waiting, "message");
    let title = "A handler sleeps, and echo of the same peer goes on.";
    let slept = duration(u64::try_from(slept.as_micros()).unwrap_or(u64::MAX));
    vec![
        style(title).bold().to_string(),
        heading("median", "99 %"),
        row("echo before", before, trips(before.count())),
        row("meanwhile", during, format!("{}; it sleeps for {slept}, {waiting} wait for it", trips(during.count()))),
    ]
}

fn of_flood(flood: &flood::Flood) -> Vec<String> {
    let flood::Flood { reason, by, pings, took, others_answered } = flood;
    let took = duration(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    let by = if *by == Party::Local { "its node".to_owned() } else { by.to_string() };
    let (code, others) = (reason.code(), format!("{} others", flood::OTHERS));
    vec![
        style("A peer floods its node with Pings, and is disconnected alone.").bold().to_string(),
        format!("  {:<12}disconnected by {by}: {reason} ({code:#04x}), after {pings} Pings and {took}", "flooder"),
        format!("  {others:<12}{} round trips of echo since, none missing", HumanCount(*others_answered)),
    ]
}
