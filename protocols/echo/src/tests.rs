use capmux::p2p::MAX_MESSAGE_SIZE;
use capmux::testing::{self, Driven, Opened, Pair, Wire, expect_message};
use capmux::{Channel, DisconnectReason, NodeKey, Party, PeerError, Server};
use tokio::time::sleep;

use super::*;

// R32: the same tests over memory and TCP. Those of exact times have to be in memory.
capmux::over_each_wire! {
    requests_are_answered_with_their_own_bytes,
    messages_may_be_as_large_as_the_wire_allows,
    both_ends_ask_and_answer_at_once,
    requests_under_way_are_bounded,
    a_dropped_request_keeps_its_place_among_the_replies,
    requests_end_with_their_peer,
    a_peer_is_one_connection_and_not_a_later_one_of_its_node,
    a_cancelled_handler_leaves_nothing,
    replies_to_nothing_end_the_peer,
    replies_with_other_bytes_end_the_peer,
    requests_that_cannot_be_sent_fail_alone,
}

/// A client whose peer's end is in the hands of the test.
async fn client(wire: Wire) -> (Echo, Pair, Channel) {
    let (protocol, echo) = Echo::new();
    let Driven { channel, pair } = wire.drive(NAME, 1, 2, protocol).await;
    (echo, pair, channel)
}

/// The peer's view that the client has, in [`client`].
fn asked(pair: &Pair) -> &Peer {
    &pair.at_second
}

async fn requests_are_answered_with_their_own_bytes(wire: Wire) {
    let mut other = wire.drive(NAME, 1, 2, protocol()).await;
    for payload in [Bytes::new(), Bytes::from_static(b"\x01"), Bytes::from(vec![7; 1024 * 1024])] {
        other.channel.send(REQUEST, payload.clone()).await.unwrap();
        let reply = expect_message(&mut other.channel, REPLY).await;
        assert_eq!(reply.payload, payload, "R1 R6");
    }
}

async fn messages_may_be_as_large_as_the_wire_allows(wire: Wire) {
    let (own, echo) = Echo::new();
    let [own, other] = [own, protocol()].map(|protocol| protocol.max_message_size(MAX_MESSAGE_SIZE));
    let pair = wire.pair(testing::node().protocol(own), testing::node().protocol(other)).await;
    let answer = echo.request(&pair.at_first, vec![0; MAX_MESSAGE_SIZE]).await;
    assert!(answer.is_ok(), "R20: above the library's default, {answer:?}");
}

