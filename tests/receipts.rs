//! Receipts: what they tell, when, and that each of them tells something.

mod support;

use std::time::Duration;

use capmux::p2p::DisconnectReason;
use capmux::testing::{Opened, Scripted, manual, node};
use capmux::{Channel, NodeKey, Peer, Protocol, Receipt, SendError, Server, ServerBuilder};
use support::raw::Raw;
use support::{
    assert_elapsed, greet, listening, noise, poll_at_most, poll_once, read, read_message, settle, soon, start,
};
use tokio::time::Instant;

const A: &[(&str, u64)] = &[("aaa", 1)];
const PLUG: usize = 256 * 1024;

fn one(settings: impl FnOnce(Protocol) -> Protocol) -> (ServerBuilder, Opened) {
    let (own, opened) = manual("aaa", 1, 4);
    (node().protocol(settings(own)), opened)
}

async fn scripted() -> (Scripted, Channel, Peer) {
    let (node, mut opened) = one(|own| own);
    let (scripted, peer) = greet(node, A).await;
    let (_, channel) = opened.next().await;
    (scripted, channel, peer)
}

/// Receipts of one message that is being written, and of three that are queued.
async fn stuck(channel: &Channel) -> Vec<Receipt> {
    let mut receipts = vec![channel.send_with_receipt(0, noise(1, PLUG)).await.expect("there is a place")];
    settle().await;
    for number in 0..3 {
        receipts.push(channel.send_with_receipt(1, noise(number, 1000)).await.expect("there is a place"));
    }
    for receipt in &mut receipts {
        assert!(poll_once(receipt).await.is_none(), "R16: not before the last byte is in the socket");
    }
    receipts
}

