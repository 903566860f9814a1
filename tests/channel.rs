//! Channels: codes, queues, limits, order, and futures that are dropped half-way.

mod support;

use std::time::Duration;

use bytes::Bytes;
use capmux::p2p::{BaseMessage, DisconnectReason, Hello, MAX_MESSAGE_SIZE, MessageId, SessionError};
use capmux::rlpx::SnappyError;
use capmux::testing::{self, Opened, expect_message, manual, node, pair};
use capmux::{NodeKey, PeerError, SendError};
use support::{
    assert_elapsed, capability, greet, hello, last_words, noise, plug, poll_at_most, poll_once, read, read_all,
    read_message, scripted, settle, sink, soon,
};
use tokio::time::Instant;
use tokio_stream::StreamExt;

const A: &[(&str, u64)] = &[("aaa", 1)];

#[tokio::test(start_paused = true)]
async fn each_protocol_has_its_own_codes() {
    let (late, mut lates) = manual("bbb", 1, 3);
    let (old, _olds) = manual("aaa", 1, 7);
    let (early, mut earlies) = manual("aaa", 2, 2);
    let node = node().protocol(late).protocol(old).protocol(early);
    let (mut scripted, peer) = greet(node, &[("zzz", 9), ("bbb", 1), ("aaa", 2), ("aaa", 1)]).await;
    let ((_, mut early), (_, mut late)) = (earlies.next().await, lates.next().await);

    assert_eq!(early.capability(), &capability("aaa", 2), "R2: the highest version that both have");
    assert_eq!(peer.shared_capabilities(), [capability("aaa", 2), capability("bbb", 1)], "R2");
    for (id, is_late, code) in [(0x10, false, 0), (0x11, false, 1), (0x12, true, 0), (0x14, true, 2)] {
        let channel = if is_late { &mut late } else { &mut early };
        scripted.connection.send(MessageId::new(id), &[id as u8]).await.unwrap();
        assert_eq!(expect_message(channel, code).await.payload, [id as u8][..], "R2 R6: relative on receipt");
        channel.send(code, vec![id as u8]).await.unwrap();
        assert_eq!(read_message(&mut scripted.connection).await, (id, vec![id as u8].into()), "R2 R6: and on sending");
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_that_the_protocol_does_not_have_fails_that_send_alone() {
    let (mut scripted, channel, peer) = scripted(|own| own).await;
    for code in [4, 5, u64::MAX] {
        let invalid = SendError::InvalidCode { capability: capability("aaa", 1), code, length: 4 };
        assert_eq!(channel.send(code, "").await, Err(invalid.clone()), "R6");
        assert_eq!(channel.try_send(code, ""), Err(invalid), "R6");
    }
    channel.send(3, "good").await.unwrap();
    assert_eq!(read_message(&mut scripted.connection).await, (0x13, "good".into()), "R6: the connection lives");
    assert!(peer.ending().is_none(), "R6");
}

#[tokio::test(start_paused = true)]
async fn send_waits_for_a_place_and_try_send_does_not() {
    let (mut scripted, channel, _) = scripted(|own| own.queue_messages(2)).await;
    assert_eq!(channel.capacity(), 2, "R15");
    plug(&channel).await;
    channel.send(1, "first").await.unwrap();
    assert_eq!(channel.capacity(), 1, "R15");
    channel.try_send(1, "second").unwrap();
    assert_eq!(channel.capacity(), 0, "R15");
    assert_eq!(channel.try_send(1, "x"), Err(SendError::Full), "R15: at once");

    let since = Instant::now();
    assert_eq!(channel.send(1, "too late").await, Err(SendError::Timeout { limit: Duration::from_secs(10) }), "R15");
    assert_elapsed(since, Duration::from_secs(10), "R15");

    let sender = channel.sender();
    let waiting = tokio::spawn(async move { sender.send(1, "third").await });
    settle().await;
    assert!(!waiting.is_finished(), "R15: it waits for a place");
    read_message(&mut scripted.connection).await;
    assert_eq!(soon(waiting).await.unwrap(), Ok(()), "R15: a place was free");
    for expected in ["first", "second", "third"] {
        assert_eq!(read_message(&mut scripted.connection).await.1, expected, "R15: in order, without what timed out");
    }
    assert_eq!(channel.capacity(), 2, "R15: every place was given back");
}

#[tokio::test(start_paused = true)]
async fn a_pong_goes_ahead_of_queued_data() {
    let (mut scripted, channel, _) = scripted(|own| own.queue_messages(8)).await;
    plug(&channel).await;
    for _ in 0..8 {
        channel.try_send(2, noise(2, 1000)).unwrap();
    }
    assert_eq!(channel.capacity(), 0, "R18: no data slot is left for a Pong");
    for _ in 0..10 {
        scripted.connection.send_base(BaseMessage::Ping).await.unwrap();
    }
    settle().await;
    assert_eq!(read_message(&mut scripted.connection).await.0, 0x10, "what is being written is not torn");
    assert_eq!(read(&mut scripted.connection).await.unwrap().0, MessageId::PONG, "R18");
    for _ in 0..8 {
        assert_eq!(read_message(&mut scripted.connection).await.0, 0x12, "R27: at most one Pong was pending");
    }
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_goes_ahead_of_queued_data() {
    let (mut scripted, channel, peer) = scripted(|own| own).await;
    plug(&channel).await;
    for _ in 0..64 {
        channel.try_send(2, "queued").unwrap();
    }
    peer.disconnect(DisconnectReason::Unknown(0x42));
    settle().await;
    assert_eq!(channel.try_send(2, "late"), Err(SendError::Closed));
    let messages = read_all(&mut scripted.connection).await;
    assert_eq!(messages.len(), 2, "R18: of the data, what was being written alone");
    assert_eq!((messages[0].0.value(), messages[1].0), (0x10, MessageId::DISCONNECT), "R18");
    assert_eq!(DisconnectReason::from_data(&messages[1].1), Some(DisconnectReason::Unknown(0x42)), "R62");
}

#[tokio::test(start_paused = true)]
async fn each_protocol_has_its_own_limit_on_receipt() {
    let protocols =
        || node().protocol(sink("aaa", 1).max_message_size(100)).protocol(sink("bbb", 1).max_message_size(101));
    let shared = &[("aaa", 1), ("bbb", 1)];

    let (mut scripted, peer) = greet(protocols(), shared).await;
    scripted.connection.send(MessageId::new(0x10), &[0; 100]).await.unwrap();
    scripted.connection.send(MessageId::new(0x11), &[0; 101]).await.unwrap();
    settle().await;
    assert_eq!((peer.traffic().messages_received, peer.ending().is_none()), (2, true), "R20: both are at their limits");

    scripted.connection.send(MessageId::new(0x10), &[0; 101]).await.unwrap();
    assert_eq!(last_words(&mut scripted.connection).await, Some(DisconnectReason::ProtocolError), "R20");
    drop(scripted.connection);
    let ending = soon(peer.closed()).await;
    let PeerError::Session(SessionError::Snappy { capability: of, source }) = ending.error() else {
        panic!("{ending}")
    };
    assert_eq!(of, &capability("aaa", 1), "R20");
    assert_eq!(source, &SnappyError::TooLarge { declared: 101, limit: 100 }, "R20: by the declared size");
}

#[tokio::test(start_paused = true)]
async fn sends_are_checked_before_compression() {
    let (mut scripted, channel, peer) = scripted(|own| own.max_message_size(1000)).await;
    let too_large = SendError::TooLarge { capability: capability("aaa", 1), size: 1001, limit: 1000 };
    assert_eq!(channel.send(0, vec![0; 1001]).await, Err(too_large.clone()), "R20");
    assert_eq!(channel.try_send(0, vec![0; 1001]), Err(too_large), "R20");
    channel.send(0, vec![0; 1000]).await.unwrap();
    assert_eq!(read_message(&mut scripted.connection).await.1, vec![0; 1000], "R20: the limit itself passes");
    assert!(peer.ending().is_none(), "R20: the connection lives");
}

#[tokio::test(start_paused = true)]
async fn sends_are_checked_after_compression() {
    let (mut scripted, channel, peer) = scripted(|own| own.max_message_size(MAX_MESSAGE_SIZE)).await;
    // The smaller one would have room in a frame as it is.
    let data = noise(3, MAX_MESSAGE_SIZE);
    for length in [MAX_MESSAGE_SIZE, MAX_MESSAGE_SIZE - 100] {
        let sent = channel.send(0, data.slice(..length)).await;
        let Err(SendError::TooLargeCompressed { size, compressed, .. }) = sent else { panic!("R20: {sent:?}") };
        assert!(size == length && compressed > MAX_MESSAGE_SIZE - 9, "R20: {size} {compressed}");
    }

    channel.send(0, vec![7; MAX_MESSAGE_SIZE]).await.unwrap();
    let (_, data) = read_message(&mut scripted.connection).await;
    assert!(data.len() == MAX_MESSAGE_SIZE && data.iter().all(|byte| *byte == 7), "R20: as large as a message can be");
    assert!(peer.ending().is_none(), "R20: the connection lives");
}

/// Who sent it, and which of his it is; the rest of the payload follows from them.
fn stamped(sender: u32, number: u32) -> Bytes {
    let stamp = u64::from(sender) << 32 | u64::from(number);
    let length = stamp as usize * 517 % 2048;
    [&stamp.to_be_bytes()[..], &noise(stamp, length)].concat().into()
}

/// Reads the messages of four senders, 200 each.
async fn check_order(mut opened: Opened) {
    let (_, mut channel) = opened.next().await;
    let mut next = [0; 4];
    for _ in 0..800 {
        let message = soon(channel.recv()).await.expect("a message");
        let sender = message.code as usize;
        assert_eq!(message.payload, stamped(sender as u32, next[sender]), "R14: whole, and in order");
        next[sender] += 1;
    }
    assert_eq!(next, [200; 4], "R14");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_senders_keep_their_order() {
    let ((a, mut at_a), (b, mut at_b)) = (manual("aaa", 1, 4), manual("bbb", 1, 4));
    let ((c, from_a), (d, from_b)) = (manual("aaa", 1, 4), manual("bbb", 1, 4));
    let _pair = pair(node().protocol(a.queue_messages(3)).protocol(b), node().protocol(c).protocol(d)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for opened in [&mut at_a, &mut at_b] {
        let (_, channel) = opened.next().await;
        for sender in 0..4 {
            let channel = channel.sender();
            tasks.spawn(async move {
                for number in 0..200 {
                    soon(channel.send(sender.into(), stamped(sender, number))).await.unwrap();
                }
            });
        }
    }
    tasks.spawn(check_order(from_a));
    tasks.spawn(check_order(from_b));
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_recv_loses_no_message_and_a_dropped_send_sends_none() {
    let (own, mut at_first) = manual("aaa", 1, 1);
    let (other, mut at_second) = manual("aaa", 1, 1);
    let pair = pair(node().protocol(own.queue_messages(2)), node().protocol(other.inbox_messages(2))).await;
    let ((_, sender), (_, mut receiver)) = (at_first.next().await, at_second.next().await);
    let (mut sent, mut received, mut dropped) = (0, 0, [0, 0]);
    for round in 0..1000 {
        let polls = 1 + round % 4;
        if round / 125 % 2 == 0 {
            match poll_at_most(polls, sender.send(0, stamped(9, sent))).await {
                Some(result) => sent += u32::from(result == Ok(())),
                None => dropped[0] += 1,
            }
        } else if let Some(message) = poll_at_most(polls, receiver.recv()).await {
            assert_eq!(message.unwrap().payload, stamped(9, received), "R64: none lost, none twice");
            received += 1;
        } else {
            dropped[1] += 1;
        }
    }
    while received < sent {
        let message = soon(receiver.recv()).await.unwrap();
        assert_eq!(message.payload, stamped(9, received), "R64: none lost, none twice");
        received += 1;
    }
    settle().await;
    assert!(poll_once(receiver.recv()).await.is_none(), "R64: none that was not sent");
    assert!(dropped.iter().all(|dropped| *dropped > 50) && sent > 50, "R64: {sent} sent, {dropped:?} dropped");
    assert!(pair.at_first.ending().is_none() && pair.at_second.ending().is_none(), "R64");
}

#[tokio::test(start_paused = true)]
async fn a_channel_and_its_receiver_are_streams() {
    let (scripted, mut channel, peer) = scripted(|own| own).await;
    let mut connection = scripted.connection;
    for payload in [&b"one"[..], b"two", b"three"] {
        connection.send(MessageId::new(0x12), payload).await.unwrap();
    }
    assert_eq!(channel.next().await.unwrap().payload, "one");
    let (sender, receiver) = channel.split();
    drop(connection);
    sender.closed().await;
    let rest: Vec<_> = receiver.map(|message| message.payload).collect().await;
    assert_eq!(rest, ["two", "three"], "what has come is there after the end, and then the stream ends");
    assert_eq!(sender.send(0, "").await, Err(SendError::Closed));
    soon(peer.closed()).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_version_4_gets_and_sends_messages_uncompressed() {
    let (own, mut opened) = manual("aaa", 1, 4);
    let key = NodeKey::random();
    let mut scripted = testing::script(node().protocol(own.max_message_size(MAX_MESSAGE_SIZE)), &key).await;
    let hello = Hello { version: 4, ..hello(&key, A) };
    scripted.connection.send_hello(&hello).await.unwrap();
    assert_eq!(read(&mut scripted.connection).await.unwrap().0, MessageId::HELLO);
    let (peer, mut channel) = opened.next().await;
    assert_eq!(peer.p2p_version(), 4);
    scripted.connection.send(MessageId::new(0x11), b"plain").await.unwrap();
    assert_eq!(expect_message(&mut channel, 1).await.payload, "plain");
    channel.send(2, "plain").await.unwrap();
    assert_eq!(read(&mut scripted.connection).await.unwrap(), (MessageId::new(0x12), "plain".into()));
    let sent = channel.send(0, vec![0; MAX_MESSAGE_SIZE]).await;
    assert!(
        matches!(sent, Err(SendError::TooLarge { size: MAX_MESSAGE_SIZE, .. })),
        "R20: the id has no room: {sent:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn queues_can_be_as_long_as_there_are_numbers() {
    let (mut scripted, mut channel, _) =
        scripted(|own| own.inbox_messages(usize::MAX).queue_messages(usize::MAX)).await;
    scripted.connection.send(MessageId::new(0x10), b"in").await.unwrap();
    assert_eq!(expect_message(&mut channel, 0).await.payload, "in", "R77: tokio's limit does not show");
    channel.send(0, "out").await.unwrap();
    assert_eq!(read_message(&mut scripted.connection).await.1, "out");
}
