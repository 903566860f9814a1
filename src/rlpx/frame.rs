//! Frames: sealed in place at the end of a buffer, opened in place at the start of one (devp2p `rlpx.md`,
//! "Framing").
//!
//! A frame is `header || header tag || content, padded to 16 || tag`, the header and the tags 16 bytes each.

use std::fmt;

use aes::Aes256Enc;
use aes::cipher::{KeyIvInit, StreamCipher};
use bytes::{Buf, BytesMut};
use ctr::Ctr128BE;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::mac::Mac;

/// The most bytes that a frame's content can have: its size has three bytes in the header.
pub const MAX_FRAME_SIZE: usize = 0xff_ffff;

/// How many bytes a frame adds to its content, padding aside: header, header tag and tag.
pub const FRAME_OVERHEAD: usize = HEADER + TAG;

const BLOCK: usize = 16;
const TAG: usize = 16;
/// The header and its tag.
const HEADER: usize = BLOCK + TAG;
/// What follows the size in a header: the RLP list `[0, 0]`, which nobody reads any more, and zeros.
const HEADER_DATA: [u8; 13] = [0xc2, 0x80, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What is wrong with a frame. Apart from [`FrameError::ContentTooLarge`], which concerns a frame of our own, the
/// connection cannot go on after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The header's tag is wrong: the bytes were changed, replayed, reordered, or belong to another connection.
    #[error("the MAC of a frame's header does not match")]
    HeaderMac,
    /// The content's tag is wrong.
    #[error("the MAC of a frame's content does not match")]
    BodyMac,
    /// The frame is empty; a message has at least its id.
    #[error("a frame of size 0")]
    Empty,
    /// The header announces more bytes than the limit in force. Nothing of it has been read.
    #[error("a frame of {size} bytes, where the limit is {limit}")]
    TooLarge {
        /// The size in the header.
        size: usize,
        /// The limit that the caller set.
        limit: usize,
    },
    /// The content to be sealed is longer than [`MAX_FRAME_SIZE`]. The frame is dropped, the connection is sound.
    #[error("a message takes {size} bytes in a frame, which holds {MAX_FRAME_SIZE}")]
    ContentTooLarge {
        /// The size of the content.
        size: usize,
    },
    /// An earlier frame failed, so the state of the stream is lost.
    #[error("the stream failed at an earlier frame")]
    Failed,
}

/// The sending half of a connection. It can be moved to a task of its own.
///
/// Its state is on the heap, since halves are moved through every stage of a connection's setup.
pub struct Egress {
    cipher: Box<Ctr128BE<Aes256Enc>>,
    mac: Box<Mac>,
}

impl Egress {
    pub(super) fn new(secret: &[u8; 32], mac: Mac) -> Self {
        Self { cipher: Box::new(keystream(secret)), mac: Box::new(mac) }
    }

    /// Appends a frame to `out`, whose content is what `write` appends.
    ///
    /// The content is encrypted and authenticated where it lies. `write` must only append.
    ///
    /// # Errors
    /// [`FrameError::Empty`] and [`FrameError::ContentTooLarge`]; `out` is then as before, and frames may follow.
    pub fn seal(&mut self, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) -> Result<(), FrameError> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let content = out.len();
        write(out);
        let size = out.len() - content;
        if size == 0 || size > MAX_FRAME_SIZE {
            out.truncate(start);
            return Err(if size == 0 { FrameError::Empty } else { FrameError::ContentTooLarge { size } });
        }
        // The padding, and room for the tag behind it.
        let padded = size.next_multiple_of(BLOCK);
        out.resize(content + padded + TAG, 0);
        let header = &mut out[start + BLOCK..content];
        header[..3].copy_from_slice(&(size as u32).to_be_bytes()[1..]);
        header[3..].copy_from_slice(&HEADER_DATA);
        self.seal_in_place(&mut out[start..]);
        Ok(())
    }

    /// Seals a frame whose header stands where its tag will be, right before the padded content.
    ///
    /// The keystream runs from the header to the content without a gap, so both are encrypted together and the header
    /// takes its place afterwards: two short runs would take longer than one.
    fn seal_in_place(&mut self, frame: &mut [u8]) {
        let (header, rest) = frame.split_first_chunk_mut::<BLOCK>().expect("a header was reserved");
        let (encrypted, tag) = rest.split_last_chunk_mut::<TAG>().expect("a tag was reserved");
        self.cipher.apply_keystream(encrypted);
        let (header_tag, content) = encrypted.split_first_chunk_mut::<TAG>().expect("a header tag was reserved");
        *header = *header_tag;
        *header_tag = self.mac.header(header);
        *tag = self.mac.body(content);
    }

    /// Appends a frame with this header, whatever it says, and this content, whose length is a multiple of 16.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn seal_with_header(&mut self, out: &mut BytesMut, header: [u8; BLOCK], content: &[u8]) {
        let start = out.len();
        for part in [&[0; BLOCK], &header[..], content, &[0; TAG]] {
            out.extend_from_slice(part);
        }
        self.seal_in_place(&mut out[start..]);
    }

    #[cfg(test)]
    pub(super) fn mac(&self) -> &Mac {
        &self.mac
    }
}

/// The receiving half of a connection. It can be moved to a task of its own.
pub struct Ingress {
    cipher: Box<Ctr128BE<Aes256Enc>>,
    mac: Box<Mac>,
    /// The keystream of the next header, made along with that of the content before it: two short runs would take
    /// longer than one.
    header_keystream: Zeroizing<[u8; BLOCK]>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    /// The header of a frame with this many bytes of content is open.
    Body(usize),
    Failed,
}

