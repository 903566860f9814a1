//! The data of messages: compression, the limits of each protocol, and the way from one end to the other.

#[allow(dead_code, reason = "each test takes what it needs")]
mod common;

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use capmux::p2p::{
    DisconnectReason, Event, FIRST_FRAME_LIMIT, Hello, MAX_MESSAGE_SIZE, MessageEncoder, MessageId, Registered,
    Session, SessionError, SessionSettings, receive_hello,
};
use capmux::rlpx::{Compressor, Decompressor, FrameError, MAX_FRAME_SIZE, SnappyError, max_compressed_len};
use common::session::{capability, frame, hello, id_bytes, registered, session};
use common::{content, key, pair};

/// The most that the protocol of these tests takes.
const LIMIT: usize = 1 << 20;

/// What a session makes of this data in a compressed message.
fn receive(data: &[u8]) -> Result<Event, SessionError> {
    let now = Instant::now();
    session(5, &[registered("test", 1, 1)], now).receive(frame(&[0x10], data), now)
}

fn compressed(data: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    Compressor::default().compress(data, &mut out);
    out.to_vec()
}

fn message(payload: &[u8]) -> Event {
    Event::Message { place: 0, code: 0, payload: Bytes::copy_from_slice(payload) }
}

#[track_caller]
fn refused(row: &str, data: &[u8], source: SnappyError) {
    let error = receive(data).expect_err(row);
    assert_eq!(error, SessionError::Snappy { capability: capability("test", 1), source }, "{row}");
    assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "{row}");
}

#[test]
fn declared_sizes_above_the_limit_are_refused() {
    let too_large = |declared| SnappyError::TooLarge { declared, limit: LIMIT };
    let one_more = LIMIT as u64 + 1;
    refused("R20 R43: a byte too many", &[0x81, 0x80, 0x40, 0, 0], too_large(one_more));
    refused("H32: 4 GiB - 1", &[0xff, 0xff, 0xff, 0xff, 0x0f, 0], too_large(u32::MAX.into()));
    refused("H32: 4 GiB", &[0x80, 0x80, 0x80, 0x80, 0x10, 0], too_large(u64::MAX));
    refused("R20: really so large", &compressed(&vec![0; LIMIT + 1]), too_large(one_more));
    let largest = vec![0x21; LIMIT];
    assert_eq!(receive(&compressed(&largest)), Ok(message(&largest)), "R20: the limit itself is accepted");
}

#[test]
fn damaged_blocks_are_refused() {
    let cases: [(&str, &[u8]); 12] = [
        ("nothing at all", &[]),
        ("a size that is cut off", &[0x80]),
        ("a size without an end", &[0x80; 11]),
        ("no element", &[0x05]),
        ("a literal that is cut off", &[0x05, 0x10, b'a', b'b']),
        ("a literal longer than the size", &[0x01, 0x04, b'a', b'b']),
        ("a copy from before the start", &[0x04, 0x01, 0x01]),
        ("a copy from too far back", &[0x06, 0x04, b'a', b'b', 0x01, 0x03]),
        ("a copy from offset 0", &[0x05, 0x00, b'a', 0x01, 0x00]),
        ("a copy past the size", &[0x03, 0x00, b'a', 0x01, 0x01]),
        ("a copy that is cut off", &[0x05, 0x00, b'a', 0x02, 0x01]),
        ("a size far above the data", &[0xff, 0xff, 0x3f, 0x00, b'a']),
    ];
    for (what, data) in cases {
        refused(&format!("H35: {what}"), data, SnappyError::Corrupt);
    }
    assert_eq!(receive(&[0x05, 0x00, b'a', 0x01, 0x01]), Ok(message(b"aaaaa")), "H35: a sound copy is accepted");
}

