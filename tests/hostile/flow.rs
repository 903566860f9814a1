//! Peers that send too much or take too little: H60 and H61.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capmux::{PeerError, Protocol, ServerBuilder};
use tokio::time::{Instant, sleep};

use crate::arena::{Scene, TIMES};
use crate::session::id;
use crate::support::{noise, sink, soon};

const MIB: usize = 1 << 20;

/// `bulk` has the ids before those of `echo`.
const FIRST: u64 = 0x10;

/// What may wait for a handler.
const INBOX: usize = MIB / 4;

/// A handler that takes a message each ten seconds.
fn slow(node: ServerBuilder) -> ServerBuilder {
    let slow = Protocol::from_fn("bulk", 1, 1, |_peer, mut channel| async move {
        while channel.recv().await.is_some() {
            sleep(Duration::from_secs(10)).await;
        }
        Ok(())
    });
    node.protocol(slow.inbox_bytes(INBOX).max_message_size(INBOX))
}

#[test]
pub(crate) fn a_flood_at_a_slow_handler_is_held_back() {
    let data = noise(1, 50_000);
    let used = Scene::of("H60").settings(slow).at_once(TIMES).repeat(async |arena, _| {
        let mut script = arena.peer().await;
        let since = Instant::now();
        for _ in 0..10 {
            script.send("data", FIRST, &data).await;
            let status = arena.server.peer(&id(&script)).map(|peer| peer.status());
            let held = status.map_or(0, |status| status.protocols[0].inbox_bytes);
            assert!(held <= INBOX, "H60: reading pauses at the budget: {held}");
        }
        assert!(since.elapsed() >= Duration::from_secs(10), "H60: who floods has to wait: {:?}", since.elapsed());
    });
    // For each its inbox, what a frame takes while it comes, the pipe and what the script holds.
    assert!(used.bytes_max < (TIMES * MIB) as u64, "H60: {used:?}");
}

#[test]
pub(crate) fn peers_that_read_nothing_of_a_gibibyte_are_closed_at_twenty_seconds() {
    const MESSAGES: usize = 20;
    let queue = |node: ServerBuilder| node.protocol(sink("bulk", 1).max_message_size(MIB).queue_bytes(4 * MIB));
    let (deaf, lagged) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let used = Scene::of("H61").settings(queue).at_once(TIMES).repeat(async |arena, number| {
        let script = arena.peer().await;
        let bulk = arena.server.protocol("bulk", 1).expect("it is registered");
        deaf.fetch_add(1, Ordering::SeqCst);
        // All of them are there; those that come first, which nobody counts, are as many.
        soon(async {
            while deaf.load(Ordering::SeqCst) % TIMES != 0 || bulk.count() < TIMES {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let peer = arena.server.peer(&id(&script)).expect("H61: it is a peer");
        if number % TIMES == 0 {
            let data = noise(number as u64, MIB);
            for _ in 0..MESSAGES {
                let sent = bulk.broadcast(0, data.clone());
                lagged.fetch_add(sent.lagged, Ordering::SeqCst);
                sleep(Duration::from_millis(1)).await;
            }
        }
        let since = Instant::now();
        let ending = soon(peer.closed()).await;
        assert!(matches!(ending.error(), PeerError::WriteStalled { .. }), "H61: {ending}");
        let after = since.elapsed();
        assert!(after <= Duration::from_secs(22) + Duration::from_millis(100), "H61: at 20 s: {after:?}");
        drop(script);
    });
    assert!(lagged.into_inner() >= 2 * TIMES * (MESSAGES - 6), "H61: the queue is bounded, and its error says so");
    // The messages are shared; each peer may take a copy of what is being written, and the pipe.
    assert!(used.bytes_max < (TIMES * 3 * MIB) as u64, "H61: {used:?}");
}
