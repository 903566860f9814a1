//! Requests and answers, and messages as values.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arbitrary::{Result, Unstructured};
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

use super::{bytes, choice};
use crate::p2p::Capability;
use crate::peer::Message;
use crate::protocol::BoxError;
use crate::rlp_list;
use crate::typed::channel::Intake;
use crate::typed::requests::{Pending, Requests};
use crate::typed::{Asked, BodyError, Breach, MAX_LATE, MessageSet, Request, RequestError, items};

/// What a peer may say, in three codes; two more are answers.
#[derive(Debug, PartialEq)]
enum Calc {
    Double(Asked<Number<0, 1>>),
    Negate(Asked<Number<2, 3>>),
    Note(Vec<u8>),
}

const NOTE: u64 = 4;

/// A request with this code, answered with that one.
#[derive(Debug, Clone, PartialEq)]
struct Number<const CODE: u64, const ANSWER_CODE: u64>(u32);

impl<const CODE: u64, const ANSWER_CODE: u64> Encodable for Number<CODE, ANSWER_CODE> {
    fn rlp_append(&self, stream: &mut RlpStream) {
        stream.append(&self.0);
    }
}

impl<const CODE: u64, const ANSWER_CODE: u64> Decodable for Number<CODE, ANSWER_CODE> {
    fn decode(body: &Rlp<'_>) -> std::result::Result<Self, DecoderError> {
        Ok(Self(body.as_val()?))
    }
}

impl<const CODE: u64, const ANSWER_CODE: u64> Request for Number<CODE, ANSWER_CODE> {
    type Messages = Calc;
    type Answer = u64;
    const CODE: u64 = CODE;
    const ANSWER_CODE: u64 = ANSWER_CODE;

    fn check(&self, answer: &u64) -> std::result::Result<(), BoxError> {
        if *answer == 2 * u64::from(self.0) { Ok(()) } else { Err("another number".into()) }
    }
}

impl MessageSet for Calc {
    const LENGTH: u64 = 6;
    const ANSWER_CODES: &'static [u64] = &[1, 3];
    const MAX_OUTSTANDING: usize = LIMIT;

    fn parts(&self) -> (u64, &dyn Encodable) {
        match self {
            Self::Double(body) => (0, body),
            Self::Negate(body) => (2, body),
            Self::Note(body) => (NOTE, body),
        }
    }

    fn from_parts(code: u64, body: &Rlp<'_>) -> std::result::Result<Self, BodyError> {
        Ok(match code {
            0 => Self::Double(body.as_val()?),
            2 => Self::Negate(body.as_val()?),
            NOTE => {
                let [note] = items(body)?;
                Self::Note(note.as_val()?)
            }
            _ => return Err(BodyError::UnknownCode),
        })
    }
}

/// How many requests may be outstanding.
const LIMIT: usize = 5;

/// Requests that are made, given up and answered, in any order and by any answer: each answer reaches who asked once,
/// one that nobody asked for is a breach and none that was asked for is, and bodies are read as they were written or
/// not at all. Returns how many messages and answers were taken.
///
/// The input: operations of a byte and what belongs to it.
pub fn typed(data: &[u8]) -> usize {
    let requests = Arc::new(Requests::new(LIMIT));
    let mut driver = Driver::new(&requests);
    let mut input = Unstructured::new(data);
    while !input.is_empty() && driver.step(&mut input).is_ok() {}
    driver.close();
    driver.taken
}

enum Outstanding<'a> {
    Double(Pending<'a, Number<0, 1>>),
    Negate(Pending<'a, Number<2, 3>>),
}

/// A request as the model knows it.
struct Known<'a> {
    pending: Outstanding<'a>,
    id: u64,
    answer_code: u64,
    number: u32,
    /// What came of it: the answer, or nothing that could be read.
    outcome: Option<Option<u64>>,
    is_sent: bool,
}

struct Driver<'a> {
    requests: &'a Arc<Requests>,
    intake: Intake<Calc>,
    known: Vec<Known<'a>>,
    /// Ids that nobody waits for any longer, with the codes of their answers, and how many were forgotten.
    late: VecDeque<(u64, u64)>,
    forgotten: usize,
    /// The ids that were used.
    used: BTreeMap<u64, ()>,
    taken: usize,
}

