use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::SystemTime;

use super::*;
use crate::node::NodeId;

/// A server of nothing but events.
fn emitter(capacity: usize) -> Emitter {
    Emitter(Hub::new(capacity, Arc::default()))
}

/// An event that can be told from others.
pub(super) fn numbered(number: u64) -> Event {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    Event::Banned { id: NodeId::from_bytes(id), until: SystemTime::UNIX_EPOCH }
}

pub(super) fn number(event: &Event) -> u64 {
    let id = event.peer_id().expect("it is about a node");
    u64::from_le_bytes(id.as_bytes()[..8].try_into().expect("eight bytes"))
}

/// What a stream has for its reader now; `None` at its end.
fn take(stream: &EventStream) -> Poll<Option<Event>> {
    stream.subscriber.poll_next(&Context::from_waker(Waker::noop()))
}

/// Everything up to the end of the stream.
fn drain(stream: &EventStream) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        match take(stream) {
            Poll::Ready(Some(event)) => events.push(event),
            Poll::Ready(None) => return events,
            Poll::Pending => thread::yield_now(),
        }
    }
}

/// Whether these events are those of `all` but for what is said to be lost.
pub(super) fn is_same_order(events: &[Event], all: &[u64]) -> bool {
    let mut rest = all;
    for event in events {
        if let Event::Lagged(lost) = event {
            rest = rest.get(usize::try_from(*lost).expect("not so many")..).unwrap_or(&[]);
        } else {
            let Some((first, others)) = rest.split_first() else { return false };
            if *first != number(event) {
                return false;
            }
            rest = others;
        }
    }
    rest.is_empty()
}

#[test]
fn many_threads_make_one_order_that_all_subscribers_see() {
    const THREADS: u64 = 8;
    const EACH: u64 = 2_000;
    let emitter = emitter(usize::MAX);
    let all = emitter.subscribe(EventFilter::new());
    let slow = emitter.subscribe(EventFilter::new().capacity(100));
    let odd = emitter.subscribe(EventFilter::new().matching(|event| number(event) % 2 == 1));
    let reading = emitter.subscribe(EventFilter::new().capacity(3));
    let start = Barrier::new(THREADS as usize);
    let emit = &|thread: u64| {
        start.wait();
        (0..EACH).for_each(|count| emitter.emit(&numbered(thread * EACH + count)));
    };
    let read = thread::scope(|scope| {
        let reader = scope.spawn(|| drain(&reading));
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || emit(thread))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        emitter.0.close();
        reader.join().unwrap()
    });
    let order: Vec<_> = drain(&all).iter().map(number).collect();
    assert_eq!(order.len() as u64, THREADS * EACH, "R69: whoever is fast enough loses nothing");
    let mut last = BTreeMap::new();
    for number in &order {
        assert!(last.insert(number / EACH, number).is_none_or(|before| before < number), "R69: a thread's own order");
    }
    let (slow, lost) = (drain(&slow), THREADS * EACH - 100);
    assert!(matches!(slow[0], Event::Lagged(count) if count == lost), "R69: exactly as many as are lost");
    assert!(slow.len() == 101 && is_same_order(&slow, &order), "R69: the oldest are lost, the order is the same");
    let odds: Vec<_> = order.iter().copied().filter(|number| number % 2 == 1).collect();
    assert!(is_same_order(&drain(&odd), &odds), "R69: of what passes a filter");
    assert!(is_same_order(&read, &order), "R69: Lagged stands where events are missing");
}

#[test]
fn what_does_not_pass_costs_a_subscriber_nothing() {
    let emitter = emitter(2);
    let wants = emitter.subscribe(EventFilter::new().peer(numbered(7).peer_id().unwrap()));
    let others = emitter.subscribe(EventFilter::new().kinds([EventKind::Dropped]));
    let emit = || (0..1_000).for_each(|number| emitter.emit(&numbered(1_000 + number)));
    emitter.emit(&numbered(7));
    let used = allocation_counter::measure(emit);
    assert_eq!(used.count_total, 0, "R69: {used:?}");
    assert!(matches!(take(&wants), Poll::Ready(Some(event)) if number(&event) == 7), "R69: nothing is evicted");
    assert!(take(&wants).is_pending() && take(&others).is_pending(), "R69");
}

#[test]
fn a_ring_takes_memory_as_it_fills_and_gives_it_back() {
    let emitter = emitter(100_000);
    let mut stream = None;
    let none = allocation_counter::measure(|| stream = Some(emitter.subscribe(EventFilter::new())));
    assert!(none.bytes_current < 1024, "R69: not up front: {none:?}");
    let stream = stream.unwrap();
    let cycle = allocation_counter::measure(|| {
        (0..10_000).for_each(|number| emitter.emit(&numbered(number)));
        (0..10_000).for_each(|_| drop(take(&stream)));
    });
    assert!(cycle.bytes_max > 100_000 && cycle.bytes_current == 0, "R69: {cycle:?}");
}

#[test]
fn the_events_of_slow_subscribers_are_shared() {
    let emitter = emitter(1_000);
    let streams: Vec<_> = (0..100).map(|_| emitter.subscribe(EventFilter::new())).collect();
    let used = allocation_counter::measure(|| (0..1_000).for_each(|number| emitter.emit(&numbered(number))));
    let (events, rings) = (1_000 * (size_of::<Event>() + 16), streams.len() * 1_024 * size_of::<usize>());
    assert!(used.bytes_current <= (events + rings) as i64, "R69: {used:?} for {events} and {rings} bytes");
}

#[test]
fn who_has_dropped_the_stream_is_forgotten() {
    let emitter = emitter(10);
    let token = Arc::new(());
    let held = token.clone();
    let stream = emitter.subscribe(EventFilter::new().messages().matching(move |_| Arc::strong_count(&held) > 0));
    let other = emitter.subscribe(EventFilter::new());
    emitter.emit(&numbered(1));
    assert!(emitter.0.wants_messages(Way::Sent) && emitter.0.wants_messages(Way::Received), "R68");
    drop(stream);
    assert_eq!((emitter.0.lock().len(), Arc::strong_count(&token)), (1, 1), "R69");
    assert!(!emitter.0.wants_messages(Way::Sent) && !emitter.0.wants_messages(Way::Received), "R68");
    drop(other);
    assert_eq!(emitter.0.lock().len(), 0, "R69");
}

#[test]
fn a_predicate_may_subscribe_and_unsubscribe() {
    let emitter = emitter(10);
    let hub = emitter.0.clone();
    let stream = emitter.subscribe(EventFilter::new().matching(move |_| {
        drop(hub.subscribe(EventFilter::new()));
        true
    }));
    emitter.emit(&numbered(1));
    assert!(take(&stream).is_ready(), "R69: no lock is held while the application's code runs");
}

#[tokio::test]
async fn a_stream_wakes_its_reader_for_an_event_and_for_the_end() {
    let emitter = emitter(10);
    let mut stream = emitter.subscribe(EventFilter::new());
    let reader = tokio::spawn(async move {
        let event = stream.recv().await;
        (event, stream.recv().await)
    });
    tokio::task::yield_now().await;
    emitter.emit(&numbered(1));
    tokio::task::yield_now().await;
    drop(emitter);
    let (event, end) = reader.await.unwrap();
    assert!(event.is_some_and(|event| number(&event) == 1) && end.is_none(), "R69");
}
