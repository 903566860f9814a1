//! What waits to be written to one peer: a bounded queue for each protocol, and a control lane ahead of them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::channel::SendError;
use crate::p2p::{BaseMessage, DisconnectReason, MessageId};

/// The writer takes this many bytes at a time: enough for one write call to carry a burst, little enough to let a
/// control message pass soon.
const BATCH_BYTES: usize = 128 * 1024;

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: MessageId,
    pub(crate) data: Bytes,
    /// Compressed already, or not to be.
    pub(crate) is_final: bool,
}

/// What the writer is to do next.
#[derive(Debug)]
pub(crate) enum Work {
    Base(BaseMessage),
    Message(Outgoing),
}

/// How the queues are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// After what is queued.
    Drain(Option<DisconnectReason>),
    /// Ahead of what is queued, which is dropped.
    Now(Option<DisconnectReason>),
}

#[derive(Debug)]
pub(crate) struct Outbox {
    /// Free places of each queue. A place is given back when the writer takes the message.
    places: Box<[Semaphore]>,
    state: Mutex<State>,
    wake: Notify,
    closed: CancellationToken,
}

#[derive(Debug)]
struct State {
    queues: Box<[VecDeque<Outgoing>]>,
    /// The queue whose turn it is.
    turn: usize,
    ping: bool,
    pong: bool,
    close: Option<Close>,
}

impl Outbox {
    /// An outbox with a queue of each of these lengths.
    pub(crate) fn new(lengths: impl Iterator<Item = usize>) -> Self {
        let places: Box<[Semaphore]> =
            lengths.map(|length| Semaphore::new(length.min(Semaphore::MAX_PERMITS))).collect();
        let queues = places.iter().map(|_| VecDeque::new()).collect();
        let state = State { queues, turn: 0, ping: false, pong: false, close: None };
        Self { places, state: Mutex::new(state), wake: Notify::new(), closed: CancellationToken::new() }
    }

    pub(crate) fn capacity(&self, queue: usize) -> usize {
        self.places[queue].available_permits()
    }

    /// Queues a message, waiting for a place.
    pub(crate) async fn push(&self, queue: usize, message: Outgoing) -> Result<(), SendError> {
        let place = self.places[queue].acquire().await.map_err(|_| SendError::Closed)?;
        self.enqueue(queue, message).map_err(|_| SendError::Closed)?;
        place.forget();
        Ok(())
    }

    /// Queues a message if there is a place; gives it back otherwise.
    pub(crate) fn try_push(&self, queue: usize, message: Outgoing) -> Result<(), (SendError, Outgoing)> {
        let place = match self.places[queue].try_acquire() {
            Ok(place) => place,
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err((SendError::Full, message)),
            Err(tokio::sync::TryAcquireError::Closed) => return Err((SendError::Closed, message)),
        };
        self.enqueue(queue, message).map_err(|message| (SendError::Closed, message))?;
        place.forget();
        Ok(())
    }

    fn enqueue(&self, queue: usize, message: Outgoing) -> Result<(), Outgoing> {
        let mut state = self.lock();
        if state.close.is_some() {
            return Err(message);
        }
        state.queues[queue].push_back(message);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// A Ping is to be sent.
    pub(crate) fn ping(&self) {
        self.lock().ping = true;
        self.wake.notify_one();
    }

    /// A Pong is to be sent. However many are asked for before one is written, one is written.
    pub(crate) fn pong(&self) {
        self.lock().pong = true;
        self.wake.notify_one();
    }

    /// Takes no more messages, and has the writer end with a Disconnect, if there is a reason.
    ///
    /// A later call can turn [`Close::Drain`] into [`Close::Now`].
    pub(crate) fn close(&self, close: Close) {
        let mut state = self.lock();
        state.close = Some(close);
        if let Close::Now(_) = close {
            state.queues.iter_mut().for_each(VecDeque::clear);
        }
        drop(state);
        self.places.iter().for_each(Semaphore::close);
        self.closed.cancel();
        self.wake.notify_one();
    }

    /// Waits until no more messages are taken.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Waits for something to write and puts it into `work`; `false` when it is the last.
    ///
    /// # Cancel safety
    /// Nothing is taken before the future is ready.
    pub(crate) async fn take(&self, work: &mut Vec<Work>) -> bool {
        loop {
            if let Some(goes_on) = self.try_take(work) {
                return goes_on;
            }
            self.wake.notified().await;
        }
    }

    fn try_take(&self, work: &mut Vec<Work>) -> Option<bool> {
        let mut state = self.lock();
        if let Some(Close::Now(reason)) = state.close {
            work.extend(reason.map(|reason| Work::Base(BaseMessage::Disconnect(reason))));
            return Some(false);
        }
        if std::mem::take(&mut state.pong) {
            work.push(Work::Base(BaseMessage::Pong));
        }
        if std::mem::take(&mut state.ping) {
            work.push(Work::Base(BaseMessage::Ping));
        }
        self.take_messages(&mut state, work);
        match state.close {
            Some(Close::Drain(reason)) if state.queues.iter().all(VecDeque::is_empty) => {
                work.extend(reason.map(|reason| Work::Base(BaseMessage::Disconnect(reason))));
                Some(false)
            }
            _ => (!work.is_empty()).then_some(true),
        }
    }

    /// Takes messages from the queues in turn, one from each.
    fn take_messages(&self, state: &mut State, work: &mut Vec<Work>) {
        let State { queues, turn, .. } = state;
        let mut bytes = 0;
        let mut empty = 0;
        while bytes < BATCH_BYTES && empty < queues.len() {
            let queue = *turn;
            *turn = (queue + 1) % queues.len();
            match queues[queue].pop_front() {
                Some(message) => {
                    empty = 0;
                    bytes += message.data.len();
                    work.push(Work::Message(message));
                    self.places[queue].add_permits(1);
                }
                None => empty += 1,
            }
        }
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
