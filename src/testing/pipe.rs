//! One direction of a connection in a [`Network`](super::Network): bytes that arrive later than they leave, in their
//! order. Nothing runs for it: who reads waits for the time, too.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How many bytes are under way at the most.
const CAPACITY: usize = 64 * 1024;

/// A connection that has been cut for so long is reset: what TCP does after its last retransmission.
const GIVEN_UP: Duration = Duration::from_secs(15 * 60);

/// How long bytes are under way: the least, and by how much it may be more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) least: Duration,
    pub(super) jitter: Duration,
}

impl Latency {
    pub(super) fn draw(&self, rng: &mut Rng) -> Duration {
        self.least + self.jitter.mul_f64(rng.f64())
    }
}

/// A pipe, for those who disturb it.
#[derive(Debug)]
pub(super) struct Pipe {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    chunks: VecDeque<Chunk>,
    queued: usize,
    latency: Latency,
    rng: Rng,
    /// When the last byte arrives: no later one does before it.
    last: Instant,
    /// When the end of the stream arrives.
    end: Option<Instant>,
    /// When who writes learns that nobody reads any longer: after all that was written the other way before.
    hung_up: Option<Instant>,
    is_reset: bool,
    /// Nothing arrives, since this time.
    cut: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
struct Chunk {
    due: Instant,
    bytes: BytesMut,
}

/// What a reader finds.
enum Found {
    Bytes,
    End,
    /// Nothing before this time.
    Later(Instant),
    Nothing,
    Reset,
}

impl Pipe {
    /// A pipe and its two ends.
    pub(super) fn new(latency: Latency, rng: Rng) -> (Arc<Self>, PipeReader, PipeWriter) {
        let state = State {
            chunks: VecDeque::new(),
            queued: 0,
            latency,
            rng,
            last: Instant::now(),
            end: None,
            hung_up: None,
            is_reset: false,
            cut: None,
            reader: None,
            writer: None,
        };
        let pipe = Arc::new(Self { state: Mutex::new(state) });
        (pipe.clone(), PipeReader { pipe: pipe.clone(), timer: None }, PipeWriter { pipe })
    }

    /// Holds back what is under way, and what is written.
    pub(super) fn cut(&self) {
        let mut state = self.lock();
        state.cut = state.cut.or(Some(Instant::now()));
        // A reader that waits for bytes must wait for the end of its patience now.
        state.wake();
    }

    /// Lets through what was held back.
    pub(super) fn heal(&self) {
        let mut state = self.lock();
        if state.cut.take().is_some() {
            let least = Instant::now() + state.latency.least;
            state.last = state.last.max(least);
            state.end = state.end.map(|end| end.max(least));
            state.hung_up = state.hung_up.map(|known| known.max(least));
            state.chunks.iter_mut().for_each(|chunk| chunk.due = chunk.due.max(least));
            state.wake();
        }
    }

    /// Ends it for both sides, though a side that is cut off learns of it late.
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        state.is_reset = true;
        state.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        [self.reader.take(), self.writer.take()].into_iter().flatten().for_each(Waker::wake);
    }

    /// When what leaves now arrives.
    fn due(&mut self) -> Instant {
        if self.latency != Latency::default() {
            self.last = self.last.max(Instant::now() + self.latency.draw(&mut self.rng));
        }
        self.last
    }

    fn push(&mut self, bytes: &[u8]) {
        let due = self.due();
        self.queued += bytes.len();
        match self.chunks.back_mut() {
            Some(last) if last.due == due => last.bytes.extend_from_slice(bytes),
            _ => self.chunks.push_back(Chunk { due, bytes: bytes.into() }),
        }
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    fn finish(&mut self) {
        if self.end.is_none() {
            self.end = Some(self.due());
            self.reader.take().into_iter().for_each(Waker::wake);
        }
    }

    fn find(&mut self, now: Instant) -> Found {
        if let Some(since) = self.cut {
            if since + GIVEN_UP > now {
                return Found::Later(since + GIVEN_UP);
            }
            self.is_reset = true;
        }
        match (self.chunks.front(), self.end) {
            _ if self.is_reset => Found::Reset,
            (Some(chunk), _) if chunk.due <= now => Found::Bytes,
            (Some(chunk), _) => Found::Later(chunk.due),
            (None, Some(end)) if end <= now => Found::End,
            (None, Some(end)) => Found::Later(end),
            (None, None) => Found::Nothing,
        }
    }

    fn take(&mut self, into: &mut ReadBuf<'_>) {
        let Some(chunk) = self.chunks.front_mut() else { return };
        let length = chunk.bytes.len().min(into.remaining());
        into.put_slice(&chunk.bytes[..length]);
        chunk.bytes.advance(length);
        if chunk.bytes.is_empty() {
            self.chunks.pop_front();
        }
        self.queued -= length;
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

/// Where bytes arrive.
#[derive(Debug)]
pub(super) struct PipeReader {
    pipe: Arc<Pipe>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for PipeReader {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut state = self.pipe.lock();
            let until = match state.find(Instant::now()) {
                Found::Bytes => {
                    state.take(into);
                    return Poll::Ready(Ok(()));
                }
                Found::End => return Poll::Ready(Ok(())),
                Found::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Found::Later(until) => Some(until),
                Found::Nothing => None,
            };
            state.reader = Some(context.waker().clone());
            drop(state);
            let Some(until) = until else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = self.pipe.lock();
        state.hung_up = Some(Instant::now() + state.latency.least + state.latency.jitter);
        state.chunks.clear();
        state.queued = 0;
        state.wake();
    }
}

/// Where bytes leave.
#[derive(Debug)]
pub(super) struct PipeWriter {
    pipe: Arc<Pipe>,
}

impl AsyncWrite for PipeWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.pipe.lock();
        if state.cut.is_none() && state.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let is_known = state.cut.is_none() && state.hung_up.is_some_and(|known| known <= Instant::now());
        if state.end.is_some() || is_known {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() || state.hung_up.is_some() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let length = bytes.len().min(CAPACITY - state.queued);
        if length == 0 {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.push(&bytes[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.lock().finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.pipe.lock().finish();
    }
}
