//! What is held for a while and given back when it is dropped: the wire, and a place among those who wait.

use super::Outbox;
use crate::peer::ending::PeerError;
use crate::peer::wire::Wire;
use crate::sync::now;

/// A sender that waits for a place.
pub(super) struct Waiting<'a> {
    outbox: &'a Outbox,
    queue: usize,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(outbox: &'a Outbox, queue: usize) -> Self {
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
pub(in crate::peer) struct Lent<'a> {
    outbox: &'a Outbox,
    wire: Option<Box<Wire>>,
    /// It was lent in the middle of a panic, to something that sends when it is dropped.
    in_panic: bool,
}

impl<'a> Lent<'a> {
    pub(super) fn new(outbox: &'a Outbox, wire: Box<Wire>) -> Self {
        Self { outbox, wire: Some(wire), in_panic: std::thread::panicking() }
    }

    pub(in crate::peer) fn wire(&mut self) -> &mut Wire {
        self.wire.as_mut().expect("it is there until this is dropped")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let Some(mut wire) = self.wire.take() else { return };
        if std::thread::panicking() && !self.in_panic {
            wire.failed = Some(PeerError::Internal);
        }
        if wire.is_idle() {
            wire.rest();
        } else {
            wire.watch_lone();
        }
        let is_done = wire.is_idle() && wire.failed.is_none();
        let mut state = self.outbox.lock();
        if state.is_over {
            drop(state);
            return;
        }
        state.wire = Some(wire);
        state.last_write = Some(now());
        if (!is_done || state.has_work()) && state.woken.is_none() {
            self.outbox.wake_writer(state);
        }
    }
}
