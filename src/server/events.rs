//! What a server tells the application.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt};

use crate::metrics::Meters;
use crate::node::{NodeAddr, NodeId};
use crate::p2p::Capability;
use crate::peer::{Ending, Peer};

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
    /// A peer is gone, and so are all its tasks, unless the server was dropped or a shutdown ran into its limit: then they
    /// are being aborted. There is exactly one such event for each [`Event::Added`].
    #[non_exhaustive]
    Dropped {
        /// The peer.
        peer: Peer,
        /// Why, by whom, and at which stage.
        ending: Ending,
    },
    /// The handler of a protocol has ended and its peer goes on ([`ExitPolicy::Detach`](crate::ExitPolicy::Detach)), or it
    /// panicked while its peer was ending.
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
    /// This subscriber was too slow: so many events are lost to it.
    Lagged(u64),
}

/// A subscription to a server's events, from [`Server::events`](crate::Server::events): a `Stream`.
///
/// It holds up nobody: a subscriber that is too slow loses the oldest events and is told how many.
#[derive(Debug)]
pub struct EventStream {
    events: BroadcastStream<Event>,
    meters: Arc<Meters>,
}

impl EventStream {
    pub(super) fn new(events: broadcast::Receiver<Event>, meters: Arc<Meters>) -> Self {
        Self { events: BroadcastStream::new(events), meters }
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

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let next = Pin::new(&mut self.events).poll_next(context);
        next.map(|event| {
            event.map(|event| {
                event.unwrap_or_else(|BroadcastStreamRecvError::Lagged(lost)| {
                    self.meters.ends.lagged.fetch_add(lost, Ordering::Relaxed);
                    Event::Lagged(lost)
                })
            })
        })
    }
}
