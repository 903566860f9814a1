//! Who is told of events: each subscriber has a bounded ring of its own.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use super::filter::{EventFilter, Subject};
use super::{Event, EventKind, EventStream};
use crate::metrics::{Meters, Way};
use crate::sync::{Mutex, MutexGuard};

/// The memory for so many events is kept when a ring is empty.
const KEPT: usize = 16;

/// The subscribers of a server. Those who emit wait for one another, never for a subscriber.
pub(crate) struct Hub {
    /// Replaced when somebody comes or goes. Who holds the lock decides the order of events, the same for everybody.
    subscribers: Mutex<Arc<[Arc<Subscriber>]>>,
    /// Which events of messages somebody is subscribed to: a bit for each way.
    wanted: AtomicU8,
    capacity: usize,
    meters: Arc<Meters>,
}

impl Hub {
    /// Nobody, and a ring for so many events for each who comes and does not say how many.
    pub(crate) fn new(capacity: usize, meters: Arc<Meters>) -> Arc<Self> {
        Arc::new(Self { subscribers: Mutex::default(), wanted: AtomicU8::new(0), capacity, meters })
    }

    pub(in crate::server) fn subscribe(self: &Arc<Self>, filter: EventFilter) -> EventStream {
        let capacity = filter.capacity_or(self.capacity);
        let subscriber = Arc::new(Subscriber { filter, capacity, state: Mutex::default() });
        self.replace(|old| old.iter().chain([&subscriber]).cloned().collect());
        EventStream::new(self.clone(), subscriber)
    }

    /// Forgets a subscriber.
    pub(super) fn remove(&self, subscriber: &Arc<Subscriber>) {
        self.replace(|old| old.iter().filter(|one| !Arc::ptr_eq(one, subscriber)).cloned().collect());
    }

    /// Whether anybody wants to know of messages that go this way.
    pub(crate) fn wants_messages(&self, way: Way) -> bool {
        self.wanted.load(Ordering::Relaxed) & bit(way) != 0
    }

    /// Tells those who want to know.
    pub(super) fn emit(&self, event: &Event) {
        self.tell(&event.subject(), || event);
    }

    /// Tells those who want to know of the subject. The event is made only if there are such.
    pub(super) fn tell<E: Borrow<Event>>(&self, subject: &Subject<'_>, event: impl FnOnce() -> E) {
        let subscribers = self.lock().clone();
        let mut concerned = subscribers.iter().filter(|one| one.filter.covers(subject)).peekable();
        if concerned.peek().is_none() {
            return;
        }
        let event = event();
        // Predicates run, wakers wake and events go without a lock, for all may be code of the application.
        let wanted = concerned.filter(|one| one.filter.matches(event.borrow()));
        let mut deliveries: Vec<_> = wanted.map(|to| Delivery { to, evicted: None, reader: None }).collect();
        if deliveries.is_empty() {
            return;
        }
        let event = Arc::new(event.borrow().clone());
        let order = self.lock();
        deliveries.iter_mut().for_each(|delivery| delivery.make(&event));
        drop(order);
        for Delivery { evicted, reader, .. } in deliveries {
            if evicted.is_some() {
                self.meters.ends.lagged.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }

    /// There will be no more events.
    fn close(&self) {
        self.replace(|_| Arc::default()).iter().for_each(|subscriber| subscriber.close());
    }

    /// Replaces the subscribers, and returns those that there were.
    fn replace(&self, new: impl FnOnce(&[Arc<Subscriber>]) -> Arc<[Arc<Subscriber>]>) -> Arc<[Arc<Subscriber>]> {
        let mut subscribers = self.lock();
        let new = new(&subscribers);
        let wants = |kind| new.iter().any(|one| one.filter.wants(kind));
        let sent = if wants(EventKind::MessageSent) { bit(Way::Sent) } else { 0 };
        let received = if wants(EventKind::MessageReceived) { bit(Way::Received) } else { 0 };
        self.wanted.store(sent | received, Ordering::Relaxed);
        std::mem::replace(&mut *subscribers, new)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[Arc<Subscriber>]>> {
        // What it guards is replaced at once, whole.
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("subscribers", &self.lock().len()).finish_non_exhaustive()
    }
}

fn bit(way: Way) -> u8 {
    match way {
        Way::Sent => 1,
        Way::Received => 2,
    }
}

/// The server's end of the hub: when it is dropped, the streams end.
#[derive(Debug)]
pub(in crate::server) struct Emitter(pub(in crate::server) Arc<Hub>);

impl Emitter {
    /// Counts what has happened, and tells who listens.
    pub(in crate::server) fn emit(&self, event: &Event) {
        self.0.meters.observe(event);
        self.0.emit(event);
    }

    pub(in crate::server) fn subscribe(&self, filter: EventFilter) -> EventStream {
        self.0.subscribe(filter)
    }
}

impl Drop for Emitter {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// An event on its way into one ring, and what came of it.
struct Delivery<'a> {
    to: &'a Subscriber,
    evicted: Option<Arc<Event>>,
    reader: Option<Waker>,
}

impl Delivery<'_> {
    fn make(&mut self, event: &Arc<Event>) {
        let mut state = self.to.lock();
        if state.ring.len() >= self.to.capacity {
            self.evicted = state.ring.pop_front();
            state.lost += 1;
        }
        state.ring.push_back(event.clone());
        self.reader = state.reader.take();
    }
}

pub(super) struct Subscriber {
    filter: EventFilter,
    capacity: usize,
    state: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    ring: VecDeque<Arc<Event>>,
    /// How many went before the first of the ring, and have not been told of.
    lost: u64,
    reader: Option<Waker>,
    is_closed: bool,
}

impl Subscriber {
    pub(super) fn poll_next(&self, context: &Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.lock();
        if state.lost > 0 {
            return Poll::Ready(Some(Event::Lagged(std::mem::take(&mut state.lost))));
        }
        if let Some(event) = state.ring.pop_front() {
            if state.ring.is_empty() && state.ring.capacity() > KEPT {
                state.ring = VecDeque::new();
            }
            drop(state);
            return Poll::Ready(Some(Arc::unwrap_or_clone(event)));
        }
        if state.is_closed {
            return Poll::Ready(None);
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // Nothing that can panic comes between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod orders;
#[cfg(test)]
mod tests;
