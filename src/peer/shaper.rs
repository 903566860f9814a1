//! Byte rates: a schedule on which transfers are placed one behind the other, changeable while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Bytes a second in each direction, on the wire; 0 is unlimited.
///
/// The rates hold within 5 % over a few seconds. Values from 1 to 1,023 count as 1,024. A peer whose bytes are taken
/// so slowly that a Ping waits for longer than the other end's patience is dropped by it: what the kernel has buffered
/// for reading, a few megabytes, comes before it. In the other direction a Pong waits for the message that is being
/// written, so that twenty seconds at the rate should be more than the largest message, or
/// [`chunk_size`](crate::ServerBuilder::chunk_size) be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByteRates {
    /// What is read.
    pub inbound: u64,
    /// What is written.
    pub outbound: u64,
}

/// The shapers of both directions.
#[derive(Debug, Default)]
pub(crate) struct Shapers {
    pub(crate) inbound: Shaper,
    pub(crate) outbound: Shaper,
}

impl Shapers {
    pub(crate) fn new(rates: ByteRates) -> Arc<Self> {
        let shapers = Self::default();
        shapers.set(rates);
        Arc::new(shapers)
    }

    pub(crate) fn set(&self, rates: ByteRates) {
        self.inbound.set_rate(rates.inbound);
        self.outbound.set_rate(rates.outbound);
    }

    pub(crate) fn rates(&self) -> ByteRates {
        ByteRates { inbound: self.inbound.rate(), outbound: self.outbound.rate() }
    }
}

/// What a connection has paid for in one direction: each shaper in steps of its own, so that all who share one take the
/// same part of it, whatever else slows them down.
#[derive(Debug, Default)]
pub(super) struct Paid([usize; 2]);

impl Paid {
    /// Waits until at least a byte may pass, and returns how many of `wanted` may.
    ///
    /// # Cancel safety
    /// When the future is dropped, at most one step of each shaper is lost.
    pub(super) async fn pass(&mut self, shapers: [&Shaper; 2], wanted: usize) -> usize {
        let mut passes = wanted;
        for (paid, shaper) in self.0.iter_mut().zip(shapers) {
            let step = shaper.step();
            if step == usize::MAX {
                *paid = 0;
                continue;
            }
            if *paid == 0 {
                shaper.pass(step).await;
                *paid = step;
            }
            passes = passes.min(*paid);
        }
        self.0.iter_mut().for_each(|paid| *paid = paid.saturating_sub(passes));
        passes
    }
}

/// The slowest rate there is, in bytes a second.
const SLOWEST: u64 = 1024;

/// The largest transfer that is placed at once, and the smallest.
const LARGEST_STEP: u64 = 64 * 1024;
const SMALLEST_STEP: u64 = 1024;

/// A transfer takes this part of a second, so that others get their turn and control messages pass.
const STEPS_A_SECOND: u64 = 200;

/// How much unused time can be made up for: timers are late by milliseconds.
const CREDIT: Duration = Duration::from_millis(50);

/// One direction of one connection, or of all of them.
///
/// Each transfer is placed behind the one before it, so that all who share the shaper are served in the order in which
/// they came, without drift and without anything to refill.
#[derive(Debug, Default)]
pub(crate) struct Shaper {
    /// In bytes a second; 0 is unlimited.
    rate: AtomicU64,
    /// When what has been placed will be through.
    busy_until: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Shaper {
    pub(crate) fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.rate() != 0
    }

    /// What waits is placed anew at the new rate.
    pub(crate) fn set_rate(&self, rate: u64) {
        let rate = if rate == 0 { 0 } else { rate.max(SLOWEST) };
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        if self.rate.swap(rate, Ordering::Relaxed) != rate {
            *busy_until = None;
            drop(busy_until);
            self.changed.notify_waiters();
        }
    }

    /// The largest transfer to ask for now.
    pub(crate) fn step(&self) -> usize {
        match self.rate() {
            0 => usize::MAX,
            rate => (rate / STEPS_A_SECOND).clamp(SMALLEST_STEP, LARGEST_STEP) as usize,
        }
    }

    /// Places a transfer, and waits for its turn.
    ///
    /// # Cancel safety
    /// When the future is dropped, the place is lost.
    pub(crate) async fn pass(&self, bytes: usize) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let Some(turn) = self.place(bytes, Instant::now()) else { return };
            tokio::select! {
                biased;
                () = sleep_until(turn) => return,
                () = changed => {}
            }
        }
    }

    /// When a transfer of `bytes` may begin; `None` is now.
    fn place(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, as it is changed.
        let rate = self.rate();
        if rate == 0 {
            return None;
        }
        let oldest = now.checked_sub(CREDIT).unwrap_or(now);
        let turn = busy_until.map_or(now, |until| until.max(oldest));
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        *busy_until = Some(turn + takes);
        (turn > now).then_some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long it takes to pass so many bytes.
    async fn time(shaper: &Shaper, mut bytes: u64) -> f64 {
        let since = Instant::now();
        while bytes > 0 {
            let step = bytes.min(shaper.step() as u64);
            shaper.pass(step as usize).await;
            bytes -= step;
        }
        since.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_holds_and_is_changed_while_it_runs() {
        let shaper = Shaper::default();
        assert!(time(&shaper, 1 << 40).await == 0.0, "R29: 0 is unlimited");
        for rate in [10_000, 1_000_000, 50_000_000] {
            shaper.set_rate(rate);
            let took = time(&shaper, rate * 5).await;
            assert!((4.75..=5.25).contains(&took), "R29: {rate} bytes a second took {took} s for five seconds' worth");
        }
        shaper.set_rate(SLOWEST);
        shaper.pass(1_000_000).await;
        let change = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            shaper.set_rate(1_000_000_000);
        };
        let since = Instant::now();
        tokio::join!(shaper.pass(1), change);
        assert!(since.elapsed() < Duration::from_secs(2), "R29: who waits does not wait at the old rate");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_is_not_saved_up() {
        let shaper = Shaper::default();
        shaper.set_rate(1_000_000);
        shaper.pass(1).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(time(&shaper, 1_000_000).await > 0.94, "R29: an hour of silence does not earn a burst");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slower_peer_has_its_rate_beside_those_that_share_the_rest() {
        let (shared, unlimited, slow) = (Shaper::default(), Shaper::default(), Shaper::default());
        shared.set_rate(6_000_000);
        slow.set_rate(500_000);
        let end = Instant::now() + Duration::from_secs(5);
        let carry = async |own: &Shaper| {
            let (mut paid, mut bytes) = (Paid::default(), 0);
            while Instant::now() < end {
                bytes += paid.pass([own, &shared], 64 * 1024).await;
            }
            bytes as f64
        };
        let (slow, one, other) = tokio::join!(carry(&slow), carry(&unlimited), carry(&unlimited));
        for (row, bytes, due) in [("slow", slow, 2.5e6), ("one", one, 13.75e6), ("other", other, 13.75e6)] {
            assert!(
                (0.95..=1.05).contains(&(bytes / due)),
                "R29: {row} carried {bytes} bytes, where {due} are its due"
            );
        }
    }
}
