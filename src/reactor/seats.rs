//! Whose turn it is: what the handlers of a reactor's peers and the reactor share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Wake, Waker};

use tokio_util::sync::CancellationToken;

use crate::peer::{ChannelReceiver, Peer};
use crate::sync::{AtomicBool, Mutex, MutexGuard};

#[derive(Debug, Default)]
pub(super) struct Seats {
    state: Mutex<State>,
    /// The reactor is gone.
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Peers that the reactor has not been told of. Each has a handler that runs.
    arrivals: HashMap<u64, Arrival>,
    /// Who may have something to say, each once.
    ready: VecDeque<u64>,
    /// The reactor's task.
    waker: Option<Waker>,
    /// No more peers will come.
    is_over: bool,
}

/// A peer that the reactor has not been told of.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) peer: Peer,
    pub(super) receiver: ChannelReceiver,
    pub(super) signal: Arc<Signal>,
}

/// What the reactor is to do next.
pub(super) enum Turn {
    Arrived(u64, Arrival),
    Ready(u64),
    /// Wait.
    Nobody,
    /// Wait for those that are there. No others will come.
    Over,
}

impl Seats {
    /// Has the reactor told of a peer, unless what is returned is dropped before.
    pub(super) fn arrive(self: &Arc<Self>, peer: Peer, receiver: ChannelReceiver) -> Option<Arriving> {
        if self.closed.is_cancelled() {
            return None;
        }
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let signal = Arc::new(Signal { seats: self.clone(), number, is_ready: AtomicBool::new(false) });
        state.arrivals.insert(number, Arrival { peer, receiver, signal: signal.clone() });
        drop(state);
        signal.ready();
        Some(Arriving { seats: self.clone(), number })
    }

    /// Whoever has waited longest.
    pub(super) fn next(&self, context: &Context<'_>) -> Turn {
        let mut state = self.lock();
        let Some(number) = state.ready.pop_front() else {
            if state.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
                state.waker = Some(context.waker().clone());
            }
            return if state.is_over { Turn::Over } else { Turn::Nobody };
        };
        match state.arrivals.remove(&number) {
            Some(arrival) => {
                arrival.signal.heard();
                Turn::Arrived(number, arrival)
            }
            None => Turn::Ready(number),
        }
    }

    /// Nobody serves the peers any more.
    pub(super) fn close(&self) {
        self.closed.cancel();
        let arrivals = std::mem::take(&mut self.lock().arrivals);
        drop(arrivals);
    }

    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    fn over(&self) {
        let mut state = self.lock();
        state.is_over = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a peer its turn when it may have something to say.
#[derive(Debug)]
pub(super) struct Signal {
    seats: Arc<Seats>,
    number: u64,
    /// It waits for its turn.
    is_ready: AtomicBool,
}

impl Signal {
    /// Puts the peer behind those that wait for their turn, if it is not among them.
    pub(super) fn ready(&self) {
        if self.is_ready.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut state = self.seats.lock();
        state.ready.push_back(self.number);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Its turn has come.
    pub(super) fn heard(&self) {
        self.is_ready.store(false, Ordering::Release);
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.ready();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready();
    }
}

/// A peer's wish to be told of, which is withdrawn when this is dropped before.
pub(super) struct Arriving {
    seats: Arc<Seats>,
    number: u64,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let mut state = self.seats.lock();
        let Some(withdrawn) = state.arrivals.remove(&self.number) else { return };
        state.ready.retain(|number| *number != self.number);
        drop(state);
        drop(withdrawn);
    }
}

/// The registration of the protocol; when it is dropped, no more peers will come.
pub(super) struct Registered {
    seats: Arc<Seats>,
}

impl Registered {
    pub(super) fn new(seats: Arc<Seats>) -> Self {
        Self { seats }
    }

    pub(super) fn seats(&self) -> &Arc<Seats> {
        &self.seats
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.seats.over();
    }
}
