//! What chunks must become, told a second time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::p2p::{MessageId, SharedCapabilities};

/// How long a message may take to become whole.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The messages in progress, by the place of their protocol.
#[derive(Default)]
pub(super) struct Chunks {
    in_progress: BTreeMap<usize, Partial>,
}

struct Partial {
    since: Instant,
    id: u64,
    size: usize,
    data: Vec<u8>,
}

impl Chunks {
    pub(super) fn is_in_progress(&self, place: usize) -> bool {
        self.in_progress.contains_key(&place)
    }

    /// When the first of the messages must be whole.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.in_progress.values().map(|partial| partial.since + TIMEOUT).min()
    }

    pub(super) fn excuse(&mut self, pause: Duration) {
        for partial in self.in_progress.values_mut() {
            partial.since += pause;
        }
    }

    /// What a chunk leads to: the place of its protocol, and the code and data of the message if it is whole; `None` for
    /// a breach. A first chunk has a size.
    pub(super) fn receive(
        &mut self,
        shared: &SharedCapabilities,
        id: MessageId,
        size: Option<usize>,
        piece: &[u8],
        now: Instant,
    ) -> Option<(usize, Option<(u64, Bytes)>)> {
        let (place, code) = shared.locate(id)?;
        let mut partial = match (size, self.in_progress.remove(&place)) {
            (Some(size), None) => Partial { since: now, id: id.value(), size, data: Vec::new() },
            (None, Some(partial)) => partial,
            _ => return None,
        };
        partial.data.extend_from_slice(piece);
        let is_sound = partial.id == id.value() && partial.size <= shared[place].max_message_size && !piece.is_empty();
        if !is_sound || partial.data.len() > partial.size {
            return None;
        }
        if partial.data.len() == partial.size {
            return Some((place, Some((code, partial.data.into()))));
        }
        self.in_progress.insert(place, partial);
        Some((place, None))
    }
}
