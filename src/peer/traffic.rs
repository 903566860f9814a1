//! What has gone over a connection, counted for it and for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes on the wire and messages, those of the base protocol included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes written to the connection after its setup.
    pub bytes_sent: u64,
    /// Bytes read from the connection after its setup.
    pub bytes_received: u64,
    /// Messages taken from the queues to be written.
    pub messages_sent: u64,
    /// Messages read, without those in the same read as what ended the session.
    pub messages_received: u64,
}

#[derive(Debug, Default)]
struct Cells {
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    messages_sent: AtomicU64,
    messages_received: AtomicU64,
}

/// Counters that also count into those they were made from, which is done once for each read and write, not for each
/// message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    cells: Arc<Cells>,
    total: Option<Arc<Cells>>,
}

impl Counters {
    /// Counters of one connection among all those counted by `self`.
    pub(crate) fn child(&self) -> Self {
        Self { cells: Arc::default(), total: Some(self.cells.clone()) }
    }

    pub(crate) fn read(&self) -> Traffic {
        let Cells { bytes_sent, bytes_received, messages_sent, messages_received } = &*self.cells;
        Traffic {
            bytes_sent: bytes_sent.load(Ordering::Relaxed),
            bytes_received: bytes_received.load(Ordering::Relaxed),
            messages_sent: messages_sent.load(Ordering::Relaxed),
            messages_received: messages_received.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn bytes_sent(&self, bytes: usize) {
        self.add(|cells| &cells.bytes_sent, bytes as u64);
    }

    pub(crate) fn bytes_received(&self, bytes: usize) {
        self.add(|cells| &cells.bytes_received, bytes as u64);
    }

    pub(crate) fn messages_sent(&self, messages: u64) {
        self.add(|cells| &cells.messages_sent, messages);
    }

    pub(crate) fn messages_received(&self, messages: u64) {
        self.add(|cells| &cells.messages_received, messages);
    }

    fn add(&self, cell: impl Fn(&Cells) -> &AtomicU64, count: u64) {
        cell(&self.cells).fetch_add(count, Ordering::Relaxed);
        if let Some(total) = &self.total {
            cell(total).fetch_add(count, Ordering::Relaxed);
        }
    }
}
