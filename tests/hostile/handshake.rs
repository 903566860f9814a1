//! Before two ends have keys: H1 to H12 and H16.

use std::time::Duration;

use capmux::rlpx::HandshakeError;
use capmux::{Event, PeerError};
use capmux_conformance::model::handshake::{point, seal, seal_with};
use capmux_conformance::{Ending, Script, model};
use tokio::time::{Instant, sleep};

use crate::arena::{Arena, OWN_KEY, Scene, TIMES};
use crate::support::{assert_elapsed, noise, soon};

/// The limit of the encryption handshake.
const LIMIT: Duration = Duration::from_secs(5);

/// Longer than any limit.
const LONG: Duration = Duration::from_secs(60);

/// The key of the server, for which handshake messages are made.
fn own_key() -> [u8; 64] {
    model::Node::new(OWN_KEY).public_key()
}

/// The server closes without a byte, and at once: what else it were would tell what was wrong.
async fn assert_closes_at_once(mut script: Script, row: &str) {
    assert_closes(&mut script, Duration::ZERO, row).await;
}

/// The server closes without a byte, after this time.
async fn assert_closes(script: &mut Script, expected: Duration, row: &str) -> Ending {
    let ending = script.ending(LONG).await.expect("nothing is encrypted");
    ending.expect_silent().unwrap_or_else(|stop| panic!("{row}: {stop}"));
    let late = Duration::from_millis(3);
    assert!((expected..=expected + late).contains(&ending.after), "{row}: {ending}");
    ending
}

#[test]
pub(crate) fn silent_connections_are_closed_at_five_seconds() {
    Scene::of("H1").at_once(TIMES).repeat(async |arena, _| {
        assert_closes(&mut arena.stranger().await, LIMIT, "H1: 5 s").await;
    });
}

#[test]
pub(crate) fn an_auth_at_a_byte_a_second_is_closed_at_five_seconds() {
    Scene::of("H2").at_once(TIMES).repeat(async |arena, _| {
        let mut script = arena.stranger().await;
        let (since, auth) = (Instant::now(), script.identity.auth(&own_key()).seal());
        for byte in &auth[..5] {
            script.send_raw("a byte of auth", &[*byte]).await;
            if since.elapsed() < Duration::from_secs(4) {
                sleep(Duration::from_secs(1)).await;
            }
        }
        script.ending(LONG).await.expect("nothing is encrypted").expect_silent().expect("H2");
        assert_elapsed(since, LIMIT, "H2: the same absolute 5 s");
    });
}

#[test]
pub(crate) fn auths_of_any_size_up_to_200_are_closed_at_once() {
    Scene::of("H3").repeat(async |arena, number| {
        for size in (number % TIMES..=200).step_by(TIMES) {
            let message = [&(size as u16).to_be_bytes()[..], &noise(size as u64, size)].concat();
            let mut script = arena.stranger().await;
            script.send_raw("auth", &message).await;
            assert_closes_at_once(script, "H3").await;
        }
    });
}

#[test]
pub(crate) fn sizes_above_2048_are_closed_after_the_two_bytes() {
    Scene::of("H4").at_once(TIMES).repeat(async |arena, number| {
        let size = 2049 + (65_535 - 2049) * (number % TIMES) / (TIMES - 1);
        let mut script = arena.stranger().await;
        script.send_raw("a size", &(size as u16).to_be_bytes()).await;
        assert_closes_at_once(script, "H4: no byte more is waited for").await;
    });
}

#[test]
pub(crate) fn bad_points_are_closed_at_once() {
    Scene::of("H5 H6").repeat(async |arena, number| {
        for point in bad_points(number as u8) {
            let mut script = arena.stranger().await;
            script.send_raw("auth", &seal_with(&point, &[7; 32], &[0; 300])).await;
            assert_closes_at_once(script, "H5 H6: as H9").await;
        }
    });
}

/// Zero, off the curve, on its twist, coordinates that are too large, and another first byte.
pub(crate) fn bad_points(seed: u8) -> Vec<[u8; 65]> {
    let mut off_curve = [0; 64];
    (off_curve[31], off_curve[63]) = (1, seed.max(1));
    let too_large = [0xff; 64];
    let mut good = model::Node::new(1 + seed % 90).public_key();
    let other = point(2, &good);
    // -y does not belong to x + 1, but for one chance in 2^255.
    good[31] ^= 1;
    vec![point(4, &[0; 64]), point(4, &off_curve), point(4, &too_large), point(4, &good), other]
}

