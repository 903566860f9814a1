//! The network in memory does what it is told: latency, partitions, crashes.

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use capmux::testing::{self, MemoryListener, MemoryTransport, Network};
use capmux::{Link, Listener, PeerError, Transport};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

const MINUTE: Duration = Duration::from_secs(60);

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

async fn connect(from: &MemoryTransport, listener: &mut MemoryListener) -> (Link, Link) {
    let address = listener.local_address();
    let (dialled, accepted) = tokio::join!(from.dial(&address, MINUTE), listener.accept());
    (dialled.expect("it listens"), accepted.expect("it is dialled"))
}

/// Two hosts and a connection.
async fn hosts(network: &Network) -> (Link, Link, MemoryListener) {
    let (alice, bob) = (network.host("alice"), network.host("bob"));
    let mut listener = bob.listen(&bob.address()).await.expect("the address is free");
    let (dialled, accepted) = connect(&alice, &mut listener).await;
    (dialled, accepted, listener)
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_late_and_in_order() {
    let network = Network::new(7);
    network.set_latency(milliseconds(50), milliseconds(20));
    let begin = Instant::now();
    let (dialled, accepted, _listener) = hosts(&network).await;
    assert!((100..=141).contains(&begin.elapsed().as_millis()), "a dial takes a round trip: {:?}", begin.elapsed());
    let (_, mut writes) = dialled.into_stream().into_split();
    let (mut reads, _) = accepted.into_stream().into_split();
    let begin = Instant::now();
    for number in 0..100 {
        writes.write_u8(number).await.unwrap();
    }
    assert_eq!(begin.elapsed(), Duration::ZERO, "who writes does not wait");
    for number in 0..100 {
        assert_eq!(reads.read_u8().await.unwrap(), number);
        assert!((50..=71).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    }
    let begin = Instant::now();
    drop(writes);
    assert_eq!(reads.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(begin.elapsed() >= milliseconds(50), "the end takes its time, too");
}

/// When each of several writes arrives.
async fn arrivals(seed: u64) -> Vec<u128> {
    let network = Network::new(seed);
    network.set_latency_between("bob", "alice", milliseconds(10), milliseconds(1000));
    let begin = Instant::now();
    let (dialled, accepted, _listener) = hosts(&network).await;
    let (_, mut writes) = dialled.into_stream().into_split();
    let (mut reads, _) = accepted.into_stream().into_split();
    let mut times = vec![begin.elapsed().as_millis()];
    for _ in 0..10 {
        writes.write_u8(0).await.expect("the other end is there");
        reads.read_u8().await.expect("it was written");
        times.push(begin.elapsed().as_millis());
    }
    times
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_delays() {
    let times = arrivals(1).await;
    assert_eq!(times, arrivals(1).await);
    assert_ne!(times, arrivals(2).await);
}

#[tokio::test(start_paused = true)]
async fn a_partition_holds_back_what_arrives_when_it_heals() {
    let network = Network::new(1);
    let (dialled, accepted, mut listener) = hosts(&network).await;
    let (mut back, mut writes) = dialled.into_stream().into_split();
    let (mut reads, mut answers) = accepted.into_stream().into_split();
    writes.write_u8(1).await.unwrap();
    network.partition([&["alice", "carol"] as &[_], &["bob"]]);
    writes.write_u8(2).await.unwrap();
    answers.write_u8(3).await.unwrap();
    assert!(timeout(MINUTE, reads.read_u8()).await.is_err() && timeout(MINUTE, back.read_u8()).await.is_err());
    let (alice, carol, dave) = (network.host("alice"), network.host("carol"), network.host("dave"));
    assert!(timeout(MINUTE, alice.dial(&listener.local_address(), MINUTE)).await.is_err(), "dials wait");
    assert!(timeout(MINUTE, dave.dial(&listener.local_address(), MINUTE)).await.is_err(), "others are a group");
    let mut at_carol = carol.listen(&carol.address()).await.unwrap();
    timeout(MINUTE, connect(&alice, &mut at_carol)).await.expect("both are on one side");

    let dial = tokio::spawn({
        let (alice, address) = (alice.clone(), listener.local_address());
        async move { alice.dial(&address, MINUTE).await }
    });
    settle().await;
    network.heal();
    assert_eq!((reads.read_u8().await.unwrap(), reads.read_u8().await.unwrap()), (1, 2), "nothing is lost");
    assert_eq!(back.read_u8().await.unwrap(), 3);
    listener.accept().await.unwrap();
    dial.await.unwrap().expect("who still dials gets through");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_given_up_after_a_long_partition() {
    let network = Network::new(1);
    let (dialled, accepted, _listener) = hosts(&network).await;
    let (mut reads, mut writes) = dialled.into_stream().into_split();
    let begin = Instant::now();
    let waits = tokio::spawn(async move { reads.read_u8().await });
    settle().await;
    network.partition([&["alice"] as &[_]]);
    drop(accepted);
    let error = waits.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), begin.elapsed().as_secs()), (ErrorKind::ConnectionReset, 15 * 60));
    writes.write_u8(1).await.expect("nobody has told this half");
    network.heal();
    assert!(writes.write_u8(1).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_crash_resets_connections_and_the_host_can_come_back() {
    let network = Network::new(1);
    let (dialled, accepted, listener) = hosts(&network).await;
    let (mut reads, mut writes) = dialled.into_stream().into_split();
    assert_eq!(network.connections(), 1);
    let address = listener.local_address();
    network.crash("bob");
    assert_eq!(reads.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(writes.write_u8(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let (alice, bob) = (network.host("alice"), network.host("bob"));
    let refused = alice.dial(&address, MINUTE).await.unwrap_err();
    assert!(matches!(refused, PeerError::Connect { source, .. } if source.kind() == ErrorKind::ConnectionRefused));
    drop((accepted, listener, reads, writes));
    assert_eq!(network.connections(), 0);
    let mut again = bob.listen(&address).await.unwrap();
    connect(&alice, &mut again).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_before_a_hang_up_arrives_before_it() {
    let network = Network::new(1);
    network.set_latency(milliseconds(50), milliseconds(20));
    let (dialled, accepted, _listener) = hosts(&network).await;
    let (mut reads, mut writes) = dialled.into_stream().into_split();
    let (gone, mut last) = accepted.into_stream().into_split();
    writes.write_u8(0).await.unwrap();
    last.write_all(b"bye").await.unwrap();
    drop((gone, last));
    for _ in 0..1000 {
        writes.write_all(&[0; 1024]).await.expect("R32: nobody knows yet here, and what nobody reads takes no place");
    }
    let mut word = Vec::new();
    reads.read_to_end(&mut word).await.unwrap();
    assert_eq!(word, b"bye", "R32");
    sleep(milliseconds(70)).await;
    assert_eq!(writes.write_u8(1).await.unwrap_err().kind(), ErrorKind::BrokenPipe, "R32: now it is known");
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_waits_to_be_accepted_ends_with_a_crash() {
    let network = Network::new(1);
    let (alice, bob) = (network.host("alice"), network.host("bob"));
    let mut listener = bob.listen(&bob.address()).await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    let mut waits = 0;
    while network.connections() == waits {
        let (alice, address) = (alice.clone(), bob.address());
        waits += 1;
        waiting.spawn(async move { alice.dial(&address, MINUTE).await.map(std::mem::forget) });
        settle().await;
    }
    network.crash("bob");
    while waiting.len() > 1 {
        waiting.join_next().await.unwrap().unwrap().expect("it was in the queue");
    }
    listener.accept().await.expect("what was in the queue, reset");
    let refused = waiting.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(matches!(refused, PeerError::Connect { source, .. } if source.kind() == ErrorKind::ConnectionRefused));
}

#[tokio::test(start_paused = true)]
async fn a_host_is_the_same_however_its_ip_address_is_written() {
    let network = Network::new(1);
    let (host, other) = (network.host("2001:DB8:0::1"), network.host("10.0.0.1"));
    assert_eq!(host.host(), "2001:db8::1");
    let mut listener = host.listen(&host.address()).await.unwrap();
    let (dialled, accepted) = connect(&other, &mut listener).await;
    network.partition([&["2001:DB8:0:0::1"] as &[_]]);
    assert!(timeout(MINUTE, other.dial(&host.address(), MINUTE)).await.is_err(), "it is cut off");
    network.heal();
    network.set_latency_between("10.0.0.1", "2001:DB8::0:1", MINUTE, MINUTE);
    assert!(timeout(milliseconds(1), other.dial(&host.address(), MINUTE)).await.is_err(), "it is far away");
    network.crash("2001:DB8::0:1");
    let (mut reads, _writes) = dialled.into_stream().into_split();
    assert_eq!(reads.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    drop(accepted);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_nodes_with_eight_peers_each_are_cheap() {
    const NODES: usize = 200;
    let network = Network::new(1);
    network.set_latency(milliseconds(20), milliseconds(30));
    let mut servers = Vec::new();
    for number in 0..NODES {
        let host = network.host(&format!("10.0.{}.{}", number / 100, 1 + number % 100));
        servers.push(start(testing::node().protocol(sink("aaa", 1)).listen_on(host.address()).transport(host)).await);
    }
    for distance in 1..=4 {
        for number in 0..NODES {
            let to = servers[(number + distance) % NODES].node_addr().expect("it listens");
            servers[number].add_peer(to).expect("it runs");
        }
    }
    let complete = || servers.iter().all(|server| server.peers().len() == 8);
    soon(async {
        while !complete() {
            sleep(milliseconds(100)).await;
        }
    })
    .await;
    sleep(10 * MINUTE).await;
    assert!(complete(), "they live on");
    assert_eq!(network.connections(), NODES * 4);
}
