//! One task for a protocol and all its peers.

#[cfg(test)]
mod orders;
mod seats;

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;
use tokio_stream::Stream;

use crate::peer::{Channel, ChannelReceiver, Ending, Message, Peer};
use crate::peers::ProtocolPeers;
use crate::protocol::{BoxError, Protocol};
use seats::{Arrival, Registered, Seats, Signal, Turn};

/// What a [`Reactor`] is told. For each connection that is one `Added`, what it says in order, and one `Removed`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReactorEvent {
    /// The protocol runs with a peer from now on.
    Added {
        /// The peer.
        peer: Peer,
    },
    /// A peer has said something.
    Received {
        /// The peer.
        peer: Peer,
        /// What it said.
        message: Message,
    },
    /// A peer is gone, and everything that it said was told before.
    Removed {
        /// The peer.
        peer: Peer,
        /// How it ended.
        ending: Ending,
    },
}

/// Serves a protocol for all its peers in one task, in place of a handler for each; a `Stream` of events.
///
/// Peers take turns: of those that have said something each is heard in its turn, one message at a time. What has not
/// been taken waits in the inbox of its own peer, within the [limits](Protocol::inbox_messages) of the protocol, and a
/// peer whose inbox is full is read from no further: so one that floods takes only its own share. As with a handler, a
/// peer whose full inbox nobody takes from is disconnected in the end.
///
/// A peer that is gone before its `Added` was taken is not told of at all. When the reactor is dropped, the protocol
/// ends with all its peers, and peers that come later end at once: they are told
/// [`ClientQuitting`](crate::DisconnectReason::ClientQuitting).
///
/// ```
/// use capmux::{Reactor, ReactorEvent, testing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (shout, mut reactor) = Reactor::new("shout", 1, 1);
/// let peers = reactor.peers();
/// tokio::spawn(async move {
///     while let Some(event) = reactor.recv().await {
///         if let ReactorEvent::Received { message, .. } = event {
///             peers.broadcast(0, message.payload.to_ascii_uppercase());
///         }
///     }
/// });
/// let mut other = testing::drive("shout", 1, 1, shout).await;
/// other.channel.send(0, "hello").await.expect("sent");
/// assert_eq!(testing::expect_message(&mut other.channel, 0).await.payload, "HELLO");
/// # }
/// ```
pub struct Reactor {
    peers: ProtocolPeers,
    seats: Arc<Seats>,
    taken: HashMap<u64, Seat>,
}

/// A peer whose `Added` was taken.
struct Seat {
    peer: Peer,
    stage: Stage,
    signal: Arc<Signal>,
    waker: Waker,
}

enum Stage {
    Open(ChannelReceiver),
    /// Everything is heard, and its end is waited for.
    Ending(Pin<Box<dyn Future<Output = Ending> + Send>>),
}

impl Reactor {
    /// A protocol to be registered, as with [`Protocol::new`], and what serves it.
    pub fn new(name: impl Into<String>, version: u64, length: u64) -> (Protocol, Self) {
        let seats = Arc::new(Seats::default());
        let registered = Registered::new(seats.clone());
        let run = move |peer, channel| serve(registered.seats().clone(), peer, channel);
        let protocol = Protocol::from_fn(name, version, length, run);
        let reactor = Self { peers: protocol.peers(), seats, taken: HashMap::new() };
        (protocol, reactor)
    }

    /// The peers, to send to: those whose `Added` was taken, and those whose was not yet.
    pub fn peers(&self) -> ProtocolPeers {
        self.peers.clone()
    }

    /// What happens next; `None` when no peer is left, and neither the protocol nor a [`Peer`] that it ran with exists
    /// anywhere.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<ReactorEvent> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    fn take(&mut self, number: u64, arrival: Arrival) -> ReactorEvent {
        let Arrival { peer, receiver, signal } = arrival;
        let waker = Waker::from(signal.clone());
        // It may have spoken already.
        signal.ready();
        let seat = Seat { peer: peer.clone(), stage: Stage::Open(receiver), signal, waker };
        self.taken.insert(number, seat);
        ReactorEvent::Added { peer }
    }

    /// Hears the peer whose turn it is, which may have nothing to say.
    fn hear(&mut self, number: u64) -> Poll<ReactorEvent> {
        let Some(seat) = self.taken.get_mut(&number) else { return Poll::Pending };
        // What comes from now on gives it another turn.
        seat.signal.heard();
        let mut context = Context::from_waker(&seat.waker);
        if let Stage::Open(receiver) = &mut seat.stage {
            if let Some(message) = ready!(Pin::new(receiver).poll_next(&mut context)) {
                // Behind those that wait for their turn.
                seat.signal.ready();
                return Poll::Ready(ReactorEvent::Received { peer: seat.peer.clone(), message });
            }
            let peer = seat.peer.clone();
            seat.stage = Stage::Ending(Box::pin(async move { peer.closed().await }));
        }
        let Stage::Ending(closed) = &mut seat.stage else { return Poll::Pending };
        let ending = ready!(closed.as_mut().poll(&mut context));
        let peer = seat.peer.clone();
        self.taken.remove(&number);
        Poll::Ready(ReactorEvent::Removed { peer, ending })
    }
}

impl Stream for Reactor {
    type Item = ReactorEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ReactorEvent>> {
        loop {
            // One whose events never end lets others run. What is taken from an inbox is what counts. Looked at in each
            // turn: without a budget left what is asked wakes whom it makes wait, at once, who would have turns for
            // ever.
            drop(ready!(coop::poll_proceed(context)));
            match self.seats.next(context) {
                Turn::Arrived(number, arrival) => return Poll::Ready(Some(self.take(number, arrival))),
                Turn::Ready(number) => {
                    if let Poll::Ready(event) = self.hear(number) {
                        return Poll::Ready(Some(event));
                    }
                }
                Turn::Over if self.taken.is_empty() => return Poll::Ready(None),
                Turn::Over | Turn::Nobody => return Poll::Pending,
            }
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.seats.close();
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").field("peers", &self.peers).finish_non_exhaustive()
    }
}

/// What runs with each peer: it leaves the channel to the reactor, and stays until the peer or the reactor is gone.
async fn serve(seats: Arc<Seats>, peer: Peer, channel: Channel) -> Result<(), BoxError> {
    let (sender, receiver) = channel.split();
    let _arrival = seats.arrive(peer, receiver);
    tokio::select! {
        biased;
        () = sender.closed() => {}
        () = seats.closed() => {}
    }
    Ok(())
}
