//! Waking the writer, and writing in its place when the thread that is to run it is held up by a handler.
//!
//! tokio keeps the task that was woken last for the thread that woke it, and no other thread takes it from there: a
//! handler that sends and then blocks its thread would hold up what all protocols of its peer send.

use std::convert::Infallible;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::yield_now;

use super::state::State;
use super::{Lent, Outbox};
use crate::peer::ending::PeerError;
use crate::peer::wire::{Wire, Written};
use crate::sync::{MutexGuard, now, sleep_until};

/// When the writer has been woken for so long and has not come, its thread is busy with something else.
const LATE: Duration = Duration::from_millis(1);

/// How often it is looked whether a writer that was woken has come.
const WATCH: Duration = Duration::from_millis(10);

impl Outbox {
    /// Sees to it that somebody writes.
    pub(super) fn stir(&self, state: MutexGuard<'_, State>) {
        match (&state.wire, state.woken) {
            // Whoever has the wire looks before it is given back.
            (None, _) => {}
            (Some(_), None) => self.wake_writer(state),
            (Some(_), Some(_)) => {
                self.stand_in(state);
            }
        }
    }

    /// Wakes the writer, which was not woken yet, and has it watched.
    pub(super) fn wake_writer(&self, mut state: MutexGuard<'_, State>) {
        state.woken = Some(now());
        let is_watched = std::mem::replace(&mut state.is_watched, true);
        drop(state);
        // Before the writer: of the two, it is this task that another thread can take if this one is blocked next.
        if !is_watched {
            self.watch.notify_one();
        }
        self.wake.notify_one();
    }

    /// Looks after the writer, in a task of its own: if that is held up itself, nothing else is.
    pub(crate) async fn watch_writer(&self) -> Infallible {
        loop {
            self.watch.notified().await;
            loop {
                sleep_until(now() + WATCH).await;
                if self.has_writer_come() {
                    break;
                }
                while self.stand_in(self.lock()) {
                    yield_now().await;
                }
            }
        }
    }

    /// Whether the writer needs no watching any more.
    fn has_writer_come(&self) -> bool {
        let mut state = self.lock();
        state.is_watched = state.woken.is_some();
        !state.is_watched
    }

    /// Writes in place of a writer that is late, and says whether there may be more to write at once. A goodbye is left
    /// to the writer, and so is what byte rates hold back.
    fn stand_in(&self, mut state: MutexGuard<'_, State>) -> bool {
        let is_late = state.woken.is_some_and(|woken| now() - woken >= LATE);
        if !is_late || state.close.is_some() {
            return false;
        }
        let has_work = state.has_work();
        let can_write =
            |wire: &mut Box<Wire>| (has_work || !wire.is_idle()) && wire.failed.is_none() && !wire.is_shaped();
        let Some(mut wire) = state.wire.take_if(can_write) else { return false };
        if wire.is_idle() {
            self.take(&mut state, &mut wire);
        }
        drop(state);
        self.write_now(wire, Wire::seal_work)
    }

    /// Seals, writes what can be written at once, gives the wire back, and says whether all was written.
    pub(super) fn write_now(&self, wire: Box<Wire>, seal: impl FnOnce(&mut Wire) -> Result<(), PeerError>) -> bool {
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
        wire.is_idle() && wire.failed.is_none()
    }
}
