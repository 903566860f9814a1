//! Peers: their handlers, signs of life, back-pressure, and what a peer may not do.

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capmux::p2p::{BaseMessage, DisconnectReason, LivenessSettings, MessageId, SessionError};
use capmux::rlpx::FrameError;
use capmux::testing::{self, expect_message, manual, node};
use capmux::{BoxError, Channel, Enode, NodeId, Party, Peer, PeerError, Protocol, ProtocolHandler, Stage};
use support::{
    added, assert_elapsed, capability, deaf, dial, dropped, echo, greet, last_words, listening, noise, read,
    read_message, settle, sink, soon, start,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

const A: &[(&str, u64)] = &[("aaa", 1)];

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Answers each message with how many have come from that peer, and from all peers.
struct Counter {
    calls: Arc<Mutex<Vec<(NodeId, tokio::task::Id)>>>,
    total: AtomicUsize,
}

impl ProtocolHandler for Counter {
    async fn run(&self, peer: Peer, mut channel: Channel) -> Result<(), BoxError> {
        self.calls.lock().expect("no panic").push((peer.id(), tokio::task::id()));
        let mut own = 0u64;
        while channel.recv().await.is_some() {
            own += 1;
            let total = 1 + self.total.fetch_add(1, Ordering::Relaxed);
            channel.send(0, vec![own as u8, total as u8]).await?;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_runs_once_per_peer_with_state_of_its_own() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let counter = |name: &str| Protocol::new(name, 1, 1, Counter { calls: calls.clone(), total: AtomicUsize::new(0) });
    let both = [counter("aaa"), counter("bbb")];
    let node = || both.iter().cloned().fold(testing::node(), |node, protocol| node.protocol(protocol));
    let (mut one, first) = greet(node(), &[("aaa", 1), ("bbb", 1)]).await;
    let (mut other, second) = greet(node(), &[("aaa", 1), ("bbb", 1)]).await;
    for (is_second, answer) in [(false, [1, 1]), (false, [2, 2]), (true, [1, 3]), (false, [3, 4])] {
        let connection = if is_second { &mut other.connection } else { &mut one.connection };
        connection.send(MessageId::new(0x10), b"").await.unwrap();
        assert_eq!(
            read_message(connection).await,
            (0x10, answer.to_vec().into()),
            "R12: one's own, and what is shared"
        );
    }
    let calls = calls.lock().unwrap();
    for peer in [&first, &second] {
        assert_eq!(calls.iter().filter(|(id, _)| *id == peer.id()).count(), 2, "R1: once for each protocol");
    }
    let tasks: std::collections::HashSet<_> = calls.iter().map(|(_, task)| task).collect();
    assert_eq!((calls.len(), tasks.len()), (4, 4), "R1: a task for each peer and protocol");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_pinged_once_and_given_up_at_its_deadline() {
    let (mut scripted, peer) = greet(node().protocol(sink("aaa", 1)), A).await;
    let since = Instant::now();
    assert_eq!(read(&mut scripted.connection).await.unwrap().0, MessageId::PING, "R24");
    assert_elapsed(since, secs(15), "R24");
    let (id, data) = read(&mut scripted.connection).await.unwrap();
    assert_eq!(id, MessageId::DISCONNECT, "R24: no second Ping while one is outstanding");
    assert_eq!(DisconnectReason::from_data(&data), Some(DisconnectReason::PingTimeout), "R25");
    assert_elapsed(since, secs(35), "R25");

    assert!(read(&mut scripted.connection).await.is_none(), "R25: nothing follows");
    drop(scripted.connection);
    let ending = soon(peer.closed()).await;
    let expected = SessionError::PingTimeout { limit: secs(20) };
    assert!(matches!(ending.error(), PeerError::Session(error) if *error == expected), "R25: {ending}");
    assert_eq!((ending.stage(), ending.by()), (Stage::Session, Party::Network), "R68: a deadline is nobody's doing");
}

#[tokio::test(start_paused = true)]
async fn data_is_a_sign_of_life_but_no_pong() {
    let (scripted, _peer) = greet(node().protocol(sink("aaa", 1)), A).await;
    let mut connection = scripted.connection;
    let since = Instant::now();
    for _ in 0..10 {
        sleep(secs(14)).await;
        connection.send(MessageId::new(0x10), b"data").await.unwrap();
    }
    assert_eq!(read(&mut connection).await.unwrap().0, MessageId::PING, "R24");
    assert_elapsed(since, secs(140 + 15), "R24: after silence, and not before");
}

#[tokio::test(start_paused = true)]
async fn who_sends_data_and_no_pong_is_given_up_all_the_same() {
    let (scripted, peer) = greet(node().protocol(sink("aaa", 1)), A).await;
    let mut connection = scripted.connection;
    let since = Instant::now();
    assert_eq!(read(&mut connection).await.unwrap().0, MessageId::PING);
    while timeout(Duration::from_millis(500), connection.recv_frame(100)).await.is_err() {
        connection.send(MessageId::new(0x10), b"data").await.unwrap();
    }
    // The timeout stands at half a second: what ended the loop was a Disconnect, sent at the deadline.
    assert_elapsed(since, secs(35), "R25 H49");
    drop(connection);
    assert_eq!(soon(peer.closed()).await.reason(), Some(DisconnectReason::PingTimeout), "R25 H49");
}

#[tokio::test(start_paused = true)]
async fn a_pong_is_awaited_and_its_time_is_kept() {
    let (scripted, peer) = greet(node().protocol(sink("aaa", 1)), A).await;
    let mut connection = scripted.connection;
    connection.send_base(BaseMessage::Pong).await.unwrap();
    settle().await;
    assert_eq!(peer.round_trip(), None, "R26: nobody asked for that Pong");
    assert_eq!(peer.unsolicited_pongs(), 1, "R26: it is counted");
    for milliseconds in [250, 40] {
        assert_eq!(read(&mut connection).await.unwrap().0, MessageId::PING);
        sleep(Duration::from_millis(milliseconds)).await;
        connection.send_base(BaseMessage::Pong).await.unwrap();
        settle().await;
        let measured = peer.round_trip().expect("R26").last;
        let expected = Duration::from_millis(milliseconds);
        assert!((expected..expected + Duration::from_millis(3)).contains(&measured), "R26: {measured:?}");
    }
    sleep(secs(12)).await;
    assert!(peer.ending().is_none(), "R25: the Pongs were in time");
}

#[tokio::test(start_paused = true)]
async fn liveness_is_a_setting() {
    let liveness = LivenessSettings::default().ping_after(secs(1)).pong_timeout(secs(2)).idle_timeout(secs(4));
    let (mut scripted, _peer) = greet(node().protocol(sink("aaa", 1)).liveness(liveness), A).await;
    let since = Instant::now();
    assert_eq!(read(&mut scripted.connection).await.unwrap().0, MessageId::PING);
    assert_elapsed(since, secs(1), "R24");
    assert_eq!(last_words(&mut scripted.connection).await, Some(DisconnectReason::PingTimeout), "R25");
    assert_elapsed(since, secs(3), "R25");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_reads_nothing_pauses_its_peer_and_then_ends_it() {
    let (scripted, peer) = greet(node().protocol(deaf("aaa", 1).inbox_messages(3)), A).await;
    let mut connection = scripted.connection;
    let since = Instant::now();
    let sent = Arc::new(AtomicUsize::new(0));
    let flood = tokio::spawn({
        let sent = sent.clone();
        async move {
            for _ in 0..40 {
                connection.send(MessageId::new(0x10), &noise(1, 8000)).await.unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
            }
            connection
        }
    });
    settle().await;
    let before = peer.traffic();
    sleep(secs(19)).await;
    assert_eq!(peer.traffic(), before, "R10 H60: nothing more is read");
    assert!(before.bytes_received <= 3 * 8100 + 64 * 1024, "R10 H60: {before:?}");
    assert!(sent.load(Ordering::Relaxed) < 20, "R10 H60: its sender is held back: {sent:?}");
    assert!(peer.ending().is_none(), "R10: it is given its time");

    let ending = soon(peer.closed()).await;
    let PeerError::HandlerStalled { capability: of, limit } = ending.error() else { panic!("R10: {ending}") };
    assert_eq!((of, *limit), (&capability("aaa", 1), secs(20)), "R10");
    assert!(since.elapsed() >= secs(20) && since.elapsed() <= secs(23), "R10: {:?}", since.elapsed());
    let mut connection = soon(flood).await.unwrap();
    assert_eq!(last_words(&mut connection).await, Some(DisconnectReason::NetworkError), "R10: and told why");
}

/// A protocol whose handler needs 19 seconds for a message.
fn slow_reader() -> Protocol {
    Protocol::from_fn("aaa", 1, 1, |_peer, mut channel| async move {
        while channel.recv().await.is_some() {
            sleep(secs(19)).await;
        }
        Ok(())
    })
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_that_gets_on_keeps_its_peer() {
    let (mut scripted, peer) = greet(node().protocol(slow_reader().inbox_messages(1)), A).await;
    for _ in 0..12 {
        scripted.connection.send(MessageId::new(0x10), b"slow").await.unwrap();
    }
    sleep(secs(19 * 10)).await;
    // The peer's time does not run while this end does not read, whether the messages came in one segment or not.
    assert!(peer.ending().is_none(), "R10: {:?}", peer.ending());
    let next = read(&mut scripted.connection).await.unwrap();
    assert_eq!(next.0, MessageId::PING, "R10 R24: it read them all, and then there was silence: {next:?}");
    assert_eq!(peer.traffic().messages_received, 12, "R10");
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_this_end_did_not_read_in_time_is_not_late() {
    // Whether the clock or the pipe is looked at first is left to chance.
    for _ in 0..10 {
        let (mut scripted, peer) = greet(node().protocol(slow_reader().inbox_messages(1)), A).await;
        assert_eq!(read(&mut scripted.connection).await.unwrap().0, MessageId::PING);
        sleep(secs(5)).await;
        for _ in 0..3 {
            scripted.connection.send(MessageId::new(0x10), b"slow").await.unwrap();
        }
        settle().await;
        scripted.connection.send_base(BaseMessage::Pong).await.unwrap();
        sleep(secs(20)).await;
        assert!(peer.round_trip().is_some(), "R10 R25: it came while nothing was read: {:?}", peer.ending());
    }
}

#[tokio::test]
async fn a_stalled_handler_stalls_no_other_peer() {
    let stall = Duration::from_millis(500);
    let server =
        start(listening().protocol(deaf("aaa", 1).inbox_messages(1)).protocol(echo()).inbox_stall_timeout(stall)).await;
    let mut events = server.events();
    let (flooding, mut floods) = manual("aaa", 1, 1);
    let (talking, mut talks) = manual("echo", 1, 2);
    let hostile = start(testing::node().protocol(flooding)).await;
    let honest = start(testing::node().protocol(talking)).await;
    let (at_hostile, at_honest) = (dial(&hostile, &server).await, dial(&honest, &server).await);
    let (flood, mut talk) = (floods.next().await.1, talks.next().await.1);
    let flood = tokio::spawn(async move { while flood.send(0, noise(2, 5000)).await.is_ok() {} });

    let mut ids = [added(&mut events).await.id(), added(&mut events).await.id()];
    ids.sort();
    let mut answers = 0;
    let (id, ending) = loop {
        talk.send(0, "ping").await.unwrap();
        assert_eq!(expect_message(&mut talk, 1).await.payload, "ping", "R10: the other peer does not notice");
        answers += 1;
        if let Ok(last) = timeout(Duration::from_millis(1), dropped(&mut events)).await {
            break last;
        }
    };
    assert!(matches!(ending.error(), PeerError::HandlerStalled { limit, .. } if *limit == stall), "R10: {ending}");
    assert_eq!(id, hostile.id(), "R10: that peer alone");
    assert!(answers > 1, "R10");
    assert!(at_honest.ending().is_none() && ids.contains(&honest.id()), "R10");
    assert_eq!(soon(at_hostile.closed()).await.reason(), Some(DisconnectReason::NetworkError), "R62");
    soon(flood).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_byte_is_given_up() {
    let (own, mut opened) = manual("aaa", 1, 1);
    let (mut scripted, peer) = greet(node().protocol(own), A).await;
    let (_, channel) = opened.next().await;
    channel.send(0, noise(3, 200_000)).await.unwrap();
    settle().await;
    // Half of it is read later: that is progress, and the time begins anew.
    sleep(secs(12)).await;
    assert!(timeout(secs(1), scripted.connection.recv_frame(1 << 20)).await.is_ok());
    channel.send(0, noise(4, 200_000)).await.unwrap();
    settle().await;
    let since = Instant::now();
    let ending = soon(peer.closed()).await;
    assert!(matches!(ending.error(), PeerError::WriteStalled { limit } if *limit == secs(20)), "R22: {ending}");
    assert_elapsed(since, secs(20), "R22 H61: from the last progress on");
    assert_eq!(ending.by(), Party::Network, "R68");
    assert_eq!(ending.reason(), Some(DisconnectReason::NetworkError), "R22");
    assert_eq!(channel.try_send(0, ""), Err(capmux::SendError::Closed), "H61: a typed error");
}

#[tokio::test(start_paused = true)]
async fn an_id_past_the_last_range_is_a_breach() {
    for id in [0x13, 0x14, u64::MAX] {
        let (mut scripted, peer) =
            greet(node().protocol(sink("aaa", 2)).protocol(sink("bbb", 1)), &[("aaa", 1), ("bbb", 1)]).await;
        scripted.connection.send(MessageId::new(0x12), b"the last").await.unwrap();
        scripted.connection.send(MessageId::new(id), b"one more").await.unwrap();
        assert_eq!(last_words(&mut scripted.connection).await, Some(DisconnectReason::ProtocolError), "R5 H56");
        drop(scripted.connection);
        let ending = soon(peer.closed()).await;
        let expected = SessionError::UnknownMessageId { id };
        assert!(matches!(ending.error(), PeerError::Session(error) if *error == expected), "R5 H56: {ending}");
        assert!(ending.to_string().contains(&format!("{id:#x}")), "R5: {ending}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_drops_its_receiver_misses_messages_at_no_cost() {
    let (own, mut opened) = manual("aaa", 1, 1);
    let (mut scripted, peer) = greet(node().protocol(own.inbox_messages(1)), A).await;
    let (sender, receiver) = opened.next().await.1.split();
    drop(receiver);
    for _ in 0..100 {
        scripted.connection.send(MessageId::new(0x10), &noise(5, 3000)).await.unwrap();
    }
    settle().await;
    assert_eq!(peer.traffic().messages_received, 100, "R11: reading goes on");
    sender.send(0, "still here").await.unwrap();
    assert_eq!(read_message(&mut scripted.connection).await.1, "still here", "R11");
}

/// What somebody on the way does to the next bytes from the end that dialled.
type Tamper = Arc<Mutex<Option<fn(&mut Vec<u8>, usize)>>>;

/// Passes one connection on to `target`.
async fn man_in_the_middle(target: SocketAddr, place: usize, tamper: Tamper) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let (mut dialler, _) = listener.accept().await.expect("a connection");
        let (mut from_dialler, mut to_dialler) = dialler.split();
        let mut onward = TcpStream::connect(target).await.expect("a connection");
        let (mut from_target, mut to_target) = onward.split();
        let there = async {
            let mut bytes = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = from_dialler.read(&mut bytes).await {
                let mut chunk = bytes[..read].to_vec();
                if let Some(tamper) = tamper.lock().expect("no panic").take() {
                    tamper(&mut chunk, place);
                }
                to_target.write_all(&chunk).await.expect("written");
            }
        };
        tokio::select! {
            () = there => {}
            _ = tokio::io::copy(&mut from_target, &mut to_dialler) => {}
        }
    });
    address
}

#[tokio::test]
async fn a_byte_that_is_changed_or_replayed_on_the_way_ends_the_connection() {
    let flip: fn(&mut Vec<u8>, usize) = |bytes, place| bytes[place] ^= 1;
    let replay: fn(&mut Vec<u8>, usize) = |bytes, frame| bytes.extend_from_within(..frame);
    for (change, place, error, passes) in [
        (flip, 0, FrameError::HeaderMac, 0),
        (flip, 16, FrameError::HeaderMac, 0),
        (flip, 32, FrameError::BodyMac, 0),
        (flip, 63, FrameError::BodyMac, 0),
        (replay, 64, FrameError::HeaderMac, 1),
    ] {
        let (own, mut opened) = manual("aaa", 1, 1);
        let (other, mut received) = manual("aaa", 1, 1);
        let server = start(listening().protocol(other)).await;
        let client = start(testing::node().protocol(own)).await;
        let tamper = Tamper::default();
        let middle = man_in_the_middle(server.local_addr().unwrap(), place, tamper.clone()).await;
        let through = Enode::new(support::enode(&server).public_key, middle);
        let at_client = soon(client.dial(&through)).await.unwrap();
        let ((_, sender), (at_server, mut receiver)) = (opened.next().await, received.next().await);
        *tamper.lock().unwrap() = Some(change);
        sender.send(0, "secret").await.unwrap();

        let ending = soon(at_server.closed()).await;
        assert!(matches!(ending.error(), PeerError::Frame(got) if *got == error), "R33 H21 H22 H27 {place}: {ending}");
        assert_eq!(ending.reason(), None, "R33: nobody knows who would read it");
        for _ in 0..passes {
            assert_eq!(receiver.recv().await.unwrap().payload, "secret");
        }
        assert!(receiver.recv().await.is_none(), "R33 H22: no handler sees it");
        assert_eq!(soon(at_client.closed()).await.reason(), None, "R33");
    }
}
