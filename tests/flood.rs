//! 10,000 connections that say nothing, at a server with peers. Real threads and sockets; alone in its process, whose
//! memory it measures.

mod support;

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capmux::testing::node;
use capmux::{Peer, Server};
use capmux_perf::process;
use support::{dial, echo, listening, soon, start};
use tokio::time::sleep;

const FLOOD: usize = 10_000;
const BATCH: usize = 250;

/// Between two Pings: whoever sends more than 64 at once, and then more than one in so long, is disconnected.
const PAUSE: Duration = Duration::from_millis(100);

/// On a busy machine a median below this says nothing.
const FLOOR: Duration = Duration::from_millis(25);

/// What 50 pending connections and everything around them may add to what is resident.
const MEMORY: u64 = 8 << 20;

/// The median of round-trip times.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn round_trips(peer: &Peer, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..count {
        times.push(soon(peer.ping()).await.expect("H19: the peer lives"));
        sleep(PAUSE).await;
    }
    times
}

/// The most that were pending at any time while this was not stopped.
async fn watch(server: Arc<Server>, stop: Arc<AtomicBool>) -> usize {
    let mut most = 0;
    while !stop.load(Ordering::Relaxed) {
        most = most.max(server.status().pending);
        sleep(Duration::from_millis(1)).await;
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_silent_sockets_disturb_nobody() {
    process::allow_sockets(FLOOD as u64 + 200).expect("H19: so many sockets can be made");
    let server = Arc::new(start(listening().protocol(echo())).await);
    let client = start(node().protocol(echo())).await;
    let peer = dial(&client, &server).await;
    let before = median(round_trips(&peer, 20).await);
    let memory = process::resident_bytes();

    let stop = Arc::new(AtomicBool::new(false));
    let most = tokio::spawn(watch(server.clone(), stop.clone()));
    let address = server.local_addr().expect("it listens");
    let (mut silent, mut times) = (Vec::with_capacity(FLOOD), Vec::new());
    while silent.len() < FLOOD {
        let connect = move || (0..BATCH).map(|_| TcpStream::connect(address)).collect::<Result<Vec<_>, _>>();
        let batch = tokio::task::spawn_blocking(connect);
        times.extend(round_trips(&peer, 5).await);
        silent.extend(soon(batch).await.expect("no panic").expect("H19: the server accepts"));
    }
    let during = median(times);
    assert!(during <= FLOOR.max(before * 2), "H19: {during:?} where it was {before:?}");
    if let (Ok(memory), Ok(after)) = (memory, process::resident_bytes()) {
        assert!(after <= memory + MEMORY, "H19: {} KiB more", after.saturating_sub(memory) / 1024);
    }

    // Their sockets are open at the other end, and have no places for long.
    while server.status().pending > 0 {
        sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let most = most.await.expect("no panic");
    assert!((1..=50).contains(&most), "H19: {most} pending");
    let honest = start(node().protocol(echo())).await;
    dial(&honest, &server).await;
    assert!(server.peer(&client.id()).is_some(), "H19: an honest peer at the first try, and the old one stays");
    drop(silent);
}
