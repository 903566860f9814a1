//! The bodies of the fuzz targets, with the properties that they check. `cargo fuzz` runs them on inputs that it makes
//! up, `cargo test` on those that are kept in `fuzz/corpus`.
//!
//! A target panics when a property does not hold. Otherwise it returns how often the input got through the check that
//! guards the deepest code, so that a test can tell whether the corpus gets there at all: authenticated encryption
//! stops all bytes but those that were really sealed, which is why most targets seal first and damage afterwards.
//!
//! Inputs are read from the front, one field after the other; `fuzz/examples/seeds` shows what they look like.
//!
//! ```
//! for (name, target) in capmux::fuzzing::TARGETS {
//!     println!("{name}: {}", target(b"any bytes"));
//! }
//! ```

mod address_book;
mod book_file;
mod chunking;
mod chunks;
mod claims;
mod clock;
mod dialling;
mod frames;
mod gate;
mod handshake;
mod items;
mod messages;
mod negotiation;
mod rates;
mod record;
mod schedule;
mod session;
mod text;
mod turns;
mod typed;

use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};

use crate::NodeKey;

pub use address_book::address_book;
pub use book_file::book_file;
pub use chunking::chunking;
pub use claims::claims;
pub use frames::frame_decoder;
pub use gate::gate;
pub use handshake::{ack, auth};
pub use items::rlp_items;
pub use messages::{disconnect, hello, snappy_message};
pub use negotiation::negotiation;
pub use record::enr;
pub use schedule::dial_schedule;
pub use session::session;
pub use text::node_text;
pub use turns::round_robin;
pub use typed::typed;

/// A target, as described in the [module](self).
pub type Target = fn(&[u8]) -> usize;

/// All targets, by the names of their directories in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("ack", ack),
    ("address_book", address_book),
    ("auth", auth),
    ("book_file", book_file),
    ("chunking", chunking),
    ("claims", claims),
    ("dial_schedule", dial_schedule),
    ("disconnect", disconnect),
    ("enr", enr),
    ("frame_decoder", frame_decoder),
    ("gate", gate),
    ("hello", hello),
    ("negotiation", negotiation),
    ("node_text", node_text),
    ("rlp_items", rlp_items),
    ("round_robin", round_robin),
    ("session", session),
    ("snappy_message", snappy_message),
    ("typed", typed),
];

/// The keys of some nodes. Making them takes longer than most targets do.
static KEYS: LazyLock<Vec<NodeKey>> =
    LazyLock::new(|| (1..=32).map(|byte| NodeKey::from_bytes(&[byte; 32]).expect("a small number is a key")).collect());

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
