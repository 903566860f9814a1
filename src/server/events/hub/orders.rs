//! In all orders of emitters and readers, each reader gets every event once, all of them in one order, and the end.

use shuttle::future::{block_on, spawn};

use super::tests::{is_same_order, number, numbered};
use super::*;
use crate::sync::explored::{Timers, begin, explore, rest};

/// Everything that comes until the end.
async fn read(mut stream: EventStream) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = stream.recv().await {
        events.push(event);
    }
    events
}

#[test]
fn readers_agree_on_one_order_and_learn_of_the_end() {
    explore(1_500, || {
        block_on(async {
            let emitter = Arc::new(Emitter(Hub::new(16, Arc::default())));
            let all = emitter.subscribe(EventFilter::default());
            let few = emitter.subscribe(EventFilter::default().capacity(2));
            begin(Timers::Never);
            let readers = [all, few].map(|stream| spawn(read(stream)));
            let emitters = [0, 10].map(|first| {
                let emitter = emitter.clone();
                spawn(async move { (first..first + 3).for_each(|number| emitter.emit(&numbered(number))) })
            });
            // Who comes and goes meanwhile gets a part of it.
            let passing = emitter.subscribe(EventFilter::default());
            shuttle::future::yield_now().await;
            drop(passing);
            let late = spawn(read(emitter.subscribe(EventFilter::default())));
            drop(emitter);
            for emitter in emitters {
                emitter.await.expect("nobody waits for a reader");
            }
            let [all, few] = readers;
            let (all, few) = (all.await.expect("it ends"), few.await.expect("it ends"));
            let late = late.await.expect("it ends");
            rest();
            let order: Vec<u64> = all.iter().map(number).collect();
            let of = |first: u64| order.iter().copied().filter(move |number| (first..first + 3).contains(number));
            assert!(of(0).eq(0..3) && of(10).eq(10..13), "R69: {order:?}: each once, in the emitter's order");
            assert!(is_same_order(&few, &order), "R69: {few:?} of {order:?}");
            let late: Vec<u64> = late.iter().map(number).collect();
            let place = |number: &u64| order.iter().position(|one| one == number);
            assert!(late.iter().is_sorted_by_key(place), "R69: {late:?} of {order:?}");
            for first in [0, 10] {
                let late = late.iter().filter(|number| (first..first + 3).contains(*number));
                assert!((first..first + 3).rev().take(late.clone().count()).eq(late.rev().copied()), "R69: no gap");
            }
        });
    });
}
