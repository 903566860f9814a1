//! What waits to be written to one peer: a bounded queue for each protocol, and a control lane ahead of them.
//!
//! One task at a time owns the [`Wire`]: the writer while there is much to write, and otherwise whoever has a lone message,
//! which then leaves without a task in between.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::drr::RoundRobin;
use super::ending::PeerError;
use super::send::{ReceiptSender, SendError};
use super::wire::{Wire, Written};
use crate::p2p::{BaseMessage, DisconnectReason, MessageId};

/// So many bytes are sealed at a time: enough for one write call to carry a burst, little enough to let a control
/// message or another protocol pass soon.
const BATCH_BYTES: usize = 64 * 1024;

/// A larger message is left to the writer.
const LONE_BYTES: usize = 16 * 1024;

/// A message that follows a write this soon belongs to a burst, and is queued so that the burst leaves together.
const BURST: Duration = Duration::from_micros(4);

/// When the writer has been woken for so long and has not come, its thread is busy with something else.
const LATE: Duration = Duration::from_millis(1);

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: MessageId,
    pub(crate) code: u64,
    pub(crate) data: Bytes,
    /// Compressed already, or not to be.
    pub(crate) is_final: bool,
    pub(crate) receipt: Option<ReceiptSender>,
    /// When it was queued, for those whose time is taken.
    pub(crate) queued: Option<Instant>,
}

/// A part of a message.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) id: MessageId,
    /// The size of the message, with its first piece.
    pub(crate) total: Option<usize>,
    pub(crate) data: Bytes,
    /// The message, with its last piece.
    pub(crate) ends: Option<Box<Outgoing>>,
}

/// What the owner of the wire is to seal next.
#[derive(Debug)]
pub(crate) enum Work {
    Base(BaseMessage),
    Message(usize, Outgoing),
    Piece(usize, Piece),
}

/// A message that was not taken on.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no place for it.
    Full(Outgoing),
    /// The peer is gone, and so is the message.
    Closed,
}

/// How the queues are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// After what is queued.
    Drain(Option<DisconnectReason>),
    /// Ahead of what is queued, which is dropped.
    Now(Option<DisconnectReason>),
}

/// The bounds and the weight of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) weight: u16,
}

pub(crate) struct Outbox {
    lanes: Box<[Lane]>,
    /// Messages are cut into pieces of this size, if both ends can.
    chunk: Option<usize>,
    state: Mutex<State>,
    /// For the writer.
    wake: Notify,
    /// Messages that are in the socket, those of the base protocol aside.
    written: AtomicU64,
    closed: CancellationToken,
}

/// What senders of one protocol wait on.
#[derive(Debug)]
struct Lane {
    limits: QueueLimits,
    /// Those who wait for a place do so one behind the other.
    turn: tokio::sync::Mutex<()>,
    room: Notify,
}

struct State {
    /// Absent while it is lent, and at the end.
    wire: Option<Box<Wire>>,
    queues: Box<[Queue]>,
    turns: RoundRobin,
    /// Messages in all queues.
    queued: usize,
    /// Messages that were taken on.
    accepted: u64,
    ping: bool,
    pong: bool,
    ping_written: Option<Instant>,
    close: Option<Close>,
    /// The wire is not wanted back.
    is_over: bool,
    last_write: Option<Instant>,
    /// When the writer was woken, until it comes.
    woken: Option<Instant>,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Outgoing>,
    bytes: usize,
    /// How much of the first message has been taken in pieces.
    offset: usize,
    /// Senders that wait for a place.
    waiting: usize,
    /// The time of a message in this queue is being taken.
    is_sampled: bool,
}

impl Queue {
    fn has_room(&self, limits: &QueueLimits, size: usize) -> bool {
        self.messages.len() < limits.messages && (size <= limits.bytes.saturating_sub(self.bytes))
    }
}

impl Outbox {
    /// An outbox with these queues, which writes to `wire`.
    pub(crate) fn new(limits: &[QueueLimits], chunk: Option<usize>, wire: Wire) -> Self {
        let lane = |limits: &QueueLimits| Lane { limits: *limits, turn: <_>::default(), room: Notify::new() };
        let state = State {
            wire: Some(Box::new(wire)),
            queues: limits.iter().map(|_| Queue::default()).collect(),
            turns: RoundRobin::new(limits.iter().map(|limits| limits.weight)),
            queued: 0,
            accepted: 0,
            ping: false,
            pong: false,
            ping_written: None,
            close: None,
            is_over: false,
            last_write: None,
            woken: None,
        };
        Self {
            lanes: limits.iter().map(lane).collect(),
            chunk,
            state: Mutex::new(state),
            wake: Notify::new(),
            written: AtomicU64::new(0),
            closed: CancellationToken::new(),
        }
    }

