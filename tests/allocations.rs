//! Memory: what a peer cannot make this end take, and what frames cost in a steady state. The counter replaces the
//! allocator of this test alone, and counts by thread.

#[allow(dead_code, reason = "each test takes what it needs")]
mod common;

use std::time::Instant;

use allocation_counter::{AllocationInfo, measure};
use bytes::{Buf, Bytes, BytesMut};
use capmux::p2p::{Event, FIRST_FRAME_LIMIT, MessageEncoder, MessageId, Session};
use capmux::rlpx::{Compressor, Decompressor, Established, Ingress, MAX_FRAME_SIZE, MAX_HANDSHAKE_SIZE};
use common::{content, key, model_dials, more, pair, random, session};

/// 4,294,967,295 bytes uncompressed, as snappy writes its size.
const FOUR_GIB: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];

/// Node 1 as seen by a node that shares `test/1` with it: compressed messages of up to 1 MiB.
fn session() -> Session {
    session::session(5, &[session::registered("test", 1, 16)], Instant::now())
}

#[test]
fn a_declared_frame_size_takes_no_memory() {
    let (mut model, established) = model_dials();
    let mut ingress = established.ingress;
    let mut header = BytesMut::from(&model.egress.header(MAX_FRAME_SIZE, &[0xc2, 0x80, 0x80])[..]);
    let used = measure(|| assert!(ingress.open(&mut header, FIRST_FRAME_LIMIT).is_err()));
    assert_eq!(used.bytes_total, 0, "H24 R43 R20: refused");

    let (mut model, established) = model_dials();
    let mut ingress = established.ingress;
    let mut header = BytesMut::from(&model.egress.header(MAX_FRAME_SIZE, &[0xc2, 0x80, 0x80])[..]);
    let used = measure(|| assert_eq!(ingress.open(&mut header, MAX_FRAME_SIZE), Ok(None)));
    assert_eq!(used.bytes_total, 0, "R43 H25: accepted, but not there yet");
    assert_eq!(ingress.wants(), MAX_FRAME_SIZE.next_multiple_of(16) + 16);
}

#[test]
fn a_declared_uncompressed_size_takes_no_memory() {
    let declarations: [(&str, &[u8]); 4] = [
        ("H32 R43: 4 GiB", &[&FOUR_GIB[..], &[0; 1000]].concat()),
        ("H32 R43: 2^35", &[0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0]),
        ("R20 R43: a byte above the limit", &[0x81, 0x80, 0x40, 0, 0]),
        ("R43: the limit, from ten bytes", &[0x80, 0x80, 0x40, 0, 1, 2, 3, 4, 5, 6]),
    ];
    for (row, data) in declarations {
        let mut decompressor = Decompressor::default();
        let used = measure(|| assert!(decompressor.decompress(data, 1 << 20).is_err(), "{row}"));
        assert_eq!(used.bytes_total, 0, "{row}");

        let (mut session, content) = (session(), Bytes::from([&[0x10], data].concat()));
        let used = measure(|| assert!(session.receive(content, Instant::now()).is_err(), "{row}"));
        assert!(used.bytes_total < 64, "{row}: the name of the capability in the error, and not {used:?}");
    }
}

#[test]
fn a_disconnect_of_16_mib_is_not_copied() {
    for first in [0xc1, 0x04, 0xff] {
        let mut data = vec![0; MAX_FRAME_SIZE];
        (data[0], data[1]) = (0x01, first);
        let (mut session, content) = (session(), Bytes::from(data));
        let used = measure(|| assert!(session.receive(content, Instant::now()).is_err()));
        assert!(used.bytes_max < 1024, "H50: {used:?}");
    }
}

#[test]
fn a_flood_of_base_messages_takes_no_memory() {
    for id in [0x02, 0x03, 0x05] {
        let (mut session, content, now) = (session(), Bytes::from_owner([id, 0xc0]), Instant::now());
        let used = measure(|| {
            for _ in 0..1_000_000 {
                let _ = session.receive(content.clone(), now);
            }
        });
        assert_eq!((used.bytes_max, used.bytes_current), (0, 0), "H48 H47 H51 R27: id {id:#x}: {used:?}");
        assert!(session.unsolicited_pongs() <= 64, "R26 R27");
    }
}

