//! Frames and the messages in them: round trips, every way to damage them, and the limits.

#[allow(dead_code, reason = "each test takes what it needs")]
mod common;

use bytes::{Bytes, BytesMut};
use capmux::p2p::FIRST_FRAME_LIMIT;
use capmux::rlpx::{FRAME_OVERHEAD, FrameError, Ingress, MAX_FRAME_SIZE};
use capmux_conformance::model::frames::{HEADER, Half};
use common::{content, model_dials, model_is_dialled, pair, seal};

/// A model that sends, and a receiver in the same state at each call.
fn from_model() -> (Half, Ingress) {
    let (model, established) = model_dials();
    (model.egress, established.ingress)
}

fn open(ingress: &mut Ingress, bytes: &[u8]) -> Result<Option<BytesMut>, FrameError> {
    ingress.open(&mut BytesMut::from(bytes), MAX_FRAME_SIZE)
}

#[test]
fn frames_of_every_small_size_go_round_and_agree_with_the_model() {
    let (mut dialled_it, mut model) = model_is_dialled();
    for size in (1..=300).chain([1023, 1024, 1025, 4095, 4096, 4097, 0xffff, 0x10000]) {
        let expected = content(size);
        let frame = seal(&mut dialled_it, &expected);
        assert_eq!(frame.len(), FRAME_OVERHEAD + size.next_multiple_of(16), "{size}");
        let (header, body) = frame.split_first_chunk::<HEADER>().unwrap();
        let opened = model.ingress.open_header(header);
        assert_eq!(opened, Ok((size, *b"\xc2\x80\x80\0\0\0\0\0\0\0\0\0\0")), "the rest of the header is fixed");
        let padded = model.ingress.open_body(body).unwrap();
        assert_eq!(padded[..size], expected[..]);
        assert!(padded[size..].iter().all(|byte| *byte == 0), "the padding is zeros");

        let frame = model.egress.seal(&expected);
        let opened = open(&mut dialled_it.ingress, &frame).unwrap().expect("a whole frame");
        assert_eq!(opened, expected);
    }
}

#[test]
fn a_frame_holds_16_mib_less_one_byte_and_no_more() {
    let (mut sender, mut receiver) = pair();
    let mut out = BytesMut::from(&b"before"[..]);
    let too_large = sender.egress.seal(&mut out, |out| out.resize(out.len() + MAX_FRAME_SIZE + 1, 1));
    assert_eq!(too_large, Err(FrameError::ContentTooLarge { size: MAX_FRAME_SIZE + 1 }), "R20");
    assert_eq!(sender.egress.seal(&mut out, |_| ()), Err(FrameError::Empty));
    assert_eq!(out, b"before"[..], "R20: nothing is sent of what does not fit");

    let mut out = BytesMut::new();
    sender.egress.seal(&mut out, |out| out.resize(out.len() + MAX_FRAME_SIZE, 0x77)).unwrap();
    let opened = receiver.ingress.open(&mut out, MAX_FRAME_SIZE).unwrap().expect("a whole frame");
    assert_eq!(opened.len(), MAX_FRAME_SIZE, "R20: and the connection goes on");
    assert!(opened.iter().all(|byte| *byte == 0x77));
}

#[test]
fn any_changed_byte_of_a_header_is_noticed_before_the_content() {
    let header = from_model().0.header(40, &[0xc2, 0x80, 0x80]);
    for position in 0..32 {
        for mask in [0x01, 0x80] {
            let mut changed = header.clone();
            changed[position] ^= mask;
            let (_, mut ingress) = from_model();
            assert_eq!(open(&mut ingress, &changed), Err(FrameError::HeaderMac), "H21 R33: byte {position}");
            assert_eq!(open(&mut ingress, &header), Err(FrameError::Failed), "H21: and that is the end");
            assert_eq!(ingress.wants(), 0, "H21: the content is not asked for");
        }
    }
}

