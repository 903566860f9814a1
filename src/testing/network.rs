//! A network within one process, with everything that goes wrong in a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::pipe::{Latency, Pipe};
use crate::node::Address;
use crate::peer::PeerError;
use crate::transport::{ByteStream, Link, Listener, Transport};

/// The scheme of the addresses, and what peers show.
const SCHEME: &str = "memory";

/// How many connections wait to be accepted before who dials has to wait.
const BACKLOG: usize = 128;

/// The first port that is given to who asks for none.
const FIRST_PORT: u16 = 49_152;

/// A network of hosts within one process, for simulations: latency with jitter, partitions, and hosts that crash. The
/// bytes that are under way are bounded, and arrive in their order.
///
/// The same seed and the same use give the same delays. With `#[tokio::test(start_paused = true)]` a day of the network
/// takes the time that its nodes compute. A connection costs no task.
///
/// ```
/// use std::time::Duration;
///
/// use capmux::testing::{self, Network};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Network::new(1);
/// network.set_latency(Duration::from_millis(2), Duration::from_millis(1));
/// let (chat, _opened) = testing::manual("chat", 1, 1);
/// let (alice, bob) = (network.host("alice"), network.host("10.0.0.2"));
/// let server = testing::node().protocol(chat.clone()).listen_on(alice.address()).transport(alice);
/// let server = server.start().await?;
/// let client = testing::node().protocol(chat).transport(bob).start().await?;
/// let peer = client.dial(server.node_addr().expect("it listens")).await?;
/// assert_eq!(peer.remote_address().map(ToString::to_string).as_deref(), Some("memory://alice"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    seed: u64,
    state: Mutex<State>,
    /// Changes when hosts can reach each other again.
    healed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    listeners: BTreeMap<Address, mpsc::Sender<Link>>,
    latency: Latency,
    /// By the hosts, the lesser first.
    latencies: BTreeMap<(String, String), Latency>,
    /// In which group a host is; those that are in none are together in one.
    groups: BTreeMap<String, usize>,
    crossings: Vec<Crossing>,
    /// When so many are listed, those that are gone are taken out.
    crowded: usize,
    dials: BTreeMap<(String, String), u64>,
    ports: BTreeMap<String, u16>,
}

/// One direction of a connection.
#[derive(Debug)]
struct Crossing {
    hosts: [String; 2],
    pipe: Weak<Pipe>,
}

impl Network {
    /// A network without hosts, latency or partitions. From the seed comes all jitter.
    pub fn new(seed: u64) -> Self {
        Self { inner: Arc::new(Inner { seed, state: Mutex::default(), healed: watch::Sender::new(()) }) }
    }

    /// The transport of one host, named by an IP address or any other name.
    ///
    /// # Panics
    /// When the name is no IP address and cannot stand in a `memory://` address, or contains a slash.
    pub fn host(&self, name: &str) -> MemoryTransport {
        let name = canonical(name);
        let is_name = !name.contains('/') && Address::other(SCHEME, &name).is_ok();
        assert!(is_name, "a host's name must be printable, without a slash: {name:?}");
        MemoryTransport { network: self.clone(), name: name.into() }
    }

    /// How long bytes are under way between two hosts: `latency`, and up to `jitter` more. For connections that are
    /// made from now on. None at first.
    pub fn set_latency(&self, latency: Duration, jitter: Duration) {
        self.lock().latency = Latency { least: latency, jitter };
    }

    /// [`Network::set_latency`] for these two hosts alone.
    pub fn set_latency_between(&self, one: &str, other: &str, latency: Duration, jitter: Duration) {
        self.lock().latencies.insert(ordered(one, other), Latency { least: latency, jitter });
    }

    /// Parts the hosts into groups that cannot reach one another; all hosts that are not named are one group more.
    /// Connections across go silent: their bytes are held back, and after a quarter of an hour the connection is reset
    /// for who reads from it. Dials across wait.
    pub fn partition<'a>(&self, groups: impl IntoIterator<Item = &'a [&'a str]>) {
        let mut state = self.lock();
        state.groups.clear();
        for (number, hosts) in groups.into_iter().enumerate() {
            state.groups.extend(hosts.iter().map(|host| (canonical(host), number)));
        }
        state.apply();
        drop(state);
        self.inner.healed.send_replace(());
    }

