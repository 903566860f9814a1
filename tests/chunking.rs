//! Messages in chunks, as `docs/chunking.md` describes them.

#[allow(dead_code, reason = "each test takes what it needs")]
mod common;

use std::time::{Duration, Instant};

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use capmux::p2p::{
    ChunkError, Chunking, DisconnectReason, Event, MAX_CHUNK_SIZE, MessageId, Registered, RegistrationError, Session,
    SessionError, SessionSettings,
};
use common::session::{capability, frame, hello, id_bytes, registered};
use proptest::prelude::*;
use rlp::RlpStream;

/// The ids: `aaa` 0x10 to 0x12, chunk 0x13 and 0x14, `zzz` 0x15 and 0x16.
const AAA: u64 = 0x10;
const FIRST: u64 = 0x13;
const MORE: u64 = 0x14;
const ZZZ: u64 = 0x15;

const LIMIT: usize = 1000;

fn protocols() -> Vec<Registered> {
    let limited = |protocol| Registered { max_message_size: LIMIT, ..protocol };
    vec![limited(registered("zzz", 1, 2)), limited(registered("aaa", 1, 3))]
}

/// A session of two ends that both chunk, without compression.
fn session() -> Session {
    session_of(4, &protocols())
}

fn session_of(version: u64, protocols: &[Registered]) -> Session {
    let settings = SessionSettings::default().chunking(true);
    assert_eq!(settings.check_protocols(protocols), Ok(()));
    Session::new(hello(version, settings.capabilities(protocols)), protocols, settings, Instant::now())
}

fn receive(session: &mut Session, id: u64, data: &[u8]) -> Result<Event, SessionError> {
    session.receive(frame(&id_bytes(id), data), Instant::now())
}

fn first(session: &mut Session, id: u64, size: u64, piece: &[u8]) -> Result<Event, SessionError> {
    let mut list = RlpStream::new_list(3);
    list.append(&id).append(&size).append(&piece);
    receive(session, FIRST, &list.out())
}

fn more(session: &mut Session, id: u64, piece: &[u8]) -> Result<Event, SessionError> {
    let mut list = RlpStream::new_list(2);
    list.append(&id).append(&piece);
    receive(session, MORE, &list.out())
}

fn breach(outcome: Result<Event, SessionError>) -> ChunkError {
    match outcome {
        Err(error @ SessionError::Chunk(_)) => {
            assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "R19: {error}");
            let SessionError::Chunk(error) = error else { unreachable!() };
            error
        }
        other => panic!("R19: {other:?}"),
    }
}

fn message(place: usize, code: u64, payload: &[u8]) -> Result<Event, SessionError> {
    Ok(Event::Message { place, code, payload: Bytes::copy_from_slice(payload) })
}

#[test]
fn chunks_have_these_bytes() {
    let chunking = session().chunking().unwrap();
    let data = |encode: &dyn Fn(&mut BytesMut) -> MessageId| {
        let mut out = BytesMut::new();
        (encode(&mut out).value(), out.to_vec())
    };
    let id = MessageId::new(0x21);
    let sent = data(&|out| chunking.encode_first(id, 5, b"hel", out));
    assert_eq!(sent, (FIRST, b"\xc6\x21\x05\x83hel".to_vec()), "R19");
    assert_eq!(data(&|out| chunking.encode_more(id, b"lo", out)), (MORE, b"\xc4\x21\x82lo".to_vec()), "R19");
    let sent = data(&|out| chunking.encode_first(MessageId::new(0x1234), 0x01_0000, b"\x7f", out));
    assert_eq!(sent.1, b"\xc8\x82\x12\x34\x83\x01\x00\x00\x7f", "R19: a byte below 0x80 stands for itself");
    let sent = data(&|out| chunking.encode_first(MessageId::new(0x80), 0x80, b"\x80", out));
    assert_eq!(sent.1, b"\xc6\x81\x80\x81\x80\x81\x80", "R19");
    let expected = [&b"\xf8\x3b\x21\xb8\x38"[..], &[7; 56]].concat();
    assert_eq!(data(&|out| chunking.encode_more(id, &[7; 56], out)).1, expected, "R19: 56 bytes have a long header");
    let expected = [&b"\xf9\x01\x04\x21\xb9\x01\x00"[..], &[7; 256]].concat();
    assert_eq!(data(&|out| chunking.encode_more(id, &[7; 256], out)).1, expected, "R19");
    let largest = vec![7; Chunking::MAX_PIECE];
    let sent = data(&|out| chunking.encode_first(MessageId::new(u64::MAX), usize::MAX, &largest, out));
    assert!(sent.1.len() <= MAX_CHUNK_SIZE, "R19: {} bytes", sent.1.len());
    assert!(sent.1.len() > MAX_CHUNK_SIZE - 16, "R19: and it fills the chunk: {} bytes", sent.1.len());

    let mut session = session();
    let zzz = |session: &mut Session, id, data: &[u8]| receive(session, id, data);
    assert_eq!(zzz(&mut session, FIRST, b"\xc6\x16\x05\x83hel"), Ok(Event::Chunk { place: 1 }), "R19");
    assert_eq!(zzz(&mut session, MORE, b"\xc4\x16\x82lo"), message(1, 1, b"hello"), "R19");
    assert_eq!(zzz(&mut session, FIRST, b"\xc3\x10\x01a"), message(0, 0, b"a"), "R19: one chunk can be all");
}

