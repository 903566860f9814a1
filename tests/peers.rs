//! The peers of a protocol: sending by id, broadcasts, groups, and what waits for who is not connected.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use capmux::p2p::Hello;
use capmux::testing::{self, Opened, Pair, expect_message, manual, node};
use capmux::{
    Broadcast, Channel, DisconnectReason, Group, NodeId, NodeKey, Pick, Protocol, ProtocolPeers, SendError, Server,
    SharedMessage, WaitingLimits,
};
use support::{dial, hello, listening, noise, poll_once, read, settle, soon, start};
use tokio::sync::Notify;

/// A peer of the node under test that is in the hands of the test.
struct Other {
    channel: Channel,
    pair: Pair,
}

impl Other {
    async fn of(protocol: &Protocol) -> Self {
        Self::with_key(protocol, NodeKey::random()).await
    }

    async fn with_key(protocol: &Protocol, key: NodeKey) -> Self {
        let (own, mut opened) = manual("test", 1, 2);
        let other = Server::builder(key).protocol(own);
        let pair = testing::pair(other, node().protocol(protocol.clone())).await;
        Self { channel: opened.next().await.1, pair }
    }

    fn id(&self) -> NodeId {
        self.pair.at_second.id()
    }

    async fn gets(&mut self, expected: &str, row: &str) {
        assert_eq!(expect_message(&mut self.channel, 1).await.payload, expected, "{row}");
    }

    async fn gets_nothing(&mut self, row: &str) {
        settle().await;
        assert_eq!(poll_once(self.channel.recv()).await, None, "{row}");
    }
}

/// A protocol whose channels are kept, and three peers of it.
async fn three() -> (ProtocolPeers, [Other; 3], Opened) {
    let (protocol, opened) = manual("test", 1, 2);
    let others = [Other::of(&protocol).await, Other::of(&protocol).await, Other::of(&protocol).await];
    soon(protocol.peers().wait_for(3)).await;
    (protocol.peers(), others, opened)
}

fn queued(count: usize) -> Broadcast {
    let mut outcome = Broadcast::default();
    outcome.queued = count;
    outcome
}

