//! Messages as values: what a peer can do wrong with them, and requests from both ends of their lives.

use std::collections::HashSet;
use std::time::Duration;

use capmux::rlp::{self, Decodable, DecoderError, Encodable, Rlp, RlpStream};
use capmux::testing::{self, Pair, expect_message, node};
use capmux::typed::{
    self, Asked, BodyError, Breach, MAX_LATE, MessageSet, Request, RequestError, TypedChannel, TypedReceiver,
    TypedSender,
};
use capmux::{BoxError, Channel, DisconnectReason, Party, Peer, PeerError, SendError};
use proptest::collection;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;

const LONG: Duration = Duration::from_secs(1000);
const SHORT: Duration = Duration::from_millis(10);

/// "What is twice this?"
#[derive(Debug, PartialEq)]
struct Twice(u64);

impl Encodable for Twice {
    fn rlp_append(&self, stream: &mut RlpStream) {
        self.0.rlp_append(stream);
    }
}

impl Decodable for Twice {
    fn decode(body: &Rlp<'_>) -> Result<Self, DecoderError> {
        Ok(Self(body.as_val()?))
    }
}

impl Request for Twice {
    type Messages = Messages;
    type Answer = u64;
    const CODE: u64 = 0;
    const ANSWER_CODE: u64 = 1;

    fn check(&self, answer: &u64) -> Result<(), BoxError> {
        if *answer == 2 * self.0 { Ok(()) } else { Err("it is not twice as much".into()) }
    }
}

/// Code 5 is the answer to something that is never asked here, 3 and 4 nothing at all.
#[derive(Debug, PartialEq)]
enum Messages {
    Twice(Asked<Twice>),
    Note(String),
}

const NOTE: u64 = 2;
const OTHER_ANSWER: u64 = 5;

impl MessageSet for Messages {
    const LENGTH: u64 = 6;
    const ANSWER_CODES: &'static [u64] = &[Twice::ANSWER_CODE, OTHER_ANSWER];
    const MAX_OUTSTANDING: usize = 4;

    fn parts(&self) -> (u64, &dyn Encodable) {
        match self {
            Self::Twice(body) => (Twice::CODE, body),
            Self::Note(body) => (NOTE, body),
        }
    }

    fn from_parts(code: u64, body: &Rlp<'_>) -> Result<Self, BodyError> {
        Ok(match code {
            Twice::CODE => Self::Twice(body.as_val()?),
            NOTE => Self::Note(body.as_val()?),
            _ => return Err(BodyError::UnknownCode),
        })
    }
}

/// The two ends of a connection: one typed, the other as it is.
async fn ends() -> (TypedChannel<Messages>, Channel, Pair) {
    let ((own, mut own_opened), (other, mut other_opened)) =
        (testing::manual("twice", 1, 6), testing::manual("twice", 1, 6));
    let pair = testing::pair(node().protocol(own), node().protocol(other)).await;
    (TypedChannel::new(own_opened.next().await.1), other_opened.next().await.1, pair)
}

/// A typed end that is received from until something is wrong, and the other end.
async fn asking() -> (TypedSender<Messages>, JoinHandle<Result<(), Breach>>, Channel, Pair) {
    let (channel, other, pair) = ends().await;
    let (sender, receiver) = channel.split();
    (sender, tokio::spawn(receive(receiver)), other, pair)
}

async fn receive(mut receiver: TypedReceiver<Messages>) -> Result<(), Breach> {
    while receiver.recv().await?.is_some() {}
    Ok(())
}

fn ask(sender: &TypedSender<Messages>, number: u64, timeout: Duration) -> JoinHandle<Result<u64, RequestError>> {
    let sender = sender.clone();
    tokio::spawn(async move { sender.request(Twice(number), timeout).await })
}

/// The next request that comes at the untyped end.
async fn asked(other: &mut Channel) -> (u64, u64) {
    let request: Asked<Twice> = expect_message(other, Twice::CODE).await.decode().expect("a request");
    (request.id.number(), request.request.0)
}

fn answer(id: u64, number: u64) -> Vec<u8> {
    let mut body = RlpStream::new_list(2);
    body.append(&id).append(&number);
    body.out().to_vec()
}

async fn breach(receiving: JoinHandle<Result<(), Breach>>) -> Breach {
    let received = tokio::time::timeout(LONG, receiving).await.expect("a breach is noticed at once");
    received.expect("receiving does not panic").expect_err("the peer has done something wrong")
}

