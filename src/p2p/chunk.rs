//! Large messages in chunks, between which messages of other protocols can go: the capability `chunk/1`, whose wire
//! format is described in `docs/chunking.md`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use rlp::{DecoderError, PayloadInfo};

use super::capability::{Capability, Registered, Shared, SharedCapabilities};
use super::message::{MessageId, integer_len, put_integer};
use crate::rlp_list::RlpList;

/// The name of the capability.
pub(crate) const CHUNK_NAME: &str = "chunk";

/// The largest chunk message, in bytes before compression (`docs/chunking.md`, "Limits").
pub const MAX_CHUNK_SIZE: usize = 65_536;

/// How long a message may take from its First to its last More, pauses of the receiver aside: a sender may hold a large one
/// back while others have precedence, but not a receiver's memory for ever (`docs/chunking.md`, "For receivers").
pub const CHUNK_TIMEOUT: Duration = Duration::from_secs(120);

/// What chunking takes part in the negotiation with.
pub(crate) fn registered() -> Registered {
    let capability = Capability::new(CHUNK_NAME, 1).expect("the name is valid");
    Registered { capability, length: 2, max_message_size: MAX_CHUNK_SIZE, rate: None }
}

/// What is wrong with a chunk, or with the message that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// It is not exactly the list that it should be.
    #[error("a chunk is malformed")]
    Malformed(#[from] DecoderError),
    /// The message is none of a protocol: of the base protocol, of no shared one, or a chunk itself.
    #[error("a chunk of a message with the id {id:#x}, which belongs to no shared protocol")]
    NoProtocol {
        /// The id of the message.
        id: u64,
    },
    /// A message of no bytes.
    #[error("a message of no bytes in chunks, with the id {id:#x}")]
    EmptyMessage {
        /// The id of the message.
        id: u64,
    },
    /// A message that declares to be larger than its protocol allows. No memory was taken for it.
    #[error("a message in chunks declares {size} bytes for {capability}, where the limit is {limit}")]
    TooLarge {
        /// The protocol that the message is for.
        capability: Capability,
        /// The declared size.
        size: u64,
        /// The protocol's limit.
        limit: usize,
    },
    /// A chunk that holds nothing of the message.
    #[error("an empty chunk of a message with the id {id:#x}")]
    EmptyPiece {
        /// The id of the message.
        id: u64,
    },
    /// The pieces are more than the message declared.
    #[error("the chunks of a message with the id {id:#x} are more than the {size} bytes that it declared")]
    Overflow {
        /// The id of the message.
        id: u64,
        /// The declared size.
        size: usize,
    },
    /// A further chunk of a message that is not in progress.
    #[error("a further chunk of a message with the id {id:#x}, which has not begun")]
    NotBegun {
        /// The id of the message.
        id: u64,
    },
    /// A message was not whole in time.
    #[error("a message in chunks was not whole within {CHUNK_TIMEOUT:?}")]
    Overdue,
    /// Another message of a protocol, in chunks or not, before the one in progress is whole.
    #[error("a message for {capability} before the one in progress is whole")]
    Interrupted {
        /// The protocol.
        capability: Capability,
    },
}

/// Chunking as it was agreed on: cuts messages into chunks (`docs/chunking.md`).
///
/// The chunks of one message are sent in order, the first with [`encode_first`](Self::encode_first) and the others with
/// [`encode_more`](Self::encode_more), and no other message of its protocol in between. Pieces have 1 to
/// [`MAX_PIECE`](Self::MAX_PIECE) bytes and are what the message has before compression; that, and that they add up to
/// the total, is not checked here. The data that is made goes through a [`MessageEncoder`](super::MessageEncoder) like
/// any other, under the id that is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunking {
    first: MessageId,
    more: MessageId,
}

impl Chunking {
    /// The most bytes of a message that one chunk holds: [`MAX_CHUNK_SIZE`] less what can be around them.
    pub const MAX_PIECE: usize = MAX_CHUNK_SIZE - 32;

    fn new(shared: &Shared) -> Self {
        let id = |code| shared.message_id(code).expect("it has two codes");
        Self { first: id(0), more: id(1) }
    }

