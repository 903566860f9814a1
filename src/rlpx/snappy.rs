//! Snappy as RLPx version 5 uses it: each message's data is one block in the raw format (EIP-706).

use std::cell::RefCell;
use std::fmt;

use bytes::{Bytes, BytesMut};

/// Output is carved from pieces of this size, so that small messages share an allocation.
const CHUNK: usize = 16 * 1024;

/// Larger messages get an allocation of their own, which costs no more than their part of the shared ones.
const SHARED: usize = CHUNK / 4;

/// What is wrong with compressed data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnappyError {
    /// It declares to be larger than the limit in force, or than the format can express. Nothing was decompressed.
    #[error("the data declares {declared} bytes uncompressed, where the limit is {limit}")]
    TooLarge {
        /// The declared size; `u64::MAX` when it is more than the format allows.
        declared: u64,
        /// The limit that the caller set.
        limit: usize,
    },
    /// It is empty, truncated, too long, or refers to what is not there.
    #[error("the data is not a snappy block")]
    Corrupt,
}

/// The largest compressed form of `length` bytes.
pub const fn max_compressed_len(length: usize) -> usize {
    32 + length + length / 6
}

thread_local! {
    /// The tables of the encoder, 2 KiB and up to 32 KiB more. They mean nothing between two blocks, so connections
    /// share them: one that is idle holds none.
    static ENCODER: RefCell<snap::raw::Encoder> = RefCell::new(snap::raw::Encoder::new());
}

#[cfg(test)]
thread_local! {
    /// How many messages this thread has compressed.
    pub(crate) static COMPRESSIONS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Compresses messages. It holds no memory: each thread keeps what it works with, at most 34 KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Compressor(());

impl Compressor {
    /// Appends the compressed form of `data`, at most 2^32 - 1 bytes, to `out`.
    pub fn compress(&mut self, data: &[u8], out: &mut BytesMut) {
        #[cfg(test)]
        COMPRESSIONS.set(COMPRESSIONS.get() + 1);
        let start = out.len();
        out.resize(start + snap::raw::max_compress_len(data.len()), 0);
        let length = ENCODER.with_borrow_mut(|encoder| encoder.compress(data, &mut out[start..]));
        out.truncate(start + length.expect("the room is the most that can be needed"));
    }
}

/// Decompresses messages. It keeps the rest of the memory that it took for the last one, 16 KiB or less unless a single
/// message needed more, until [`Decompressor::release`].
#[derive(Default)]
pub struct Decompressor {
    scratch: BytesMut,
}

impl Decompressor {
    /// The size that `data` declares to have uncompressed.
    ///
    /// # Errors
    /// [`SnappyError::Corrupt`] when it declares none, [`SnappyError::TooLarge`] when it is above `limit`.
    pub fn declared_len(data: &[u8], limit: usize) -> Result<usize, SnappyError> {
        let declared = match snap::raw::decompress_len(data) {
            Ok(_) if data.is_empty() => return Err(SnappyError::Corrupt),
            Ok(declared) => declared as u64,
            Err(snap::Error::TooBig { .. }) => u64::MAX,
            Err(_) => return Err(SnappyError::Corrupt),
        };
        match usize::try_from(declared) {
            Ok(declared) if declared <= limit => Ok(declared),
            _ => Err(SnappyError::TooLarge { declared, limit }),
        }
    }

    /// Decompresses `data` into at most `limit` bytes; the declared size is checked before memory is taken.
    ///
    /// # Errors
    /// [`SnappyError`].
    pub fn decompress(&mut self, data: &[u8], limit: usize) -> Result<Bytes, SnappyError> {
        let length = Self::declared_len(data, limit)?;
        // Memory is taken for what the data can really hold: three bytes of it make 64 at the most.
        if length > data.len().saturating_mul(22) {
            return Err(SnappyError::Corrupt);
        }
        let mut decoder = snap::raw::Decoder::new();
        let (written, output) = if length > SHARED {
            let mut output = vec![0; length];
            (decoder.decompress(data, &mut output), output.into())
        } else {
            if self.scratch.capacity() < length {
                self.scratch.reserve(CHUNK);
            }
            self.scratch.resize(length, 0);
            (decoder.decompress(data, &mut self.scratch), self.scratch.split().freeze())
        };
        // A block that holds less than it declares, or more, is an error to the decoder as well.
        written.map(|_| output).map_err(|_| SnappyError::Corrupt)
    }

    /// Gives back the memory that is kept for the next message. Messages that were handed out stay as they are.
    pub fn release(&mut self) {
        self.scratch = BytesMut::new();
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_messages_share_an_allocation() {
        let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
        let held: Vec<Bytes> = (0..64_u8)
            .map(|byte| {
                let mut data = BytesMut::new();
                compressor.compress(&[byte], &mut data);
                decompressor.decompress(&data, 16).unwrap()
            })
            .collect();
        let first = held[0].as_ptr();
        for (byte, message) in held.iter().enumerate() {
            assert_eq!(message[..], [byte as u8]);
            assert_eq!(message.as_ptr().addr() - first.addr(), byte, "one after the other in one piece of memory");
        }
    }

    #[test]
    fn messages_up_to_4_kib_share_16_kib_and_larger_ones_have_their_own() {
        let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
        let mut decompress = |length| {
            let mut data = BytesMut::new();
            compressor.compress(&vec![7; length], &mut data);
            (decompressor.decompress(&data, length).unwrap(), decompressor.scratch.capacity())
        };
        let rooms = [4096; 4].map(&mut decompress);
        let first = rooms[0].0.as_ptr().addr();
        for (place, (message, left)) in rooms.iter().enumerate() {
            assert_eq!(message.as_ptr().addr() - first, place * 4096, "R43: four fit");
            assert_eq!(*left, (3 - place) * 4096, "R43");
        }
        assert_eq!(decompress(4097).1, 0, "R43: nothing is shared with it");
        assert_eq!(decompress(1).1, 16_383, "R43: and 16 KiB are taken for the next small one");
    }
}
