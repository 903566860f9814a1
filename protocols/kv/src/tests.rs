use std::time::Duration;

use capmux::rlp::{DecoderError, Encodable, Rlp, RlpStream};
use capmux::testing::{self, Driven, Opened, Pair, Wire, expect_message, node};
use capmux::typed::{Breach, MessageSet};
use capmux::{Channel, DisconnectReason, Ending, Party, PeerError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;

// R32: the same tests over memory and TCP. Those of exact times have to be in memory.
capmux::over_each_wire! {
    requests_are_answered_with_these_bytes,
    answers_with_these_bytes_reach_who_asked,
    both_ends_ask_and_answer_at_once,
    an_unsolicited_answer_ends_the_peer,
    an_answer_given_twice_ends_the_peer,
    an_answer_of_the_wrong_kind_ends_the_peer,
    a_count_of_nothing_or_too_much_is_refused_before_anything_is_looked_up,
    malformed_bodies_end_the_peer,
    a_body_above_the_limit_is_not_even_read,
    malformed_answers_end_the_peer,
    keys_that_were_not_asked_for_end_the_peer,
    all_requests_fail_at_once_when_the_peer_leaves,
    a_dropped_future_frees_its_place,
    requests_under_way_are_bounded,
    what_cannot_be_asked_is_not_sent,
}

const VALUE: u64 = Get::ANSWER_CODE;
const STORED: u64 = Put::ANSWER_CODE;
const KEYS: u64 = List::ANSWER_CODE;
const SHORT: Duration = Duration::from_millis(10);

/// A node whose peer's end is in the hands of the test.
struct Node {
    kv: Kv,
    pair: Pair,
    channel: Channel,
}

impl Node {
    async fn start(wire: Wire) -> Self {
        Self::with(wire, Settings::default()).await
    }

    async fn with(wire: Wire, settings: Settings) -> Self {
        let (protocol, kv) = Kv::new(settings);
        let Driven { channel, pair } = wire.drive(NAME, 1, 6, protocol).await;
        Self { kv, pair, channel }
    }

    /// The peer that the node asks.
    fn peer(&self) -> &Peer {
        &self.pair.at_second
    }

    fn get(&self, key: &'static str) -> JoinHandle<Result<Option<Bytes>, KvError>> {
        let (kv, peer) = (self.kv.clone(), self.peer().clone());
        tokio::spawn(async move { kv.get(&peer, key).await })
    }

    fn list(&self, after: &'static str, count: usize) -> JoinHandle<Result<Vec<Bytes>, KvError>> {
        let (kv, peer) = (self.kv.clone(), self.peer().clone());
        tokio::spawn(async move { kv.list(&peer, after, count).await })
    }

    async fn send(&self, code: u64, body: impl Into<Bytes>) {
        self.channel.send(code, body).await.unwrap();
    }

    /// The next request: its id, after the rest of it was compared with what it should be.
    async fn asked(&mut self, code: u64, request: &[u8]) -> u64 {
        let message = expect_message(&mut self.channel, code).await;
        let id = Rlp::new(&message.payload).val_at(0).unwrap();
        assert_eq!(message.payload, with_id(id, request), "R6: code {code}");
        id
    }

    async fn answered(&mut self, code: u64, body: &[u8]) {
        assert_eq!(&expect_message(&mut self.channel, code).await.payload[..], body, "R1 R6: code {code}");
    }

    /// How the peer ends that has done something wrong, which it has to be told as 0x10.
    async fn ended(self) -> Ending {
        let told = self.pair.at_first.closed().await;
        let reason = (told.reason(), told.by());
        assert_eq!(reason, (Some(DisconnectReason::SubprotocolError), Party::Remote), "R7 H57 {told}");
        self.pair.at_second.closed().await
    }
}

/// What the typed channel has found.
fn breach(ending: &Ending) -> &Breach {
    let PeerError::HandlerFailed { source, .. } = ending.error() else { panic!("H57 {ending}") };
    source.downcast_ref().unwrap_or_else(|| panic!("H57 {source:?}"))
}

/// `[id, body]`, the body being RLP already.
fn with_id(id: u64, body: &[u8]) -> Bytes {
    let mut list = RlpStream::new_list(2);
    list.append(&id).append_raw(body, 1);
    list.out().freeze()
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn violation(ending: &Ending) -> Option<&Violation> {
    let PeerError::HandlerFailed { source, .. } = ending.error() else { panic!("{ending}") };
    match source.downcast_ref::<Breach>() {
        Some(Breach::Unfit { source, .. }) => source.downcast_ref(),
        _ => source.downcast_ref(),
    }
}

#[test]
fn requests_have_their_bytes_in_both_directions() {
    let key = |text| Key(bytes(text));
    let put = Put { key: key("a"), value: Value(bytes("b")) };
    let cases: [(KvMessage, u64, &[u8]); 4] = [
        (KvMessage::Get(Asked::new(7, Get(key("a")))), 0, b"\xc2\x07a"),
        (KvMessage::Put(Asked::new(0x0400, put)), 2, b"\xc6\x82\x04\x00\xc2ab"),
        (KvMessage::List(Asked::new(7, List { after: Bytes::new(), count: 2 })), 4, b"\xc4\x07\xc2\x80\x02"),
        (
            KvMessage::List(Asked::new(0, List { after: bytes("key"), count: 256 })),
            4,
            b"\xc9\x80\xc7\x83key\x82\x01\x00",
        ),
    ];
    for (message, code, body) in cases {
        let (own_code, own_body) = message.parts();
        assert_eq!((own_code, &own_body.rlp_bytes()[..]), (code, body), "R6");
        assert_eq!(KvMessage::from_parts(code, &Rlp::new(body)), Ok(message), "R6");
    }
}

async fn requests_are_answered_with_these_bytes(wire: Wire) {
    let mut node = Node::with(wire, Settings { max_entries: 2, ..Settings::default() }).await;
    node.send(0, &b"\xc2\x07a"[..]).await;
    node.answered(1, b"\xc2\x07\xc0").await;
    node.send(2, &b"\xc6\x82\x04\x00\xc2ab"[..]).await;
    node.answered(3, b"\xc4\x82\x04\x00\x01").await;
    node.send(0, &b"\xc2\x07a"[..]).await;
    node.answered(1, b"\xc3\x07\xc1b").await;
    node.send(2, &b"\xca\x07\xc8\x82cd\x84\xff\xfe\xfd\xfc"[..]).await;
    node.answered(3, b"\xc2\x07\x01").await;
    node.send(4, &b"\xc4\x07\xc2\x80\x02"[..]).await;
    node.answered(5, b"\xc6\x07\xc4a\x82cd").await;
    node.send(4, &b"\xc4\x07\xc2\x80\x01"[..]).await;
    node.answered(5, b"\xc3\x07\xc1a").await;
    node.send(4, &b"\xc4\x07\xc2a\x02"[..]).await;
    node.answered(5, b"\xc5\x07\xc3\x82cd").await;
    node.send(4, &b"\xc4\x07\xc2z\x02"[..]).await;
    node.answered(5, b"\xc2\x07\xc0").await;
    // No place for a third; the value of a second is replaced.
    node.send(2, &b"\xc4\x07\xc2ef"[..]).await;
    node.answered(3, b"\xc2\x07\x80").await;
    node.send(2, &b"\xc4\x07\xc2ax"[..]).await;
    node.answered(3, b"\xc2\x07\x01").await;
    assert_eq!(node.kv.store().get(b"a"), Some(bytes("x")));
    assert_eq!(node.kv.store().len(), 2);
}

async fn answers_with_these_bytes_reach_who_asked(wire: Wire) {
    let mut node = Node::start(wire).await;
    for (found, value) in [(&b"\xc6\x85green"[..], Some("green")), (b"\xc0", None), (b"\xc1\x80", Some(""))] {
        let get = node.get("colour");
        let id = node.asked(0, b"\x86colour").await;
        node.send(1, with_id(id, found)).await;
        assert_eq!(get.await.unwrap().unwrap(), value.map(bytes), "R6 {found:02x?}");
    }
    for (stored, put) in [(b"\x01", Ok(())), (b"\x80", Err(KvError::StoreFull))] {
        let (kv, peer) = (node.kv.clone(), node.peer().clone());
        let putting = tokio::spawn(async move { kv.put(&peer, "a", "b").await });
        let id = node.asked(2, b"\xc2ab").await;
        node.send(3, with_id(id, stored)).await;
        assert_eq!(putting.await.unwrap(), put, "R6");
    }
    let list = node.list("a", 256);
    let id = node.asked(4, b"\xc4a\x82\x01\x00").await;
    node.send(5, with_id(id, b"\xc4b\x82bc")).await;
    assert_eq!(list.await.unwrap().unwrap(), ["b", "bc"], "R6");
}

async fn both_ends_ask_and_answer_at_once(wire: Wire) {
    let ((first, at_first), (second, at_second)) = (Kv::new(Settings::default()), Kv::new(Settings::default()));
    let pair = wire.pair(node().protocol(first), node().protocol(second)).await;
    let value = vec![7; MAX_VALUE_SIZE];
    for number in 0..MAX_COUNT {
        let key = format!("{number:064}");
        let put = tokio::join!(
            at_first.put(&pair.at_first, key.clone(), value.clone()),
            at_second.put(&pair.at_second, key, "")
        );
        assert_eq!(put, (Ok(()), Ok(())), "R1: the largest key and value");
    }
    let listed = at_first.list(&pair.at_first, "", MAX_COUNT).await.unwrap();
    assert_eq!(listed.len(), MAX_COUNT, "R20: the longest answer");
    assert_eq!(at_first.get(&pair.at_first, listed[9].clone()).await.unwrap().unwrap(), value);
    assert_eq!(at_second.get(&pair.at_second, listed[9].clone()).await, Ok(Some(Bytes::new())));
    let rest = at_second.list(&pair.at_second, listed[253].clone(), 3).await;
    assert_eq!(rest.unwrap(), listed[254..], "fewer than asked for are all");
}

async fn an_unsolicited_answer_ends_the_peer(wire: Wire) {
    for code in [VALUE, STORED, KEYS] {
        let node = Node::start(wire).await;
        // What follows the id is not even RLP.
        node.send(code, &b"\xc2\x07\xb8"[..]).await;
        let ending = node.ended().await;
        let breach = breach(&ending);
        assert!(matches!(breach, Breach::Unsolicited { id: 7, code: named, .. } if *named == code), "H62 {breach}");
    }
}

async fn an_answer_given_twice_ends_the_peer(wire: Wire) {
    let mut node = Node::start(wire).await;
    let get = node.get("a");
    let id = node.asked(0, b"a").await;
    for _ in 0..2 {
        node.send(VALUE, with_id(id, b"\xc1b")).await;
    }
    assert_eq!(get.await.unwrap(), Ok(Some(bytes("b"))), "H62: the first one counts");
    let ending = node.ended().await;
    let breach = breach(&ending);
    assert!(matches!(breach, Breach::Unsolicited { id: named, .. } if *named == id), "H62 {breach}");
}

async fn an_answer_of_the_wrong_kind_ends_the_peer(wire: Wire) {
    for (code, body) in [(STORED, &b"\x01"[..]), (KEYS, b"\xc1b"), (STORED, b"\xc1b")] {
        let mut node = Node::start(wire).await;
        let get = node.get("a");
        let id = node.asked(0, b"a").await;
        node.send(code, with_id(id, body)).await;
        assert_eq!(get.await.unwrap(), Err(RequestError::Gone.into()));
        let ending = node.ended().await;
        let breach = breach(&ending);
        let Breach::WrongKind { code: named, expected: VALUE, .. } = breach else { panic!("H62 {breach}") };
        assert_eq!(*named, code, "H62");
    }
}

async fn a_count_of_nothing_or_too_much_is_refused_before_anything_is_looked_up(wire: Wire) {
    let cases: [(&[u8], u64); 3] = [
        (b"\xc4\x07\xc2\x80\x80", 0),
        (b"\xc6\x07\xc4\x80\x82\x01\x01", 257),
        (b"\xcc\x07\xca\x80\x88\xff\xff\xff\xff\xff\xff\xff\xff", u64::MAX),
    ];
    for (body, count) in cases {
        let node = Node::start(wire).await;
        // Any look at it would be a panic, which is another ending.
        node.kv.store().poison();
        node.send(4, body).await;
        let ending = node.ended().await;
        assert_eq!(violation(&ending), Some(&Violation::Count { count }), "H62 {ending}");
    }
}

async fn malformed_bodies_end_the_peer(wire: Wire) {
    let long_key = |size| Asked::new(7, Get(Key(vec![7; size].into()))).rlp_bytes().to_vec();
    let long_value = |size| {
        let put = Put { key: Key(bytes("a")), value: Value(vec![7; size].into()) };
        Asked::new(7, put).rlp_bytes().to_vec()
    };
    let long_after = Asked::new(7, List { after: vec![7; 65].into(), count: 1 }).rlp_bytes().to_vec();
    let key_size = DecoderError::Custom("a key has 1 to 64 bytes");
    let cases = [
        (0, b"".to_vec(), DecoderError::RlpIsTooShort),
        (0, b"\x07".to_vec(), DecoderError::RlpExpectedToBeList),
        (0, b"\xc1\x07".to_vec(), DecoderError::RlpIncorrectListLen),
        (0, b"\xc3\x07ab".to_vec(), DecoderError::RlpIncorrectListLen),
        (0, b"\xc2\x07ab".to_vec(), DecoderError::RlpInconsistentLengthAndData),
        (0, b"\xc4\x82\x00\x07a".to_vec(), DecoderError::RlpInvalidIndirection),
        (0, b"\xcb\x89\x01\x01\x01\x01\x01\x01\x01\x01\x01a".to_vec(), DecoderError::RlpIsTooBig),
        (0, b"\xc2\x07\x80".to_vec(), key_size.clone()),
        (0, long_key(65), key_size.clone()),
        (2, b"\xc4\x07\xc2\x80b".to_vec(), key_size.clone()),
        (2, b"\xc3\x07\xc1a".to_vec(), DecoderError::RlpIncorrectListLen),
        (2, b"\xc4\x07\xc2a\xc0".to_vec(), DecoderError::RlpExpectedToBeData),
        (2, long_value(MAX_VALUE_SIZE + 1), DecoderError::Custom("a value has at most 16384 bytes")),
        (4, long_after, key_size),
        (4, b"\xc5\x07\xc3\x80\x01\x01".to_vec(), DecoderError::RlpIncorrectListLen),
    ];
    for (code, body, cause) in cases {
        let node = Node::start(wire).await;
        node.kv.store().poison();
        node.send(code, body.clone()).await;
        let ending = node.ended().await;
        let breach = breach(&ending);
        let Breach::Malformed { capability, code: named, source } = breach else { panic!("H57 {breach}") };
        assert_eq!((capability.to_string(), *named, source), ("kv/1".into(), code, &cause), "H57 {body:02x?}");
    }
    let mut node = Node::start(wire).await;
    node.send(0, long_key(64)).await;
    node.answered(1, b"\xc2\x07\xc0").await;
    node.send(2, long_value(MAX_VALUE_SIZE)).await;
    node.answered(3, b"\xc2\x07\x01").await;
}

async fn a_body_above_the_limit_is_not_even_read(wire: Wire) {
    let node = Node::start(wire).await;
    node.send(0, vec![0; MAX_BODY_SIZE + 1]).await;
    let ending = node.pair.at_second.closed().await;
    assert!(matches!(ending.error(), PeerError::Session(_)), "R20: the handler does not see it: {ending}");
    assert_eq!((ending.reason(), ending.by()), (Some(DisconnectReason::ProtocolError), Party::Local), "R20 {ending}");
}

async fn malformed_answers_end_the_peer(wire: Wire) {
    let long_value = Value(vec![7; MAX_VALUE_SIZE + 1].into()).rlp_bytes();
    let mut found = RlpStream::new_list(1);
    found.append_raw(&long_value, 1);
    for answer in [&b"\xc2ab"[..], b"a", b"\xc1\xc0", &found.out()] {
        let mut node = Node::start(wire).await;
        let get = node.get("a");
        let id = node.asked(0, b"a").await;
        node.send(VALUE, with_id(id, answer)).await;
        assert_eq!(get.await.unwrap(), Err(RequestError::Gone.into()));
        let ending = node.ended().await;
        let breach = breach(&ending);
        assert!(matches!(breach, Breach::Malformed { code: VALUE, .. }), "H57 {breach}");
    }
}

async fn keys_that_were_not_asked_for_end_the_peer(wire: Wire) {
    let cases: [(&[u8], Violation); 4] = [
        (b"\xc3cde", Violation::TooMany { listed: 3, count: 2 }),
        (b"\xc1b", Violation::Order),
        (b"\xc2dc", Violation::Order),
        (b"\xc2cc", Violation::Order),
    ];
    for (keys, expected) in cases {
        let mut node = Node::start(wire).await;
        let list = node.list("b", 2);
        let id = node.asked(4, b"\xc2b\x02").await;
        node.send(KEYS, with_id(id, keys)).await;
        assert_eq!(list.await.unwrap(), Err(RequestError::Gone.into()));
        let ending = node.ended().await;
        assert_eq!(violation(&ending), Some(&expected), "H62 {ending}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_times_out_fails_alone_and_its_late_answer_is_no_breach() {
    let wire = Wire::Memory;
    let mut node = Node::start(wire).await;
    let before = Instant::now();
    let get = node.get("a");
    let late = node.asked(0, b"a").await;
    let limit = Settings::default().timeout;
    assert_eq!(get.await.unwrap(), Err(RequestError::Timeout { limit }.into()), "H62");
    assert_eq!(before.elapsed().as_millis(), limit.as_millis());
    node.send(VALUE, with_id(late, b"\xc1b")).await;
    let get = node.get("c");
    let id = node.asked(0, b"c").await;
    assert_ne!(id, late, "no id is used again");
    node.send(VALUE, with_id(id, b"\xc0")).await;
    assert_eq!(get.await.unwrap(), Ok(None), "H62: the peer lives");
}

async fn all_requests_fail_at_once_when_the_peer_leaves(wire: Wire) {
    let mut node = Node::start(wire).await;
    let requests: Vec<_> = (0..10).map(|_| node.get("a")).collect();
    for _ in 0..10 {
        node.asked(0, b"a").await;
    }
    let before = Instant::now();
    node.pair.at_first.disconnect(DisconnectReason::Requested);
    for request in requests {
        assert_eq!(request.await.unwrap(), Err(RequestError::Gone.into()), "R8");
    }
    assert!(before.elapsed() < Duration::from_secs(1), "R8: at once");
    node.peer().closed().await;
    assert_eq!(node.get("a").await.unwrap(), Err(RequestError::Gone.into()));
    assert!(node.kv.pool.count() == 0, "R8 R12: what was kept for the peer is gone with it");
}

async fn a_dropped_future_frees_its_place(wire: Wire) {
    let mut node = Node::start(wire).await;
    for _ in 0..2 * MAX_OUTSTANDING {
        let dropped = timeout(SHORT, node.kv.get(node.peer(), "a")).await;
        assert!(dropped.is_err(), "nobody answers");
        node.asked(0, b"a").await;
    }
    let get = node.get("b");
    let id = node.asked(0, b"b").await;
    node.send(VALUE, with_id(id, b"\xc0")).await;
    assert_eq!(get.await.unwrap(), Ok(None), "R9 R16");
}

async fn requests_under_way_are_bounded(wire: Wire) {
    let mut node = Node::start(wire).await;
    let requests: Vec<_> = (0..=MAX_OUTSTANDING).map(|_| node.get("a")).collect();
    let first = node.asked(0, b"a").await;
    for _ in 1..MAX_OUTSTANDING {
        node.asked(0, b"a").await;
    }
    let more = timeout(SHORT, node.channel.recv()).await;
    assert!(more.is_err(), "R9: sent before there was a place: {more:?}");
    node.send(VALUE, with_id(first, b"\xc0")).await;
    node.asked(0, b"a").await;
    drop(requests);
}

async fn what_cannot_be_asked_is_not_sent(wire: Wire) {
    let mut node = Node::start(wire).await;
    let (kv, peer) = (node.kv.clone(), node.peer().clone());
    let too_long = vec![7; 65];
    assert_eq!(kv.get(&peer, "").await, Err(InvalidEntry::Key { size: 0 }.into()));
    assert_eq!(kv.get(&peer, too_long.clone()).await, Err(InvalidEntry::Key { size: 65 }.into()));
    let size = MAX_VALUE_SIZE + 1;
    assert_eq!(kv.put(&peer, "a", vec![0; size]).await, Err(InvalidEntry::Value { size }.into()));
    assert_eq!(kv.list(&peer, too_long.clone(), 1).await, Err(InvalidEntry::Key { size: 65 }.into()));
    for count in [0, 257, usize::MAX] {
        assert_eq!(kv.list(&peer, "", count).await, Err(KvError::Count { count }), "H62");
    }
    assert_eq!(kv.store().put(too_long, ""), Err(InvalidEntry::Key { size: 65 }));
    assert!(kv.store().is_empty());
    assert!(timeout(SHORT, node.channel.recv()).await.is_err(), "nothing was sent");

    let ((own, _), (other, mut opened)): (_, (_, Opened)) =
        (testing::manual("other", 1, 1), testing::manual("other", 1, 1));
    let stranger = wire.pair(testing::node().protocol(own), testing::node().protocol(other)).await;
    opened.next().await;
    assert_eq!(kv.get(&stranger.at_first, "a").await, Err(KvError::NotShared));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_reaches_who_asked_over_tcp_while_others_give_up() {
    let (protocol, answers) = Kv::new(Settings::default());
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = testing::node().listen(listen).protocol(protocol).start().await.unwrap();
    let (protocol, kv) = Kv::new(Settings::default());
    let client = testing::node().protocol(protocol).start().await.unwrap();
    let peer = client.dial(&server.enode().unwrap()).await.unwrap();
    let tasks: Vec<_> = (0..2 * MAX_OUTSTANDING)
        .map(|number| {
            let key = format!("key {number}");
            answers.store().put(key.clone(), key.clone()).unwrap();
            let (kv, peer) = (kv.clone(), peer.clone());
            tokio::spawn(async move {
                for round in 0..30_u64 {
                    let get = kv.get(&peer, key.clone());
                    if round % 3 == 0 {
                        // Dropped at some point of its life, or ready before.
                        let _ = timeout(Duration::from_micros(100 * round), get).await;
                    } else {
                        assert_eq!(get.await.unwrap().unwrap(), key, "R1 R6");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(peer.ending().is_none(), "H62: late answers are no breach");
    server.shutdown().await;
    assert_eq!(kv.get(&peer, "key 1").await, Err(RequestError::Gone.into()));
}
