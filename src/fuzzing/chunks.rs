//! What chunks must become, told a second time.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::p2p::{MessageId, SharedCapabilities};

/// The messages in progress, by the place of their protocol: the id, the declared size, and what has come.
#[derive(Default)]
pub(super) struct Chunks {
    in_progress: BTreeMap<usize, (u64, usize, Vec<u8>)>,
}

impl Chunks {
    pub(super) fn is_in_progress(&self, place: usize) -> bool {
        self.in_progress.contains_key(&place)
    }

    /// What a chunk leads to: the place of its protocol, and the code and data of the message if it is whole; `None` for
    /// a breach. A first chunk has a size.
    pub(super) fn receive(
        &mut self,
        shared: &SharedCapabilities,
        id: MessageId,
        size: Option<usize>,
        piece: &[u8],
    ) -> Option<(usize, Option<(u64, Bytes)>)> {
        let (place, code) = shared.locate(id)?;
        let (of, size, mut data) = match (size, self.in_progress.remove(&place)) {
            (Some(size), None) => (id.value(), size, Vec::new()),
            (None, Some(partial)) => partial,
            _ => return None,
        };
        data.extend_from_slice(piece);
        let is_sound = of == id.value() && size <= shared[place].max_message_size && !piece.is_empty();
        if !is_sound || data.len() > size {
            return None;
        }
        if data.len() == size {
            return Some((place, Some((code, data.into()))));
        }
        self.in_progress.insert(place, (of, size, data));
        Some((place, None))
    }
}
