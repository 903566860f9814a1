//! How peers and servers end: what each end is told, in which order, how fast, and what is left.

mod support;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use capmux::p2p::{DisconnectReason, MessageId, SessionError};
use capmux::testing::{manual, node, pair};
use capmux::{Ending, NodeKey, Party, PeerError, Protocol, SendError, Stage};
use support::raw::{Raw, connect, read_to_end};
use support::{
    added, assert_elapsed, dial, dropped, enode, greet, hello, last_words, listening, noise, poll_once, read,
    read_message, settle, sink, soon, start,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::Instant;

const A: &[(&str, u64)] = &[("aaa", 1)];

/// Counts down when it is dropped.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A handler that counts itself while it runs, and takes its time to leave.
fn counted(name: &str, count: &Arc<AtomicUsize>) -> Protocol {
    let count = count.clone();
    Protocol::from_fn(name, 1, 1, move |_peer, mut channel| {
        let running = Running::new(&count);
        async move {
            while channel.recv().await.is_some() {}
            settle().await;
            drop(running);
            Ok(())
        }
    })
}

/// A handler that stays for good.
fn stubborn(name: &str, count: &Arc<AtomicUsize>) -> Protocol {
    let count = count.clone();
    Protocol::from_fn(name, 1, 1, move |_peer, _channel| {
        let running = Running::new(&count);
        async move {
            std::future::pending::<()>().await;
            drop(running);
            Ok(())
        }
    })
}

/// An error whose cause is a reason.
#[derive(Debug)]
struct Because(DisconnectReason);

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("for a reason")
    }
}

