//! The base protocol in its phases, and Disconnect in all its forms. All times are given.

#[allow(dead_code, reason = "each test takes what it needs")]
mod common;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use capmux::p2p::{
    BaseMessage, DisconnectReason, Event, MAX_BASE_MESSAGE_SIZE, MessageEncoder, MessageId, Session, SessionError,
    receive_hello,
};
use capmux::rlpx::{Compressor, MAX_FRAME_SIZE};
use common::session::{capability, frame, hello, session};
use common::{key, model_is_dialled};

const PING: &[u8] = &[0x02, 0x01, 0x00, 0xc0];
const PONG: &[u8] = &[0x03, 0x01, 0x00, 0xc0];

const TENTH: Duration = Duration::from_millis(100);

/// A session without subprotocols, and the time it began.
fn idle() -> (Session, Instant) {
    let start = Instant::now();
    (session(5, &[], start), start)
}

fn compressed(data: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    Compressor::default().compress(data, &mut out);
    out.to_vec()
}

#[test]
fn ids_without_a_meaning_are_ignored_up_to_a_rate() {
    let (mut session, mut now) = idle();
    for id in 0x04..=0x0f {
        assert_eq!(session.receive(frame(&[id], b"whatever"), now), Ok(Event::Ignored), "R4 H51");
    }
    let mut flood = (0..1000).map(|_| session.receive(frame(&[0x05], &[]), now));
    let error = flood.find_map(Result::err).expect("R4 H51: a thousand at once are too many");
    assert_eq!(error, SessionError::BaseMessageFlood, "R4 H51");
    assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "R4 H51");

    let (mut session, _) = idle();
    for _ in 0..10_000 {
        now += TENTH;
        assert_eq!(session.receive(frame(&[0x0f], &[]), now), Ok(Event::Ignored), "R4 H51: ten a second are allowed");
    }
}

#[test]
fn a_flood_of_pings_or_pongs_ends_the_session() {
    for (row, message, event) in
        [("R4 R27 H47: 10^6 Pings", PING, Event::Ping), ("R4 R27 H48: 10^6 Pongs", PONG, Event::Pong(None))]
    {
        let (mut session, now) = idle();
        let (mut answered, mut refused) = (0, 0);
        for _ in 0..1_000_000 {
            match session.receive(frame(message, &[]), now) {
                Ok(received) => {
                    assert_eq!((received, refused), (event.clone(), 0), "{row}: what is refused is not let in later");
                    answered += 1;
                }
                Err(error) => {
                    assert_eq!(error, SessionError::BaseMessageFlood, "{row}");
                    assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "{row}: 0x02");
                    refused += 1;
                }
            }
        }
        assert_eq!(answered, 64, "{row}: bounded by the burst");
    }
    let (mut session, now) = idle();
    let mut admitted = 0;
    for tenth in 0..600 {
        for _ in 0..2 {
            admitted += u32::from(session.receive(frame(PING, &[]), now + TENTH * tenth).is_ok());
        }
    }
    assert!((600..700).contains(&admitted), "R27: a burst is not to be had again without a pause: {admitted}");
    let later = now + Duration::from_secs(3600);
    let after_pause = (0..1000).filter(|_| session.receive(frame(PING, &[]), later).is_ok()).count();
    assert!((16..=256).contains(&after_pause), "R27: nor a larger one after a long pause: {after_pause}");
}

#[test]
fn large_base_messages_break_the_protocol() {
    for id in [0x00, 0x02, 0x03, 0x04, 0x0f] {
        let (mut session, now) = idle();
        let id = if id == 0 { [0x80] } else { [id] };
        let error = session.receive(frame(&id, &[0; MAX_BASE_MESSAGE_SIZE + 1]), now).unwrap_err();
        assert_eq!(error, SessionError::BaseMessageTooLarge { size: 2049 }, "H48");
        assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "H48");
    }
    let (mut session, now) = idle();
    assert_eq!(session.receive(frame(&[0x02], &[0; MAX_BASE_MESSAGE_SIZE]), now), Ok(Event::Ping), "H48: the limit");
    assert_eq!(session.receive(frame(&[0x02], &[]), now), Ok(Event::Ping), "a Ping without data");
}

#[test]
fn a_second_hello_and_frames_without_an_id_break_the_protocol() {
    let (mut session, now) = idle();
    let error = session.receive(frame(&[0x80], &hello(5, vec![]).encode()), now).unwrap_err();
    assert_eq!(error, SessionError::UnexpectedHello, "R37");
    assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "R37");
    for id in [&[][..], &[0x00], &[0x81, 0x7f], &[0xc0]] {
        assert_eq!(session.receive(frame(id, &[]), now), Err(SessionError::InvalidMessageId), "R37: {id:02x?}");
    }
}

