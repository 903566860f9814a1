//! Which events a subscriber wants.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Event, EventKind};
use crate::node::NodeId;
use crate::p2p::Capability;

/// The most events that a subscriber may be behind.
pub(in crate::server) const MAX_EVENT_CAPACITY: usize = 1 << 20;

type Predicate = Arc<dyn Fn(&Event) -> bool + Send + Sync>;

/// Which events a subscription is for, for [`Server::events_with`](crate::Server::events_with). By default all but
/// those of single messages.
///
/// It is applied when something happens: what does not pass takes no memory, and no event that does is lost for it.
/// What each setting asks for has to be met. [`Event::Lagged`] always passes.
///
/// ```
/// use capmux::{Event, EventFilter, EventKind, Server};
///
/// # async fn watch(server: &Server) {
/// let mut ends = server.events_with(EventFilter::new().kinds([EventKind::Dropped, EventKind::DialFailed]));
/// while let Some(event) = ends.recv().await {
///     match event {
///         Event::Lagged(lost) => println!("{lost} ends are not shown"),
///         event => println!("{:?}: {:?}", event.kind(), event.peer_id()),
///     }
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct EventFilter {
    kinds: Kinds,
    /// Of these, where it is not empty; likewise below.
    peers: BTreeSet<NodeId>,
    capabilities: BTreeSet<Capability>,
    codes: BTreeSet<u64>,
    predicate: Option<Predicate>,
    capacity: Option<usize>,
}

/// A set of kinds: one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u16);

/// What a filter can tell of an event that has not been made yet.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) kind: EventKind,
    pub(super) id: Option<NodeId>,
    pub(super) capability: Option<&'a Capability>,
    pub(super) code: Option<u64>,
}

impl EventFilter {
    /// All events but those of single messages.
    pub fn new() -> Self {
        let kinds = EventKind::ALL.into_iter().filter(|kind| !kind.is_message()).collect();
        let (peers, capabilities, codes) = Default::default();
        Self { kinds, peers, capabilities, codes, predicate: None, capacity: None }
    }

    /// Only events of these kinds.
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = EventKind>) -> Self {
        self.kinds = kinds.into_iter().collect();
        self
    }

    /// Also [`Event::MessageSent`] and [`Event::MessageReceived`].
    ///
    /// Each message that passes takes a few allocations and a lock that all connections of the server share. What a
    /// filter by peer, protocol or code keeps out costs that lock alone, and nothing once nobody is subscribed.
    pub fn messages(mut self) -> Self {
        self.kinds.insert(EventKind::MessageSent);
        self.kinds.insert(EventKind::MessageReceived);
        self
    }

    /// Only events of the node with this id, or of those, when it is called several times. Refused connections that
    /// claimed no id do not pass.
    pub fn peer(mut self, id: NodeId) -> Self {
        self.peers.insert(id);
        self
    }

    /// Of the events that name a protocol, which are [`Event::HandlerEnded`] and those of messages, only those of this
    /// one, or of those, when it is called several times. The others pass.
    pub fn capability(mut self, capability: Capability) -> Self {
        self.capabilities.insert(capability);
        self
    }

    /// Of the events of messages only those with this code, or with those, when it is called several times. The others
    /// pass.
    pub fn code(mut self, code: u64) -> Self {
        self.codes.insert(code);
        self
    }

    /// Only events for which this returns true. It is asked last, where the event happens: it must be quick and must
    /// not block, for the connection waits for it. Several threads may ask at once. If it panics the event does not
    /// pass. A second one replaces the first.
    pub fn matching(mut self, predicate: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Self {
        self.predicate = Some(Arc::new(predicate));
        self
    }

    /// How many events the subscriber may be behind before it loses the oldest, instead of the server's
    /// [`event_capacity`](crate::ServerBuilder::event_capacity): from 1 to 2^20, and the nearest of these for what is
    /// outside.
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = Some(events.clamp(1, MAX_EVENT_CAPACITY));
        self
    }

    pub(super) fn capacity_or(&self, default: usize) -> usize {
        self.capacity.unwrap_or(default)
    }

    pub(super) fn wants(&self, kind: EventKind) -> bool {
        self.kinds.contains(kind)
    }

    /// Whether all passes but for what the predicate says.
    pub(super) fn covers(&self, subject: &Subject<'_>) -> bool {
        let is_of_peer = self.peers.is_empty() || subject.id.is_some_and(|id| self.peers.contains(&id));
        self.kinds.contains(subject.kind)
            && is_of_peer
            && allows(&self.capabilities, subject.capability)
            && allows(&self.codes, subject.code.as_ref())
    }

    /// What the predicate says.
    pub(super) fn matches(&self, event: &Event) -> bool {
        // The task of a connection must not end for it.
        let ask = |predicate: &Predicate| catch_unwind(AssertUnwindSafe(|| predicate(event))).unwrap_or(false);
        self.predicate.as_ref().is_none_or(ask)
    }
}