impl Ingress {
    pub(super) fn new(secret: &[u8; 32], mac: Mac) -> Self {
        let (mut cipher, mut header_keystream) = (Box::new(keystream(secret)), Zeroizing::new([0; BLOCK]));
        cipher.apply_keystream(&mut header_keystream[..]);
        Self { cipher, mac: Box::new(mac), header_keystream, state: State::Header }
    }

    /// How many bytes the buffer given to [`Ingress::open`] must hold for the next step: 32 for a header, and after
    /// it as many as the rest of the frame has.
    pub fn wants(&self) -> usize {
        match self.state {
            State::Header => HEADER,
            State::Body(size) => size.next_multiple_of(BLOCK) + TAG,
            State::Failed => 0,
        }
    }

    /// Whether a frame has begun: its header is open, its content is still to come.
    pub fn is_inside_frame(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Opens the frame that `buffer` begins with and returns its content, which is split off without a copy; `None`
    /// when bytes are missing. What has been read is taken from `buffer`.
    ///
    /// `limit` is the largest content that is accepted, checked when the header is there and before anything else
    /// of the frame is.
    ///
    /// # Errors
    /// [`FrameError`]; from then on every call fails.
    pub fn open(&mut self, buffer: &mut BytesMut, limit: usize) -> Result<Option<BytesMut>, FrameError> {
        let opened = self.open_step(buffer, limit);
        if opened.is_err() {
            self.state = State::Failed;
        }
        opened
    }

    fn open_step(&mut self, buffer: &mut BytesMut, limit: usize) -> Result<Option<BytesMut>, FrameError> {
        if self.state == State::Header {
            let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
            let size = self.open_header(header)?;
            if size == 0 {
                return Err(FrameError::Empty);
            }
            if size > limit {
                return Err(FrameError::TooLarge { size, limit });
            }
            buffer.advance(HEADER);
            self.state = State::Body(size);
        }
        let State::Body(size) = self.state else { return Err(FrameError::Failed) };
        let padded = size.next_multiple_of(BLOCK);
        if buffer.len() < padded + TAG {
            return Ok(None);
        }
        let mut content = buffer.split_to(padded + TAG);
        self.open_body(&mut content)?;
        content.truncate(size);
        self.state = State::Header;
        Ok(Some(content))
    }

    /// Checks and decrypts a header and returns the size in it. The rest of the header is not looked at.
    fn open_header(&mut self, header: &[u8; HEADER]) -> Result<usize, FrameError> {
        let ([header, tag], _) = header.as_chunks() else {
            unreachable!("the header is one block and the tag another")
        };
        if !same(&self.mac.header(header), tag) {
            return Err(FrameError::HeaderMac);
        }
        let [a, b, c] = std::array::from_fn(|index| header[index] ^ self.header_keystream[index]);
        Ok(u32::from_be_bytes([0, a, b, c]) as usize)
    }

    fn open_body(&mut self, body: &mut [u8]) -> Result<(), FrameError> {
        let (content, tag) = body.split_last_chunk_mut::<TAG>().expect("the body holds a tag");
        if !same(&self.mac.body(content), tag) {
            return Err(FrameError::BodyMac);
        }
        // Where the tag was, the keystream of the next header comes out.
        *tag = [0; TAG];
        self.cipher.apply_keystream(body);
        let keystream = body.last_chunk_mut().expect("the body holds a tag");
        *self.header_keystream = std::mem::take(keystream);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn mac(&self) -> &Mac {
        &self.mac
    }
}

/// Compares two tags in constant time: as one number, which is several times faster than byte by byte.
fn same(first: &[u8; TAG], second: &[u8; TAG]) -> bool {
    u128::from_ne_bytes(*first).ct_eq(&u128::from_ne_bytes(*second)).into()
}

/// RLPx encrypts both directions with one key from counter 0: its known weakness.
fn keystream(secret: &[u8; 32]) -> Ctr128BE<Aes256Enc> {
    Ctr128BE::new(secret.into(), &[0; BLOCK].into())
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Egress")
    }
}

impl fmt::Debug for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingress").field("wants", &self.wants()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use sha3::Keccak256;
    use zeroize::ZeroizeOnDrop;

    use super::*;

    /// Does not compile when a dependency has lost the feature that zeroes what it holds.
    #[test]
    fn what_is_made_of_the_secrets_is_zeroed_when_dropped() {
        fn zeroed<T: ZeroizeOnDrop>(_: &T) {}
        let mac = || Mac::new(&[2; 32], &[3; 32], b"the greeting");
        let (egress, ingress) = (Egress::new(&[1; 32], mac()), Ingress::new(&[1; 32], mac()));
        let Egress { cipher, mac } = &egress;
        let Mac { state, cipher: mac_cipher, mask } = &**mac;
        // R42
        zeroed::<Ctr128BE<Aes256Enc>>(cipher);
        zeroed::<Aes256Enc>(mac_cipher);
        zeroed::<Keccak256>(state);
        zeroed::<Zeroizing<_>>(mask);
        let Ingress { cipher, mac: _, header_keystream, state: _ } = &ingress;
        zeroed::<Ctr128BE<Aes256Enc>>(cipher);
        zeroed::<Zeroizing<_>>(header_keystream);
    }
}
