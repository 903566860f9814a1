//! Queues that are full: who waits, for how long, in which order, and what a peer that reads nothing can make us hold.

mod support;

use std::time::Duration;

use capmux::{Party, PeerError, Protocol, SendError};
use support::{PLUG, assert_elapsed, noise, plug, poll_at_most, read_message, scripted, settle, soon};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_queue_is_bounded_in_bytes_as_well_as_in_messages() {
    let limits = |own: Protocol| own.queue_messages(1000).max_message_size(PLUG).queue_bytes(PLUG);
    let (mut scripted, channel, peer) = scripted(limits).await;
    let sender = channel.sender();
    assert_eq!((sender.capacity(), sender.capacity_bytes()), (1000, PLUG), "R15: what was set");
    plug(&channel).await;
    for left in [PLUG - 100_000, PLUG - 200_000] {
        channel.try_send(1, noise(2, 100_000)).unwrap();
        assert_eq!(sender.capacity_bytes(), left, "R15: capacity tells");
    }
    assert_eq!(channel.try_send(1, noise(3, 62_145)), Err(SendError::Full), "R15: a byte too many");
    channel.try_send(1, noise(3, 62_144)).unwrap();
    assert_eq!((sender.capacity(), sender.capacity_bytes()), (997, 0), "R15: full of bytes, not of messages");
    channel.try_send(1, "").expect("R15: nothing takes no room");
    assert_eq!(channel.try_send(1, "x"), Err(SendError::Full), "R15");
    let queue = &peer.status().protocols[0];
    assert_eq!((queue.queue_messages, queue.queue_bytes), (4, PLUG), "R72: and the status of the peer");
    for length in [PLUG, 100_000, 100_000, 62_144, 0] {
        assert_eq!(read_message(&mut scripted.connection).await.1.len(), length, "R14");
    }
    assert_eq!((sender.capacity(), sender.capacity_bytes()), (1000, PLUG), "R15: all of it was given back");
}

#[tokio::test(start_paused = true)]
async fn how_long_send_waits_is_a_setting() {
    let limit = Duration::from_millis(250);
    let (_scripted, channel, peer) = scripted(|own| own.queue_messages(1).send_timeout(limit)).await;
    plug(&channel).await;
    channel.try_send(1, "only").unwrap();
    let since = Instant::now();
    assert_eq!(channel.try_send(1, "x"), Err(SendError::Full), "R15: at once");
    assert_elapsed(since, Duration::ZERO, "R15");
    // The second waits behind the first, and its time runs, too.
    let (first, second) = tokio::join!(channel.send(1, "x"), channel.send_with_receipt(1, "y"));
    assert_eq!(
        (first, second.err()),
        (Err(SendError::Timeout { limit }), Some(SendError::Timeout { limit })),
        "R15 R77"
    );
    assert_elapsed(since, limit, "R15 R77");
    assert!(peer.ending().is_none(), "R15: the connection lives");
}

#[tokio::test(start_paused = true)]
async fn who_waits_first_is_served_first_and_nobody_passes() {
    const WAITING: u64 = 6;
    let (mut scripted, channel, _) = scripted(|own| own.queue_messages(1)).await;
    plug(&channel).await;
    channel.try_send(1, noise(0, PLUG)).unwrap();
    let mut waiting = Vec::new();
    for number in 1..=WAITING {
        let sender = channel.sender();
        waiting.push(tokio::spawn(async move { sender.send(1, noise(number, PLUG)).await }));
        settle().await;
        assert_eq!((channel.capacity(), channel.sender().capacity_bytes()), (0, 0), "R15");
    }
    read_message(&mut scripted.connection).await;
    for number in 0..=WAITING {
        let reading = async { read_message(&mut scripted.connection).await };
        tokio::pin!(reading);
        let message = loop {
            if let Some(message) = poll_at_most(1, reading.as_mut()).await {
                break message;
            }
            if waiting.iter().any(|waiting| !waiting.is_finished()) {
                assert_eq!(channel.try_send(2, ""), Err(SendError::Full), "R15: it passes nobody who waits");
            }
            tokio::task::yield_now().await;
        };
        assert!(message == (0x11, noise(number, PLUG)), "R15: number {number}, first come, first served");
    }
    for waiting in waiting {
        assert_eq!(soon(waiting).await.unwrap(), Ok(()), "R15");
    }
    assert_eq!(channel.capacity(), 1, "R15");
}

