//! The sending half of a peer's connection, which one task at a time owns.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::ending::PeerError;
use super::frames::FrameWriter;
use super::outbox::{FRAME, Outgoing, Piece, Work};
use super::scratch::{self, WriteBuffers};
use super::send::ReceiptSender;
use super::shaper::{Paid, Shapers};
use super::tap::Tap;
use crate::metrics::{ProtocolMeter, Run, Way};
use crate::p2p::{BaseMessage, Chunking};

/// A message that took this long from the queue into the socket is told of in the log.
const SLOW: Duration = Duration::from_millis(100);

/// The memory for so many messages that are followed to the socket is kept.
const KEPT_WATCHED: usize = 16;

/// Seals messages and writes them. What is sealed is written before anything else is sealed.
pub(crate) struct Wire {
    frames: FrameWriter,
    /// Borrowed from the thread while there is something to write; the sealed frames are in `frames`.
    work: Vec<Work>,
    ends: VecDeque<u64>,
    is_borrowing: bool,
    /// What is to be told about single messages once they are written.
    watched: VecDeque<Watched>,
    /// The lane of a message that was sealed alone and may be left half-written.
    lone: Option<usize>,
    /// Where the last Ping ends.
    ping_end: Option<u64>,
    chunking: Option<Chunking>,
    chunk: BytesMut,
    /// What the pieces of a lane's message have taken so far.
    piece_bytes: Box<[u64]>,
    /// By how many bytes more than was reckoned with the frames of a lane have turned out.
    corrections: Box<[i64]>,
    sealed: u64,
    written: u64,
    /// The peer's, and all peers'.
    shapers: [Arc<Shapers>; 2],
    paid: Paid,
    tap: Tap,
    lanes: Arc<[Arc<ProtocolMeter>]>,
    /// Why nothing more can be written.
    pub(super) failed: Option<PeerError>,
}

/// A message whose way is followed to the socket.
struct Watched {
    end: u64,
    bytes: u64,
    receipt: Option<ReceiptSender>,
    sample: Option<Sample>,
    told: Option<Told>,
}

/// What those are told of a message who asked for it.
struct Told {
    lane: usize,
    code: u64,
    /// Of the payload.
    bytes: usize,
}

/// When a message was queued, and when it was sealed.
struct Sample {
    lane: usize,
    queued: Instant,
    sealed: Instant,
}

/// What a write brought.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) messages: u64,
    /// The Ping is out.
    pub(super) ping: bool,
}

impl Wire {
    pub(super) fn new(
        frames: FrameWriter,
        chunking: Option<Chunking>,
        shapers: [Arc<Shapers>; 2],
        tap: Tap,
        lanes: Arc<[Arc<ProtocolMeter>]>,
    ) -> Self {
        Self {
            frames,
            work: Vec::new(),
            ends: VecDeque::new(),
            is_borrowing: false,
            watched: VecDeque::new(),
            lone: None,
            ping_end: None,
            chunking,
            chunk: BytesMut::new(),
            piece_bytes: lanes.iter().map(|_| 0).collect(),
            corrections: lanes.iter().map(|_| 0).collect(),
            sealed: 0,
            written: 0,
            shapers,
            paid: Paid::default(),
            tap,
            lanes,
            failed: None,
        }
    }

    /// Whether everything that was sealed is written.
    pub(super) fn is_idle(&self) -> bool {
        self.frames.is_idle()
    }

    pub(super) fn unwritten(&self) -> usize {
        self.frames.buffer.len()
    }

    pub(super) fn is_shaped(&self) -> bool {
        self.shapers.iter().any(|shapers| shapers.outbound.is_limited())
    }

    /// How many bytes to seal at a time.
    pub(super) fn step(&self) -> usize {
        self.shapers.iter().map(|shapers| shapers.outbound.step()).min().unwrap_or(usize::MAX)
    }

    /// Waits until some of what is sealed is within the byte rates, and returns how much.
    pub(super) async fn pass(&mut self) -> usize {
        let [peer, server] = &self.shapers;
        let wanted = self.frames.buffer.len();
        self.paid.pass([&peer.outbound, &server.outbound], wanted).await
    }

    /// The list of work, to be filled and sealed.
    pub(super) fn work(&mut self) -> &mut Vec<Work> {
        self.borrow();
        &mut self.work
    }

    fn borrow(&mut self) {
        if !std::mem::replace(&mut self.is_borrowing, true) {
            let WriteBuffers { frames, work, ends } = scratch::take_write_buffers();
            self.frames.buffer = frames;
            (self.work, self.ends) = (work, ends);
        }
    }

    /// Takes the time of a lone message that could not be written at once, which has none from a queue.
    pub(super) fn watch_lone(&mut self) {
        if let Some(lane) = self.lone.take() {
            let now = Instant::now();
            let sample = Some(Sample { lane, queued: now, sealed: now });
            self.watched.push_back(Watched { end: self.sealed, bytes: 0, receipt: None, sample, told: None });
        }
    }

    /// Gives back what is only needed while there is something to write.
    pub(super) fn rest(&mut self) {
        self.lone = None;
        if self.watched.capacity() > KEPT_WATCHED {
            self.watched = VecDeque::new();
        }
        if std::mem::take(&mut self.is_borrowing) {
            scratch::give_write_buffers(WriteBuffers {
                frames: std::mem::take(&mut self.frames.buffer),
                work: std::mem::take(&mut self.work),
                ends: std::mem::take(&mut self.ends),
            });
        }
    }

    /// Tells how many bytes more than it was charged each lane has taken since the last call.
    pub(super) fn correct(&mut self, mut charge: impl FnMut(usize, i64)) {
        for (lane, bytes) in self.corrections.iter_mut().enumerate() {
            if *bytes != 0 {
                charge(lane, std::mem::take(bytes));
            }
        }
    }

