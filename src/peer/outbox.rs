//! What waits to be written to one peer: a bounded queue for each protocol, and a control lane ahead of them.
//!
//! One task at a time owns the [`Wire`]: the writer while there is much to write, and otherwise whoever has a lone
//! message, which then leaves without a task in between.

mod lent;
mod queue;
mod stand_in;
mod state;

use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::drr::RoundRobin;
use super::send::SendError;
use super::wire::{Wire, Written};
use crate::p2p::{BaseMessage, DisconnectReason};
use crate::sync::{AtomicU64, Mutex, MutexGuard, now};
use lent::{Lent, Waiting};
use queue::Queue;
pub(crate) use queue::{FRAME, Outgoing, Piece, QueueLimits, Work};
use state::State;

/// So many bytes are sealed at a time: enough for one write call to carry a burst, little enough to let a control
/// message or another protocol pass soon.
const BATCH_BYTES: usize = 64 * 1024;

/// A larger message is left to the writer.
const LONE_BYTES: usize = 16 * 1024;

/// A message that follows a write this soon belongs to a burst, and is queued so that the burst leaves together.
const BURST: Duration = Duration::from_micros(4);

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

pub(crate) struct Outbox {
    lanes: Box<[Lane]>,
    /// Messages are cut into pieces of this size, if both ends can.
    chunk: Option<usize>,
    state: Mutex<State>,
    /// For the writer.
    wake: Notify,
    /// For who stands in for it.
    watch: Notify,
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
    /// Copies of broadcasts for which there was no place.
    lagged: AtomicU64,
}

impl Outbox {
    /// An outbox with these queues, which writes to `wire`.
    pub(crate) fn new(limits: &[QueueLimits], chunk: Option<usize>, wire: Wire) -> Self {
        let lane = |limits: &QueueLimits| Lane {
            limits: *limits,
            turn: <_>::default(),
            room: Notify::new(),
            lagged: <_>::default(),
        };
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
            is_watched: false,
        };
        Self {
            lanes: limits.iter().map(lane).collect(),
            chunk,
            state: Mutex::new(state),
            wake: Notify::new(),
            watch: Notify::new(),
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

    /// A copy of a broadcast was not sent.
    pub(crate) fn note_lagged(&self, queue: usize) {
        self.lanes[queue].lagged.fetch_add(1, Ordering::Relaxed);
    }

    /// How many copies of broadcasts were not sent.
    pub(crate) fn lagged(&self, queue: usize) -> u64 {
        self.lanes[queue].lagged.load(Ordering::Relaxed)
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

    /// Takes on what has waited for the peer to come, whether there is a place or not: it takes no more memory here.
    pub(crate) fn preload(&self, lane: usize, messages: Vec<Outgoing>) {
        let mut state = self.lock();
        if state.close.is_some() || messages.is_empty() {
            return;
        }
        state.accepted += messages.len() as u64;
        state.queued += messages.len();
        let queue = &mut state.queues[lane];
        queue.bytes += messages.iter().map(|message| message.data.len()).sum::<usize>();
        queue.messages.extend(messages);
        self.stir(state);
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
        let (size, queue) = (message.data.len(), &state.queues[lane]);
        let is_first = has_waited || queue.waiting == 0;
        if !is_first || !queue.has_room(&self.lanes[lane].limits, size) {
            return Err(Refused::Full(message));
        }
        state.accepted += 1;
        if size <= LONE_BYTES.min(self.chunk.unwrap_or(usize::MAX))
            && let Some(wire) = state.lend_idle()
        {
            drop(state);
            self.write_now(wire, |wire| wire.seal_lone(lane, message));
            return Ok(());
        }
        let queue = &mut state.queues[lane];
        if !std::mem::replace(&mut queue.is_sampled, true) {
            message.queued = Some(now());
        }
        queue.bytes += size;
        queue.messages.push_back(message);
        state.queued += 1;
        self.stir(state);
        Ok(())
    }

    /// Notes what a write has brought.
    pub(super) fn note(&self, written: &Written) {
        self.written.fetch_add(written.messages, Ordering::Relaxed);
        if written.ping {
            self.lock().ping_written = Some(now());
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
            self.write_now(wire, |wire| {
                wire.seal_base(message);
                Ok(())
            });
            return;
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

    /// Whether no more messages are taken on.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().close.is_some()
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
        match state.close {
            Some(Close::Now(reason)) => Next::Last(reason),
            Some(Close::Drain(reason)) if state.queued == 0 => Next::Last(reason),
            _ if !state.has_work() => Next::Nothing,
            _ => {
                self.take(&mut state, wire);
                Next::Work
            }
        }
    }

    /// Takes what is to be sealed next into the wire's list.
    fn take(&self, state: &mut State, wire: &mut Wire) {
        state.take(wire, self.chunk, |lane| self.lanes[lane].room.notify_one());
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

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}
