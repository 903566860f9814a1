//! RLPx written from its specification alone (devp2p `rlpx.md`), with every part open to change.
//!
//! Nothing here is shared with the implementation in `capmux`: a mistake that both ends made alike would show no test.
//! The model is plain rather than fast, keeps no limits of its own, and breaks any rule when asked to.
//!
//! ```
//! use capmux_conformance::model::{Node, frames::Connection};
//!
//! let (alice, bob) = (Node::new(1), Node::new(2));
//! let auth = alice.auth(&bob.public_key()).seal();
//! let (ack, mut at_bob) = bob.answer(auth.clone(), |ack| ack)?;
//! let mut at_alice: Connection = alice.read_ack(auth, ack)?;
//! let frame = at_alice.egress.seal(b"hello");
//! assert_eq!(at_bob.ingress.open(&frame)?, (5, b"hello\0\0\0\0\0\0\0\0\0\0\0".to_vec()));
//! # Ok::<(), capmux_conformance::model::Broken>(())
//! ```

pub mod frames;
pub mod handshake;
pub(crate) mod vectors;

pub use handshake::Node;

/// What the other end did wrong, as far as the model looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// A handshake message whose length is not what its size prefix says, or is below 115 bytes.
    #[error("a handshake message of a wrong length")]
    HandshakeSize,
    /// A public key that is no point of the curve.
    #[error("a public key that is not on the curve")]
    Point,
    /// A handshake message whose tag is wrong.
    #[error("a handshake message with a wrong tag")]
    HandshakeTag,
    /// A handshake message whose body is not the list it should be.
    #[error("a handshake message whose body is not the list it should be: {0}")]
    Body(&'static str),
    /// A signature that leads to no key.
    #[error("a signature that leads to no key")]
    Signature,
    /// The MAC of a frame's header is wrong.
    #[error("a frame header with a wrong MAC")]
    HeaderMac,
    /// The MAC of a frame's body is wrong.
    #[error("a frame with a wrong MAC")]
    FrameMac,
}