#[test]
fn any_changed_byte_of_the_content_is_noticed() {
    let frame = from_model().0.seal(&content(40));
    assert_eq!(frame.len(), 32 + 48 + 16);
    for position in 32..frame.len() {
        for mask in [0x01, 0x80] {
            let mut changed = frame.clone();
            changed[position] ^= mask;
            let (_, mut ingress) = from_model();
            assert_eq!(open(&mut ingress, &changed), Err(FrameError::BodyMac), "H22 R33: byte {position}");
            assert_eq!(open(&mut ingress, &frame), Err(FrameError::Failed), "H22: and that is the end");
        }
    }
    let (_, mut ingress) = from_model();
    assert!(open(&mut ingress, &frame).is_ok(), "unchanged it is accepted");
}

#[test]
fn an_empty_frame_is_refused() {
    let (mut model, mut ingress) = from_model();
    let frame = [model.header(0, &[0xc2, 0x80, 0x80]), model.body(&[])].concat();
    assert_eq!(open(&mut ingress, &frame), Err(FrameError::Empty), "H23");
    let (_, mut ingress) = from_model();
    assert_eq!(open(&mut ingress, &frame[..32]), Err(FrameError::Empty), "H23: at its header");
}

#[test]
fn the_size_in_a_header_is_checked_before_the_content_comes() {
    for size in [FIRST_FRAME_LIMIT + 1, 0x10000, MAX_FRAME_SIZE] {
        let (mut model, mut ingress) = from_model();
        let mut header = BytesMut::from(&model.header(size, &[0xc2, 0x80, 0x80])[..]);
        let expected = FrameError::TooLarge { size, limit: FIRST_FRAME_LIMIT };
        assert_eq!(ingress.open(&mut header, FIRST_FRAME_LIMIT), Err(expected), "H24 H40 R36 R20 R43");
    }
    assert_eq!(FIRST_FRAME_LIMIT, 2048 + 1, "R36: a Hello of 2 KiB and its id");
    let (mut model, mut ingress) = from_model();
    let mut frame = BytesMut::from(&model.seal(&content(FIRST_FRAME_LIMIT))[..]);
    let opened = ingress.open(&mut frame, FIRST_FRAME_LIMIT).unwrap().expect("a whole frame");
    assert_eq!(opened, content(FIRST_FRAME_LIMIT), "H24: the limit itself is accepted");
}

#[test]
fn odd_header_data_and_padding_are_ignored() {
    let (mut model, mut ingress) = from_model();
    let odd: [&[u8]; 5] = [&[], &[0xc0], &[0xc4, 0x80, 0x07, 0x82, 0x99], &[0xff; 13], &[0xc3, 0x80, 0x01, 0x05]];
    for data in odd {
        let mut padded = content(20);
        padded.resize(32, 0xee);
        let frame = [model.header(20, data), model.body(&padded)].concat();
        assert_eq!(open(&mut ingress, &frame).unwrap().unwrap(), content(20), "H26: {data:02x?}");
    }
}

#[test]
fn frames_out_of_turn_are_refused() {
    let refused = |row: &str, first: &[&[u8]], then: &[u8]| {
        let (_, mut ingress) = from_model();
        for frame in first {
            assert!(open(&mut ingress, frame).unwrap().is_some());
        }
        assert_eq!(open(&mut ingress, then), Err(FrameError::HeaderMac), "{row}");
    };
    let (mut model, _) = from_model();
    // All of one size and content, so that only their order tells them apart.
    let frames: Vec<Vec<u8>> = (0..3).map(|_| model.seal(&content(100))).collect();
    refused("H27 R33: replayed", &[&frames[0]], &frames[0]);
    refused("H27 R33: replayed later", &[&frames[0], &frames[1]], &frames[0]);
    refused("H27 R33: swapped", &[], &frames[1]);
    refused("H27 R33: left out", &[&frames[0]], &frames[2]);

    let (mut sender, _) = pair();
    let own = seal(&mut sender, &content(100));
    assert_eq!(open(&mut sender.ingress, &own), Err(FrameError::HeaderMac), "H27 R33: sent back to its sender");
    let (_, mut stranger) = model_dials();
    refused("H27 R33: from another connection", &[], &seal(&mut stranger, &content(100)));
}

#[test]
fn content_and_tag_of_another_frame_are_refused() {
    let (mut model, _) = from_model();
    let (first, second) = (model.seal(&content(100)), model.seal(&content(100)));
    for cut in (32..first.len()).step_by(16) {
        let (_, mut ingress) = from_model();
        let spliced = [&first[..cut], &second[cut..]].concat();
        assert_eq!(open(&mut ingress, &spliced), Err(FrameError::BodyMac), "H27 R33: spliced at {cut}");
    }
}