#[test]
fn both_ends_have_to_offer_it() {
    let (own, on) = (protocols(), SessionSettings::default().chunking(true));
    let both = on.capabilities(&own);
    assert!(both.contains(&capability("chunk", 1)), "R19");
    assert_eq!(SessionSettings::default().capabilities(&own), both[..2], "R19: off by default");
    let chunks = |settings, remote| Session::new(hello(5, remote), &own, settings, Instant::now());
    assert!(chunks(on, both.clone()).chunking().is_some(), "R19");
    for (settings, remote) in [(SessionSettings::default(), both.clone()), (on, both[..2].to_vec())] {
        let mut session = chunks(settings, remote);
        assert_eq!(session.chunking(), None, "R19");
        // The ids are then those that any other client computes.
        let zzz = receive(&mut session, 0x13, b"\0");
        assert!(matches!(zzz, Ok(Event::Message { place: 1, code: 0, .. })), "R19 R2: {zzz:?}");
    }
}

#[test]
fn it_takes_ids_and_is_not_shared() {
    let session = session();
    let shown: Vec<_> = session.shared().iter().map(|shared| (shared.capability.name(), shared.index)).collect();
    assert_eq!(shown, [("aaa", 1), ("zzz", 0)], "R19: handlers do not see it");
    assert_eq!(session.shared()[1].message_id(0), Some(MessageId::new(ZZZ)), "R19 R2: its ids lie in between");
    let alone = session_of(5, &[]);
    assert!(alone.chunking().is_some() && alone.shared().is_empty(), "R19 R3: a peer is useless with it alone");
}

#[test]
fn its_name_is_reserved_where_it_is_enabled() {
    let own = [registered("chunk", 7, 1)];
    assert_eq!(SessionSettings::default().check_protocols(&own), Ok(()), "R19");
    let error = SessionSettings::default().chunking(true).check_protocols(&own);
    assert_eq!(error, Err(RegistrationError::Reserved(capability("chunk", 7))), "R19 R3");
    let all = [registered("a", 1, u64::MAX - 17)];
    assert_eq!(SessionSettings::default().check_protocols(&all), Ok(()), "R3");
    let error = SessionSettings::default().chunking(true).check_protocols(&all);
    assert_eq!(error, Err(RegistrationError::TooManyCodes), "R19 R3: its ids count");
}

#[test]
fn other_messages_come_in_between() {
    let mut session = session();
    assert_eq!(first(&mut session, AAA, 4, b"on"), Ok(Event::Chunk { place: 0 }), "R19");
    assert_eq!(receive(&mut session, ZZZ, b"whole"), message(1, 0, b"whole"), "R19");
    assert_eq!(first(&mut session, ZZZ + 1, 2, b"z"), Ok(Event::Chunk { place: 1 }), "R19");
    assert_eq!(receive(&mut session, 0x02, b""), Ok(Event::Ping), "R19");
    assert_eq!(more(&mut session, AAA, b"ce"), message(0, 0, b"once"), "R19");
    assert_eq!(receive(&mut session, AAA + 2, b"next"), message(0, 2, b"next"), "R19");
    assert_eq!(more(&mut session, ZZZ + 1, b"z"), message(1, 1, b"zz"), "R19");
}

