//! Servers on loopback: settings, dials, limits, events and peers.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use capmux::node::Host;
use capmux::p2p::{DisconnectReason, HelloError, LivenessSettings, MessageId, RegistrationError, SessionError};
use capmux::rlpx::HandshakeError;
use capmux::testing::{expect_message, manual, node};
use capmux::{
    Address, Connection, Direction, Ending, Enode, Event, NodeKey, NotAdded, Party, PeerError, ProtocolError, Refusal,
    Server, ServerBuilder, Stage, StartError,
};
use support::raw::{Raw, connect, read_to_end};
use support::{
    added, deaf, dial, dropped, echo, enode, event, hello, last_words, listening, poll_once, read, refused, sink, soon,
    start,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

const ECHO: &[(&str, u64)] = &[("echo", 1)];

async fn start_error(node: ServerBuilder) -> StartError {
    node.start().await.expect_err("the settings will not do")
}

#[tokio::test]
async fn protocols_that_will_not_do_are_named() {
    let twice = node().protocol(sink("aaa", 1)).protocol(echo()).protocol(deaf("aaa", 2));
    let error = start_error(twice).await;
    let StartError::Registration(RegistrationError::Duplicate(of)) = &error else { panic!("R3: {error:?}") };
    assert_eq!(of.to_string(), "aaa/1", "R3");
    let error = start_error(node().protocol(sink("aaa", 0))).await;
    assert!(matches!(error, StartError::Registration(RegistrationError::NoCodes(_))), "R3: {error:?}");
    let most = u64::MAX - 0x10;
    let error = start_error(node().protocol(sink("aaa", most)).protocol(sink("bbb", 1))).await;
    assert!(matches!(error, StartError::Registration(RegistrationError::TooManyCodes)), "R3: {error:?}");
    start(node().protocol(sink("aaa", most))).await;
    for name in ["", "ninechars", "a b", "é", "a\n"] {
        let error = start_error(node().protocol(sink(name, 1))).await;
        assert!(matches!(&error, StartError::Protocol(ProtocolError::Name(of)) if of.name == name), "R3: {error:?}");
    }
    let error = start_error(node().protocol(sink("aaa", 1).max_message_size(1 << 24))).await;
    assert!(
        matches!(error, StartError::Protocol(ProtocolError::MessageSize { size: 0x100_0000, .. })),
        "R20: {error:?}"
    );
    for (protocol, name) in [
        (sink("aaa", 1).max_message_size(0), "max_message_size"),
        (sink("aaa", 1).inbox_messages(0), "inbox_messages"),
        (sink("aaa", 1).queue_messages(0), "queue_messages"),
    ] {
        let error = start_error(node().protocol(protocol)).await;
        assert!(matches!(error, StartError::Protocol(ProtocolError::Zero { setting, .. }) if setting == name), "R77");
        assert!(error.to_string().contains(name) && error.to_string().contains("aaa/1"), "R77: {error}");
    }
}

#[tokio::test]
async fn settings_that_will_not_do_are_named() {
    let zero = Duration::ZERO;
    for (node, name) in [
        (listening().max_peers(0), "max_peers"),
        (listening().max_pending(0), "max_pending"),
        (listening().max_dials(0), "max_dials"),
        (listening().event_capacity(0), "event_capacity"),
        (listening().event_capacity(usize::MAX), "event_capacity"),
        (listening().hello_timeout(Duration::MAX), "hello_timeout"),
        (listening().dial_timeout(zero), "dial_timeout"),
        (listening().encryption_timeout(zero), "encryption_timeout"),
        (listening().hello_timeout(zero), "hello_timeout"),
        (listening().write_stall_timeout(zero), "write_stall_timeout"),
        (listening().inbox_stall_timeout(zero), "inbox_stall_timeout"),
    ] {
        let error = start_error(node).await;
        assert!(matches!(error, StartError::OutOfRange { setting } if setting == name), "R77 {name}: {error:?}");
    }
    let secs = Duration::from_secs;
    let liveness = LivenessSettings::default().ping_after(secs(30)).pong_timeout(secs(30)).idle_timeout(secs(60));
    let error = start_error(node().liveness(liveness)).await.to_string();
    assert!(["ping_after", "pong_timeout", "idle_timeout"].iter().all(|name| error.contains(name)), "R25: {error}");
    start(node().liveness(liveness.ping_after(secs(29)))).await;
    for ping_after in [zero, Duration::MAX] {
        let error = start_error(node().liveness(liveness.ping_after(ping_after))).await;
        assert!(matches!(error, StartError::Liveness(_)), "R25: {error:?}");
    }

    let error = start_error(node().client_id("x".repeat(2000))).await;
    assert!(matches!(error, StartError::HelloTooLarge { size } if size > 2048), "R36: {error:?}");
    let taken = start(listening()).await;
    let address = taken.local_addr().unwrap();
    let error = start_error(node().listen(address)).await;
    let StartError::Listen { address: named, source } = error else { panic!("R77: {error:?}") };
    assert_eq!((named, source.kind()), (address.into(), std::io::ErrorKind::AddrInUse), "R77");
}

/// How a dial failed, which must also be told as an event.
async fn dial_error(server: &Server, enode: &Enode) -> Ending {
    let mut events = server.events();
    let ending = soon(server.dial(enode)).await.expect_err("the dial fails");
    match event(&mut events).await {
        Event::DialFailed { node: told, ending: reported, .. } => {
            assert_eq!((told, reported.to_string()), (enode.into(), ending.to_string()), "R68");
        }
        other => panic!("R68: {other:?}"),
    }
    ending
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

#[tokio::test]
async fn a_dial_that_finds_nobody_fails_at_its_stage() {
    let key = NodeKey::random();
    let server = start(Server::builder(key.clone()).protocol(echo())).await;
    let other = NodeKey::random().public_key();

    let (free, address) = listener().await;
    drop(free);
    let ending = dial_error(&server, &Enode::new(other, address)).await;
    assert!(
        matches!(ending.error(), PeerError::Connect { address: tried, .. } if *tried == address.into()),
        "{ending}"
    );
    assert_eq!((ending.stage(), ending.by(), ending.reason()), (Stage::Dial, Party::Network, None), "R68");

    // A label of 64 characters is more than DNS can ask for.
    let host = Host::Domain(format!("{}.invalid", "a".repeat(64)));
    let ending = dial_error(&server, &Enode { host: host.clone(), ..Enode::new(other, address) }).await;
    assert!(matches!(ending.error(), PeerError::Resolve { host: tried, .. } if *tried == host.to_string()), "{ending}");
    assert_eq!((ending.stage(), ending.by()), (Stage::Dial, Party::Network), "R68");

    let ending = dial_error(&server, &Enode::new(key.public_key(), address)).await;
    assert!(matches!(ending.error(), PeerError::Handshake(HandshakeError::ConnectedToSelf)), "R35: {ending}");
    assert_eq!((ending.stage(), ending.by()), (Stage::Dial, Party::Local), "R35: nobody was asked");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_dial_that_is_not_answered_ends_at_its_deadline() {
    let limit = Duration::from_millis(300);
    let server = start(node().protocol(echo()).dial_timeout(limit)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    // Linux answers no more when the queue of a listener that does not accept is full.
    let mut queue = Vec::new();
    while let Ok(connected) = timeout(limit, TcpStream::connect(address)).await {
        queue.push(connected.unwrap());
    }
    let ending = dial_error(&server, &Enode::new(NodeKey::random().public_key(), address)).await;
    assert!(
        matches!(ending.error(), PeerError::Timeout { stage: Stage::Dial, limit: l } if *l == limit),
        "R37: {ending}"
    );
    assert_eq!((ending.stage(), ending.by()), (Stage::Dial, Party::Network), "R37");
}

#[tokio::test]
async fn a_dial_to_a_silent_node_gives_its_place_back() {
    let limit = Duration::from_millis(200);
    let server = start(node().protocol(echo()).max_dials(1).encryption_timeout(limit)).await;
    let (silent, address) = listener().await;
    let ending = dial_error(&server, &Enode::new(NodeKey::random().public_key(), address)).await;
    assert!(matches!(ending.error(), PeerError::Timeout { stage: Stage::Encryption, .. }), "R37 H18: {ending}");
    assert_eq!((ending.stage(), ending.by()), (Stage::Encryption, Party::Network), "H18");
    drop(silent);
    let good = start(listening().protocol(echo())).await;
    let better = start(listening().protocol(echo())).await;
    let mut events = server.events();
    assert!(poll_once(server.dial(&enode(&good))).await.is_none(), "it takes a while");
    assert_eq!(added(&mut events).await.id(), good.id(), "H18: the place is free again, and R64: the dial goes on");
    assert_eq!(dial(&server, &better).await.id(), better.id(), "R44: a peer does not take a place for dials");
}

#[tokio::test]
async fn a_node_with_another_key_is_not_taken_for_the_one_that_was_dialled() {
    let server = start(node().protocol(echo())).await;
    let good = start(listening().protocol(echo())).await;
    let mut events = good.events();
    let wrong = Enode { public_key: NodeKey::random().public_key(), ..enode(&good) };
    let ending = dial_error(&server, &wrong).await;
    assert_eq!((ending.stage(), ending.by()), (Stage::Encryption, Party::Remote), "R35 H17: {ending}");
    let ending = refused(&mut events).await;
    assert!(matches!(ending.error(), PeerError::Handshake(HandshakeError::Authentication)), "R35: {ending}");

    let (listener, address) = listener().await;
    let key = NodeKey::random();
    let liar = async {
        let mut connection = Connection::accept(listener.accept().await.unwrap().0, &key).await.unwrap();
        connection.send_hello(&hello(&NodeKey::random(), ECHO)).await.unwrap();
        connection.recv_frame(4096).await.unwrap();
        last_words(&mut connection).await
    };
    let dialled = Enode::new(key.public_key(), address);
    let (ending, said) = soon(async { tokio::join!(dial_error(&server, &dialled), liar) }).await;
    let expected = SessionError::Hello(HelloError::UnexpectedIdentity);
    assert!(matches!(ending.error(), PeerError::Session(error) if *error == expected), "R35: {ending}");
    assert_eq!(said, Some(DisconnectReason::UnexpectedIdentity), "R35 H42");
}

#[tokio::test]
async fn above_max_peers_a_node_is_told_so_before_hello() {
    let server = start(listening().protocol(echo()).max_peers(1)).await;
    let (first, second) = (start(node().protocol(echo())).await, start(listening().protocol(echo())).await);
    let mut events = server.events();
    let held = dial(&first, &server).await;
    added(&mut events).await;

    let stream = connect(&server).await;
    let address = stream.local_addr().unwrap();
    let key = NodeKey::random();
    let mut connection = soon(Connection::initiate(stream, &key, enode(&server).public_key)).await.unwrap();
    let (id, data) = read(&mut connection).await.unwrap();
    assert_eq!((id, &data[..]), (MessageId::DISCONNECT, &b"\xc1\x04"[..]), "R44 H64: in place of a Hello");
    assert!(read(&mut connection).await.is_none(), "R44: and the socket is closed");
    drop(connection);
    match event(&mut events).await {
        Event::Refused { remote_addr, id, ending, .. } => {
            assert_eq!((remote_addr, id), (Some(address), Some(key.node_id())), "R68");
            assert_eq!((ending.stage(), ending.by()), (Stage::Hello, Party::Local), "R44 R68");
            assert!(matches!(ending.error(), PeerError::TooManyPeers { limit: 1 }), "R44: {ending}");
        }
        other => panic!("R44 R68: {other:?}"),
    }

    let ending = soon(second.dial(&enode(&server))).await.unwrap_err();
    assert_eq!((ending.stage(), ending.by()), (Stage::Hello, Party::Remote), "R38");
    assert_eq!(ending.reason(), Some(DisconnectReason::TooManyPeers), "R38 R44");
    refused(&mut events).await;
    let ending = soon(server.dial(&enode(&second))).await.unwrap_err();
    assert!(matches!(ending.error(), PeerError::TooManyPeers { limit: 1 }), "R44: {ending}");
    assert_eq!(ending.stage(), Stage::Dial, "R44: without a connection");
    assert!(matches!(event(&mut events).await, Event::DialFailed { .. }));

    held.disconnect(DisconnectReason::Requested);
    dropped(&mut events).await;
    assert_eq!(dial(&second, &server).await.id(), server.id(), "R44: the place is free again");
}

#[tokio::test]
async fn of_two_that_are_set_up_at_once_one_gets_the_last_place() {
    let server = start(listening().protocol(echo()).max_peers(1)).await;
    let keys = [NodeKey::random(), NodeKey::random()];
    let [one, other] = &keys;
    let mut late = soon(Connection::initiate(connect(&server).await, one, enode(&server).public_key)).await.unwrap();
    assert_eq!(read(&mut late).await.unwrap().0, MessageId::HELLO, "there is a place");
    let _early = Raw::greet(&server, other, ECHO).await;
    late.send_hello(&hello(one, ECHO)).await.unwrap();
    assert_eq!(last_words(&mut late).await, Some(DisconnectReason::TooManyPeers), "R44: it is gone by now");
    assert_eq!(server.peers().len(), 1, "R44");
}

#[tokio::test]
async fn above_max_pending_a_connection_is_closed_unread() {
    let long = Duration::from_secs(600);
    let server = start(listening().protocol(echo()).max_pending(2).encryption_timeout(long)).await;
    let mut events = server.events();
    let silent = [connect(&server).await, connect(&server).await];
    // The server accepts in order, and the limits of time are far away: only the limit of places can close these.
    for _ in 0..3 {
        assert_eq!(read_to_end(&mut connect(&server).await).await, 0, "R44 H19");
    }
    let told = event(&mut events).await;
    assert!(matches!(told, Event::ClosedUnread { refusal: Refusal::Pending, count: 1, .. }), "R44: once: {told:?}");
    drop(silent);
    for _ in 0..2 {
        assert_eq!(refused(&mut events).await.stage(), Stage::Encryption);
    }
    let mut honest = Vec::new();
    for _ in 0..3 {
        honest.push(start(node().protocol(echo())).await);
        dial(&honest[honest.len() - 1], &server).await;
        assert_eq!(
            Some(added(&mut events).await.id()),
            honest.last().map(Server::id),
            "R44 H19: who is a peer is not pending"
        );
    }
}

#[tokio::test]
async fn a_node_is_a_peer_once() {
    let server = start(listening().protocol(echo())).await;
    let mut events = server.events();
    let key = NodeKey::random();
    let client = start(Server::builder(key.clone()).protocol(echo())).await;
    let peer = dial(&client, &server).await;
    let at_server = added(&mut events).await;
    assert!(dial(&client, &server).await == peer, "R45: whoever dials a peer gets that peer");

    let mut again = soon(Connection::initiate(connect(&server).await, &key, enode(&server).public_key)).await.unwrap();
    // It is told once it has proved its key, which the first frame does.
    again.send_hello(&hello(&key, ECHO)).await.unwrap();
    assert_eq!(last_words(&mut again).await, Some(DisconnectReason::AlreadyConnected), "R45");
    drop(again);
    let ending = refused(&mut events).await;
    assert!(matches!(ending.error(), PeerError::AlreadyConnected), "R45: {ending}");
    assert_eq!((ending.stage(), ending.by()), (Stage::Hello, Party::Local), "R45");
    assert!(at_server.ending().is_none() && peer.ending().is_none(), "R45: the first connection lives");

    let (listener, address) = listener().await;
    let silent = Enode::new(NodeKey::random().public_key(), address);
    let (one, (other, accepted)) = soon(async {
        tokio::join!(server.dial(&silent), async {
            let (stream, _) = listener.accept().await.unwrap();
            drop(listener);
            tokio::join!(server.dial(&silent), async move { drop(stream) })
        })
    })
    .await;
    let () = accepted;
    assert_eq!(one.unwrap_err().to_string(), other.unwrap_err().to_string(), "R45: both wait for the same dial");
}

#[tokio::test]
async fn peers_come_and_go() {
    let server = start(listening().client_id("server").protocol(echo())).await;
    let client = start(listening().client_id("client").protocol(echo())).await;
    let (mut at_server, mut at_client) = (server.events(), client.events());
    assert!(server.peers().is_empty() && server.peer(&client.id()).is_none());
    client.add_peer(enode(&server)).unwrap();
    assert_eq!(client.add_peer(enode(&client)), Err(NotAdded::Own), "R52");
    let (inbound, outbound) = (added(&mut at_server).await, added(&mut at_client).await);

    assert_eq!((inbound.id(), inbound.direction()), (client.id(), Direction::Inbound), "R52");
    assert_eq!((outbound.id(), outbound.direction()), (server.id(), Direction::Outbound), "R52");
    assert_eq!((inbound.client_id().as_bytes(), outbound.client_id().as_bytes()), (&b"client"[..], &b"server"[..]));
    assert_eq!(outbound.remote_addr(), server.local_addr(), "R68");
    assert_eq!((inbound.remote_addr(), inbound.local_addr()), (outbound.local_addr(), outbound.remote_addr()), "R68");
    assert!(server.peers() == [inbound.clone()] && server.peer(&client.id()).as_ref() == Some(&inbound), "R52");

    let unknown = client.remove_peer(&client.id()).expect_err("R52: nobody by that name");
    assert_eq!(unknown.id, client.id(), "R52");
    assert!(client.remove_peer(&server.id()) == Ok(Some(outbound.clone())), "R52");
    let (id, ending) = dropped(&mut at_client).await;
    assert_eq!(
        (id, ending.by(), ending.reason()),
        (server.id(), Party::Local, Some(DisconnectReason::Requested)),
        "R52"
    );
    let (id, ending) = dropped(&mut at_server).await;
    assert_eq!(
        (id, ending.by(), ending.reason()),
        (client.id(), Party::Remote, Some(DisconnectReason::Requested)),
        "R68"
    );
    assert!(client.peers().is_empty() && server.peer(&client.id()).is_none(), "R66: removed before it is told");
}

#[tokio::test]
async fn what_goes_over_the_wire_is_counted() {
    let (own, mut opened) = manual("echo", 1, 2);
    let (server, client) = (start(listening().protocol(echo())).await, start(node().protocol(own)).await);
    let outbound = dial(&client, &server).await;
    let (_, mut channel) = opened.next().await;
    channel.send(0, "count me").await.unwrap();
    expect_message(&mut channel, 1).await;
    let inbound = server.peer(&client.id()).unwrap();
    let (sent, received) = (outbound.traffic(), inbound.traffic());
    assert_eq!((sent.messages_sent, received.messages_received), (1, 1), "R70");
    assert_eq!((sent.bytes_sent, received.bytes_received), (64, 64), "R70: header, its tag, a block, its tag");
    outbound.disconnect(DisconnectReason::Requested);
    soon(inbound.closed()).await;
    let (one, all) = (inbound.traffic(), server.traffic());
    assert!(one == all && one.bytes_received > 64, "R70: who is gone stays counted: {one:?} {all:?}");
}

#[tokio::test]
async fn a_slow_subscriber_is_told_what_it_lost() {
    let key = NodeKey::random();
    let server = start(Server::builder(key.clone()).protocol(echo()).event_capacity(4)).await;
    let mut slow = server.events();
    for port in 1..=10 {
        let own = Enode::new(key.public_key(), ([127, 0, 0, 1], port).into());
        soon(server.dial(&own)).await.unwrap_err();
    }
    assert!(matches!(event(&mut slow).await, Event::Lagged(6)), "R69");
    for port in 7..=10 {
        let next = event(&mut slow).await;
        assert!(
            matches!(&next, Event::DialFailed { node, .. } if node.addresses == [Address::Ip(([127, 0, 0, 1], port).into())]),
            "R69: {next:?}"
        );
    }
    drop(server);
    assert!(soon(slow.recv()).await.is_none(), "R69: the server is gone");
}

#[tokio::test]
async fn a_node_that_listens_on_all_addresses_is_shown_with_one_that_can_be_dialled() {
    let server = start(node().listen("0.0.0.0:0".parse().unwrap()).protocol(echo())).await;
    let shown = enode(&server);
    assert_eq!(shown.host, Host::Ip([127, 0, 0, 1].into()));
    assert_eq!((shown.node_id(), Some(shown.tcp_port)), (server.id(), server.local_addr().map(|at| at.port())));
    let client = start(node().protocol(echo())).await;
    assert_eq!(dial(&client, &server).await.id(), server.id());
    assert!(client.enode().is_none(), "it does not listen");
}
