//! From a TCP connection to a peer: deadlines, Hellos that will not do, ends at every stage, and secrets.

mod support;

use std::time::Duration;

use capmux::p2p::{DisconnectReason, HelloError, MAX_BASE_MESSAGE_SIZE, MessageId, SessionError};
use capmux::rlpx::{FrameError, HandshakeRandom, Initiator, Recipient, Step};
use capmux::testing::{self, Scripted, node};
use capmux::{Connection, Ending, Enode, Event, NodeKey, Party, PeerError, Server, Stage};
use support::raw::{Raw, auth, connect, drip, read_to_end};
use support::{
    added, assert_elapsed, dropped, echo, enode, event, hello, last_words, listening, refused, sink, soon, start,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

const A: &[(&str, u64)] = &[("aaa", 1)];

fn protocol_node() -> capmux::ServerBuilder {
    node().protocol(sink("aaa", 1))
}

/// Scripts an encrypted connection to a node, with nothing said on it.
async fn scripted(key: &NodeKey) -> Scripted {
    testing::script(protocol_node(), key).await
}

/// Sends this as the first message: how the node refuses it, and what it says.
async fn refusal(id: MessageId, data: &[u8]) -> (Ending, Option<DisconnectReason>) {
    let mut scripted = scripted(&NodeKey::random()).await;
    scripted.connection.send(id, data).await.expect("sent");
    let said = last_words(&mut scripted.connection).await;
    let ending = soon(scripted.peer()).await.expect_err("the node refuses it");
    assert_eq!(ending.stage(), Stage::Hello, "{ending}");
    (ending, said)
}

fn session_error(ending: &Ending) -> &SessionError {
    match ending.error() {
        PeerError::Session(error) => error,
        other => panic!("the base protocol should have ended it: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_message_must_be_a_hello_or_a_disconnect() {
    for id in (2..0x12).chain([0x80, u64::MAX]) {
        let (ending, said) = refusal(MessageId::new(id), b"\xc0").await;
        assert_eq!(session_error(&ending), &SessionError::ExpectedHello { id }, "R37 H38");
        assert_eq!(said, Some(DisconnectReason::ProtocolError), "R37 H38");
        assert_eq!((ending.by(), ending.reason()), (Party::Local, said), "H38");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_will_not_do_is_refused_with_its_reason() {
    let key = NodeKey::random();
    let with_id = |id: [u8; 64]| {
        let mut data = hello(&key, A).encode();
        let start = data.len() - 64;
        data[start..].copy_from_slice(&id);
        data
    };
    for (data, error, reason) in [
        (with_id([0; 64]), HelloError::NullIdentity, DisconnectReason::InvalidIdentity), // R36 H41
        (
            with_id(NodeKey::random().public_key().to_bytes()),
            HelloError::UnexpectedIdentity,
            DisconnectReason::UnexpectedIdentity,
        ), // R35 H42
    ] {
        let (ending, said) = refusal(MessageId::HELLO, &data).await;
        assert_eq!((session_error(&ending), said), (&SessionError::Hello(error), Some(reason)), "R35 R36 H41 H42");
    }
    for data in [&b""[..], b"\x05", b"\xc0", b"\xc1\x05", b"\xff\xff"] {
        let (ending, said) = refusal(MessageId::HELLO, data).await;
        assert!(matches!(session_error(&ending), SessionError::Hello(HelloError::Malformed(_))), "R36: {ending}");
        assert_eq!(said, Some(DisconnectReason::ProtocolError), "R36");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hello_with_our_own_id_is_a_connection_to_self() {
    let mut scripted = scripted(&NodeKey::random()).await;
    let mut hello = hello(&NodeKey::random(), A);
    hello.public_key = *scripted.connection.remote();
    scripted.connection.send_hello(&hello).await.unwrap();
    assert_eq!(last_words(&mut scripted.connection).await, Some(DisconnectReason::ConnectedToSelf), "R35 H43");
    let ending = soon(scripted.peer()).await.unwrap_err();
    assert_eq!(session_error(&ending), &SessionError::Hello(HelloError::ConnectedToSelf), "R35 H43");
}

#[tokio::test(start_paused = true)]
async fn a_hello_above_2_kib_is_refused_and_unknown_elements_are_not() {
    let (ending, said) = refusal(MessageId::HELLO, &[0xc0; MAX_BASE_MESSAGE_SIZE + 1]).await;
    let error = ending.error();
    assert!(matches!(error, PeerError::Frame(FrameError::TooLarge { size: 2050, limit: 2049 })), "R36 H40: {error:?}");
    assert_eq!(said, Some(DisconnectReason::ProtocolError), "R36 H40");

    let key = NodeKey::random();
    let mut hello = hello(&key, A);
    hello.listen_port = 70_000;
    let mut stream = rlp::RlpStream::new_list(7);
    let encoded = hello.encode();
    rlp::Rlp::new(&encoded).iter().for_each(|item| {
        stream.append_raw(item.as_raw(), 1);
    });
    stream.append(&"more").append_empty_data();
    let mut scripted = scripted(&key).await;
    scripted.connection.send(MessageId::HELLO, &stream.out()).await.unwrap();
    assert_eq!(
        soon(scripted.peer()).await.unwrap().public_key(),
        &key.public_key(),
        "R75 H45: extra elements are ignored"
    );
}

#[tokio::test(start_paused = true)]
async fn who_shares_nothing_is_useless() {
    for capabilities in [&[][..], &[("aaa", 2)], &[("aab", 1)], &[("AAA", 1)]] {
        let data = |key: &NodeKey| hello(key, capabilities).encode();
        let key = NodeKey::random();
        let mut scripted = scripted(&key).await;
        scripted.connection.send(MessageId::HELLO, &data(&key)).await.unwrap();
        let said = last_words(&mut scripted.connection).await;
        let ending = soon(scripted.peer()).await.unwrap_err();
        assert_eq!(session_error(&ending), &SessionError::NoSharedCapability, "R3 H53");
        assert_eq!((said, ending.reason()), (Some(DisconnectReason::UselessPeer), said), "R3 H53");
    }
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_in_place_of_hello_is_understood_in_every_form() {
    use DisconnectReason::{Requested, TooManyPeers, Unknown};
    for (data, reason) in [
        (&b"\xc1\x04"[..], Some(TooManyPeers)),
        (b"\x04", Some(TooManyPeers)),
        (b"\x02\x04\xc1\x04", Some(TooManyPeers)),
        (b"\x01\x00\x04", Some(TooManyPeers)),
        (b"\x00", Some(Requested)),
        (b"\xc3\x82\x01\x2c", Some(Unknown(300))),
        (b"\xc0", None),
        (b"", None),
    ] {
        let (ending, said) = refusal(MessageId::DISCONNECT, data).await;
        assert_eq!(session_error(&ending), &SessionError::Disconnected(reason), "R38 H50 {data:02x?}");
        assert_eq!((ending.reason(), ending.by(), said), (reason, Party::Remote, None), "R38 H50: and is not answered");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_hello_the_connection_is_closed_after_five_seconds() {
    let mut scripted = scripted(&NodeKey::random()).await;
    let since = Instant::now();
    assert_eq!(last_words(&mut scripted.connection).await, None, "H39: without a word");
    assert_elapsed(since, Duration::from_secs(5), "R37 H39");
    let ending = soon(scripted.peer()).await.unwrap_err();
    let (stage, limit) = (Stage::Hello, Duration::from_secs(5));
    assert!(
        matches!(ending.error(), PeerError::Timeout { stage: s, limit: l } if (*s, *l) == (stage, limit)),
        "{ending}"
    );
    assert_eq!((ending.stage(), ending.by(), ending.reason()), (stage, Party::Network, None), "H39");
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_after_five_seconds() {
    let server = start(listening().protocol(sink("aaa", 1))).await;
    let mut events = server.events();
    let since = Instant::now();
    let _stream = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
    // No other timer runs that could let the clock jump.
    let Some(Event::Refused { ending, .. }) = events.recv().await else { panic!("R37 H1: it is refused") };
    assert_elapsed(since, Duration::from_secs(5), "R37 H1");
    let (stage, limit) = (Stage::Encryption, Duration::from_secs(5));
    assert!(
        matches!(ending.error(), PeerError::Timeout { stage: s, limit: l } if (*s, *l) == (stage, limit)),
        "{ending}"
    );
    assert_eq!((ending.stage(), ending.reason()), (stage, None), "H1");
}

/// A server that gives each stage a moment.
async fn hasty() -> Server {
    let moment = Duration::from_millis(300);
    start(listening().protocol(echo()).encryption_timeout(moment).hello_timeout(moment)).await
}

#[tokio::test]
async fn single_bytes_do_not_move_the_deadline_of_a_stage() {
    let server = hasty().await;
    let mut events = server.events();
    let key = NodeKey::random();
    let pause = Duration::from_millis(50);

    let mut stream = connect(&server).await;
    let (_state, bytes) = auth(&enode(&server), &key);
    let (ending, ()) = tokio::join!(refused(&mut events), drip(&mut stream, &bytes, pause));
    assert!(matches!(ending.error(), PeerError::Timeout { stage: Stage::Encryption, .. }), "R37 H2: {ending}");

    let mut raw = Raw::handshake(&server, &key).await;
    let bytes = raw.hello(&hello(&key, &[("echo", 1)]));
    let (ending, ()) = tokio::join!(refused(&mut events), drip(&mut raw.stream, &bytes, pause));
    assert!(matches!(ending.error(), PeerError::Timeout { stage: Stage::Hello, .. }), "R37: {ending}");

    let mut raw = Raw::handshake(&server, &key).await;
    let bytes = raw.hello(&hello(&key, &[("echo", 1)]));
    raw.stream.write_all(&bytes).await.unwrap();
    assert_eq!(added(&mut events).await.id(), key.node_id(), "H1: an honest peer connects at the first try afterwards");
}

#[tokio::test]
async fn the_end_of_the_stream_ends_every_stage_at_once() {
    let server = start(listening().protocol(echo())).await;
    let mut events = server.events();
    let key = NodeKey::random();
    let (_, auth) = auth(&enode(&server), &key);
    for part in [0, 1, 2, 100, auth.len() - 1] {
        let mut stream = connect(&server).await;
        stream.write_all(&auth[..part]).await.unwrap();
        stream.shutdown().await.unwrap();
        let ending = refused(&mut events).await;
        assert!(matches!(ending.error(), PeerError::Closed { inside_message: true }), "R65 {part}: {ending}");
        assert_eq!((ending.stage(), ending.by()), (Stage::Encryption, Party::Remote), "R65");
        assert_eq!(read_to_end(&mut stream).await, 0, "H30: it is closed, without a word");
    }
    for part in [0, 1, 31, 32, 33, usize::MAX] {
        let mut raw = Raw::handshake(&server, &key).await;
        let frame = raw.hello(&hello(&key, &[("echo", 1)]));
        let part = part.min(frame.len() - 1);
        raw.stream.write_all(&frame[..part]).await.unwrap();
        raw.stream.shutdown().await.unwrap();
        let ending = refused(&mut events).await;
        let inside = part > 0;
        assert!(
            matches!(ending.error(), PeerError::Closed { inside_message } if *inside_message == inside),
            "R65 {part}: {ending}"
        );
        assert_eq!((ending.stage(), ending.by()), (Stage::Hello, Party::Remote), "R65");
        read_to_end(&mut raw.stream).await;
    }
}

#[tokio::test]
async fn the_end_of_the_stream_ends_a_session_at_once() {
    let server = start(listening().protocol(echo())).await;
    let mut events = server.events();
    for part in [0, 1, 31, 32, 33, 63] {
        let key = NodeKey::random();
        let mut raw = Raw::handshake(&server, &key).await;
        let hello = raw.hello(&hello(&key, &[("echo", 1)]));
        let message = raw.message(0x10, b"message");
        raw.stream.write_all(&[&hello[..], &message[..part]].concat()).await.unwrap();
        raw.stream.shutdown().await.unwrap();
        added(&mut events).await;
        let (id, ending) = dropped(&mut events).await;
        let inside = part > 0;
        assert_eq!((id, ending.stage(), ending.by()), (key.node_id(), Stage::Session, Party::Remote), "R65");
        assert!(
            matches!(ending.error(), PeerError::Closed { inside_message } if *inside_message == inside),
            "R65 {part}: {ending}"
        );
        read_to_end(&mut raw.stream).await;
    }
}

/// Dials again and again, and hangs up when that leads to a peer.
async fn come_and_go(client: Server, to: Enode) -> usize {
    let mut times = 0;
    for _ in 0..12 {
        match soon(client.dial(&to)).await {
            Ok(peer) => {
                peer.disconnect(DisconnectReason::Requested);
                soon(peer.closed()).await;
                times += 1;
            }
            Err(ending) => {
                let reason = ending.reason();
                let full = [Some(DisconnectReason::TooManyPeers), Some(DisconnectReason::AlreadyConnected)];
                assert!(full.contains(&reason), "R44 R45: {ending}");
            }
        }
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn peers_that_come_and_go_at_once_are_added_and_dropped_once() {
    let server = start(listening().protocol(echo()).max_peers(5)).await;
    let mut events = server.events();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        clients.spawn(come_and_go(start(node().protocol(echo())).await, enode(&server)));
    }
    let times: usize = clients.join_all().await.into_iter().sum();
    soon(server.shutdown()).await;
    drop(server);
    let (mut peers, mut total) = (Vec::new(), 0);
    while let Some(event) = soon(events.recv()).await {
        match event {
            Event::Added { peer, .. } => {
                total += 1;
                peers.push(peer);
            }
            Event::Dropped { peer, .. } => {
                let place = peers.iter().position(|one| *one == peer).expect("R66: once, and after it was added");
                peers.swap_remove(place);
            }
            other => assert!(matches!(other, Event::Refused { .. }), "{other:?}"),
        }
    }
    // Where a place was lost between the handshake and the Hello, only the client had a peer.
    assert!(peers.is_empty() && times > 0 && total > 0, "R8 R66: {peers:?} {total} {times}");
}

/// Asserts that no four bytes of a secret are shown, in hexadecimal or as a list of numbers, and nothing that looks
/// like a secret we do not know.
fn assert_hides(shown: &str, secrets: &[u8]) {
    let text: String = shown.chars().filter(|character| !character.is_whitespace()).collect();
    let lower = text.to_lowercase();
    for bytes in secrets.windows(4) {
        let list = format!("{bytes:?}").replace(' ', "");
        assert!(!text.contains(list.trim_matches(['[', ']'])), "R42 H83: {shown}");
        assert!(!lower.contains(&hex::encode(bytes)), "R42 H83: {shown}");
    }
    let longest = lower.split(|character: char| !character.is_ascii_hexdigit()).map(str::len).max();
    assert!(longest <= Some(16), "R42 H83: of a public key eight bytes are shown: {shown}");
    assert!(!text.contains("[0x") && !text.contains(",0x"), "R42 H83: {shown}");
}

/// A random source that remembers.
fn recorded(first: u8, record: &mut Vec<u8>) -> HandshakeRandom {
    HandshakeRandom::new(|bytes| {
        bytes.iter_mut().enumerate().for_each(|(place, byte)| *byte = first.wrapping_add((place * 37) as u8) | 0x81);
        record.extend_from_slice(bytes);
    })
}

#[test]
fn no_handshake_shows_its_secrets() {
    let keys = [[0xd1; 32], [0xe7; 32]];
    let [one, other] = keys.map(|bytes| NodeKey::from_bytes(&bytes).unwrap());
    let mut secrets = keys.concat();
    let random = recorded(3, &mut secrets);
    let mut shown = vec![format!("{one:?} {one:#?} {random:?} {random:#?}")];
    let (initiator, auth) = Initiator::new(&one, other.public_key(), random).unwrap();
    let recipient = Recipient::new(other.clone(), recorded(5, &mut secrets));
    shown.extend([
        format!("{initiator:?}"),
        format!("{initiator:#?}"),
        format!("{recipient:?}"),
        format!("{recipient:#?}"),
    ]);
    let Step::Done((ack, at_other)) = recipient.receive(&mut &auth[..]).unwrap() else { panic!("it is whole") };
    let step = initiator.receive(&mut &ack[..]).unwrap();
    shown.extend([format!("{at_other:?}"), format!("{at_other:#?}"), format!("{step:?}"), format!("{step:#?}")]);
    for shown in shown {
        assert_hides(&shown, &secrets);
    }
}

#[tokio::test]
async fn nothing_that_is_connected_shows_its_secrets() {
    let secrets = [[0xd3; 32], [0xe5; 32]];
    let [one, other] = secrets.map(|bytes| NodeKey::from_bytes(&bytes).unwrap());
    let builder = Server::builder(one).listen("127.0.0.1:0".parse().unwrap()).protocol(echo());
    let before = format!("{builder:?} {builder:#?}");
    let server = start(builder).await;
    let mut events = server.events();
    let raw = Connection::initiate(connect(&server).await, &other, enode(&server).public_key).await.unwrap();
    let client = start(Server::builder(other).protocol(echo())).await;
    let peer = soon(client.dial(&enode(&server))).await.unwrap();
    let event = event(&mut events).await;
    client.remove_peer(&server.id()).unwrap();
    let ending = soon(peer.closed()).await;
    let scripted = scripted(&NodeKey::from_bytes(&secrets[0]).unwrap()).await;
    for shown in [
        before,
        format!("{server:?} {server:#?} {:?} {:?}", server.peers(), server.id()),
        format!("{raw:?} {raw:#?} {scripted:?} {scripted:#?}"),
        format!("{peer:?} {peer:#?} {event:?} {event:#?} {ending:?} {ending}"),
    ] {
        assert_hides(&shown, &secrets.concat());
    }
}
