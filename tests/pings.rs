//! Pings: those that the application asks for, those that have to queue, and what a peer may do with them.

mod support;

use std::time::Duration;

use capmux::p2p::{BaseMessage, DisconnectReason, LivenessSettings, MessageId, RateLimit, SessionError};
use capmux::testing::{self, Scripted, manual, node};
use capmux::{Channel, Peer, PeerError, Protocol, ServerBuilder};
use support::{
    assert_elapsed, dial, echo, greet, last_words, listening, noise, poll_once, read, settle, sink, soon, start,
};
use tokio::time::{Instant, sleep, timeout};

const A: &[(&str, u64)] = &[("aaa", 1)];
const FIRST: MessageId = MessageId::new(0x10);

/// More than the pipe between two peers in memory holds, and than the writer takes at a time.
const PLUG: usize = 256 * 1024;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn sinking() -> (Scripted, Peer) {
    greet(node().protocol(sink("aaa", 1)), A).await
}

/// A node whose writer is busy until the script reads.
async fn plugged(settings: ServerBuilder, protocol: fn(Protocol) -> Protocol) -> (Scripted, Channel, Peer) {
    let (own, mut opened) = manual("aaa", 1, 1);
    let (scripted, peer) = greet(settings.protocol(protocol(own)), A).await;
    let (_, channel) = opened.next().await;
    channel.try_send(0, noise(1, PLUG)).expect("there is a place");
    settle().await;
    (scripted, channel, peer)
}

async fn expect_ping(scripted: &mut Scripted, row: &str) {
    assert_eq!(read(&mut scripted.connection).await.expect("a message").0, MessageId::PING, "{row}");
}

#[tokio::test(start_paused = true)]
async fn the_application_gets_the_time_of_its_ping() {
    let (mut scripted, peer) = sinking().await;
    let asked = tokio::spawn({
        let peer = peer.clone();
        async move { peer.ping().await }
    });
    let since = Instant::now();
    expect_ping(&mut scripted, "R31").await;
    assert_elapsed(since, Duration::ZERO, "R31: at once");
    sleep(Duration::from_millis(70)).await;
    scripted.connection.send_base(BaseMessage::Pong).await.unwrap();
    let time = soon(asked).await.unwrap().expect("R31");
    assert!((70..=73).contains(&time.as_millis()), "R31: {time:?}");
    assert_eq!(peer.round_trip().map(|times| (times.last, times.samples)), Some((time, 1)), "R26 R31");
}

#[tokio::test(start_paused = true)]
async fn pings_join_the_one_that_is_outstanding() {
    let (mut scripted, peer) = sinking().await;
    // The first is of its own, after silence.
    expect_ping(&mut scripted, "R24").await;
    let asked: Vec<_> = (0..3)
        .map(|_| {
            let peer = peer.clone();
            tokio::spawn(async move { peer.ping().await })
        })
        .collect();
    settle().await;
    let second = timeout(secs(10), scripted.connection.recv_frame(100)).await;
    assert!(second.is_err(), "R24 R31: never two outstanding");
    scripted.connection.send_base(BaseMessage::Pong).await.unwrap();
    for asked in asked {
        let time = soon(asked).await.unwrap().expect("R31: one Pong answers all");
        assert_eq!(time.as_secs(), 10, "R31");
    }
    assert_eq!((peer.round_trip().unwrap().samples, peer.unsolicited_pongs()), (1, 0), "R26 R31");
}

#[tokio::test(start_paused = true)]
async fn a_ping_to_a_peer_that_ends_tells_how() {
    let (scripted, peer) = sinking().await;
    let since = Instant::now();
    let ending = soon(peer.ping()).await.expect_err("R31: no Pong comes");
    assert!(matches!(ending.error(), PeerError::Session(SessionError::PingTimeout { .. })), "R31 R25: {ending}");
    assert!(since.elapsed() <= secs(20 + 2), "R31: with the grace time: {:?}", since.elapsed());
    drop(scripted.connection);
    assert!(soon(peer.ping()).await.is_err(), "R31: nor to one that has ended");

    let (scripted, peer) = sinking().await;
    assert!(poll_once(peer.ping()).await.is_none());
    peer.disconnect(DisconnectReason::Requested);
    drop(scripted.connection);
    let ending = soon(peer.ping()).await.expect_err("R31");
    assert!(matches!(ending.error(), PeerError::Requested(_)), "R31: {ending}");
}

