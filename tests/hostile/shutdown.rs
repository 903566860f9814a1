//! The end of a server under load: H71.

use std::time::Duration;

use capmux::testing::{Network, node};
use capmux::{Party, Server, p2p::DisconnectReason};
use capmux_conformance::{Node, Visit};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::account::descriptors;
use crate::arena::{HOST, HOSTILE, TIMES, alone, at_once, runtime, together};
use crate::support::{dial, echo, listening, noise, settle, sink, soon, start};

/// What everything may take to end, and the steps of the timer.
const LIMIT: Duration = Duration::from_millis(3_005);

/// A server in memory with peers that take nothing, peers that take everything, and 50 that have said nothing.
async fn shut_down_under_load(round: u64) {
    let network = Network::new(round);
    let own = network.host(HOST);
    let settings = node().protocol(sink("bulk", 1).queue_bytes(4 << 20)).listen_on(own.address()).transport(own);
    let server: Server = start(settings).await;
    let enode = server.enode().expect("it listens");
    let visit = Visit::new(Node::probe_over(network.host(HOSTILE), &enode).await.expect("it answers").into());
    let stuck = visit.greet().await.expect("it answers");
    let client = start(node().protocol(sink("bulk", 1)).transport(network.host("10.0.1.1"))).await;
    let peer = soon(client.dial(server.node_addr().expect("it listens"))).await.expect("they become peers");
    let pending = at_once((0..50).map(|_| visit.open())).await;
    settle().await;
    assert_eq!(server.status().pending, 50, "H71: 50 pending");
    let bulk = server.protocol("bulk", 1).expect("it is registered");
    for seed in 0..8 {
        bulk.broadcast(0, noise(seed, 256 * 1024));
    }
    let since = Instant::now();
    server.shutdown().await;
    assert!(since.elapsed() <= LIMIT, "H71: joined within 3 s: {:?}", since.elapsed());
    let ending = soon(peer.closed()).await;
    let told = (ending.by(), ending.reason());
    assert_eq!(told, (Party::Remote, Some(DisconnectReason::ClientQuitting)), "H71: D0x08");
    client.shutdown().await;
    drop((stuck, pending));
}

#[test]
pub(crate) fn fifty_shutdowns_under_load_leave_no_task() {
    let _turn = together();
    runtime(true).block_on(async {
        for round in 0..TIMES as u64 {
            shut_down_under_load(round).await;
            settle().await;
            assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "H71: no task is left");
        }
    });
}

#[test]
pub(crate) fn fifty_shutdowns_with_open_sockets_leave_no_descriptor() {
    let _turn = alone();
    runtime(false).block_on(async {
        let mut before = None;
        for _ in 0..TIMES {
            let server = start(listening().protocol(echo())).await;
            let client = start(node().protocol(echo())).await;
            dial(&client, &server).await;
            let address = server.local_addr().expect("it listens");
            let pending: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(address).expect("it accepts")).collect();
            soon(async {
                while server.status().pending < 50 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            let since = Instant::now();
            server.shutdown().await;
            assert!(since.elapsed() < LIMIT + Duration::from_secs(2), "H71: and what a busy machine takes");
            client.shutdown().await;
            drop((server, client, pending));
            settle().await;
            let now = descriptors();
            assert_eq!(*before.get_or_insert(now), now, "H71: no descriptor is left");
        }
    });
}
