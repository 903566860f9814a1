//! Who may be a peer, and how many: over real sockets.

#![cfg_attr(not(target_os = "linux"), allow(unused_imports, reason = "a test is for Linux alone"))]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use capmux::node::Subnet;
use capmux::p2p::MessageId;
use capmux::testing::node;
use capmux::{
    Connection, DisconnectReason, Ending, Enode, Event, NodeKey, Party, PeerError, Refusal, Server, Stage, Trust,
};
use support::raw::read_to_end;
use support::{added, dial, dropped, echo, enode, event, hello, last_words, listening, read, refused, soon, start};
use tokio::net::{TcpSocket, TcpStream};

const ECHO: &[(&str, u64)] = &[("echo", 1)];

/// Nobody listens there.
fn nowhere(id: &Server) -> Enode {
    Enode::new(id.key(), "127.0.0.1:1".parse().expect("an address"))
}

trait Key {
    fn key(&self) -> capmux::PublicKey;
}

impl Key for Server {
    fn key(&self) -> capmux::PublicKey {
        enode(self).public_key
    }
}

async fn client() -> Server {
    start(listening().protocol(echo())).await
}

/// How the server that was dialled has refused, by its own account and by what it said.
async fn dial_refused(from: &Server, to: &Server) -> (Ending, Option<DisconnectReason>) {
    let mut events = to.events();
    // The dialling end may have a peer for a moment.
    let said = match soon(from.dial(&enode(to))).await {
        Ok(peer) => soon(peer.closed()).await,
        Err(ending) => ending,
    };
    assert_eq!(said.by(), Party::Remote, "the node that was dialled refuses: {said}");
    (refused(&mut events).await, said.reason())
}

#[tokio::test]
async fn with_all_inbound_places_taken_others_still_connect() {
    let server = start(listening().protocol(echo()).max_peers(4).max_inbound(2).max_outbound(1)).await;
    let mut events = server.events();
    let [first, second, third] = [client().await, client().await, client().await];
    for one in [&first, &second] {
        dial(one, &server).await;
        added(&mut events).await;
    }
    let (ending, said) = dial_refused(&third, &server).await;
    assert!(matches!(ending.error(), PeerError::TooManyPeers { limit: 2 }), "H64 R44: {ending:?}");
    assert_eq!(said, Some(DisconnectReason::TooManyPeers), "H64 R44: 0x04");

    let mut events = server.events();
    let dialled = client().await;
    dial(&server, &dialled).await;
    added(&mut events).await;
    assert_eq!(server.status().outbound, 1, "H64: outbound peers still connect");
    server.add_trusted(nowhere(&third));
    dial(&third, &server).await;
    added(&mut events).await;
    assert_eq!((server.status().inbound, server.is_trusted(&third.id())), (3, true), "H64 R47: trusted peers, too");
}

#[tokio::test]
async fn a_claim_to_be_trusted_is_believed_when_it_is_proved() {
    let trusted = client().await;
    let server = start(listening().protocol(echo()).max_inbound(0).trusted(nowhere(&trusted))).await;
    let mut events = server.events();
    let key = NodeKey::random();
    let stream = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
    let mut other = soon(Connection::initiate(stream, &key, server.key())).await.unwrap();
    let (id, _) = read(&mut other).await.expect("a message");
    assert_eq!(id, MessageId::HELLO, "R47: what is told before the Hello tells nothing about the list");
    other.send_hello(&hello(&key, ECHO)).await.unwrap();
    assert_eq!(last_words(&mut other).await, Some(DisconnectReason::TooManyPeers), "H64 R44");
    assert_eq!(refused(&mut events).await.stage(), Stage::Hello, "R44");

    dial(&trusted, &server).await;
    assert_eq!(added(&mut events).await.id(), trusted.id(), "R47");
    assert!(server.remove_trusted(&trusted.id()) && !server.remove_trusted(&trusted.id()), "R67");
    assert!(server.peer(&trusted.id()).is_some(), "R67: it has its place");
}

#[tokio::test]
async fn persistent_peers_pass_all_limits_and_trusted_ones_only_the_inbound_one() {
    let [persistent, trusted, outbound] = [client().await, client().await, client().await];
    let settings = listening().protocol(echo()).max_peers(1).max_inbound(1);
    let server = start(settings.persistent(nowhere(&persistent)).trusted(nowhere(&trusted))).await;
    dial(&server, &outbound).await;
    let (ending, _) = dial_refused(&trusted, &server).await;
    assert!(matches!(ending.error(), PeerError::TooManyPeers { limit: 1 }), "R47: {ending:?}");
    let mut events = server.events();
    dial(&persistent, &server).await;
    assert_eq!(added(&mut events).await.id(), persistent.id(), "R46");
    server.remove_peer(&outbound.id()).unwrap();
    assert_eq!(dropped(&mut events).await.0, outbound.id());
    dial(&trusted, &server).await;
    assert_eq!(added(&mut events).await.id(), trusted.id(), "R46: a persistent peer takes no place");
}

