//! What holds for every transport, run over each: a new one adds a [`Kind`] and a line to `for_each_transport`. And how
//! a server chooses among several.

#![allow(clippy::unwrap_used, reason = "the functions are the bodies of tests, which a macro makes of them")]

mod support;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use capmux::testing::{self, MemoryTransport, Network};
use capmux::{
    Address, Event, Link, Listener, NodeAddr, NodeKey, Party, PeerError, Server, ServerBuilder, Stage, StartError, Tcp,
    Transport,
};
use support::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(20);

/// A transport under test: two nodes that have it, and addresses.
trait Kind {
    type Transport: Transport + Clone;

    /// The transports of two different nodes.
    fn pair(&self) -> [Self::Transport; 2];

    /// Where the second node can listen, at an address that is chosen then, where the kind has that.
    fn address(&self) -> Address;

    /// Where the first node finds nobody.
    async fn nobody(&self) -> Address;

    /// Addresses that are not of this kind.
    fn foreign(&self) -> Vec<Address>;
}

struct OverTcp;

impl Kind for OverTcp {
    type Transport = Tcp;

    fn pair(&self) -> [Tcp; 2] {
        [Tcp, Tcp]
    }

    fn address(&self) -> Address {
        loopback()
    }

    async fn nobody(&self) -> Address {
        Tcp.listen(&loopback()).await.expect("a port is free").local_address()
    }

    fn foreign(&self) -> Vec<Address> {
        vec!["memory://alice".parse().expect("an address")]
    }
}

/// Hosts with these names, and a latency.
struct InMemory {
    network: Network,
    hosts: [&'static str; 2],
}

impl InMemory {
    fn new(hosts: [&'static str; 2], latency: u64) -> Self {
        let network = Network::new(1);
        network.set_latency(Duration::from_millis(latency), Duration::from_millis(latency));
        Self { network, hosts }
    }
}

impl Kind for InMemory {
    type Transport = MemoryTransport;

    fn pair(&self) -> [MemoryTransport; 2] {
        self.hosts.map(|host| self.network.host(host))
    }

    fn address(&self) -> Address {
        match self.network.host(self.hosts[1]).address() {
            Address::Ip(address) => Address::Ip((address.ip(), 0).into()),
            other => other,
        }
    }

    async fn nobody(&self) -> Address {
        self.network.host("nobody").address()
    }

