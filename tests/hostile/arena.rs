//! One server, its honest peers, and what is counted while others attack it.

use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::Poll;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use capmux::testing::{self, Network};
use capmux::{NodeKey, Server, ServerBuilder};
use capmux_conformance::{Node, Script, Visit};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::account::Account;
use crate::honest::Honest;
use crate::support::{echo, settle, sink, soon};

/// How often everything is done.
pub(crate) const TIMES: usize = 50;

/// How many honest peers there are.
const HONEST: usize = 3;

/// By so much the heap may have grown that is not the attackers': buffers of the thread and of the runtime.
const SLACK: i64 = 64 * 1024;

/// In virtual time nobody computes: what is more than the timer's steps was a wait for somebody else.
const VIRTUAL_LATENCY: Duration = Duration::from_millis(5);

/// On a busy machine a median below this says nothing.
const FLOOR: Duration = Duration::from_millis(100);

/// The number of the key of the server, for the model, too.
pub(crate) const OWN_KEY: u8 = 77;

/// The host of the server, in memory.
pub(crate) const HOST: &str = "10.0.0.1";

/// The host of all attackers that do not name one of their own.
pub(crate) const HOSTILE: &str = "10.0.0.66";

/// Who counts descriptors or processor time is alone.
static TURN: RwLock<()> = RwLock::new(());

/// What an attack is made on.
pub(crate) struct Arena {
    pub(crate) server: Server,
    /// The server as the scripts know it.
    pub(crate) node: Arc<Node>,
    /// Where everything is, unless it is on loopback.
    pub(crate) network: Option<Network>,
    honest: Vec<Honest>,
}

/// How an arena is made, and how the attacks follow one another.
pub(crate) struct Scene {
    row: String,
    at_once: usize,
    on_sockets: bool,
    pace: Duration,
    rest: Duration,
    settings: fn(ServerBuilder) -> ServerBuilder,
}

impl Scene {
    /// In memory, in virtual time, and one attack after the other.
    pub(crate) fn of(row: &str) -> Self {
        let settings = |node: ServerBuilder| node.protocol(sink("bulk", 4));
        let (pace, rest) = (Duration::from_millis(250), Duration::from_secs(45));
        Self { row: row.to_owned(), at_once: 1, on_sockets: false, pace, rest, settings }
    }

    /// So many attacks at once.
    pub(crate) fn at_once(mut self, count: usize) -> Self {
        self.at_once = count;
        self
    }

    /// On loopback and in real time.
    pub(crate) fn on_sockets(mut self) -> Self {
        self.on_sockets = true;
        (self.pace, self.rest) = (Duration::from_millis(20), Duration::from_millis(500));
        self
    }

    /// What the server has beside `echo`; otherwise a protocol `bulk` of four codes that reads everything.
    pub(crate) fn settings(mut self, settings: fn(ServerBuilder) -> ServerBuilder) -> Self {
        self.settings = settings;
        self
    }

    /// How often the honest peers talk, for what takes hours.
    pub(crate) fn pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// Attacks as often as it should be, and fails unless everything is where it was. The attack is told its number;
    /// numbers from [`TIMES`] on are those that nobody counts, which come first. Returns what was counted.
    pub(crate) fn repeat(self, attack: impl AsyncFn(&Arena, usize)) -> AllocationInfo {
        let turn = (self.on_sockets.then(alone), (!self.on_sockets).then(together));
        let runtime = runtime(!self.on_sockets);
        let arena = runtime.block_on(Arena::open(&self));
        let attacks = async |from: usize, count: usize| {
            for first in (from..from + count).step_by(self.at_once) {
                let last = (first + self.at_once).min(from + count);
                at_once((first..last).map(|number| attack(&arena, number))).await;
            }
        };
        let before = runtime.block_on(async {
            attacks(TIMES, self.at_once.max(2)).await;
            arena.rest(&self).await
        });
        let usual = median(arena.times());
        let mut after = None;
        let used = measure(|| {
            after = Some(runtime.block_on(async {
                attacks(0, TIMES).await;
                arena.rest_until(&self, &before).await
            }))
        });
        let row = &*self.row;
        assert_eq!(after, Some(before), "{row}: everything is where it was");
        assert!(used.bytes_current.abs() < SLACK, "{row}: the heap is where it was: {used:?}");
        arena.honest.iter().for_each(|honest| honest.assert_lives(row));
        arena.assert_quick(row, usual);
        runtime.block_on(arena.assert_open(row));
        drop(turn);
        used
    }
}