    /// Seals the list of work.
    pub(super) fn seal_work(&mut self) -> Result<(), PeerError> {
        let mut work = std::mem::take(&mut self.work);
        let mut run = Run::new(Way::Sent);
        for item in work.drain(..) {
            let before = self.frames.buffer.len();
            let (lane, estimated) = match item {
                Work::Base(message) => {
                    self.seal_base(message);
                    continue;
                }
                Work::Message(lane, message) => {
                    let size = message.data.len();
                    run.count(&self.lanes, lane, message.code, size);
                    self.seal(lane, message)?;
                    (lane, size)
                }
                Work::Piece(lane, piece) => {
                    let size = piece.data.len();
                    if let Some(message) = &piece.ends {
                        run.count(&self.lanes, lane, message.code, message.data.len());
                    }
                    self.seal_piece(lane, piece)?;
                    (lane, size)
                }
            };
            self.corrections[lane] += (self.frames.buffer.len() - before) as i64 - (estimated + FRAME) as i64;
        }
        run.flush(&self.lanes);
        self.work = work;
        Ok(())
    }

    /// Seals one message, past the list.
    pub(super) fn seal_lone(&mut self, lane: usize, message: Outgoing) -> Result<(), PeerError> {
        self.borrow();
        self.lone = Some(lane);
        let mut run = Run::new(Way::Sent);
        run.count(&self.lanes, lane, message.code, message.data.len());
        run.flush(&self.lanes);
        self.seal(lane, message)
    }

    pub(super) fn seal_base(&mut self, message: BaseMessage) {
        self.borrow();
        let before = self.frames.buffer.len();
        self.frames.encoder.base(message, &mut self.frames.buffer);
        self.sealed_since(before);
        self.tap.traffic().messages_sent(1);
        if message == BaseMessage::Ping {
            self.ping_end = Some(self.sealed);
        }
    }

    fn seal(&mut self, lane: usize, message: Outgoing) -> Result<(), PeerError> {
        let before = self.frames.buffer.len();
        if let Some(shared) = &message.shared {
            self.frames.encoder.seal_plain(message.id, shared.compressed(), &mut self.frames.buffer)?;
        } else if message.is_final {
            self.frames.encoder.seal_plain(message.id, &message.data, &mut self.frames.buffer)?;
        } else {
            self.frames.encoder.message(message.id, &message.data, &mut self.frames.buffer)?;
        }
        self.end_message(lane, before, message);
        Ok(())
    }

    fn seal_piece(&mut self, lane: usize, piece: Piece) -> Result<(), PeerError> {
        let before = self.frames.buffer.len();
        let chunking = self.chunking.ok_or(PeerError::Internal)?;
        self.chunk.clear();
        let id = match piece.total {
            Some(total) => chunking.encode_first(piece.id, total, &piece.data, &mut self.chunk),
            None => chunking.encode_more(piece.id, &piece.data, &mut self.chunk),
        };
        self.frames.encoder.message(id, &self.chunk, &mut self.frames.buffer)?;
        match piece.ends {
            Some(message) => {
                self.chunk = BytesMut::new();
                self.end_message(lane, before, *message);
            }
            None => self.piece_bytes[lane] += self.sealed_since(before),
        }
        Ok(())
    }

    fn end_message(&mut self, lane: usize, before: usize, message: Outgoing) {
        let bytes = self.sealed_since(before) + std::mem::take(&mut self.piece_bytes[lane]);
        self.ends.push_back(self.sealed);
        let Outgoing { receipt, queued, code, data, .. } = message;
        let told = self.tap.is_open(Way::Sent).then(|| Told { lane, code, bytes: data.len() });
        if receipt.is_some() || queued.is_some() || told.is_some() {
            let sample = queued.map(|queued| Sample { lane, queued, sealed: Instant::now() });
            self.watched.push_back(Watched { end: self.sealed, bytes, receipt, sample, told });
        }
    }

    /// How many bytes have been sealed since there were `before`.
    fn sealed_since(&mut self, before: usize) -> u64 {
        let bytes = (self.frames.buffer.len() - before) as u64;
        self.sealed += bytes;
        bytes
    }

    /// Writes at most `limit` bytes of what is sealed.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, limit: usize) -> Poll<io::Result<Written>> {
        let bytes = std::task::ready!(self.frames.poll_write(context, limit))?;
        self.tap.traffic().bytes_sent(bytes);
        self.written += bytes as u64;
        let mut written = Written::default();
        while self.ends.front().is_some_and(|end| *end <= self.written) {
            self.ends.pop_front();
            written.messages += 1;
        }
        self.tap.traffic().messages_sent(written.messages);
        written.ping = self.ping_end.take_if(|end| *end <= self.written).is_some();
        while let Some(watched) = self.watched.pop_front_if(|watched| watched.end <= self.written) {
            self.tell(watched);
        }
        Poll::Ready(Ok(written))
    }

    fn tell(&self, watched: Watched) {
        if let Some(receipt) = watched.receipt {
            receipt.written(watched.bytes);
        }
        if let Some(Told { lane, code, bytes }) = watched.told {
            self.tap.tell(Way::Sent, &self.lanes[lane].capability, code, bytes);
        }
        let Some(Sample { lane, queued, sealed }) = watched.sample else { return };
        let (meter, took) = (&self.lanes[lane], queued.elapsed());
        meter.queue_times.record(took);
        if took >= SLOW {
            tracing::info!(
                capability = %meter.capability,
                queued_ms = (sealed - queued).as_millis() as u64,
                writing_ms = sealed.elapsed().as_millis() as u64,
                "a message was slow to leave"
            );
        }
    }

    /// Closes the sending direction.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.frames.shutdown().await
    }
}