#[test]
fn a_connection_takes_little_before_authentication() {
    let mut message = (MAX_HANDSHAKE_SIZE as u16).to_be_bytes().to_vec();
    message.resize(2 + MAX_HANDSHAKE_SIZE, 4);
    let (key, random) = (key(2), random(2));
    let used = measure(|| {
        let state = capmux::rlpx::Recipient::new(key, random);
        let state = message[..message.len() - 1]
            .chunks(1)
            .fold(state, |state, mut byte| more(state.receive(&mut byte).expect("the size is allowed")));
        assert!(state.receive(&mut &message[message.len() - 1..]).is_err());
    });
    assert!(used.bytes_max < 8 * 1024, "H1: {used:?}");
    assert_eq!(used.bytes_current, 0, "H1: {used:?}");
}

/// Sends `count` frames of this content through one buffer each for sending and receiving.
fn exchange(sender: &mut Established, receiver: &mut Ingress, content: &[u8], count: usize) -> AllocationInfo {
    let (mut out, mut buffer) = (BytesMut::new(), BytesMut::new());
    let mut round = || {
        out.clear();
        sender.egress.seal(&mut out, |out| out.extend_from_slice(content)).expect("the content fits");
        buffer.extend_from_slice(&out);
        let opened = receiver.open(&mut buffer, content.len()).expect("sound").expect("whole");
        assert_eq!(opened.len(), content.len());
    };
    round();
    measure(|| (0..count).for_each(|_| round()))
}

#[test]
fn frames_take_no_memory_in_a_steady_state() {
    for (size, count) in [(256, 10_000), (16 * 1024, 300)] {
        let (mut sender, receiver) = pair();
        let mut ingress = receiver.ingress;
        let used = exchange(&mut sender, &mut ingress, &content(size), count);
        assert!(used.count_total < count as u64 / 100, "{size} bytes: {} for {count}", used.count_total);
    }
}

#[test]
fn small_messages_take_hardly_any_memory_in_a_steady_state() {
    const COUNT: u64 = 10_000;
    let (sender, receiver) = pair();
    let (mut encoder, mut ingress) = (MessageEncoder::new(sender.egress), receiver.ingress);
    encoder.enable_snappy();
    let (mut session, data, now) = (session(), content(256), Instant::now());
    let (mut out, mut buffer) = (BytesMut::new(), BytesMut::new());
    let mut round = || {
        out.clear();
        encoder.message(MessageId::new(0x11), &data, &mut out).expect("it fits a frame");
        buffer.extend_from_slice(&out);
        let frame = ingress.open(&mut buffer, session.frame_limit()).expect("sound").expect("whole");
        let event = session.receive(frame.freeze(), now).expect("sound");
        assert!(matches!(event, Event::Message { code: 1, payload, .. } if payload.remaining() == 256));
    };
    round();
    let used = measure(|| (0..COUNT).for_each(|_| round()));
    assert!(used.count_total < COUNT / 100, "{} for {COUNT}", used.count_total);
    assert!(used.bytes_max < 64 * 1024, "{used:?}");
}

#[test]
fn an_idle_connection_holds_no_working_memory_of_snappy() {
    let (sender, receiver) = pair();
    let (mut encoder, mut ingress) = (MessageEncoder::new(sender.egress), receiver.ingress);
    encoder.enable_snappy();
    assert!(size_of::<Compressor>() == 0, "R43: a connection has no tables of its own");
    let (mut session, data, now) = (session(), content(64 * 1024), Instant::now());
    // What the thread keeps is taken here, for all connections.
    let (mut out, mut plain) = (BytesMut::new(), Compressor::default());
    plain.compress(&data, &mut out);
    let used = measure(|| {
        let (mut out, mut buffer) = (BytesMut::new(), BytesMut::new());
        for content in [&data[..], &data[..100]] {
            encoder.message(MessageId::new(0x11), content, &mut out).expect("it fits a frame");
            buffer.unsplit(out.split());
            let frame = ingress.open(&mut buffer, session.frame_limit()).expect("sound").expect("whole");
            drop(session.receive(frame.freeze(), now).expect("sound"));
        }
        session.release_memory();
    });
    assert_eq!(used.bytes_current, 0, "R43: {used:?}");
}
