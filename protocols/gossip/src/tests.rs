use std::time::Duration;

use capmux::testing::{self, Opened, Pair, Wire, expect_message, node};
use capmux::{DisconnectReason, Enode, Party, Server};
use capmux_echo::Echo;
use tokio::time::timeout;

use super::*;

// R32: the same tests over memory and TCP. Those of exact times have to be in memory.
capmux::over_each_wire! {
    each_message_reaches_each_other_node_once,
    a_message_goes_to_all_peers_but_the_one_it_came_from,
    what_a_node_has_published_does_not_come_back,
    a_slow_peer_loses_its_own_copies_only,
    a_slow_application_holds_up_gossip_alone_and_loses_nothing,
    a_message_whose_handler_was_cancelled_comes_from_another_peer,
    a_node_whose_application_does_not_listen_relays,
    nothing_is_kept_of_peers_that_are_gone,
    a_breach_of_the_protocol_ends_the_peer,
}

type Deliveries = mpsc::Receiver<Delivery>;

const LONG: Duration = Duration::from_secs(10);

/// How long nothing comes before it is taken for never; over TCP the time is real.
const SILENCE: Duration = Duration::from_millis(500);

/// A message in its documented form.
fn encode(nonce: u64, payload: &[u8]) -> Bytes {
    [&nonce.to_be_bytes(), payload].concat().into()
}

/// A peer of the node under test that is in the hands of the test. In memory a node may have any number of them.
async fn neighbour(wire: Wire, protocol: &Protocol) -> (Channel, Pair) {
    let (own, mut opened): (_, Opened) = testing::manual("gossip", 1, 1);
    let pair = wire.pair(node().protocol(own), node().protocol(protocol.clone())).await;
    (opened.next().await.1, pair)
}

async fn delivered(deliveries: &mut Deliveries) -> Bytes {
    let delivery = timeout(LONG, deliveries.recv()).await;
    delivery.expect("a delivery comes soon").expect("the node runs").payload
}

/// That nothing comes however long one waits.
async fn nothing_comes(deliveries: &mut Deliveries) {
    let delivery = timeout(SILENCE, deliveries.recv()).await;
    assert!(delivery.is_err(), "{delivery:?}");
}

async fn each_message_reaches_each_other_node_once(wire: Wire) {
    let mut nodes: Vec<_> = (0..4).map(|_| Gossip::new(Settings::default())).collect();
    let mut pairs = Vec::new();
    for (first, second) in [(0, 1), (1, 2), (2, 0), (2, 3), (3, 0)] {
        let protocol = |index: usize| node().protocol(nodes[index].0.clone());
        pairs.push(wire.pair(protocol(first), protocol(second)).await);
    }
    for ((_, gossip, _), peers) in nodes.iter().zip([3, 2, 3, 2]) {
        gossip.wait_for_peers(peers).await;
    }
    for (index, (_, gossip, _)) in nodes.iter().enumerate() {
        gossip.publish([index as u8]).unwrap();
    }
    for (index, (_, gossip, deliveries)) in nodes.iter_mut().enumerate() {
        let mut received = [delivered(deliveries).await, delivered(deliveries).await, delivered(deliveries).await];
        received.sort();
        let expected = (0..4_u8).filter(|other| usize::from(*other) != index).map(|other| [other]);
        assert!(expected.eq(received.iter().map(|payload| &payload[..])), "R1 {received:?}");
        nothing_comes(deliveries).await;
        assert_eq!(gossip.lagged(), 0);
    }
}

async fn a_message_goes_to_all_peers_but_the_one_it_came_from(wire: Wire) {
    let (protocol, gossip, mut deliveries) = Gossip::new(Settings::default());
    let (mut first, pair) = neighbour(wire, &protocol).await;
    let (mut second, _pair) = neighbour(wire, &protocol).await;
    gossip.wait_for_peers(2).await;
    let message = encode(7, b"news");
    first.send(MESSAGE, message.clone()).await.unwrap();
    let relayed = expect_message(&mut second, MESSAGE).await;
    assert_eq!(relayed.payload, message, "the bytes are relayed as they came");
    let delivery = deliveries.recv().await.unwrap();
    assert_eq!((delivery.from, &delivery.payload[..]), (pair.at_second.id(), &b"news"[..]));

    // Another copy goes nowhere, another nonce is another message.
    second.send(MESSAGE, message).await.unwrap();
    second.send(MESSAGE, encode(8, b"news")).await.unwrap();
    let next = expect_message(&mut first, MESSAGE).await;
    assert_eq!(next.payload, encode(8, b"news"), "R60: its own message did not return to the first");
    assert_eq!(delivered(&mut deliveries).await, "news");
    nothing_comes(&mut deliveries).await;
    for channel in [&mut first, &mut second] {
        assert!(timeout(SILENCE, channel.recv()).await.is_err(), "R60");
    }
}

