//! RLPx: the encryption handshake and the frames of one connection, as bytes in and bytes out.
//!
//! Nothing here reads a socket, a clock or a random source: the caller brings the bytes and the
//! [`HandshakeRandom`], and moves what comes back. The wire is RLPx version 5 (devp2p `rlpx.md`) with EIP-8
//! handshakes.
//!
//! ```
//! use bytes::BytesMut;
//! use capmux::NodeKey;
//! use capmux::rlpx::{HandshakeRandom, Initiator, Recipient, Step};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (alice, bob) = (NodeKey::random(), NodeKey::random());
//! let (initiator, auth) = Initiator::new(&alice, bob.public_key(), HandshakeRandom::from_os()?)?;
//! let recipient = Recipient::new(bob, HandshakeRandom::from_os()?);
//! let Step::Done((ack, mut at_bob)) = recipient.receive(&mut &auth[..])? else { unreachable!() };
//! let Step::Done(mut at_alice) = initiator.receive(&mut &ack[..])? else { unreachable!() };
//! assert_eq!(at_bob.remote, alice.public_key());
//!
//! let mut wire = BytesMut::new();
//! at_alice.egress.seal(&mut wire, |content| content.extend_from_slice(b"hello"))?;
//! let frame = at_bob.ingress.open(&mut wire, 1024)?.expect("a whole frame");
//! assert_eq!(&frame[..], b"hello");
//! # Ok(())
//! # }
//! ```

mod ecies;
mod frame;
mod handshake;
#[cfg(feature = "fuzzing")]
pub(crate) mod inside;
mod mac;
mod snappy;

pub use frame::{Egress, FRAME_OVERHEAD, FrameError, Ingress, MAX_FRAME_SIZE};
pub use handshake::{Established, HandshakeError, HandshakeRandom, Initiator, MAX_HANDSHAKE_SIZE, Recipient, Step};
pub use snappy::{Compressor, Decompressor, SnappyError, max_compressed_len};

#[cfg(test)]
pub(crate) use snappy::COMPRESSIONS;

#[cfg(test)]
mod vectors;