/// Three frames, one of them of a whole number of blocks.
fn stream() -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut model, _) = from_model();
    let contents = vec![content(1), content(32), content(45)];
    let bytes = contents.iter().flat_map(|content| model.seal(content)).collect();
    (contents, bytes)
}

#[test]
fn a_stream_may_be_split_at_every_byte() {
    let (expected, stream) = stream();
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    let splits = (0..=stream.len()).map(|at| vec![&stream[..at], &stream[at..]]).chain([single]);
    for pieces in splits {
        let (_, mut ingress) = from_model();
        let (mut buffer, mut contents) = (BytesMut::new(), Vec::new());
        for piece in &pieces {
            buffer.extend_from_slice(piece);
            while let Some(content) = ingress.open(&mut buffer, 100).unwrap() {
                contents.push(content);
            }
            assert!(buffer.len() < ingress.wants(), "R64: nothing is held back that could be opened");
        }
        assert_eq!(contents, expected, "H29 R64: split at {}", pieces[0].len());
        assert!(buffer.is_empty() && !ingress.is_inside_frame(), "R64: the stream ends between frames");
    }
}

#[test]
fn reading_exactly_what_is_wanted_reads_the_stream() {
    let (expected, stream) = stream();
    let (_, mut ingress) = from_model();
    let (mut rest, mut contents) = (&stream[..], Vec::new());
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(ingress.wants());
        rest = tail;
        let mut buffer = BytesMut::from(piece);
        contents.extend(ingress.open(&mut buffer, 100).unwrap());
        assert!(buffer.is_empty(), "R64: all that was wanted is taken");
    }
    assert_eq!(contents, expected, "R64");
}

#[test]
fn a_stream_that_ends_early_is_known_to_have() {
    let (_, stream) = stream();
    let ends = [0, 32 + 16 + 16, 32 + 16 + 16 + 32 + 32 + 16, stream.len()];
    for length in 0..=stream.len() {
        let (_, mut ingress) = from_model();
        let mut buffer = BytesMut::from(&stream[..length]);
        while ingress.open(&mut buffer, 100).unwrap().is_some() {}
        let between_frames = buffer.is_empty() && !ingress.is_inside_frame();
        assert_eq!(between_frames, ends.contains(&length), "R65: after {length} bytes");
    }
}

#[test]
fn a_thousand_frames_may_come_at_once() {
    let (mut sender, mut receiver) = pair();
    let mut wire = BytesMut::new();
    for number in 0..1000u32 {
        sender.egress.seal(&mut wire, |out| out.extend_from_slice(&number.to_be_bytes())).unwrap();
    }
    for number in 0..1000u32 {
        let content = receiver.ingress.open(&mut wire, 4).unwrap().expect("a whole frame");
        assert_eq!(content, number.to_be_bytes()[..], "H29: in order");
    }
    assert_eq!(receiver.ingress.open(&mut wire, 4), Ok(None), "H29: not one more");
}

#[test]
fn both_directions_run_on_their_own() {
    let (mut first, mut second) = pair();
    let to_second: Vec<Vec<u8>> = (1..20).map(|size| seal(&mut first, &content(size * 7))).collect();
    for size in 1..20 {
        let frame = seal(&mut second, &content(size * 11));
        assert_eq!(open(&mut first.ingress, &frame).unwrap().unwrap(), content(size * 11));
        assert_eq!(open(&mut second.ingress, &to_second[size - 1]).unwrap().unwrap(), content(size * 7));
    }
}

#[test]
fn a_content_lives_as_long_as_it_is_kept() {
    let (mut sender, mut receiver) = pair();
    let mut wire = BytesMut::new();
    let mut kept: Vec<Bytes> = Vec::new();
    for size in 1..50 {
        wire.extend_from_slice(&seal(&mut sender, &content(size)));
        kept.push(receiver.ingress.open(&mut wire, 100).unwrap().expect("a whole frame").freeze());
    }
    for (size, content) in (1..50).zip(kept) {
        assert_eq!(content, common::content(size), "later frames do not write into earlier contents");
    }
}
