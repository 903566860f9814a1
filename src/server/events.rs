//! What a server tells the application.

mod filter;
mod hub;

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use tokio::task::coop;
use tokio_stream::{Stream, StreamExt};

pub use filter::EventFilter;
pub(super) use filter::MAX_EVENT_CAPACITY;
pub(super) use hub::Emitter;
pub(crate) use hub::Hub;

use super::gate::Refusal;
use crate::metrics::Way;
use crate::node::{NodeAddr, NodeId};
use crate::p2p::Capability;
use crate::peer::{Ending, Peer};
use filter::Subject;
use hub::Subscriber;

/// What has happened on a server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A connection became a peer; its handlers run.
    #[non_exhaustive]
    Added {
        /// The peer.
        peer: Peer,
    },
    /// A peer is gone, and so are all its tasks, unless the server was dropped or a shutdown ran into its limit: then
    /// they are being aborted. There is exactly one such event for each [`Event::Added`].
    #[non_exhaustive]
    Dropped {
        /// The peer.
        peer: Peer,
        /// Why, by whom, and at which stage.
        ending: Ending,
    },
    /// The handler of a protocol has ended and its peer goes on ([`ExitPolicy::Detach`](crate::ExitPolicy::Detach)), or
    /// it panicked while its peer was ending.
    #[non_exhaustive]
    HandlerEnded {
        /// The peer.
        peer: Peer,
        /// The protocol.
        capability: Capability,
        /// How it ended.
        ending: Ending,
    },
    /// A dial did not lead to a peer.
    #[non_exhaustive]
    DialFailed {
        /// The node that was dialled.
        node: NodeAddr,
        /// Why, by whom, and at which stage.
        ending: Ending,
    },
    /// An inbound connection did not become a peer.
    #[non_exhaustive]
    Refused {
        /// Where it came from; `None` where the transport has no IP addresses.
        remote_addr: Option<SocketAddr>,
        /// The node that it claimed to be, if it came to that.
        id: Option<NodeId>,
        /// Why, by whom, and at which stage.
        ending: Ending,
    },
    /// A node is banned: its connections are refused and it is not dialled.
    #[non_exhaustive]
    Banned {
        /// The node.
        id: NodeId,
        /// When the ban ends.
        until: SystemTime,
    },
    /// A message is in the socket; only for those who asked ([`EventFilter::messages`]). Those of a peer come in the
    /// order in which they are written, the first perhaps a moment before [`Event::Added`], the last after
    /// [`Event::Dropped`].
    #[non_exhaustive]
    MessageSent {
        /// The peer that it was sent to.
        peer: Peer,
        /// The protocol.
        capability: Capability,
        /// The protocol's own code, from 0.
        code: u64,
        /// The size of the payload before compression, in bytes; after it for those which only compressed fit into a
        /// frame (from 13.7 MiB on).
        bytes: usize,
    },
    /// A message has come whole, and goes to its handler next; only for those who asked, in the order in which they
    /// come, otherwise as [`Event::MessageSent`].
    #[non_exhaustive]
    MessageReceived {
        /// The peer that sent it.
        peer: Peer,
        /// The protocol.
        capability: Capability,
        /// The protocol's own code, from 0.
        code: u64,
        /// The size of the payload, decompressed, in bytes.
        bytes: usize,
    },
    /// The address book could not be saved. It is tried again.
    #[cfg(feature = "book-file")]
    #[non_exhaustive]
    BookNotSaved {
        /// Where.
        path: std::path::PathBuf,
        /// What the operating system says.
        error: Arc<std::io::Error>,
    },
    /// Inbound connections were closed before a byte of them was read. It is told at once, and then once a second at
    /// the most, with the next such connection: a flood of connections is none of events.
    #[non_exhaustive]
    ClosedUnread {
        /// Where the last of them came from; `None` where the transport has no addresses.
        remote_addr: Option<SocketAddr>,
        /// Why the last of them was closed.
        refusal: Refusal,
        /// How many there were since this was last told.
        count: u64,
    },
    /// This subscriber was too slow: here so many events are lost to it.
    Lagged(u64),
}

/// The kinds of events, by which a subscription can be filtered: see [`Event`] for what they tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// [`Event::Added`].
    Added,
    /// [`Event::Dropped`].
    Dropped,
    /// [`Event::HandlerEnded`].
    HandlerEnded,
    /// [`Event::DialFailed`].
    DialFailed,
    /// [`Event::Refused`].
    Refused,
    /// [`Event::ClosedUnread`].
    ClosedUnread,
    /// [`Event::Banned`].
    Banned,
    /// That the address book could not be saved; only with the feature `book-file`.
    BookNotSaved,
    /// [`Event::MessageSent`].
    MessageSent,
    /// [`Event::MessageReceived`].
    MessageReceived,
    /// [`Event::Lagged`], of which every subscriber is told, whether it asks or not.
    Lagged,
}

