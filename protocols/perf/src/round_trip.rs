//! There and back, one at a time.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::node::{Hub, REQUEST, loopback, random_payload};
use crate::{PerfError, Window};

/// How long messages took to go and come back.
#[derive(Debug, Clone)]
pub struct RoundTrips {
    nanoseconds: Histogram<u64>,
}

impl RoundTrips {
    fn new() -> Self {
        Self { nanoseconds: Histogram::new(3).expect("three digits are allowed") }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.nanoseconds.len()
    }

    /// What this share of them did not exceed, from 0 to 1, to three digits.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.nanoseconds.value_at_quantile(share))
    }
}

/// When what counts begins and ends.
struct Clock {
    begin: Instant,
    end: Instant,
    times: RoundTrips,
}

impl Clock {
    fn start(window: Window) -> Self {
        let begin = Instant::now() + window.warm_up;
        Self { begin, end: begin + window.measured, times: RoundTrips::new() }
    }

    /// Notes a round trip that began at this moment, and says whether another is wanted.
    fn note(&mut self, start: Instant) -> bool {
        let now = Instant::now();
        if start >= self.begin {
            let nanoseconds = u64::try_from(now.duration_since(start).as_nanos()).unwrap_or(u64::MAX);
            // A histogram without a highest value grows as it has to.
            self.times.nanoseconds.record(nanoseconds).expect("it can be resized");
        }
        now < self.end
    }
}

/// Requests with payloads of `size` bytes, each sent by a handler when the reply to the one before it has come, and
/// answered by the handler at the other end. There is no other traffic.
///
/// # Errors
/// [`PerfError`].
pub async fn round_trips(size: usize, window: Window) -> Result<RoundTrips, PerfError> {
    let payload = random_payload(size)?;
    let mut hub = Hub::start(1).await?;
    run(async move {
        let channel = hub.channel()?;
        let mut clock = Clock::start(window);
        loop {
            let start = Instant::now();
            channel.send(REQUEST, payload.clone()).await?;
            channel.recv().await.ok_or(PerfError::Missing { have: 0, needed: 1 })?;
            if !clock.note(start) {
                return Ok(clock.times);
            }
        }
    })
    .await
}

/// The same with nothing but TCP on this runtime: what a round trip cannot be shorter than.
///
/// # Errors
/// [`PerfError::Io`].
pub async fn tcp_round_trips(size: usize, window: Window) -> Result<RoundTrips, PerfError> {
    let failed = || PerfError::io("exchange bytes over loopback TCP");
    let payload = random_payload(size)?;
    let listener = TcpListener::bind(loopback()).await.map_err(failed())?;
    let address = listener.local_addr().map_err(failed())?;
    let mut stream = TcpStream::connect(address).await.map_err(failed())?;
    let (other, _) = listener.accept().await.map_err(failed())?;
    for end in [&stream, &other] {
        end.set_nodelay(true).map_err(failed())?;
    }
    let echo = tokio::spawn(echo(other, size));
    let times = run(async move {
        let (mut clock, mut reply) = (Clock::start(window), vec![0; size]);
        loop {
            let start = Instant::now();
            stream.write_all(&payload).await.map_err(failed())?;
            stream.read_exact(&mut reply).await.map_err(failed())?;
            if !clock.note(start) {
                return Ok(clock.times);
            }
        }
    })
    .await;
    echo.abort();
    times
}

async fn echo(mut stream: TcpStream, size: usize) -> std::io::Result<()> {
    let mut buffer = vec![0; size];
    loop {
        stream.read_exact(&mut buffer).await?;
        stream.write_all(&buffer).await?;
    }
}

/// Runs it as a task, as handlers are: the thread of `block_on` is woken differently.
async fn run<T: Send + 'static>(
    work: impl Future<Output = Result<T, PerfError>> + Send + 'static,
) -> Result<T, PerfError> {
    tokio::spawn(work).await.map_err(PerfError::task)?
}