/// All of them fail.
async fn all_fail(receipts: Vec<Receipt>, row: &str) {
    for receipt in receipts {
        assert_eq!(soon(receipt).await, Err(SendError::Closed), "R16: {row}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_tells_how_many_bytes_are_on_the_wire() {
    let (mut scripted, channel, peer) = scripted().await;
    let mut expected = peer.traffic().bytes_sent;
    // Alone, queued behind another, one that the writer takes apart from it, and an empty one.
    for sizes in [&[100][..], &[200, 300, 0], &[PLUG, 50_000, 1], &[0]] {
        let mut receipts = Vec::new();
        for size in sizes {
            receipts.push(channel.send_with_receipt(2, noise(9, *size)).await.unwrap());
        }
        for (receipt, size) in receipts.into_iter().zip(sizes) {
            assert_eq!(read_message(&mut scripted.connection).await.1.len(), *size);
            let bytes = soon(receipt).await.expect("R16: it is in the socket");
            assert!(bytes >= *size as u64 + 48, "R16: {size} bytes and their frame, not {bytes}");
            expected += bytes;
        }
        assert_eq!(peer.traffic().bytes_sent, expected, "R16 R70: to the byte");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_waits_for_the_socket_and_can_be_left_and_taken_up_again() {
    let (mut scripted, channel, _) = scripted().await;
    let mut receipts = stuck(&channel).await;
    for (polls, receipt) in receipts.iter_mut().enumerate() {
        assert!(poll_at_most(1 + polls, receipt).await.is_none(), "R16");
    }
    for receipt in receipts {
        read_message(&mut scripted.connection).await;
        assert!(soon(receipt).await.is_ok(), "R16: it was dropped half-way, and is told all the same");
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_that_is_dropped_takes_nothing_back() {
    let (mut scripted, channel, _) = scripted().await;
    drop(stuck(&channel).await);
    assert_eq!(read_message(&mut scripted.connection).await.1, noise(1, PLUG), "R16");
    for number in 0..3 {
        assert_eq!(read_message(&mut scripted.connection).await.1, noise(number, 1000), "R16");
    }
    assert_eq!(channel.capacity(), 256, "R15 R16");
}

#[tokio::test(start_paused = true)]
async fn receipts_fail_when_this_end_disconnects() {
    let (mut scripted, channel, peer) = scripted().await;
    let mut receipts = stuck(&channel).await;
    peer.disconnect(DisconnectReason::Requested);
    settle().await;
    // What had begun is written whole, ahead of the Disconnect.
    assert_eq!(read_message(&mut scripted.connection).await.1.len(), PLUG);
    assert!(soon(receipts.remove(0)).await.is_ok(), "R16: the message that was being written");
    all_fail(receipts, "disconnected").await;
    drop(scripted.connection);
    assert_eq!(soon(peer.closed()).await.unsent(), 3, "R63: what was not sent is counted");
}

#[tokio::test(start_paused = true)]
async fn receipts_fail_when_the_peer_vanishes_or_stalls() {
    for vanishes in [true, false] {
        let (scripted, channel, peer) = scripted().await;
        let (receipts, since) = (stuck(&channel).await, Instant::now());
        let mut connection = Some(scripted.connection);
        if vanishes {
            connection = None;
        }
        all_fail(receipts, "vanished, or stalled").await;
        let expected = if vanishes { Duration::ZERO } else { Duration::from_secs(20) };
        assert_elapsed(since, expected, "R16 R22");
        assert_eq!(soon(peer.closed()).await.unsent(), 4, "R63: vanishes: {vanishes}");
        drop(connection);
    }
}

/// A server with a peer that reads nothing, to which a message is being written, three more being queued.
async fn stuck_server() -> (Server, Raw, Peer, Vec<Receipt>) {
    let (own, mut opened) = manual("aaa", 1, 4);
    let server = start(listening().protocol(own.max_message_size(16_000_000).queue_bytes(32_000_000))).await;
    let raw = Raw::greet(&server, &NodeKey::random(), A).await;
    let (peer, channel) = soon(opened.next()).await;
    // More than the kernel holds for a connection.
    let mut receipts = vec![channel.send_with_receipt(0, noise(1, 13_000_000)).await.expect("there is a place")];
    for number in 0..3 {
        receipts.push(channel.send_with_receipt(1, noise(number, 1000)).await.expect("there is a place"));
    }
    while peer.status().protocols[0].queue_messages > 3 {
        tokio::task::yield_now().await;
    }
    (server, raw, peer, receipts)
}

#[tokio::test]
async fn receipts_fail_when_the_server_shuts_down() {
    let (server, _raw, peer, receipts) = stuck_server().await;
    soon(server.shutdown()).await;
    all_fail(receipts, "shut down").await;
    assert_eq!(peer.ending().expect("R63: it has ended").unsent(), 4, "R63");
}

#[tokio::test]
async fn receipts_fail_at_once_when_the_server_is_aborted() {
    let (server, _raw, peer, receipts) = stuck_server().await;
    let since = Instant::now();
    soon(server.abort()).await;
    assert!(since.elapsed() < Duration::from_millis(900), "R63: no drain and no grace: {:?}", since.elapsed());
    all_fail(receipts, "aborted").await;
    let ending = peer.ending().expect("R63: it has ended");
    assert!(matches!(ending.error(), capmux::PeerError::Aborted), "R63: {ending}");
    assert_eq!((ending.unsent(), ending.reason()), (4, None), "R63: exactly what was not sent");
}

#[tokio::test]
async fn an_abort_gives_handlers_no_time() {
    let stubborn = Protocol::from_fn("aaa", 1, 1, |_peer, _channel| std::future::pending());
    let server = start(listening().protocol(stubborn)).await;
    let _raw = Raw::greet(&server, &NodeKey::random(), A).await;
    let (peer, since) = (server.peers().remove(0), Instant::now());
    soon(server.abort()).await;
    assert!(since.elapsed() < Duration::from_millis(900), "R63: {:?}", since.elapsed());
    // What the server has to cut off cannot tell why it ended.
    let ending = peer.ending().expect("R63: it has ended");
    assert!(matches!(ending.error(), capmux::PeerError::Aborted), "R63: {ending}");
}

#[tokio::test]
async fn an_abort_cuts_a_shutdown_short() {
    let (server, _raw, peer, receipts) = stuck_server().await;
    // It is given a second to drain the queue, and another for the Disconnect.
    assert!(poll_once(server.shutdown()).await.is_none());
    settle().await;
    let since = Instant::now();
    soon(server.abort()).await;
    assert!(since.elapsed() < Duration::from_millis(900), "R63: an abort is immediate: {:?}", since.elapsed());
    all_fail(receipts, "aborted").await;
    assert_eq!(peer.ending().expect("R63: it has ended").unsent(), 4, "R63: what was not sent is counted");
}

#[tokio::test]
async fn receipts_fail_when_the_server_is_dropped() {
    let (server, _raw, peer, receipts) = stuck_server().await;
    drop(server);
    all_fail(receipts, "dropped").await;
    assert_eq!(soon(peer.closed()).await.unsent(), 4, "R63: what was not sent is counted then, too");
}

#[tokio::test(start_paused = true)]
async fn of_a_message_in_pieces_the_last_one_decides() {
    const SIZE: usize = 512 * 1024;
    const CHUNK: usize = 16 * 1024;
    let (node, mut opened) = one(|own| own);
    let (mut scripted, peer) = greet(node.chunk_size(CHUNK), &[("aaa", 1), ("chunk", 1)]).await;
    let (_, channel) = opened.next().await;
    let before = peer.traffic().bytes_sent;
    let mut receipt = channel.send_with_receipt(0, noise(1, SIZE)).await.unwrap();
    for piece in 0..SIZE / CHUNK {
        if piece + 16 < SIZE / CHUNK {
            assert!(poll_once(&mut receipt).await.is_none(), "R16 R19: piece {piece} is not the last");
        }
        let (id, _) = read(&mut scripted.connection).await.expect("a piece");
        assert_eq!(id.value(), if piece == 0 { 0x14 } else { 0x15 }, "R19: pieces, by the ids of chunk/1");
        settle().await;
    }
    let bytes = soon(receipt).await.expect("R16 R19: all pieces are out");
    assert_eq!(bytes, peer.traffic().bytes_sent - before, "R16 R19: the bytes of all pieces together");

    let receipt = channel.send_with_receipt(0, noise(1, SIZE)).await.unwrap();
    read(&mut scripted.connection).await.expect("a piece");
    drop(scripted.connection);
    assert_eq!(soon(receipt).await, Err(SendError::Closed), "R16 R19: written in part is not written");
    assert_eq!(soon(peer.closed()).await.unsent(), 1, "R63");
}
