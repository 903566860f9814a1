//! Three protocols of different weights that always have something to send, on a link that is too slow for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capmux::bytes::Bytes;
use capmux::{ByteRates, DisconnectReason, Protocol};
use tokio::time::Instant;

use super::{Cue, Line, Outcome, check, connect, node};

pub(in crate::demo) const WEIGHTS: [u16; 3] = [10, 5, 1];
const NAMES: [&str; 3] = ["heavy", "middle", "light"];

/// Bytes a second on the link.
pub(in crate::demo) const RATE: u64 = 2_000_000;

/// By how much of what is due a share may differ from it.
const TOLERANCE: f64 = 0.15;

/// All messages have the same size, so that what goes with each on the wire does not change the shares.
const MESSAGE: usize = 2048;

/// The queues fill while this passes.
const WARM_UP: Duration = Duration::from_millis(100);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Less than this, in bytes, is too little to tell shares.
const ENOUGH: u64 = 512 * 1024;

/// What of each protocol has come, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::demo) struct Shares {
    pub(in crate::demo) bytes: [u64; 3],
}

impl Shares {
    pub(in crate::demo) fn percent(&self) -> [f64; 3] {
        let total: u64 = self.bytes.iter().sum();
        self.bytes.map(|bytes| bytes as f64 * 100.0 / total.max(1) as f64)
    }

    pub(in crate::demo) fn ideal() -> [f64; 3] {
        let total: f64 = WEIGHTS.map(f64::from).iter().sum();
        WEIGHTS.map(|weight| f64::from(weight) * 100.0 / total)
    }

    fn judge(self) -> Outcome<Self> {
        let pairs = || self.percent().into_iter().zip(Self::ideal());
        if self.bytes.iter().sum::<u64>() < ENOUGH {
            return Err(format!("only {} bytes came over the link", self.bytes.iter().sum::<u64>()));
        }
        match pairs().zip(NAMES).find(|((had, due), _)| (had - due).abs() > due * TOLERANCE) {
            Some(((had, due), name)) => Err(format!("{name} had {had:.2} % of the link, where {due:.2} % is its due")),
            None => Ok(Some(self)),
        }
    }
}

pub(super) async fn play(mut cue: Cue, line: Line) -> Outcome<Shares> {
    let came: Arc<[AtomicU64; 3]> = Arc::default();
    let receiver = node("receiver", (0..3).map(|number| counting(number, &came))).await?;
    let sender = node("sender", (0..3).map(sending)).await?;
    sender.set_byte_rates(ByteRates { inbound: 0, outbound: RATE });
    let peer = connect(&sender, &receiver).await?;
    let read = || std::array::from_fn::<u64, 3, _>(|number| came[number].load(Ordering::Relaxed));
    let mut measured = Shares { bytes: [0; 3] };
    if cue.wait_until(Instant::now() + WARM_UP).await {
        let before = read();
        let mut goes_on = true;
        while goes_on && Instant::now() < cue.end {
            goes_on = cue.wait_until((Instant::now() + LOOK).min(cue.end)).await;
            let now = read();
            measured.bytes = std::array::from_fn(|number| now[number] - before[number]);
            let [heavy, middle, light] = measured.percent();
            line.write(format!("{heavy:.1}, {middle:.1} and {light:.1} % for the weights 10, 5 and 1"));
        }
    }
    check(&peer)?;
    // What is queued is not waited for.
    peer.disconnect(DisconnectReason::Requested);
    tokio::join!(sender.shutdown(), receiver.shutdown());
    let is_enough = measured.bytes.iter().sum::<u64>() >= ENOUGH;
    if cue.is_stopped() && !is_enough { Ok(None) } else { measured.judge() }
}

/// Always has something to send.
fn sending(number: usize) -> Protocol {
    let handler = |_, channel: capmux::Channel| async move {
        let payload = Bytes::from(incompressible());
        while channel.send(0, payload.clone()).await.is_ok() {}
        Ok(())
    };
    Protocol::from_fn(NAMES[number], 1, 1, handler).weight(WEIGHTS[number])
}

/// Counts what comes.
fn counting(number: usize, came: &Arc<[AtomicU64; 3]>) -> Protocol {
    let came = came.clone();
    Protocol::from_fn(NAMES[number], 1, 1, move |_, mut channel| {
        let came = came.clone();
        async move {
            while let Some(message) = channel.recv().await {
                came[number].fetch_add(message.payload.len() as u64, Ordering::Relaxed);
            }
            Ok(())
        }
    })
}

fn incompressible() -> Vec<u8> {
    let mut payload = vec![0; MESSAGE];
    fastrand::fill(&mut payload);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_judged_by_what_is_due() {
        let judge = |bytes| Shares { bytes }.judge();
        assert_eq!(Shares::ideal(), [62.5, 31.25, 6.25]);
        for good in [[10_000_000, 5_000_000, 1_000_000], [10_000_000, 5_000_000, 1_100_000]] {
            assert_eq!(judge(good), Ok(Some(Shares { bytes: good })));
        }
        let starved = judge([10_000_000, 5_000_000, 700_000]);
        assert_eq!(starved, Err("light had 4.46 % of the link, where 6.25 % is its due".to_owned()));
        assert!(judge([1, 1, 1]).is_err_and(|error| error.starts_with("only 3 bytes")));
        assert!(judge([5_000_000; 3]).is_err());
    }
}