#[test]
fn truncated_blocks_and_trailing_bytes_are_refused() {
    let data = [content(300), vec![7; 300]].concat();
    let block = compressed(&data);
    assert!(block.len() < data.len() && receive(&block) == Ok(message(&data)));
    for length in 0..block.len() {
        refused(&format!("H35: cut to {length}"), &block[..length], SnappyError::Corrupt);
    }
    for tail in [&[0][..], &[0x00, b'a'], &[0x01, 0x01], &[0xff; 20], &block] {
        refused(&format!("H35: with {tail:02x?} behind it"), &[&block[..], tail].concat(), SnappyError::Corrupt);
    }
    refused("H35: an empty block with a byte behind it", &[0, 0], SnappyError::Corrupt);
    assert_eq!(receive(&[0]), Ok(message(b"")), "an empty block is an empty message");
}

#[test]
fn a_refused_block_leaves_nothing_in_the_next() {
    let mut decompressor = Decompressor::default();
    let (good, expected) = (compressed(&content(500)), content(500));
    for bad in [&[0x05][..], &[0x05, 0x10, b'a', b'b'], &good[..good.len() - 1], &[0xff; 9]] {
        assert!(decompressor.decompress(bad, LIMIT).is_err(), "H35");
        assert_eq!(decompressor.decompress(&good, LIMIT).unwrap(), expected, "H35: after {bad:02x?}");
    }
}

#[test]
fn blocks_go_round_however_well_they_compress() {
    let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
    let mut kept = Vec::new();
    for size in (0..700).chain([4096, 65_535, 65_536, 65_537, 200_000]) {
        for data in [vec![0; size], content(size), (0..size).map(|index| (index % 61) as u8).collect()] {
            let mut out = BytesMut::from(&b"before"[..]);
            compressor.compress(&data, &mut out);
            assert_eq!(out[..6], b"before"[..]);
            assert!(out.len() - 6 <= max_compressed_len(size), "R43: {size}");
            kept.push((decompressor.decompress(&out[6..], size).expect("sound"), data));
        }
    }
    assert_eq!([0, 6, 600].map(max_compressed_len), [32, 39, 732], "R43");
    // The outputs share memory; none is written to once it is out.
    assert!(kept.iter().all(|(output, data)| output == data));
}

#[test]
fn messages_to_an_old_peer_are_neither_compressed_nor_larger_than_allowed() {
    let now = Instant::now();
    let small = Registered { max_message_size: 100, ..registered("small", 1, 1) };
    let mut session = session(4, &[small, registered("zlarge", 1, 1)], now);
    assert!(!session.is_compressed());
    assert_eq!(session.receive(frame(&[0x10], &content(100)), now), Ok(message(&content(100))), "R20: the limit");
    let error = session.receive(frame(&[0x10], &content(101)), now).unwrap_err();
    let expected = SessionError::MessageTooLarge { capability: capability("small", 1), size: 101, limit: 100 };
    assert_eq!(error, expected, "R20");
    assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "R20");
    let event = session.receive(frame(&[0x11], &content(101)), now);
    assert!(matches!(event, Ok(Event::Message { place: 1, .. })), "R20: each protocol has a limit of its own");
}

#[test]
fn a_message_announces_its_protocol_and_its_size_before_it_is_opened() {
    let small = Registered { max_message_size: 100, ..registered("small", 1, 2) };
    let protocols = [registered("zlarge", 1, 1), small];
    for version in [4, 5] {
        let session = session(version, &protocols, Instant::now());
        let announced = |id, data: &[u8]| {
            let data = if version == 5 { compressed(data) } else { data.to_vec() };
            session.announced(&frame(&id_bytes(id), &data))
        };
        assert_eq!(announced(0x11, &content(100)), Some((0, 100)), "R43: the limit, with version {version}");
        assert_eq!(announced(0x12, &content(101)), Some((1, 101)), "R43: version {version}");
        assert_eq!(announced(0x10, &[]), Some((0, 0)), "R43: version {version}");
        for id in [0x02, 0x0f, 0x13, u64::MAX] {
            assert_eq!(announced(id, b"data"), None, "R43: {id:#x} belongs to none of them");
        }
        assert_eq!(session.announced(&Bytes::new()), None, "R43: nor does what has no id");
    }
    let session = session(5, &protocols, Instant::now());
    let too_large = frame(&[0x10], &compressed(&content(101)));
    assert_eq!(session.announced(&too_large), None, "R43: what is refused needs no place");
    for damaged in [&[][..], &[0x80]] {
        assert_eq!(session.announced(&frame(&[0x10], damaged)), None, "R43 H35: nor what is damaged: {damaged:02x?}");
        assert_eq!(Decompressor::declared_len(damaged, 100), Err(SnappyError::Corrupt), "H35: {damaged:02x?}");
    }
}

