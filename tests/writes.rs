//! How messages leave: those that are ready together in one write, a lone one at once, and each in its largest form.

mod support;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use capmux::p2p::{BaseMessage, MAX_MESSAGE_SIZE, MessageId};
use capmux::testing::{Scripted, manual, node, script_over};
use capmux::{ByteStream, Channel, NodeKey, Protocol};
use support::{greet, hello, noise, read, read_message, settle, soon};
use tokio::io::{AsyncWrite, DuplexStream, ReadHalf, WriteHalf};
use tokio::time::Instant;

const A: &[(&str, u64)] = &[("aaa", 1)];

/// How many bytes each write has carried.
type Writes = Arc<Mutex<Vec<usize>>>;

struct Counting {
    inner: WriteHalf<DuplexStream>,
    writes: Writes,
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.writes.lock().expect("no test panics with it").push(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// A node whose writes are counted from here on.
async fn counted(pipe: usize, protocol: impl FnOnce(Protocol) -> Protocol) -> (Scripted, Channel, Writes) {
    let (own, mut opened) = manual("aaa", 1, 4);
    let (one, other) = tokio::io::duplex(pipe);
    let (reader, inner): (ReadHalf<_>, _) = tokio::io::split(one);
    let writes = Writes::default();
    let stream = ByteStream::new(reader, Counting { inner, writes: writes.clone() });
    let key = NodeKey::random();
    let mut scripted = script_over(node().protocol(protocol(own)), stream, &key, other).await;
    scripted.connection.send_hello(&hello(&key, A)).await.expect("sent");
    scripted.connection.recv_hello(&key.public_key()).await.expect("the node's Hello");
    let (_, channel) = soon(opened.next()).await;
    // In virtual time whatever follows a write at once belongs to a burst.
    tokio::time::sleep(Duration::from_millis(1)).await;
    writes.lock().expect("no test panics with it").clear();
    (scripted, channel, writes)
}

#[tokio::test(start_paused = true)]
async fn a_lone_message_leaves_in_a_write_before_send_returns() {
    let (mut scripted, channel, writes) = counted(1 << 20, |own| own).await;
    for round in 1..=3 {
        channel.try_send(0, noise(1, 300)).unwrap();
        assert_eq!(writes.lock().unwrap().len(), round, "R21: no task has run in between, and it is in the socket");
        assert_eq!(read_message(&mut scripted.connection).await.1, noise(1, 300), "R21");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    scripted.connection.send_base(BaseMessage::Ping).await.unwrap();
    assert_eq!(read(&mut scripted.connection).await.unwrap().0, MessageId::PONG, "R18");
    assert_eq!(writes.lock().unwrap().len(), 4, "R21: nor does a Pong wait for company");
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_ready_together_leave_in_one_write() {
    const COUNT: usize = 100;
    let (mut scripted, channel, writes) = counted(1 << 20, |own| own).await;
    for number in 0..COUNT {
        channel.try_send(1, noise(number as u64, 200)).unwrap();
    }
    let before = Instant::now();
    for number in 0..COUNT {
        let message = read_message(&mut scripted.connection).await;
        assert_eq!(message, (0x11, noise(number as u64, 200)), "R14 R21");
    }
    assert_eq!(before.elapsed(), Duration::ZERO, "R21: no timer collects them");
    let writes = writes.lock().unwrap().clone();
    assert_eq!(writes.len(), 2, "R21: the first at once, and those that came meanwhile together: {writes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_carries_about_64_kib_at_a_time_so_that_others_can_pass() {
    let (mut scripted, channel, writes) = counted(8 << 20, |own| own.queue_bytes(4 << 20)).await;
    channel.try_send(0, "first").unwrap();
    for _ in 0..200 {
        channel.try_send(0, noise(2, 10_000)).unwrap();
    }
    for _ in 0..201 {
        read_message(&mut scripted.connection).await;
    }
    let writes = writes.lock().unwrap().clone();
    let largest = writes.iter().max().copied().unwrap();
    assert!((64 << 10..80 << 10).contains(&largest), "R18 R21: {writes:?}");
    assert!(writes.len() < 40, "R21: {} writes for 2 MB", writes.len());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_grows_when_it_is_compressed_has_a_place_in_an_empty_queue() {
    // Above this, only compressing tells whether it fits a frame, and noise grows. The queue holds just one message.
    const LIMIT: usize = 15_000_000;
    let (own, mut opened) = manual("aaa", 1, 4);
    let (mut scripted, peer) = greet(node().protocol(own.max_message_size(LIMIT).queue_bytes(LIMIT)), A).await;
    let (_, channel) = opened.next().await;
    let data = noise(5, LIMIT);
    let sent = channel.send(0, data.clone()).await;
    assert_eq!(sent, Ok(()), "R20 R15: the largest message must be sendable, or it would wait for ever");
    assert!(read_message(&mut scripted.connection).await.1 == data, "R20");
    assert!(peer.ending().is_none(), "R20: the connection lives");
    assert_eq!(channel.capacity(), 256, "R15: every place was given back");
    assert_eq!(channel.sender().capacity_bytes(), LIMIT, "R15");
}

#[tokio::test(start_paused = true)]
async fn the_largest_message_of_all_can_be_sent_and_one_byte_more_cannot() {
    let (mut scripted, channel, _) =
        counted(1 << 20, |own| own.max_message_size(MAX_MESSAGE_SIZE).queue_bytes(MAX_MESSAGE_SIZE)).await;
    for _ in 0..2 {
        let sender = channel.sender();
        let sending = tokio::spawn(async move { sender.send(0, vec![3; MAX_MESSAGE_SIZE]).await });
        assert!(read_message(&mut scripted.connection).await.1.len() == MAX_MESSAGE_SIZE, "R20");
        assert_eq!(soon(sending).await.unwrap(), Ok(()), "R20");
    }
    let sent = channel.send(0, vec![3; MAX_MESSAGE_SIZE + 1]).await;
    assert!(matches!(sent, Err(capmux::SendError::TooLarge { .. })), "R20: {sent:?}");
    settle().await;
    channel.send(1, "small").await.unwrap();
    assert_eq!(read_message(&mut scripted.connection).await, (0x11, "small".into()), "R20: the connection lives");
}
