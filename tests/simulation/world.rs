//! A network of servers in one process and in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use capmux::book::{AddressBook, SharedBook};
use capmux::p2p::LivenessSettings;
use capmux::testing::Network;
use capmux::{Address, Event, EventKind, NodeAddr, NodeId, NodeKey, Protocol, Server, ServerBuilder};
use capmux_pex::{Pex, PexSettings};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// The wall clock of all nodes when the simulation begins: some time in 2026.
const EPOCH: Duration = Duration::from_secs(1_780_000_000);

const PORT: u16 = 30_303;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Something that has happened at a node: when, at which, what, and with which other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) time: Duration,
    pub(crate) node: usize,
    pub(crate) kind: EventKind,
    pub(crate) other: Option<usize>,
}

/// A machine: it keeps its key, its clock and what is on its disk when the server is gone.
pub(crate) struct Machine {
    pub(crate) book: SharedBook,
    /// By how many seconds its wall clock is off.
    offset: Arc<AtomicI64>,
    /// How often its book was looked at.
    looks: Arc<AtomicU64>,
    server: Option<Server>,
    recorder: Option<JoinHandle<()>>,
    /// How often it was started.
    starts: u64,
}

pub(crate) struct World {
    pub(crate) network: Network,
    seed: u64,
    begin: Instant,
    machines: Vec<Machine>,
    trace: Arc<Mutex<Vec<Line>>>,
    numbers: Arc<BTreeMap<NodeId, usize>>,
}

/// Tells which seed it was, if the test fails.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation failed with seed {}, after {:?}", self.seed, self.begin.elapsed());
        }
    }
}

/// The seed of a test: the variable `CAPMUX_SEED`, or else this.
pub(crate) fn seed_or(seed: u64) -> u64 {
    std::env::var("CAPMUX_SEED").ok().map_or(seed, |text| text.parse().expect("CAPMUX_SEED is a number"))
}

pub(crate) fn key(number: usize) -> NodeKey {
    let mut bytes = [1; 32];
    bytes[24..].copy_from_slice(&(number as u64).to_be_bytes());
    NodeKey::from_bytes(&bytes).expect("far below the order of the curve")
}

/// Public addresses, each in a network of its own.
pub(crate) fn address(number: usize) -> SocketAddr {
    let [.., middle, low] = number.to_be_bytes();
    let ip = Ipv4Addr::new(20 + low % 70, low, middle, 1);
    SocketAddr::new(IpAddr::V4(ip), PORT)
}

pub(crate) fn host(number: usize) -> String {
    address(number).ip().to_string()
}

pub(crate) fn node_addr(number: usize) -> NodeAddr {
    NodeAddr::new(key(number).public_key(), [Address::Ip(address(number))])
}

impl World {
    /// A network of so many machines, on which nothing runs yet, with a latency of 20 to 60 ms.
    pub(crate) fn new(seed: u64, machines: usize) -> Self {
        let network = Network::new(seed);
        network.set_latency(Duration::from_millis(20), Duration::from_millis(40));
        let begin = Instant::now();
        let machine = |number: usize| {
            let offset = Arc::new(AtomicI64::new(0));
            let looks = Arc::default();
            let book = AddressBook::new(1_000, [number as u8 ^ seed as u8; 16]);
            Machine {
                book: shared(book, begin, &offset, &looks),
                offset,
                looks,
                server: None,
                recorder: None,
                starts: 0,
            }
        };
        let numbers = (0..machines).map(|number| (key(number).node_id(), number)).collect();
        let machines = (0..machines).map(machine).collect();
        Self { network, seed, begin, machines, trace: Arc::default(), numbers: Arc::new(numbers) }
    }

    /// Starts a server with peer exchange on a machine.
    pub(crate) async fn start(&mut self, number: usize, settings: impl FnOnce(ServerBuilder) -> ServerBuilder) {
        let seed = self.next_seed(number);
        let pex_settings = PexSettings { interval: 4 * MINUTE, seed: Some(seed), ..PexSettings::default() };
        let (protocol, pex) = Pex::new(self.machines[number].book.clone(), pex_settings);
        pex.announce_port(PORT);
        self.start_with(number, protocol, settings).await;
    }

    /// Starts a server with this protocol on a machine.
    pub(crate) async fn start_with(
        &mut self,
        number: usize,
        protocol: Protocol,
        settings: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) {
        let seed = self.next_seed(number);
        let machine = &mut self.machines[number];
        if machine.starts > 0 {
            // What is on the disk of a machine is there after a crash.
            let saved = machine.book.snapshot().to_json();
            let saved = AddressBook::from_json(&saved, 1_000).expect("a book that was saved");
            machine.book = shared(saved.book, self.begin, &machine.offset, &machine.looks);
        }
        machine.starts += 1;
        let host = self.network.host(&host(number));
        let builder = Server::builder(key(number)).listen_on(host.address()).transport(host).seed(seed);
        let builder = builder.protocol(protocol).address_book(machine.book.clone()).liveness(liveness());
        let server = settings(builder).start().await.expect("the server starts");
        let recorder = self.record(number, &server);
        self.machines[number].recorder = Some(recorder);
        self.machines[number].server = Some(server);
    }

