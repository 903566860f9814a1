//! Ping, Pong and their deadlines, to the millisecond. All times are given.

#[allow(dead_code, reason = "each test takes what it needs")]
mod common;

use std::time::{Duration, Instant};

use capmux::p2p::{
    DisconnectReason, Event, LivenessSettings, LivenessSettingsError, MAX_TIMEOUT, Session, SessionError,
    SessionSettings, TimerAction,
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

fn settings(ping_after: Duration, pong_timeout: Duration, idle_timeout: Duration) -> LivenessSettings {
    LivenessSettings::default().ping_after(ping_after).pong_timeout(pong_timeout).idle_timeout(idle_timeout)
}

#[test]
fn the_defaults_are_15_20_60_and_30_seconds() {
    let expected = settings(seconds(15), seconds(20), seconds(60)).frame_timeout(seconds(30));
    assert_eq!(LivenessSettings::default(), expected, "R24 R25 R30 H25");
    assert_eq!(expected.check(), Ok(()), "R25");
}

#[test]
fn a_silent_peer_is_pinged_once_and_then_given_up() {
    let (mut session, start) = start();
    let ping_at = start + seconds(15);
    assert_eq!(session.poll(start), Ok(TimerAction::Wait(ping_at)), "R24");
    assert_eq!(session.poll(ping_at - MILLISECOND), Ok(TimerAction::Wait(ping_at)), "R24: not before 15 s");
    assert_eq!(session.poll(ping_at), Ok(TimerAction::Ping), "R24");
    session.ping_written(ping_at);
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
    session.ping_written(start + seconds(15));
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
    session.ping_written(start + seconds(4));
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
    session.ping_written(start + seconds(115));
    session.excuse(seconds(100));
    let limit = start + seconds(115 + 20 + 100);
    assert_eq!(session.poll(limit - MILLISECOND), Ok(TimerAction::Wait(limit)), "R10 R25");
    assert!(matches!(session.poll(limit), Err(SessionError::PingTimeout { .. })), "R25");
}

#[test]
fn settings_have_their_effect() {
    let start = Instant::now();
    let settings = settings(seconds(1), seconds(2), seconds(9)).frame_timeout(seconds(3));
    let settings = SessionSettings::default().liveness(settings);
    let mut session = Session::new(hello(5, vec![]), &[], settings, start);
    assert_eq!(session.poll(start), Ok(TimerAction::Wait(start + seconds(1))), "R24 R77");
    assert_eq!(session.poll(start + seconds(1)), Ok(TimerAction::Ping), "R24 R77");
    session.ping_written(start + seconds(1));
    session.inbound(start + seconds(2));
    assert_eq!(session.poll(start + seconds(3)), Err(SessionError::PingTimeout { limit: seconds(2) }), "R25 R77");
    let mut session = Session::new(hello(5, vec![]), &[], settings, start);
    assert_eq!(session.poll(start + seconds(9)), Err(SessionError::IdleTimeout { limit: seconds(9) }), "R30 R77");
}

#[test]
fn the_end_that_dialled_sends_its_ping_a_thirtieth_sooner() {
    let of_dialler = LivenessSettings::default().frame_timeout(seconds(7)).of_dialler();
    let expected = settings(MILLISECOND * 14_500, seconds(20), seconds(60)).frame_timeout(seconds(7));
    assert_eq!(of_dialler, expected, "R24: and all else is as it was");
    let start = Instant::now();
    let settings = SessionSettings::default().chunking(true).of_dialler();
    let mut session = Session::new(hello(5, settings.capabilities(&[])), &[], settings, start);
    assert_eq!(session.poll(start), Ok(TimerAction::Wait(start + MILLISECOND * 14_500)), "R24");
    assert!(session.chunking().is_some(), "R19: the other settings stay");
}

#[test]
fn settings_that_contradict_one_another_are_refused() {
    let check = |ping_after, pong_timeout, idle_timeout| settings(ping_after, pong_timeout, idle_timeout).check();
    assert_eq!(check(seconds(15), seconds(20), seconds(35) + MILLISECOND), Ok(()), "R25");
    for (ping_after, pong_timeout, idle_timeout) in [
        (seconds(15), seconds(20), seconds(35)),
        (seconds(59), seconds(2), seconds(60)),
        (seconds(1), MAX_TIMEOUT, MAX_TIMEOUT),
    ] {
        let expected = LivenessSettingsError::PingPastIdle { ping_after, pong_timeout, idle_timeout };
        assert_eq!(check(ping_after, pong_timeout, idle_timeout), Err(expected), "R25 R77");
    }
    let names = ["ping_after", "pong_timeout", "idle_timeout", "frame_timeout"];
    for (place, setting) in names.into_iter().enumerate() {
        for wrong in [Duration::ZERO, MAX_TIMEOUT + MILLISECOND, Duration::MAX] {
            let [a, b, c, d] = std::array::from_fn(|index| if index == place { wrong } else { seconds(10) });
            let error = settings(a, b, c).frame_timeout(d).check().unwrap_err();
            assert_eq!(error, LivenessSettingsError::OutOfRange { setting }, "R25 R77 H25: {wrong:?}");
            assert!(error.to_string().contains(setting), "R77: {error}");
        }
    }
    assert_eq!(settings(seconds(1), seconds(1), seconds(9)).frame_timeout(MAX_TIMEOUT).check(), Ok(()), "R77 H25");
    assert_eq!(MAX_TIMEOUT, seconds(31_536_000), "R77: a year");
}

#[test]
fn a_pong_is_timed_from_when_its_ping_was_written() {
    let (mut session, start) = start();
    let idle_limit = Ok(TimerAction::Wait(start + seconds(60)));
    assert_eq!(session.poll(start + seconds(15)), Ok(TimerAction::Ping), "R24");
    for second in [15, 20, 35, 59] {
        assert_eq!(session.poll(start + seconds(second)), idle_limit, "R25: no Pong can have come yet, at {second} s");
    }
    session.inbound(start + seconds(40));
    session.ping_written(start + seconds(45));
    assert_eq!(session.poll(start + seconds(45)), Ok(TimerAction::Wait(start + seconds(65))), "R25");
    session.ping_written(start + seconds(50));
    let came = start + seconds(46);
    assert_eq!(session.receive(frame(&[0x03], &[0xc0]), came), Ok(Event::Pong(Some(seconds(1)))), "R26");
    session.ping_written(start + seconds(47));
    assert_eq!(session.poll(came), Ok(TimerAction::Wait(came + seconds(15))), "R24: nothing is outstanding");

    let (mut session, start) = self::start();
    assert_eq!(session.poll(start + seconds(15)), Ok(TimerAction::Ping), "R24");
    let before = session.receive(frame(&[0x03], &[0xc0]), start + seconds(18));
    assert_eq!(before, Ok(Event::Pong(Some(seconds(3)))), "R26: from when it was decided, for it is not known better");

    let (mut session, start) = self::start();
    assert_eq!(session.poll(start + seconds(15)), Ok(TimerAction::Ping), "R24");
    let error = session.poll(start + seconds(60)).unwrap_err();
    assert_eq!(error, SessionError::IdleTimeout { limit: seconds(60) }, "R30: which is in force all the same");
}

#[test]
fn a_ping_of_the_application_joins_the_one_that_is_outstanding() {
    let (mut session, start) = start();
    assert_eq!(session.poll(start + seconds(15)), Ok(TimerAction::Ping), "R24");
    assert!(!session.ping(start + seconds(16)), "R31 R24: one is to be written");
    session.ping_written(start + seconds(17));
    assert!(!session.ping(start + seconds(18)), "R31 R24: one is outstanding");
    let pong = session.receive(frame(&[0x03], &[0xc0]), start + seconds(19));
    assert_eq!(pong, Ok(Event::Pong(Some(seconds(2)))), "R31: which answers all who asked");
    assert!(session.ping(start + seconds(20)), "R31");
    session.ping_written(start + seconds(20));
    let limit = Ok(TimerAction::Wait(start + seconds(40)));
    assert_eq!(session.poll(start + seconds(35)), limit, "R24 R31: and there is no second one after the silence");
}

#[test]
fn round_trips_are_kept() {
    let (mut session, start) = start();
    assert_eq!(session.round_trip(), None, "R26");
    for (count, time) in [(1, 80), (2, 160), (3, 40)] {
        let sent = start + seconds(count);
        assert!(session.ping(sent), "R31");
        session.ping_written(sent);
        session.receive(frame(&[0x03], &[0xc0]), sent + MILLISECOND * time).unwrap();
        let times = session.round_trip().unwrap();
        assert_eq!((times.last, times.samples), (MILLISECOND * time, count), "R26 R31");
    }
    let times = session.round_trip().unwrap();
    assert_eq!((times.min, times.smoothed), (MILLISECOND * 40, Duration::from_micros(83_750)), "R26");
    session.receive(frame(&[0x03], &[0xc0]), start + seconds(9)).unwrap();
    assert_eq!(session.round_trip(), Some(times), "R26: what nobody asked for does not count");
}

#[test]
fn a_frame_that_has_begun_has_a_deadline_whatever_trickles_in() {
    let (mut session, start) = start();
    let begun = start + seconds(5);
    let limit = begun + seconds(30);
    for second in 5..35 {
        let now = start + seconds(second);
        session.inbound(now);
        assert_eq!(session.frame_pending(now, true), Some(limit), "H25: from its first byte, at {second} s");
        assert_eq!(session.poll(now), Ok(TimerAction::Wait(limit.min(now + seconds(15)))), "H25: at {second} s");
    }
    assert!(session.poll(limit - MILLISECOND).is_ok(), "H25: not before 30 s");
    let error = session.poll(limit).unwrap_err();
    assert_eq!(error, SessionError::FrameTimeout { limit: seconds(30) }, "H25");
    assert_eq!(error.disconnect_reason(), Some(DisconnectReason::NetworkError), "H25");
}

#[test]
fn a_frame_that_becomes_whole_has_no_deadline_and_the_next_has_its_own() {
    let (mut session, start) = start();
    session.frame_pending(start, true);
    let next = start + seconds(29);
    session.receive(frame(&[0x10], b"data"), next).unwrap();
    assert_eq!(session.frame_pending(next, true), Some(next + seconds(30)), "H25: the next one began with its end");
    session.receive(frame(&[0x10], b"data"), next + seconds(1)).unwrap();
    assert_eq!(session.frame_pending(next + seconds(1), false), None, "H25");
    let ping_at = next + seconds(16);
    assert_eq!(session.poll(next + seconds(2)), Ok(TimerAction::Wait(ping_at)), "H25 R24");
}

#[test]
fn the_deadline_of_a_frame_does_not_run_while_this_end_does_not_read() {
    let (mut session, start) = start();
    session.frame_pending(start, true);
    session.excuse(seconds(100));
    session.inbound(start + seconds(129));
    assert_eq!(session.poll(start + seconds(129)), Ok(TimerAction::Wait(start + seconds(130))), "H25 R10");
    let error = session.poll(start + seconds(130));
    assert_eq!(error, Err(SessionError::FrameTimeout { limit: seconds(30) }), "H25 R10");
}
