//! The end of a server under load: what each peer is told, how long it takes, and that no descriptor is left. It counts
//! the descriptors of the process, so it is a test by itself.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capmux::p2p::DisconnectReason;
use capmux::testing::{manual, node};
use capmux::{NodeKey, Party, Protocol, SendError, Server};
use support::raw::{Raw, connect};
use support::{dial, listening, noise, settle, soon, start};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How many messages of 64 KiB are queued for each peer at the end.
const BURST: usize = 40;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("the descriptors of this process").count()
}

/// A protocol that counts what comes.
fn counting(received: &Arc<AtomicUsize>) -> Protocol {
    let received = received.clone();
    Protocol::from_fn("aaa", 1, 1, move |_peer, mut channel| {
        let received = received.clone();
        async move {
            while channel.recv().await.is_some() {
                received.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    })
}

/// Fills all places for connections that are being set up.
async fn fill_pending(server: &Server) -> Vec<TcpStream> {
    let mut pending = Vec::new();
    for _ in 0..50 {
        pending.push(connect(server).await);
    }
    pending
}

#[tokio::test]
async fn a_shutdown_under_load_tells_every_peer_and_leaves_no_descriptor() {
    let at_first = descriptors();
    let (own, mut opened) = manual("aaa", 1, 1);
    let server =
        start(listening().protocol(own.queue_bytes(32 << 20)).encryption_timeout(Duration::from_secs(60))).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let received = Arc::default();
        let client = start(node().protocol(counting(&received))).await;
        let peer = dial(&client, &server).await;
        let (_, channel) = soon(opened.next()).await;
        clients.push((client, peer, channel, received));
    }
    let stuck = Raw::greet(&server, &NodeKey::random(), &[("aaa", 1)]).await;
    let (at_stuck, to_stuck) = soon(opened.next()).await;
    let pending = fill_pending(&server).await;
    settle().await;
    let load = noise(1, 1 << 20);
    while to_stuck.try_send(0, load.clone()) != Err(SendError::Full) {
        settle().await;
    }

    // No other task has run when the shutdown begins, so that all of it is queued. It takes a fraction of the second that
    // there is to write it.
    let burst = noise(2, 64 * 1024);
    for (_, _, channel, _) in &clients {
        (0..BURST).for_each(|_| channel.try_send(0, burst.clone()).expect("there is a place"));
    }
    let since = Instant::now();
    soon(server.shutdown()).await;
    let took = since.elapsed();
    assert!(took <= Duration::from_millis(3500), "H71: three seconds, and something for a busy machine: {took:?}");
    for (_, peer, _, received) in &clients {
        let ending = soon(peer.closed()).await;
        let told = (ending.by(), ending.reason());
        assert_eq!(told, (Party::Remote, Some(DisconnectReason::ClientQuitting)), "H71 R63: {ending}");
        assert_eq!(received.load(Ordering::Relaxed), BURST, "R63: all that was accepted");
    }
    let ending = at_stuck.ending().expect("H71: everything has ended");
    assert!(ending.unsent() > 0, "R63: what the stuck peer did not take is counted: {ending}");

    drop((server, clients, stuck, pending, to_stuck, opened));
    let gone = async {
        while descriptors() > at_first {
            tokio::task::yield_now().await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(10), gone).await.is_ok(),
        "H71: {} descriptors where there were {at_first}",
        descriptors()
    );
}
