//! What has come for one protocol from one peer and waits for its handler, bounded in messages and in bytes.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::budget::Account;
use super::channel::Message;
use crate::sync::{Mutex, MutexGuard, now, sleep_until};

/// The bounds of an inbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InboxLimits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Inbox {
    limits: InboxLimits,
    account: Arc<Account>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    /// No more will come.
    is_closed: bool,
    /// Nobody will read.
    is_abandoned: bool,
    /// The handler, which waits for a message.
    receiver: Option<Waker>,
    /// The reader, which waits for a place.
    paused: Option<Paused>,
}

#[derive(Debug)]
struct Paused {
    waker: Waker,
    /// Of the message that is to be put in.
    size: usize,
    /// When the handler last took a message.
    progress: Instant,
}

impl Inbox {
    pub(crate) fn new(limits: InboxLimits, account: Arc<Account>) -> Self {
        Self { limits, account, state: Mutex::default() }
    }

    /// Puts a message in, which the account has been charged for; gives it back when there is no place.
    pub(crate) fn offer(&self, message: Message) -> Result<(), Message> {
        let size = message.payload.len();
        let mut state = self.lock();
        if state.is_abandoned {
            drop(state);
            self.account.discharge(size);
            return Ok(());
        }
        if !self.fits(&state, size) {
            return Err(message);
        }
        state.bytes += size;
        state.messages.push_back(message);
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        Ok(())
    }

    /// Whether a message of this size has a place.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        let state = self.lock();
        state.is_abandoned || self.fits(&state, size)
    }

    fn fits(&self, state: &State, size: usize) -> bool {
        let InboxLimits { messages, bytes } = self.limits;
        state.messages.is_empty() || state.messages.len() < messages && size <= bytes - state.bytes
    }

    /// Waits until a message of this size has a place and half of the inbox is free, so that reading does not go on and
    /// stop for each message.
    ///
    /// # Errors
    /// When the handler has taken no message for `patience`.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub(crate) async fn room(&self, size: usize, patience: Duration) -> Result<(), Stalled> {
        let mut progress = now();
        loop {
            let deadline = progress + patience;
            tokio::select! {
                // A place that is there counts, however late this task comes to look.
                biased;
                () = std::future::poll_fn(|context| self.poll_room(context, size, progress)) => return Ok(()),
                () = sleep_until(deadline) => {}
            }
            // Whoever makes a place takes it.
            let Some(paused) = self.lock().paused.take() else { return Ok(()) };
            progress = paused.progress;
            if progress + patience <= now() {
                return Err(Stalled);
            }
        }
    }

    fn poll_room(&self, context: &Context<'_>, size: usize, progress: Instant) -> Poll<()> {
        let mut state = self.lock();
        if state.is_abandoned || state.messages.is_empty() {
            return Poll::Ready(());
        }
        if self.is_half_free(&state, size) {
            return Poll::Ready(());
        }
        let progress = state.paused.take().map_or(progress, |paused| paused.progress);
        state.paused = Some(Paused { waker: context.waker().clone(), size, progress });
        Poll::Pending
    }

    fn is_half_free(&self, state: &State, size: usize) -> bool {
        let InboxLimits { messages, bytes } = self.limits;
        state.messages.len() <= messages / 2 && state.bytes <= bytes / 2 && size <= bytes - state.bytes
    }

    /// The next message; `None` when no more will come and all are taken.
    pub(crate) fn poll_recv(&self, context: &mut Context<'_>) -> Poll<Option<Message>> {
        // A handler whose messages never end lets others run.
        let coop = std::task::ready!(tokio::task::coop::poll_proceed(context));
        let mut state = self.lock();
        let Some(message) = state.messages.pop_front() else {
            if state.is_closed {
                coop.made_progress();
                return Poll::Ready(None);
            }
            if state.receiver.as_ref().is_none_or(|receiver| !receiver.will_wake(context.waker())) {
                state.receiver = Some(context.waker().clone());
            }
            return Poll::Pending;
        };
        coop.made_progress();
        state.bytes -= message.payload.len();
        let resumed = self.resume(&mut state);
        drop(state);
        self.account.discharge(message.payload.len());
        if let Some(reader) = resumed {
            reader.wake();
        }
        Poll::Ready(Some(message))
    }

    /// Notes that a message was taken; the reader, if it can go on.
    fn resume(&self, state: &mut State) -> Option<Waker> {
        let size = match &mut state.paused {
            Some(paused) => {
                paused.progress = now();
                paused.size
            }
            None => return None,
        };
        let can_go_on = state.messages.is_empty() || self.is_half_free(state, size);
        can_go_on.then(|| state.paused.take().map(|paused| paused.waker)).flatten()
    }

    /// No more messages will come.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// Nobody will read any more: what waits is dropped, and so is what comes.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.is_abandoned = true;
        let dropped = std::mem::take(&mut state.messages);
        let bytes = std::mem::take(&mut state.bytes);
        let paused = state.paused.take();
        drop(state);
        drop(dropped);
        self.account.discharge(bytes);
        if let Some(paused) = paused {
            paused.waker.wake();
        }
    }

    /// Gives back the memory that a burst has left.
    pub(crate) fn release_memory(&self) {
        self.lock().messages.shrink_to_fit();
    }

    /// How many messages and bytes wait.
    pub(crate) fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.messages.len(), state.bytes)
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handler has taken no message for too long.
#[derive(Debug)]
pub(crate) struct Stalled;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::budget::Budget;

    #[tokio::test(start_paused = true)]
    async fn a_place_made_in_time_counts_though_the_reader_looks_late() {
        let patience = Duration::from_secs(20);
        let mut context = Context::from_waker(Waker::noop());
        // Which of two that are ready is looked at first may be a matter of chance.
        for _ in 0..50 {
            let inbox = Inbox::new(InboxLimits { messages: 2, bytes: 1000 }, Budget::new(1 << 20).account());
            for code in 0..2 {
                inbox.offer(Message::new(code, bytes::Bytes::new())).unwrap();
            }
            let mut room = std::pin::pin!(inbox.room(0, patience));
            assert!(room.as_mut().poll(&mut context).is_pending(), "R10");
            tokio::time::advance(patience - Duration::from_millis(5)).await;
            for _ in 0..2 {
                assert!(inbox.poll_recv(&mut context).is_ready());
            }
            tokio::time::advance(Duration::from_millis(10)).await;
            assert!(matches!(room.as_mut().poll(&mut context), Poll::Ready(Ok(()))), "R10");
        }
    }
}
