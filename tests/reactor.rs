//! One task for a protocol and all its peers.

mod support;

use std::collections::HashMap;

use capmux::testing::{self, Pair, expect_message, manual, node};
use capmux::{Channel, DisconnectReason, NodeId, Party, Protocol, Reactor, ReactorEvent};
use support::{poll_once, settle, soon};

/// A peer of the reactor's node that is in the hands of the test.
async fn other(protocol: &Protocol) -> (Channel, Pair) {
    let (own, mut opened) = manual("test", 1, 1);
    let pair = testing::pair(node().protocol(own), node().protocol(protocol.clone())).await;
    (opened.next().await.1, pair)
}

async fn next(reactor: &mut Reactor) -> ReactorEvent {
    soon(reactor.recv()).await.expect("the protocol exists")
}

/// What was received, and from whom; nothing else may come.
async fn received(reactor: &mut Reactor) -> (NodeId, Vec<u8>) {
    match next(reactor).await {
        ReactorEvent::Received { peer, message, .. } => (peer.id(), message.payload.to_vec()),
        event => panic!("{event:?} instead of a message"),
    }
}

async fn expect_added(reactor: &mut Reactor, pair: &Pair) {
    let event = next(reactor).await;
    assert!(matches!(&event, ReactorEvent::Added { peer, .. } if *peer == pair.at_second), "R78: {event:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_added_heard_in_order_and_removed_with_the_reason() {
    let (protocol, mut reactor) = Reactor::new("test", 1, 1);
    let (mut channel, pair) = other(&protocol).await;
    for number in 0..100_u8 {
        channel.send(0, vec![number]).await.expect("sent");
    }
    expect_added(&mut reactor, &pair).await;
    reactor.peers().try_send(&pair.at_second.id(), 0, "to it").expect("it is a peer");
    assert_eq!(expect_message(&mut channel, 0).await.payload, "to it", "R78");
    settle().await;
    pair.at_first.disconnect(DisconnectReason::TooManyPeers);
    for number in 0..100 {
        assert_eq!(received(&mut reactor).await, (pair.at_second.id(), vec![number]), "R78: nothing is lost");
    }
    let event = next(&mut reactor).await;
    let ReactorEvent::Removed { peer, ending, .. } = event else { panic!("R78: {event:?}") };
    assert_eq!(peer, pair.at_second, "R78");
    assert_eq!((ending.reason(), ending.by()), (Some(DisconnectReason::TooManyPeers), Party::Remote), "R78");
    assert_eq!(reactor.peers().count(), 0, "R78");
    assert!(poll_once(reactor.recv()).await.is_none(), "R78: nothing comes after it");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_came_and_went_unseen_is_not_told_of() {
    let (protocol, mut reactor) = Reactor::new("test", 1, 1);
    for _ in 0..3 {
        let (channel, pair) = other(&protocol).await;
        channel.send(0, "unheard").await.expect("sent");
        settle().await;
        pair.at_first.disconnect(DisconnectReason::Requested);
        soon(pair.at_second.closed()).await;
    }
    assert!(poll_once(reactor.recv()).await.is_none(), "R78: neither Added nor Removed");
    let (_channel, pair) = other(&protocol).await;
    expect_added(&mut reactor, &pair).await;
}

#[tokio::test(start_paused = true)]
async fn a_flooding_peer_takes_its_own_share_only() {
    const SLOW: usize = 9;
    const LIMIT: usize = 16;
    let (protocol, mut reactor) = Reactor::new("test", 1, 1);
    let protocol = protocol.inbox_messages(LIMIT);
    let (flood, flooding) = other(&protocol).await;
    expect_added(&mut reactor, &flooding).await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let (channel, pair) = other(&protocol).await;
        expect_added(&mut reactor, &pair).await;
        slow.push((channel, pair));
    }
    let sender = flood.sender();
    let flooder = tokio::spawn(async move { while sender.send(0, "flood").await.is_ok() {} });
    let mut counts: HashMap<NodeId, usize> = HashMap::new();
    for round in 0..50_usize {
        for (channel, _) in &slow {
            channel.send(0, "slow").await.expect("sent");
        }
        settle().await;
        let waits = flooding.at_second.status().protocols[0].inbox_messages;
        assert!(waits <= LIMIT, "R78: {waits} messages wait, which is its own share");
        for _ in 0..2 * SLOW {
            *counts.entry(received(&mut reactor).await.0).or_default() += 1;
        }
        for (_, pair) in &slow {
            assert!(counts.get(&pair.at_second.id()).is_some_and(|count| *count > round), "R78: each in its turn");
        }
    }
    assert_eq!(counts.len(), SLOW + 1, "R78: the flooding one is heard, too");
    flooder.abort();
}

#[tokio::test(start_paused = true)]
async fn receiving_can_be_given_up_at_any_time() {
    let (protocol, mut reactor) = Reactor::new("test", 1, 1);
    let (channel, _pair) = other(&protocol).await;
    let mut payloads = Vec::new();
    for number in 0..20_u8 {
        channel.send(0, vec![number]).await.expect("sent");
        for _ in 0..7 {
            match poll_once(reactor.recv()).await.flatten() {
                Some(ReactorEvent::Received { message, .. }) => payloads.extend(message.payload.to_vec()),
                _ => tokio::task::yield_now().await,
            }
        }
    }
    settle().await;
    while let Some(Some(ReactorEvent::Received { message, .. })) = poll_once(reactor.recv()).await {
        payloads.extend(message.payload.to_vec());
    }
    assert!((0..20).eq(payloads.iter().copied()), "R78 R5: {payloads:?}");
}

#[tokio::test(start_paused = true)]
async fn without_its_reactor_a_protocol_ends_with_all_peers() {
    let (protocol, mut reactor) = Reactor::new("test", 1, 1);
    let ((_first, heard), (_second, unheard)) = (other(&protocol).await, other(&protocol).await);
    assert!(matches!(next(&mut reactor).await, ReactorEvent::Added { .. }));
    drop(reactor);
    let (_third, late) = other(&protocol).await;
    for pair in [heard, unheard, late] {
        let ending = soon(pair.at_first.closed()).await;
        assert_eq!(ending.reason(), Some(DisconnectReason::ClientQuitting), "R78");
    }
    assert_eq!(protocol.peers().count(), 0, "R78");
}

#[tokio::test(start_paused = true)]
async fn events_end_with_the_protocol() {
    let (protocol, mut reactor) = Reactor::new("test", 1, 1);
    let (_channel, pair) = other(&protocol).await;
    expect_added(&mut reactor, &pair).await;
    drop(protocol);
    assert!(poll_once(reactor.recv()).await.is_none(), "R78: a peer is left");
    drop(pair);
    assert!(matches!(next(&mut reactor).await, ReactorEvent::Removed { .. }), "R78: also when it is aborted");
    assert!(soon(reactor.recv()).await.is_none(), "R78");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_connection_is_told_of_whole_and_in_order_on_many_threads() {
    const CONNECTIONS: usize = 40;
    const MESSAGES: u8 = 100;
    let (protocol, mut reactor) = Reactor::new("test", 1, 1);
    for _ in 0..CONNECTIONS {
        let protocol = protocol.clone();
        tokio::spawn(async move {
            let (mut channel, pair) = other(&protocol).await;
            for number in 0..MESSAGES {
                channel.send_with_receipt(0, vec![number]).await.expect("sent").await.expect("written");
            }
            expect_message(&mut channel, 0).await;
            pair.at_first.disconnect(DisconnectReason::Requested);
            pair.at_second.closed().await;
        });
    }
    let (mut heard, mut removed) = (HashMap::new(), 0);
    while removed < CONNECTIONS {
        match next(&mut reactor).await {
            ReactorEvent::Added { peer, .. } => {
                assert_eq!(heard.insert(peer.id(), 0), None, "R78: once, and first");
                reactor.peers().try_send(&peer.id(), 0, "seen").expect("it is a peer");
            }
            ReactorEvent::Received { peer, message, .. } => {
                let count = heard.get_mut(&peer.id()).expect("R78: it has been added");
                assert_eq!(message.payload, vec![*count], "R78: in order");
                *count += 1;
            }
            ReactorEvent::Removed { peer, .. } => {
                assert_eq!(heard.remove(&peer.id()), Some(MESSAGES), "R78: last, once, and nothing is lost");
                removed += 1;
            }
            event => panic!("{event:?}"),
        }
    }
    assert!(poll_once(reactor.recv()).await.is_none() && heard.is_empty(), "R78");
}
