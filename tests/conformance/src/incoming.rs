//! What comes from the node, in words, too.

use std::fmt;

use rlp::Rlp;

use crate::ending::Closed;
use crate::hello::RawHello;
use crate::model::frames::LARGEST;

/// What comes from the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A message, its data uncompressed.
    Message {
        /// The absolute message id.
        id: u64,
        /// What follows the id.
        data: Vec<u8>,
    },
    /// The end of the connection.
    Closed(Closed),
    /// Nothing, for as long as was waited.
    Nothing,
}

impl fmt::Display for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { id, data } => f.write_str(&describe(*id, data)),
            Self::Closed(Closed::End) => f.write_str("the end of the connection"),
            Self::Closed(Closed::Reset) => f.write_str("a reset of the connection"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// A message in words.
pub(crate) fn describe(id: u64, data: &[u8]) -> String {
    match id {
        0 => RawHello::decode(data)
            .map_or_else(|error| format!("Hello that does not decode: {error}"), |hello| hello.to_string()),
        1 => match reason(data) {
            Some(code) => format!("Disconnect {code:#04x} ({})", capmux::DisconnectReason::from_code(code)),
            None => "Disconnect without a reason".to_owned(),
        },
        2 => "Ping".to_owned(),
        3 => "Pong".to_owned(),
        id => format!("message {id:#04x} with {} bytes", data.len()),
    }
}

/// The reason in a Disconnect, as a list or bare. It may be compressed: nodes differ in when they begin with that, and a
/// block of a few bytes begins with its length, where a list does not.
pub(crate) fn reason(data: &[u8]) -> Option<u64> {
    let plain = match data {
        [first, _, ..] if *first < 0x80 => &uncompressed(data)?[..],
        _ => data,
    };
    let item = Rlp::new(plain);
    if item.is_list() { item.val_at(0).ok() } else { item.as_val().ok() }
}

/// What this data is before compression, if it is compressed and within what a message may have: six bytes can declare
/// 4 GiB.
pub(crate) fn uncompressed(data: &[u8]) -> Option<Vec<u8>> {
    let length = snap::raw::decompress_len(data).ok()?;
    if length > LARGEST { None } else { snap::raw::Decoder::new().decompress_vec(data).ok() }
}
