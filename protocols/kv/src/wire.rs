//! The messages: what the crate's documentation says about the wire, as types.

use bytes::Bytes;
use capmux::BoxError;
use capmux::rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};
use capmux::typed::{self, Asked, BodyError, MessageSet, Request};

use crate::{MAX_COUNT, MAX_KEY_SIZE, MAX_OUTSTANDING, MAX_VALUE_SIZE, Violation};

/// What a peer may ask.
#[derive(Debug, PartialEq)]
pub(crate) enum KvMessage {
    Get(Asked<Get>),
    Put(Asked<Put>),
    List(Asked<List>),
}

impl MessageSet for KvMessage {
    const LENGTH: u64 = 6;
    const ANSWER_CODES: &'static [u64] = &[Get::ANSWER_CODE, Put::ANSWER_CODE, List::ANSWER_CODE];
    const MAX_OUTSTANDING: usize = MAX_OUTSTANDING;

    fn parts(&self) -> (u64, &dyn Encodable) {
        match self {
            Self::Get(body) => (Get::CODE, body),
            Self::Put(body) => (Put::CODE, body),
            Self::List(body) => (List::CODE, body),
        }
    }

    fn from_parts(code: u64, body: &Rlp<'_>) -> Result<Self, BodyError> {
        Ok(match code {
            Get::CODE => Self::Get(body.as_val()?),
            Put::CODE => Self::Put(body.as_val()?),
            List::CODE => Self::List(body.as_val()?),
            _ => return Err(BodyError::UnknownCode),
        })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Get(pub(crate) Key);

impl Request for Get {
    type Messages = KvMessage;
    type Answer = Option<Value>;
    const CODE: u64 = 0;
    const ANSWER_CODE: u64 = 1;
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Put {
    pub(crate) key: Key,
    pub(crate) value: Value,
}

impl Request for Put {
    type Messages = KvMessage;
    /// Whether it is stored. It is not when there is no place.
    type Answer = bool;
    const CODE: u64 = 2;
    const ANSWER_CODE: u64 = 3;
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct List {
    /// The keys behind this one, which need not be there. Empty: from the first.
    pub(crate) after: Bytes,
    pub(crate) count: u64,
}

impl List {
    /// How many keys may be listed. No peer gets further with another count.
    pub(crate) fn checked_count(&self) -> Result<usize, Violation> {
        let count = usize::try_from(self.count).ok().filter(|count| (1..=MAX_COUNT).contains(count));
        count.ok_or(Violation::Count { count: self.count })
    }
}

impl Request for List {
    type Messages = KvMessage;
    type Answer = Keys;
    const CODE: u64 = 4;
    const ANSWER_CODE: u64 = 5;

    fn check(&self, answer: &Keys) -> Result<(), BoxError> {
        let listed = answer.0.len();
        if u64::try_from(listed).is_ok_and(|listed| listed > self.count) {
            return Err(Violation::TooMany { listed, count: self.count }.into());
        }
        let behind = answer.0.first().is_none_or(|first| first.0 > self.after);
        if behind && answer.0.is_sorted_by(|one, next| one.0 < next.0) { Ok(()) } else { Err(Violation::Order.into()) }
    }
}

/// 1 to [`MAX_KEY_SIZE`] bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key(pub(crate) Bytes);

/// At most [`MAX_VALUE_SIZE`] bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value(pub(crate) Bytes);

/// What a [`List`] is answered with, in ascending order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Keys(pub(crate) Vec<Key>);

impl Encodable for Key {
    fn rlp_append(&self, stream: &mut RlpStream) {
        self.0.rlp_append(stream);
    }
}

impl Decodable for Key {
    fn decode(item: &Rlp<'_>) -> Result<Self, DecoderError> {
        match item.size() {
            1..=MAX_KEY_SIZE => Ok(Self(item.as_val()?)),
            _ => Err(DecoderError::Custom("a key has 1 to 64 bytes")),
        }
    }
}

impl Encodable for Value {
    fn rlp_append(&self, stream: &mut RlpStream) {
        self.0.rlp_append(stream);
    }
}

impl Decodable for Value {
    fn decode(item: &Rlp<'_>) -> Result<Self, DecoderError> {
        match item.size() {
            ..=MAX_VALUE_SIZE => Ok(Self(item.as_val()?)),
            _ => Err(DecoderError::Custom("a value has at most 16384 bytes")),
        }
    }
}

impl Encodable for Keys {
    fn rlp_append(&self, stream: &mut RlpStream) {
        stream.append_list(&self.0);
    }
}

impl Decodable for Keys {
    fn decode(list: &Rlp<'_>) -> Result<Self, DecoderError> {
        match list.item_count()? {
            ..=MAX_COUNT => Ok(Self(list.as_list()?)),
            _ => Err(DecoderError::Custom("at most 256 keys are listed")),
        }
    }
}

impl Encodable for Get {
    fn rlp_append(&self, stream: &mut RlpStream) {
        self.0.rlp_append(stream);
    }
}

impl Decodable for Get {
    fn decode(key: &Rlp<'_>) -> Result<Self, DecoderError> {
        Ok(Self(key.as_val()?))
    }
}

impl Encodable for Put {
    fn rlp_append(&self, stream: &mut RlpStream) {
        stream.begin_list(2).append(&self.key).append(&self.value);
    }
}

impl Decodable for Put {
    fn decode(list: &Rlp<'_>) -> Result<Self, DecoderError> {
        let [key, value] = typed::items(list)?;
        Ok(Self { key: key.as_val()?, value: value.as_val()? })
    }
}

impl Encodable for List {
    fn rlp_append(&self, stream: &mut RlpStream) {
        stream.begin_list(2).append(&self.after).append(&self.count);
    }
}

impl Decodable for List {
    fn decode(list: &Rlp<'_>) -> Result<Self, DecoderError> {
        let [after, count] = typed::items(list)?;
        let size = after.size();
        if size > MAX_KEY_SIZE {
            return Err(DecoderError::Custom("a key has 1 to 64 bytes"));
        }
        Ok(Self { after: after.as_val()?, count: count.as_val()? })
    }
}
