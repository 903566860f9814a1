//! What came of the soak: fields of the document, lines of the table, and the verdict.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use console::style;
use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;

use super::Facts;
use super::events::Events;
use super::ledger::Counts;
use super::node::Tally;
use super::peers::{self, PEERS};
use super::resources::{Use, Uses};

/// The field `soak` of the document: its field names are promised.
#[derive(Debug, Serialize)]
pub(in crate::bench) struct Soak {
    seed: u64,
    seconds: f64,
    peers: usize,
    connections: u64,
    messages: Messages,
    requests: Requests,
    gossip: Gossip,
    churn: Churn,
    faults: Faults,
    resources: Uses,
    /// Whether the run was long enough for growth to be judged.
    growth_judged: bool,
    /// What the verdict says nothing about.
    not_judged: Vec<String>,
    leaks: Vec<String>,
    errors: Vec<String>,
    verdict: &'static str,
    #[serde(skip)]
    asked: Duration,
}

#[derive(Debug, Serialize)]
struct Messages {
    sent: u64,
    received: u64,
    promised: u64,
    missing_allowed: u64,
    lost: u64,
    doubled: u64,
    out_of_order: u64,
    unaccepted: u64,
    corrupted: u64,
}

#[derive(Debug, Serialize)]
struct Requests {
    echo: u64,
    kv: u64,
    unanswered_allowed: u64,
}

#[derive(Debug, Serialize)]
struct Gossip {
    published: u64,
    delivered: u64,
    doubled: u64,
}

#[derive(Debug, Serialize)]
struct Churn {
    shutdowns: u64,
    aborts: u64,
    drops: u64,
    failed_dials: u64,
    longest_shutdown_ms: f64,
}

#[derive(Debug, Serialize)]
struct Faults {
    stalls: u64,
    cuts: u64,
    resets: u64,
    flips: u64,
    floods: u64,
    garbage: u64,
}

impl Soak {
    /// Of a run that ended by itself so much is demanded as belongs to the time that was asked for.
    pub(super) fn new(
        seed: u64,
        asked: Duration,
        (ran, was_cut): (Duration, bool),
        facts: Facts,
        resources: Uses,
    ) -> Self {
        let (ledger, tally, counts) = (&facts.setup.ledger, &facts.setup.tally, facts.setup.ledger.counts());
        let (messages, gossip) = (Messages::new(&counts), Gossip::new(tally));
        if !was_cut {
            let events = Events::new(&counts, tally, &facts.churn);
            events.lacks(asked).into_iter().for_each(|lack| ledger.error(lack));
        }
        let (errors, leaks) = (ledger.errors(), resources.leaks(threads()));
        let is_good = counts.are_good() && gossip.doubled == 0 && errors.is_empty() && leaks.is_empty();
        Self {
            seed,
            seconds: (ran.as_secs_f64() * 10.0).round() / 10.0,
            peers: PEERS,
            connections: ledger.connections(),
            messages,
            requests: Requests::new(tally),
            gossip,
            churn: Churn::new(&facts.churn),
            faults: Faults::new(&facts),
            resources,
            growth_judged: resources.show_growth(),
            not_judged: resources.unjudged().into_iter().chain(was_cut.then(not_enough)).collect(),
            leaks,
            errors,
            verdict: if is_good { "ok" } else { "failed" },
            asked,
        }
    }

    /// Whether nothing was lost, doubled or left behind.
    pub(in crate::bench) fn is_good(&self) -> bool {
        self.verdict == "ok"
    }

    /// The soak for people.
    pub(in crate::bench) fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{}", line.trim_end()).expect("a String takes everything");
        line(style(format!("soak, {:.1} s, one node and {} peers", self.seconds, self.peers)).bold().to_string());
        self.figures().into_iter().for_each(|(name, what)| line(format!("  {name:<14}{what}")));
        line(heading());
        self.resources.rows().into_iter().for_each(&mut line);
        self.verdict().into_iter().for_each(&mut line);
        text
    }

    fn figures(&self) -> Vec<(&'static str, String)> {
        let Self { messages, requests, gossip, churn, faults, .. } = self;
        let dials = format!("{}, {} dials failed", HumanCount(self.connections), HumanCount(churn.failed_dials));
        let [sent, promised, wrong] = messages.lines();
        vec![
            ("connections", dials),
            ("left", churn.line()),
            ("network", faults.of_network()),
            ("hostile", faults.of_others()),
            ("messages", sent),
            ("", promised),
            ("", wrong),
            ("requests", requests.line()),
            ("gossip", gossip.line()),
        ]
    }

    fn verdict(&self) -> Vec<String> {
        let problems: Vec<_> = self.leaks.iter().chain(&self.errors).collect();
        let mut lines = Vec::new();
        if self.is_good() {
            let good = style("ok").green().bold();
            lines.push(format!("{good}  no message lost or doubled; nothing that was judged grows or stays"));
        } else {
            let bad = style("failed").red().bold();
            let Messages { lost, doubled, .. } = self.messages;
            let doubled = doubled + self.gossip.doubled;
            lines.push(format!("{bad}  {lost} messages lost, {doubled} doubled; {} other problems", problems.len()));
            lines.extend(problems.into_iter().map(|problem| format!("  {problem}")));
        }
        lines.extend(self.not_judged.iter().map(|what| format!("  not judged: {what}")));
        let again = format!(
            "The same choices again: capmux bench --only soak --seconds {} --seed {}",
            self.asked.as_secs_f64(),
            self.seed
        );
        lines.push(style(again).dim().to_string());
        lines
    }
}

