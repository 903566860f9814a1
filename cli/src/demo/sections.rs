//! The scenes in the demo's result: fields of the document, and sections of the table.

use std::time::Duration;

use capmux::{DisconnectReason, Party};
use console::style;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::report::{Quantiles, duration, heading, plural, row};
use super::scenes::{Played, ban, comeback, flood, isolation, newcomer, shares};

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
            sleep_ms: milliseconds(isolation.slept),
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

impl Reason {
    fn new(reason: DisconnectReason) -> Self {
        Self { code: reason.code(), name: reason.to_string() }
    }
}

impl Flood {
    pub(super) fn new(flood: &flood::Flood) -> Self {
        Self {
            reason: Reason::new(flood.reason),
            by: flood.by.to_string(),
            pings: flood.pings,
            others_answered: flood.others_answered,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Comeback {
    peers: usize,
    gone_ms: u64,
    dials: usize,
    delays_ms: Vec<Vec<u64>>,
    back_ms: u64,
}

impl Comeback {
    pub(super) fn new(comeback: &comeback::Comeback) -> Self {
        let delays = |delays: &Vec<Duration>| delays.iter().copied().map(milliseconds).collect();
        Self {
            peers: comeback.delays.len(),
            gone_ms: milliseconds(comeback.gone),
            dials: comeback.dials(),
            delays_ms: comeback.delays.iter().map(delays).collect(),
            back_ms: milliseconds(comeback.took),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Ban {
    reason: Reason,
    by: String,
    refusal: Reason,
    refused: usize,
    others_answered: u64,
}

impl Ban {
    pub(super) fn new(ban: &ban::Ban) -> Self {
        Self {
            reason: Reason::new(ban.reason),
            by: ban.by.to_string(),
            refusal: Reason::new(ban.refusal),
            refused: ban.refused,
            others_answered: ban.others_answered,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Newcomer {
    nodes: usize,
    known: usize,
    found: usize,
    connected: usize,
    asked: u64,
    found_ms: u64,
    connected_ms: u64,
}

impl Newcomer {
    pub(super) fn new(newcomer: &newcomer::Newcomer) -> Self {
        Self {
            nodes: newcomer::OTHERS + 1,
            known: 1,
            found: newcomer.found,
            connected: newcomer.connected,
            asked: newcomer.asked,
            found_ms: milliseconds(newcomer.found_after),
            connected_ms: milliseconds(newcomer.connected_after),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A time as the table shows it.
fn shown(time: Duration) -> String {
    duration(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// The sections of the scenes that there is something to tell of.
pub(super) fn of(played: &Played) -> Vec<String> {
    let Played { shares, isolation, flood, comeback, ban, newcomer } = played;
    let sections = [
        shares.as_ref().map(of_shares),
        isolation.as_ref().map(of_isolation),
        flood.as_ref().map(of_flood),
        comeback.as_ref().map(of_comeback),
        ban.as_ref().map(of_ban),
        newcomer.as_ref().map(of_newcomer),
    ];
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
    let slept = shown(*slept);
    vec![
        style(title).bold().to_string(),
        heading("median", "99 %"),
        row("echo before", before, trips(before.count())),
        row("meanwhile", during, format!("{}; it sleeps for {slept}, {waiting} wait for it", trips(during.count()))),
    ]
}

fn of_flood(flood: &flood::Flood) -> Vec<String> {
    let flood::Flood { reason, by, pings, took, others_answered } = flood;
    let (took, by) = (shown(*took), ended_by(*by));
    let (code, others) = (reason.code(), format!("{} others", flood::OTHERS));
    vec![
        style("A peer floods its node with Pings, and is disconnected alone.").bold().to_string(),
        format!("  {:<12}disconnected by {by}: {reason} ({code:#04x}), after {pings} Pings and {took}", "flooder"),
        format!("  {others:<12}{} round trips of echo since, none missing", HumanCount(*others_answered)),
    ]
}

fn of_comeback(comeback: &comeback::Comeback) -> Vec<String> {
    let comeback::Comeback { gone, delays, took } = comeback;
    let shown_delays = |delays: &Vec<Duration>| {
        let delays: Vec<_> = delays.iter().map(|delay| milliseconds(*delay).to_string()).collect();
        format!("  {:<12}dials after {} ms", "a peer", delays.join(", "))
    };
    let title = "A node is killed and comes back, and its persistent peers dial it with backoff.";
    let node =
        format!("  {:<12}gone for {}, all {} peers back {} later", "node", shown(*gone), delays.len(), shown(*took));
    [style(title).bold().to_string(), node].into_iter().chain(delays.iter().map(shown_delays)).collect()
}

fn of_ban(ban: &ban::Ban) -> Vec<String> {
    let ban::Ban { reason, by, took, refusal, refused, others_answered } = ban;
    let (took, by, others) = (shown(*took), ended_by(*by), format!("{} others", ban::OTHERS));
    vec![
        style("A node bans a peer, which is refused from then on.").bold().to_string(),
        format!(
            "  {:<12}disconnected by {by}: {reason} ({:#04x}), after {took}; {} refused: {refusal} ({:#04x})",
            "banned",
            reason.code(),
            plural(*refused, "redial"),
            refusal.code()
        ),
        format!("  {others:<12}{} round trips of echo since, none missing", HumanCount(*others_answered)),
    ]
}

fn of_newcomer(newcomer: &newcomer::Newcomer) -> Vec<String> {
    let newcomer::Newcomer { found, connected, asked, found_after, connected_after } = newcomer;
    let (nodes, asked) = (newcomer::OTHERS + 1, plural(usize::try_from(*asked).unwrap_or(usize::MAX), "request"));
    let title = format!("A newcomer knows one of {nodes} nodes, and finds the rest by peer exchange.");
    vec![
        style(title).bold().to_string(),
        format!("  {:<12}{found} others after {}, with {asked}", "found", shown(*found_after)),
        format!("  {:<12}to all {connected} after {}", "connected", shown(*connected_after)),
    ]
}

fn ended_by(party: Party) -> String {
    if party == Party::Local { "its node".to_owned() } else { party.to_string() }
}
