//! What only sockets show: H19, H30, and how many descriptors there are at the most.

use std::net::TcpStream;
use std::time::Duration;

use capmux_conformance::cases;
use tokio::time::sleep;

use crate::account::descriptors;
use crate::arena::{Scene, TIMES, alone, runtime};
use crate::support::{dial, echo, listening, soon, start};

/// Longer than any limit, on a machine that is busy.
const LONG: Duration = Duration::from_secs(60);

#[test]
pub(crate) fn streams_that_end_anywhere_release_their_descriptors() {
    Scene::of("H30").on_sockets().at_once(5).repeat(async |arena, number| {
        let mut script = arena.peer().await;
        let stream: Vec<u8> =
            (0..3u8).flat_map(|seed| script.egress().seal(&[&[0x10, 40, 156][..], &[seed; 40]].concat())).collect();
        let place = number % TIMES * stream.len() / TIMES;
        script.send_raw("the beginning of frames", &stream[..place]).await;
        match number % 2 {
            0 => {
                script.finish().await;
                let ending = script.ending(LONG).await.expect("sound frames");
                ending.expect_closed().unwrap_or_else(|stop| panic!("H30: at {place}: {stop}"));
            }
            _ => script.reset(),
        }
    });
}

#[test]
pub(crate) fn strangers_that_hang_up_or_talk_nonsense_release_their_descriptors() {
    Scene::of("H1 H3 H5 H10").on_sockets().at_once(10).repeat(async |arena, number| {
        let mut script = arena.stranger().await;
        match number % 4 {
            0 => return script.reset(),
            1 => script.finish().await,
            2 => script.send_raw("a size", &[0x08, 0x01]).await,
            _ => script.send_raw("auth", &[&[1, 0][..], &[0; 256]].concat()).await,
        }
        let ending = script.ending(LONG).await.expect("nothing is encrypted");
        ending.expect_silent().unwrap_or_else(|stop| panic!("H30: {stop}"));
    });
}

#[test]
pub(crate) fn the_cases_of_the_suite_release_their_descriptors() {
    // What waits for a limit of the server is run in virtual time.
    let quick = |name: &str| ["rlpx/auth/point-off-curve", "rlpx/auth/honest", "p2p/disconnect/closes"].contains(&name);
    let cases: Vec<_> = cases().into_iter().filter(|case| quick(case.name)).collect();
    assert_eq!(cases.len(), 3);
    Scene::of("H5 H50").on_sockets().at_once(10).repeat(async |arena, number| {
        let result = cases[number % cases.len()].visit(arena.node.clone()).await;
        assert_eq!(result.outcome, capmux_conformance::Outcome::Passed, "{}: {}", result.case.name, result.seen);
    });
}

#[test]
pub(crate) fn of_silent_sockets_fifty_have_descriptors() {
    let _turn = alone();
    let runtime = runtime(false);
    runtime.block_on(async {
        let server = start(listening().protocol(echo())).await;
        let client = start(capmux::testing::node().protocol(echo())).await;
        let peer = dial(&client, &server).await;
        let address = server.local_addr().expect("it listens");
        let before = descriptors();
        for round in 0..10 {
            let mut silent = Vec::new();
            for _ in 0..10 {
                silent.extend((0..TIMES).map(|_| TcpStream::connect(address).expect("it connects")));
                // The server is on this thread: it accepts what waits for it.
                sleep(Duration::from_millis(20)).await;
            }
            sleep(Duration::from_millis(50)).await;
            soon(peer.ping()).await.expect("H19: honest peers go on");
            let status = server.status();
            assert!(status.pending <= 50, "H19: {} pending", status.pending);
            // Those of the attacker are in this process, too.
            let taken = descriptors().saturating_sub(before + silent.len());
            assert!(taken <= 50 + 8, "H19: {taken} descriptors for {} pending, round {round}", status.pending);
            drop(silent);
            soon(async {
                while server.status().pending > 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
        }
        drop((server, client));
    });
}
