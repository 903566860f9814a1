//! Ping, Pong and their deadlines, to the millisecond. All times are given.

#[allow(dead_code, reason = "each test takes what it needs")]
mod common;

use std::time::{Duration, Instant};

use capmux::p2p::{
    DisconnectReason, Event, LivenessSettings, LivenessSettingsError, MAX_TIMEOUT, Session, SessionError, TimerAction,
};
use common::session::{frame, hello, registered, session};

const MILLISECOND: Duration = Duration::from_millis(1);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A session with a subprotocol, and the time it began.
fn start() -> (Session, Instant) {
    let start = Instant::now();
    (session(4, &[registered("test", 1, 1)], start), start)
}

#[test]
fn the_defaults_are_15_20_and_60_seconds() {
    let expected = LivenessSettings { ping_after: seconds(15), pong_timeout: seconds(20), idle_timeout: seconds(60) };
    assert_eq!(LivenessSettings::default(), expected, "R24 R25 R30");
    assert_eq!(expected.check(), Ok(()), "R25");
}

#[test]
fn a_silent_peer_is_pinged_once_and_then_given_up() {
    let (mut session, start) = start();
    let ping_at = start + seconds(15);
    assert_eq!(session.poll(start), Ok(TimerAction::Wait(ping_at)), "R24");
    assert_eq!(session.poll(ping_at - MILLISECOND), Ok(TimerAction::Wait(ping_at)), "R24: not before 15 s");
    assert_eq!(session.poll(ping_at), Ok(TimerAction::Ping), "R24");
    let limit = ping_at + seconds(20);
    assert_eq!(session.poll(ping_at), Ok(TimerAction::Wait(limit)), "R24: never two outstanding");
    assert!(!session.ping(ping_at + seconds(1)), "R24: not even if the application asks");
    assert_eq!(session.poll(limit - MILLISECOND), Ok(TimerAction::Wait(limit)), "R25: not before 35 s");
    let error = session.poll(limit).unwrap_err();
    assert_eq!(error, SessionError::PingTimeout { limit: seconds(20) }, "R25 H69: at 35 s");
    assert_eq!(error.disconnect_reason(), Some(DisconnectReason::PingTimeout), "R25");
}

#[test]
fn traffic_puts_the_ping_off() {
    let (mut session, start) = start();
    session.inbound(start + seconds(10));
    assert_eq!(session.poll(start + seconds(15)), Ok(TimerAction::Wait(start + seconds(25))), "R24: bytes are traffic");
    session.receive(frame(&[0x10], &[]), start + seconds(20)).unwrap();
    assert_eq!(session.poll(start + seconds(25)), Ok(TimerAction::Wait(start + seconds(35))), "R24: so are messages");
    assert_eq!(session.poll(start + seconds(35)), Ok(TimerAction::Ping), "R24");
}

#[test]
fn traffic_does_not_stand_in_for_a_pong() {
    let (mut session, start) = start();
    assert_eq!(session.poll(start + seconds(15)), Ok(TimerAction::Ping));
    for second in 16..35 {
        let now = start + seconds(second);
        session.receive(frame(&[0x10], b"data"), now).unwrap();
        assert_eq!(session.poll(now), Ok(TimerAction::Wait(start + seconds(35))), "H49 R25: at {second} s");
    }
    let error = session.poll(start + seconds(35)).unwrap_err();
    assert_eq!(error.disconnect_reason(), Some(DisconnectReason::PingTimeout), "H49: 0x0b at 35 s");
}

#[test]
fn a_pong_tells_the_round_trip_and_starts_over() {
    let (mut session, start) = start();
    let sent = start + seconds(15);
    assert_eq!(session.poll(sent), Ok(TimerAction::Ping));
    let came = sent + MILLISECOND * 123;
    let event = session.receive(frame(&[0x03], &[0xc0]), came);
    assert_eq!(event, Ok(Event::Pong(Some(MILLISECOND * 123))), "R26");
    assert_eq!(session.poll(came), Ok(TimerAction::Wait(came + seconds(15))), "R24: and the next Ping waits again");
    assert_eq!(session.poll(came + seconds(15)), Ok(TimerAction::Ping), "R24");
    assert_eq!(session.unsolicited_pongs(), 0, "R26");
}

