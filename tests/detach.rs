//! Handlers that end and handlers that panic: what becomes of the peer, and what the application is told, in which order.

mod support;

use capmux::p2p::DisconnectReason;
use capmux::testing::{self, expect_message, manual};
use capmux::{Channel, Event, EventStream, ExitPolicy, Peer, PeerError, Protocol, Server};
use support::{capability, dial, event, listening, noise, poll_once, settle, soon, start};

/// A handler that echoes, and ends as it is told to.
fn told(name: &str, policy: ExitPolicy) -> Protocol {
    let protocol = Protocol::from_fn(name, 1, 2, |_peer, mut channel| async move {
        while let Some(message) = channel.recv().await {
            match &message.payload[..] {
                b"return" => return Ok(()),
                b"fail" => return Err("it failed".into()),
                b"panic" => panic!("it panicked"),
                b"reason" => return Err(DisconnectReason::UselessPeer.into()),
                b"panic at the end" => {
                    while channel.recv().await.is_some() {}
                    panic!("while it ended");
                }
                _ => channel.send(1, message.payload).await?,
            }
        }
        Ok(())
    });
    protocol.on_exit(policy)
}

/// A server that runs `aaa` and `bbb`, and a node that is connected to it and speaks both.
struct Scene {
    _server: Server,
    _client: Server,
    events: EventStream,
    at_server: Peer,
    at_client: Peer,
    first: Channel,
    second: Channel,
}

async fn scene(policy: ExitPolicy) -> Scene {
    let server = start(listening().protocol(told("aaa", policy)).protocol(told("bbb", policy))).await;
    let mut events = server.events();
    let ((first, mut firsts), (second, mut seconds)) = (manual("aaa", 1, 2), manual("bbb", 1, 2));
    let client = start(testing::node().protocol(first).protocol(second)).await;
    let at_client = dial(&client, &server).await;
    let at_server = support::added(&mut events).await;
    let (first, second) = (soon(firsts.next()).await.1, soon(seconds.next()).await.1);
    Scene { _server: server, _client: client, events, at_server, at_client, first, second }
}

async fn echoes(channel: &mut Channel, row: &str) {
    channel.send(0, "hello").await.expect("it lives");
    assert_eq!(expect_message(channel, 1).await.payload, "hello", "{row}");
}

/// The next event, which must tell of the end of a handler.
async fn handler_ended(events: &mut EventStream) -> (Peer, capmux::Capability, capmux::Ending) {
    match event(events).await {
        Event::HandlerEnded { peer, capability, ending, .. } => (peer, capability, ending),
        other => panic!("R7 R76: a handler has ended: {other:?}"),
    }
}

/// The next event, which must be the last there is.
async fn dropped(events: &mut EventStream) -> capmux::Ending {
    let ending = match event(events).await {
        Event::Dropped { ending, .. } => ending,
        other => panic!("R66: the peer is dropped: {other:?}"),
    };
    settle().await;
    assert!(poll_once(events.recv()).await.is_none(), "R66: exactly one Dropped, and nothing after it");
    ending
}

#[tokio::test]
async fn the_others_go_on_after_a_handler_that_is_detached() {
    for (how, told) in [("return", "finished"), ("fail", "it failed"), ("panic", "it panicked"), ("reason", "useless")]
    {
        let mut scene = scene(ExitPolicy::Detach).await;
        scene.first.send(0, how).await.unwrap();
        let (peer, of, ending) = handler_ended(&mut scene.events).await;
        assert!(peer == scene.at_server && of == capability("aaa", 1), "R7 R76: {how}");
        assert!(ending.to_string().to_lowercase().contains(told), "R7 R76: with what it said: {ending}");
        let is_panic = matches!(ending.error(), PeerError::HandlerPanicked { .. });
        assert_eq!(is_panic, how == "panic", "R76: {ending}");

        for number in 0..300 {
            scene.first.send(0, noise(number, 5000)).await.unwrap();
        }
        echoes(&mut scene.second, "R7: the other protocol goes on, and behind what came for the one that ended").await;
        let status = scene.at_server.status();
        assert_eq!(status.protocols[0].inbox_messages, 0, "R7 R11: what comes for it is dropped");
        assert!(scene.at_server.ending().is_none(), "R7: the peer lives");

        scene.second.send(0, how).await.unwrap();
        let ending = dropped(&mut scene.events).await;
        assert!(ending.to_string().to_lowercase().contains(told), "R7: the last handler ends the peer: {ending}");
        assert!(ending.to_string().contains("bbb/1"), "R7: {ending}");
        let reason = match how {
            "return" => DisconnectReason::ClientQuitting,
            "reason" => DisconnectReason::UselessPeer,
            _ => DisconnectReason::SubprotocolError,
        };
        assert_eq!(soon(scene.at_client.closed()).await.reason(), Some(reason), "R7: {how}");
    }
}

