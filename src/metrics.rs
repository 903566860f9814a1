//! What a server counts: atomics that are added to in batches on the path of messages, and read when somebody asks.

pub(crate) mod ends;
#[cfg(feature = "metrics")]
pub(crate) mod prometheus;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::p2p::Capability;
use ends::Ends;

/// Codes below this are counted by number, the rest together, so that the number of series is bounded.
pub(crate) const COUNTED_CODES: u64 = 0x80;

/// The upper bounds of the buckets of [`Times`], in microseconds.
pub(crate) const TIME_BOUNDS_US: [u64; 10] =
    [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 1_000_000, 10_000_000, 60_000_000];

/// Messages and bytes of one code or of several.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Times in buckets, of which the last has no upper bound.
#[derive(Debug, Default)]
pub(crate) struct Times {
    buckets: [AtomicU64; TIME_BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Times {
    pub(crate) fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = TIME_BOUNDS_US.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }
}

/// What is counted for one protocol over all peers.
#[derive(Debug)]
pub(crate) struct ProtocolMeter {
    pub(crate) capability: Capability,
    /// By code; the last one counts all that are not counted by number.
    pub(crate) sent: Box<[Tally]>,
    pub(crate) received: Box<[Tally]>,
    /// From the queue into the socket, of a sample of messages.
    pub(crate) queue_times: Times,
    pub(crate) panics: AtomicU64,
    /// Copies of broadcasts for which peers were too slow.
    pub(crate) lagged: AtomicU64,
}

impl ProtocolMeter {
    pub(crate) fn new(capability: Capability, length: u64) -> Arc<Self> {
        let tallies = || (0..=length.min(COUNTED_CODES)).map(|_| Tally::default()).collect();
        let (sent, received) = (tallies(), tallies());
        let (panics, lagged) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { capability, sent, received, queue_times: Times::default(), panics, lagged })
    }
}

/// The direction in which a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Sent,
    Received,
}

/// Messages of the same code in a row, which are counted together.
#[derive(Debug)]
pub(crate) struct Run {
    way: Way,
    lane: usize,
    code: u64,
    messages: u64,
    bytes: u64,
}

impl Run {
    pub(crate) fn new(way: Way) -> Self {
        Self { way, lane: 0, code: 0, messages: 0, bytes: 0 }
    }

    /// Counts a message of the protocol at this place of `meters`.
    pub(crate) fn count(&mut self, meters: &[Arc<ProtocolMeter>], lane: usize, code: u64, bytes: usize) {
        if (lane, code) != (self.lane, self.code) {
            self.flush(meters);
            (self.lane, self.code) = (lane, code);
        }
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    /// Adds what has been counted to the protocols.
    pub(crate) fn flush(&mut self, meters: &[Arc<ProtocolMeter>]) {
        if self.messages == 0 {
            return;
        }
        let meter = &meters[self.lane];
        let tallies = if self.way == Way::Sent { &meter.sent } else { &meter.received };
        let place = usize::try_from(self.code).map_or(usize::MAX, |code| code).min(tallies.len() - 1);
        tallies[place].add(std::mem::take(&mut self.messages), std::mem::take(&mut self.bytes));
    }
}

/// What is counted for a server.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    /// In the order in which they were registered.
    pub(crate) protocols: Vec<Arc<ProtocolMeter>>,
    /// Of connections that became peers.
    pub(crate) encryption_times: Times,
    pub(crate) hello_times: Times,
    pub(crate) round_trips: Times,
    pub(crate) ends: Ends,
}

/// What a server is busy with at a moment: nothing, after its shutdown.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    /// By direction, inbound first.
    pub(crate) peers: [usize; 2],
    /// Connections that are being set up, likewise.
    pub(crate) pending: [usize; 2],
    /// In bytes.
    pub(crate) budget_used: usize,
    pub(crate) budget_limit: usize,
}
