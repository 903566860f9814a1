//! Shares of a connection that is always full, and what goes ahead of them.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capmux::p2p::{BaseMessage, DisconnectReason, MessageId};
use capmux::testing::{manual, node};
use capmux::{ByteRates, ChannelReceiver, ChannelSender, Server};
use support::{dial, greet, listening, noise, read, read_all, read_message, settle, soon, start};
use tokio::task::JoinSet;

const NAMES: [&str; 3] = ["aaa", "bbb", "ccc"];
const WEIGHTS: [u16; 3] = [10, 5, 1];

/// Sends messages of one size without end.
async fn flood(channel: ChannelSender, size: usize) {
    let payload = noise(size as u64, size);
    while channel.send(0, payload.clone()).await.is_ok() {}
}

/// Reads everything, and counts its bytes on the wire.
async fn count(mut channel: ChannelReceiver, counted: Arc<AtomicU64>) {
    while let Some(message) = channel.recv().await {
        counted.fetch_add(message.payload.len() as u64 + 64, Ordering::Relaxed);
    }
}

/// The bytes that each protocol gets of a full connection until there are `total`, each sending messages of its size.
async fn shares(sizes: [usize; 3], chunk: Option<usize>, total: u64) -> [u64; 3] {
    let link = ByteRates { outbound: 20_000_000, ..ByteRates::default() };
    let (mut first, mut second) = (listening().byte_rates(link), node());
    if let Some(chunk) = chunk {
        (first, second) = (first.chunk_size(chunk), second.chunk_size(chunk));
    }
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for (name, weight) in NAMES.into_iter().zip(WEIGHTS) {
        let ((own, at_first), (other, at_second)) = (manual(name, 1, 1), manual(name, 1, 1));
        first = first.protocol(own.weight(weight).queue_messages(8192).queue_bytes(4 << 20));
        second = second.protocol(other);
        senders.push(at_first);
        receivers.push(at_second);
    }
    let (first, second): (Server, Server) = (start(first).await, start(second).await);
    dial(&second, &first).await;
    let (mut tasks, counted) = (JoinSet::new(), [(); 3].map(|()| <Arc<AtomicU64>>::default()));
    for (mut opened, counted) in receivers.into_iter().zip(&counted) {
        tasks.spawn(count(soon(opened.next()).await.1.split().1, counted.clone()));
    }
    for (mut opened, size) in senders.into_iter().zip(sizes) {
        tasks.spawn(flood(soon(opened.next()).await.1.sender(), size));
    }
    let read = || counted.each_ref().map(|counted| counted.load(Ordering::Relaxed));
    // Until all of them are full, the first has the connection for itself.
    let until = |bytes: u64| async move {
        while read().iter().sum::<u64>() < bytes {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        read()
    };
    let before = soon(until(6_000_000)).await;
    let after = soon(until(6_000_000 + total)).await;
    std::array::from_fn(|place| after[place] - before[place])
}

async fn assert_shares(sizes: [usize; 3], chunk: Option<usize>, total: u64) {
    let shares = shares(sizes, chunk, total).await;
    let all: u64 = shares.iter().sum();
    for (bytes, weight) in shares.iter().zip(WEIGHTS) {
        let of_its_share = *bytes as f64 / all as f64 * 16.0 / f64::from(weight);
        assert!((0.85..=1.15).contains(&of_its_share), "R17: {of_its_share:.3} of its share: {shares:?} of {sizes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_connection_is_shared_by_weight() {
    for (sizes, chunk) in
        [([16_000; 3], None), ([1000, 30_000, 200_000], None), ([200_000, 1000, 16_000], Some(16 * 1024))]
    {
        assert_shares(sizes, chunk, 60_000_000).await;
    }
}

/// More than the pipe between two peers in memory holds.
const PLUG: usize = 256 * 1024;

#[tokio::test(start_paused = true)]
async fn a_pong_and_a_disconnect_pass_messages_of_1_mib() {
    const LARGE: usize = 1 << 20;
    let (own, mut opened) = manual("aaa", 1, 4);
    let (mut scripted, peer) = greet(node().protocol(own.queue_bytes(8 * LARGE)), &[("aaa", 1)]).await;
    let (_, channel) = opened.next().await;
    channel.try_send(0, noise(1, PLUG)).unwrap();
    settle().await;
    for number in 0..8 {
        channel.try_send(1, noise(number, LARGE)).unwrap();
    }
    assert_eq!(channel.sender().capacity_bytes(), 0, "R18: the queue is full");
    scripted.connection.send_base(BaseMessage::Ping).await.unwrap();
    settle().await;
    assert_eq!(read_message(&mut scripted.connection).await.0, 0x10, "what had begun");
    assert_eq!(read(&mut scripted.connection).await.unwrap().0, MessageId::PONG, "R18: ahead of all that is queued");
    assert_eq!(read_message(&mut scripted.connection).await.0, 0x11, "R18: and then it goes on");
    peer.disconnect(DisconnectReason::Requested);
    settle().await;
    let rest = read_all(&mut scripted.connection).await;
    let ids: Vec<_> = rest.iter().map(|(id, _)| id.value()).collect();
    assert_eq!(ids, [0x11, 0x01], "R18: what had begun, and the Disconnect");
}

#[tokio::test(start_paused = true)]
async fn nobody_starves_behind_a_heavy_protocol() {
    let ((heavy, mut heavies), (light, mut lights)) = (manual("aaa", 1, 1), manual("bbb", 1, 1));
    let node = node().protocol(heavy.weight(1000).queue_bytes(8 << 20)).protocol(light);
    let (mut scripted, _peer) = greet(node, &[("aaa", 1), ("bbb", 1)]).await;
    let ((_, heavy), (_, light)) = (heavies.next().await, lights.next().await);
    heavy.try_send(0, noise(1, PLUG)).unwrap();
    settle().await;
    for number in 0..50 {
        heavy.try_send(0, noise(number, 100_000)).unwrap();
    }
    light.try_send(0, "light").unwrap();
    let mut before = 0;
    while read_message(&mut scripted.connection).await.0 == 0x10 {
        before += 100_000;
    }
    assert!(before <= 1024 * 1000 + 500_000, "R17: a round at the most, not {before} bytes");
}