impl EventKind {
    /// All that can be asked for.
    const ALL: [Self; 10] = [
        Self::Added,
        Self::Dropped,
        Self::HandlerEnded,
        Self::DialFailed,
        Self::Refused,
        Self::ClosedUnread,
        Self::Banned,
        Self::BookNotSaved,
        Self::MessageSent,
        Self::MessageReceived,
    ];

    /// Whether it is one of the two that tell of single messages, which come only to those who ask.
    pub fn is_message(self) -> bool {
        matches!(self, Self::MessageSent | Self::MessageReceived)
    }
}

/// The name in lower case, with underscores, such as `dial_failed`.
impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Added => "added",
            Self::Dropped => "dropped",
            Self::HandlerEnded => "handler_ended",
            Self::DialFailed => "dial_failed",
            Self::Refused => "refused",
            Self::ClosedUnread => "closed_unread",
            Self::Banned => "banned",
            Self::BookNotSaved => "book_not_saved",
            Self::MessageSent => "message_sent",
            Self::MessageReceived => "message_received",
            Self::Lagged => "lagged",
        })
    }
}

impl Event {
    /// Its kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Added { .. } => EventKind::Added,
            Self::Dropped { .. } => EventKind::Dropped,
            Self::HandlerEnded { .. } => EventKind::HandlerEnded,
            Self::DialFailed { .. } => EventKind::DialFailed,
            Self::Refused { .. } => EventKind::Refused,
            Self::ClosedUnread { .. } => EventKind::ClosedUnread,
            Self::Banned { .. } => EventKind::Banned,
            #[cfg(feature = "book-file")]
            Self::BookNotSaved { .. } => EventKind::BookNotSaved,
            Self::MessageSent { .. } => EventKind::MessageSent,
            Self::MessageReceived { .. } => EventKind::MessageReceived,
            Self::Lagged(_) => EventKind::Lagged,
        }
    }

    /// The node that it is about; `None` where that is not known, and of [`Event::Lagged`]. That of a refused
    /// connection is what it claimed.
    pub fn peer_id(&self) -> Option<NodeId> {
        match self {
            Self::Added { peer }
            | Self::Dropped { peer, .. }
            | Self::HandlerEnded { peer, .. }
            | Self::MessageSent { peer, .. }
            | Self::MessageReceived { peer, .. } => Some(peer.id()),
            Self::DialFailed { node, .. } => Some(node.node_id()),
            Self::Refused { id, .. } => *id,
            Self::Banned { id, .. } => Some(*id),
            Self::ClosedUnread { .. } | Self::Lagged(_) => None,
            #[cfg(feature = "book-file")]
            Self::BookNotSaved { .. } => None,
        }
    }

    fn subject(&self) -> Subject<'_> {
        let (capability, code) = match self {
            Self::HandlerEnded { capability, .. } => (Some(capability), None),
            Self::MessageSent { capability, code, .. } | Self::MessageReceived { capability, code, .. } => {
                (Some(capability), Some(*code))
            }
            _ => (None, None),
        };
        Subject { kind: self.kind(), id: self.peer_id(), capability, code }
    }
}

/// What is told of a message.
pub(crate) struct MessageEvent<'a> {
    pub(crate) way: Way,
    pub(crate) id: NodeId,
    pub(crate) capability: &'a Capability,
    pub(crate) code: u64,
    pub(crate) bytes: usize,
}

impl Hub {
    /// Tells those who want to know of a message.
    pub(crate) fn message(&self, message: &MessageEvent<'_>, peer: impl FnOnce() -> Peer) {
        let MessageEvent { way, id, capability, code, bytes } = *message;
        let kind = match way {
            Way::Sent => EventKind::MessageSent,
            Way::Received => EventKind::MessageReceived,
        };
        self.tell(&Subject { kind, id: Some(id), capability: Some(capability), code: Some(code) }, || {
            let (peer, capability) = (peer(), capability.clone());
            match way {
                Way::Sent => Event::MessageSent { peer, capability, code, bytes },
                Way::Received => Event::MessageReceived { peer, capability, code, bytes },
            }
        });
    }
}

/// A subscription to a server's events, from [`Server::events`](crate::Server::events) or
/// [`Server::events_with`](crate::Server::events_with): a `Stream`.
///
/// It holds up nobody: a subscriber that is too slow loses the oldest events, and is told how many where they would
/// have been. Memory is taken for what waits alone. The order is the same for all subscribers. Dropping it ends the
/// subscription.
pub struct EventStream {
    hub: Arc<Hub>,
    subscriber: Arc<Subscriber>,
}

impl EventStream {
    fn new(hub: Arc<Hub>, subscriber: Arc<Subscriber>) -> Self {
        Self { hub, subscriber }
    }

    /// The next event; `None` when the server is gone and all events are read.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Event> {
        self.next().await
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let turn = ready!(coop::poll_proceed(context));
        let next = self.subscriber.poll_next(context);
        if next.is_ready() {
            turn.made_progress();
        }
        next
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.hub.remove(&self.subscriber);
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}
