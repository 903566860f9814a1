//! Two nodes that dial each other at the same time, on real TCP and on a simulated network.

mod support;

use std::time::Duration;

use capmux::testing::{self, Network, node};
use capmux::{Direction, NodeAddr, NodeKey, Peer, Server, ServerBuilder};
use fastrand::Rng;
use support::{echo, enode, listening, soon, start};
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

#[tokio::test(start_paused = true)]
async fn who_only_claims_a_key_delays_its_owner_and_is_told_nothing_more() {
    let network = Network::new(1);
    let (server, own, other) = (network.host("server"), NodeKey::random(), NodeKey::random());
    let server = start(at(&network, "server", own.clone())).await;
    let _ = (server, other, testing::node());
}
