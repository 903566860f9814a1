//! Messages that are slow to leave are told of in the log.

mod support;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capmux::testing::{Scripted, manual, node};
use capmux::{Channel, Peer};
use support::{greet, noise, read_message, settle};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The events of one thread, a line each.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

impl Subscriber for Log {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().expect("no test panics with it").push(line.0);
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

impl Log {
    /// The slow deliveries so far.
    fn slow(&self) -> Vec<String> {
        let lines = self.0.lock().expect("no test panics with it");
        lines.iter().filter(|line| line.contains("a message was slow to leave")).cloned().collect()
    }
}

const PLUG: usize = 256 * 1024;

async fn scripted() -> (Scripted, Channel, Peer) {
    let (own, mut opened) = manual("aaa", 1, 4);
    let (scripted, peer) = greet(node().protocol(own), &[("aaa", 1)]).await;
    let (_, channel) = opened.next().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    (scripted, channel, peer)
}

/// How many deliveries are told of when the other end reads nothing for so long.
async fn told_after(stall: Duration) -> Vec<String> {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let (mut scripted, channel, _) = scripted().await;
    channel.try_send(0, noise(1, PLUG)).expect("there is a place");
    settle().await;
    channel.try_send(1, "behind it").expect("there is a place");
    tokio::time::sleep(stall).await;
    assert_eq!(log.slow(), [""; 0], "R73: it is told when the time is known");
    read_message(&mut scripted.connection).await;
    assert_eq!(read_message(&mut scripted.connection).await.1, "behind it");
    settle().await;
    log.slow()
}

#[tokio::test(start_paused = true)]
async fn a_slow_delivery_is_told_of_with_its_times() {
    let told = told_after(Duration::from_millis(150)).await;
    assert_eq!(told.len(), 2, "R73: what was being written, and what waited behind it: {told:?}");
    assert!(told[0].contains("aaa/1") && told[0].contains("queued_ms=0 writing_ms=15"), "R73: {told:?}");
    assert!(told[1].contains("aaa/1") && told[1].contains("queued_ms=15"), "R73: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_below_100_ms_is_not_told_of() {
    assert_eq!(told_after(Duration::from_millis(90)).await, [""; 0], "R73");
}

#[tokio::test(start_paused = true)]
async fn a_lone_message_that_finds_the_connection_full_is_told_of_too() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let (mut scripted, channel, peer) = scripted().await;
    // Each is alone, and fills the pipe a little more, until one is left half-written.
    let mut sent = 0;
    for _ in 0..10 {
        channel.try_send(0, noise(1, 9000)).unwrap();
        sent += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
        if peer.status().unsent_messages > 0 {
            break;
        }
    }
    assert_eq!(peer.status().unsent_messages, 1, "it is the last of them, and nothing is queued behind it");
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..sent {
        read_message(&mut scripted.connection).await;
    }
    settle().await;
    let told = log.slow();
    assert_eq!(told.len(), 1, "R73: the one that was left half-written: {told:?}");
    assert!(told[0].contains("queued_ms=0 writing_ms=50"), "R73: {told:?}");
}
