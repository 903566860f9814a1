//! A handler that sleeps while messages wait for it, and another of the same peer that answers as fast as ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capmux::{Channel, Peer, Protocol, Server};
use capmux_echo::Echo;
use tokio::time::{Instant, sleep, timeout};

use super::{Cue, Line, Outcome, PATIENCE, check, connect, node};
use crate::demo::report::duration;
use crate::demo::tally::Times;

const NAME: &str = "sleeper";

/// How many messages are sent to the handler while it is awake, and again while it sleeps: fewer than its inbox takes.
/// The same traffic in both halves leaves the sleep as the only difference.
const MESSAGES: u32 = 200;

/// So many fewer are sent in the second half, so that all of them are there before the sleep ends.
const FEWER: u32 = 10;

/// The pause between two requests, and their size.
const ECHO_EVERY: Duration = Duration::from_millis(10);
const ECHO_BYTES: usize = 256;

/// The round trips of echo, and what else there was.
#[derive(Debug)]
pub(in crate::demo) struct Isolation {
    pub(in crate::demo) before: Times,
    pub(in crate::demo) during: Times,
    /// How long the other handler slept.
    pub(in crate::demo) slept: Duration,
    /// The most messages that waited for it.
    pub(in crate::demo) waiting: usize,
}

pub(super) async fn play(mut cue: Cue, line: Line) -> Outcome<Isolation> {
    let (echo_protocol, echo) = Echo::new();
    let [sent, read]: [Arc<AtomicU64>; 2] = Default::default();
    let asking = node("asking", [echo_protocol, talking(&cue, &sent)]).await?;
    let sleeping = node("sleeping", [capmux_echo::protocol(), sleeper(&cue, &read)]).await?;
    let peer = connect(&asking, &sleeping).await?;
    let mut measured = Isolation { before: Times::new(), during: Times::new(), slept: Duration::ZERO, waiting: 0 };
    while Instant::now() < cue.end && cue.wait_until(Instant::now() + ECHO_EVERY).await {
        let now = Instant::now();
        let time = ask(&echo, &peer).await?;
        if now < cue.middle() {
            measured.before.record(time);
        } else if now < cue.end {
            measured.during.record(time);
        }
        measured.waiting = measured.waiting.max(waiting(&sleeping, &asking));
        line.write(measured.line());
    }
    measured.slept = Instant::now().min(cue.end).saturating_duration_since(cue.middle());
    let all_read = async {
        while read.load(Ordering::Relaxed) < sent.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let is_read = timeout(PATIENCE, all_read).await.is_ok();
    check(&peer)?;
    tokio::join!(asking.shutdown(), sleeping.shutdown());
    match (is_read, measured.during.count()) {
        (false, _) => Err(format!("of what was sent to the handler that slept, it has read {read:?} of {sent:?}")),
        (true, 0) if cue.is_stopped() => Ok(None),
        (true, 0) => Err("echo answered nothing while another handler slept".to_owned()),
        (true, _) if measured.waiting == 0 && !cue.is_stopped() => {
            Err("no message waited for the handler that slept".to_owned())
        }
        (true, _) => Ok(Some(measured)),
    }
}

impl Isolation {
    fn line(&self) -> String {
        let time = |times: &Times| times.quantile_us(0.5).map_or("-".to_owned(), duration);
        let before = time(&self.before);
        match self.during.count() {
            0 => format!("echo median {before}"),
            _ => {
                let (during, waiting) = (time(&self.during), self.waiting);
                format!("echo median {before}; {during} while {waiting} messages wait for a sleeper")
            }
        }
    }
}

async fn ask(echo: &Echo, peer: &Peer) -> Result<Duration, String> {
    let mut payload = vec![0; ECHO_BYTES];
    fastrand::fill(&mut payload);
    let answer = timeout(PATIENCE, echo.request(peer, payload)).await;
    answer.map_err(|_| format!("no reply within {PATIENCE:?}"))?.map_err(|error| error.to_string())
}

/// How many messages wait for the handler that sleeps.
fn waiting(sleeping: &Server, asking: &Server) -> usize {
    let Some(peer) = sleeping.peer(&asking.id()) else { return 0 };
    let protocols = peer.status().protocols;
    protocols.iter().find(|status| status.capability.name() == NAME).map_or(0, |status| status.inbox_messages)
}

/// Reads what comes, and sleeps from half-time to the end of the scene.
fn sleeper(cue: &Cue, read: &Arc<AtomicU64>) -> Protocol {
    let (cue, read) = (cue.clone(), read.clone());
    Protocol::from_fn(NAME, 1, 1, move |_, mut channel: Channel| {
        let (mut cue, read) = (cue.clone(), read.clone());
        async move {
            while channel.recv().await.is_some() {
                read.fetch_add(1, Ordering::Relaxed);
                if Instant::now() >= cue.middle() {
                    cue.wait_until(cue.end).await;
                }
            }
            Ok(())
        }
    })
}

/// Sends all the time, whether the other end is awake or not.
fn talking(cue: &Cue, sent: &Arc<AtomicU64>) -> Protocol {
    let (cue, sent) = (cue.clone(), sent.clone());
    Protocol::from_fn(NAME, 1, 1, move |_, mut channel: Channel| {
        let (mut cue, sent) = (cue.clone(), sent.clone());
        async move {
            let every = (cue.end - cue.start) / (2 * MESSAGES);
            for number in 0..2 * MESSAGES - FEWER {
                if !cue.wait_until(cue.start + every * number).await {
                    break;
                }
                channel.send(0, vec![7; 64]).await?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            while channel.recv().await.is_some() {}
            Ok(())
        }
    })
}
