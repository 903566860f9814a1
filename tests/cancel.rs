//! Futures of channels and peers that are dropped after any number of polls.

mod support;

use std::time::Duration;

use capmux::testing::{Scripted, expect_message, manual, node, pair};
use capmux::{Channel, Peer, SendError};
use support::{greet, noise, poll_at_most, poll_once, read_message, settle, sink, soon};

const A: &[(&str, u64)] = &[("aaa", 1)];
const PLUG: usize = 256 * 1024;
const PLACES: usize = 2;

/// A peer whose queue is full, and that reads nothing yet.
async fn full() -> (Scripted, Channel, Peer) {
    let (own, mut opened) = manual("aaa", 1, 4);
    let (scripted, peer) = greet(node().protocol(own.queue_messages(PLACES)), A).await;
    let (_, channel) = opened.next().await;
    channel.try_send(0, noise(1, PLUG)).expect("there is a place");
    while channel.capacity() < PLACES {
        tokio::task::yield_now().await;
    }
    for _ in 0..PLACES {
        channel.try_send(1, "queued").expect("there is a place");
    }
    (scripted, channel, peer)
}

#[derive(Debug, Clone, Copy)]
enum Sending {
    Plain,
    WithReceipt,
}

async fn send(channel: &Channel, how: Sending) -> Result<(), SendError> {
    match how {
        Sending::Plain => channel.send(2, "maybe").await,
        // The receipt is dropped with its future half-way or not at all: it takes nothing back.
        Sending::WithReceipt => channel.send_with_receipt(2, "maybe").await.map(drop),
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_dropped_has_queued_its_message_once_or_not_at_all() {
    let mut outcomes = [0, 0];
    for how in [Sending::Plain, Sending::WithReceipt] {
        for polls in 1..=12 {
            for read_at in [0, 1, 3] {
                let (mut scripted, channel, peer) = full().await;
                // Places become free before, while or after the sender is polled.
                let reading = tokio::spawn(async move {
                    for _ in 0..read_at {
                        tokio::task::yield_now().await;
                    }
                    let mut maybes = 0;
                    for _ in 0..=PLACES {
                        maybes += usize::from(read_message(&mut scripted.connection).await.0 == 0x12);
                    }
                    (scripted, maybes)
                });
                let sent = poll_at_most(polls, send(&channel, how)).await;
                assert!(sent.is_none() || sent == Some(Ok(())), "R15: {sent:?}");
                let (mut scripted, mut maybes) = soon(reading).await.unwrap();
                soon(channel.send(3, "last")).await.unwrap();
                loop {
                    match read_message(&mut scripted.connection).await.0 {
                        0x13 => break,
                        id => maybes += usize::from(id == 0x12),
                    }
                }
                let expected = usize::from(sent.is_some());
                assert_eq!(maybes, expected, "R15 R64: {how:?} after {polls} polls, read at {read_at}: {sent:?}");
                assert_eq!(channel.capacity(), PLACES, "R15: no place is lost");
                assert_eq!(peer.status().unsent_messages, 0, "R63: and none is counted twice");
                outcomes[expected] += 1;
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 3), "both were tried: {outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_a_send_that_is_dropped_gets_its_turn() {
    for polls in 1..4 {
        let (mut scripted, channel, _) = full().await;
        let mut first = Box::pin(channel.send(2, "dropped"));
        assert!(poll_at_most(polls, first.as_mut()).await.is_none());
        let sender = channel.sender();
        let second = tokio::spawn(async move { sender.send(3, "second").await });
        settle().await;
        // One message leaves: the first in line is told, and goes without having looked.
        read_message(&mut scripted.connection).await;
        drop(first);
        assert_eq!(soon(second).await.unwrap(), Ok(()), "R15: the place that was told of is not lost");
        for id in [0x11, 0x11, 0x13] {
            assert_eq!(read_message(&mut scripted.connection).await.0, id, "R14 R15");
        }
        assert_eq!(channel.capacity(), PLACES, "R15: no place is lost");
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_send_after_a_send_that_was_dropped_finds_the_places() {
    let (mut scripted, channel, _) = full().await;
    for polls in 1..6 {
        assert!(poll_at_most(polls, channel.send(2, "dropped")).await.is_none());
        assert_eq!(channel.capacity(), 0, "R15");
    }
    for _ in 0..=PLACES {
        read_message(&mut scripted.connection).await;
    }
    assert_eq!(channel.capacity(), PLACES, "R15: nobody is counted as waiting any more");
    for _ in 0..PLACES {
        channel.try_send(3, "next").expect("R15: there is a place");
        assert_eq!(read_message(&mut scripted.connection).await.0, 0x13, "R15");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_is_dropped_is_answered_and_the_next_one_too() {
    let pair = pair(node().protocol(sink("aaa", 1)), node().protocol(sink("aaa", 1))).await;
    for polls in 1..8 {
        if let Some(time) = poll_at_most(polls, pair.at_first.ping()).await {
            assert_eq!(time.ok(), Some(Duration::ZERO), "R31: in virtual time");
        }
        assert!(soon(pair.at_first.ping()).await.is_ok(), "R31: after {polls} polls");
        settle().await;
    }
    assert_eq!(pair.at_first.unsolicited_pongs(), 0, "R24 R26: never two outstanding");
    assert!(pair.at_first.ending().is_none() && pair.at_second.ending().is_none(), "R31");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_end_can_be_dropped_and_begun_again() {
    let (scripted, channel, peer) = full().await;
    for polls in 1..4 {
        assert!(poll_at_most(polls, peer.closed()).await.is_none(), "it lives");
        assert!(poll_at_most(polls, channel.sender().closed()).await.is_none(), "it lives");
    }
    drop(scripted.connection);
    soon(channel.sender().closed()).await;
    let ending = soon(peer.closed()).await;
    assert_eq!(soon(peer.closed()).await.to_string(), ending.to_string(), "it is told again and again");
    assert!(poll_once(channel.sender().closed()).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_recv_that_is_dropped_when_its_message_comes_leaves_it_for_the_next() {
    let (own, mut at_first) = manual("aaa", 1, 1);
    let (other, mut at_second) = manual("aaa", 1, 1);
    let _pair = pair(node().protocol(own), node().protocol(other)).await;
    let ((_, sender), (_, mut receiver)) = (at_first.next().await, at_second.next().await);
    for number in 0..50_u8 {
        let mut waiting = Box::pin(receiver.recv());
        assert!(poll_once(waiting.as_mut()).await.is_none(), "nothing has come");
        sender.send(0, vec![number]).await.unwrap();
        settle().await;
        // It has been woken, and is dropped unpolled.
        drop(waiting);
        assert_eq!(expect_message(&mut receiver, 0).await.payload[..], [number], "R64: it is still there");
    }
}