    /// Whether messages with this id are chunks.
    pub(crate) fn is_chunk(self, id: MessageId) -> bool {
        id == self.first || id == self.more
    }

    /// Appends the data of the first chunk of a message with this id and `total` bytes. Returns the id to send it under.
    pub fn encode_first(self, id: MessageId, total: usize, piece: &[u8], out: &mut BytesMut) -> MessageId {
        let length = integer_len(id.value()) + integer_len(total as u64) + string_len(piece);
        put_header(0xc0, length, out);
        put_integer(id.value(), out);
        put_integer(total as u64, out);
        put_string(piece, out);
        self.first
    }

    /// Appends the data of a further chunk of the message with this id that is in progress. Returns the id to send it
    /// under.
    pub fn encode_more(self, id: MessageId, piece: &[u8], out: &mut BytesMut) -> MessageId {
        put_header(0xc0, integer_len(id.value()) + string_len(piece), out);
        put_integer(id.value(), out);
        put_string(piece, out);
        self.more
    }
}

/// How many bytes a string takes in RLP.
fn string_len(bytes: &[u8]) -> usize {
    match bytes {
        [0..0x80] => 1,
        _ if bytes.len() < 56 => 1 + bytes.len(),
        _ => integer_len(bytes.len() as u64).max(2) + bytes.len(),
    }
}

fn put_string(bytes: &[u8], out: &mut BytesMut) {
    if !matches!(bytes, [0..0x80]) {
        put_header(0x80, bytes.len(), out);
    }
    out.put_slice(bytes);
}

/// Appends the header of a string (`base` 0x80) or a list (0xc0) whose items take `length` bytes.
fn put_header(base: u8, length: usize, out: &mut BytesMut) {
    if length < 56 {
        out.put_u8(base + length as u8);
    } else {
        let digits = length.to_be_bytes();
        let significant = &digits[length.leading_zeros() as usize / 8..];
        out.put_u8(base + 55 + significant.len() as u8);
        out.put_slice(significant);
    }
}

/// What has come of a message.
#[derive(Debug)]
struct Partial {
    /// When its First came.
    since: Instant,
    id: MessageId,
    code: u64,
    size: usize,
    data: Vec<u8>,
}

impl Partial {
    /// Appends a piece. The room grows with what has come, and not past the declared size.
    fn append(&mut self, piece: &[u8]) -> Result<(), ChunkError> {
        let (id, length) = (self.id.value(), self.data.len() + piece.len());
        if piece.is_empty() {
            return Err(ChunkError::EmptyPiece { id });
        }
        if length > self.size {
            return Err(ChunkError::Overflow { id, size: self.size });
        }
        if length > self.data.capacity() {
            let room = length.max(2 * self.data.capacity()).min(self.size);
            self.data.reserve_exact(room - self.data.len());
        }
        self.data.extend_from_slice(piece);
        Ok(())
    }
}

/// A message that is whole.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) place: usize,
    pub(crate) code: u64,
    pub(crate) payload: Bytes,
}

/// Puts messages together from their chunks: at most one at a time for each protocol.
#[derive(Debug)]
pub(crate) struct Reassembly {
    /// The capability itself.
    pub(crate) shared: Shared,
    pub(crate) chunking: Chunking,
    /// By place.
    in_progress: BTreeMap<usize, Partial>,
}