    fn foreign(&self) -> Vec<Address> {
        ["unix:///run/socket", "example.org:30303"].map(|text| text.parse().expect("an address")).into()
    }
}

/// Each of these tests over each of these transports.
macro_rules! for_each_transport {
    (($($test:ident),* $(,)?) $kinds:tt) => { $(for_each_transport!(@ $test $kinds);)* };
    (@ $test:ident { $($kind:ident: $new:expr;)* }) => {
        mod $test {
            use super::*;
            $(#[tokio::test] async fn $kind() { soon(super::$test($new)).await; })*
        }
    };
}

for_each_transport! {
    (
        streams_carry_bytes_both_ways_and_end_by_halves,
        both_ends_know_the_addresses,
        what_is_dropped_ends_at_the_other_end,
        nobody_there_is_an_error_at_once,
        addresses_of_other_kinds_are_refused,
        an_address_is_listened_on_once_at_a_time,
        an_accept_that_is_dropped_loses_nothing,
        many_dials_at_once_all_arrive,
        who_does_not_read_holds_up_who_writes,
        servers_speak_over_it,
        a_dial_is_over_in_time,
    ) {
        tcp: OverTcp;
        memory: InMemory::new(["alice", "bob"], 0);
        memory_with_ip_addresses: InMemory::new(["10.0.0.1", "10.0.0.2"], 0);
        memory_with_latency: InMemory::new(["alice", "bob"], 2);
    }
}

fn loopback() -> Address {
    Address::Ip(([127, 0, 0, 1], 0).into())
}

/// Both ends of a new connection, and the listener.
async fn connected<K: Kind>(kind: &K) -> (Link, Link, <K::Transport as Transport>::Listener) {
    let [first, second] = kind.pair();
    let mut listener = second.listen(&kind.address()).await.expect("the address is free");
    let address = listener.local_address();
    let (dialled, accepted) = tokio::join!(first.dial(&address, LIMIT), listener.accept());
    (dialled.expect("it listens"), accepted.expect("it is dialled"), listener)
}

type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

fn halves(link: Link) -> Halves {
    let (reader, writer) = link.into_stream().into_split();
    (Box::new(reader), Box::new(writer))
}

async fn streams_carry_bytes_both_ways_and_end_by_halves(kind: impl Kind) {
    let (dialled, accepted, _listener) = connected(&kind).await;
    let ((mut reads, mut writes), (mut reads_there, mut writes_there)) = (halves(dialled), halves(accepted));
    let (there, back) = (noise(1, 1 << 20), noise(2, 1 << 20));
    let send = async {
        writes.write_all(&there).await.unwrap();
        writes.shutdown().await.unwrap();
    };
    let receive = async {
        let mut received = Vec::new();
        reads_there.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, there, "R32");
        // This half goes on when the other has ended.
        writes_there.write_all(&back).await.unwrap();
        writes_there.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_, _, read) = tokio::join!(send, receive, reads.read_to_end(&mut received));
    assert_eq!((read.unwrap(), &received[..]), (back.len(), &back[..]), "R32");
}

async fn both_ends_know_the_addresses(kind: impl Kind) {
    let (dialled, accepted, listener) = connected(&kind).await;
    let address = listener.local_address();
    assert_eq!(dialled.remote_address(), Some(&address), "R32");
    assert_eq!(accepted.local_address(), Some(&address), "R32");
    assert!(accepted.remote_address().is_some(), "R32: limits for each address need it");
    assert_eq!(dialled.local_address(), accepted.remote_address(), "R32");
    assert_ne!(address.socket_addr().map(|address| address.port()), Some(0), "the port is the one that was chosen");
}

async fn what_is_dropped_ends_at_the_other_end(kind: impl Kind) {
    for who in [true, false] {
        let (dialled, accepted, _listener) = connected(&kind).await;
        let (gone, stays) = if who { (dialled, accepted) } else { (accepted, dialled) };
        drop(gone);
        let (mut reads, mut writes) = halves(stays);
        let ended = reads.read(&mut [0; 16]).await;
        assert!(matches!(&ended, Ok(0)) || is_reset(ended.as_ref().unwrap_err().kind()), "R32: {ended:?}");
        let error = loop {
            if let Err(error) = writes.write_all(&[0; 1024]).await {
                break error;
            }
            tokio::task::yield_now().await;
        };
        assert!(is_reset(error.kind()), "R32: {error:?}");
    }
}

fn is_reset(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}

async fn nobody_there_is_an_error_at_once(kind: impl Kind) {
    let ([first, second], nobody) = (kind.pair(), kind.nobody().await);
    let error = first.dial(&nobody, LIMIT).await.unwrap_err();
    let PeerError::Connect { address, source } = error else { panic!("R32: {error:?}") };
    assert_eq!((address, source.kind()), (nobody, ErrorKind::ConnectionRefused), "R32");

    let listener = second.listen(&kind.address()).await.unwrap();
    let left = listener.local_address();
    drop(listener);
    assert!(matches!(first.dial(&left, LIMIT).await, Err(PeerError::Connect { .. })), "R32: it listens no more");
}

async fn addresses_of_other_kinds_are_refused(kind: impl Kind) {
    let [first, second] = kind.pair();
    assert!(first.can_dial(&kind.address()) && first.can_dial(&kind.nobody().await), "R32");
    for address in kind.foreign() {
        assert!(!first.can_dial(&address), "R32: {address}");
        assert!(first.dial(&address, LIMIT).await.is_err(), "R32: {address}");
        assert!(second.listen(&address).await.is_err(), "R32: {address}");
    }
}

async fn an_address_is_listened_on_once_at_a_time(kind: impl Kind) {
    let [_, second] = kind.pair();
    let listener = second.listen(&kind.address()).await.unwrap();
    let address = listener.local_address();
    let error = second.listen(&address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "R32");
    drop(listener);
    second.listen(&address).await.unwrap();
}

async fn an_accept_that_is_dropped_loses_nothing(kind: impl Kind) {
    let [first, second] = kind.pair();
    let mut listener = second.listen(&kind.address()).await.unwrap();
    let address = listener.local_address();
    let dials = async {
        for number in 0..50_u8 {
            let (_, mut writes) = halves(first.dial(&address, LIMIT).await.unwrap());
            writes.write_all(&[number]).await.unwrap();
            writes.shutdown().await.unwrap();
        }
    };
    let accepts = async {
        for number in 0..50 {
            let link = loop {
                // Dropped after one poll each time.
                let mut accept = pin!(listener.accept());
                let polled = poll_fn(|context| Poll::Ready(accept.as_mut().poll(context))).await;
                match polled {
                    Poll::Ready(link) => break link.unwrap(),
                    Poll::Pending => tokio::task::yield_now().await,
                }
            };
            let mut received = Vec::new();
            halves(link).0.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, [number], "R32: each is accepted, in turn");
        }
    };
    tokio::join!(dials, accepts);
}

async fn many_dials_at_once_all_arrive(kind: impl Kind) {
    const DIALS: usize = 200;
    let [first, second] = kind.pair();
    let mut listener = second.listen(&kind.address()).await.unwrap();
    let address = listener.local_address();
    let dials: Vec<_> = (0..DIALS)
        .map(|number| {
            let (first, address) = (first.clone(), address.clone());
            tokio::spawn(async move {
                let (mut reads, mut writes) = halves(first.dial(&address, LIMIT).await.unwrap());
                writes.write_all(&(number as u64).to_be_bytes()).await.unwrap();
                assert_eq!(reads.read_u64().await.unwrap(), number as u64, "R32");
            })
        })
        .collect();
    for _ in 0..DIALS {
        let (mut reads, mut writes) = halves(listener.accept().await.unwrap());
        tokio::spawn(async move { writes.write_u64(reads.read_u64().await.unwrap()).await.unwrap() });
    }
    for dial in dials {
        dial.await.unwrap();
    }
}

async fn who_does_not_read_holds_up_who_writes(kind: impl Kind) {
    let (dialled, accepted, _listener) = connected(&kind).await;
    let (_reads, mut writes) = halves(dialled);
    let (mut reads_there, _writes_there) = halves(accepted);
    let piece = noise(1, 64 * 1024);
    let mut written = 0;
    // A kernel's buffers grow to a few megabytes.
    while let Ok(taken) = tokio::time::timeout(Duration::from_millis(300), writes.write(&piece)).await {
        written += taken.unwrap();
        assert!(written < 64 << 20, "R32: what is under way is bounded");
    }
    let mut received = vec![0; written];
    reads_there.read_exact(&mut received).await.unwrap();
    writes.write_all(b"more").await.unwrap();
    let mut more = [0; 4];
    reads_there.read_exact(&mut more).await.unwrap();
    assert_eq!(&more, b"more", "R32: it goes on, and nothing is lost");
}

async fn servers_speak_over_it(kind: impl Kind) {
    let [first, second] = kind.pair();
    let name = first.name();
    let server = start(testing::node().protocol(echo()).transport(second).listen_on(kind.address())).await;
    let (own, mut opened) = testing::manual("echo", 1, 2);
    let client = start(testing::node().protocol(own).transport(first)).await;
    let (mut events, node) = (server.events(), server.node_addr().unwrap());
    let peer = client.dial(&node).await.unwrap();
    let at_server = added(&mut events).await;
    let (_, mut channel) = opened.next().await;
    for size in [0, 1, 100_000] {
        channel.send(0, noise(size, size as usize)).await.unwrap();
        let answer = testing::expect_message(&mut channel, 1).await;
        assert_eq!(answer.payload, noise(size, size as usize), "R32");
    }
    assert_eq!([peer.transport(), at_server.transport(), peer.status().transport], [name; 3], "R39");
    assert_eq!(peer.remote_address(), node.addresses.first(), "R32");
    assert_eq!(peer.remote_address(), at_server.local_address(), "R32");
    assert_eq!(peer.local_address(), at_server.remote_address(), "R32");
    server.shutdown().await;
    assert_eq!(peer.closed().await.by(), Party::Remote, "R32: the Disconnect arrives");
    let ending = client.dial(&node).await.unwrap_err();
    assert!(matches!(ending.error(), PeerError::Connect { .. }) && ending.stage() == Stage::Dial, "R32: {ending}");
}

async fn a_dial_is_over_in_time(kind: impl Kind) {
    let [first, second] = kind.pair();
    // It never accepts: the connection is made, or the dial waits.
    let listener = second.listen(&kind.address()).await.unwrap();
    let node = NodeAddr::new(NodeKey::random().public_key(), [listener.local_address()]);
    let short = Duration::from_millis(100);
    let client = testing::node().protocol(echo()).transport(first).dial_timeout(short).encryption_timeout(short);
    let ending = start(client).await.dial(node).await.unwrap_err();
    assert!(matches!(ending.error(), PeerError::Timeout { limit, .. } if *limit == short), "R32: {ending}");
}

/// A node that listens in memory, at a host that has an IP address.
async fn in_memory(network: &Network, host: &str) -> Server {
    let host = network.host(host);
    start(testing::node().protocol(echo()).listen_on(host.address()).transport(host)).await
}

fn client() -> ServerBuilder {
    testing::node().protocol(echo())
}

#[tokio::test]
async fn a_fallback_is_used_only_if_it_was_configured_and_the_first_has_failed() {
    let network = Network::new(1);
    // Nobody is there on TCP.
    let free = Tcp.listen(&loopback()).await.unwrap().local_address();
    let host = network.host("127.0.0.1");
    let server = start(testing::node().protocol(echo()).listen_on(free.clone()).transport(host.clone())).await;
    let node = server.node_addr().unwrap();

    let ending = soon(start(client()).await.dial(&node)).await.unwrap_err();
    assert!(matches!(ending.error(), PeerError::Connect { .. }), "R39: there is no fallback by itself: {ending}");

    let both = start(client().transport(Tcp).transport(network.host("10.0.0.1"))).await;
    let peer = soon(both.dial(&node)).await.unwrap();
    assert_eq!((peer.transport(), peer.status().transport), ("memory", "memory"), "R39: the fallback, and it is told");
    server.shutdown().await;
    peer.closed().await;

    let at_tcp = testing::node().protocol(echo()).listen("127.0.0.1:0".parse().unwrap());
    let at_tcp = start(at_tcp).await;
    let peer = soon(both.dial(at_tcp.node_addr().unwrap())).await.unwrap();
    assert_eq!(peer.transport(), "tcp", "R39: the first is preferred");
}

#[tokio::test]
async fn all_that_was_tried_is_told() {
    let network = Network::new(1);
    let free = Tcp.listen(&loopback()).await.unwrap().local_address();
    let both = start(client().transport(Tcp).transport(network.host("10.0.0.1"))).await;
    let name = "memory://nobody".parse::<Address>().unwrap();
    let node = NodeAddr::new(NodeKey::random().public_key(), [free.clone(), name.clone()]);
    let ending = soon(both.dial(node)).await.unwrap_err();
    let PeerError::Unreachable { attempts } = ending.error() else { panic!("R59: {ending}") };
    let tried: Vec<_> = attempts.iter().map(|attempt| (attempt.transport, &attempt.address)).collect();
    assert_eq!(tried, [("tcp", &free), ("memory", &name), ("memory", &free)], "R39 R59: fallbacks come last");
    assert_eq!((ending.stage(), ending.by()), (Stage::Dial, Party::Network));
    let shown = ending.to_string();
    assert!(shown.contains(&format!("{free} (tcp): cannot connect")) && shown.contains("memory://nobody"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn addresses_are_tried_in_turn_each_for_its_share_of_the_time() {
    let network = Network::new(1);
    let server = in_memory(&network, "10.0.0.2").await;
    let another = in_memory(&network, "10.0.0.3").await;
    let silent = network.host("10.0.0.4");
    let _silent = silent.listen(&silent.address()).await.unwrap();
    network.partition([&["10.0.0.5"] as &[_]]);
    let own = start(client().transport(network.host("10.0.0.1")).dial_timeout(Duration::from_secs(12))).await;
    let address = |host: &str| Address::Ip(SocketAddr::new(host.parse().unwrap(), 30303));
    let begin = tokio::time::Instant::now();
    // Cut off, refused, silent, another node, and the right one.
    let addresses = ["10.0.0.5", "10.0.0.6", "10.0.0.4", "10.0.0.3", "10.0.0.2"].map(address);
    let node = NodeAddr::new(server.node_addr().unwrap().public_key, addresses);
    let peer = soon(own.dial(&node)).await.unwrap();
    assert_eq!((peer.id(), peer.remote_address()), (server.id(), node.addresses.last()), "R59");
    let expected = Duration::from_secs(12) / 5 + Duration::from_secs(5);
    assert_elapsed(begin, expected, "R59: a fifth for the first, and the limit of the handshake for the third");
    assert!(another.peers().is_empty());
}

#[tokio::test]
async fn addresses_that_no_transport_is_for_are_errors() {
    let own = start(client()).await;
    let name: Address = "memory://alice".parse().unwrap();
    let mut events = own.events();
    let node = NodeAddr::new(NodeKey::random().public_key(), [name.clone()]);
    let ending = soon(own.dial(&node)).await.unwrap_err();
    assert!(matches!(ending.error(), PeerError::NoTransport { address } if *address == name), "R32: {ending}");
    assert_eq!((ending.stage(), ending.by()), (Stage::Dial, Party::Local));
    assert!(matches!(event(&mut events).await, Event::DialFailed { node: told, .. } if told == node), "R68");

    let ending = soon(own.dial(NodeAddr::new(node.public_key, []))).await.unwrap_err();
    assert!(matches!(ending.error(), PeerError::NoAddress), "{ending}");
    let error = testing::node().listen_on(name.clone()).start().await.unwrap_err();
    assert!(matches!(&error, StartError::NoTransport { address } if *address == name), "R77: {error}");
}