#[test]
fn pongs_nobody_asked_for_are_counted_and_change_nothing() {
    let (mut session, start) = start();
    for count in 1..=3 {
        let now = start + seconds(count);
        assert_eq!(session.receive(frame(&[0x03], &[0xc0]), now), Ok(Event::Pong(None)), "R26");
        assert_eq!(session.unsolicited_pongs(), count, "R26");
    }
    // One that came before the Ping is no answer to it.
    assert!(session.ping(start + seconds(4)), "R31: none is outstanding");
    let limit = start + seconds(24);
    assert_eq!(session.poll(start + seconds(5)), Ok(TimerAction::Wait(limit)), "R26 R25");
    let answer = session.receive(frame(&[0x03], &[0xc0]), start + seconds(6));
    assert_eq!(answer, Ok(Event::Pong(Some(seconds(2)))), "R26 R31");
    let second = session.receive(frame(&[0x03], &[0xc0]), start + seconds(6));
    assert_eq!((second, session.unsolicited_pongs()), (Ok(Event::Pong(None)), 4), "R26: one Ping, one Pong");
}

#[test]
fn a_connection_without_a_byte_is_given_up_whatever_else() {
    let (mut session, start) = start();
    let error = session.poll(start + seconds(60)).unwrap_err();
    assert_eq!(error, SessionError::IdleTimeout { limit: seconds(60) }, "R30: though no Ping was sent");
    assert_eq!(error.disconnect_reason(), Some(DisconnectReason::NetworkError), "R30");
    let (mut session, start) = self::start();
    assert_eq!(session.poll(start + seconds(60) - MILLISECOND), Ok(TimerAction::Ping), "R30: not before 60 s");
    let until = TimerAction::Wait(start + seconds(60));
    assert_eq!(session.poll(start + seconds(60) - MILLISECOND), Ok(until), "R30: which is sooner than the Pong's");
}

#[test]
fn time_in_which_this_end_did_not_read_does_not_count() {
    let (mut session, start) = start();
    session.excuse(seconds(100));
    assert_eq!(session.poll(start + seconds(114)), Ok(TimerAction::Wait(start + seconds(115))), "R10 R24");
    assert_eq!(session.poll(start + seconds(115)), Ok(TimerAction::Ping), "R24");
    session.excuse(seconds(100));
    let limit = start + seconds(115 + 20 + 100);
    assert_eq!(session.poll(limit - MILLISECOND), Ok(TimerAction::Wait(limit)), "R10 R25");
    assert!(matches!(session.poll(limit), Err(SessionError::PingTimeout { .. })), "R25");
}

#[test]
fn settings_have_their_effect() {
    let start = Instant::now();
    let settings = LivenessSettings { ping_after: seconds(1), pong_timeout: seconds(2), idle_timeout: seconds(9) };
    let mut session = Session::new(hello(5, vec![]), &[], settings, start);
    assert_eq!(session.poll(start), Ok(TimerAction::Wait(start + seconds(1))), "R24 R77");
    assert_eq!(session.poll(start + seconds(1)), Ok(TimerAction::Ping), "R24 R77");
    session.inbound(start + seconds(2));
    assert_eq!(session.poll(start + seconds(3)), Err(SessionError::PingTimeout { limit: seconds(2) }), "R25 R77");
    let mut session = Session::new(hello(5, vec![]), &[], settings, start);
    assert_eq!(session.poll(start + seconds(9)), Err(SessionError::IdleTimeout { limit: seconds(9) }), "R30 R77");
}

#[test]
fn settings_that_contradict_one_another_are_refused() {
    let check =
        |ping_after, pong_timeout, idle_timeout| LivenessSettings { ping_after, pong_timeout, idle_timeout }.check();
    assert_eq!(check(seconds(15), seconds(20), seconds(35) + MILLISECOND), Ok(()), "R25");
    for (ping_after, pong_timeout, idle_timeout) in [
        (seconds(15), seconds(20), seconds(35)),
        (seconds(59), seconds(2), seconds(60)),
        (seconds(1), MAX_TIMEOUT, MAX_TIMEOUT),
    ] {
        let expected = LivenessSettingsError::PingPastIdle { ping_after, pong_timeout, idle_timeout };
        assert_eq!(check(ping_after, pong_timeout, idle_timeout), Err(expected), "R25 R77");
    }
    for zero in 0..3 {
        let [a, b, c] = std::array::from_fn(|index| seconds(if index == zero { 0 } else { 10 + index as u64 * 50 }));
        assert_eq!(check(a, b, c), Err(LivenessSettingsError::OutOfRange), "R25 R77");
    }
    let endless = check(seconds(1), seconds(1), Duration::MAX);
    assert_eq!(endless, Err(LivenessSettingsError::OutOfRange), "R77: the clock ends before that");
}
