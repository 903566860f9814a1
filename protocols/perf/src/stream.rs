//! One way, as fast as it goes.

use std::time::Duration;

use crate::node::{DATA, Hub, random_payload};
use crate::{Observed, PerfError, Window};

/// What one connection carried in one direction.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    size: usize,
    observed: Observed,
}

impl Throughput {
    /// Messages that the receiving handler got, a second.
    pub fn messages_per_s(&self) -> f64 {
        self.observed.per_s()
    }

    /// Bytes of payload that the receiving handler got, a second.
    pub fn bytes_per_s(&self) -> f64 {
        self.observed.per_s() * self.size as f64
    }

    /// CPU time of both ends for a message; `None` where the platform does not tell, or none came.
    pub fn cpu_per_message(&self) -> Option<Duration> {
        self.observed.cpu_each()
    }
}

/// One server sends messages with payloads of `size` bytes to another, each as soon as the queue has a place; all settings
/// are the default ones.
///
/// # Errors
/// [`PerfError`].
pub async fn stream(size: usize, window: Window) -> Result<Throughput, PerfError> {
    let payload = random_payload(size)?;
    let mut hub = Hub::start(1).await?;
    let received = hub.received_counter();
    let sending = tokio::spawn(async move {
        let channel = hub.channel()?;
        loop {
            channel.send(DATA, payload.clone()).await?;
        }
    });
    let observed = window.observe(|| received.read()).await;
    if sending.is_finished() {
        let ended: Result<Result<(), PerfError>, _> = sending.await;
        ended.map_err(PerfError::task)??;
    } else {
        sending.abort();
    }
    Ok(Throughput { size, observed })
}