#[tokio::test]
async fn only_nodes_on_the_list_are_peers_whoever_dials() {
    let [listed, other] = [client().await, client().await];
    let server = start(listening().protocol(echo()).trust(Trust::from_iter([listed.id()]))).await;
    let mut events = server.events();
    dial(&listed, &server).await;
    assert_eq!(added(&mut events).await.id(), listed.id(), "R41");
    let (ending, said) = dial_refused(&other, &server).await;
    assert!(matches!(ending.error(), PeerError::NotAllowed), "R41: inbound: {ending:?}");
    assert_eq!(said, Some(DisconnectReason::UselessPeer), "R41");
    let ending = soon(server.dial(&enode(&other))).await.unwrap_err();
    assert!(matches!((ending.stage(), ending.error()), (Stage::Dial, PeerError::NotAllowed)), "R41: outbound");

    let mut events = server.events();
    server.allow(other.id());
    dial(&server, &other).await;
    assert_eq!(added(&mut events).await.id(), other.id(), "R67: the list has changed");
    let removed = server.disallow(&listed.id()).map(|peer| peer.id());
    assert_eq!(removed, Some(listed.id()), "R67");
    let (gone, ending) = dropped(&mut events).await;
    assert_eq!((gone, ending.reason()), (listed.id(), Some(DisconnectReason::UselessPeer)), "R67: that one alone");
    assert!(server.peer(&other.id()).is_some(), "R67: the others stay");

    assert_eq!(server.set_trust(Trust::Only(BTreeSet::new())).len(), 1, "R41: an empty list");
    assert_eq!(dropped(&mut events).await.0, other.id(), "R41");
    for one in [&listed, &other] {
        let (ending, _) = dial_refused(one, &server).await;
        assert!(matches!(ending.error(), PeerError::NotAllowed), "R41: an empty list admits nobody");
    }
    server.set_trust(Trust::Open);
    dial(&other, &server).await;
}

#[tokio::test]
async fn a_banned_node_is_refused_and_its_peer_alone_is_dropped() {
    let server = start(listening().protocol(echo())).await;
    let mut events = server.events();
    let [good, bad] = [client().await, client().await];
    for one in [&good, &bad] {
        dial(one, &server).await;
        added(&mut events).await;
    }
    let hour = Duration::from_secs(3600);
    assert_eq!(server.ban(bad.id(), hour).map(|peer| peer.id()), Some(bad.id()), "R67");
    let Event::Banned { id, until, .. } = event(&mut events).await else { panic!("R68: it is told") };
    let left = until.duration_since(SystemTime::now()).unwrap();
    assert!(id == bad.id() && left <= hour && left > hour / 2, "R54 R68: {left:?}");
    assert_eq!(dropped(&mut events).await.0, bad.id(), "R67: that one alone");
    let (ending, said) = dial_refused(&bad, &server).await;
    assert!(matches!(ending.error(), PeerError::Banned), "R54: {ending:?}");
    assert_eq!(said, Some(DisconnectReason::UselessPeer), "R54");
    let ending = soon(server.dial(&enode(&bad))).await.unwrap_err();
    assert!(matches!(ending.error(), PeerError::Banned), "R54: nor is it dialled: {ending:?}");
    assert!(server.peer(&good.id()).is_some(), "R67: the other stays");

    let mut events = server.events();
    let loopback = Subnet::host("127.0.0.1".parse().unwrap());
    assert_eq!(server.ban_subnet(loopback, hour).len(), 1, "R67: the one peer there is");
    assert_eq!(dropped(&mut events).await.0, good.id(), "R67");
    let mut stream = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, 0, "R44: closed before cryptography");
    assert!(matches!(event(&mut events).await, Event::ClosedUnread { refusal: Refusal::Banned, count: 1, .. }), "R44");
    assert!(server.unban_subnet(&loopback) && !server.unban_subnet(&loopback), "R54");
    assert!(server.unban(&bad.id()) && !server.unban(&bad.id()), "R54");
    assert_eq!(dial(&bad, &server).await.id(), server.id(), "R54: a ban that was lifted");
}

