//! What can be learnt of a peer and of a node while they run.

mod support;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use capmux::p2p::MessageId;
use capmux::testing::{expect_message, manual, node};
use capmux::{ByteRates, Direction, NodeId, Protocol, ProtocolState, SendError};
use support::{capability, echo, greet, noise, read_message, settle, sink, start};

/// A protocol whose own handshake is one message each way.
fn shaking() -> Protocol {
    let done: Arc<Mutex<HashSet<NodeId>>> = Arc::default();
    let seen = done.clone();
    let protocol = Protocol::from_fn("shake", 1, 2, move |peer, mut channel| {
        let done = done.clone();
        async move {
            let hello = channel.recv().await.ok_or("no handshake")?;
            done.lock().expect("no panic").insert(peer.id());
            channel.send(1, hello.payload).await?;
            channel.sender().closed().await;
            Ok(())
        }
    });
    protocol.peer_info(move |peer| seen.lock().expect("no panic").contains(&peer.id()).then(|| "head 7".into()))
}

#[tokio::test(start_paused = true)]
async fn a_protocol_says_handshake_until_its_own_is_done() {
    let (mut scripted, peer) = greet(node().protocol(shaking()).protocol(echo()), &[("shake", 1), ("echo", 1)]).await;
    let states = || peer.status().protocols.into_iter().map(|protocol| protocol.state).collect::<Vec<_>>();
    settle().await;
    assert_eq!(states(), [ProtocolState::Running, ProtocolState::Handshake], "R12: echo has nothing to tell");
    assert_eq!(states()[1].to_string(), "handshake", "R12");
    scripted.connection.send(MessageId::new(0x12), b"hi").await.unwrap();
    assert_eq!(read_message(&mut scripted.connection).await.1, "hi");
    assert_eq!(states(), [ProtocolState::Running, ProtocolState::Info("head 7".into())], "R12");
}

#[tokio::test]
async fn protocols_tell_of_the_node() {
    let height = Arc::new(Mutex::new(1));
    let shown = height.clone();
    let first = sink("aaa", 1).node_info(move || format!("height {}", shown.lock().expect("no panic")));
    let server = start(node().protocol(first).protocol(sink("bbb", 1))).await;
    assert_eq!(server.node_info(), [(capability("aaa", 1), "height 1".into())], "R12: those that have something");
    *height.lock().unwrap() = 2;
    assert_eq!(server.node_info()[0].1, "height 2", "R12: what it is now");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_what_is_on_its_way() {
    let (own, mut opened) = manual("aaa", 1, 4);
    let rates = ByteRates { inbound: 1 << 20, ..ByteRates::default() };
    let settings = node().protocol(own).protocol(sink("bbb", 1)).peer_byte_rates(rates);
    let (mut scripted, peer) = greet(settings, &[("zzz", 7), ("bbb", 1), ("aaa", 1)]).await;
    let (_, mut channel) = opened.next().await;
    for _ in 0..3 {
        scripted.connection.send(MessageId::new(0x10), &[0; 100]).await.unwrap();
    }
    // More than the pipe holds, so that it is not written; and what is queued behind it.
    channel.try_send(0, noise(1, 256 * 1024)).unwrap();
    settle().await;
    for _ in 0..5 {
        channel.try_send(1, noise(2, 1000)).unwrap();
    }

    let status = peer.status();
    assert_eq!((status.id, status.direction), (peer.id(), Direction::Inbound), "R72");
    assert_eq!((status.client_id.to_string().as_str(), status.p2p_version), ("script", 5), "R72: versions");
    let offered = [("aaa", 1), ("bbb", 1), ("zzz", 7)].map(|(name, version)| capability(name, version));
    let mut capabilities = status.capabilities.clone();
    capabilities.sort();
    assert_eq!(capabilities, offered, "R72: all that the other end offers");
    let protocols: Vec<_> = status.protocols.iter().map(|protocol| protocol.capability.clone()).collect();
    assert_eq!(protocols, offered[..2], "R72: those that run");
    let first = &status.protocols[0];
    assert_eq!((first.inbox_messages, first.inbox_bytes), (3, 300), "R72: what waits for the handler");
    assert_eq!((first.queue_messages, first.queue_bytes), (5, 5000), "R72: what waits to be written");
    assert_eq!(status.unsent_messages, 6, "R72: with the one that is being written");
    let second = &status.protocols[1];
    assert_eq!((second.inbox_messages, second.queue_messages), (0, 0), "R72");
    assert_eq!(status.traffic, peer.traffic(), "R72");
    assert_eq!((status.byte_rates, status.round_trip), (rates, None), "R72: rates");

    for _ in 0..6 {
        read_message(&mut scripted.connection).await;
    }
    for _ in 0..3 {
        expect_message(&mut channel, 0).await;
    }
    settle().await;
    let slower = ByteRates { outbound: 2048, ..ByteRates::default() };
    peer.set_byte_rates(slower);
    let status = peer.status();
    let first = &status.protocols[0];
    let loads = [first.inbox_messages, first.inbox_bytes, first.queue_messages, first.queue_bytes];
    assert_eq!((loads, status.unsent_messages), ([0; 4], 0), "R71 R72: nothing is left");
    assert_eq!(status.byte_rates, slower, "R72 R29");

    drop(scripted);
    support::soon(peer.closed()).await;
    assert_eq!(channel.try_send(0, ""), Err(SendError::Closed));
    assert_eq!(peer.status().protocols.len(), 2, "R72: a peer that is gone still tells what it was");
}