impl Arena {
    async fn open(scene: &Scene) -> Self {
        let network = (!scene.on_sockets).then(|| Network::new(1));
        let key = NodeKey::from_bytes(&[OWN_KEY; 32]).expect("it is a key");
        let node = (scene.settings)(Server::builder(key).protocol(echo()).max_peers(100).max_inbound(90));
        let node = match &network {
            Some(network) => node.listen_on(network.host(HOST).address()).transport(network.host(HOST)),
            None => node.listen("127.0.0.1:0".parse().expect("an address")),
        };
        let server = node.start().await.expect("the settings are good");
        let enode = server.enode().expect("it listens");
        let probed = match &network {
            Some(network) => Node::probe_over(network.host(HOSTILE), &enode).await,
            None => Node::probe(&enode).await,
        };
        let node = Arc::new(probed.expect("the server answers"));
        let mut arena = Self { server, node, network, honest: Vec::new() };
        for number in 0..HONEST {
            let honest = arena.newcomer(number as u64, scene.pace).await;
            arena.honest.push(honest);
        }
        arena
    }

    /// A connection from the host of all attackers.
    pub(crate) fn visit(&self) -> Visit {
        Visit::new(self.node.clone())
    }

    /// A connection on which nothing has been said.
    pub(crate) async fn stranger(&self) -> Script {
        self.visit().open().await.expect("the server accepts")
    }

    /// A connection after an honest encryption handshake.
    pub(crate) async fn encrypted(&self) -> Script {
        self.visit().handshake().await.expect("the server answers")
    }

    /// A connection that is a peer.
    pub(crate) async fn peer(&self) -> Script {
        self.visit().greet().await.expect("the server answers")
    }

    /// The memory that this is in.
    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("this arena is in memory")
    }

    async fn newcomer(&self, number: u64, pace: Duration) -> Honest {
        let node = |protocol| match &self.network {
            Some(network) => testing::node().transport(network.host(&format!("10.0.1.{number}"))).protocol(protocol),
            None => testing::node().protocol(protocol),
        };
        Honest::start(node, &self.server, number, pace).await
    }

    /// Waits until nothing that an attacker left can still happen by itself.
    async fn rest(&self, scene: &Scene) -> Account {
        settle().await;
        sleep(scene.rest).await;
        soon(async {
            while self.server.status().pending > 0 || self.server.peers().len() > HONEST {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        settle().await;
        Account::of(&self.server, scene.on_sockets)
    }

    /// [`Arena::rest`], and some time for what has not ended yet, if it does.
    async fn rest_until(&self, scene: &Scene, before: &Account) -> Account {
        let mut account = self.rest(scene).await;
        let _ = timeout(Duration::from_secs(10), async {
            while account != *before {
                sleep(Duration::from_millis(10)).await;
                account = Account::of(&self.server, scene.on_sockets);
            }
        })
        .await;
        account
    }

    fn times(&self) -> Vec<Duration> {
        self.honest.iter().flat_map(Honest::take_times).collect()
    }

    /// Fails if honest peers have waited.
    fn assert_quick(&self, row: &str, usual: Duration) {
        let times = self.times();
        assert!(times.len() >= HONEST, "{row}: honest peers have talked: {times:?}");
        let slowest = times.iter().max().copied().unwrap_or_default();
        let median = median(times);
        match self.network {
            Some(_) => assert!(slowest <= VIRTUAL_LATENCY, "{row}: an honest peer has waited for {slowest:?}"),
            None => assert!(median <= FLOOR.max(4 * usual), "{row}: honest peers wait for {median:?}, not {usual:?}"),
        }
    }

    /// Fails unless an honest peer connects at the first try.
    async fn assert_open(&self, row: &str) {
        let newcomer = self.newcomer(99, Duration::from_millis(1)).await;
        sleep(Duration::from_millis(100)).await;
        newcomer.assert_lives(row);
    }
}

/// Runs all futures at once on this task.
pub(crate) async fn at_once<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Some(Box::pin(future)), None)).collect();
    std::future::poll_fn(|context| {
        let mut are_done = true;
        for (future, output) in &mut running {
            if let Some(pending) = future {
                match Pin::new(pending).poll(context) {
                    Poll::Ready(ready) => (*future, *output) = (None, Some(ready)),
                    Poll::Pending => are_done = false,
                }
            }
        }
        if are_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

/// The median of some times.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A runtime of one thread.
pub(crate) fn runtime(is_virtual: bool) -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(is_virtual).build().expect("a runtime")
}

/// Nothing else of this process runs until the result is dropped.
pub(crate) fn alone() -> impl Drop {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody runs [`alone`] until the result is dropped.
pub(crate) fn together() -> impl Drop {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}