impl Reassembly {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { chunking: Chunking::new(&shared), shared, in_progress: BTreeMap::new() }
    }

    /// Checks that a message, chunked or not, may begin for the protocol at this place.
    pub(crate) fn check_free(&self, place: usize, protocols: &SharedCapabilities) -> Result<(), ChunkError> {
        match self.in_progress.contains_key(&place) {
            true => Err(ChunkError::Interrupted { capability: protocols[place].capability.clone() }),
            false => Ok(()),
        }
    }

    /// Takes a chunk with this id, which must be that of one. Returns the place of its protocol, and the message if it is
    /// whole.
    pub(crate) fn receive(
        &mut self,
        id: MessageId,
        data: &[u8],
        protocols: &SharedCapabilities,
        now: Instant,
    ) -> Result<(usize, Option<Whole>), ChunkError> {
        let mut items = exact_list(data)?;
        let id_of_message = MessageId::new(items.value()?);
        let unknown = ChunkError::NoProtocol { id: id_of_message.value() };
        let (place, code) = protocols.locate(id_of_message).ok_or(unknown)?;
        if id == self.chunking.first {
            self.check_free(place, protocols)?;
            let size = declared_size(items.value()?, id_of_message, &protocols[place])?;
            let partial = Partial { since: now, id: id_of_message, code, size, data: Vec::new() };
            self.append(place, partial, items)
        } else {
            let partial = self.in_progress.remove(&place).filter(|partial| partial.id == id_of_message);
            self.append(place, partial.ok_or(ChunkError::NotBegun { id: id_of_message.value() })?, items)
        }
    }

    /// When the first of the messages that are not whole must be.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.in_progress.values().map(|partial| partial.since + CHUNK_TIMEOUT).min()
    }

    /// Nothing was read for a while because this end did not.
    pub(crate) fn excuse(&mut self, pause: Duration) {
        self.in_progress.values_mut().for_each(|partial| partial.since += pause);
    }

    /// How many bytes of messages that are not whole have come.
    pub(crate) fn unfinished_bytes(&self) -> usize {
        self.in_progress.values().map(|partial| partial.data.len()).sum()
    }

    /// Appends the piece, which is the only item left. An error ends the session, so what it leaves behind is no matter.
    fn append(
        &mut self,
        place: usize,
        mut partial: Partial,
        mut items: RlpList<'_>,
    ) -> Result<(usize, Option<Whole>), ChunkError> {
        let piece = canonical_string(&mut items)?;
        if items.next_item()?.is_some() {
            return Err(DecoderError::RlpIncorrectListLen.into());
        }
        partial.append(piece)?;
        if partial.data.len() < partial.size {
            self.in_progress.insert(place, partial);
            return Ok((place, None));
        }
        Ok((place, Some(Whole { place, code: partial.code, payload: partial.data.into() })))
    }
}

/// The list that `data` is, with nothing behind it.
fn exact_list(data: &[u8]) -> Result<RlpList<'_>, DecoderError> {
    let info = PayloadInfo::from(data)?;
    if info.header_len.checked_add(info.value_len) != Some(data.len()) {
        return Err(DecoderError::RlpInconsistentLengthAndData);
    }
    RlpList::new(data)
}

/// The next item as a string in its shortest form.
fn canonical_string<'a>(items: &mut RlpList<'a>) -> Result<&'a [u8], DecoderError> {
    let item = items.next_item()?.ok_or(DecoderError::RlpIncorrectListLen)?;
    let data = item.data()?;
    match item.as_raw().len() == string_len(data) {
        true if !item.is_list() => Ok(data),
        true => Err(DecoderError::RlpExpectedToBeData),
        false => Err(DecoderError::RlpInvalidIndirection),
    }
}

/// The declared size of a message, if its protocol allows it.
fn declared_size(size: u64, id: MessageId, protocol: &Shared) -> Result<usize, ChunkError> {
    let limit = protocol.max_message_size;
    match usize::try_from(size) {
        Ok(0) => Err(ChunkError::EmptyMessage { id: id.value() }),
        Ok(size) if size <= limit => Ok(size),
        _ => Err(ChunkError::TooLarge { capability: protocol.capability.clone(), size, limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_for_a_message_doubles_and_ends_at_the_declared_size() {
        let (id, size) = (MessageId::new(0x10), 1000);
        let mut partial = Partial { since: Instant::now(), id, code: 0, size, data: Vec::new() };
        let rooms = (0..10).map(|_| {
            partial.append(&[7; 100]).unwrap();
            partial.data.capacity()
        });
        let expected = [100, 200, 400, 400, 800, 800, 800, 800, 1000, 1000];
        assert_eq!(rooms.collect::<Vec<_>>(), expected, "R19 R43: no byte more than doubling takes");
    }
}