#[tokio::test(start_paused = true)]
async fn a_small_message_does_not_pass_a_large_one_that_waits() {
    let limits = |own: Protocol| own.max_message_size(PLUG).queue_bytes(PLUG);
    let (mut scripted, channel, _) = scripted(limits).await;
    plug(&channel).await;
    channel.try_send(1, noise(1, 200_000)).unwrap();
    let (large, small) = (channel.sender(), channel.sender());
    let large = tokio::spawn(async move { large.send(2, noise(2, 200_000)).await });
    settle().await;
    let small = tokio::spawn(async move { small.send(3, "small").await });
    settle().await;
    assert!(!small.is_finished(), "R15: it would have room, but waits for its turn");
    assert_eq!(channel.try_send(3, "small"), Err(SendError::Full), "R15");
    for id in [0x10, 0x11, 0x12, 0x13] {
        assert_eq!(read_message(&mut scripted.connection).await.0, id, "R15: in the order in which they came");
    }
    assert_eq!((soon(large).await.unwrap(), soon(small).await.unwrap()), (Ok(()), Ok(())), "R15");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_learns_that_the_peer_is_gone() {
    let (scripted, channel, peer) = scripted(|own| own.queue_messages(1)).await;
    plug(&channel).await;
    channel.try_send(1, "only").unwrap();
    let mut waiting: Vec<_> = Vec::new();
    for _ in 0..4 {
        let sender = channel.sender();
        waiting.push(tokio::spawn(async move { sender.send(1, "late").await }));
    }
    settle().await;
    let since = Instant::now();
    drop(scripted.connection);
    for waiting in waiting {
        assert_eq!(soon(waiting).await.unwrap(), Err(SendError::Closed), "R15: all of them, not the first alone");
    }
    assert_elapsed(since, Duration::ZERO, "R15: at once");
    soon(peer.closed()).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_of_a_broadcast_costs_a_queue_and_is_closed() {
    const MESSAGE: usize = 1 << 20;
    let limits = |own: Protocol| own.queue_messages(16).queue_bytes(4 * MESSAGE);
    let (_stuck, to_stuck, stuck) = scripted(limits).await;
    let (mut good, to_good, good_peer) = scripted(limits).await;
    let reading = tokio::spawn(async move {
        for number in 0..1024 {
            assert!(read_message(&mut good.connection).await.1.len() == MESSAGE, "H61: message {number}");
        }
        good
    });
    let (payload, since) = (bytes::Bytes::from(vec![0; MESSAGE]), Instant::now());
    let mut lagged = 0;
    for _ in 0..1024 {
        match to_stuck.try_send(0, payload.clone()) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, SendError::Full, "H61: a typed back-pressure error");
                lagged += 1;
            }
        }
        soon(to_good.send(0, payload.clone())).await.expect("H61: the others do not notice");
        let status = stuck.status();
        assert!(status.protocols[0].queue_bytes <= 4 * MESSAGE, "H61: {status:?}");
        // Zeros compress twentyfold: a batch of 64 KiB before compression is one message.
        assert!(status.unsent_messages <= 4 + 2, "H61: what is queued, and what is being written: {status:?}");
    }
    assert!(lagged >= 1024 - 6, "H61: {lagged} copies were refused");
    assert!(good_peer.ending().is_none(), "H61");
    let _good = soon(reading).await.unwrap();
    let unsent = stuck.status().unsent_messages;
    assert!((4..=6).contains(&unsent), "H61: {unsent}");

    let waited = to_stuck.send(0, payload).await;
    assert_eq!(waited, Err(SendError::Timeout { limit: Duration::from_secs(10) }), "R15 H61");
    let ending = soon(stuck.closed()).await;
    let took = since.elapsed();
    assert!(matches!(ending.error(), PeerError::WriteStalled { .. }), "R22 H61: {ending}");
    assert!(took >= Duration::from_secs(20) && took <= Duration::from_secs(22), "R22 H61: after {took:?}");
    assert_eq!((ending.by(), ending.unsent()), (Party::Network, unsent), "H61: what was not sent is counted");
}
