//! Who comes too often, at the same time, or not at all: H20, H63, H64 and H67 to H69.

use std::net::IpAddr;
use std::time::Duration;

use capmux::testing::node;
use capmux::{NodeAddr, NodeKey, PeerError, PublicKey, Server, Transport, p2p::SessionError};
use capmux_conformance::model::Node;
use capmux_conformance::{Script, Transcript, Visit};
use tokio::time::{Instant, sleep, timeout};

use crate::arena::{Arena, Scene, TIMES};
use crate::dialled::Trap;
use crate::session::id;
use crate::support::{echo, sink, soon};

const MINUTE: Duration = Duration::from_secs(60);

/// A connection from this host on which nothing has been said.
async fn stranger(arena: &Arena, host: &str) -> Script {
    let host = arena.network().host(host);
    let stream =
        soon(host.dial(&arena.network().host(crate::arena::HOST).address(), MINUTE)).await.expect("it listens");
    Script::new(stream.into_stream(), Node::random().expect("random numbers"), Transcript::default())
}

/// Whether the server lets a connection from this host in: then it waits for an `auth`.
async fn is_let_in(arena: &Arena, host: &str) -> bool {
    let mut script = stranger(arena, host).await;
    let ending = script.ending(Duration::from_secs(1)).await.expect("nothing is encrypted");
    assert_eq!(ending.bytes, 0, "H20: closed before cryptography");
    assert!(ending.closed.is_none() || ending.after.is_zero(), "H20: unread: {ending}");
    ending.closed.is_none()
}

#[test]
pub(crate) fn the_same_address_again_is_closed_unread_for_thirty_seconds() {
    Scene::of("H20").at_once(10).repeat(async |arena, number| {
        let (first, again) = match number % 2 {
            0 => (format!("8.8.{number}.8"), format!("8.8.{number}.8")),
            _ => (format!("2a00:0:0:{number:x}::1"), format!("2a00:0:0:{number:x}:1:2:3:4")),
        };
        assert!(is_let_in(arena, &first).await, "H20: {first} for the first time");
        assert!(!is_let_in(arena, &again).await, "H20: {again} is the same");
        let key = NodeKey::random();
        let trusted: IpAddr = first.parse().expect("an address");
        arena.server.add_trusted(NodeAddr::new(key.public_key(), [(trusted, 1).into()].map(capmux::Address::Ip)));
        assert!(is_let_in(arena, &first).await, "H20: trusted peers are exempt");
        arena.server.remove_trusted(&key.node_id());
        sleep(Duration::from_secs(31)).await;
        assert!(is_let_in(arena, &again).await, "H20: after 30 s");
    });
}

#[test]
pub(crate) fn of_two_dials_at_once_one_connection_survives() {
    Scene::of("H63").repeat(async |arena, number| {
        let network = arena.network();
        let latency = Duration::from_millis(1 + number as u64);
        let hosts = [format!("10.0.3.{number}"), format!("10.0.4.{number}")];
        network.set_latency_between(&hosts[0], &hosts[1], latency, latency * 2);
        let start = async |host: &str| {
            let host = network.host(host);
            let settings = node().protocol(echo()).listen_on(host.address()).transport(host);
            settings.start().await.expect("the settings are good")
        };
        let [one, other] = [start(&hosts[0]).await, start(&hosts[1]).await];
        let to = |server: &Server| server.node_addr().expect("it listens");
        let dials = async { tokio::join!(one.dial(to(&other)), other.dial(to(&one))) };
        let (Ok(_), Ok(_)) = soon(dials).await else { panic!("H63: both dials lead to a peer") };
        sleep(Duration::from_secs(5)).await;
        let (at_one, at_other) = (one.peers(), other.peers());
        let ([at_one], [at_other]) = (&at_one[..], &at_other[..]) else { panic!("H63: exactly one: {at_one:?}") };
        assert_eq!(at_one.local_address(), at_other.remote_address(), "H63: the same at both ends");
        assert_ne!(at_one.direction(), at_other.direction(), "H63");
        one.shutdown().await;
        other.shutdown().await;
    });
}