impl std::error::Error for Because {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// How many messages a handler sends before it ends.
const LAST_WORDS: usize = 64;

/// What a handler makes of the first message it gets.
async fn outcome(payload: &[u8]) -> Result<(), capmux::BoxError> {
    match payload {
        b"return" => Ok(()),
        b"fail" => Err("it failed".into()),
        b"panic" => panic!("it panicked"),
        b"reason" => Err(DisconnectReason::UselessPeer.into()),
        b"wrapped" => Err(Box::new(Because(DisconnectReason::Unknown(0x99)))),
        other => Ok(rlp::decode::<u64>(other).map(drop)?),
    }
}

/// Has the handler end in this way: how the peer ends, and what the other end is told.
async fn handler_ending(payload: &[u8]) -> (Ending, Option<DisconnectReason>) {
    let first = Protocol::from_fn("aaa", 1, 1, |_peer, mut channel| async move {
        let message = channel.recv().await.expect("a message");
        for _ in 0..LAST_WORDS {
            channel.try_send(0, noise(1, 4000))?;
        }
        outcome(&message.payload).await
    });
    let siblings = Arc::default();
    let protocols = node().protocol(first).protocol(counted("bbb", &siblings));
    let (mut scripted, peer) = greet(protocols, &[("aaa", 1), ("bbb", 1)]).await;
    settle().await;
    assert_eq!(siblings.load(Ordering::SeqCst), 1);
    scripted.connection.send(MessageId::new(0x10), payload).await.expect("sent");
    settle().await;
    // More than the pipe holds and the writer takes at a time: most of it is still queued when the handler ends.
    for _ in 0..if payload == b"panic" { 0 } else { LAST_WORDS } {
        assert_eq!(read_message(&mut scripted.connection).await.1.len(), 4000, "R7: what it had sent comes first");
    }
    let said = last_words(&mut scripted.connection).await;
    drop(scripted.connection);
    let ending = soon(peer.closed()).await;
    assert_eq!(siblings.load(Ordering::SeqCst), 0, "H59: no sibling is left running");
    assert_eq!((ending.stage(), ending.by(), ending.reason()), (Stage::Session, Party::Local, said), "R7");
    (ending, said)
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_ends_ends_its_peer_with_its_reason() {
    let (ending, said) = handler_ending(b"return").await;
    assert!(matches!(ending.error(), PeerError::HandlerFinished { .. }), "R7 H59: {ending}");
    assert_eq!(said, Some(DisconnectReason::ClientQuitting), "R7 H59");
    for (how, reason) in [
        (&b"fail"[..], DisconnectReason::SubprotocolError),
        (b"\xff\xff", DisconnectReason::SubprotocolError), // H57
        (b"reason", DisconnectReason::UselessPeer),
        (b"wrapped", DisconnectReason::Unknown(0x99)),
    ] {
        let (ending, said) = handler_ending(how).await;
        assert!(matches!(ending.error(), PeerError::HandlerFailed { capability: of, .. } if of.name() == "aaa"), "R7");
        assert_eq!(said, Some(reason), "R7 H57: {ending}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_ends_its_peer_alone() {
    let (ending, said) = handler_ending(b"panic").await;
    let PeerError::HandlerPanicked { message, .. } = ending.error() else { panic!("R7 H58: {ending}") };
    assert_eq!((message.as_str(), said), ("it panicked", Some(DisconnectReason::SubprotocolError)), "R7 H58");
    assert_eq!(ending.to_string(), "the handler of aaa/1 panicked: it panicked", "R68");
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_is_understood_in_every_form() {
    use DisconnectReason::{PingTimeout, Requested, Unknown};
    for (data, reason) in [
        (&b"\xc1\x0b"[..], Some(PingTimeout)),
        (b"\x0b", Some(PingTimeout)),
        (b"\xc1\x80", Some(Requested)),
        (b"\x00", Some(Requested)),
        (b"\xc3\x82\x01\x2c", Some(Unknown(300))),
        (b"\xc0", None),
        (b"", None),
        (&[0xff; 3000], None),
    ] {
        // Compressed, nothing is 0x00: no longer to be told from that reason.
        for compressed in [false, true].into_iter().take(if data.is_empty() { 1 } else { 2 }) {
            let key = NodeKey::random();
            let mut scripted = capmux::testing::script(node().protocol(sink("aaa", 1)), &key).await;
            scripted.connection.send_hello(&hello(&key, A)).await.unwrap();
            if compressed {
                scripted.connection.recv_hello(&key.public_key()).await.unwrap();
            } else {
                assert_eq!(read(&mut scripted.connection).await.unwrap().0, MessageId::HELLO);
            }
            let peer = soon(scripted.peer()).await.unwrap();
            scripted.connection.send(MessageId::DISCONNECT, data).await.unwrap();
            let ending = soon(peer.closed()).await;
            let PeerError::Session(SessionError::Disconnected(got)) = ending.error() else { panic!("R38: {ending}") };
            assert_eq!((*got, ending.reason()), (reason, reason), "R38 H50 {data:02x?} {compressed}");
            assert_eq!((ending.by(), ending.to_string().lines().count()), (Party::Remote, 1), "H50");
            assert_eq!(last_words(&mut scripted.connection).await, None, "R38: it is not answered");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_ignores_a_disconnect_is_closed_after_two_seconds() {
    let (mut scripted, peer) = greet(node().protocol(sink("aaa", 1)), A).await;
    peer.disconnect(DisconnectReason::TooManyPeers);
    peer.disconnect(DisconnectReason::Requested);
    let since = Instant::now();
    assert_eq!(
        last_words(&mut scripted.connection).await,
        Some(DisconnectReason::TooManyPeers),
        "R62: the first counts"
    );
    assert_elapsed(since, Duration::ZERO, "R62: at once");
    let ending = soon(peer.closed()).await;
    assert_elapsed(since, Duration::from_secs(2), "R62 H52");
    assert!(matches!(ending.error(), PeerError::Requested(DisconnectReason::TooManyPeers)), "R62: {ending}");
    assert!(scripted.connection.send(MessageId::PING, b"").await.is_err(), "H52: it is closed in both directions");

    let (mut scripted, peer) = greet(node().protocol(sink("aaa", 1)), A).await;
    let since = Instant::now();
    peer.disconnect(DisconnectReason::Requested);
    last_words(&mut scripted.connection).await;
    drop(scripted.connection);
    soon(peer.closed()).await;
    assert_elapsed(since, Duration::ZERO, "R62: who closes is not waited for");
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_that_cannot_be_written_is_given_up_after_one_second() {
    let (own, mut opened) = manual("aaa", 1, 1);
    let (_scripted, peer) = greet(node().protocol(own), A).await;
    let (_, channel) = opened.next().await;
    channel.send(0, noise(1, 256 * 1024)).await.unwrap();
    settle().await;
    let since = Instant::now();
    peer.disconnect(DisconnectReason::Requested);
    soon(peer.closed()).await;
    assert_elapsed(since, Duration::from_secs(1), "R62");
    assert_eq!(channel.try_send(0, ""), Err(SendError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_leave_is_cancelled_after_two_seconds() {
    let handlers = Arc::default();
    let (scripted, peer) = greet(node().protocol(stubborn("aaa", &handlers)), A).await;
    settle().await;
    assert_eq!(handlers.load(Ordering::SeqCst), 1);
    let since = Instant::now();
    drop(scripted.connection);
    let ending = soon(peer.closed()).await;
    assert_elapsed(since, Duration::from_secs(2), "R8");
    assert_eq!(handlers.load(Ordering::SeqCst), 0, "R8: its future is dropped before the peer is closed");
    assert!(matches!(ending.error(), PeerError::Closed { inside_message: false }), "R65: {ending}");
}

#[tokio::test]
async fn a_hundred_connections_leave_nothing_behind() {
    let (at_server, at_client) = (Arc::default(), Arc::default());
    let server = start(listening().protocol(counted("aaa", &at_server))).await;
    let client = start(node().protocol(counted("aaa", &at_client))).await;
    let mut events = [(server.events(), &server, &at_server), (client.events(), &client, &at_client)];
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for round in 0..100 {
        let peer = dial(&client, &server).await;
        let mut peers = Vec::new();
        for (events, ..) in &mut events {
            peers.push(added(events).await);
        }
        assert!(tasks() > before + 4, "R8: there are tasks to be counted");
        // Now one end hangs up, now the other.
        if round % 2 == 0 { peer } else { peers[0].clone() }.disconnect(DisconnectReason::Requested);
        for ((events, server, running), peer) in events.iter_mut().zip(peers) {
            // R66: `Dropped` comes last, and once: the next event is the next `Added`.
            let (id, _) = dropped(events).await;
            assert_eq!(running.load(Ordering::SeqCst), 0, "R8 R66: the handlers have ended by then");
            assert!(id == peer.id() && server.peers().is_empty(), "R66: and the peer is removed");
            assert!(peer.ending().is_some(), "R66");
        }
    }
    settle().await;
    assert_eq!(tasks(), before, "R8: no task is left");
    for (events, ..) in &mut events {
        assert!(poll_once(events.recv()).await.is_none(), "R66: and no event");
    }
}

async fn bind_again(server: std::net::SocketAddr) {
    soon(async {
        while TcpListener::bind(server).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_delivers_what_was_sent_and_says_goodbye() {
    let (own, mut opened) = manual("aaa", 1, 1);
    let (other, mut received) = manual("aaa", 1, 1);
    let server = start(listening().protocol(own.queue_messages(500).queue_bytes(64 << 20))).await;
    let client = start(node().protocol(other)).await;
    let at_client = dial(&client, &server).await;
    let ((at_server, sender), (_, mut receiver)) = (opened.next().await, received.next().await);
    // Each is a write of its own, and there are more than tokio lets a task make in one go: when the shutdown begins,
    // most are still queued.
    let zeros = Bytes::from(vec![0; 200_000]);
    for number in 0..200 {
        sender.try_send(0, zeros.slice(..128 * 1024 + number)).unwrap();
    }
    let reading = tokio::spawn(async move {
        let mut numbers = 0..;
        while let Some(message) = receiver.recv().await {
            assert_eq!(Some(message.payload.len()), numbers.next().map(|number| 128 * 1024 + number), "R63");
        }
        numbers.start
    });
    let address = server.local_addr().unwrap();
    soon(server.shutdown()).await;
    assert_eq!(soon(reading).await.unwrap(), 200, "R63: everything that was accepted");
    let ending = soon(at_client.closed()).await;
    assert_eq!((ending.by(), ending.reason()), (Party::Remote, Some(DisconnectReason::ClientQuitting)), "R63 H71");
    let ending = at_server.ending().expect("R63: everything has ended");
    assert!(matches!(ending.error(), PeerError::ShuttingDown), "R63: {ending}");
    assert_eq!(sender.try_send(0, ""), Err(SendError::Closed), "R63");

    soon(server.shutdown()).await;
    assert!(server.peers().is_empty(), "R63");
    bind_again(address).await;
    let dialled = server.dial(&enode(&server)).await.unwrap_err();
    assert!(matches!(dialled.error(), PeerError::ShuttingDown), "R63: {dialled}");
    let other = capmux::Enode::new(NodeKey::random().public_key(), address);
    assert_eq!(server.add_peer(&other), Err(capmux::NotAdded::ShuttingDown), "R63");
}

#[tokio::test]
async fn a_shutdown_under_load_takes_three_seconds_at_most() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let handlers = Arc::default();
    let (own, mut opened) = manual("aaa", 1, 1);
    let protocols = listening().protocol(own).protocol(stubborn("bbb", &handlers));
    let server = start(protocols.encryption_timeout(Duration::from_secs(600))).await;
    let key = NodeKey::random();
    let mut stuck = Raw::handshake(&server, &key).await;
    let hello = stuck.hello(&hello(&key, &[("aaa", 1), ("bbb", 1)]));
    stuck.stream.write_all(&hello).await.unwrap();
    let (_, channel) = soon(opened.next()).await;
    let data = noise(1, 512 * 1024);
    while channel.try_send(0, data.clone()) != Err(SendError::Full) {
        settle().await;
    }
    let mut pending = Vec::new();
    for _ in 0..50 {
        pending.push(connect(&server).await);
    }
    assert_eq!(read_to_end(&mut connect(&server).await).await, 0, "all places are taken, so all were accepted");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = capmux::Enode::new(NodeKey::random().public_key(), silent.local_addr().unwrap());
    server.add_peer(&dialled).unwrap();
    let (_stream, _) = soon(silent.accept()).await.unwrap();

    tokio::time::pause();
    let since = Instant::now();
    server.shutdown().await;
    assert!(since.elapsed() <= Duration::from_millis(3005), "R63 H71: {:?}", since.elapsed());
    assert_eq!(handlers.load(Ordering::SeqCst), 0, "H71: the handler is gone");
    drop((channel, server));
    settle().await;
    assert_eq!(tasks(), before, "H71: no task is left");
    tokio::time::resume();
    for mut stream in pending {
        assert_eq!(read_to_end(&mut stream).await, 0, "H71: no descriptor is left");
    }
}

#[tokio::test]
async fn a_server_that_is_dropped_leaves_nothing_behind() {
    let handlers = Arc::default();
    let server = start(listening().protocol(stubborn("aaa", &handlers))).await;
    let client = start(node().protocol(sink("aaa", 1))).await;
    let mut events = server.events();
    let at_client = dial(&client, &server).await;
    let at_server = added(&mut events).await;
    let address = server.local_addr().unwrap();
    let since = Instant::now();
    drop(server);
    let ending = soon(at_client.closed()).await;
    assert!(
        matches!(ending.error(), PeerError::Closed { .. } | PeerError::Io(_)),
        "it aborts, without a word: {ending}"
    );
    assert!(since.elapsed() < Duration::from_secs(2), "at once: no grace time has passed");
    let (id, ending) = dropped(&mut events).await;
    assert!(id == client.id() && matches!(ending.error(), PeerError::ShuttingDown), "R66: {ending}");
    assert!(at_server.ending().is_some(), "R66");
    assert!(soon(events.recv()).await.is_none(), "R66: that was the last event");
    settle().await;
    assert_eq!(handlers.load(Ordering::SeqCst), 0, "R8");
    bind_again(address).await;
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_is_dropped_ends_the_peers() {
    let (own, mut opened) = manual("aaa", 1, 1);
    let pair = pair(node().protocol(own), node().protocol(sink("aaa", 1))).await;
    let peers = [pair.at_first.clone(), pair.at_second.clone()];
    let sender = opened.next().await.1.sender();
    assert!(peers.iter().all(|peer| peer.ending().is_none()));
    drop(pair);
    for peer in peers {
        assert_eq!(soon(peer.closed()).await.stage(), Stage::Session, "R74: who waits for it is not left waiting");
    }
    assert_eq!(sender.try_send(0, ""), Err(SendError::Closed), "R74");
}
