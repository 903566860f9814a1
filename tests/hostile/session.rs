//! Peers that break the base protocol, or stop in the middle of it: H25, H39, H47 to H49 and H52.

use std::time::Duration;

use capmux::p2p::MAX_MESSAGE_SIZE;
use capmux::{DisconnectReason, NodeId, PublicKey};
use capmux_conformance::{Incoming, Script};
use tokio::time::Instant;

use crate::arena::{Scene, TIMES};
use crate::support::{assert_elapsed, noise, sink, soon};

/// Longer than any limit.
const LONG: Duration = Duration::from_secs(120);

/// After a Disconnect.
const GRACE: Duration = Duration::from_secs(2);

/// The first id of `bulk`.
const FIRST: u64 = 0x10;

/// The steps of the timer.
const STEPS: Duration = Duration::from_millis(5);

/// The id of the node that a script is.
pub(crate) fn id(script: &Script) -> NodeId {
    PublicKey::from_bytes(&script.identity.public_key()).expect("it is a key").node_id()
}

#[test]
pub(crate) fn a_frame_that_never_comes_whole_is_closed_at_thirty_seconds() {
    let large = |node: capmux::ServerBuilder| node.protocol(sink("bulk", 4).max_message_size(MAX_MESSAGE_SIZE));
    Scene::of("H25").settings(large).at_once(TIMES).repeat(async |arena, number| {
        let mut script = arena.peer().await;
        let header = script.egress().header(0xff_ffff, &[0xc2, 0x80, 0x80]);
        script.send_raw("a header", &[&header[..], &vec![7; 20 * number]].concat()).await;
        let ending = script.ending(LONG).await.expect("sound frames");
        ending.expect_closed().expect("H25: it is closed");
        let limit = Duration::from_secs(30);
        assert!(ending.after >= limit && ending.after <= limit + GRACE + STEPS, "H25: at 30 s: {ending}");
    });
}

#[test]
pub(crate) fn who_says_no_hello_is_closed_at_five_seconds() {
    Scene::of("H39").at_once(TIMES).repeat(async |arena, _| {
        let mut script = arena.encrypted().await;
        let ending = script.ending(LONG).await.expect("sound frames");
        ending.expect_closed().expect("H39: it is closed");
        let limit = Duration::from_secs(5);
        assert!(ending.after >= limit && ending.after <= limit + STEPS, "H39: at 5 s: {ending}");
    });
}

#[test]
pub(crate) fn a_flood_of_pings_gets_few_pongs_and_an_end() {
    const PINGS: usize = 2_000;
    Scene::of("H47").at_once(5).repeat(async |arena, _| {
        let mut script = arena.peer().await;
        let content = script.content(2, &[0xc0]);
        let flood: Vec<u8> = (0..PINGS).flat_map(|_| script.egress().seal(&content)).collect();
        script.send_raw("Pings", &flood).await;
        let ending = script.ending(LONG).await.expect("sound frames");
        ending.expect_reason(&[2]).unwrap_or_else(|stop| panic!("H47: D0x02: {stop}"));
        // Of a Pong two bytes are counted, of the Disconnect no more than four.
        assert!(ending.bytes <= 2 * 128 + 4, "H47: bounded Pongs: {ending}");
        assert!(ending.after <= GRACE + STEPS, "H47 H52: {ending}");
    });
}

#[test]
pub(crate) fn large_pings_and_pongs_end_the_connection() {
    Scene::of("H48").at_once(10).repeat(async |arena, number| {
        let mut script = arena.peer().await;
        let id = 2 + (number % 2) as u64;
        script.send("a large Ping or Pong", id, &noise(number as u64, 2049 + 100 * number)).await;
        let ending = script.ending(LONG).await.expect("sound frames");
        ending.expect_reason(&[2]).unwrap_or_else(|stop| panic!("H48: D0x02: {stop}"));
    });
}

#[test]
pub(crate) fn who_never_says_pong_is_told_at_thirty_five_seconds() {
    Scene::of("H49").at_once(TIMES).repeat(async |arena, _| {
        let mut script = arena.peer().await;
        let since = Instant::now();
        let asked = script.receive(LONG).await.expect("sound frames");
        assert!(matches!(asked, Incoming::Message { id: 2, .. }), "H49: a Ping after silence: {asked}");
        let said = loop {
            script.send("data", FIRST, b"data").await;
            match script.receive(Duration::from_secs(1)).await.expect("sound frames") {
                Incoming::Message { id: 1, data } => break data,
                Incoming::Closed(closed) => panic!("H49: {closed:?} without a word"),
                _ => assert!(since.elapsed() < LONG, "H49: it is closed"),
            }
        };
        assert_eq!(said, [0xc1, 0x0b], "H49: D0x0b");
        assert_elapsed(since, Duration::from_secs(35), "H49: data is no Pong");
    });
}

#[test]
pub(crate) fn who_ignores_a_disconnect_is_closed_within_two_seconds() {
    Scene::of("H52").at_once(TIMES).repeat(async |arena, number| {
        let mut script = arena.peer().await;
        let peer = soon(async {
            loop {
                match arena.server.peer(&id(&script)) {
                    Some(peer) => return peer,
                    None => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        peer.disconnect(DisconnectReason::Requested);
        let since = Instant::now();
        if number % 2 == 0 {
            // It does not even read.
            soon(peer.closed()).await;
            assert!(since.elapsed() <= GRACE + STEPS, "H52: within 2 s: {:?}", since.elapsed());
        }
        let ending = script.ending(LONG).await.expect("sound frames");
        ending.expect_reason(&[0]).unwrap_or_else(|stop| panic!("H52: {stop}"));
        assert!(since.elapsed() <= GRACE + STEPS, "H52: within 2 s: {ending}");
    });
}
