//! The soak: one node, fifty peers that come and go, a bad network, and in the end a verdict: is a message lost or
//! doubled, and does anything grow or stay behind?

mod end;
mod events;
mod garbage;
mod ledger;
mod node;
mod peers;
mod proxy;
mod report;
mod resources;
mod sequence;
mod stream;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capmux::{FibonacciBackoff, NodeKey, Server};
use indicatif::{HumanCount, ProgressBar};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::exit::{Exit, Failure};
use ledger::Ledger;
use node::{Node, Setup, Tally};
use peers::{Churn, PEERS, Peer, Role, World, role};
use proxy::Mishaps;
pub(super) use report::Soak;
use resources::{Sample, Samples};

/// What `--only` has to be for it to run: it takes long and measures nothing, so no part of the name will do.
pub(super) const NAME: &str = "soak";

/// Both ends of all connections, of those between peers and through the proxy too, and what is thrown at the node.
const SOCKETS: u64 = 8 * PEERS as u64;

/// How often the node's application does something.
const EVERY: Duration = Duration::from_millis(5);

/// What is on its way when the load ends has so long to arrive.
const SETTLE: Duration = Duration::from_secs(2);

/// How long the last sockets and tasks may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest an orderly shutdown may take: three seconds, and the rest is for a machine that is busy.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// A run of this length or more has lives of their usual length.
const USUAL: Duration = Duration::from_secs(60);

/// How far the run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Everybody sends, and peers come and go.
    Load,
    /// Nobody sends, and nobody comes or goes.
    Settle,
    /// Everybody leaves.
    Leave,
}

/// Waits for a phase, or one behind it.
async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // It is over when the one who tells is gone.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

/// Runs the soak for so long, or until it is to stop; then it is cut short. The bar shows how it goes.
pub(super) async fn run(
    time: Duration,
    seed: u64,
    stop: &mut oneshot::Receiver<()>,
    bar: &ProgressBar,
) -> Result<(Soak, bool), Failure> {
    capmux_perf::process::allow_sockets(SOCKETS).map_err(failed)?;
    let mut samples = Samples::new(Sample::take());
    let (begin, phase) = (Instant::now(), watch::Sender::new(Phase::Load));
    let mut scene = Scene::start(time, seed, &phase).await?;
    let was_cut = scene.watch(begin, time, &mut samples, stop, bar).await;
    let ran = begin.elapsed();
    let facts = scene.end(&phase).await;
    let before = samples.before();
    let after = settled(before).await;
    Ok((Soak::new(seed, time, (ran, was_cut), facts, samples.uses(ran, after)), was_cut))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("cannot start the soak: {error}"))
}

