//! Large messages in pieces, as peers exchange them: what passes them, and towards whom they are off.

mod support;

use capmux::p2p::{BaseMessage, DisconnectReason, MAX_MESSAGE_SIZE, MessageId};
use capmux::testing::{manual, node, script};
use capmux::{ByteRates, NodeKey, PeerError, Protocol, ServerBuilder};
use support::{dial, greet, hello, last_words, listening, noise, read, read_message, settle, sink, soon, start};

const CHUNK: usize = 16 * 1024;

/// With `chunk/1`: `aaa` 0x10 to 0x13, `bbb` 0x14, chunk 0x15 and 0x16.
const BOTH: &[(&str, u64)] = &[("aaa", 1), ("bbb", 1), ("chunk", 1)];
const FIRST: u64 = 0x15;

/// Through which a large message takes seconds.
fn slow_link(node: ServerBuilder) -> ServerBuilder {
    node.byte_rates(ByteRates { outbound: 1_000_000, inbound: 0 })
}

fn large(own: Protocol) -> Protocol {
    own.max_message_size(MAX_MESSAGE_SIZE)
}

/// How many pieces of a large message are read before a small one of another protocol, sent in the midst of it, is.
async fn pieces_before_another(size: usize) {
    let ((own, mut opened), (other, mut others)) = (manual("aaa", 1, 4), manual("bbb", 1, 1));
    let node = slow_link(node().chunk_size(CHUNK)).protocol(large(own)).protocol(other);
    let (mut scripted, peer) = greet(node, BOTH).await;
    let ((_, bulk), (_, small)) = (opened.next().await, others.next().await);
    bulk.send(1, noise(9, size)).await.expect("sent");
    let (mut pieces, mut total) = (0, 0);
    while total < size {
        if pieces % 100 == 50 {
            small.try_send(0, "small").expect("there is a place");
            scripted.connection.send_base(BaseMessage::Ping).await.expect("sent");
            let (mut before, mut expected) = (0, vec![0x14, MessageId::PONG.value()]);
            while !expected.is_empty() {
                let (id, data) = read(&mut scripted.connection).await.expect("a message");
                match expected.iter().position(|expected| *expected == id.value()) {
                    Some(place) => drop(expected.remove(place)),
                    None => {
                        (before, pieces) = (before + 1, pieces + 1);
                        total += piece_len(&data);
                    }
                }
            }
            assert!(before <= 8, "R19 R18: {before} pieces of {size} bytes went before");
            continue;
        }
        let (id, data) = read(&mut scripted.connection).await.expect("a piece");
        assert_eq!(id.value(), if pieces == 0 { FIRST } else { FIRST + 1 }, "R19");
        pieces += 1;
        total += piece_len(&data);
    }
    assert_eq!(total, size, "R19");
    assert!(pieces >= size.div_ceil(CHUNK), "R19: no piece is larger than what was set");
    assert_eq!(bulk.sender().capacity_bytes(), MAX_MESSAGE_SIZE, "R15 R19: its room is given back");
    assert!(peer.ending().is_none(), "R19");
}

/// How many bytes of the message a piece brings: the last element of its list.
fn piece_len(data: &[u8]) -> usize {
    let plain = support::decompress(data);
    let list = capmux::rlp::Rlp::new(&plain);
    list.at(list.item_count().expect("a list") - 1).expect("an element").data().expect("a string").len()
}

#[tokio::test(start_paused = true)]
async fn a_large_message_holds_up_nobody() {
    for size in [10 << 20, MAX_MESSAGE_SIZE] {
        pieces_before_another(size).await;
    }
}

#[tokio::test]
async fn large_messages_arrive_whole_and_in_order_between_small_ones() {
    let ((own, mut opened), (other, mut received)) = (manual("aaa", 1, 4), manual("aaa", 1, 4));
    let first = start(listening().chunk_size(CHUNK).protocol(large(own))).await;
    let second = start(node().chunk_size(1024).protocol(large(other))).await;
    dial(&second, &first).await;
    let ((_, sender), (_, mut receiver)) = (soon(opened.next()).await, soon(received.next()).await);
    // Noise near the limit fits no frame; in pieces it does.
    let sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 10 << 20, 5, MAX_MESSAGE_SIZE, 2 * CHUNK, 3];
    let sending = tokio::spawn(async move {
        for (number, size) in sizes.into_iter().enumerate() {
            soon(sender.send(number as u64 % 4, noise(number as u64, size))).await.expect("R19 R20");
        }
        sender
    });
    for (number, size) in sizes.into_iter().enumerate() {
        let message = soon(receiver.recv()).await.expect("a message");
        assert_eq!(message.code, number as u64 % 4, "R14 R19");
        assert!(message.payload == noise(number as u64, size), "R14 R19: {size} bytes, whole");
    }
    // And the other way, where pieces are of another size.
    let mut sender = soon(sending).await.unwrap();
    soon(receiver.send(0, noise(7, 100_000))).await.expect("sent");
    assert!(
        soon(sender.recv()).await.expect("R19").payload == noise(7, 100_000),
        "R19: each end has a size of its own"
    );
}

#[tokio::test(start_paused = true)]
async fn towards_a_peer_without_it_there_are_no_pieces() {
    let ((own, mut opened), (other, mut others)) = (manual("aaa", 1, 4), manual("bbb", 1, 1));
    let node = node().chunk_size(1024).protocol(own).protocol(other);
    let (mut scripted, _peer) = greet(node, &BOTH[..2]).await;
    let ((_, bulk), (_, small)) = (opened.next().await, others.next().await);
    for size in [1023, 1025, 900_000] {
        let sender = bulk.sender();
        let sending = tokio::spawn(async move { sender.send(1, noise(3, size)).await });
        settle().await;
        assert!(read_message(&mut scripted.connection).await == (0x11, noise(3, size)), "R19: whole, {size} bytes");
        assert_eq!(soon(sending).await.unwrap(), Ok(()));
    }
    small.send(0, noise(4, 5000)).await.unwrap();
    assert_eq!(read_message(&mut scripted.connection).await, (0x14, noise(4, 5000)), "R19 R2: the ids of any client");
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_it_is_not_offered() {
    for (node, offered) in [(node(), false), (node().chunk_size(1024), true)] {
        let key = NodeKey::random();
        let mut scripted = script(node.protocol(sink("aaa", 1)), &key).await;
        scripted.connection.send_hello(&hello(&key, BOTH)).await.unwrap();
        let hello = scripted.connection.recv_hello(&key.public_key()).await.unwrap();
        let names: Vec<_> = hello.capabilities.iter().map(|capability| capability.name()).collect();
        assert_eq!(names.contains(&"chunk"), offered, "R19 R77: {names:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_shares_pieces_alone_is_useless() {
    let key = NodeKey::random();
    let mut scripted = script(node().chunk_size(1024).protocol(sink("aaa", 1)), &key).await;
    scripted.connection.send_hello(&hello(&key, &[("chunk", 1), ("zzz", 1)])).await.unwrap();
    scripted.connection.recv_hello(&key.public_key()).await.unwrap();
    assert_eq!(last_words(&mut scripted.connection).await, Some(DisconnectReason::UselessPeer), "R19 R3 H53");
    let ending = soon(scripted.peer()).await.unwrap_err();
    assert!(
        matches!(ending.error(), PeerError::Session(capmux::p2p::SessionError::NoSharedCapability)),
        "R3: {ending}"
    );
}