/// Whether there is nothing to compare, or it is one of these.
fn allows<T: Ord>(allowed: &BTreeSet<T>, value: Option<&T>) -> bool {
    allowed.is_empty() || value.is_none_or(|value| allowed.contains(value))
}

impl Default for EventFilter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = EventKind::ALL.into_iter().filter(|kind| self.kinds.contains(*kind)).collect();
        f.debug_struct("EventFilter")
            .field("kinds", &kinds)
            .field("peers", &self.peers)
            .field("capabilities", &self.capabilities)
            .field("codes", &self.codes)
            .field("has_predicate", &self.predicate.is_some())
            .field("capacity", &self.capacity)
            .finish()
    }
}

impl Kinds {
    fn insert(&mut self, kind: EventKind) {
        self.0 |= 1 << kind as u16;
    }

    fn contains(self, kind: EventKind) -> bool {
        self.0 & 1 << kind as u16 != 0
    }
}

impl FromIterator<EventKind> for Kinds {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        let mut set = Self(0);
        kinds.into_iter().for_each(|kind| set.insert(kind));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeKey;

    fn id() -> NodeId {
        NodeKey::random().public_key().node_id()
    }

    fn subject(kind: EventKind) -> Subject<'static> {
        Subject { kind, id: None, capability: None, code: None }
    }

    #[test]
    fn messages_are_for_those_who_ask() {
        let (all, asked) = (EventFilter::default(), EventFilter::new().messages());
        for kind in EventKind::ALL {
            assert_eq!(all.covers(&subject(kind)), !kind.is_message(), "R68: {kind:?}");
            assert!(asked.covers(&subject(kind)), "R68: {kind:?}");
            let only = EventFilter::new().kinds([kind]);
            let covered: Vec<_> = EventKind::ALL.into_iter().filter(|other| only.covers(&subject(*other))).collect();
            assert_eq!(covered, [kind], "R69: exactly what was asked for");
        }
    }

    #[test]
    fn what_an_event_does_not_name_is_not_compared_but_for_the_peer() {
        let (one, other) = (id(), id());
        let (eth, snap) = (Capability::new("eth", 68).unwrap(), Capability::new("snap", 1).unwrap());
        let filter = EventFilter::new().messages().peer(one).capability(eth.clone()).code(7);
        let message = |id, capability, code| Subject {
            kind: EventKind::MessageSent,
            id: Some(id),
            capability: Some(capability),
            code: Some(code),
        };
        assert!(filter.covers(&message(one, &eth, 7)), "R69");
        for wrong in [message(other, &eth, 7), message(one, &snap, 7), message(one, &eth, 8)] {
            assert!(!filter.covers(&wrong), "R69: {wrong:?}");
        }
        assert!(filter.covers(&Subject { id: Some(one), ..subject(EventKind::Dropped) }), "R69");
        assert!(!filter.covers(&subject(EventKind::Refused)), "R69: it claimed no id");
    }

    #[test]
    fn a_predicate_that_panics_wants_nothing() {
        let lagged = Event::Lagged(1);
        assert!(EventFilter::new().matches(&lagged), "R69");
        assert!(!EventFilter::new().matching(|_| false).matches(&lagged), "R69");
        assert!(!EventFilter::new().matching(|_| panic!("as it was told")).matches(&lagged), "R69");
    }

    #[test]
    fn a_capacity_is_always_within_bounds() {
        for (asked, is) in [(0, 1), (1, 1), (5, 5), (usize::MAX, MAX_EVENT_CAPACITY)] {
            assert_eq!(EventFilter::new().capacity(asked).capacity_or(3), is, "R69");
        }
        assert_eq!(EventFilter::new().capacity_or(3), 3, "R69");
    }
}