async fn both_ends_ask_and_answer_at_once(wire: Wire) {
    let ((first, at_first), (second, at_second)) = (Echo::new(), Echo::new());
    let pair = wire.pair(testing::node().protocol(first), testing::node().protocol(second)).await;
    for _ in 0..3 * MAX_OUTSTANDING {
        let answers = tokio::join!(
            at_first.request(&pair.at_first, vec![1; 100_000]),
            at_second.request(&pair.at_second, vec![2; 100_000]),
            at_first.request(&pair.at_first, "")
        );
        assert!(matches!(answers, (Ok(_), Ok(_), Ok(_))), "R1 {answers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_is_that_of_the_reply() {
    let wire = Wire::Memory;
    let (echo, pair, mut channel) = client(wire).await;
    let slow = async {
        let request = expect_message(&mut channel, REQUEST).await;
        sleep(Duration::from_millis(30)).await;
        channel.send(REPLY, request.payload).await.unwrap();
    };
    let (time, ()) = tokio::join!(echo.request(asked(&pair), "ping"), slow);
    assert_eq!(time.unwrap().as_millis(), 30);
}

#[tokio::test(start_paused = true)]
async fn replies_belong_to_requests_in_their_order() {
    let wire = Wire::Memory;
    let (echo, pair, mut channel) = client(wire).await;
    let peer = asked(&pair);
    let ordered = async {
        for expected in ["first", "second"] {
            assert_eq!(expect_message(&mut channel, REQUEST).await.payload, expected);
        }
        channel.send(REPLY, "first").await.unwrap();
        sleep(Duration::from_millis(5)).await;
        channel.send(REPLY, "second").await.unwrap();
    };
    let (first, second, ()) = tokio::join!(echo.request(peer, "first"), echo.request(peer, "second"), ordered);
    assert_eq!((first.unwrap().as_millis(), second.unwrap().as_millis()), (0, 5), "R14");
}

async fn requests_under_way_are_bounded(wire: Wire) {
    let (echo, pair, mut channel) = client(wire).await;
    let ask = |number: usize| {
        let (echo, peer) = (echo.clone(), asked(&pair).clone());
        tokio::spawn(async move { echo.request(&peer, vec![number as u8]).await })
    };
    let requests: Vec<_> = (0..=MAX_OUTSTANDING).map(ask).collect();
    for _ in 0..MAX_OUTSTANDING {
        expect_message(&mut channel, REQUEST).await;
    }
    let more = tokio::time::timeout(Duration::from_secs(1), channel.recv()).await;
    assert!(more.is_err(), "R9: sent before there was a place: {more:?}");
    for number in 0..=MAX_OUTSTANDING {
        channel.send(REPLY, vec![number as u8]).await.unwrap();
        if number == 0 {
            expect_message(&mut channel, REQUEST).await;
        }
    }
    for request in requests {
        assert!(request.await.unwrap().is_ok());
    }
}

async fn a_dropped_request_keeps_its_place_among_the_replies(wire: Wire) {
    let (echo, pair, mut channel) = client(wire).await;
    let given_up = tokio::time::timeout(Duration::from_millis(1), echo.request(asked(&pair), "one")).await;
    assert!(given_up.is_err());
    let late = async {
        for _ in 0..2 {
            let request = expect_message(&mut channel, REQUEST).await;
            channel.send(REPLY, request.payload).await.unwrap();
        }
    };
    let (answer, ()) = tokio::join!(echo.request(asked(&pair), "two"), late);
    assert!(answer.is_ok(), "R64: {answer:?}");
}

async fn requests_end_with_their_peer(wire: Wire) {
    let (echo, pair, mut channel) = client(wire).await;
    let requests: Vec<_> = (0..=MAX_OUTSTANDING)
        .map(|_| {
            let (echo, peer) = (echo.clone(), asked(&pair).clone());
            tokio::spawn(async move { echo.request(&peer, "anyone?").await })
        })
        .collect();
    for _ in 0..MAX_OUTSTANDING {
        expect_message(&mut channel, REQUEST).await;
    }
    pair.at_first.disconnect(DisconnectReason::Requested);
    for request in requests {
        assert_eq!(request.await.unwrap(), Err(EchoError::Gone), "waiting for a reply, or for a place");
    }
    asked(&pair).closed().await;
    assert_eq!(echo.request(asked(&pair), "anyone?").await, Err(EchoError::Gone));
    assert!(echo.links.borrow().is_empty(), "R12: what was kept for the peer is gone with it");
}

async fn a_peer_is_one_connection_and_not_a_later_one_of_its_node(wire: Wire) {
    let (own, echo) = Echo::new();
    let key = NodeKey::random();
    let connect = || {
        let node = Server::builder(key.clone()).protocol(protocol());
        wire.pair(testing::node().protocol(own.clone()), node)
    };
    let earlier = connect().await;
    earlier.at_first.disconnect(DisconnectReason::Requested);
    earlier.at_first.closed().await;
    let later = connect().await;
    assert!(echo.request(&later.at_first, "").await.is_ok());
    assert_eq!(echo.request(&earlier.at_first, "").await, Err(EchoError::Gone));
}

async fn a_cancelled_handler_leaves_nothing(wire: Wire) {
    let (echo, pair, channel) = client(wire).await;
    let started = echo.link(asked(&pair)).await;
    drop((started, channel));
    drop(pair);
    let mut links = echo.links.subscribe();
    let gone = tokio::time::timeout(Duration::from_secs(1), links.wait_for(HashMap::is_empty)).await;
    assert!(gone.is_ok(), "R8 R12: aborting the peer removes what was kept for it");
}

async fn replies_to_nothing_end_the_peer(wire: Wire) {
    let (_echo, pair, channel) = client(wire).await;
    channel.send(REPLY, "unasked").await.unwrap();
    let ending = asked(&pair).closed().await;
    assert!(
        matches!(ending.error(), PeerError::HandlerFailed { source, .. }
            if source.downcast_ref() == Some(&Violation::Unsolicited)),
        "{ending}"
    );
    let told = pair.at_first.closed().await;
    assert_eq!((told.reason(), told.by()), (Some(DisconnectReason::SubprotocolError), Party::Remote), "R7");
}

async fn replies_with_other_bytes_end_the_peer(wire: Wire) {
    let (echo, pair, mut channel) = client(wire).await;
    let forge = async {
        expect_message(&mut channel, REQUEST).await;
        channel.send(REPLY, "abd").await.unwrap();
    };
    let (answer, ()) = tokio::join!(echo.request(asked(&pair), "abc"), forge);
    assert_eq!(answer, Err(EchoError::Gone));
    let ending = asked(&pair).closed().await;
    assert!(ending.to_string().ends_with("a reply that differs from its request"), "{ending}");
    assert_eq!(ending.reason(), Some(DisconnectReason::SubprotocolError), "R7");
}

async fn requests_that_cannot_be_sent_fail_alone(wire: Wire) {
    let (protocol, echo) = Echo::new();
    let own = testing::node().protocol(protocol.max_message_size(10));
    let (other, mut opened): (_, Opened) = testing::manual("other", 1, 1);
    let pair = wire.pair(own, testing::node().protocol(super::protocol())).await;
    let refused = echo.request(&pair.at_first, vec![0; 11]).await;
    assert!(matches!(refused, Err(EchoError::Send(SendError::TooLarge { size: 11, limit: 10, .. }))), "{refused:?}");
    assert!(echo.request(&pair.at_first, vec![0; 10]).await.is_ok(), "R6: the connection lives");

    let (more, _) = testing::manual("other", 1, 1);
    let stranger = wire.pair(testing::node().protocol(other), testing::node().protocol(more)).await;
    opened.next().await;
    assert_eq!(echo.request(&stranger.at_first, "").await, Err(EchoError::NotShared));
}

#[tokio::test]
async fn a_node_is_asked_over_tcp_as_soon_as_it_is_a_peer() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let answers = testing::node().listen(listen).protocol(protocol()).start().await.unwrap();
    let (protocol, echo) = Echo::new();
    let asks: Server = testing::node().protocol(protocol).start().await.unwrap();
    let peer = asks.dial(&answers.enode().unwrap()).await.unwrap();
    let time = echo.request(&peer, "hello").await.unwrap();
    assert!(time > Duration::ZERO, "R1");
    answers.shutdown().await;
    assert_eq!(echo.request(&peer, "hello").await, Err(EchoError::Gone));
}
