//! Both ends dial at once, and geth has no rule for that: it keeps the connection that reaches its checks first, and
//! ends the other with 0x05, before its Hello or after it.

use std::time::{Duration, Instant};

use capmux::{Direction, Event, NodeKey, Peer, Server};
use tokio::time::{sleep, timeout};

use crate::local::{Local, echo};
use crate::matrix::Case;
use crate::remote::Remote;

/// How many times they dial each other. capmux has the smaller id every other time.
const ROUNDS: usize = 100;

/// How much later than the other either end dials, at the most, in microseconds: about what a setup takes.
const MAX_DELAY: u64 = 1_500;

/// After this long without an event of ours nothing more happens by itself.
const QUIET: Duration = Duration::from_millis(100);

/// How long they may be without a connection: the shortest backoff.
const MAX_GAP: Duration = Duration::from_secs(1);

mod one_connection_survives {
    with_every_node! { @one one_connection_survives with_geth Geth Outbound }
}

/// What came of one time.
#[derive(Debug, Default)]
struct Outcome {
    /// How our peer came about, and theirs as we would see it.
    peers: [Option<Direction>; 2],
    /// Peers of ours that did not last, and connections that became none.
    ended: usize,
    /// How long we were without a peer after the first, until all was quiet.
    gap: Duration,
}

impl Outcome {
    fn is_good(&self) -> bool {
        self.peers[0].is_some() && self.peers[0] == self.peers[1] && self.gap < MAX_GAP
    }
}

async fn one_connection_survives(case: Case) {
    let mut remote = case.remote(&["--max-peers", "1000"]).await;
    let mut random = fastrand::Rng::with_seed(63);
    let (mut met, mut bad) = ([0; 2], Vec::new());
    for round in 0..ROUNDS {
        let outcome = race(&mut remote, round % 2 == 0, &mut random).await;
        met[round % 2] += usize::from(outcome.ended > 0);
        if !outcome.is_good() {
            bad.push((round, outcome));
        }
    }
    assert!(met.iter().all(|met| *met > 0), "H63: they dial at once, whoever has the smaller id: {met:?}");
    assert!(bad.is_empty(), "R45 H63: {} of {met:?} that met have not led to one connection: {bad:?}", bad.len());
}

/// Has a new node of capmux and geth dial each other.
async fn race(remote: &mut Remote, smaller: bool, random: &mut fastrand::Rng) -> Outcome {
    let mut local = Local::start(Server::builder(key(smaller, remote)).protocol(echo())).await;
    let (enode, theirs) = (local.enode(), remote.enode().clone());
    let delay = Duration::from_micros(random.u64(..MAX_DELAY));
    let (ours_waits, theirs_waits) = if random.bool() { (delay, Duration::ZERO) } else { (Duration::ZERO, delay) };
    let dial = async {
        sleep(ours_waits).await;
        local.server.dial(&theirs).await
    };
    let dialled = async {
        sleep(theirs_waits).await;
        remote.dial_at_once(&enode).await;
    };
    // What comes of it is seen below.
    let _ = tokio::join!(dial, dialled);
    let outcome = settled(&mut local, remote).await;
    local.server.shutdown().await;
    outcome
}

/// Waits until both ends have one peer and all is quiet, for a little longer than they may be without.
async fn settled(local: &mut Local, remote: &mut Remote) -> Outcome {
    let mut outcome = Outcome::default();
    let (start, mut alone_since) = (Instant::now(), None);
    loop {
        while let Ok(event) = timeout(QUIET, local.event()).await {
            match event {
                Event::Added { .. } => {
                    let gap = alone_since.take().map_or(Duration::ZERO, |since: Instant| since.elapsed());
                    outcome.gap = outcome.gap.max(gap);
                }
                Event::Dropped { .. } => {
                    outcome.ended += 1;
                    alone_since = alone_since.or_else(|| local.server.peers().is_empty().then(Instant::now));
                }
                Event::Refused { .. } | Event::DialFailed { .. } => outcome.ended += 1,
                _ => {}
            }
        }
        outcome.peers =
            [local.server.peers().first().map(Peer::direction), theirs(local, remote, outcome.peers[1]).await];
        if outcome.is_good() || start.elapsed() > 2 * MAX_GAP {
            return outcome;
        }
    }
}

/// Which connection to us geth has, as we would see it; `known` is the one that it had before.
async fn theirs(local: &Local, remote: &mut Remote, known: Option<Direction>) -> Option<Direction> {
    let is_connected = remote.peers().await.contains(&local.id());
    let inbound = remote.told("peer", &local.id()).pop().and_then(|peer| peer.flag("inbound"));
    let direction = inbound.map(|inbound| if inbound { Direction::Outbound } else { Direction::Inbound });
    direction.or(known).filter(|_| is_connected)
}

/// A key whose id is smaller than the other node's, or larger.
fn key(smaller: bool, remote: &Remote) -> NodeKey {
    let mut keys = std::iter::repeat_with(NodeKey::random);
    let fits = |key: &NodeKey| (key.public_key().node_id() < remote.enode().node_id()) == smaller;
    keys.find(fits).expect("there is no end of keys")
}