#[test]
fn a_disconnect_is_understood_in_every_form_and_phase() {
    use DisconnectReason::{Requested, SubprotocolError, TooManyPeers, Unknown};
    let plain: [(&[u8], Option<DisconnectReason>); 11] = [
        (&[0xc1, 0x04], Some(TooManyPeers)),
        (&[0x04], Some(TooManyPeers)),
        (&[0xc1, 0x80], Some(Requested)),
        (&[0x80], Some(Requested)),
        (&[0x00], Some(Requested)),
        (&[0xc1, 0x00], Some(Requested)),
        (&[0xc1, 0x10], Some(SubprotocolError)),
        (&[0xc3, 0x82, 0x01, 0x2c], Some(Unknown(300))),
        (&[0x82, 0x01, 0x2c], Some(Unknown(300))),
        (&[0xc0], None),
        (&[], None),
    ];
    for (data, reason) in plain {
        // Nothing, compressed, cannot be told from 0x00.
        let forms = [data.to_vec(), if data.is_empty() { Vec::new() } else { compressed(data) }];
        for (form, version) in forms.iter().flat_map(|form| [(form, 4), (form, 5)]) {
            let (own, remote) = (key(2).public_key(), key(1).public_key());
            let before = receive_hello(frame(&[0x01], form), &own, &remote).unwrap_err();
            assert_eq!(before, SessionError::Disconnected(reason), "R38 H50 R37: before Hello: {form:02x?}");
            let now = Instant::now();
            let after = session(version, &[], now).receive(frame(&[0x01], form), now).unwrap_err();
            assert_eq!(after, SessionError::Disconnected(reason), "R38 H50: after Hello: {form:02x?}");
            assert_eq!(after.disconnect_reason(), None, "R38: nothing is said to a peer that has left");
            assert_eq!(after.to_string().lines().count(), 1, "H50: {after}");
        }
    }
}

#[test]
fn a_disconnect_of_any_size_and_rate_is_one() {
    for data in [vec![0xc1; MAX_FRAME_SIZE - 1], vec![0x04; 4096], vec![b'\n'; 4096]] {
        let (mut session, now) = idle();
        (0..10).for_each(|_| drop(session.receive(frame(&[0x05], &[]), now)));
        let error = session.receive(frame(&[0x01], &data), now).unwrap_err();
        assert!(matches!(error, SessionError::Disconnected(_)), "H50 R38: {error:?}");
        assert_eq!(error.to_string().lines().count(), 1, "H50: {error}");
    }
}

#[test]
fn reasons_have_the_numbers_of_the_specification() {
    use DisconnectReason::*;
    let named = [
        (0x00, Requested),
        (0x01, NetworkError),
        (0x02, ProtocolError),
        (0x03, UselessPeer),
        (0x04, TooManyPeers),
        (0x05, AlreadyConnected),
        (0x06, IncompatibleVersion),
        (0x07, InvalidIdentity),
        (0x08, ClientQuitting),
        (0x09, UnexpectedIdentity),
        (0x0a, ConnectedToSelf),
        (0x0b, PingTimeout),
        (0x10, SubprotocolError),
    ];
    for (code, reason) in named {
        assert_eq!((DisconnectReason::from_code(code), reason.code()), (reason, code), "R62");
        assert_eq!(DisconnectReason::from_data(&[0xc1, code as u8]), Some(reason), "R62");
    }
    for code in [0x0c, 0x0f, 0x11, 300, u64::MAX] {
        assert_eq!(DisconnectReason::from_code(code), Unknown(code), "R62: unknown ones are tolerated");
        assert!(Unknown(code).to_string().contains(&format!("{code:#x}")), "H50: and shown");
    }
}

#[test]
fn base_messages_have_these_bytes() {
    let (dialler, mut model) = model_is_dialled();
    let mut encoder = MessageEncoder::new(dialler.egress);
    let mut content = |write: &mut dyn FnMut(&mut MessageEncoder, &mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut encoder, &mut out);
        let (size, padded) = model.ingress.open(&out).unwrap();
        padded[..size].to_vec()
    };
    let hello = hello(5, vec![capability("eth", 68)]);
    let sent = content(&mut |encoder, out| encoder.hello(&hello, out).unwrap());
    assert_eq!(sent, [&[0x80][..], &hello.encode()].concat(), "the id 0 is 0x80");
    let disconnect = BaseMessage::Disconnect(DisconnectReason::TooManyPeers);
    assert_eq!(
        content(&mut |encoder, out| encoder.base(disconnect, out)),
        [0x01, 0xc1, 0x04],
        "R38: plain before Hello"
    );
    assert_eq!(content(&mut |encoder, out| encoder.base(BaseMessage::Ping, out)), [0x02, 0xc0]);
    content(&mut |encoder, out| {
        encoder.enable_snappy();
        encoder.base(BaseMessage::Ping, out);
    });
    assert_eq!(content(&mut |encoder, out| encoder.base(BaseMessage::Ping, out)), PING);
    assert_eq!(content(&mut |encoder, out| encoder.base(BaseMessage::Pong, out)), PONG);
    assert_eq!(content(&mut |encoder, out| encoder.base(disconnect, out)), [0x01, 0x02, 0x04, 0xc1, 0x04]);
    let requested = BaseMessage::Disconnect(DisconnectReason::Requested);
    assert_eq!(content(&mut |encoder, out| encoder.base(requested, out)), [0x01, 0x02, 0x04, 0xc1, 0x80]);
    let message = |id| {
        move |encoder: &mut MessageEncoder, out: &mut BytesMut| encoder.message(MessageId::new(id), b"x", out).unwrap()
    };
    assert_eq!(content(&mut message(0x7f)), b"\x7f\x01\x00x");
    assert_eq!(content(&mut message(0x80)), b"\x81\x80\x01\x00x");
    assert_eq!(content(&mut message(0x1234)), b"\x82\x12\x34\x01\x00x");
}