async fn what_a_node_has_published_does_not_come_back(wire: Wire) {
    let (protocol, gossip, mut deliveries) = Gossip::new(Settings::default());
    let ((mut first, _first), (mut second, _second)) =
        (neighbour(wire, &protocol).await, neighbour(wire, &protocol).await);
    gossip.wait_for_peers(2).await;
    gossip.publish("own").unwrap();
    let copy = expect_message(&mut first, MESSAGE).await;
    expect_message(&mut second, MESSAGE).await;
    first.send(MESSAGE, copy.payload).await.unwrap();
    nothing_comes(&mut deliveries).await;
    assert!(timeout(SILENCE, second.recv()).await.is_err(), "nor is it sent again");
}

async fn a_slow_peer_loses_its_own_copies_only(wire: Wire) {
    // More than the queue and the pipe hold.
    const COUNT: u64 = 1000;
    let (protocol, gossip, _deliveries) = Gossip::new(Settings::default());
    let (mut slow, _slow) = neighbour(wire, &protocol).await;
    let (mut fast, _fast) = neighbour(wire, &protocol).await;
    gossip.wait_for_peers(2).await;
    for number in 0..COUNT {
        let mut payload = vec![0; 4096];
        // What does not compress fills the pipe.
        getrandom::fill(&mut payload).unwrap();
        payload[..8].copy_from_slice(&number.to_be_bytes());
        gossip.publish(&payload).unwrap();
        let copy = expect_message(&mut fast, MESSAGE).await;
        assert_eq!(copy.payload[NONCE..], payload[..], "R23: the fast peer gets every one");
    }
    assert!(gossip.lagged() > 0, "R23: copies for the slow peer are counted");
    let mut last = None;
    for _ in 0..COUNT - gossip.lagged() {
        let copy = expect_message(&mut slow, MESSAGE).await;
        let number = u64::from_be_bytes(copy.payload[NONCE..][..8].try_into().unwrap());
        // A kernel that grows the socket's buffers midway lets later ones in.
        assert!(last < Some(number), "R23: it gets the rest, in order: {number} after {last:?}");
        last = Some(number);
    }
    gossip.publish("again").unwrap();
    let copy = expect_message(&mut slow, MESSAGE).await;
    assert_eq!(copy.payload[NONCE..], b"again"[..], "and has no gap for good");
}

async fn a_slow_application_holds_up_gossip_alone_and_loses_nothing(wire: Wire) {
    let (protocol, gossip, mut deliveries) = Gossip::new(Settings { deliveries: 1, ..Settings::default() });
    let (other, publisher, _) = Gossip::new(Settings::default());
    let (echo, client) = Echo::new();
    let pair = wire
        .pair(node().protocol(other).protocol(echo), node().protocol(protocol).protocol(capmux_echo::protocol()))
        .await;
    publisher.wait_for_peers(1).await;
    gossip.wait_for_peers(1).await;
    for number in 0..30 {
        publisher.publish([number]).unwrap();
    }
    assert!(client.request(&pair.at_first, "still there?").await.is_ok(), "R9 R11: the other protocol goes on");
    for number in 0..30 {
        assert_eq!(delivered(&mut deliveries).await[..], [number]);
    }
    nothing_comes(&mut deliveries).await;
}

async fn a_message_whose_handler_was_cancelled_comes_from_another_peer(wire: Wire) {
    let (protocol, _gossip, mut deliveries) = Gossip::new(Settings { deliveries: 1, ..Settings::default() });
    let (first, pair) = neighbour(wire, &protocol).await;
    first.send(MESSAGE, encode(1, b"one")).await.unwrap();
    first.send(MESSAGE, encode(2, b"two")).await.unwrap();
    while deliveries.is_empty() {
        tokio::task::yield_now().await;
    }
    pair.at_first.disconnect(DisconnectReason::Requested);
    pair.at_second.closed().await;
    let (second, _pair) = neighbour(wire, &protocol).await;
    second.send(MESSAGE, encode(2, b"two")).await.unwrap();
    assert_eq!([delivered(&mut deliveries).await, delivered(&mut deliveries).await], ["one", "two"]);
    nothing_comes(&mut deliveries).await;
}

