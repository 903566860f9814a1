//! What peers can make a node hold: never more than the limits say. The counter replaces the allocator of this test alone,
//! and counts by thread; everything here runs on one.

mod support;

use std::time::Duration;

use allocation_counter::measure;
use capmux::p2p::{MAX_MESSAGE_SIZE, MessageId};
use capmux::testing::{Opened, manual, node};
use capmux::{NodeKey, Server};
use support::raw::Raw;
use support::{greet, listening, noise, settle, sink, soon, start};
use tokio::io::AsyncWriteExt;
use tokio::runtime::{Builder, Runtime};

const MIB: u64 = 1024 * 1024;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn received(server: &Server, bytes: u64) {
    soon(async {
        while server.traffic().bytes_received < bytes {
            tokio::task::yield_now().await;
        }
    })
    .await;
    settle().await;
}

#[test]
fn a_frame_that_announces_much_takes_what_has_come() {
    let runtime = runtime();
    let (server, mut raw, frame) = runtime.block_on(async {
        let server = start(listening().protocol(sink("aaa", 1).max_message_size(MAX_MESSAGE_SIZE))).await;
        let mut raw = Raw::greet(&server, &NodeKey::random(), &[("aaa", 1)]).await;
        let whole = raw.message(0x10, &[1; 100]);
        raw.stream.write_all(&whole).await.expect("written");
        received(&server, whole.len() as u64).await;
        let frame = raw.message(0x10, &noise(1, 12 * MIB as usize));
        (server, raw, frame)
    });
    let mut sent = 0;
    let mib = MIB as usize;
    for bytes in [32, 1000, mib, 4 * mib] {
        let before = server.traffic().bytes_received;
        let used = measure(|| {
            runtime.block_on(async {
                raw.stream.write_all(&frame[sent..sent + bytes]).await.expect("written");
                received(&server, before + bytes as u64).await;
            });
        });
        sent += bytes;
        // What is kept at most doubles what has come; while it grows there are both.
        let (kept, peak) = (2 * sent as i64 + 128 * 1024, 3 * sent as u64 + 192 * 1024);
        assert!(used.bytes_current < kept && used.bytes_max < peak, "H25 R43: {sent} bytes have come: {used:?}");
    }
    assert_eq!(server.peers().len(), 1, "H25");
}

#[test]
fn a_flood_at_a_handler_that_reads_nothing_takes_what_its_inbox_holds() {
    let runtime = runtime();
    let (mut scripted, peer, opened) = runtime.block_on(async {
        let (own, opened): (_, Opened) = manual("aaa", 1, 1);
        let (scripted, peer) = greet(node().protocol(own.inbox_bytes(1 << 20)), &[("aaa", 1)]).await;
        (scripted, peer, opened)
    });
    let mut data = noise(1, 50_000);
    let used = measure(|| {
        runtime.block_on(async {
            let flood = async {
                loop {
                    scripted.connection.send(MessageId::new(0x10), &data).await.expect("it lives");
                }
            };
            // It is held back long before.
            tokio::time::timeout(Duration::from_millis(700), flood).await.expect_err("R10: without end");
        });
    });
    let held = peer.status().protocols[0].inbox_bytes;
    assert!(held > 900_000 && held <= 1 << 20, "R9: {held}");
    assert!(used.bytes_max < 2 * MIB, "R10 H60: memory is flat: {used:?}");
    data.clear();
    drop((scripted, opened));
}
