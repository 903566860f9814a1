//! What can be measured.

use std::time::Duration;

use capmux_perf::{PerfError, Window};

use super::report::{Codec, Handshake, IdlePeers, Report, RoundTrip, Stream, micros};

/// Sizes of payloads, in bytes.
const SIZES: [usize; 6] = [32, 256, 1 << 10, 16 << 10, 128 << 10, 1 << 20];

/// So many nodes, all connected, have 992 ends of connections.
const IDLE_NODES: usize = 32;

/// What the base protocol waits before it pings a silent peer: each is pinged once.
const IDLE: Duration = Duration::from_secs(15);

/// How many handshakes are made at a time, so that no core waits.
const HANDSHAKES: usize = 8;

const ROUND_TRIP_BYTES: usize = 32;

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    IdlePeers,
    Codec(usize),
    Stream(usize),
    RoundTrip,
    Handshake,
}

/// In the order in which they have to run: the memory of idle peers shows while the process is small.
pub(super) fn all() -> Vec<Work> {
    let mut all = vec![Work::IdlePeers];
    all.extend(SIZES.map(Work::Codec));
    all.extend(SIZES.map(Work::Stream));
    all.extend([Work::RoundTrip, Work::Handshake]);
    all
}

impl Work {
    /// What `--only` looks at.
    pub(super) fn name(&self) -> String {
        match self {
            Self::IdlePeers => "idle_peers".to_owned(),
            Self::Codec(size) => format!("codec_{size}"),
            Self::Stream(size) => format!("stream_{size}"),
            Self::RoundTrip => "round_trip".to_owned(),
            Self::Handshake => "handshake".to_owned(),
        }
    }

    /// Measures it and puts the figures into the report.
    pub(super) async fn measure(self, time: Duration, report: &mut Report) -> Result<(), PerfError> {
        let window = Window::of(time);
        match self {
            Self::IdlePeers => report.idle_peers = Some(idle_peers().await?),
            Self::Codec(size) => report.codec.push(codec(size, time).await?),
            Self::Stream(size) => {
                let stream = capmux_perf::stream(size, window).await?;
                report.streams.push(Stream::new(size, &stream));
            }
            Self::RoundTrip => {
                let times = capmux_perf::round_trips(ROUND_TRIP_BYTES, window).await?;
                let tcp = capmux_perf::tcp_round_trips(ROUND_TRIP_BYTES, window).await?;
                report.round_trip = Some(RoundTrip::new(ROUND_TRIP_BYTES, &times, &tcp));
            }
            Self::Handshake => {
                let rate = capmux_perf::handshakes(HANDSHAKES, window).await?;
                report.handshake = Some(Handshake { per_s: rate.per_s(), cpu_us: rate.cpu().map(micros) });
            }
        }
        Ok(())
    }
}

/// On a thread of its own: it does not wait for anything, and Ctrl-C is to be heard.
async fn codec(size: usize, time: Duration) -> Result<Codec, PerfError> {
    let measured = tokio::task::spawn_blocking(move || capmux_perf::codec(size, time)).await;
    // Its panic is ours; it is cancelled by nobody.
    let times = measured.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    Ok(Codec { size_bytes: size, seal_us: micros(times.seal), open_us: micros(times.open) })
}

async fn idle_peers() -> Result<IdlePeers, PerfError> {
    let memory = told(capmux_perf::idle_memory(IDLE_NODES).await)?;
    let window = Window { warm_up: Duration::from_millis(500), measured: IDLE };
    let cpu = told(capmux_perf::idle_cpu(IDLE_NODES, window).await)?;
    Ok(IdlePeers {
        ends: IDLE_NODES * (IDLE_NODES - 1),
        resident_bytes: memory.map(|memory| memory.bytes_per_end()),
        cpu_percent: cpu.map(|cpu| cpu.percent_for_1000()),
    })
}

/// Not every platform tells what a process uses.
fn told<T>(figure: Result<T, PerfError>) -> Result<Option<T>, PerfError> {
    match figure {
        Err(PerfError::Io { .. }) => Ok(None),
        figure => figure.map(Some),
    }
}