async fn a_node_whose_application_does_not_listen_relays(wire: Wire) {
    let (protocol, gossip, deliveries) = Gossip::new(Settings { deliveries: 1, ..Settings::default() });
    drop(deliveries);
    let (first, _first) = neighbour(wire, &protocol).await;
    let (mut second, _second) = neighbour(wire, &protocol).await;
    gossip.wait_for_peers(2).await;
    for nonce in 0..3 {
        first.send(MESSAGE, encode(nonce, b"")).await.unwrap();
        expect_message(&mut second, MESSAGE).await;
    }
}

async fn nothing_is_kept_of_peers_that_are_gone(wire: Wire) {
    let (protocol, gossip, _deliveries) = Gossip::new(Settings::default());
    let ((_first, ended), (_second, aborted)) = (neighbour(wire, &protocol).await, neighbour(wire, &protocol).await);
    gossip.wait_for_peers(2).await;
    ended.at_second.disconnect(DisconnectReason::Requested);
    ended.at_second.closed().await;
    assert_eq!(gossip.node.peers.count(), 1, "R12 R13");
    drop(aborted);
    let gone = timeout(LONG, gossip.node.peers.wait_until(|peers| peers == 0)).await;
    assert!(gone.is_ok(), "R8 R12: also when the handler is aborted");
    gossip.publish("to nobody").unwrap();
    assert_eq!(gossip.lagged(), 0);
}

async fn a_breach_of_the_protocol_ends_the_peer(wire: Wire) {
    let (protocol, _gossip, mut deliveries) = Gossip::new(Settings { max_payload: 10, ..Settings::default() });
    for (message, expected) in [
        (Bytes::from_static(&[0; NONCE - 1]), DisconnectReason::ProtocolError),
        (encode(1, &[0; 11]), DisconnectReason::ProtocolError),
    ] {
        let (channel, pair) = neighbour(wire, &protocol).await;
        channel.send(MESSAGE, message).await.unwrap();
        assert_eq!(pair.at_first.closed().await.reason(), Some(expected), "R7 R20");
        assert_eq!(pair.at_second.closed().await.by(), Party::Local);
    }
    nothing_comes(&mut deliveries).await;
}

#[test]
fn limits_hold_for_the_own_application() {
    let (_, gossip, _) = Gossip::new(Settings { max_payload: 10, ..Settings::default() });
    assert_eq!(gossip.publish([0; 10]), Ok(()));
    assert_eq!(gossip.publish([0; 11]), Err(PayloadTooLarge(11)), "R20");
}

/// A node on TCP that has dialled `to`, if it is to.
async fn tcp_node(to: Option<&Enode>) -> (Server, Enode, Gossip, Deliveries) {
    let (protocol, gossip, deliveries) = Gossip::new(Settings::default());
    let server = node().listen("127.0.0.1:0".parse().unwrap()).protocol(protocol).start().await.unwrap();
    if let Some(enode) = to {
        server.dial(enode).await.unwrap();
    }
    let enode = server.enode().unwrap();
    (server, enode, gossip, deliveries)
}

#[tokio::test]
async fn messages_cross_a_line_of_nodes_on_tcp() {
    let (_first, enode, publisher, _own) = tcp_node(None).await;
    let (_second, enode, second, mut at_second) = tcp_node(Some(&enode)).await;
    let (_third, enode, third, mut at_third) = tcp_node(Some(&enode)).await;
    for (gossip, peers) in [(&publisher, 1), (&second, 2), (&third, 1)] {
        gossip.wait_for_peers(peers).await;
    }
    publisher.publish("early").unwrap();
    assert_eq!([delivered(&mut at_second).await, delivered(&mut at_third).await], ["early", "early"], "R1");

    let (fourth, _, late, mut at_fourth) = tcp_node(Some(&enode)).await;
    third.wait_for_peers(2).await;
    late.wait_for_peers(1).await;
    publisher.publish("late").unwrap();
    assert_eq!([delivered(&mut at_third).await, delivered(&mut at_fourth).await], ["late", "late"]);
    drop((fourth, late));
    let more = timeout(LONG, at_fourth.recv()).await.expect("deliveries end with the server");
    assert_eq!(more, None);
}

#[test]
fn the_oldest_is_forgotten_and_nothing_else() {
    let node = Node { max_seen: 3, ..Node::default() };
    for number in 0..100_u8 {
        assert!(node.is_new(&[number]));
        for latest in number.saturating_sub(2)..=number {
            assert!(!node.is_new(&[latest]), "{latest} is among the latest three of {number}");
        }
        let (ids, order) = &*node.seen.lock().unwrap();
        assert!(ids.len() <= 3 && order.len() <= 3, "R23: bounded");
    }
    assert!(node.is_new(&[0]), "forgotten long ago");
}