#[test]
fn messages_of_one_protocol_keep_their_order() {
    let interrupted = ChunkError::Interrupted { capability: capability("aaa", 1) };
    for id in [AAA, AAA + 1] {
        let mut session = session();
        first(&mut session, AAA, 4, b"on").unwrap();
        assert_eq!(breach(receive(&mut session, id, b"another")), interrupted, "R19");
        let mut session = self::session();
        first(&mut session, AAA, 4, b"on").unwrap();
        assert_eq!(breach(first(&mut session, id, 4, b"on")), interrupted, "R19");
    }
}

#[test]
fn sizes_are_checked_before_memory_is_taken() {
    for size in [LIMIT as u64 + 1, 1 << 32, u64::MAX] {
        let expected = ChunkError::TooLarge { capability: capability("aaa", 1), size, limit: LIMIT };
        assert_eq!(breach(first(&mut session(), AAA, size, b"a")), expected, "R19 R20");
    }
    let mut session = session();
    assert_eq!(first(&mut session, AAA, LIMIT as u64, &[1; LIMIT]), message(0, 0, &[1; LIMIT]), "R20: the limit");
    assert_eq!(breach(first(&mut session, AAA, 0, b"")), ChunkError::EmptyMessage { id: AAA }, "R19");
    assert_eq!(breach(first(&mut session, AAA, 0, b"a")), ChunkError::EmptyMessage { id: AAA }, "R19");
}

#[test]
fn pieces_have_bytes_and_stay_within_the_message() {
    assert_eq!(breach(first(&mut session(), AAA, 3, b"")), ChunkError::EmptyPiece { id: AAA }, "R19");
    let overflow = ChunkError::Overflow { id: AAA, size: 3 };
    assert_eq!(breach(first(&mut session(), AAA, 3, b"four")), overflow, "R19");
    let mut session = session();
    first(&mut session, AAA, 3, b"ab").unwrap();
    assert_eq!(breach(more(&mut session, AAA, b"cd")), overflow, "R19");
    let mut session = self::session();
    first(&mut session, AAA, 3, b"ab").unwrap();
    assert_eq!(breach(more(&mut session, AAA, b"")), ChunkError::EmptyPiece { id: AAA }, "R19");
}

#[test]
fn a_message_begins_before_it_goes_on() {
    assert_eq!(breach(more(&mut session(), AAA, b"a")), ChunkError::NotBegun { id: AAA }, "R19");
    let mut session = session();
    first(&mut session, AAA, 3, b"ab").unwrap();
    let other = breach(more(&mut session, AAA + 1, b"c"));
    assert_eq!(other, ChunkError::NotBegun { id: AAA + 1 }, "R19: another message of the same protocol");
    let mut session = self::session();
    first(&mut session, AAA, 2, b"ab").unwrap();
    assert_eq!(breach(more(&mut session, AAA, b"c")), ChunkError::NotBegun { id: AAA }, "R19: it is complete");
}

#[test]
fn only_messages_of_protocols_come_in_chunks() {
    for id in [0, 1, 2, 3, 0x0f, FIRST, MORE, ZZZ + 2, u64::MAX] {
        assert_eq!(breach(first(&mut session(), id, 2, b"a")), ChunkError::NoProtocol { id }, "R19");
        assert_eq!(breach(more(&mut session(), id, b"a")), ChunkError::NoProtocol { id }, "R19");
    }
}

#[test]
fn an_id_that_belongs_to_nothing_is_no_chunk() {
    for id in [ZZZ + 2, u64::MAX] {
        let mut session = session();
        first(&mut session, AAA, 3, b"ab").unwrap();
        let outcome = receive(&mut session, id, b"\xc2\x10c");
        assert_eq!(outcome, Err(SessionError::UnknownMessageId { id }), "R5 R19 H56: though it looks like one");
    }
}

