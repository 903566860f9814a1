//! What has gone over a connection, counted for it and for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes on the wire and messages, those of the base protocol included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes written to the connection after its setup.
    pub bytes_sent: u64,
    /// Bytes read from the connection after its setup.
    pub bytes_received: u64,
    /// Messages that are wholly in the socket; those of the base protocol from when they are encrypted.
    pub messages_sent: u64,
    /// Messages read, without those in the same read as what ended the session.
    pub messages_received: u64,
}

impl Traffic {
    /// What has gone over in each second, when `earlier` was read so long ago. 0 when no time has passed.
    pub fn rates_since(&self, earlier: &Self, elapsed: Duration) -> TrafficRates {
        let rate = |now: u64, before: u64| {
            let seconds = elapsed.as_secs_f64();
            if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 }
        };
        TrafficRates {
            bytes_sent: rate(self.bytes_sent, earlier.bytes_sent),
            bytes_received: rate(self.bytes_received, earlier.bytes_received),
            messages_sent: rate(self.messages_sent, earlier.messages_sent),
            messages_received: rate(self.messages_received, earlier.messages_received),
        }
    }
}

/// A [`Traffic`] for each second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct TrafficRates {
    /// Bytes written in a second.
    pub bytes_sent: f64,
    /// Bytes read in a second.
    pub bytes_received: f64,
    /// Messages sent in a second.
    pub messages_sent: f64,
    /// Messages read in a second.
    pub messages_received: f64,
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