#[tokio::test]
async fn all_peers_are_pinged_at_once() {
    let server = start(listening().protocol(echo())).await;
    assert!(server.ping_all().await.is_empty(), "R31: there is none");
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = start(testing::node().protocol(echo())).await;
        dial(&client, &server).await;
        clients.push(client);
    }
    support::soon(async {
        while server.peers().len() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let times = soon(server.ping_all()).await;
    let mut pinged: Vec<_> = times.iter().map(|(peer, _)| peer.id()).collect();
    let mut expected: Vec<_> = clients.iter().map(capmux::Server::id).collect();
    pinged.sort();
    expected.sort();
    assert_eq!(pinged, expected, "R31: each once");
    assert!(times.iter().all(|(_, time)| time.as_ref().is_ok_and(|time| *time < secs(5))), "R31: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn the_round_trip_time_is_smoothed() {
    let (mut scripted, peer) = sinking().await;
    let mut smoothed = None;
    for (milliseconds, expected) in [(80, 80), (160, 90), (10, 80)] {
        let (asked, ()) = tokio::join!(peer.ping(), async {
            expect_ping(&mut scripted, "R26").await;
            sleep(Duration::from_millis(milliseconds)).await;
            scripted.connection.send_base(BaseMessage::Pong).await.unwrap();
        });
        assert!(asked.is_ok());
        let times = peer.round_trip().expect("R26");
        assert!(times.smoothed.as_millis().abs_diff(expected) <= 3, "R26: {times:?}");
        smoothed = Some(times);
    }
    assert!(smoothed.is_some_and(|times| times.min.as_millis() <= 13 && times.samples == 3), "R26: {smoothed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pong_has_its_time_from_when_its_ping_was_written() {
    let (mut scripted, _channel, peer) = plugged(node(), |own| own).await;
    assert!(poll_once(peer.ping()).await.is_none());
    settle().await;
    sleep(secs(19)).await;
    assert_eq!(read(&mut scripted.connection).await.unwrap().0, FIRST, "what was being written");
    expect_ping(&mut scripted, "R31").await;
    let since = Instant::now();
    let words = last_words(&mut scripted.connection).await;
    assert_eq!(words, Some(DisconnectReason::PingTimeout), "R25 R31");
    assert_elapsed(since, secs(20), "R25 R31: it could not be answered before");
}

#[tokio::test(start_paused = true)]
async fn a_pong_to_a_ping_that_left_while_nothing_was_read_is_not_late() {
    let (mut scripted, mut channel, peer) = plugged(node(), |own| own.inbox_messages(4)).await;
    assert!(poll_once(peer.ping()).await.is_none());
    settle().await;
    for _ in 0..5 {
        scripted.connection.send(FIRST, b"data").await.unwrap();
    }
    settle().await;
    assert_eq!(read(&mut scripted.connection).await.unwrap().0, FIRST, "what was being written");
    expect_ping(&mut scripted, "R31").await;
    scripted.connection.send_base(BaseMessage::Pong).await.unwrap();
    // Twice no more than a handler may take, and more than a Pong may.
    for pause in [15, 15] {
        sleep(secs(pause)).await;
        channel.recv().await.unwrap();
    }
    // With the grace time, if it ends.
    sleep(secs(5)).await;
    assert!(peer.ending().is_none(), "R10 R25: it came in time: {:?}", peer.ending());
    assert!(peer.round_trip().is_some(), "R10 R26");
}

#[tokio::test(start_paused = true)]
async fn who_sends_no_byte_for_a_minute_is_gone() {
    let settings = node().write_stall_timeout(secs(600));
    let (_scripted, channel, peer) = plugged(settings, |own| own).await;
    let since = Instant::now();
    soon(channel.sender().closed()).await;
    // The Ping could not be written, so that no Pong is late.
    assert_elapsed(since, secs(60), "R30");
    let ending = soon(peer.closed()).await;
    let expected = SessionError::IdleTimeout { limit: secs(60) };
    assert!(matches!(ending.error(), PeerError::Session(error) if *error == expected), "R30: {ending}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_base_messages_gets_few_answers_and_ends_the_peer() {
    for id in [0x02, 0x03, 0x04, 0x0f] {
        let (mut scripted, peer) = sinking().await;
        let mut answers = 0;
        let mut reason = None;
        for _ in 0..20_000 {
            if scripted.connection.send(MessageId::new(id), b"\xc0").await.is_err() {
                break;
            }
            while let Some(received) = poll_once(scripted.connection.recv_frame(100)).await {
                let Ok(mut content) = received else { break };
                match MessageId::take(&mut content) {
                    Some(MessageId::DISCONNECT) => reason = DisconnectReason::from_data(&content),
                    other => answers += usize::from(other == Some(MessageId::PONG)),
                }
            }
        }
        drop(scripted.connection);
        let ending = soon(peer.closed()).await;
        let expected = SessionError::BaseMessageFlood;
        assert!(matches!(ending.error(), PeerError::Session(error) if *error == expected), "H47 H48 H51: {ending}");
        assert_eq!(reason, Some(DisconnectReason::ProtocolError), "R27 H47 H48 H51: {id:#x}");
        assert!(answers <= 64, "R27 H47: {answers} Pongs");
        assert_eq!(answers > 0, id == 0x02, "H51: others are not answered");
        assert!(peer.unsolicited_pongs() <= 64, "H48");
    }
}

#[tokio::test(start_paused = true)]
async fn base_messages_without_a_meaning_are_ignored() {
    let (mut scripted, peer) = sinking().await;
    for id in 0x04..=0x0f {
        scripted.connection.send(MessageId::new(id), &noise(id, 2000)).await.unwrap();
    }
    scripted.connection.send_base(BaseMessage::Ping).await.unwrap();
    assert_eq!(read(&mut scripted.connection).await.unwrap().0, MessageId::PONG, "H51 R4: it goes on");
    assert!(peer.ending().is_none(), "H51 R4");
}

#[tokio::test(start_paused = true)]
async fn a_ping_or_pong_with_a_large_body_is_a_breach() {
    for id in [MessageId::PING, MessageId::PONG] {
        let (mut scripted, peer) = sinking().await;
        scripted.connection.send(id, &noise(1, 3000)).await.unwrap();
        assert_eq!(last_words(&mut scripted.connection).await, Some(DisconnectReason::ProtocolError), "H48");
        drop(scripted.connection);
        let ending = soon(peer.closed()).await;
        let PeerError::Session(SessionError::BaseMessageTooLarge { .. }) = ending.error() else {
            panic!("H48: {ending}")
        };
    }
}

fn limited(per_second: u32, burst: u32) -> ServerBuilder {
    let (own, mut opened) = manual("aaa", 1, 1);
    // It keeps the channel, and reads all that comes.
    tokio::spawn(async move {
        let (_, mut channel) = opened.next().await;
        while channel.recv().await.is_some() {}
    });
    node().protocol(own.rate_limit(RateLimit::new(per_second, burst).expect("neither is 0")))
}

#[tokio::test(start_paused = true)]
async fn a_peer_over_its_rate_is_slowed_to_it_and_then_ended() {
    let (mut scripted, peer) = greet(limited(10, 5), A).await;
    let since = Instant::now();
    for _ in 0..900 {
        scripted.connection.send(FIRST, b"too fast").await.unwrap();
    }
    assert_eq!(last_words(&mut scripted.connection).await, Some(DisconnectReason::ProtocolError), "R28");
    assert!((30..=31).contains(&since.elapsed().as_secs()), "R28: slowed for 30 s: {:?}", since.elapsed());
    drop(scripted.connection);
    let ending = soon(peer.closed()).await;
    let PeerError::Session(SessionError::RateExceeded { capability, .. }) = ending.error() else {
        panic!("R28: {ending}")
    };
    assert_eq!(capability.name(), "aaa", "R28");
}

#[tokio::test(start_paused = true)]
async fn a_pong_behind_messages_over_the_rate_is_not_late() {
    let liveness = LivenessSettings::default().ping_after(secs(1)).pong_timeout(secs(2)).idle_timeout(secs(4));
    let (mut scripted, peer) = greet(limited(1, 1).liveness(liveness), A).await;
    expect_ping(&mut scripted, "R24").await;
    for _ in 0..10 {
        scripted.connection.send(FIRST, b"too fast").await.unwrap();
    }
    settle().await;
    scripted.connection.send_base(BaseMessage::Pong).await.unwrap();
    sleep(secs(9)).await;
    settle().await;
    assert!(peer.ending().is_none(), "R28 R25: this end did not read: {:?}", peer.ending());
    assert_eq!(peer.round_trip().map(|times| times.samples), Some(1), "R28 R26");
}

#[tokio::test(start_paused = true)]
async fn of_two_silent_ends_one_pings() {
    let pair = testing::pair(node().protocol(sink("aaa", 1)), node().protocol(sink("aaa", 1))).await;
    sleep(secs(151)).await;
    let samples = pair.at_first.round_trip().map(|times| times.samples);
    assert_eq!(samples, Some(10), "R24: the end that dialled, each 14.5 s");
    assert_eq!(pair.at_second.round_trip(), None, "R24: the other has had its sign of life");
}