#[tokio::test(start_paused = true)]
async fn messages_are_values_in_both_directions() {
    let (mut channel, mut other, _pair) = ends().await;
    channel.send(&Messages::Note("cat".into())).await.unwrap();
    assert_eq!(&expect_message(&mut other, NOTE).await.payload[..], b"\x83cat", "R6");
    channel.try_send(&Messages::Twice(Asked::new(0x0400, Twice(21)))).unwrap();
    assert_eq!(&expect_message(&mut other, 0).await.payload[..], b"\xc4\x82\x04\x00\x15", "R6");

    other.send(0, &b"\xc4\x82\x04\x00\x15"[..]).await.unwrap();
    other.send(NOTE, &b"\x83cat"[..]).await.unwrap();
    let Some(Messages::Twice(Asked { id, request })) = channel.recv().await.unwrap() else { panic!("R6") };
    assert_eq!((id.number(), &request), (1024, &Twice(21)));
    channel.answer(id, &42).await.unwrap();
    assert_eq!(&expect_message(&mut other, 1).await.payload[..], b"\xc4\x82\x04\x00\x2a", "R6");
    assert_eq!(channel.next().await.unwrap().unwrap(), Messages::Note("cat".into()), "a stream, too");
    assert_eq!(channel.capability().to_string(), "twice/1");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_body_ends_its_peer_alone() {
    let protocol = typed::protocol("twice", 1, |_peer: Peer, mut channel: TypedChannel<Messages>| async move {
        while channel.recv().await?.is_some() {}
        Ok(())
    });
    let good = testing::drive("twice", 1, 6, protocol.clone()).await;
    let deep = [&vec![0xc1; 65][..], b"\xc0"].concat();
    let cases: [(u64, &[u8]); 8] = [
        (0, b""),
        (0, b"\x05"),
        (0, b"\xc1\x05"),
        (0, b"\xc3\x05\x06\x07"),
        (0, b"\xc2\x05\x06\x07"),
        (0, b"\xc3\x05\x82\x06"),
        (1, b"\xc2\x82\x06"),
        (NOTE, &deep),
    ];
    for (code, body) in cases {
        let bad = testing::drive("twice", 1, 6, protocol.clone()).await;
        bad.channel.send(code, body.to_vec()).await.unwrap();
        let ending = bad.pair.at_second.closed().await;
        let PeerError::HandlerFailed { source, .. } = ending.error() else { panic!("H57 {ending}") };
        let Some(Breach::Malformed { capability, code: named, source }) = source.downcast_ref() else {
            panic!("H57 {code} {body:02x?} {source}")
        };
        assert_eq!((capability.to_string().as_str(), *named), ("twice/1", code), "H57 {source}");
        let told = bad.pair.at_first.closed().await;
        assert_eq!((told.reason(), told.by()), (Some(DisconnectReason::SubprotocolError), Party::Remote), "H57");
    }
    good.channel.send(NOTE, &b"\x83cat"[..]).await.unwrap();
    let lives = tokio::time::timeout(SHORT, good.pair.at_second.closed()).await;
    assert!(lives.is_err(), "H57: the other peer lives: {lives:?}");
}

#[tokio::test(start_paused = true)]
async fn a_code_that_no_message_has_is_refused() {
    let (_sender, receiving, other, _pair) = asking().await;
    other.send(3, &b"\xc0"[..]).await.unwrap();
    let breach = breach(receiving).await;
    assert!(matches!(&breach, Breach::UnknownCode { code: 3, .. }), "H57 {breach}");
    assert_eq!(breach.to_string(), "twice/1 has no message with code 3");
}

#[tokio::test(start_paused = true)]
async fn answers_reach_who_asked_in_any_order_and_once() {
    let (sender, receiving, mut other, _pair) = asking().await;
    let requests: Vec<_> = (0..4).map(|number| ask(&sender, number, LONG)).collect();
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(asked(&mut other).await);
    }
    assert_eq!(ids.iter().map(|(id, _)| id).collect::<HashSet<_>>().len(), 4, "R6: each has its own id");
    for (id, number) in ids.iter().rev() {
        other.send(1, answer(*id, 2 * number)).await.unwrap();
    }
    for (number, request) in requests.into_iter().enumerate() {
        assert_eq!(request.await.unwrap(), Ok(2 * number as u64), "R14");
    }
    let (id, number) = ids[2];
    other.send(1, answer(id, 2 * number)).await.unwrap();
    let breach = breach(receiving).await;
    assert!(matches!(breach, Breach::Unsolicited { id: named, code: 1, .. } if named == id), "H62 {breach}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_nobody_asked_for_is_refused_before_it_is_decoded() {
    for code in [1, OTHER_ANSWER] {
        let (_sender, receiving, other, _pair) = asking().await;
        // The id is 7; what follows is cut off.
        other.send(code, &b"\xc5\x07\xb8\xff\xff\xff"[..]).await.unwrap();
        let breach = breach(receiving).await;
        assert!(matches!(breach, Breach::Unsolicited { id: 7, .. }), "H62 {breach}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_kind_is_refused_before_it_is_decoded() {
    let (sender, receiving, mut other, _pair) = asking().await;
    let request = ask(&sender, 1, LONG);
    let (id, _) = asked(&mut other).await;
    let mut body = answer(id, 2);
    *body.last_mut().unwrap() = 0xb8;
    other.send(OTHER_ANSWER, body).await.unwrap();
    let breach = breach(receiving).await;
    let Breach::WrongKind { code, expected, id: named, .. } = breach else { panic!("H62 {breach}") };
    assert_eq!((code, expected, named), (OTHER_ANSWER, 1, id), "H62");
    assert_eq!(request.await.unwrap(), Err(RequestError::Gone), "who asked learns at once");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_answer_is_refused() {
    let (sender, receiving, mut other, _pair) = asking().await;
    let request = ask(&sender, 4, LONG);
    let (id, _) = asked(&mut other).await;
    other.send(1, answer(id, 9)).await.unwrap();
    let breach = breach(receiving).await;
    assert!(
        matches!(&breach, Breach::Unfit { source, .. } if source.to_string() == "it is not twice as much"),
        "H62 {breach}"
    );
    assert_eq!(request.await.unwrap(), Err(RequestError::Gone));
}

#[tokio::test(start_paused = true)]
async fn a_malformed_answer_is_a_breach_and_fails_its_request() {
    let (sender, receiving, mut other, _pair) = asking().await;
    let request = ask(&sender, 4, LONG);
    let (id, _) = asked(&mut other).await;
    other.send(1, [answer(id, 8), vec![0]].concat()).await.unwrap();
    let breach = breach(receiving).await;
    assert!(matches!(breach, Breach::Malformed { code: 1, .. }), "H57 {breach}");
    assert_eq!(request.await.unwrap(), Err(RequestError::Gone));
}

#[tokio::test(start_paused = true)]
async fn what_is_outstanding_is_bounded() {
    let (sender, _receiving, mut other, _pair) = asking().await;
    let requests: Vec<_> = (0..4).map(|number| ask(&sender, number, LONG)).collect();
    let (first, _) = asked(&mut other).await;
    for _ in 1..4 {
        asked(&mut other).await;
    }
    let refused = sender.try_request(Twice(5), LONG).await;
    assert_eq!(refused, Err(RequestError::Full { limit: 4 }), "H62 R9: at once");
    let waiting = ask(&sender, 5, LONG);
    assert!(tokio::time::timeout(SHORT, other.recv()).await.is_err(), "R9: nothing is sent before there is a place");
    let late = sender.request(Twice(6), SHORT).await;
    assert_eq!(late, Err(RequestError::Timeout { limit: SHORT }), "the wait for a place counts");

    other.send(1, answer(first, 0)).await.unwrap();
    let (id, number) = asked(&mut other).await;
    assert_eq!(number, 5, "who waits gets the place that is free");
    other.send(1, answer(id, 10)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(10));
    drop(requests);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_free_when_its_request_is_over() {
    let (sender, receiving, mut other, _pair) = asking().await;
    let mut ids = Vec::new();
    for number in 0..8 {
        let over: Result<_, RequestError> = if number % 2 == 0 {
            sender.try_request(Twice(number), SHORT).await
        } else {
            let asking = tokio::time::timeout(SHORT, sender.request(Twice(number), LONG)).await;
            asking.map_err(|_| RequestError::Timeout { limit: SHORT }).flatten()
        };
        assert_eq!(over, Err(RequestError::Timeout { limit: SHORT }), "number {number}: R9");
        ids.push(asked(&mut other).await.0);
    }
    for id in &ids {
        // Too late, and so not even decoded.
        let mut body = answer(*id, 1);
        *body.last_mut().unwrap() = 0xb8;
        other.send(1, body).await.unwrap();
    }
    let request = ask(&sender, 9, LONG);
    let (id, _) = asked(&mut other).await;
    assert!(!ids.contains(&id), "no id is used again");
    other.send(1, answer(id, 18)).await.unwrap();
    assert_eq!(request.await.unwrap(), Ok(18), "H62: late answers are no breach");
    other.send(1, answer(ids[0], 0)).await.unwrap();
    let breach = breach(receiving).await;
    assert!(matches!(breach, Breach::Unsolicited { .. }), "H62: but once: {breach}");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_has_the_right_kind_too() {
    let (sender, receiving, mut other, _pair) = asking().await;
    sender.request(Twice(1), SHORT).await.unwrap_err();
    let (id, _) = asked(&mut other).await;
    other.send(OTHER_ANSWER, answer(id, 2)).await.unwrap();
    let breach = breach(receiving).await;
    assert!(matches!(breach, Breach::WrongKind { .. }), "H62 {breach}");
}

/// More requests than are remembered that nobody waits for, and their ids.
async fn abandoned(sender: &TypedSender<Messages>, other: &mut Channel) -> Vec<u64> {
    let mut ids = Vec::new();
    for number in 0..MAX_LATE as u64 + 2 {
        sender.request(Twice(number), SHORT).await.expect_err("nobody answers");
        ids.push(asked(other).await.0);
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_is_not_blamed_for_what_was_forgotten() {
    let (sender, receiving, mut other, _pair) = asking().await;
    let ids = abandoned(&sender, &mut other).await;
    for id in &ids {
        other.send(1, answer(*id, 0)).await.unwrap();
    }
    let request = ask(&sender, 3, LONG);
    let (id, _) = asked(&mut other).await;
    other.send(1, answer(id, 6)).await.unwrap();
    assert_eq!(request.await.unwrap(), Ok(6), "H62: late answers are no breach");
    other.send(1, answer(ids[0], 0)).await.unwrap();
    let breach = breach(receiving).await;
    assert!(matches!(breach, Breach::Unsolicited { id, .. } if id == ids[0]), "H62: but so many only: {breach}");
}

#[tokio::test(start_paused = true)]
async fn an_id_that_was_never_used_is_not_one_that_was_forgotten() {
    for strange in [|ids: &[u64]| ids[0].wrapping_sub(1), |ids: &[u64]| ids[ids.len() - 1].wrapping_add(1)] {
        let (sender, receiving, mut other, _pair) = asking().await;
        let strange = strange(&abandoned(&sender, &mut other).await);
        other.send(1, answer(strange, 0)).await.unwrap();
        let breach = breach(receiving).await;
        assert!(matches!(breach, Breach::Unsolicited { id, .. } if id == strange), "H62 {breach}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_end_with_the_peer_and_with_the_receiver() {
    let (sender, receiving, mut other, pair) = asking().await;
    let requests: Vec<_> = (0..10).map(|number| ask(&sender, number, LONG)).collect();
    for _ in 0..4 {
        asked(&mut other).await;
    }
    let before = tokio::time::Instant::now();
    pair.at_second.disconnect(DisconnectReason::Requested);
    for request in requests {
        assert_eq!(request.await.unwrap(), Err(RequestError::Gone), "waiting for an answer, or for a place");
    }
    assert!(before.elapsed() < Duration::from_secs(1), "at once");
    assert!(receiving.await.unwrap().is_ok());
    assert_eq!(sender.try_request(Twice(1), LONG).await, Err(RequestError::Gone));
    assert_eq!(sender.send(&Messages::Note(String::new())).await, Err(SendError::Closed));

    let (sender, receiving, mut other, _pair) = asking().await;
    let request = ask(&sender, 1, LONG);
    asked(&mut other).await;
    receiving.abort();
    assert_eq!(request.await.unwrap(), Err(RequestError::Gone), "nobody receives any more");
}

#[tokio::test(start_paused = true)]
async fn requests_end_with_the_peer_though_its_channel_is_kept() {
    let (mut channel, mut other, pair) = ends().await;
    let request = ask(&channel.sender(), 1, LONG);
    asked(&mut other).await;
    pair.at_second.disconnect(DisconnectReason::Requested);
    assert_eq!(channel.recv().await.unwrap(), None);
    assert_eq!(request.await.unwrap(), Err(RequestError::Gone), "no answer can come any more");
    assert_eq!(channel.sender().request(Twice(1), LONG).await, Err(RequestError::Gone));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_before_the_peer_left_is_delivered() {
    let (channel, mut other, pair) = ends().await;
    let (sender, receiver) = channel.split();
    let request = ask(&sender, 3, LONG);
    let (id, _) = asked(&mut other).await;
    other.send(1, answer(id, 6)).await.unwrap();
    other.send(NOTE, &b"\x83cat"[..]).await.unwrap();
    drop(other);
    pair.at_second.disconnect(DisconnectReason::Requested);
    sender.closed().await;
    receive(receiver).await.unwrap();
    assert_eq!(request.await.unwrap(), Ok(6));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_receive_loses_nothing() {
    let (mut channel, mut other, _pair) = ends().await;
    let request = ask(&channel.sender(), 3, LONG);
    let (id, _) = asked(&mut other).await;
    assert!(tokio::time::timeout(SHORT, channel.recv()).await.is_err());
    other.send(1, answer(id, 6)).await.unwrap();
    assert!(tokio::time::timeout(SHORT, channel.recv()).await.is_err(), "an answer is no message");
    other.send(NOTE, &b"\x83cat"[..]).await.unwrap();
    assert_eq!(channel.recv().await.unwrap(), Some(Messages::Note("cat".into())));
    assert_eq!(request.await.unwrap(), Ok(6));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_goes_on_after_a_breach_keeps_its_requests() {
    let (mut channel, mut other, _pair) = ends().await;
    let request = ask(&channel.sender(), 3, LONG);
    let (id, _) = asked(&mut other).await;
    other.send(3, &b"\xc0"[..]).await.unwrap();
    other.send(1, answer(id, 6)).await.unwrap();
    other.send(NOTE, &b"\x83cat"[..]).await.unwrap();
    channel.recv().await.unwrap_err();
    channel.recv().await.unwrap();
    assert_eq!(request.await.unwrap(), Ok(6));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_sent_fails_alone() {
    let (small, mut small_opened) = testing::manual("twice", 1, 6);
    let (other, mut other_opened) = testing::manual("twice", 1, 6);
    let small = node().protocol(small.max_message_size(9));
    let _pair = testing::pair(small, node().protocol(other)).await;
    let mut other = other_opened.next().await.1;
    let (sender, receiver) = TypedChannel::<Messages>::new(small_opened.next().await.1).split();
    tokio::spawn(receive(receiver));
    let refused = sender.request(Twice(u64::MAX), LONG).await;
    assert!(matches!(refused, Err(RequestError::Send(SendError::TooLarge { limit: 9, .. }))), "R20 {refused:?}");
    // Nothing is remembered of what was never sent, and the place is free.
    for _ in 0..5 {
        sender.request(Twice(u64::MAX), LONG).await.unwrap_err();
    }
    assert!(tokio::time::timeout(SHORT, other.recv()).await.is_err(), "nothing was sent");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_accepted_is_what_would_be_sent(bodies in collection::vec((select(vec![Twice::CODE, NOTE]), body()), 64)) {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (mut channel, other, _pair) = ends().await;
            for (code, body) in bodies {
                other.send(code, body.clone()).await.unwrap();
                match channel.recv().await {
                    Ok(message) => {
                        let message = message.expect("the peer lives");
                        let (sent, as_sent) = message.parts();
                        assert_eq!((sent, &as_sent.rlp_bytes()[..]), (code, &body[..]), "H57 {message:?}");
                    }
                    Err(breach) => assert!(matches!(breach, Breach::Malformed { .. }), "H57 {breach}"),
                }
            }
        });
    }
}

/// Bytes that are often RLP, and sometimes a request.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let byte = select(b"\x00\x01\x05\x7fa\x80\x81\x82\x88\xb8\xc0\xc1\xc2\xc3\xc4\xf8\xff".to_vec());
    let request = (select(vec![0xc1, 0xc2, 0xc3, 0xc4]), collection::vec(byte.clone(), 1..4))
        .prop_map(|(header, items)| [vec![header], items].concat());
    prop_oneof![collection::vec(byte, 0..6), request]
}

#[test]
fn items_are_exactly_as_many() {
    let count = |bytes: &[u8]| typed::items::<2>(&Rlp::new(bytes)).map(|items| items.len());
    assert_eq!(count(b"\xc2\x01\x02"), Ok(2));
    assert_eq!(count(b"\xc4\xc1\x05\x81\x80"), Ok(2));
    assert_eq!(count(b"\xc1\x01"), Err(DecoderError::RlpIncorrectListLen), "H57");
    assert_eq!(count(b"\xc3\x01\x02\x03"), Err(DecoderError::RlpIncorrectListLen), "H57");
    assert_eq!(count(b"\x82\x01\x02"), Err(DecoderError::RlpExpectedToBeList), "H57");
    assert_eq!(count(b"\xc2\x01\x82"), Err(DecoderError::RlpIsTooShort), "H57");
    assert_eq!(rlp::encode(&Asked::new(5, Twice(6))), &b"\xc2\x05\x06"[..]);
}