/// What the process uses when the last sockets and tasks are gone, or will not go.
async fn settled(before: Sample) -> Sample {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sample = Sample::take();
        let is_back = sample.descriptors <= before.descriptors && sample.tasks <= before.tasks;
        if is_back || Instant::now() > deadline {
            return sample;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Everything that runs.
struct Scene {
    world: Arc<World>,
    node: Node,
    mishaps: Arc<Mishaps>,
    garbage: Arc<AtomicU64>,
    peers: JoinSet<()>,
    /// The proxy, and what disturbs the node.
    around: JoinSet<()>,
}

/// What the report is made of.
struct Facts {
    setup: Arc<Setup>,
    churn: Arc<Churn>,
    mishaps: Arc<Mishaps>,
    garbage: u64,
}

impl Scene {
    async fn start(time: Duration, seed: u64, phase: &watch::Sender<Phase>) -> Result<Self, Failure> {
        let mut random = fastrand::Rng::with_seed(seed);
        let keys: Vec<_> = (0..PEERS).map(|_| key(&mut random)).collect();
        let are = |wanted| {
            let ids = keys.iter().enumerate().filter(move |(number, _)| role(*number) == wanted);
            ids.map(|(_, key)| key.public_key().node_id()).collect()
        };
        let ledger = Ledger::new(are(Role::Faulty), are(Role::Slow));
        let (ledger, phase) = (Arc::new(ledger), phase.subscribe());
        let setup = Arc::new(Setup { ledger, phase, tally: Tally::default(), seed });
        let own = key(&mut random);
        let node = Node::start(&setup, own, EVERY, &mut random, |builder| {
            let builder = builder.listen((Ipv4Addr::LOCALHOST, 0).into()).backoff(FibonacciBackoff::default());
            builder.max_peers(2 * PEERS).max_inbound(2 * PEERS)
        });
        let node = node.await.map_err(failed)?;
        let enode = node.server.enode().ok_or("the node does not listen").map_err(failed)?;
        let address = node.server.local_addr().ok_or("the node does not listen").map_err(failed)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let world = Arc::new(World {
            setup,
            churn: Arc::default(),
            node: node.server.clone(),
            enode,
            address,
            proxy: listener.local_addr().map_err(failed)?,
            pace: time.div_duration_f64(USUAL).clamp(0.05, 1.0),
            neighbours: watch::Sender::default(),
        });
        let mut scene = Self {
            world,
            node,
            mishaps: Arc::default(),
            garbage: Arc::default(),
            peers: JoinSet::new(),
            around: JoinSet::new(),
        };
        scene.around.spawn(proxy::run(listener, address, scene.mishaps.clone(), random.fork()));
        scene.around.spawn(peers::disturb(scene.world.clone(), scene.garbage.clone(), random.fork()));
        for (number, key) in keys.into_iter().enumerate() {
            scene.peers.spawn(Peer::new(role(number), key, scene.world.clone(), random.fork()).run());
        }
        Ok(scene)
    }

    /// Takes samples and judges what is over, until time is up or it is to stop; whether it was.
    async fn watch(
        &mut self,
        begin: Instant,
        time: Duration,
        samples: &mut Samples,
        stop: &mut oneshot::Receiver<()>,
        bar: &ProgressBar,
    ) -> bool {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let end = sleep(time);
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                _ = &mut *stop => return true,
                () = &mut end => return false,
                _ = ticks.tick() => {}
            }
            self.world.setup.ledger.sweep();
            samples.add(begin.elapsed(), Sample::take());
            bar.set_message(self.line(begin.elapsed(), time));
        }
    }

    /// What is shown while it runs.
    fn line(&self, ran: Duration, time: Duration) -> String {
        let counts = self.world.setup.ledger.counts();
        format!(
            "soak, {} of {} s, {} peers, {} messages, {} lost, {} doubled",
            ran.as_secs(),
            time.as_secs_f64(),
            self.world.node.peers().len(),
            HumanCount(counts.received),
            counts.faults.lost,
            counts.faults.doubled
        )
    }

    /// Ends the load, has everybody leave in order, and judges the rest.
    async fn end(self, phase: &watch::Sender<Phase>) -> Facts {
        let Self { world, node, mishaps, garbage, mut peers, mut around } = self;
        phase.send_replace(Phase::Settle);
        sleep(SETTLE.mul_f64(world.pace.max(0.25))).await;
        phase.send_replace(Phase::Leave);
        while let Some(ended) = peers.join_next().await {
            if let Err(error) = ended {
                world.setup.ledger.error(format!("a peer: {error}"));
            }
        }
        shut_down(&world.node, &world.churn, &world.setup.ledger).await;
        let left = world.node.peers().len();
        if left > 0 {
            world.setup.ledger.error(format!("the node still had {left} peers after its shutdown"));
        }
        around.shutdown().await;
        node.end().await;
        let deadline = Instant::now() + PATIENCE;
        while !world.setup.ledger.are_all_over() && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        world.setup.ledger.finish();
        let (setup, churn) = (world.setup.clone(), world.churn.clone());
        Facts { setup, churn, mishaps, garbage: garbage.load(Ordering::Relaxed) }
    }
}

/// The same for the same seed: nobody outside meets these nodes.
fn key(random: &mut fastrand::Rng) -> NodeKey {
    loop {
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        if let Ok(key) = NodeKey::from_bytes(&bytes) {
            return key;
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Shuts a node down in order, and notes how long that takes.
async fn shut_down(server: &Server, churn: &Churn, ledger: &Ledger) {
    let start = Instant::now();
    ledger.leaving(server.id());
    if timeout(SHUTDOWN, server.shutdown()).await.is_err() {
        ledger.error(format!("a shutdown took more than {SHUTDOWN:?}"));
    }
    let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    churn.longest_shutdown_us.fetch_max(took, Ordering::Relaxed);
}
