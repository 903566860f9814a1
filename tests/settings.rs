//! Settings of the peer loop: what will not do is named, together with what it contradicts.

mod support;

use std::time::Duration;

use capmux::p2p::{Chunking, LivenessSettings, RegistrationError};
use capmux::testing::{manual, node};
use capmux::{ByteRates, ProtocolError, ServerBuilder, StartError};
use support::{capability, greet, noise, read_message, settle, sink, soon, start};

async fn start_error(node: ServerBuilder) -> StartError {
    node.start().await.expect_err("the server does not start")
}

#[tokio::test]
async fn a_weight_of_nothing_is_refused() {
    let error = start_error(node().protocol(sink("aaa", 1).weight(0))).await;
    let expected = ProtocolError::Zero { capability: capability("aaa", 1), setting: "weight" };
    assert!(matches!(&error, StartError::Protocol(got) if *got == expected), "R77 R17: {error:?}");
    assert!(error.to_string().contains("weight of aaa/1"), "R77: {error}");
}

#[tokio::test]
async fn an_inbox_or_a_queue_holds_the_largest_message() {
    let own = || sink("aaa", 1).max_message_size(5000);
    for (protocol, setting) in [(own().inbox_bytes(4999), "inbox_bytes"), (own().queue_bytes(4999), "queue_bytes")] {
        let error = start_error(node().protocol(protocol)).await;
        let (capability, value, max_message_size) = (capability("aaa", 1), 4999, 5000);
        let expected = ProtocolError::BelowMessageSize { capability, setting, value, max_message_size };
        assert!(matches!(&error, StartError::Protocol(got) if *got == expected), "R77 R9 R15: {error:?}");
        let shown = error.to_string();
        let parts = [setting, "4999", "max_message_size", "5000", "aaa/1"];
        assert!(parts.iter().all(|part| shown.contains(part)), "R77: both settings and both values: {shown}");
    }
    start(node().protocol(own().inbox_bytes(5000).queue_bytes(5000))).await;
    // What is not set follows the largest message.
    start(node().protocol(sink("aaa", 1).max_message_size(16 << 20 >> 1))).await;
}

#[tokio::test]
async fn a_send_timeout_is_a_time() {
    let year = Duration::from_secs(365 * 24 * 3600);
    for timeout in [Duration::ZERO, Duration::MAX, year + Duration::from_secs(1)] {
        let error = start_error(node().protocol(sink("aaa", 1).send_timeout(timeout))).await;
        let expected = ProtocolError::SendTimeout { capability: capability("aaa", 1) };
        assert!(matches!(&error, StartError::Protocol(got) if *got == expected), "R77 R15: {error:?}");
        assert!(error.to_string().contains("send_timeout of aaa/1"), "R77: {error}");
    }
    start(node().protocol(sink("aaa", 1).send_timeout(year))).await;
}

#[tokio::test]
async fn a_chunk_has_a_least_and_a_largest_size() {
    for size in [0, 1023, Chunking::MAX_PIECE + 1, usize::MAX] {
        let error = start_error(node().chunk_size(size)).await;
        assert!(matches!(error, StartError::OutOfRange { setting: "chunk_size" }), "R77 R19: {size}: {error:?}");
    }
    assert_eq!(Chunking::MAX_PIECE, 64 * 1024 - 32, "R77: as the documentation says");
    for size in [1024, Chunking::MAX_PIECE] {
        start(node().chunk_size(size).protocol(sink("aaa", 1))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_chunk_can_be_sent() {
    let (own, mut opened) = manual("aaa", 1, 1);
    let node = node().chunk_size(Chunking::MAX_PIECE).protocol(own);
    let (mut scripted, peer) = greet(node, &[("aaa", 1), ("chunk", 1)]).await;
    let (_, channel) = opened.next().await;
    channel.send(0, noise(1, 2 * Chunking::MAX_PIECE)).await.unwrap();
    for id in [0x11, 0x12] {
        assert_eq!(read_message(&mut scripted.connection).await.0, id, "R19 R77");
    }
    settle().await;
    assert!(peer.ending().is_none(), "R19");
}

#[tokio::test]
async fn nobody_is_called_chunk_where_there_are_chunks() {
    start(node().protocol(sink("chunk", 1))).await;
    let error = start_error(node().chunk_size(1024).protocol(sink("chunk", 1))).await;
    let reserved = |of: &capmux::Capability| *of == capability("chunk", 1);
    let StartError::Registration(RegistrationError::Reserved(of)) = &error else { panic!("R77 R19: {error:?}") };
    assert!(reserved(of) && error.to_string().contains("chunk/1"), "R77 R19: {error}");
}

#[tokio::test]
async fn the_receive_budget_holds_the_largest_message_of_all() {
    let protocols = || node().protocol(sink("aaa", 1).max_message_size(100)).protocol(sink("bbb", 1));
    let error = start_error(protocols().receive_budget((1 << 20) - 1)).await;
    let StartError::ReceiveBudget { budget, max_message_size } = error else { panic!("R77: {error:?}") };
    assert_eq!((budget, max_message_size), ((1 << 20) - 1, 1 << 20), "R77");
    let shown = error.to_string();
    let parts = ["receive_budget", "1048575", "max_message_size", "1048576"];
    assert!(parts.iter().all(|part| shown.contains(part)), "R77: both settings and both values: {shown}");
    start(protocols().receive_budget(1 << 20)).await;
}

#[tokio::test]
async fn a_frame_timeout_is_a_time() {
    for timeout in [Duration::ZERO, Duration::MAX] {
        let error = start_error(node().liveness(LivenessSettings::default().frame_timeout(timeout))).await;
        assert!(matches!(error, StartError::Liveness(_)), "R77 H25: {error:?}");
        assert!(error.to_string().contains("frame_timeout"), "R77: {error}");
    }
}

#[tokio::test]
async fn byte_rates_are_what_was_set_and_no_less_than_a_kilobyte() {
    let rates = |outbound, inbound| ByteRates { outbound, inbound };
    let (own, mut opened) = manual("aaa", 1, 1);
    let node = node().listen("127.0.0.1:0".parse().unwrap()).protocol(own);
    let server = start(node.byte_rates(rates(5000, 0)).peer_byte_rates(rates(0, 7000))).await;
    let client = start(capmux::testing::node().protocol(sink("aaa", 1))).await;
    assert_eq!(server.byte_rates(), rates(5000, 0), "R77 R29");
    support::dial(&client, &server).await;
    let (peer, _channel) = soon(opened.next()).await;
    assert_eq!(peer.byte_rates(), rates(0, 7000), "R77 R29");
    assert_eq!(peer.status().byte_rates, rates(0, 7000), "R77 R72");
    peer.set_byte_rates(rates(1, 0));
    assert_eq!(peer.byte_rates(), rates(1024, 0), "R77 R29: as documented");
    server.set_byte_rates(rates(u64::MAX, u64::MAX));
    assert_eq!(server.byte_rates(), rates(u64::MAX, u64::MAX), "R29");
}