#[tokio::test(start_paused = true)]
async fn messages_go_to_one_to_all_to_all_but_one_or_to_some() {
    let (peers, mut others, _opened) = three().await;
    let mut ids = others.each_ref().map(Other::id);
    let [first, second, _] = ids;
    peers.send(&first, 1, "one").await.expect("it is a peer");
    others[0].gets("one", "R13: by id").await;
    peers.try_send(&second, 1, "two").expect("it is a peer");
    others[1].gets("two", "R13: by id").await;
    let receipt = peers.send_with_receipt(&first, 1, "three").await.expect("it is a peer");
    assert!(soon(receipt).await.is_ok(), "R13: with a receipt");
    others[0].gets("three", "R13").await;
    for other in &mut others {
        other.gets_nothing("R13: to nobody else").await;
    }

    assert_eq!(peers.broadcast(1, "all"), queued(3), "R13");
    assert_eq!(peers.broadcast_except(&first, 1, "but the first"), queued(2), "R13");
    assert_eq!(peers.broadcast_to(|peer| peer.id() == second, 1, "the second"), queued(1), "R13");
    let [one, two, three] = &mut others;
    for (other, expected) in
        [(one, &["all"][..]), (two, &["all", "but the first", "the second"]), (three, &["all", "but the first"])]
    {
        for message in expected {
            other.gets(message, "R13").await;
        }
        other.gets_nothing("R13").await;
    }
    ids.sort();
    assert_eq!((peers.ids(), peers.count()), (ids.to_vec(), 3), "R13: in the order of their ids");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_peer_is_a_typed_error() {
    let (peers, others, _opened) = three().await;
    let stranger = NodeKey::random().public_key().node_id();
    let unknown = Err(SendError::UnknownPeer { id: stranger });
    assert_eq!(peers.send(&stranger, 1, "x").await, unknown, "R13");
    assert_eq!(peers.try_send(&stranger, 1, "x"), unknown, "R13");
    assert_eq!(peers.send_shared(&stranger, &SharedMessage::new(1, "x")).await, unknown, "R13");
    let id = others[0].id();
    assert!(matches!(peers.try_send(&id, 2, "x"), Err(SendError::InvalidCode { code: 2, .. })), "R13");
    let outcome = peers.broadcast(2, "x");
    assert_eq!((outcome.queued, outcome.refused), (0, 3), "R13");
    assert!(matches!(outcome.refusal, Some(SendError::InvalidCode { code: 2, .. })), "R13");
}

/// What ends a handler.
type End = fn(&Other, &Notify);

#[tokio::test(start_paused = true)]
async fn a_peer_is_listed_until_its_handler_has_ended_however_it_does() {
    let panic = Arc::new(Notify::new());
    let told = panic.clone();
    let protocol = Protocol::from_fn("test", 1, 2, move |_, mut channel| {
        let panic = told.clone();
        async move {
            tokio::select! {
                () = panic.notified() => panic!("a handler panics"),
                _ = channel.recv() => Ok(()),
            }
        }
    });
    let peers = protocol.peers();
    let ends: [(&str, End); 4] = [
        ("returned", |other, _| other.channel.try_send(0, "x").expect("there is room")),
        ("panicked", |_, panic| panic.notify_one()),
        ("disconnected", |other, _| other.pair.at_first.disconnect(DisconnectReason::Requested)),
        ("aborted", |_, _| {}),
    ];
    for (row, end) in ends {
        let other = Other::of(&protocol).await;
        assert_eq!(peers.ids(), [other.id()], "R13: {row}");
        end(&other, &panic);
        if row == "aborted" {
            drop(other);
        }
        soon(peers.wait_until(|count| count == 0)).await;
        assert_eq!(peers.ids(), [], "R13 R12: {row}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_handler_finds_its_own_peer_in_the_list() {
    let peers = ProtocolPeers::default();
    let listed = peers.clone();
    let protocol = Protocol::from_fn("test", 1, 2, move |peer, channel| {
        let answer = listed.try_send(&peer.id(), 1, "listed");
        async move {
            answer?;
            channel.sender().closed().await;
            Ok(())
        }
    })
    .with_peers(&peers);
    Other::of(&protocol).await.gets("listed", "R13: just before the handler starts").await;
}

#[tokio::test]
async fn a_server_has_the_same_handle() {
    let (protocol, _opened) = manual("test", 1, 2);
    let (other, _other) = manual("test", 1, 2);
    let peers = protocol.peers();
    let server = start(listening().protocol(protocol)).await;
    let client = start(node().protocol(other)).await;
    dial(&client, &server).await;
    soon(peers.wait_for(1)).await;
    let same = server.protocol("test", 1).expect("it is registered");
    assert_eq!(same.ids(), [client.id()], "R13");
    assert!(server.protocol("test", 2).is_none() && server.protocol("tes", 1).is_none(), "R13");
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_loses_its_own_copies_only_and_they_are_counted() {
    let (protocol, _opened) = manual("test", 1, 2);
    let protocol = protocol.queue_messages(4);
    let peers = protocol.peers();
    let (mut slow, mut fast) = (Other::of(&protocol).await, Other::of(&protocol).await);
    let large = noise(1, 60_000);
    let (mut queued, mut lagged) = (0, 0);
    for round in 0..40 {
        let outcome = peers.broadcast(1, large.clone());
        assert_eq!(outcome.queued + outcome.lagged, 2, "R23: round {round}");
        (queued, lagged) = (queued + outcome.queued, lagged + outcome.lagged);
        assert_eq!(expect_message(&mut fast.channel, 1).await.payload, large, "R23: the fast one gets every copy");
    }
    assert!(lagged > 0, "R23");
    let status = |other: &Other| other.pair.at_second.status().protocols[0].lagged;
    assert_eq!((status(&slow), status(&fast)), (lagged as u64, 0), "R23: counted for each peer");
    for _ in 0..queued - 40 {
        assert_eq!(expect_message(&mut slow.channel, 1).await.payload, large, "R23: and gets the rest");
    }
    slow.gets_nothing("R23").await;
}

#[tokio::test]
async fn the_copies_that_are_lost_are_a_metric() {
    let ((protocol, mut opened), (other, _deaf)) = (manual("test", 1, 2), manual("test", 1, 2));
    let peers = protocol.peers();
    let server = start(listening().protocol(protocol.queue_messages(1))).await;
    let client = start(node().protocol(other)).await;
    dial(&client, &server).await;
    let _kept = soon(opened.next()).await;
    let (large, mut lagged) = (noise(1, 500_000), 0);
    while lagged < 3 {
        lagged += peers.broadcast(1, large.clone()).lagged;
        tokio::task::yield_now().await;
    }
    let expected = format!("capmux_broadcast_lagged_total{{protocol=\"test/1\"}} {lagged}\n");
    assert!(server.metrics_text().contains(&expected), "R23 R70: {expected}");
}

#[tokio::test(start_paused = true)]
async fn each_peer_gets_a_broadcast_in_the_form_it_reads() {
    let (protocol, _opened) = manual("test", 1, 2);
    let peers = protocol.peers();
    let mut usual = Other::of(&protocol).await;
    let (own, mut in_pieces) = manual("test", 1, 2);
    let cut = |protocol: Protocol| node().chunk_size(1024).protocol(protocol);
    let _pair = testing::pair(cut(own), cut(protocol.clone())).await;
    let (_, mut in_pieces) = in_pieces.next().await;
    let key = NodeKey::random();
    let mut old = testing::script(node().protocol(protocol.clone()), &key).await;
    let greeting = Hello { version: 4, ..hello(&key, &[("test", 1)]) };
    old.connection.send_hello(&greeting).await.expect("sent");
    old.connection.recv_hello(&key.public_key()).await.expect("the node's Hello");
    soon(peers.wait_for(3)).await;
    let payload = Bytes::from(vec![7; 8 * 1024]);
    assert_eq!(peers.broadcast(1, payload.clone()), queued(3), "R23");
    assert_eq!(expect_message(&mut usual.channel, 1).await.payload, payload, "R23: compressed");
    assert_eq!(expect_message(&mut in_pieces, 1).await.payload, payload, "R23: in pieces");
    let (_, data) = soon(read(&mut old.connection)).await.expect("a message");
    assert_eq!(data, payload, "R23: plain for version 4 of the base protocol");
}

#[tokio::test(start_paused = true)]
async fn messages_for_a_peer_that_is_not_connected_wait_for_it_in_order() {
    let (protocol, mut opened) = manual("test", 1, 2);
    // More than its queue takes.
    let protocol = protocol.queue_messages(2);
    let (peers, key) = (protocol.peers(), NodeKey::random());
    let id = key.public_key().node_id();
    let mut receipts: Vec<_> =
        (0..9).map(|number| peers.send_later(&id, 1, format!("{number}")).expect("there is room")).collect();
    assert_eq!(peers.waiting(&id), 9, "R58");
    let mut other = Other::with_key(&protocol, key).await;
    let (_, channel) = opened.next().await;
    channel.send(1, "after").await.expect("the peer is there");
    let late = peers.send_later(&id, 1, "at once").expect("the peer is there");
    for number in 0..9 {
        other.gets(&format!("{number}"), "R58: first in, first out, ahead of what was sent afterwards").await;
    }
    other.gets("after", "R58").await;
    other.gets("at once", "R58: a peer that is connected gets it at once").await;
    receipts.push(late);
    for receipt in receipts {
        assert!(soon(receipt).await.is_ok(), "R58");
    }
    assert_eq!(peers.waiting(&id), 0, "R58");
}

#[tokio::test(start_paused = true)]
async fn the_oldest_gives_way_and_its_receipt_says_so() {
    let (protocol, _opened) = manual("test", 1, 2);
    let (peers, key) = (protocol.peers(), NodeKey::random());
    let id = key.public_key().node_id();
    let mut receipts: Vec<_> =
        (0..1_002).map(|number| peers.send_later(&id, 1, format!("{number}")).expect("taken")).collect();
    assert_eq!(peers.waiting(&id), 1_000, "R58");
    for _ in 0..2 {
        assert_eq!(soon(receipts.remove(0)).await, Err(SendError::Displaced), "R58: the oldest");
    }
    let mut other = Other::with_key(&protocol, key).await;
    other.gets("2", "R58: the third is first").await;

    let stranger = NodeKey::random().public_key().node_id();
    peers.set_waiting_limits(WaitingLimits { peers: 1, messages: 10, bytes: 10 });
    let first = peers.send_later(&stranger, 1, "12345678").expect("taken");
    let second = peers.send_later(&stranger, 1, "123456789 and more").expect("taken");
    assert_eq!((soon(first).await, peers.waiting(&stranger)), (Err(SendError::Displaced), 1), "R58: by bytes");
    let another = NodeKey::random().public_key().node_id();
    let refused = peers.send_later(&another, 1, "x").map(drop);
    assert_eq!(refused, Err(SendError::TooManyAwaited { limit: 1 }), "R58: so many peers");
    assert_eq!(peers.forget(&stranger), 1);
    assert_eq!(soon(second).await, Err(SendError::NeverConnected), "R58");
}

#[tokio::test(start_paused = true)]
async fn what_is_for_a_peer_that_is_going_waits_until_it_is_back() {
    let (kept, mut handlers) = tokio::sync::mpsc::channel(16);
    // A handler that goes on after its peer has gone.
    let protocol = Protocol::from_fn("test", 1, 2, move |_, channel| {
        let kept = kept.clone();
        async move {
            kept.send(channel).await?;
            std::future::pending().await
        }
    });
    let (peers, key) = (protocol.peers(), NodeKey::random());
    let id = key.node_id();
    let mut going = Other::with_key(&protocol, key.clone()).await;
    let early = handlers.recv().await.expect("a handler");
    peers.send_later(&id, 1, "early").expect("it is a peer");
    going.gets("early", "R58").await;
    going.pair.at_first.disconnect(DisconnectReason::Requested);
    early.sender().closed().await;
    assert_eq!(peers.count(), 1, "its handler has not ended");
    let receipts = ["first", "second"].map(|text| peers.send_later(&id, 1, text).expect("it waits"));
    assert_eq!(peers.waiting(&id), 2, "R58: it is not connected, though its handler runs");
    let mut back = Other::with_key(&protocol, key).await;
    for text in ["first", "second"] {
        back.gets(text, "R58").await;
    }
    for receipt in receipts {
        assert!(soon(receipt).await.is_ok(), "R58");
    }
}

#[tokio::test]
async fn what_waits_fails_at_shutdown() {
    for is_dropped in [false, true] {
        let (protocol, _opened) = manual("test", 1, 2);
        let (peers, id) = (protocol.peers(), NodeKey::random().public_key().node_id());
        let server = start(node().protocol(protocol)).await;
        let receipt = peers.send_later(&id, 1, "x").expect("taken");
        if is_dropped {
            drop(server);
        } else {
            soon(server.shutdown()).await;
        }
        assert_eq!(soon(receipt).await, Err(SendError::NeverConnected), "R58");
        assert_eq!(peers.waiting(&id), 0, "R58");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_to_a_peer_that_comes_fails_then() {
    let (protocol, _opened) = manual("test", 1, 2);
    let protocol = protocol.max_message_size(10);
    let (peers, key) = (protocol.peers(), NodeKey::random());
    let id = key.public_key().node_id();
    let large = peers.send_later(&id, 1, "more than ten bytes").expect("taken");
    let wrong = peers.send_later(&id, 2, "x").expect("taken");
    peers.send_later(&id, 1, "sound").expect("taken");
    Other::with_key(&protocol, key).await.gets("sound", "R58").await;
    assert!(matches!(soon(large).await, Err(SendError::TooLarge { .. })), "R58 R20");
    assert!(matches!(soon(wrong).await, Err(SendError::InvalidCode { .. })), "R58");
}

#[tokio::test(start_paused = true)]
async fn a_group_tells_the_difference_and_never_sends_back() {
    let (peers, mut others, _opened) = three().await;
    let [first, second, third] = others.each_ref().map(Other::id);
    let absent = NodeKey::random().public_key().node_id();
    let group = Group::new(&peers);
    let change = group.set([first, second, absent]);
    assert_eq!((change.added.len(), change.removed.len()), (3, 0), "R60");
    let change = group.set([second, third, absent]);
    assert_eq!((change.added, change.removed), (vec![third], vec![first]), "R60: the difference only");
    let change = group.set([second, third, absent]);
    assert!(change.added.is_empty() && change.removed.is_empty(), "R60: nothing to be done");

    assert_eq!(group.broadcast(1, "members"), queued(2), "R60");
    assert_eq!(group.relay(&second, 1, "relayed"), queued(1), "R60");
    others[1].gets("members", "R60").await;
    others[2].gets("members", "R60").await;
    others[2].gets("relayed", "R60").await;
    for other in &mut others {
        other.gets_nothing("R60: no member, and not back to the sender").await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_fastest_peer_is_picked_or_any() {
    let (protocol, _opened) = manual("test", 1, 2);
    let protocol = protocol.with_peers(&ProtocolPeers::seeded(1));
    let peers = protocol.peers();
    assert_eq!(peers.pick(Pick::Fastest, |_| true), None, "R61: nobody");
    let others = [Other::of(&protocol).await, Other::of(&protocol).await, Other::of(&protocol).await];
    let timed = &others[1].pair.at_second;
    soon(timed.ping()).await.expect("the peer lives");
    assert_eq!(peers.pick(Pick::Fastest, |_| true).as_ref(), Some(timed), "R61: the one whose time is known");
    let id = timed.id();
    let others_than = |peer: &capmux::Peer| peer.id() != id;
    assert!(peers.pick(Pick::Fastest, others_than).is_some_and(|peer| peer.id() != id), "R61: an unknown time will do");
    let mut picked: Vec<_> = (0..50).filter_map(|_| peers.pick(Pick::Random, |_| true)).map(|peer| peer.id()).collect();
    picked.sort();
    picked.dedup();
    assert_eq!(picked, peers.ids(), "R61: each of them at times");
    let has = |name| move |peer: &capmux::Peer| peer.capabilities().iter().any(|known| known.name() == name);
    assert!(peers.pick(Pick::Random, has("test")).is_some(), "R61: by capability");
    assert_eq!(peers.pick(Pick::Random, has("none")), None, "R61: by capability");
}