    /// Ends the partition. What was held back arrives.
    pub fn heal(&self) {
        self.partition([]);
    }

    /// A host's process dies: it listens no more, and its connections are reset. It can listen again at once.
    pub fn crash(&self, host: &str) {
        let (host, mut state) = (canonical(host), self.lock());
        state.listeners.retain(|address, _| host_of(address) != host);
        let of_host = state.crossings.iter().filter(|crossing| crossing.hosts.contains(&host));
        of_host.filter_map(|crossing| crossing.pipe.upgrade()).for_each(|pipe| pipe.reset());
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        let state = self.lock();
        state.crossings.iter().filter(|crossing| crossing.pipe.strong_count() > 0).count() / 2
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&self) {
        for crossing in &self.crossings {
            let Some(pipe) = crossing.pipe.upgrade() else { continue };
            match self.is_cut(&crossing.hosts[0], &crossing.hosts[1]) {
                true => pipe.cut(),
                false => pipe.heal(),
            }
        }
    }

    fn is_cut(&self, one: &str, other: &str) -> bool {
        one != other && self.groups.get(one) != self.groups.get(other)
    }

    fn latency(&self, one: &str, other: &str) -> Latency {
        match one == other {
            true => Latency::default(),
            false => self.latencies.get(&ordered(one, other)).copied().unwrap_or(self.latency),
        }
    }

    /// Randomness for both directions of the next connection between two hosts: what others do does not change it.
    fn rngs(&mut self, seed: u64, hosts: [&str; 2]) -> [Rng; 2] {
        let count = self.dials.entry((hosts[0].to_owned(), hosts[1].to_owned())).or_default();
        *count += 1;
        let text = hosts.iter().flat_map(|host| host.bytes().chain([0])).chain(count.to_le_bytes());
        let hash = text
            .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        [hash, !hash].map(Rng::with_seed)
    }

    fn add(&mut self, hosts: [&str; 2], pipe: &Arc<Pipe>) {
        if self.crossings.len() >= self.crowded {
            self.crossings.retain(|crossing| crossing.pipe.strong_count() > 0);
            self.crowded = 64 + 2 * self.crossings.len();
        }
        self.crossings.push(Crossing { hosts: hosts.map(str::to_owned), pipe: Arc::downgrade(pipe) });
    }

