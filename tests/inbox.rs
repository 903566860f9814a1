//! Inboxes: how much waits for a handler, what too much costs the sender, and for how long.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capmux::p2p::{DisconnectReason, MessageId};
use capmux::testing::{Scripted, expect_message, manual, node};
use capmux::{Channel, Peer, PeerError, Protocol};
use support::{assert_elapsed, capability, greet, last_words, noise, poll_once, read_message, settle, soon};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const A: &[(&str, u64)] = &[("aaa", 1)];
const FIRST: MessageId = MessageId::new(0x10);

/// What the pipe between two peers in memory holds, and what is read at a time.
const UNDERWAY: usize = 64 * 1024 + 256 * 1024;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A node whose only protocol is in the hands of the test, and a script at the other end.
async fn scripted(protocol: impl FnOnce(Protocol) -> Protocol) -> (Scripted, Channel, Peer) {
    let (own, mut opened) = manual("aaa", 1, 4);
    let (scripted, peer) = greet(node().protocol(protocol(own)), A).await;
    let (_, channel) = opened.next().await;
    (scripted, channel, peer)
}

/// How many messages a flood has. One without an end would stop the clock, which moves only when all are idle.
const FLOOD: usize = 2000;

/// Sends messages of this size, and counts those that the transport has taken.
fn flood(mut scripted: Scripted, size: usize) -> (Arc<AtomicUsize>, JoinHandle<Scripted>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let task = tokio::spawn(async move {
        for _ in 0..FLOOD {
            if scripted.connection.send(FIRST, &noise(1, size)).await.is_err() {
                break;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        scripted
    });
    (sent, task)
}

/// How many messages and bytes wait for the handler.
fn inbox(peer: &Peer) -> (usize, usize) {
    let status = peer.status();
    (status.protocols[0].inbox_messages, status.protocols[0].inbox_bytes)
}

#[tokio::test(start_paused = true)]
async fn an_inbox_is_bounded_in_messages() {
    let (scripted, _channel, peer) = scripted(|own| own.inbox_messages(3)).await;
    let (_, _task) = flood(scripted, 10);
    settle().await;
    assert_eq!(inbox(&peer), (3, 30), "R9: as many as the setting says, far below the limit in bytes");
}

#[tokio::test(start_paused = true)]
async fn an_inbox_is_bounded_in_bytes() {
    let (scripted, mut channel, peer) =
        scripted(|own| own.inbox_messages(1000).max_message_size(10_000).inbox_bytes(10_000)).await;
    let (_, _task) = flood(scripted, 4000);
    settle().await;
    assert_eq!(inbox(&peer), (2, 8000), "R9: a third would be past the limit in bytes, far below that in messages");
    for _ in 0..20 {
        expect_message(&mut channel, 0).await;
        settle().await;
        assert!(inbox(&peer).1 <= 10_000, "R9: {:?}", inbox(&peer));
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_message_has_a_place_in_an_inbox_of_its_size() {
    let (mut scripted, mut channel, peer) = scripted(|own| own.max_message_size(5000).inbox_bytes(5000)).await;
    for _ in 0..3 {
        scripted.connection.send(FIRST, &noise(1, 5000)).await.unwrap();
        settle().await;
        assert_eq!(inbox(&peer), (1, 5000), "R9: the bound itself is allowed");
        assert_eq!(expect_message(&mut channel, 0).await.payload.len(), 5000, "R9");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_holds_the_sender_back_until_half_of_it_is_free() {
    let in_messages: fn(Protocol) -> Protocol = |own| own.inbox_messages(8);
    let in_bytes: fn(Protocol) -> Protocol = |own| own.max_message_size(1000).inbox_bytes(8000);
    for limit in [in_messages, in_bytes] {
        let (scripted, mut channel, peer) = scripted(limit).await;
        let (sent, _task) = flood(scripted, 1000);
        settle().await;
        let stopped = sent.load(Ordering::Relaxed);
        assert!(stopped * 1000 <= 8000 + UNDERWAY, "R10: the transport takes no more from the sender: {stopped}");
        let read = peer.traffic().bytes_received;
        for left in [7, 6, 5] {
            expect_message(&mut channel, 0).await;
            settle().await;
            assert_eq!(inbox(&peer), (left, left * 1000), "R10: reading does not go on for each place");
        }
        expect_message(&mut channel, 0).await;
        settle().await;
        assert_eq!(inbox(&peer), (8, 8000), "R10: half of it is free: reading goes on");
        for _ in 0..1000 {
            expect_message(&mut channel, 0).await;
        }
        settle().await;
        assert!(sent.load(Ordering::Relaxed) > stopped, "R10: and so does the sender");
        assert!(peer.traffic().bytes_received > read, "R10");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_given_twenty_seconds_from_the_last_message_it_took() {
    let (scripted, mut channel, peer) = scripted(|own| own.inbox_messages(4)).await;
    let (_, task) = flood(scripted, 1000);
    settle().await;
    sleep(secs(7)).await;
    expect_message(&mut channel, 0).await;
    assert_eq!(inbox(&peer).0, 3, "R10: it is progress, and reading does not go on yet");
    let since = Instant::now();
    soon(channel.sender().closed()).await;
    assert_elapsed(since, secs(20), "R10: from the last progress");
    let mut scripted = soon(task).await.unwrap();
    assert_eq!(last_words(&mut scripted.connection).await, Some(DisconnectReason::NetworkError), "R10");
    let ending = soon(peer.closed()).await;
    let PeerError::HandlerStalled { capability: of, limit } = ending.error() else { panic!("R10: {ending}") };
    assert_eq!((of, *limit), (&capability("aaa", 1), secs(20)), "R10");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_a_message_now_and_then_keeps_its_peer() {
    for capacity in [1, 4] {
        let (scripted, mut channel, peer) = scripted(|own| own.inbox_messages(capacity)).await;
        let (sent, _task) = flood(scripted, 8000);
        let since = Instant::now();
        for taken in 0..40 {
            sleep(secs(15)).await;
            expect_message(&mut channel, 0).await;
            settle().await;
            let ahead = sent.load(Ordering::Relaxed) - taken;
            assert!(inbox(&peer).0 <= capacity, "R10: memory stays flat: {:?}", inbox(&peer));
            assert!(ahead * 8000 <= (capacity + 2) * 8000 + UNDERWAY, "R10: {ahead} messages underway");
        }
        assert!(since.elapsed() >= secs(600), "R10");
        assert!(peer.ending().is_none(), "R10: each message is progress: {:?}", peer.ending());
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reads_is_dropped_at_no_cost_to_the_other_protocols() {
    let (deaf, mut deafs) = manual("aaa", 1, 1);
    let (other, mut others) = manual("bbb", 1, 1);
    let node = node().protocol(deaf.inbox_messages(4)).protocol(other);
    let (mut scripted, peer) = greet(node, &[("aaa", 1), ("bbb", 1)]).await;
    let ((_, deaf), (_, mut other)) = (deafs.next().await, others.next().await);
    for _ in 0..6 {
        scripted.connection.send(FIRST, &noise(1, 1000)).await.unwrap();
    }
    scripted.connection.send(MessageId::new(0x11), b"behind").await.unwrap();
    settle().await;
    assert_eq!(inbox(&peer), (4, 4000), "R11: reading is paused");
    assert!(poll_once(other.recv()).await.is_none(), "R11: and the other protocol behind it");

    let (sender, receiver) = deaf.split();
    drop(receiver);
    assert_eq!(expect_message(&mut other, 0).await.payload, "behind", "R11: what paused for the receiver goes on");
    assert_eq!(inbox(&peer), (0, 0), "R11: what waited is dropped");
    for _ in 0..100 {
        scripted.connection.send(FIRST, &noise(1, 100_000)).await.unwrap();
    }
    scripted.connection.send(MessageId::new(0x11), b"after").await.unwrap();
    assert_eq!(expect_message(&mut other, 0).await.payload, "after", "R11: and so is what comes, however much");
    assert_eq!(inbox(&peer), (0, 0), "R11");
    sender.send(0, "still here").await.unwrap();
    assert_eq!(read_message(&mut scripted.connection).await.1, "still here", "R11: the handler lives");
}