#[test]
pub(crate) fn with_all_inbound_places_taken_outbound_and_trusted_peers_connect() {
    // The honest peers, and one place more.
    let few = |node: capmux::ServerBuilder| node.protocol(sink("bulk", 4)).max_inbound(4).max_peers(8);
    Scene::of("H64").settings(few).repeat(async |arena, number| {
        let filler = arena.peer().await;
        let refused = arena.visit().greet().await;
        match refused {
            Ok(mut script) => {
                let ending = script.ending(MINUTE).await.expect("sound frames");
                ending.expect_reason(&[4]).unwrap_or_else(|stop| panic!("H64: D0x04: {stop}"));
            }
            // It came before the Hello.
            Err(stop) => assert!(stop.to_string().contains("0x04"), "H64: D0x04: {stop}"),
        }
        let host = arena.network().host(&format!("10.0.5.{number}"));
        let settings = node().protocol(echo()).listen_on(host.address()).transport(host);
        let other = settings.start().await.expect("the settings are good");
        let address = other.node_addr().expect("it listens");
        let peer = soon(arena.server.dial(address.clone())).await.expect("H64: outbound peers connect");
        peer.disconnect(capmux::DisconnectReason::Requested);
        soon(peer.closed()).await;
        arena.server.add_trusted(address);
        let own = arena.server.node_addr().expect("it listens");
        soon(other.dial(own)).await.expect("H64: trusted peers connect");
        arena.server.remove_trusted(&other.id());
        other.shutdown().await;
        drop(filler);
        sleep(Duration::from_secs(3)).await;
    });
}

#[test]
pub(crate) fn persistent_peers_that_are_down_for_an_hour_come_back() {
    let pace = Duration::from_secs(20);
    Scene::of("H67").at_once(TIMES).pace(pace).repeat(async |arena, number| {
        let host = arena.network().host(&format!("10.0.6.{}", number % TIMES));
        // The same nodes again, which the book knows from the first time.
        let key = NodeKey::from_bytes(&[1 + (number % TIMES) as u8; 32]).expect("it is a key");
        let address = NodeAddr::new(key.public_key(), [host.address()]);
        arena.server.add_peer(address.clone()).expect("there is room");
        sleep(60 * MINUTE).await;
        let settings = Server::builder(key).protocol(echo()).listen_on(host.address()).transport(host);
        let back = settings.start().await.expect("the settings are good");
        // The cap of ten minutes and its jitter.
        timeout(Duration::from_secs(661), async {
            while back.peers().is_empty() {
                sleep(Duration::from_secs(1)).await;
            }
        })
        .await
        .expect("H67: it reconnects within the cap");
        arena.server.remove_peer(&back.id()).expect("it is known");
        back.shutdown().await;
    });
}

#[test]
pub(crate) fn persistent_peers_that_refuse_are_left_alone_for_35_seconds() {
    Scene::of("H68").at_once(TIMES).repeat(async |arena, number| {
        let mut trap = Trap::open(arena, number % TIMES).await;
        arena.server.add_peer(trap.address.clone()).expect("there is room");
        let mut dials: Vec<Instant> = Vec::new();
        let _ = timeout(10 * MINUTE, async {
            loop {
                let mut script = trap.answer().await;
                dials.push(Instant::now());
                script.send("Disconnect", 1, &[0xc1, 4 + (number % 2) as u8]).await;
                script.ending(Duration::from_secs(5)).await.expect("H68: sound frames");
            }
        })
        .await;
        arena.server.remove_peer(&trap.address.node_id()).expect("it is known");
        let shortest = dials.windows(2).map(|pair| pair[1] - pair[0]).min();
        assert!(shortest >= Some(Duration::from_secs(35)), "H68: at least 35 s: {shortest:?} of {}", dials.len());
        assert!(dials.len() <= 18, "H68: {}", dials.len());
    });
}

#[test]
pub(crate) fn a_half_open_connection_is_noticed_within_35_seconds() {
    Scene::of("H69").repeat(async |arena, _| {
        let network = arena.network();
        let lost = "10.0.7.1";
        let visit = Visit::new(arena.node.over(network.host(lost)).into());
        let script = visit.greet().await.expect("the server answers");
        let peer = soon(async {
            loop {
                match arena.server.peer(&id(&script)) {
                    Some(peer) => return peer,
                    None => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        network.partition([&[lost][..]]);
        let since = Instant::now();
        let ending = soon(peer.closed()).await;
        let (expected, after) = (PublicKey::from_bytes(&script.identity.public_key()), since.elapsed());
        assert_eq!(expected.map(|key| key.node_id()), Ok(peer.id()), "H69");
        assert!(matches!(ending.error(), PeerError::Session(SessionError::PingTimeout { .. })), "H69: {ending}");
        // And two seconds for a word that nobody hears.
        assert!(after <= Duration::from_secs(37) + Duration::from_millis(10), "H69: within 35 s: {after:?}");
        network.heal();
    });
}