    /// A port of the host on which nobody listens.
    fn free_port(&mut self, host: &str) -> io::Result<u16> {
        let taken: BTreeSet<_> = self.listeners.keys().filter_map(Address::socket_addr).collect();
        let ip: Option<IpAddr> = host.parse().ok();
        let next = self.ports.entry(host.to_owned()).or_insert(FIRST_PORT);
        for _ in FIRST_PORT..=u16::MAX {
            let port = *next;
            *next = port.checked_add(1).unwrap_or(FIRST_PORT);
            if ip.is_none_or(|ip| !taken.contains(&SocketAddr::from((ip, port)))) {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

fn ordered(one: &str, other: &str) -> (String, String) {
    let (one, other) = (canonical(one), canonical(other));
    if one < other { (one, other) } else { (other, one) }
}

/// The one name of a host whose IP address can be written in several ways.
fn canonical(name: &str) -> String {
    name.parse::<IpAddr>().map_or_else(|_| name.to_owned(), |ip| ip.to_string())
}

/// The host that has an address; empty for an address of another kind.
fn host_of(address: &Address) -> String {
    match address {
        Address::Ip(address) => address.ip().to_string(),
        Address::Other(scheme, rest) if &**scheme == SCHEME => {
            canonical(rest.split_once('/').map_or(&**rest, |(host, _)| host))
        }
        _ => String::new(),
    }
}

/// A host of a [`Network`], and its way to the others: at `memory://NAME`, `memory://NAME/ANYTHING`, and `IP:PORT` for
/// hosts whose name is an IP address.
#[derive(Debug, Clone)]
pub struct MemoryTransport {
    network: Network,
    name: Arc<str>,
}

impl MemoryTransport {
    /// Where it can listen: `memory://NAME`, or port 30303 of its IP address.
    pub fn address(&self) -> Address {
        match self.name.parse::<IpAddr>() {
            Ok(ip) => Address::Ip((ip, 30_303).into()),
            Err(_) => Address::other(SCHEME, &self.name).expect("checked when the host was named"),
        }
    }

    /// The name of the host.
    pub fn host(&self) -> &str {
        &self.name
    }

    /// Waits until nothing parts the two hosts.
    async fn reachable(&self, host: &str) {
        let mut healed = self.network.inner.healed.subscribe();
        while self.network.lock().is_cut(&self.name, host) {
            // This handle holds the sender.
            let _ = healed.changed().await;
        }
    }

    fn listener(&self, address: &Address) -> io::Result<mpsc::Sender<Link>> {
        self.network.lock().listeners.get(address).cloned().ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }

    /// Both ends of a new connection: the own, and the other host's, which may have crashed meanwhile.
    fn connect(&self, address: &Address, listener: &mpsc::Sender<Link>) -> io::Result<(Link, Link)> {
        let host = host_of(address);
        let mut state = self.network.lock();
        if !state.listeners.get(address).is_some_and(|current| current.same_channel(listener)) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let local = match self.address() {
            Address::Ip(own) => Address::Ip((own.ip(), state.free_port(&self.name)?).into()),
            other => other,
        };
        let latency = state.latency(&self.name, &host);
        let hosts = [&*self.name, &*host];
        let [to, from] = state.rngs(self.network.inner.seed, hosts).map(|rng| Pipe::new(latency, rng));
        let is_cut = state.is_cut(&self.name, &host);
        for pipe in [&to.0, &from.0] {
            state.add(hosts, pipe);
            if is_cut {
                pipe.cut();
            }
        }
        let link = |reader, writer| Link::new(ByteStream::new(reader, writer));
        let own = link(from.1, to.2).with_remote(address.clone()).with_local(local.clone());
        Ok((own, link(to.1, from.2).with_remote(local).with_local(address.clone())))
    }

    async fn try_dial(&self, address: &Address) -> io::Result<Link> {
        let host = host_of(address);
        self.reachable(&host).await;
        let (latency, [mut rng, _]) = {
            let mut state = self.network.lock();
            (state.latency(&self.name, &host), state.rngs(self.network.inner.seed, [&*self.name, &*host]))
        };
        if latency != Latency::default() {
            sleep(latency.draw(&mut rng) + latency.draw(&mut rng)).await;
        }
        self.reachable(&host).await;
        let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
        let listener = self.listener(address)?;
        let place = listener.reserve().await.map_err(refused)?;
        let (own, other) = self.connect(address, &listener)?;
        place.send(other);
        Ok(own)
    }
}

impl Transport for MemoryTransport {
    type Listener = MemoryListener;

    fn name(&self) -> &'static str {
        SCHEME
    }

    fn can_dial(&self, address: &Address) -> bool {
        !host_of(address).is_empty()
    }

    async fn dial(&self, address: &Address, _limit: Duration) -> Result<Link, PeerError> {
        let failed = |source| PeerError::Connect { address: address.clone(), source };
        self.try_dial(address).await.map_err(failed)
    }

    async fn listen(&self, address: &Address) -> io::Result<MemoryListener> {
        let mut state = self.network.lock();
        let address = match (address, self.name.parse::<IpAddr>()) {
            (Address::Ip(address), Ok(own)) if address.ip() == own || address.ip().is_unspecified() => {
                let port = if address.port() == 0 { state.free_port(&self.name)? } else { address.port() };
                Address::Ip((own, port).into())
            }
            (address, _) if host_of(address) == *self.name => address.clone(),
            _ => return Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        state.listeners.retain(|_, listener| !listener.is_closed());
        if state.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (links, accepted) = mpsc::channel(BACKLOG);
        state.listeners.insert(address.clone(), links);
        Ok(MemoryListener { address, accepted })
    }
}

/// Accepts connections at a host of a [`Network`].
#[derive(Debug)]
pub struct MemoryListener {
    address: Address,
    accepted: mpsc::Receiver<Link>,
}

impl Listener for MemoryListener {
    async fn accept(&mut self) -> io::Result<Link> {
        // The host has crashed.
        self.accepted.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn local_address(&self) -> Address {
        self.address.clone()
    }
}