#[test]
fn compression_depends_on_the_version_of_the_other_end() {
    for (version, compressed) in [(0, false), (4, false), (5, true), (6, true), (u64::MAX, true)] {
        assert_eq!(session(version, &[], Instant::now()).is_compressed(), compressed, "version {version}");
    }
}

#[test]
fn the_limit_for_frames_follows_from_the_protocols() {
    let limit = |version, sizes: &[usize]| {
        let protocols: Vec<_> = (1u64..)
            .zip(sizes)
            .map(|(index, size)| Registered {
                max_message_size: *size,
                ..registered(["a", "b", "c"][index as usize - 1], index, 1)
            })
            .collect();
        session(version, &protocols, Instant::now()).frame_limit()
    };
    for version in [4, 5] {
        let base = limit(version, &[]);
        assert!((2049..4096).contains(&base), "R20 H25: without protocols a base message is the largest: {base}");
        assert_eq!(limit(version, &[10]), base, "R20");
        let largest = limit(version, &[100, 50_000, 3000]);
        assert!((50_001..60_000).contains(&largest), "R20: {largest}");
        assert_eq!(limit(version, &[MAX_MESSAGE_SIZE]), MAX_FRAME_SIZE, "R20: never above what a frame holds");
    }
    // Data that does not compress, at the limit, fits the frame.
    assert!(max_compressed_len(50_000) < limit(5, &[50_000]), "R20");
}

/// Both Hellos, then messages of every size, from one end to the other.
#[test]
fn two_ends_talk_after_their_hellos() {
    let (dialler, dialled) = pair();
    let now = Instant::now();
    let (mut encoder, mut ingress) = (MessageEncoder::new(dialler.egress), dialled.ingress);
    let mut wire = BytesMut::new();
    let own = Hello { capabilities: vec![capability("other", 3), capability("test", 1)], ..hello(5, vec![]) };
    encoder.hello(&own, &mut wire).unwrap();
    let first = ingress.open(&mut wire, FIRST_FRAME_LIMIT).unwrap().expect("a whole frame");
    let received = receive_hello(first.freeze(), &key(2).public_key(), &dialled.remote).unwrap();
    assert_eq!(received, own, "R36");

    let protocols = [registered("test", 1, 4), registered("unshared", 1, 9)];
    let mut session = Session::new(received, &protocols, SessionSettings::default(), now);
    assert_eq!(session.remote(), &own);
    encoder.enable_snappy();
    for size in (0..50).chain([1000, 30_000, LIMIT]) {
        let data = content(size);
        encoder.message(MessageId::new(0x12), &data, &mut wire).unwrap();
        let content = ingress.open(&mut wire, session.frame_limit()).unwrap().expect("a whole frame");
        let expected = Event::Message { place: 0, code: 2, payload: data.into() };
        assert_eq!(session.receive(content.freeze(), now), Ok(expected), "R6: code 2 of the protocol at 0x10");
    }
    let too_large = encoder.seal_plain(MessageId::new(0x10), &vec![1; MAX_FRAME_SIZE], &mut wire);
    assert_eq!(too_large, Err(FrameError::ContentTooLarge { size: MAX_FRAME_SIZE + 1 }), "R20: after compression");
    assert!(wire.is_empty(), "R20: and nothing of it is sent");
    encoder.message(MessageId::new(0x10), b"still there", &mut wire).unwrap();
    let content = ingress.open(&mut wire, session.frame_limit()).unwrap().expect("a whole frame");
    assert_eq!(session.receive(content.freeze(), now), Ok(message(b"still there")), "R20: the connection lives");
}
