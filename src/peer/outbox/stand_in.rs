//! Waking the writer, and writing in its place when the thread that is to run it is held up by a handler.
//!
//! tokio keeps the task that was woken last for the thread that woke it, and no other thread takes it from there: a handler
//! that sends and then blocks its thread would hold up what all protocols of its peer send.

use std::convert::Infallible;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::state::State;
use super::{Lent, Outbox};
use crate::peer::ending::PeerError;
use crate::peer::wire::{Wire, Written};
use crate::sync::{MutexGuard, now, sleep_until};

/// When the writer has been woken for so long and has not come, its thread is busy with something else.
const LATE: Duration = Duration::from_millis(1);

/// So often it is looked whether the writer has come, while there is something for it to write.
const WATCH: Duration = Duration::from_millis(10);

impl Outbox {
    /// Sees to it that somebody writes.
    pub(super) fn stir(&self, state: MutexGuard<'_, State>) {
        match (&state.wire, state.woken) {
            // Whoever has the wire looks before it is given back.
            (None, _) => {}
            (Some(_), None) => self.wake_writer(state),
            (Some(_), Some(_)) => self.stand_in(state),
        }
    }

    pub(super) fn wake_writer(&self, mut state: MutexGuard<'_, State>) {
        state.woken = Some(now());
        let is_watched = std::mem::replace(&mut state.is_watched, true);
        drop(state);
        // Before the writer, so that another thread can take this task if this one is blocked next.
        if !is_watched {
            self.watch.notify_one();
        }
        self.wake.notify_one();
    }

    /// Looks after the writer, for as long as it is polled. It must be in another task.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped, but nobody looks after the writer then.
    pub(crate) async fn watch_writer(&self) -> Infallible {
        loop {
            self.watch.notified().await;
            loop {
                sleep_until(now() + WATCH).await;
                let mut state = self.lock();
                if state.woken.is_none() {
                    state.is_watched = false;
                    break;
                }
                self.stand_in(state);
            }
        }
    }

    /// Writes in place of a writer that is late.
    fn stand_in(&self, mut state: MutexGuard<'_, State>) {
        let is_late = state.woken.is_some_and(|woken| now() - woken >= LATE);
        if !is_late || state.close.is_some() {
            return;
        }
        let has_work = state.has_work();
        let can_write =
            |wire: &mut Box<Wire>| (has_work || !wire.is_idle()) && wire.failed.is_none() && !wire.is_shaped();
        let Some(mut wire) = state.wire.take_if(can_write) else { return };
        if wire.is_idle() {
            self.take(&mut state, &mut wire);
        }
        drop(state);
        self.write_now(wire, Wire::seal_work);
    }

    /// Seals, writes what can be written at once, and gives the wire back.
    pub(super) fn write_now(&self, wire: Box<Wire>, seal: impl FnOnce(&mut Wire) -> Result<(), PeerError>) {
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
}