#[tokio::test]
async fn lower_limits_drop_the_youngest_that_are_nothing_special() {
    let trusted = client().await;
    let server = start(listening().protocol(echo()).max_peers(10).max_inbound(10).trusted(nowhere(&trusted))).await;
    let mut events = server.events();
    let (oldest, middle) = (client().await, client().await);
    for one in [&oldest, &middle, &trusted] {
        dial(one, &server).await;
        added(&mut events).await;
    }
    let outbound = client().await;
    dial(&server, &outbound).await;
    added(&mut events).await;

    let mut limits = server.limits();
    limits.max_inbound = 11;
    assert_eq!(server.set_limits(limits).unwrap_err().setting, "max_inbound", "R77");
    limits.max_inbound = 1;
    let surplus: Vec<_> = server.set_limits(limits).unwrap().iter().map(capmux::Peer::id).collect();
    assert_eq!(surplus, [middle.id()], "R67: the youngest inbound peer, but not the trusted one");
    let (id, ending) = dropped(&mut events).await;
    assert_eq!((id, ending.reason()), (middle.id(), Some(DisconnectReason::TooManyPeers)), "R67");
    (limits.max_peers, limits.max_outbound) = (2, 2);
    let surplus: Vec<_> = server.set_limits(limits).unwrap().iter().map(capmux::Peer::id).collect();
    assert_eq!(surplus, [outbound.id()], "R67: then the youngest of all");
    assert_eq!(dropped(&mut events).await.0, outbound.id(), "R67");
    assert!(server.peer(&oldest.id()).is_some() && server.peer(&trusted.id()).is_some(), "R67: the others stay");
}

#[tokio::test]
async fn settings_of_limits_that_will_not_do_are_named() {
    for (settings, name) in [
        (listening().max_peers(3).max_inbound(4), "max_inbound"),
        (listening().max_peers(3).max_outbound(4), "max_outbound"),
        (listening().max_per_address(0), "max_per_address"),
        (listening().max_per_subnet(0), "max_per_subnet"),
    ] {
        let error = settings.start().await.expect_err("R77").to_string();
        assert!(error.contains(name), "R77 {name}: {error}");
    }
    for (most, inbound, outbound) in [(50, 34, 16), (1, 1, 1), (3, 2, 1)] {
        let limits = start(listening().protocol(echo()).max_peers(most)).await.limits();
        assert_eq!((limits.max_inbound, limits.max_outbound), (inbound, outbound), "R44");
    }
    let server = start(listening().protocol(echo())).await;
    let mut limits = server.accept_limits();
    limits.max_pending = 0;
    assert_eq!(server.set_accept_limits(limits).unwrap_err().setting, "max_pending", "R77");
}

/// Connects from this address, of which only Linux has many without being told.
#[cfg(target_os = "linux")]
async fn connect_from(ip: [u8; 4], server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((ip, 0))).expect("all of 127.0.0.0/8 is here");
    let address = server.local_addr().expect("it listens");
    soon(socket.connect(address)).await.expect("the kernel accepts")
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_flood_from_one_subnet_leaves_places_to_others() {
    let long = Duration::from_secs(600);
    let settings = listening().protocol(echo()).limit_local_addresses(true).max_pending(10).encryption_timeout(long);
    let server = start(settings).await;
    let mut events = server.events();
    let mut silent = Vec::new();
    for last in 1..=5 {
        silent.push(connect_from([127, 0, 1, last], &server).await);
    }
    for last in [1, 2] {
        let mut stream = connect_from([127, 0, 1, last], &server).await;
        assert_eq!(read_to_end(&mut stream).await, 0, "H20: the same address again is closed unread");
    }
    let mut stream = connect_from([127, 0, 1, 6], &server).await;
    assert_eq!(read_to_end(&mut stream).await, 0, "R44 H19: one subnet has half of the places");
    assert_eq!(server.status().pending, 5, "H19");
    let told = event(&mut events).await;
    let Event::ClosedUnread { refusal, count, remote_addr, .. } = told else { panic!("{told:?}") };
    assert_eq!((refusal, count), (Refusal::TooSoon, 1), "H20");
    assert_eq!(remote_addr.map(|address| address.ip()), Some([127, 0, 1, 1].into()), "H20");

    dial(&start(node().protocol(echo())).await, &server).await;
    assert!(added(&mut events).await.remote_addr().is_some(), "H19: an honest peer from elsewhere at the first try");
    drop(silent);
}
