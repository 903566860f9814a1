//! What a broadcast takes: the payload is compressed once, and nobody has a copy of it. The counter replaces the
//! allocator of this test alone, and counts by thread.

mod support;

use allocation_counter::measure;
use bytes::BytesMut;
use capmux::SharedMessage;
use capmux::rlpx::{Compressor, max_compressed_len};
use capmux::testing::{self, manual, node};
use support::{noise, settle};

const PEERS: usize = 16;
const SIZE: usize = 128 * 1024;

/// For what is small: the places in queues.
const SLACK: u64 = 16 * 1024;

#[tokio::test(start_paused = true)]
async fn a_broadcast_takes_memory_once_however_many_peers_there_are() {
    let (protocol, mut opened) = manual("test", 1, 1);
    let peers = protocol.peers();
    let mut held = Vec::new();
    for _ in 0..PEERS {
        let (own, mut theirs) = manual("test", 1, 1);
        let pair = testing::pair(node().protocol(own), node().protocol(protocol.clone())).await;
        held.push((theirs.next().await, opened.next().await, pair));
    }
    // The list of peers is made anew when they change.
    assert_eq!(peers.count(), PEERS);
    peers.ids();
    let payload = noise(1, SIZE);
    // The thread keeps what the compressor works with.
    Compressor::default().compress(&payload, &mut BytesMut::new());
    let used = measure(|| assert_eq!(peers.broadcast(0, payload.clone()).queued, PEERS));
    let once = max_compressed_len(SIZE) as u64;
    assert!(used.bytes_total < once + SLACK, "R23: compressed once, and no copy for each of {PEERS}: {used:?}");

    settle().await;
    let message = SharedMessage::new(0, payload);
    peers.broadcast_shared(&message, |_| false);
    let again = measure(|| assert_eq!(peers.broadcast_shared(&message, |_| true).queued, PEERS));
    assert!(again.bytes_total < once + SLACK, "R23: {again:?}");
    let third = measure(|| assert_eq!(peers.broadcast_shared(&message, |_| true).queued, PEERS));
    assert!(third.bytes_total < SLACK, "R23: it has been compressed before: {third:?}");
}
