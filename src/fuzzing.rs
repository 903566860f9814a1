//! The bodies of the fuzz targets, with the properties that they check. `cargo fuzz` runs them on inputs that it makes
//! up, `cargo test` on those that are kept in `fuzz/corpus`.
//!
//! A target panics when a property does not hold. Otherwise it returns how often the input got through the check that
//! guards the deepest code, so that a test can tell whether the corpus gets there at all: authenticated encryption
//! stops all bytes but those that were really sealed, which is why most targets seal first and damage afterwards.
//!
//! Inputs are read from the front, one field after the other; `fuzz/examples/seeds.rs` shows what they look like.
//!
//! ```
//! for (name, target) in capmux::fuzzing::TARGETS {
//!     println!("{name}: {}", target(b"any bytes"));
//! }
//! ```

mod book;
mod chunks;
mod clock;
mod frames;
mod handshake;
mod messages;
mod session;

use arbitrary::{Result, Unstructured};

pub use book::address_book;
pub use frames::frame_decoder;
pub use handshake::{ack, auth};
pub use messages::{disconnect, hello, snappy_message};
pub use session::session;

/// A target, as described in the [module](self).
pub type Target = fn(&[u8]) -> usize;

/// All targets, by the names of their directories in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("ack", ack),
    ("address_book", address_book),
    ("auth", auth),
    ("disconnect", disconnect),
    ("frame_decoder", frame_decoder),
    ("hello", hello),
    ("session", session),
    ("snappy_message", snappy_message),
];

/// A string of at most `limit` bytes: two bytes of length, then as many as there are.
fn bytes<'a>(input: &mut Unstructured<'a>, limit: usize) -> Result<&'a [u8]> {
    let length = usize::from(u16::from_be_bytes(input.arbitrary()?)) % (limit + 1);
    input.bytes(length.min(input.len()))
}

/// A number below `end`: one byte.
fn choice(input: &mut Unstructured<'_>, end: u8) -> Result<u8> {
    Ok(input.arbitrary::<u8>()? % end)
}

/// Cuts `bytes` into pieces as the input says, and the rest into pieces of the last length.
fn split<'a>(input: &mut Unstructured<'_>, mut bytes: &'a [u8]) -> Result<Vec<&'a [u8]>> {
    let mut pieces = Vec::new();
    let mut length = 1;
    while !bytes.is_empty() {
        if !input.is_empty() {
            length = 1 + usize::from(input.arbitrary::<u8>()?);
        }
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    Ok(pieces)
}
