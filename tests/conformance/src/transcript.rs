//! The last that went over the wire, as bytes and in words.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// How many bytes of a record are kept.
const BYTES: usize = 96;

/// How many characters are kept of what is said in words.
const CHARACTERS: usize = 1000;

/// One thing that went over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Whether the suite sent it; else it is the node's.
    pub sent: bool,
    /// What it is, as far as it can be decoded.
    pub decoded: String,
    /// Its first bytes in hexadecimal digits: of a frame, the content before encryption.
    pub hex: String,
    /// How many bytes it has.
    #[serde(rename = "length_bytes")]
    pub length: usize,
}

/// The last records of a case. Clones are the same transcript.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    records: Arc<Mutex<VecDeque<Record>>>,
}

impl fmt::Display for Record {
    /// Who it comes from, what it is, and its first bytes: `node: Pong, 2 bytes, 03c0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.sent { "suite" } else { "node" };
        let rest = if 2 * self.length > self.hex.len() { ".." } else { "" };
        match self.length {
            0 => write!(f, "{who}: {}", self.decoded),
            1 => write!(f, "{who}: {}, 1 byte, {}", self.decoded, self.hex),
            bytes => write!(f, "{who}: {}, {bytes} bytes, {}{rest}", self.decoded, self.hex),
        }
    }
}

impl Transcript {
    /// How many records are kept.
    pub const KEPT: usize = 8;

    /// Notes what the suite sends.
    pub fn sent(&self, decoded: impl Into<String>, bytes: &[u8]) {
        self.note(true, decoded.into(), bytes);
    }

    /// Notes what the node has sent, or done.
    pub fn received(&self, decoded: impl Into<String>, bytes: &[u8]) {
        self.note(false, decoded.into(), bytes);
    }

    /// The records, oldest first.
    pub fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn note(&self, sent: bool, decoded: String, bytes: &[u8]) {
        let decoded = cut(decoded);
        let hex = hex::encode(&bytes[..bytes.len().min(BYTES)]);
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() == Self::KEPT {
            records.pop_front();
        }
        records.push_back(Record { sent, decoded, hex, length: bytes.len() });
    }
}

/// The first of these characters: nodes say what they like.
pub(crate) fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(CHARACTERS) {
        text.truncate(end);
        text.push('…');
    }
    text
}
