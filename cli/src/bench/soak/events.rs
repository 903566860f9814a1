//! Whether enough has happened for a verdict: where nothing is sent, nothing is lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ledger::Counts;
use super::node::Tally;
use super::peers::Churn;

/// In a run of this length or more enough connections end in order for a share of the messages to be demanded.
const LONG: Duration = Duration::from_secs(30);

/// How many of the messages that were sent have to be promised, in percent.
const PROMISED: u64 = 5;

/// In shorter runs a busy machine may get no further than the first messages.
const BRIEF: Duration = Duration::from_secs(10);

/// What has to happen in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Events {
    sent: u64,
    received: u64,
    promised: u64,
    echo: u64,
    kv: u64,
    delivered: u64,
    floods: u64,
    shutdowns: u64,
}

impl Events {
    pub(super) fn new(counts: &Counts, tally: &Tally, churn: &Churn) -> Self {
        let Counts { sent, received, promised, .. } = *counts;
        let counters = [&tally.echo, &tally.kv, &tally.delivered, &churn.floods, &churn.shutdowns];
        let [echo, kv, delivered, floods, shutdowns] = counters.map(|counter| counter.load(Ordering::Relaxed));
        Self { sent, received, promised, echo, kv, delivered, floods, shutdowns }
    }

    /// What has happened too rarely in a run that was to take so long.
    pub(super) fn lacks(&self, asked: Duration) -> Vec<String> {
        let Self { sent, received, promised, echo, kv, delivered, floods, shutdowns } = *self;
        let events = [
            (received, Duration::ZERO, "no message was received"),
            (echo, BRIEF, "echo answered nothing"),
            (kv, BRIEF, "kv answered nothing"),
            (delivered, BRIEF, "gossip delivered nothing"),
            (floods, BRIEF, "no flood was ended"),
            (shutdowns, BRIEF, "no peer was shut down under load"),
        ];
        let absent = events.into_iter().filter(|(count, least, _)| *count == 0 && asked >= *least);
        let is_rare = asked >= LONG && promised < sent.saturating_mul(PROMISED) / 100;
        let rare = is_rare.then(|| {
            format!("only {promised} of {sent} messages were promised, where {PROMISED} in a hundred have to be")
        });
        absent.map(|(_, _, lack)| lack.to_owned()).chain(rare).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: Events =
        Events { sent: 1000, received: 900, promised: 50, echo: 1, kv: 1, delivered: 1, floods: 1, shutdowns: 1 };
    const NOTHING: Events =
        Events { sent: 0, received: 0, promised: 0, echo: 0, kv: 0, delivered: 0, floods: 0, shutdowns: 0 };

    #[test]
    fn a_run_in_which_nothing_happens_is_not_good() {
        assert_eq!(ENOUGH.lacks(LONG), Vec::<String>::new());
        assert_eq!(NOTHING.lacks(LONG).len(), 6, "every event is missed");
        let idle = Events { floods: 0, ..ENOUGH };
        assert_eq!(idle.lacks(BRIEF), ["no flood was ended"]);
        let unjudged = Events { promised: 49, ..ENOUGH };
        assert_eq!(
            unjudged.lacks(LONG),
            ["only 49 of 1000 messages were promised, where 5 in a hundred have to be"],
            "R63"
        );
    }

    #[test]
    fn of_a_brief_run_less_is_demanded() {
        let brief = BRIEF - Duration::from_millis(1);
        assert_eq!(Events { promised: 0, floods: 0, shutdowns: 0, ..ENOUGH }.lacks(brief), Vec::<String>::new());
        assert_eq!(NOTHING.lacks(brief), ["no message was received"]);
        assert_eq!(Events { promised: 0, ..ENOUGH }.lacks(LONG - brief), Vec::<String>::new());
    }
}
