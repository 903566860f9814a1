//! Order and wholeness over TCP on several threads, by each of the ways in which a message can leave.

mod support;

use bytes::Bytes;
use capmux::testing::{Opened, manual, node};
use capmux::{ChannelSender, SendError};
use support::{dial, listening, noise, soon, start};
use tokio::task::JoinSet;

const NAMES: [&str; 3] = ["aaa", "bbb", "ccc"];

/// How a sender sends: each is a code of its own.
#[derive(Clone, Copy)]
enum Way {
    /// One message at a time, which finds the connection idle more often than not.
    Lone,
    /// One behind the other, waiting for places.
    Queued,
    /// Without waiting, until it is told that the queue is full.
    Trying,
    /// Now and then a large one.
    Large,
}

const WAYS: [Way; 4] = [Way::Lone, Way::Queued, Way::Trying, Way::Large];

/// How many messages each sender sends.
const COUNT: u32 = 400;

/// The message follows from its sender and its number.
fn stamped(sender: u32, number: u32) -> Bytes {
    let stamp = u64::from(sender) << 32 | u64::from(number);
    let length = match WAYS[sender as usize % WAYS.len()] {
        Way::Large if number.is_multiple_of(8) => 40_000,
        _ => stamp as usize * 517 % 2048,
    };
    [&stamp.to_be_bytes()[..], &noise(stamp, length)].concat().into()
}

async fn send_all(channel: ChannelSender, sender: u32) {
    let way = WAYS[sender as usize % WAYS.len()];
    for number in 0..COUNT {
        let (code, message) = (u64::from(sender) % 4, stamped(sender, number));
        match way {
            Way::Lone => {
                let receipt = soon(channel.send_with_receipt(code, message)).await.expect("sent");
                soon(receipt).await.expect("written");
            }
            Way::Queued | Way::Large => soon(channel.send(code, message)).await.expect("sent"),
            Way::Trying => {
                while let Err(error) = channel.try_send(code, message.clone()) {
                    assert_eq!(error, SendError::Full, "R15");
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// Reads what four senders have sent over one protocol.
async fn check_order(mut opened: Opened, first: u32) {
    let (_peer, mut channel) = opened.next().await;
    let mut next = [0; 4];
    for _ in 0..4 * COUNT {
        let message = soon(channel.recv()).await.expect("R14: nothing is lost");
        let number = &mut next[message.code as usize];
        let expected = stamped(first + message.code as u32, *number);
        assert!(message.payload == expected, "R14: code {} number {number}: whole, and in order", message.code);
        *number += 1;
    }
    assert_eq!(next, [COUNT; 4], "R14");
}

async fn exchange(chunk: Option<usize>) {
    let (mut first, mut second) = (listening(), node());
    if let Some(chunk) = chunk {
        (first, second) = (first.chunk_size(chunk), second.chunk_size(chunk));
    }
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for name in NAMES {
        let ((own, at_first), (other, at_second)) = (manual(name, 1, 4), manual(name, 1, 4));
        first = first.protocol(own.queue_messages(3));
        second = second.protocol(other.inbox_messages(8));
        senders.push(at_first);
        receivers.push(at_second);
    }
    let (first, second) = (start(first).await, start(second).await);
    dial(&second, &first).await;
    let mut tasks = JoinSet::new();
    for (place, (mut opened, received)) in senders.into_iter().zip(receivers).enumerate() {
        let (_, channel) = soon(opened.next()).await;
        let base = place as u32 * 4;
        (base..base + 4).for_each(|sender| drop(tasks.spawn(send_all(channel.sender(), sender))));
        tasks.spawn(check_order(received, base));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task fails");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_of_many_senders_keep_their_order_and_are_whole() {
    exchange(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_of_many_senders_keep_their_order_and_are_whole_in_pieces() {
    exchange(Some(1024)).await;
}

/// Of one protocol with one order: numbers are given out under a lock that is held until the message is taken on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_protocol_has_one_order_whoever_sends() {
    let ((own, mut opened), (other, mut received)) = (manual("aaa", 1, 1), manual("aaa", 1, 1));
    let first = start(listening().protocol(own.queue_messages(4))).await;
    let second = start(node().protocol(other)).await;
    dial(&second, &first).await;
    let ((_, channel), (_, mut receiver)) = (soon(opened.next()).await, soon(received.next()).await);
    let next = std::sync::Arc::new(tokio::sync::Mutex::new(0_u64));
    let mut tasks = JoinSet::new();
    for sender in 0..6 {
        let (next, channel) = (next.clone(), channel.sender());
        tasks.spawn(async move {
            for _ in 0..1000 {
                let mut next = next.lock().await;
                // Small ones leave past the queue when they can, larger ones never do.
                let padding = if sender == 0 { 20_000 } else { 8 };
                let message = [&next.to_be_bytes()[..], &vec![0; padding]].concat();
                soon(channel.send(0, message)).await.expect("sent");
                *next += 1;
            }
        });
    }
    for expected in 0..6000_u64 {
        let message = soon(receiver.recv()).await.expect("R14: nothing is lost");
        assert_eq!(message.payload[..8], expected.to_be_bytes(), "R14: in the order in which they were taken on");
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task fails");
    }
}