#[test]
fn what_has_come_of_unfinished_messages_is_counted() {
    let mut session = session();
    assert_eq!(session.unfinished_bytes(), 0, "R19");
    first(&mut session, AAA, 9, b"four").unwrap();
    first(&mut session, ZZZ, 9, b"seven b").unwrap();
    assert_eq!(session.unfinished_bytes(), 11, "R19: of both");
    more(&mut session, AAA, b"+3b").unwrap();
    assert_eq!(session.unfinished_bytes(), 14, "R19");
    more(&mut session, ZZZ, b"ye").unwrap();
    assert_eq!(session.unfinished_bytes(), 7, "R19: what is delivered is held no more");
}

#[test]
fn chunks_are_exactly_the_lists_they_should_be() {
    let firsts: [&[u8]; 14] = [
        b"",
        b"\x10",
        b"\xc0",
        b"\xc1\x10",
        b"\xc2\x10\x02",
        b"\xc4\x10\x02a\x05",     // an element too many
        b"\xc3\x10\x02a\x05",     // bytes behind the list
        b"\xc4\x10\x02a",         // truncated
        b"\xc3\x10\x02\xc0",      // a list as the data
        b"\xc4\xc1\x10\x02a",     // a list as the id
        b"\xc4\x81\x10\x02a",     // integers that are not canonical
        b"\xc5\x10\x82\x00\x02a", // likewise
        b"\xc4\x10\x02\x81a",     // a string that is not
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    for data in firsts {
        assert!(matches!(breach(receive(&mut session(), FIRST, data)), ChunkError::Malformed(_)), "R19: {data:02x?}");
    }
    let long_id = [&[0xcc, 0x89][..], &[1; 9], b"\x02a"].concat();
    assert!(matches!(breach(receive(&mut session(), FIRST, &long_id)), ChunkError::Malformed(_)), "R19");
    for data in [&b"\xc1\x10"[..], b"\xc3\x10a\x05", b"\xc2\x10a\x05", b"\xc2\x10\xc0", b"\x10a"] {
        let mut session = session();
        first(&mut session, AAA, 100, b"begin").unwrap();
        assert!(matches!(breach(receive(&mut session, MORE, data)), ChunkError::Malformed(_)), "R19: {data:02x?}");
    }
}

#[test]
fn a_chunk_has_a_limit_of_its_own() {
    let large = [Registered { max_message_size: 1 << 20, ..registered("large", 1, 1) }];
    for version in [4, 5] {
        let mut session = session_of(version, &large);
        assert!(session.frame_limit() > MAX_CHUNK_SIZE, "R19 R20");
        let mut content = id_bytes(0x10).to_vec();
        let data = vec![0; MAX_CHUNK_SIZE + 1];
        match version {
            4 => content.extend_from_slice(&data),
            _ => content.extend_from_slice(&compressed(&data)),
        }
        let error = session.receive(content.into(), Instant::now()).unwrap_err();
        assert!(error.to_string().contains("chunk/1"), "R19 R20: {error}");
        assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "R19 R20");
    }
    let small = session_of(5, &[Registered { max_message_size: 1, ..registered("small", 1, 1) }]);
    assert!(small.frame_limit() > MAX_CHUNK_SIZE, "R19: a chunk fits whatever the protocols are");
}

fn compressed(data: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    capmux::rlpx::Compressor::default().compress(data, &mut out);
    out
}

#[test]
fn memory_grows_with_what_has_come() {
    let large = [Registered { max_message_size: 1 << 20, ..registered("large", 1, 1) }];
    let mut session = session_of(4, &large);
    let (id, size, piece) = (0x12, 1 << 20, vec![7; 4096]);
    // The ids are those of `chunk`, 0x10 and 0x11, and of `large`.
    let chunking = session.chunking().unwrap();
    let content = |data: &dyn Fn(&mut BytesMut) -> MessageId| {
        let mut out = BytesMut::new();
        let id = data(&mut out);
        frame(&id_bytes(id.value()), &out)
    };
    let begin = content(&|out| chunking.encode_first(MessageId::new(id), size, b"a", out));
    let go_on = content(&|out| chunking.encode_more(MessageId::new(id), &piece, out));
    let used = measure(|| drop(session.receive(begin, Instant::now()).unwrap()));
    assert!(used.bytes_max < 1024, "R19 R43: 1 MiB was declared, a byte has come: {used:?}");
    for count in 1..200 {
        let used = measure(|| drop(session.receive(go_on.clone(), Instant::now()).unwrap()));
        assert!(used.bytes_max <= (2 * 4096 * (count + 1)).min(size as u64 + 1024), "R19 R43: {count}: {used:?}");
    }
}

