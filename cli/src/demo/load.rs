//! What the nodes say to each other: requests on every connection, and messages from random nodes to all.

use std::sync::Arc;
use std::time::Duration;

use capmux::Peer;
use capmux_echo::Echo;
use capmux_gossip::Gossip;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout, timeout_at};

use super::network::{Link, Network};
use super::tally::Tally;

/// The size of a message that is published.
const GOSSIP_BYTES: usize = 256;
/// The smallest and the largest request.
pub(super) const ECHO_BYTES: (usize, usize) = (32, 1024);

/// On a small network: twenty requests a second on each connection, fifty messages a second.
const ECHO_EVERY: Duration = Duration::from_millis(50);
const GOSSIP_EVERY: Duration = Duration::from_millis(20);
/// On a large one, at least so much time for each connection: the figures are to show latency, not overload.
const ECHO_PER_LINK: Duration = Duration::from_micros(500);
const GOSSIP_PER_LINK: Duration = Duration::from_micros(100);

/// How long what is under way may take at the end.
const SETTLE: Duration = Duration::from_secs(5);

/// The running load.
pub(super) struct Load {
    done: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Load {
    pub(super) fn start(network: &Network, links: &[Link], tally: &Arc<Tally>, random: &mut fastrand::Rng) -> Self {
        let load = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let count = u32::try_from(links.len()).unwrap_or(u32::MAX);
        let every = ECHO_EVERY.max(ECHO_PER_LINK * count);
        for link in links {
            let asking = Asking {
                names: (link.from, link.to),
                echo: network.nodes[link.from].echo.clone(),
                peer: link.peer.clone(),
                // Not all at the same moment.
                ticks: ticks(every.mul_f64(random.f64()), every),
                random: random.fork(),
                tally: tally.clone(),
            };
            tasks.spawn(asking.run(load.subscribe()));
        }
        let every = GOSSIP_EVERY.max(GOSSIP_PER_LINK * count);
        let publishing = Publishing {
            nodes: network.nodes.iter().map(|node| node.gossip.clone()).collect(),
            ticks: ticks(every, every),
            random: random.fork(),
            tally: tally.clone(),
        };
        tasks.spawn(publishing.run(load.subscribe()));
        Self { done: load, tasks }
    }

    /// Says no more, and waits until what was said has arrived: five seconds at most.
    pub(super) async fn finish(mut self, tally: &Tally) {
        let deadline = Instant::now() + SETTLE;
        self.done.send_replace(true);
        let settled = async {
            while self.tasks.join_next().await.is_some() {}
            while !tally.all_delivered() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        // What has not arrived is counted later.
        let _ = timeout_at(deadline, settled).await;
        self.tasks.shutdown().await;
    }
}

/// Steady, or slower when it cannot keep up.
fn ticks(first: Duration, every: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + first, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next tick; `false` when the load is to end.
async fn next(ticks: &mut Interval, done: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        biased;
        _ = done.wait_for(|done| *done) => false,
        _ = ticks.tick() => true,
    }
}

/// Requests on one connection.
struct Asking {
    names: (usize, usize),
    echo: Echo,
    peer: Peer,
    ticks: Interval,
    random: fastrand::Rng,
    tally: Arc<Tally>,
}

impl Asking {
    async fn run(mut self, mut done: watch::Receiver<bool>) {
        let (from, to) = self.names;
        while next(&mut self.ticks, &mut done).await {
            let mut payload = vec![0; self.random.usize(ECHO_BYTES.0..=ECHO_BYTES.1)];
            self.random.fill(&mut payload);
            match timeout(SETTLE, self.echo.request(&self.peer, payload)).await {
                Ok(Ok(time)) => self.tally.round_trip(time),
                Ok(Err(error)) => return self.tally.error(format!("node {from} asked node {to}: {error}")),
                Err(_) => return self.tally.error(format!("node {from} asked node {to}: no reply within {SETTLE:?}")),
            }
        }
    }
}

/// Messages from random nodes to all.
struct Publishing {
    nodes: Vec<Gossip>,
    ticks: Interval,
    random: fastrand::Rng,
    tally: Arc<Tally>,
}

impl Publishing {
    async fn run(mut self, mut done: watch::Receiver<bool>) {
        while next(&mut self.ticks, &mut done).await {
            let node = self.random.usize(..self.nodes.len());
            let number = self.tally.publishing(node);
            if let Err(error) = self.nodes[node].publish(message(number)) {
                self.tally.error(format!("node {node} could not publish message {number}: {error}"));
            }
        }
    }
}

/// A message that shows its number all over.
fn message(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(GOSSIP_BYTES / 8)
}

/// The number of a message; `None` when it is not as it was published.
pub(super) fn number_of(payload: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(*payload.first_chunk()?);
    (payload == message(number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_was_changed_is_noticed() {
        let mut payload = message(77);
        assert_eq!((payload.len(), number_of(&payload)), (GOSSIP_BYTES, Some(77)));
        payload[200] ^= 1;
        assert_eq!(number_of(&payload), None);
        assert_eq!(number_of(&message(77)[1..]), None);
        assert_eq!(number_of(b""), None);
    }
}
