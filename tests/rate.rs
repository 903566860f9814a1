//! How many messages of one protocol a peer may send. All times are given.

#[allow(dead_code, reason = "each test takes what it needs")]
mod common;

use std::time::{Duration, Instant};

use capmux::p2p::{DisconnectReason, RATE_PATIENCE, RateLimit, Registered, Session, SessionError};
use common::session::{capability, registered, session};

/// A session with `free/1`, which has no limit, and `slow/1`, which has ten a second and five at once.
fn start() -> (Session, Instant) {
    let start = Instant::now();
    let slow = Registered { rate: Some(limit(10, 5)), ..registered("slow", 1, 1) };
    (session(5, &[registered("free", 1, 1), slow], start), start)
}

fn limit(per_second: u32, burst: u32) -> RateLimit {
    RateLimit::new(per_second, burst).expect("neither is 0")
}

#[test]
fn each_protocol_has_its_own_rate() {
    let (mut session, now) = start();
    for _ in 0..100_000 {
        assert_eq!(session.admit(0, now), Ok(None), "R28: no limit");
    }
    for _ in 0..5 {
        assert_eq!(session.admit(1, now), Ok(None), "R28: the burst");
    }
    let pause = session.admit(1, now).unwrap();
    assert_eq!(pause, Some(Duration::from_millis(100)), "R28: slowed to the rate");
    assert_eq!(session.admit(1, now + Duration::from_millis(200)), Ok(None), "R28: and let in again");
    assert_eq!(session.admit(7, now), Ok(None), "there is no such protocol");
}

#[test]
fn a_sustained_breach_ends_the_session() {
    let (mut session, start) = start();
    let mut now = start;
    let error = loop {
        match session.admit(1, now) {
            Ok(pause) => now += pause.unwrap_or_default(),
            Err(error) => break error,
        }
    };
    assert!(now - start >= RATE_PATIENCE, "R28: not before {RATE_PATIENCE:?}");
    assert!(now - start <= RATE_PATIENCE + Duration::from_secs(1), "R28: {:?}", now - start);
    assert_eq!(error, SessionError::RateExceeded { capability: capability("slow", 1), limit: limit(10, 5) }, "R28");
    assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "R28");
    assert!(error.to_string().contains("slow/1"), "R28: {error}");
}

#[test]
fn a_rate_changes_while_the_session_runs() {
    let (mut session, now) = start();
    session.set_rate(1, None, now);
    assert!((0..1000).all(|_| session.admit(1, now) == Ok(None)), "R28: lifted");
    session.set_rate(0, Some(limit(1, 2)), now);
    let free = (0..10).take_while(|_| session.admit(0, now) == Ok(None)).count();
    assert_eq!(free, 2, "R28: a limit where there was none");
    session.set_rate(0, Some(limit(1000, 2)), now);
    assert_eq!(session.admit(0, now), Ok(Some(Duration::from_millis(1))), "R28: what is used up stays used up");
    assert_eq!(session.admit(0, now + Duration::from_millis(3)), Ok(None), "R28: and comes back at the new rate");
}

#[test]
fn a_limit_can_come_where_no_protocol_had_one() {
    let now = Instant::now();
    for place in [0, 1] {
        let mut session = session(5, &[registered("a", 1, 1), registered("b", 1, 1)], now);
        assert_eq!([session.rate(0), session.rate(1)], [None, None], "R28");
        session.set_rate(place, Some(limit(1, 2)), now);
        assert_eq!(session.rate(place), Some(limit(1, 2)), "R28");
        assert_eq!((session.rate(1 - place), session.rate(2)), (None, None), "R28: the others have none");
        let free = |session: &mut Session, place| (0..10).take_while(|_| session.admit(place, now) == Ok(None)).count();
        assert_eq!((free(&mut session, place), free(&mut session, 1 - place)), (2, 10), "R28");
        session.set_rate(place, None, now);
        assert_eq!(session.rate(place), None, "R28");
    }
    let (session, _) = start();
    let registered = session.rate(1).expect("it has one");
    assert_eq!((registered.per_second(), registered.burst(), session.rate(0)), (10, 5, None), "R28");
}