    fn next_seed(&self, number: usize) -> u64 {
        self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number as u64) << 20 ^ self.machines[number].starts
    }

    /// Writes down what the server tells.
    fn record(&self, node: usize, server: &Server) -> JoinHandle<()> {
        let (mut events, begin) = (server.events(), self.begin);
        let (trace, numbers) = (self.trace.clone(), self.numbers.clone());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                assert!(!matches!(event, Event::Lagged(_)), "the recorder keeps up");
                let other = event.peer_id().and_then(|id| numbers.get(&id).copied());
                let line = Line { time: begin.elapsed(), node, kind: event.kind(), other };
                trace.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        })
    }

    /// Ends the process on a machine without a word.
    pub(crate) fn crash(&mut self, number: usize) {
        self.network.crash(&host(number));
        self.machines[number].server = None;
    }

    pub(crate) fn server(&self, number: usize) -> &Server {
        self.machines[number].server.as_ref().expect("it runs")
    }

    pub(crate) fn book(&self, number: usize) -> &SharedBook {
        &self.machines[number].book
    }

    /// Sets the wall clock of a machine forward, or back.
    pub(crate) fn set_clock(&self, number: usize, seconds: i64) {
        self.machines[number].offset.store(seconds, Ordering::Relaxed);
    }

    /// How often anybody looked at the book of a machine so far.
    pub(crate) fn looks(&self, number: usize) -> u64 {
        self.machines[number].looks.load(Ordering::Relaxed)
    }

    /// Parts the machines into these and the others.
    pub(crate) fn part(&self, numbers: impl IntoIterator<Item = usize>) {
        let hosts: Vec<String> = numbers.into_iter().map(host).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        self.network.partition([&hosts[..]]);
    }

    /// The numbers of those that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|number| self.machines[*number].server.is_some()).collect()
    }

    pub(crate) fn peers(&self, number: usize) -> Vec<usize> {
        self.server(number).peers().iter().map(|peer| self.numbers[&peer.id()]).collect()
    }

    /// How many servers there are in each part of the network that holds together, the largest first. Two servers are
    /// connected when each has the other as a peer. It is as if those that are left out were not there.
    pub(crate) fn components(&self, left_out: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let left_out: BTreeSet<usize> = left_out.into_iter().collect();
        let mut running = self.running();
        running.retain(|number| !left_out.contains(number));
        let peers: BTreeMap<usize, BTreeSet<usize>> =
            running.iter().map(|number| (*number, self.peers(*number).into_iter().collect())).collect();
        let mut left: BTreeSet<usize> = running.into_iter().collect();
        let mut sizes = Vec::new();
        while let Some(first) = left.pop_first() {
            let (mut border, mut size) = (vec![first], 0);
            while let Some(number) = border.pop() {
                size += 1;
                for other in &peers[&number] {
                    if peers.get(other).is_some_and(|back| back.contains(&number)) && left.remove(other) {
                        border.push(*other);
                    }
                }
            }
            sizes.push(size);
        }
        sizes.sort_by_key(|size| std::cmp::Reverse(*size));
        sizes
    }

    /// Waits until something holds, looking every second. Returns how long it took.
    ///
    /// # Panics
    /// When it does not hold within `limit`.
    pub(crate) async fn until(&self, what: &str, limit: Duration, mut holds: impl FnMut(&Self) -> bool) -> Duration {
        let begin = Instant::now();
        while !holds(self) {
            let components = self.components([]);
            assert!(begin.elapsed() < limit, "{what}: not within {limit:?}; components: {components:?}");
            sleep(Duration::from_secs(1)).await;
        }
        begin.elapsed()
    }

    pub(crate) fn time(&self) -> Duration {
        self.begin.elapsed()
    }

    pub(crate) fn trace(&self) -> Vec<Line> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many events there were since this time.
    pub(crate) fn count(&self, since: Duration, matches: impl Fn(&Line) -> bool) -> usize {
        self.trace().iter().filter(|line| line.time >= since && matches(line)).count()
    }
}

fn shared(book: AddressBook, begin: Instant, offset: &Arc<AtomicI64>, looks: &Arc<AtomicU64>) -> SharedBook {
    let (offset, looks) = (offset.clone(), looks.clone());
    SharedBook::with_clock(book, move || {
        looks.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::UNIX_EPOCH + EPOCH + begin.elapsed();
        let offset = offset.load(Ordering::Relaxed);
        let by = Duration::from_secs(offset.unsigned_abs());
        if offset < 0 { now - by } else { now + by }
    })
}

/// Fewer Pings than by default: they cost most of what a quiet network costs.
fn liveness() -> LivenessSettings {
    LivenessSettings::default().ping_after(MINUTE).idle_timeout(2 * MINUTE)
}