impl<'a> Driver<'a> {
    fn new(requests: &'a Arc<Requests>) -> Self {
        let capability = Capability::new("calc", 1).expect("the name is valid");
        let intake = Intake::new(capability, requests.clone());
        let (known, late, used) = (Vec::new(), VecDeque::new(), BTreeMap::new());
        Self { requests, intake, known, late, forgotten: 0, used, taken: 0 }
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match choice(input, 8)? {
            0 | 1 => {
                let (is_sent, number) = (choice(input, 4)? > 0, input.arbitrary::<u8>()?.into());
                self.ask(number, is_sent);
            }
            2 if !self.known.is_empty() => {
                let place = usize::from(choice(input, LIMIT as u8)?) % self.known.len();
                self.give_up(place);
            }
            3 => {
                // More than are remembered.
                for number in 0..u32::from(input.arbitrary::<u8>()?) {
                    if self.known.len() < LIMIT {
                        self.ask(number, true);
                        self.give_up(self.known.len() - 1);
                    }
                }
            }
            4 | 5 => self.answer(input)?,
            6 => self.message(input)?,
            _ => {
                let code = choice(input, Calc::LENGTH as u8)?;
                self.raw(code.into(), bytes(input, 512)?);
            }
        }
        assert!(self.late.len() <= MAX_LATE, "R6");
        Ok(())
    }

    fn ask(&mut self, number: u32, is_sent: bool) {
        let outstanding = self.known.iter().filter(|known| known.outcome.is_none()).count();
        let place = match self.requests.try_place() {
            Ok(place) => place,
            Err(error) => {
                assert_eq!((error, outstanding), (RequestError::Full { limit: LIMIT }, LIMIT), "R6");
                return;
            }
        };
        assert!(outstanding < LIMIT, "R6: more requests are outstanding than may be");
        let id = self.requests.next_id();
        assert_eq!(self.used.insert(id, ()), None, "R6: an id is used twice");
        let pending = match number % 2 {
            0 => self.requests.expect(id, place, Number(number)).map(|mut pending| {
                pending.is_sent = is_sent;
                (Outstanding::Double(pending), 1)
            }),
            _ => self.requests.expect(id, place, Number(number)).map(|mut pending| {
                pending.is_sent = is_sent;
                (Outstanding::Negate(pending), 3)
            }),
        };
        let (pending, answer_code) = pending.expect("the channel is not closed");
        self.known.push(Known { pending, id, answer_code, number, outcome: None, is_sent });
    }

    /// Takes the answer if it has come, and waits no longer if it has not.
    fn give_up(&mut self, place: usize) {
        let known = self.known.swap_remove(place);
        if known.outcome.is_none() && known.is_sent {
            self.late.push_back((known.id, known.answer_code));
            if self.late.len() > MAX_LATE {
                self.late.pop_front();
                self.forgotten += 1;
            }
        }
        let expected = known.outcome.map(|outcome| outcome.ok_or(RequestError::Gone));
        assert_eq!(known.pending.poll(), expected, "R6: an answer reaches who asked");
    }

    /// An answer under an id that was used, or near one that was, with a number that is right or is not.
    fn answer(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (back, code) = (u64::from(input.arbitrary::<u8>()?), [1, 3][usize::from(choice(input, 2)?)]);
        let (is_right, is_whole) = (choice(input, 4)? > 0, choice(input, 4)? > 0);
        let latest = self.used.last_key_value().map_or(0, |(id, ())| *id);
        let id = latest.wrapping_add(2).wrapping_sub(back);
        let number = self.known.iter().find(|known| known.id == id).map_or(0, |known| known.number);
        let answer = 2 * u64::from(number) + u64::from(!is_right);
        let mut body = RlpStream::new_list(if is_whole { 2 } else { 3 });
        body.append(&id).append(&answer);
        if !is_whole {
            body.append(&answer);
        }
        self.raw(code, &body.out());
        Ok(())
    }

    /// A message as it is sent, which is taken as it was.
    fn message(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (id, number) = (input.arbitrary()?, input.arbitrary()?);
        let message = match choice(input, 3)? {
            0 => Calc::Double(Asked::new(id, Number(number))),
            1 => Calc::Negate(Asked::new(id, Number(number))),
            _ => Calc::Note(bytes(input, 300)?.to_vec()),
        };
        let (code, body) = message.parts();
        let body = if let Calc::Note(note) = &message { note_body(note) } else { body.rlp_bytes().to_vec() };
        let taken = self.intake.take(&Message::new(code, body.into()));
        assert!(matches!(&taken, Ok(Some(read)) if *read == message), "R6: {message:?} is read as {taken:?}");
        self.taken += 1;
        Ok(())
    }