    /// How many messages and bytes a queue has room for.
    pub(crate) fn room(&self, queue: usize) -> (usize, usize) {
        let (state, limits) = (self.lock(), &self.lanes[queue].limits);
        let Queue { messages, bytes, waiting, .. } = &state.queues[queue];
        match waiting {
            0 => (limits.messages.saturating_sub(messages.len()), limits.bytes.saturating_sub(*bytes)),
            _ => (0, 0),
        }
    }

    /// How many messages and bytes are in a queue.
    pub(crate) fn load(&self, queue: usize) -> (usize, usize) {
        let state = self.lock();
        (state.queues[queue].messages.len(), state.queues[queue].bytes)
    }

    /// How many messages were taken on and are not, or not wholly, written.
    pub(crate) fn unsent(&self) -> u64 {
        self.lock().accepted - self.written.load(Ordering::Relaxed)
    }

    /// Queues a message, waiting for a place behind those who wait already.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message has not been queued.
    pub(crate) async fn push(&self, queue: usize, mut message: Outgoing) -> Result<(), SendError> {
        let lane = &self.lanes[queue];
        let _waiting = Waiting::new(self, queue);
        let _turn = lane.turn.lock().await;
        loop {
            let room = lane.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            match self.offer(queue, message, true) {
                Err(Refused::Full(refused)) => message = refused,
                Err(Refused::Closed) => return Err(SendError::Closed),
                Ok(()) => return Ok(()),
            }
            room.await;
        }
    }

    /// Takes on a message if there is a place.
    pub(crate) fn try_push(&self, queue: usize, message: Outgoing) -> Result<(), Refused> {
        self.offer(queue, message, false)
    }

