//! Messages in frames: the id, then the data, compressed from `p2p` version 5 on (devp2p `rlpx.md`, "Capability
//! Messaging", and EIP-706).

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rlp::RlpStream;

use super::disconnect::DisconnectReason;
use super::hello::Hello;
use crate::rlpx::{Compressor, Egress, FrameError, MAX_FRAME_SIZE};

/// The largest message there can be, in bytes, before compression as well as after it: 16 MiB - 1.
pub const MAX_MESSAGE_SIZE: usize = MAX_FRAME_SIZE;

/// An id takes at most this many bytes of a frame.
pub const MAX_ID_LEN: usize = 9;

/// A message id as it stands in a frame, the base protocol's included. Handlers see codes of their protocol instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageId(u64);

impl MessageId {
    /// Hello.
    pub const HELLO: Self = Self(0x00);
    /// Disconnect.
    pub const DISCONNECT: Self = Self(0x01);
    /// Ping.
    pub const PING: Self = Self(0x02);
    /// Pong.
    pub const PONG: Self = Self(0x03);

    /// The id with this number.
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// Its number.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Appends the id as a canonical RLP integer.
    fn encode(self, out: &mut BytesMut) {
        put_integer(self.0, out);
    }

    /// Takes the id from the front of a frame's content; `None` when it is not a canonical RLP integer.
    pub fn take(content: &mut Bytes) -> Option<Self> {
        let first = *content.first()?;
        let (length, id) = match first {
            0x80 => (1, 0),
            1..0x80 => (1, u64::from(first)),
            0x81..=0x88 => {
                let digits = content.get(1..=usize::from(first - 0x80))?;
                let id = digits.iter().fold(0, |id, digit| (id << 8) + u64::from(*digit));
                let canonical = digits[0] != 0 && id >= 0x80;
                (1 + digits.len(), canonical.then_some(id)?)
            }
            _ => return None,
        };
        content.advance(length);
        Some(Self(id))
    }
}

/// Appends a canonical RLP integer.
pub(super) fn put_integer(value: u64, out: &mut BytesMut) {
    match value {
        1..0x80 => out.put_u8(value as u8),
        // Zero has no digits.
        _ => {
            let digits = value.to_be_bytes();
            let significant = &digits[value.leading_zeros() as usize / 8..];
            out.put_u8(0x80 + significant.len() as u8);
            out.put_slice(significant);
        }
    }
}

/// How many bytes [`put_integer`] appends.
pub(super) fn integer_len(value: u64) -> usize {
    if value < 0x80 { 1 } else { 9 - value.leading_zeros() as usize / 8 }
}

/// The messages of the base protocol that follow Hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaseMessage {
    /// The connection ends, for this reason.
    Disconnect(DisconnectReason),
    /// A sign of life is asked for.
    Ping,
    /// The sign of life.
    Pong,
}

impl BaseMessage {
    fn id(self) -> MessageId {
        match self {
            Self::Disconnect(_) => MessageId::DISCONNECT,
            Self::Ping => MessageId::PING,
            Self::Pong => MessageId::PONG,
        }
    }

    /// An empty list, or a list with the reason.
    fn data(self) -> BytesMut {
        let mut stream = RlpStream::new();
        match self {
            Self::Disconnect(reason) => stream.begin_list(1).append(&reason.code()),
            Self::Ping | Self::Pong => stream.begin_list(0),
        };
        stream.out()
    }
}

/// Turns messages into frames: the sending half of a session.
pub struct MessageEncoder {
    egress: Egress,
    compressor: Option<Compressor>,
}

impl MessageEncoder {
    /// Messages go out uncompressed until [`MessageEncoder::enable_snappy`].
    pub fn new(egress: Egress) -> Self {
        Self { egress, compressor: None }
    }

    /// Compresses what follows: both Hellos have version 5 or more.
    pub fn enable_snappy(&mut self) {
        self.compressor.get_or_insert_default();
    }

    /// Appends a Hello. It is never compressed.
    ///
    /// # Errors
    /// [`FrameError::ContentTooLarge`] when it fits no frame.
    pub fn hello(&mut self, hello: &Hello, out: &mut BytesMut) -> Result<(), FrameError> {
        self.seal_plain(MessageId::HELLO, &hello.encode(), out)
    }

    /// Appends a message of the base protocol.
    pub fn base(&mut self, message: BaseMessage, out: &mut BytesMut) {
        self.message(message.id(), &message.data(), out).expect("a base message is small");
    }

    /// Appends a message, compressing it if that is in force.
    ///
    /// # Errors
    /// [`FrameError::ContentTooLarge`] when it fits no frame; nothing is appended then, and other messages may follow.
    pub fn message(&mut self, id: MessageId, data: &[u8], out: &mut BytesMut) -> Result<(), FrameError> {
        let Some(compressor) = &mut self.compressor else { return self.seal_plain(id, data, out) };
        self.egress.seal(out, |content| {
            id.encode(content);
            compressor.compress(data, content);
        })
    }

    /// Appends a message whose data is in its final form: compressed already, or not to be.
    ///
    /// # Errors
    /// As [`MessageEncoder::message`].
    pub fn seal_plain(&mut self, id: MessageId, data: &[u8], out: &mut BytesMut) -> Result<(), FrameError> {
        self.egress.seal(out, |content| {
            id.encode(content);
            content.put_slice(data);
        })
    }
}

impl fmt::Debug for MessageEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageEncoder").field("snappy", &self.compressor.is_some()).finish_non_exhaustive()
    }
}