    /// Any bytes as a message with this code.
    fn raw(&mut self, code: u64, body: &[u8]) {
        let taken = self.intake.take(&Message::new(code, body.to_vec().into()));
        if let Err(breach) = &taken {
            assert!(!breach.to_string().contains(char::is_control), "control characters are shown");
        }
        if Calc::ANSWER_CODES.contains(&code) {
            return self.check_answer(code, body, taken);
        }
        let is_sound = rlp_list::check(body).is_ok();
        match taken {
            Ok(Some(message)) => {
                assert!(is_sound && message.parts().0 == code);
                self.taken += 1;
            }
            Ok(None) => panic!("a message is no answer"),
            Err(Breach::UnknownCode { .. }) => assert!(code == 5 && is_sound, "R6"),
            Err(breach) => assert!(matches!(breach, Breach::Malformed { .. }), "{breach:?}"),
        }
    }

    fn check_answer(&mut self, code: u64, body: &[u8], taken: std::result::Result<Option<Calc>, Breach>) {
        let Some(id) = first_number(body) else {
            assert!(matches!(taken, Err(Breach::Malformed { .. })), "{taken:?}");
            return;
        };
        let is_sound = rlp_list::check(body).is_ok();
        let whole: Option<u64> = items::<2>(&Rlp::new(body)).ok().and_then(|[_, answer]| answer.as_val().ok());
        if let Some(known) = self.known.iter_mut().find(|known| known.id == id && known.outcome.is_none()) {
            let right = whole.filter(|answer| is_sound && *answer == 2 * u64::from(known.number));
            let is_expected = match &taken {
                Err(Breach::WrongKind { .. }) => return assert_ne!(known.answer_code, code, "R6"),
                Ok(None) => right.is_some(),
                Err(Breach::Unfit { .. }) => is_sound && whole.is_some() && right.is_none(),
                Err(Breach::Malformed { .. }) => !is_sound || whole.is_none(),
                _ => false,
            };
            assert!(is_expected && known.answer_code == code, "R6: {taken:?}");
            known.outcome = Some(right);
            self.taken += usize::from(right.is_some());
        } else if let Some(place) = self.late.iter().position(|(late, _)| *late == id) {
            if self.late[place].1 == code {
                assert!(matches!(taken, Ok(None)), "H62: {taken:?}");
                self.late.remove(place);
            } else {
                assert!(matches!(taken, Err(Breach::WrongKind { .. })), "H62: {taken:?}");
            }
        } else if self.forgotten > 0 && self.used.contains_key(&id) {
            assert!(matches!(taken, Ok(None)), "H62: {taken:?}");
            self.forgotten -= 1;
        } else {
            assert!(matches!(taken, Err(Breach::Unsolicited { .. })), "H62: {taken:?}");
        }
    }

    /// Nothing is received any more: who waits is told.
    fn close(&mut self) {
        self.requests.close();
        assert_eq!(self.requests.try_place().err(), Some(RequestError::Gone), "R6");
        for known in self.known.drain(..) {
            let expected = known.outcome.flatten().ok_or(RequestError::Gone);
            assert_eq!(known.pending.poll(), Some(expected), "R6");
        }
    }
}

impl Outstanding<'_> {
    /// The answer as far as it is there; `None` when it is still waited for.
    fn poll(self) -> Option<std::result::Result<u64, RequestError>> {
        match self {
            Self::Double(pending) => poll(pending.answer()),
            Self::Negate(pending) => poll(pending.answer()),
        }
    }
}

fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn note_body(note: &[u8]) -> Vec<u8> {
    let mut body = RlpStream::new_list(1);
    body.append(&note);
    body.out().to_vec()
}

/// The first item of the list that the bytes begin with, if it is a number.
fn first_number(body: &[u8]) -> Option<u64> {
    let list = Rlp::new(body);
    let info = list.payload_info().ok().filter(|_| list.is_list())?;
    let content = body.get(info.header_len..info.header_len.checked_add(info.value_len)?)?;
    let item = rlp::PayloadInfo::from(content).ok()?;
    let end = item.header_len.checked_add(item.value_len).filter(|end| *end <= content.len())?;
    rlp::decode(&content[..end]).ok()
}