#[tokio::test]
async fn a_panic_ends_its_peer_with_an_event_and_no_other() {
    let mut scene = scene(ExitPolicy::EndPeer).await;
    let (protocol, mut opened) = manual("bbb", 1, 2);
    let other = start(testing::node().protocol(protocol)).await;
    dial(&other, &scene._server).await;
    support::added(&mut scene.events).await;
    let mut beside = soon(opened.next()).await.1;

    scene.first.send(0, "panic").await.unwrap();
    let ending = dropped(&mut scene.events).await;
    let PeerError::HandlerPanicked { capability: of, message } = ending.error() else { panic!("R76: {ending}") };
    assert_eq!((of, message.as_str()), (&capability("aaa", 1), "it panicked"), "R76 H58");
    let reason = soon(scene.at_client.closed()).await.reason();
    assert_eq!(reason, Some(DisconnectReason::SubprotocolError), "H58");
    echoes(&mut beside, "R76 H58: other peers live").await;
}

#[tokio::test]
async fn a_malformed_message_ends_that_peer_alone() {
    let numbers = Protocol::from_fn("num", 1, 2, |_peer, mut channel| async move {
        while let Some(message) = channel.recv().await {
            let number: u64 = message.decode()?;
            channel.send_rlp(1, &(number + 1)).await?;
        }
        Ok(())
    });
    let server = start(listening().protocol(numbers)).await;
    let mut channels = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (protocol, mut opened) = manual("num", 1, 2);
        let client = start(testing::node().protocol(protocol)).await;
        let peer = dial(&client, &server).await;
        channels.push(soon(opened.next()).await.1);
        clients.push((client, peer));
    }
    channels[0].send(0, "\u{7ff}no number").await.unwrap();
    let ending = soon(clients[0].1.closed()).await;
    assert_eq!(ending.reason(), Some(DisconnectReason::SubprotocolError), "H57: {ending}");
    channels[1].send_rlp(0, &41u64).await.unwrap();
    assert_eq!(expect_message(&mut channels[1], 1).await.decode::<u64>().unwrap(), 42, "H57: that peer alone");
    assert!(server.peers().len() == 1 && clients[1].1.ending().is_none(), "H57");
}

#[tokio::test]
async fn a_panic_while_the_peer_ends_is_told_before_the_peer_is_dropped() {
    for policy in [ExitPolicy::EndPeer, ExitPolicy::Detach] {
        let mut scene = scene(policy).await;
        scene.second.send(0, "panic at the end").await.unwrap();
        echoes(&mut scene.first, "R76: it has not ended yet").await;
        scene.first.send(0, "panic at the end").await.unwrap();
        soon(async {
            while scene.at_server.traffic().messages_received < 3 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        settle().await;
        scene.at_server.disconnect(DisconnectReason::Requested);
        let mut of = Vec::new();
        for _ in 0..2 {
            let (_, capability, ending) = handler_ended(&mut scene.events).await;
            let PeerError::HandlerPanicked { message, .. } = ending.error() else { panic!("R76: {ending}") };
            assert_eq!(message, "while it ended", "R76");
            of.push(capability.name().to_owned());
        }
        of.sort();
        assert_eq!(of, ["aaa", "bbb"], "R66 R76: each once, before the peer is dropped");
        let ending = dropped(&mut scene.events).await;
        assert!(matches!(ending.error(), PeerError::Requested(_)), "R66: why it ended at first: {ending}");
    }
}
