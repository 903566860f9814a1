//! Where nodes come from that are dialled because there is a place: the address book, the bootnodes, and whatever else
//! the application has.

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_stream::Stream;

use super::schedule::{Purpose, Taken};
use super::shared::Shared;
use crate::book::{Source, State};
use crate::node::NodeAddr;

/// How long it takes at least, and at most, until the book is looked at again.
const PAUSES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);

/// How long a node has no peer of its own choice, though it knows nodes, until it dials bootnodes.
const GRACE: Duration = Duration::from_secs(20);

/// How long the stream of candidates is left alone after one that was of no use: it may never end, and have no others.
const BREATHER: Duration = Duration::from_millis(100);

/// How often a node of the book is dialled just to learn whether it is there.
const FEELER: Duration = Duration::from_secs(120);

/// How often one of the outbound peers makes room for another node, when all places are taken. Without it, the parts of
/// a network that were parted for long would stay parted: nobody would have a place left for those on the other side.
const ROTATION: Duration = Duration::from_secs(300);

/// Nodes from elsewhere; see [`ServerBuilder::candidates`](crate::ServerBuilder::candidates).
pub(super) struct CandidateStream(Pin<Box<dyn Stream<Item = NodeAddr> + Send>>);

impl CandidateStream {
    pub(super) fn new(stream: impl Stream<Item = NodeAddr> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }
}

impl fmt::Debug for CandidateStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CandidateStream")
    }
}

#[derive(Debug)]
pub(super) struct Candidates {
    bootnodes: Vec<NodeAddr>,
    stream: Option<CandidateStream>,
    /// When the stream is asked next.
    next_candidate: Instant,
    random: fastrand::Rng,
    /// When the book is looked at next, and how long after that again.
    next: Instant,
    pause: Duration,
    /// Since when there is no peer that this node has dialled. Those that came by themselves may all be one attacker's.
    alone_since: Option<Instant>,
    next_feeler: Instant,
    next_rotation: Instant,
    changes: u64,
}

impl Candidates {
    pub(super) fn new(bootnodes: Vec<NodeAddr>, stream: Option<CandidateStream>, random: fastrand::Rng) -> Self {
        let now = Instant::now();
        Self {
            bootnodes,
            stream,
            next_candidate: now,
            random,
            next: now,
            pause: *PAUSES.start(),
            alone_since: Some(now),
            next_feeler: now + FEELER,
            next_rotation: now + ROTATION,
            changes: 0,
        }
    }

    /// The next node of the stream, if there is one: for as long as more nodes are of use. A stream that panics has ended.
    ///
    /// # Cancel safety
    /// No node is lost.
    pub(super) async fn next(&mut self, shared: &Shared) -> NodeAddr {
        if let Some(CandidateStream(stream)) = &mut self.stream {
            sleep_until(self.next_candidate).await;
            let contained = poll_fn(|context| {
                let polled = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll_next(context)));
                polled.unwrap_or_else(|_| {
                    tracing::error!("the stream of candidates panicked: there will be no more of them");
                    shared.config.meters.ends.internal_errors.fetch_add(1, Ordering::Relaxed);
                    Poll::Ready(None)
                })
            });
            if let Some(node) = contained.await {
                return node;
            }
            self.stream = None;
        }
        std::future::pending().await
    }

    /// Takes a node of the stream.
    pub(super) fn take(&mut self, shared: &Shared, node: &NodeAddr) {
        let offered = shared.book.with(|book, now| book.offer(node, &Source::Service("candidates".into()), now));
        let is_known = shared.dialler.knows(&node.node_id());
        let is_taken = match offered {
            Ok(()) => shared.dialler.add(node, Purpose::Dynamic) == Taken::Waiting && !is_known,
            Err(refusal) => {
                tracing::debug!(%node, "a candidate is of no use: {refusal}");
                false
            }
        };
        if !is_taken {
            self.next_candidate = Instant::now() + BREATHER;
        }
    }

    /// Looks for nodes if more are of use, and returns when to look again.
    pub(super) fn refill(&mut self, shared: &Shared) -> Option<Instant> {
        if !shared.keeps_book {
            return None;
        }
        let (now, is_alone) = (Instant::now(), !shared.peers.has_outbound());
        self.alone_since = is_alone.then(|| self.alone_since.unwrap_or(now));
        self.feel(shared, now);
        self.rotate(shared, now);
        let wanted = if shared.peers.has_place() { shared.dialler.wanted() } else { 0 };
        if wanted == 0 {
            return Some(self.next_feeler.min(self.next_rotation));
        }
        let changes = shared.book.with(|book, _| book.changes());
        if std::mem::replace(&mut self.changes, changes) != changes {
            self.next = self.next.min(now + *PAUSES.start());
            self.pause = *PAUSES.start();
        }
        if now >= self.next {
            let found = self.look(shared, wanted, now);
            self.pause = if found { *PAUSES.start() } else { (self.pause * 2).min(*PAUSES.end()) };
            self.next = now + self.pause;
        }
        Some(self.next.min(self.next_feeler).min(self.next_rotation))
    }

    /// Whether there was a node to dial.
    fn look(&mut self, shared: &Shared, wanted: usize, now: Instant) -> bool {
        let is_free = |id: &_| !shared.dialler.knows(id);
        let picked = shared.book.with(|book, now| book.pick(wanted, |id| !is_free(id), now, &mut self.random));
        let mut found = shared.dialler.offer(&picked);
        // A book may be full of nodes that are gone, or never were.
        let has_waited = self.alone_since.is_some_and(|since| now - since >= GRACE);
        if self.alone_since.is_some() && (!found || has_waited) {
            self.random.shuffle(&mut self.bootnodes);
            // One that waits already is no news.
            for node in self.bootnodes.iter().filter(|node| is_free(&node.node_id())) {
                found |= shared.dialler.add(node, Purpose::Dynamic) == Taken::Waiting;
            }
        }
        found
    }

    fn rotate(&mut self, shared: &Shared, now: Instant) {
        if now < self.next_rotation {
            return;
        }
        // Not all nodes at the same time.
        self.next_rotation = now + ROTATION.mul_f64(0.75 + 0.5 * self.random.f64());
        if shared.peers.has_place() {
            shared.dialler.rotate();
        }
    }

    /// Has a node that was never connected dialled now and then, so that the book knows some that work.
    fn feel(&mut self, shared: &Shared, now: Instant) {
        if now < self.next_feeler {
            return;
        }
        self.next_feeler = now + FEELER;
        let picked = shared.book.with(|book, now| {
            let is_new: std::collections::BTreeSet<_> =
                book.iter(now).filter(|known| known.state == State::New).map(|known| known.node.node_id()).collect();
            book.pick(1, |id| !is_new.contains(id) || shared.dialler.knows(id), now, &mut self.random)
        });
        for node in &picked {
            shared.dialler.add(node, Purpose::Feeler);
        }
    }
}