    fn offer(&self, lane: usize, mut message: Outgoing, has_waited: bool) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.close.is_some() {
            return Err(Refused::Closed);
        }
        let size = message.data.len();
        let queue = &state.queues[lane];
        let is_first = has_waited || queue.waiting == 0;
        if !is_first || !queue.has_room(&self.lanes[lane].limits, size) {
            return Err(Refused::Full(message));
        }
        state.accepted += 1;
        let is_lone = state.queued == 0 && size <= LONE_BYTES && self.chunk.is_none_or(|chunk| size <= chunk);
        if is_lone && let Some(wire) = state.lend_idle() {
            drop(state);
            self.write_now(wire, |wire| wire.seal_lone(lane, message));
            return Ok(());
        }
        let queue = &mut state.queues[lane];
        if !std::mem::replace(&mut queue.is_sampled, true) {
            message.queued = Some(Instant::now());
        }
        queue.bytes += size;
        queue.messages.push_back(message);
        state.queued += 1;
        self.stir(state);
        Ok(())
    }

    /// Sees to it that somebody writes.
    fn stir(&self, mut state: MutexGuard<'_, State>) {
        let Some(wire) = &state.wire else { return }; // Whoever has it looks before it is given back.
        let now = Instant::now();
        match state.woken {
            None => {
                state.woken = Some(now);
                drop(state);
                self.wake.notify_one();
            }
            // The thread that is to run the writer may be held up by a handler.
            Some(woken)
                if now - woken >= LATE && !wire.is_shaped() && wire.failed.is_none() && state.close.is_none() =>
            {
                let Some(mut wire) = state.wire.take() else { return };
                if wire.is_idle() {
                    self.take(&mut state, &mut wire);
                }
                drop(state);
                self.write_now(wire, Wire::seal_work);
            }
            Some(_) => {}
        }
    }

    /// Seals, writes what can be written at once, and gives the wire back.
    fn write_now(&self, wire: Box<Wire>, seal: impl FnOnce(&mut Wire) -> Result<(), PeerError>) {
        let mut lent = Lent::new(self, wire);
        let wire = lent.wire();
        let outcome = seal(wire).and_then(|()| {
            let mut context = Context::from_waker(Waker::noop());
            match wire.poll_write(&mut context, usize::MAX) {
                Poll::Ready(written) => written.map_err(PeerError::Io),
                Poll::Pending => Ok(Written::default()),
            }
        });
        match outcome {
            Ok(written) => self.note(&written),
            Err(error) => wire.failed = Some(error),
        }
    }

    /// Notes what a write has brought.
    pub(super) fn note(&self, written: &Written) {
        self.written.fetch_add(written.messages, Ordering::Relaxed);
        if written.ping {
            self.lock().ping_written = Some(Instant::now());
        }
    }

    /// A Ping is to be sent.
    pub(crate) fn ping(&self) {
        self.control(BaseMessage::Ping, |state| state.ping = true);
    }

    /// A Pong is to be sent. However many are asked for before one is written, one is written.
    pub(crate) fn pong(&self) {
        self.control(BaseMessage::Pong, |state| state.pong = true);
    }

    fn control(&self, message: BaseMessage, queue: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if state.close.is_none()
            && let Some(wire) = state.lend_idle()
        {
            drop(state);
            return self.write_now(wire, |wire| {
                wire.seal_base(message);
                Ok(())
            });
        }
        queue(&mut state);
        self.stir(state);
    }

    /// When the last Ping was written, told once.
    pub(crate) fn take_ping_written(&self) -> Option<Instant> {
        self.lock().ping_written.take()
    }

    /// Takes no more messages, and has the writer end with a Disconnect, if there is a reason.
    ///
    /// A later call can turn [`Close::Drain`] into [`Close::Now`].
    pub(crate) fn close(&self, close: Close) {
        let mut state = self.lock();
        state.close = Some(close);
        let dropped = match close {
            Close::Now(_) => state.clear(),
            Close::Drain(_) => Vec::new(),
        };
        drop(state);
        // Receipts are told without the lock.
        drop(dropped);
        self.closed.cancel();
        self.lanes.iter().for_each(|lane| lane.room.notify_one());
        self.wake.notify_one();
    }

    /// Gives up the wire, after the last task that could have it back.
    pub(crate) fn finish(&self) {
        self.close(Close::Now(None));
        let mut state = self.lock();
        state.is_over = true;
        let wire = state.wire.take();
        drop(state);
        drop(wire);
    }

    /// Gives back the memory that a burst has left.
    pub(crate) fn release_memory(&self) {
        self.lock().queues.iter_mut().for_each(|queue| queue.messages.shrink_to_fit());
    }

    /// Waits until no more messages are taken on.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Waits until there is something to write and nobody who writes.
    ///
    /// # Cancel safety
    /// Nothing is taken before the future is ready.
    pub(super) async fn turn(&self) -> Lent<'_> {
        loop {
            if let Some(wire) = self.lend_to_writer() {
                return Lent::new(self, wire);
            }
            self.wake.notified().await;
        }
    }

    fn lend_to_writer(&self) -> Option<Box<Wire>> {
        let mut state = self.lock();
        state.woken = None;
        let has_work = state.has_work();
        state.wire.take_if(|wire| has_work || wire.failed.is_some() || !wire.is_idle())
    }

    /// Takes what is to be sealed next into the wire's list. When it is the last, there is nothing to be done after it.
    pub(super) fn next(&self, wire: &mut Wire) -> Next {
        let mut state = self.lock();
        let last = |reason: Option<DisconnectReason>| Next::Last(reason);
        match state.close {
            Some(Close::Now(reason)) => last(reason),
            Some(Close::Drain(reason)) if state.queued == 0 => last(reason),
            _ if !state.has_work() => Next::Nothing,
            _ => {
                self.take(&mut state, wire);
                Next::Work
            }
        }
    }

    /// The control lane first, then messages by turns.
    fn take(&self, state: &mut State, wire: &mut Wire) {
        wire.correct(|lane, bytes| state.turns.charge(lane, bytes));
        let limit = wire.step().min(BATCH_BYTES);
        let work = wire.work();
        let State { queues, turns, queued, ping, pong, .. } = state;
        let control = [(pong, BaseMessage::Pong), (ping, BaseMessage::Ping)];
        work.extend(
            control.into_iter().filter_map(|(flag, message)| std::mem::take(flag).then_some(Work::Base(message))),
        );
        let mut bytes = 0;
        while bytes < limit {
            let Some(lane) = turns.next(|lane| !queues[lane].messages.is_empty()) else { return };
            let queue = &mut queues[lane];
            let (item, size) = match self.chunk {
                Some(chunk) if queue.messages[0].data.len() > chunk => queue.take_piece(lane, chunk.min(limit)),
                _ => queue.take_message(lane),
            };
            turns.charge(lane, size as i64);
            bytes += size;
            if !matches!(&item, Work::Piece(_, Piece { ends: None, .. })) {
                *queued -= 1;
                if queue.waiting > 0 {
                    self.lanes[lane].room.notify_one();
                }
            }
            work.push(item);
        }
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the owner of the wire is to do next.
pub(super) enum Next {
    /// Seal the list of work, and write it.
    Work,
    /// Write the Disconnect, if there is a reason, and end.
    Last(Option<DisconnectReason>),
    /// Give the wire back.
    Nothing,
}

impl State {
    /// The wire, if a message can leave on it at once.
    fn lend_idle(&mut self) -> Option<Box<Wire>> {
        if self.queued > 0 || self.woken.is_some() || self.last_write.is_some_and(|last| last.elapsed() < BURST) {
            return None;
        }
        self.wire.take_if(|wire| wire.is_idle() && wire.failed.is_none() && !wire.is_shaped())
    }

    fn has_work(&self) -> bool {
        self.queued > 0 || self.ping || self.pong || self.close.is_some()
    }

    /// Empties the queues.
    fn clear(&mut self) -> Vec<VecDeque<Outgoing>> {
        self.queued = 0;
        self.queues
            .iter_mut()
            .map(|queue| {
                (queue.bytes, queue.offset) = (0, 0);
                std::mem::take(&mut queue.messages)
            })
            .collect()
    }
}

impl Queue {
    fn take_message(&mut self, lane: usize) -> (Work, usize) {
        let message = self.messages.pop_front().expect("the queue has a message, as was looked at");
        let size = message.data.len();
        self.bytes -= size;
        self.is_sampled &= message.queued.is_none();
        (Work::Message(lane, message), size)
    }

    /// Takes at most `chunk` bytes of the first message, and the message with the last of them.
    fn take_piece(&mut self, lane: usize, chunk: usize) -> (Work, usize) {
        let message = &self.messages[0];
        let (id, total) = (message.id, (self.offset == 0).then_some(message.data.len()));
        let end = message.data.len().min(self.offset + chunk);
        let data = message.data.slice(self.offset..end);
        let size = data.len();
        let is_last = end == message.data.len();
        self.offset = if is_last { 0 } else { end };
        let ends = if is_last {
            let message = self.messages.pop_front();
            self.bytes -= end;
            message.map(Box::new)
        } else {
            None
        };
        self.is_sampled &= ends.as_ref().is_none_or(|message| message.queued.is_none());
        (Work::Piece(lane, Piece { id, total, data, ends }), size)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

/// A sender that waits for a place.
struct Waiting<'a> {
    outbox: &'a Outbox,
    queue: usize,
}

impl<'a> Waiting<'a> {
    fn new(outbox: &'a Outbox, queue: usize) -> Self {
        outbox.lock().queues[queue].waiting += 1;
        Self { outbox, queue }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.outbox.lock().queues[self.queue].waiting -= 1;
    }
}

/// The wire, which is given back when this is dropped.
pub(super) struct Lent<'a> {
    outbox: &'a Outbox,
    wire: Option<Box<Wire>>,
}

impl<'a> Lent<'a> {
    fn new(outbox: &'a Outbox, wire: Box<Wire>) -> Self {
        Self { outbox, wire: Some(wire) }
    }

    pub(super) fn wire(&mut self) -> &mut Wire {
        self.wire.as_mut().expect("it is there until this is dropped")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let Some(mut wire) = self.wire.take() else { return };
        if std::thread::panicking() {
            wire.failed = Some(PeerError::Internal);
        }
        if wire.is_idle() {
            wire.rest();
        }
        let is_done = wire.is_idle() && wire.failed.is_none();
        let mut state = self.outbox.lock();
        if state.is_over {
            drop(state);
            return;
        }
        state.wire = Some(wire);
        let now = Instant::now();
        state.last_write = Some(now);
        if (!is_done || state.has_work()) && state.woken.is_none() {
            state.woken = Some(now);
            drop(state);
            self.outbox.wake.notify_one();
        }
    }
}