/// A message that is sent: to which id, its data, and where it is cut.
type Sent = (u64, Vec<u8>, Vec<usize>);

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let id = prop_oneof![AAA..AAA + 3, ZZZ..ZZZ + 2];
    let data = proptest::collection::vec(any::<u8>(), 1..LIMIT);
    proptest::collection::vec((id, data, proptest::collection::vec(1..300usize, 0..8)), 1..12)
}

/// The chunks of a message, or the message alone when it is not cut.
fn frames(chunking: Chunking, (id, data, cuts): &Sent) -> Vec<(MessageId, Vec<u8>)> {
    let message = MessageId::new(*id);
    if cuts.is_empty() {
        return vec![(message, data.clone())];
    }
    let (mut rest, mut frames, mut cuts) = (&data[..], Vec::new(), cuts.iter().cycle());
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().expect("there are cuts")));
        let mut out = BytesMut::new();
        let id = match frames.is_empty() {
            true => chunking.encode_first(message, data.len(), piece, &mut out),
            false => chunking.encode_more(message, piece, &mut out),
        };
        frames.push((id, out.to_vec()));
        rest = behind;
    }
    frames
}

proptest! {
    #[test]
    fn what_is_cut_anyhow_arrives_whole(
        sent in sent(),
        turns in proptest::collection::vec(any::<bool>(), 1..50),
        version in 4..=5u64,
    ) {
        let mut session = session_of(version, &protocols());
        let chunking = session.chunking().unwrap();
        let of = |protocol: &dyn Fn(u64) -> bool| -> Vec<_> {
            sent.iter().filter(|sent| protocol(sent.0)).flat_map(|sent| frames(chunking, sent)).collect()
        };
        // Each protocol keeps its order; between them anything goes.
        let mut queues = [of(&|id| id < FIRST), of(&|id| id > MORE)].map(Vec::into_iter);
        let (mut turns, mut received) = (turns.into_iter().cycle(), [Vec::new(), Vec::new()]);
        while queues.iter().any(|queue| queue.len() > 0) {
            let turn = usize::from(turns.next().unwrap());
            let Some((id, data)) = queues[turn].next().or_else(|| queues[1 - turn].next()) else { continue };
            let data = if version == 5 { compressed(&data) } else { data[..].into() };
            let content = frame(&id_bytes(id.value()), &data);
            match session.receive(content, Instant::now()).unwrap() {
                Event::Message { place, code, payload } => received[place].push((code, payload.to_vec())),
                event => assert!(matches!(event, Event::Chunk { .. }), "R19"),
            }
        }
        for (place, offset) in [(0, AAA), (1, ZZZ)] {
            let expected = sent.iter().filter(|(id, ..)| (*id > MORE) == (place == 1));
            let expected: Vec<_> = expected.map(|(id, data, _)| (id - offset, data.clone())).collect();
            assert_eq!(received[place], expected, "R19");
        }
    }
}

#[test]
fn a_message_is_whole_within_two_minutes_or_the_session_ends() {
    let mut session = session();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(first(&mut session, AAA, 4, b"on"), Ok(Event::Chunk { place: 0 }), "R19");
    let poll = |session: &mut Session, seconds| {
        session.inbound(at(seconds));
        session.poll(at(seconds)).map(|_| ())
    };
    assert_eq!(poll(&mut session, 110), Ok(()), "R19");
    session.excuse(Duration::from_secs(30));
    assert_eq!(poll(&mut session, 145), Ok(()), "R19: a pause of the receiver does not count");
    assert_eq!(poll(&mut session, 152), Err(SessionError::Chunk(ChunkError::Overdue)), "R19");
    assert_eq!(SessionError::Chunk(ChunkError::Overdue).disconnect_reason(), Some(DisconnectReason::ProtocolError));
}
