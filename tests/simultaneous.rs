//! Two nodes that dial each other at the same time, on real TCP and on a simulated network.

mod support;

use std::time::Duration;

use capmux::p2p::MessageId;
use capmux::testing::{Network, node};
use capmux::{Connection, Direction, NodeAddr, NodeKey, Peer, Server, ServerBuilder, Transport};
use fastrand::Rng;
use support::{assert_elapsed, echo, enode, hello, listening, read, settle, soon, start};
use tokio::time::{Instant, sleep};

/// About what a setup takes on loopback, in microseconds: how much later the other dials, at the most.
const MAX_DELAY: u64 = 2_000;

/// The one peer of each node, if each has one and both are ends of the same connection.
fn one_connection(first: &Server, second: &Server) -> Option<Direction> {
    let (at_first, at_second) = (first.peers(), second.peers());
    let ([one], [other]) = (&at_first[..], &at_second[..]) else { return None };
    (one.direction() != other.direction() && one.local_addr() == other.remote_addr()).then_some(one.direction())
}

/// Both dial, each after its delay. Returns once each has one peer and both are ends of the same connection.
async fn race(nodes: [&Server; 2], addresses: [NodeAddr; 2], delays: [Duration; 2], round: u64) {
    let [first, second] = nodes;
    let [to_first, to_second] = addresses;
    let (mut at_first, mut at_second) = (first.events(), second.events());
    let one = async {
        sleep(delays[0]).await;
        first.dial(to_second).await
    };
    let other = async {
        sleep(delays[1]).await;
        second.dial(to_first).await
    };
    let (one, other) = soon(async { tokio::join!(one, other) }).await;
    let (Ok(one), Ok(other)) = (&one, &other) else {
        panic!("R45: each dial leads to a peer, round {round}: {one:?} {other:?}");
    };
    soon(async {
        while one_connection(first, second).is_none() {
            tokio::select! {
                _ = at_first.recv() => {}
                _ = at_second.recv() => {}
            }
        }
    })
    .await;
    let are_kept = |server: &Server, peer: &Peer| server.peers() == [peer.clone()] && peer.ending().is_none();
    assert!(are_kept(first, one) && are_kept(second, other), "H63: what is there first is kept, round {round}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_survives_and_it_is_the_same_at_both_ends() {
    let mut random = Rng::with_seed(45);
    for round in 0..200 {
        let (first, second) = (start(listening().protocol(echo())).await, start(listening().protocol(echo())).await);
        let addresses = [enode(&first).into(), enode(&second).into()];
        let delay = Duration::from_micros(if round % 2 == 0 { 0 } else { random.u64(..MAX_DELAY) });
        let delays = if random.bool() { [delay, Duration::ZERO] } else { [Duration::ZERO, delay] };
        race([&first, &second], addresses, delays, round).await;
    }
}

/// A node of the host, which listens there.
fn at(network: &Network, host: &str, key: NodeKey) -> ServerBuilder {
    let host = network.host(host);
    Server::builder(key).protocol(echo()).listen_on(host.address()).transport(host)
}

/// Both dial within about the time of a setup.
async fn race_in_memory(random: &mut Rng, keys: [NodeKey; 2], round: u64) {
    let (network, latency) = (Network::new(round), Duration::from_millis(random.u64(1..100)));
    network.set_latency(latency, latency * random.u32(..3));
    let [first, second] = keys;
    let (first, second) = (start(at(&network, "one", first)).await, start(at(&network, "two", second)).await);
    let addresses = [&first, &second].map(|server| server.node_addr().expect("it listens"));
    let delays = [0, 1].map(|_| latency.mul_f64(4.0 * random.f64()));
    let start = Instant::now();
    race([&first, &second], addresses, delays, round).await;
    // Each delivery takes up to three times the latency; of a deadline, 2.5 s at the least, nobody needs the end.
    let limit = latency * (4 + 3 * 8);
    assert!(start.elapsed() <= limit, "R45: nobody waits for a deadline, round {round}: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whatever_the_latency_and_its_jitter_one_connection_survives() {
    let mut random = Rng::with_seed(63);
    for round in 0..2_000 {
        race_in_memory(&mut random, [NodeKey::random(), NodeKey::random()], round).await;
    }
}

#[tokio::test]
async fn dialling_a_node_that_has_dialled_meanwhile_is_no_failure() {
    let (first, second) = (start(listening().protocol(echo())).await, start(node().protocol(echo())).await);
    let peer = soon(second.dial(&enode(&first))).await.unwrap();
    assert_eq!(soon(second.dial(&enode(&first))).await.unwrap(), peer, "R45: it is the peer there is");
}

/// A connection to the server of somebody who claims to have this key, and says nothing. Who has it can do the same.
async fn claim(network: &Network, server: &Server, key: &NodeKey) -> Connection {
    let address = server.local_address().expect("it listens");
    let link = network.host("thief").dial(&address, Duration::from_secs(1)).await.expect("it accepts");
    let public_key = server.node_addr().expect("it listens").public_key;
    soon(Connection::initiate(link.into_stream(), key, public_key)).await.expect("nothing is proved yet")
}

#[tokio::test(start_paused = true)]
async fn who_only_claims_a_key_delays_its_owner_by_half_a_deadline() {
    for owner_dials in [true, false] {
        let (network, key) = (Network::new(1), NodeKey::random());
        let server = start(at(&network, "server", NodeKey::random())).await;
        let owner = start(at(&network, "owner", key.clone())).await;
        let mut silent = claim(&network, &server, &key).await;
        assert_eq!(read(&mut silent).await.unwrap().0, MessageId::HELLO, "H63: nobody else has the turn");
        let (from, to) = if owner_dials { (&owner, &server) } else { (&server, &owner) };
        let begin = Instant::now();
        let peer = soon(from.dial(to.node_addr().unwrap())).await.unwrap();
        // Half of the default of 5 s.
        assert_elapsed(begin, Duration::from_millis(2_500), "H63");
        assert!(server.peer(&owner.id()).is_some() && peer.ending().is_none(), "R45: {owner_dials}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_only_claims_the_key_of_a_peer_is_told_nothing() {
    let (network, key) = (Network::new(1), NodeKey::random());
    let server = start(at(&network, "server", NodeKey::random())).await;
    let owner = start(at(&network, "owner", key.clone())).await;
    let peer = soon(owner.dial(server.node_addr().unwrap())).await.unwrap();
    let mut silent = claim(&network, &server, &key).await;
    let begin = Instant::now();
    assert_eq!(read(&mut silent).await, None, "H63: it is closed without a word");
    assert_elapsed(begin, Duration::from_secs(5), "H63");
    assert!(peer.round_trip().is_none() && peer.ending().is_none(), "R45: the peer is not troubled");

    // Who has proved the key may know that the peer is gone: that is looked into.
    let mut again = claim(&network, &server, &key).await;
    again.send_hello(&hello(&key, &[("echo", 1)])).await.unwrap();
    let (id, data) = read(&mut again).await.unwrap();
    assert_eq!((id, &data[..]), (MessageId::DISCONNECT, &b"\xc1\x05"[..]), "R45: uncompressed, in place of Hello");
    let at_server = server.peer(&owner.id()).unwrap();
    settle().await;
    assert!(at_server.round_trip().is_some(), "R45: the peer that there is was sent a Ping, and lives");
}