#[test]
pub(crate) fn a_flipped_byte_is_closed_without_an_answer() {
    Scene::of("H8").at_once(TIMES).repeat(async |arena, number| {
        let mut script = arena.stranger().await;
        let mut auth = script.identity.auth(&own_key()).seal();
        let place = number % TIMES * (auth.len() - 1) / (TIMES - 1);
        auth[place] ^= 1 << (number % 8);
        script.send_raw("auth", &auth).await;
        // A size that is too large lets it wait for more, until its limit.
        let ending = script.ending(LONG).await.expect("nothing is encrypted");
        ending.expect_silent().unwrap_or_else(|stop| panic!("H8: byte {place}: {stop}"));
        assert!(ending.after <= LIMIT + Duration::from_millis(3), "H8: byte {place}: {ending}");
    });
}

#[test]
pub(crate) fn a_bad_tag_is_closed_like_a_bad_point() {
    Scene::of("H9").at_once(10).repeat(async |arena, number| {
        let mut script = arena.stranger().await;
        let mut auth = script.identity.auth(&own_key()).seal();
        let last = auth.len() - 1;
        auth[last - number % 32] ^= 0x40;
        script.send_raw("auth", &auth).await;
        assert_closes_at_once(script, "H9: as H5").await;
    });
}

#[test]
pub(crate) fn bodies_that_are_no_list_or_hold_no_keys_are_closed_without_an_ack() {
    Scene::of("H10 H11").at_once(10).repeat(async |arena, number| {
        for body in bad_bodies(number) {
            let mut script = arena.stranger().await;
            script.send_raw("auth", &seal(&own_key(), &body)).await;
            assert_closes_at_once(script, "H10 H11").await;
        }
        for change in 0..5 {
            let mut script = arena.stranger().await;
            let mut auth = script.identity.auth(&own_key());
            match change {
                0 => auth.public_key = [0; 64],
                1 => auth.public_key = [0xff; 64],
                2 => auth.signature[..32].fill(0),
                3 => auth.signature[32..64].fill(0xff),
                _ => auth.signature[64] = 4,
            }
            script.send_raw("auth", &auth.seal()).await;
            assert_closes_at_once(script, "H11").await;
        }
    });
}

/// Not a list, not a whole one, one of lists only, and noise.
fn bad_bodies(number: usize) -> Vec<Vec<u8>> {
    vec![vec![0; 300], vec![0xf9; 300], [vec![0xc1; 1_500], vec![0xc0]].concat(), noise(number as u64, 400).to_vec()]
}

#[test]
pub(crate) fn newer_versions_are_connected() {
    Scene::of("H12").at_once(10).repeat(async |arena, number| {
        let mut script = arena.stranger().await;
        let mut auth = script.identity.auth(&own_key());
        // Version 99, a string and a list more, and padding up to the limit.
        auth.rest.items = vec![99, 0x83, 1, 2, 3, 0xc2, 5, 6];
        auth.rest.padding = 100 + 31 * (number % TIMES);
        let auth = auth.seal();
        assert!(auth.len() <= 2 + 2048, "H12");
        script.send_raw("auth", &auth).await;
        connect(arena, script, auth).await;
    });
}

/// Reads the ack, and says Hello.
async fn connect(arena: &Arena, mut script: Script, auth: Vec<u8>) {
    let size = script.receive_raw(2, LONG).await.expect("H12: an ack");
    let length = usize::from(u16::from_be_bytes([size[0], size[1]]));
    let ack = [size, script.receive_raw(length, LONG).await.expect("H12: all of it")].concat();
    let connection = script.identity.read_ack(auth, ack).expect("H12: a sound one");
    script.encrypt(connection);
    let hello = arena.node.mirror(&script.identity.public_key());
    script.send("Hello", 0, &hello.encode()).await;
    script.expect(0, LONG).await.expect("H12: a Hello");
    script.set_compressed(true);
    script.ping().await.expect("H12: a Pong");
}

#[test]
pub(crate) fn an_auth_with_our_own_key_is_refused_as_what_it_is() {
    Scene::of("H16").repeat(async |arena, _| {
        let mut events = arena.server.events();
        let mut script = arena.stranger().await;
        script.send_raw("auth", &model::Node::new(OWN_KEY).auth(&own_key()).seal()).await;
        assert_closes_at_once(script, "H16").await;
        let Event::Refused { ending, .. } = soon(events.recv()).await.expect("it lives") else { panic!("H16") };
        let expected = PeerError::Handshake(HandshakeError::ConnectedToSelf);
        assert_eq!(ending.error().to_string(), expected.to_string(), "H16: ConnectedToSelf");
    });
}
