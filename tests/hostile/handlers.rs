//! Peers that break a subprotocol, and handlers that break at them: H57 to H59 and H62.

use std::panic::resume_unwind;
use std::time::Duration;

use capmux::{Protocol, ServerBuilder};

use crate::arena::Scene;
use crate::support::sink;

/// Longer than any limit.
const LONG: Duration = Duration::from_secs(60);

/// The message ids after those of `echo`, which has two.
const FIRST: u64 = 0x12;

/// A handler that does what it is told by the code: it fails, panics, or returns. Its sibling would stay.
fn fragile(node: ServerBuilder) -> ServerBuilder {
    let fragile = Protocol::from_fn("fragile", 1, 3, |_peer, mut channel| async move {
        let Some(message) = channel.recv().await else { return Ok(()) };
        match message.code {
            0 => message.decode::<u64>().map(drop).map_err(Into::into),
            // As a panic, but without its report, which the test runner would keep.
            1 => resume_unwind(Box::new("a handler that panics")),
            _ => Ok(()),
        }
    });
    node.protocol(fragile).protocol(sink("sibling", 1))
}

/// Sends this once, and is told this reason.
fn ends_with(row: &'static str, code: u64, data: &'static [u8], reason: u64) {
    Scene::of(row).settings(fragile).at_once(10).repeat(async |arena, _| {
        let mut script = arena.peer().await;
        script.send("what the handler breaks at", FIRST + code, data).await;
        let ending = script.ending(LONG).await.expect("sound frames");
        ending.expect_reason(&[reason]).unwrap_or_else(|stop| panic!("{row}: {stop}"));
        assert_eq!(ending.disconnects, 1, "{row}: one Disconnect: {ending}");
    });
}

#[test]
pub(crate) fn a_malformed_body_ends_that_peer_alone() {
    ends_with("H57", 0, b"\xb8\xff", 0x10);
}

#[test]
pub(crate) fn a_handler_that_panics_ends_that_peer_alone() {
    ends_with("H58", 1, b"", 0x10);
}

#[test]
pub(crate) fn a_handler_that_returns_leaves_no_sibling() {
    ends_with("H59", 2, b"", 0x08);
}

#[test]
pub(crate) fn answers_to_nothing_and_bad_counts_are_refused() {
    let kv = |node: ServerBuilder| node.protocol(capmux_kv::Kv::new(capmux_kv::Settings::default()).0);
    // An answer whose body is no RLP, a count of 0, and one of u64::MAX.
    let bad: [(u64, &[u8]); 3] = [
        (1, b"\xc2\x07\xb8"),
        (4, b"\xc4\x07\xc2\x80\x80"),
        (4, b"\xcc\x07\xca\x80\x88\xff\xff\xff\xff\xff\xff\xff\xff"),
    ];
    Scene::of("H62").settings(kv).at_once(10).repeat(async |arena, number| {
        let mut script = arena.peer().await;
        let (code, data) = bad[number % bad.len()];
        script.send("what nobody asked for", FIRST + code, data).await;
        let ending = script.ending(LONG).await.expect("sound frames");
        ending.expect_reason(&[0x10]).unwrap_or_else(|stop| panic!("H62: {stop}"));
    });
}