impl Messages {
    fn new(counts: &Counts) -> Self {
        let Counts { sent, received, missing, promised, faults, unaccepted, corrupted } = *counts;
        Self {
            sent,
            received,
            promised,
            missing_allowed: missing,
            lost: faults.lost,
            doubled: faults.doubled,
            out_of_order: faults.out_of_order,
            unaccepted,
            corrupted,
        }
    }
}

impl Messages {
    fn lines(&self) -> [String; 3] {
        let Self { sent, received, promised, missing_allowed, .. } = *self;
        let Self { lost, doubled, out_of_order, unaccepted, corrupted, .. } = *self;
        let n = HumanCount;
        [
            format!("{} sent, {} received", n(sent), n(received)),
            format!("{} of them promised by orderly ends; {} others never came", n(promised), n(missing_allowed)),
            format!(
                "{} lost, {} doubled, {} out of order, {} never accepted, {} corrupted",
                n(lost),
                n(doubled),
                n(out_of_order),
                n(unaccepted),
                n(corrupted)
            ),
        ]
    }
}

impl Requests {
    fn new(tally: &Tally) -> Self {
        let Tally { echo, kv, unanswered, .. } = tally;
        Self { echo: read(echo), kv: read(kv), unanswered_allowed: read(unanswered) }
    }

    fn line(&self) -> String {
        let [echo, kv, gone] = [self.echo, self.kv, self.unanswered_allowed].map(HumanCount);
        format!("{echo} by echo and {kv} by kv answered, {gone} whose peer went")
    }
}

impl Gossip {
    fn new(tally: &Tally) -> Self {
        let Tally { published, delivered, delivered_twice, .. } = tally;
        Self { published: read(published), delivered: read(delivered), doubled: read(delivered_twice) }
    }

    fn line(&self) -> String {
        let [published, delivered, doubled] = [self.published, self.delivered, self.doubled].map(HumanCount);
        format!("{published} published, {delivered} delivered, {doubled} doubled")
    }
}

impl Churn {
    fn new(churn: &peers::Churn) -> Self {
        Self {
            shutdowns: read(&churn.shutdowns),
            aborts: read(&churn.aborts),
            drops: read(&churn.drops),
            failed_dials: read(&churn.failed_dials),
            longest_shutdown_ms: read(&churn.longest_shutdown_us) as f64 / 1000.0,
        }
    }

    fn line(&self) -> String {
        let [shutdowns, aborts, drops] = [self.shutdowns, self.aborts, self.drops].map(HumanCount);
        let longest = self.longest_shutdown_ms;
        format!(
            "{shutdowns} in order under load, {aborts} aborted, {drops} dropped; a shutdown took {longest:.0} ms at most"
        )
    }
}

impl Faults {
    fn new(facts: &Facts) -> Self {
        let Facts { churn, mishaps, garbage, .. } = facts;
        Self {
            stalls: read(&mishaps.stalls),
            cuts: read(&mishaps.cuts),
            resets: read(&mishaps.resets),
            flips: read(&mishaps.flips),
            floods: read(&churn.floods),
            garbage: *garbage,
        }
    }

    fn of_network(&self) -> String {
        let [stalls, cuts, resets, flips] = [self.stalls, self.cuts, self.resets, self.flips].map(HumanCount);
        format!("{stalls} stalls, {cuts} cuts, {resets} resets, {flips} flipped bits")
    }

    fn of_others(&self) -> String {
        let [floods, garbage] = [self.floods, self.garbage].map(HumanCount);
        format!("{floods} floods of Pings, {garbage} connections with garbage")
    }
}

fn not_enough() -> String {
    "whether enough has happened, since the run was cut short".to_owned()
}

fn heading() -> String {
    style(format!("  {:<14}{:>14}{:>14}{:>14}{:>14}", "", "before", "early", "late", "after")).dim().to_string()
}

impl Uses {
    fn rows(&self) -> Vec<String> {
        let Self { heap_bytes, resident_bytes, descriptors, tasks } = self;
        let bytes = |bytes: u64| BinaryBytes(bytes).to_string();
        let number = |number: u64| HumanCount(number).to_string();
        let row = |name: &str, used: &Option<Use>, show: &dyn Fn(u64) -> String| {
            let Use { before, early, late, after } = (*used)?;
            let columns = [Some(before), early, late, Some(after)];
            let shown = columns.map(|value| format!("{:>14}", value.map_or("-".to_owned(), show)));
            Some(format!("  {name:<14}{}", shown.concat()))
        };
        let rows = [
            row("heap", heap_bytes, &bytes),
            row("resident", resident_bytes, &bytes),
            row("descriptors", descriptors, &number),
            row("tasks", tasks, &number),
        ];
        rows.into_iter().flatten().collect()
    }
}

/// Of the runtime.
fn threads() -> u64 {
    tokio::runtime::Handle::current().metrics().num_workers() as u64
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
