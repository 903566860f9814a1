//! Peers on a socket that have stopped to say anything whole. Time is virtual from when they are peers.

mod support;

use std::time::Duration;

use capmux::p2p::{MAX_MESSAGE_SIZE, SessionError};
use capmux::{EventStream, NodeKey, PeerError, Protocol, Server};
use support::raw::{Raw, drip};
use support::{dropped, listening, noise, sink, start};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

async fn greeted() -> (Server, EventStream, Raw) {
    let protocol: Protocol = sink("aaa", 1).max_message_size(MAX_MESSAGE_SIZE);
    let server = start(listening().protocol(protocol)).await;
    let raw = Raw::greet(&server, &NodeKey::random(), &[("aaa", 1)]).await;
    let events = server.events();
    tokio::time::pause();
    (server, events, raw)
}

async fn assert_ends(events: &mut EventStream, expected: SessionError, row: &str) {
    let (_, ending) = dropped(events).await;
    assert!(matches!(ending.error(), PeerError::Session(error) if *error == expected), "{row}: {ending}");
}

#[tokio::test]
async fn a_frame_at_a_byte_a_second_ends_at_thirty_seconds() {
    let (server, mut events, mut raw) = greeted().await;
    let frame = raw.message(0x10, &noise(1, 1000));
    // The kernel does not gather the bytes: its clock is another one.
    raw.stream.set_nodelay(true).unwrap();
    let since = Instant::now();
    let dripping = tokio::spawn(async move { drip(&mut raw.stream, &frame, Duration::from_secs(1)).await });
    assert_ends(&mut events, SessionError::FrameTimeout { limit: Duration::from_secs(30) }, "H2 H25").await;
    let elapsed = since.elapsed();
    let expected = Duration::from_secs(30)..=Duration::from_millis(32_010);
    assert!(expected.contains(&elapsed), "H2 H25: at 30 s, and the grace time: {elapsed:?}");
    drop(server);
    dripping.await.unwrap();
}

#[tokio::test]
async fn a_header_of_sixteen_mebibytes_and_then_silence_ends_at_thirty_seconds() {
    let (_server, mut events, mut raw) = greeted().await;
    let frame = raw.message(0x10, &noise(1, MAX_MESSAGE_SIZE - 8 * 1024 * 1024));
    raw.stream.write_all(&frame[..32]).await.unwrap();
    let since = Instant::now();
    assert_ends(&mut events, SessionError::FrameTimeout { limit: Duration::from_secs(30) }, "H25").await;
    let elapsed = since.elapsed();
    assert!(elapsed >= Duration::from_secs(30) && elapsed <= Duration::from_secs(33), "H25: {elapsed:?}");
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_within_thirty_five_seconds() {
    let (server, mut events, raw) = greeted().await;
    let peer = server.peers().remove(0);
    let since = Instant::now();
    // Nothing comes, not even a FIN, and what is written goes nowhere.
    support::soon(async {
        while peer.ending().is_none() && since.elapsed() < Duration::from_millis(34_900) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(peer.ending().is_none(), "H69: a slow one is given its time");
    assert_ends(&mut events, SessionError::PingTimeout { limit: Duration::from_secs(20) }, "H69").await;
    let elapsed = since.elapsed();
    assert!(elapsed <= Duration::from_secs(37) + Duration::from_millis(5), "H69: with the grace time: {elapsed:?}");
    drop(raw);
}
