//! The echo protocol: every request is answered with its own bytes. A complete protocol with a client, to read first.
//! ```
//! use capmux::{NodeKey, Server};
//! use capmux_echo::Echo;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder(NodeKey::random()).listen("127.0.0.1:0".parse()?);
//! let server = server.protocol(capmux_echo::protocol()).start().await?;
//!
//! let (protocol, echo) = Echo::new();
//! let client = Server::builder(NodeKey::random()).protocol(protocol).start().await?;
//! let peer = client.dial(&server.enode().expect("it listens")).await?;
//! println!("there and back in {:?}", echo.request(&peer, "hello").await?);
//! # Ok(())
//! # }
//! ```
//!
//! # On the wire
//! Name `echo`, version 1, two codes. Code 0 is a request with any payload, code 1 the reply with the same payload.
//! Replies come in the order of the requests. Any other reply is a [`Violation`], told as `SubprotocolError`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use capmux::{BoxError, Channel, ChannelSender, NodeId, Peer, Protocol, SendError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

const NAME: &str = "echo";
const REQUEST: u64 = 0;
const REPLY: u64 = 1;

/// How many requests to one peer may be unanswered; [`Echo::request`] waits while there are as many.
pub const MAX_OUTSTANDING: usize = 16;

/// The protocol for a node that only answers. Messages have the library's default limit of 1 MiB;
/// [`Protocol::max_message_size`] changes it.
pub fn protocol() -> Protocol {
    Echo::new().0
}

/// The client: asks the peers of the one server at which its [`Protocol`] is registered. Clones are the same client.
#[derive(Debug, Clone)]
pub struct Echo {
    links: Links,
}

/// The peers whose handlers run. A watch, so that a request can wait for a handler that is about to start.
type Links = watch::Sender<HashMap<NodeId, Arc<Link>>>;

impl Echo {
    /// A protocol to be registered at one server, and the client to use there. It answers as [`protocol`] does.
    pub fn new() -> (Protocol, Self) {
        let links = Links::default();
        let client = Self { links: links.clone() };
        let protocol = Protocol::from_fn(NAME, 1, 2, move |peer, channel| serve(links.clone(), peer, channel));
        (protocol, client)
    }

    /// Sends a request and returns how long its reply took, which had the same payload. While [`MAX_OUTSTANDING`]
    /// requests to this peer are unanswered it waits, first come, first served.
    ///
    /// It takes as long as the peer does, at most as long as the peer lives: use [`tokio::time::timeout`] to wait less.
    ///
    /// # Errors
    /// [`EchoError`].
    ///
    /// # Cancel safety
    /// A request that was sent before the future was dropped stays outstanding until its reply has come.
    pub async fn request(&self, peer: &Peer, payload: impl Into<Bytes>) -> Result<Duration, EchoError> {
        if !peer.shared_capabilities().iter().any(|shared| shared.name() == NAME) {
            return Err(EchoError::NotShared);
        }
        // The link is let go before the wait, or it would outlive its peer.
        let answer = self.link(peer).await?.ask(payload.into()).await?;
        answer.await.map_err(|_| EchoError::Gone)
    }

    /// Finds the link to a peer, waiting for its handler to start: that is shortly after the connection is a peer.
    async fn link(&self, peer: &Peer) -> Result<Arc<Link>, EchoError> {
        let mut links = self.links.subscribe();
        let find = |links: &HashMap<_, Arc<Link>>| links.get(&peer.id()).filter(|link| link.peer == *peer).cloned();
        tokio::select! {
            biased;
            Ok(links) = links.wait_for(|links| find(links).is_some()) => find(&links).ok_or(EchoError::Gone),
            _ = peer.closed() => Err(EchoError::Gone),
        }
    }
}

/// What runs with each peer.
async fn serve(links: Links, peer: Peer, mut channel: Channel) -> Result<(), BoxError> {
    let mut registration = Registration::new(links, peer, channel.sender());
    while let Some(message) = channel.recv().await {
        match message.code {
            REQUEST => channel.send(REPLY, message.payload).await?,
            _ => registration.answered(&message.payload)?,
        }
    }
    Ok(())
}

/// A peer that can be asked.
#[derive(Debug)]
struct Link {
    peer: Peer,
    /// Locked until what is sent is noted as outstanding, so that the two have the same order.
    sender: Mutex<ChannelSender>,
    outstanding: mpsc::Sender<Outstanding>,
}

/// What was sent, when, and who waits for the reply.
type Outstanding = (Bytes, Instant, oneshot::Sender<Duration>);

impl Link {
    async fn ask(&self, payload: Bytes) -> Result<oneshot::Receiver<Duration>, EchoError> {
        let place = self.outstanding.reserve().await.map_err(|_| EchoError::Gone)?;
        let (reply, answer) = oneshot::channel();
        let sender = self.sender.lock().expect("nothing panics under it");
        sender.try_send(REQUEST, payload.clone())?;
        place.send((payload, Instant::now(), reply));
        Ok(answer)
    }
}

/// Makes a peer known as long as its handler runs, and ends what is outstanding: also when the handler is cancelled.
struct Registration {
    links: Links,
    link: Arc<Link>,
    outstanding: mpsc::Receiver<Outstanding>,
}

impl Registration {
    fn new(links: Links, peer: Peer, sender: ChannelSender) -> Self {
        let (notes, outstanding) = mpsc::channel(MAX_OUTSTANDING);
        let link = Arc::new(Link { peer, sender: Mutex::new(sender), outstanding: notes });
        links.send_modify(|links| drop(links.insert(link.peer.id(), link.clone())));
        Self { links, link, outstanding }
    }

    fn answered(&mut self, payload: &Bytes) -> Result<(), Violation> {
        let sender = self.link.sender.lock().expect("nothing panics under it");
        let (request, sent, reply) = self.outstanding.try_recv().map_err(|_| Violation::Unsolicited)?;
        drop(sender);
        if request != payload {
            return Err(Violation::Different);
        }
        // Who asked may have stopped waiting.
        let _ = reply.send(sent.elapsed());
        Ok(())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.links.send_modify(|links| {
            // A later connection with the same node may have taken the place.
            if links.get(&self.link.peer.id()).is_some_and(|link| link.peer == self.link.peer) {
                links.remove(&self.link.peer.id());
            }
        });
    }
}

/// Why there was no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EchoError {
    /// The peer does not speak `echo`, or this end does not.
    #[error("echo is not spoken with this peer")]
    NotShared,
    /// The request is too large, or the send queue is full of replies that the peer does not read.
    #[error("the request was not sent: {0}")]
    Send(SendError),
    /// The peer went before it replied.
    #[error("the peer went before it replied")]
    Gone,
}

impl From<SendError> for EchoError {
    fn from(error: SendError) -> Self {
        if error == SendError::Closed { Self::Gone } else { Self::Send(error) }
    }
}

/// What a peer can do wrong. It ends the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A reply without a request.
    #[error("a reply to no request")]
    Unsolicited,
    /// A reply with a payload other than the request's.
    #[error("a reply that differs from its request")]
    Different,
}

#[cfg(test)]
mod tests;
