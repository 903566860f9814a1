//! Workloads that show what a connection, a peer and a node cost: `cargo bench --bench versus`, `cargo bench --bench
//! scaling` and `capmux bench` are made from them.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "multi_thread")]
//! # async fn main() -> Result<(), capmux_perf::PerfError> {
//! let window = capmux_perf::Window::of(Duration::from_secs(2));
//! let stream = capmux_perf::stream(1024, window).await?;
//! println!("{:.0} messages a second", stream.messages_per_s());
//! # Ok(())
//! # }
//! ```
//!
//! Both ends are [`Server`](capmux::Server)s of this process, joined by loopback TCP, unless a workload says otherwise.
//! Payloads are random, so that they do not compress, and are made before the measurement begins. Every figure is taken
//! in a [`Window`] in the midst of the work, so that neither the setup nor the end counts.
//!
//! Run them on a runtime with several threads and in a release build: the figures of an unoptimised one say nothing.
//!
//! # On the wire
//! Name `perf`, version 1, three codes. Code 0 is data, which is counted and thrown away; code 1 a request with any
//! payload, code 2 the reply with the same payload. Nobody else has to speak it: it is what the workloads use.

mod broadcast;
mod codec;
mod error;
mod handshake;
mod idle;
mod node;
pub mod process;
mod round_trip;
mod stream;

pub use broadcast::{BroadcastRate, Broadcaster, drain};
pub use codec::{CodecTimes, codec};
pub use error::PerfError;
pub use handshake::{HandshakeRate, handshakes};
pub use idle::{IdleCpu, IdleMemory, Mesh, idle_cpu, idle_memory};
pub use node::{CODES, Hub, NAME, VERSION};
pub use round_trip::{RoundTrips, round_trips, tcp_round_trips};
pub use stream::{Throughput, stream};

use std::time::{Duration, Instant};

/// How long a workload runs, and how much of that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How long it runs before it counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub measured: Duration,
}

impl Window {
    /// A window of this length after a warm-up that is a third of it, or a second where that is less.
    pub fn of(measured: Duration) -> Self {
        Self { warm_up: (measured / 3).min(Duration::from_secs(1)), measured }
    }

    /// Waits for the warm-up to be over, reads, waits for the end, and reads again. Returns the difference and how
    /// long it really took.
    async fn observe(self, read: impl Fn() -> u64) -> Observed {
        tokio::time::sleep(self.warm_up).await;
        let (begin, cpu, count) = (Instant::now(), process::cpu_time().ok(), read());
        tokio::time::sleep(self.measured).await;
        let (count, wall) = (read() - count, begin.elapsed());
        let cpu = cpu.and_then(|cpu| Some(process::cpu_time().ok()?.saturating_sub(cpu)));
        Observed { count, wall, cpu }
    }
}

/// What has happened in a window.
#[derive(Debug, Clone, Copy)]
struct Observed {
    count: u64,
    wall: Duration,
    /// CPU time of this process; `None` where the platform does not tell.
    cpu: Option<Duration>,
}

impl Observed {
    fn per_s(&self) -> f64 {
        self.count as f64 / self.wall.as_secs_f64()
    }

    /// CPU time for each of what was counted.
    fn cpu_each(&self) -> Option<Duration> {
        (self.count > 0).then_some(self.cpu?.div_f64(self.count as f64))
    }
}

#[cfg(test)]
mod tests;
