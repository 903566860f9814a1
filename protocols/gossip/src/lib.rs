//! Gossip by flooding: what one node publishes is relayed from peer to peer, and reaches the application of every other
//! node once.
//!
//! ```
//! use capmux::{NodeKey, Server};
//! use capmux_gossip::{Gossip, Settings};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (protocol, gossip, mut deliveries) = Gossip::new(Settings::default());
//! let alice = Server::builder(NodeKey::random()).listen("127.0.0.1:0".parse()?).protocol(protocol).start().await?;
//!
//! let (protocol, other, _) = Gossip::new(Settings::default());
//! let bob = Server::builder(NodeKey::random()).protocol(protocol).start().await?;
//! bob.dial(&alice.enode().expect("it listens")).await?;
//! other.wait_for_peers(1).await;
//!
//! other.publish(b"news")?;
//! assert_eq!(deliveries.recv().await.expect("the server runs").payload, "news");
//! # Ok(())
//! # }
//! ```
//!
//! # On the wire
//! Name `gossip`, version 1, one code. Code 0 is a nonce of 8 bytes, which tells equal payloads apart, and the payload.
//! A message is known by the Keccak-256 of all of it, so that nobody can pass off one message under the id of another.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use capmux::{BoxError, Broadcast, Channel, DisconnectReason, NodeId, Peer, Protocol, ProtocolPeers};
use sha3::{Digest, Keccak256};
use tokio::sync::mpsc;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

const MESSAGE: u64 = 0;
const NONCE: usize = 8;
type Id = [u8; 32];

/// The limits of a node, none of which may be 0.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The largest payload, in bytes. Default 64 KiB. All nodes need the same: who sends more is disconnected.
    pub max_payload: usize,
    /// How many messages are remembered as seen, so that they are not delivered again. Default 16,384, about 1.5 MiB.
    pub seen: usize,
    /// How many deliveries wait for the application. Default 256.
    pub deliveries: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_payload: 64 * 1024, seen: 16 * 1024, deliveries: 256 }
    }
}

/// What another node has published.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// The peer that it came from, which need not be who published it.
    pub from: NodeId,
    /// What was published. It shares memory with what was read with it: copy it to keep it for long.
    pub payload: Bytes,
}

/// The publishing side of a node. Clones are the same node.
#[derive(Debug, Clone)]
pub struct Gossip {
    node: Arc<Node>,
}

#[derive(Debug, Default)]
struct Node {
    max_payload: usize,
    max_seen: usize,
    /// The ids of the latest messages, and their order, oldest first.
    seen: Mutex<(HashSet<Id>, VecDeque<Id>)>,
    peers: ProtocolPeers,
    lagged: AtomicU64,
}

impl Gossip {
    /// A protocol to be registered at one server, its publishing side, and what comes from other nodes: each message
    /// once. While nobody takes any, this node relays none either; without the receiver it only relays.
    ///
    /// # Panics
    /// When a setting is 0.
    pub fn new(settings: Settings) -> (Protocol, Self, mpsc::Receiver<Delivery>) {
        assert!(settings.max_payload > 0 && settings.seen > 0 && settings.deliveries > 0, "a setting of gossip is 0");
        let (sender, deliveries) = mpsc::channel(settings.deliveries);
        let node = Node { max_payload: settings.max_payload, max_seen: settings.seen, ..Node::default() };
        let node = Arc::new(node);
        let gossip = Self { node: node.clone() };
        let peers = node.peers.clone();
        let run = move |peer, channel| serve(node.clone(), sender.clone(), peer, channel);
        let limit = settings.max_payload.saturating_add(NONCE);
        (Protocol::from_fn("gossip", 1, 1, run).max_message_size(limit).with_peers(&peers), gossip, deliveries)
    }

    /// Sends a payload to all peers, which pass it on. It does not come back. Peers whose queue is full miss it.
    pub fn publish(&self, payload: impl AsRef<[u8]>) -> Result<(), PayloadTooLarge> {
        let payload = payload.as_ref();
        if payload.len() > self.node.max_payload {
            return Err(PayloadTooLarge(payload.len()));
        }
        let nonce = getrandom::u64().expect("the operating system has randomness");
        let message = Bytes::from([&nonce.to_be_bytes(), payload].concat());
        self.node.is_new(&message);
        self.node.count(&self.node.peers.broadcast(MESSAGE, message));
        Ok(())
    }

    /// How many copies were not sent because the queue of their peer was full.
    pub fn lagged(&self) -> u64 {
        self.node.lagged.load(Ordering::Relaxed)
    }

    /// Waits until there are at least so many peers to send to: shortly after as many connections were made. It is
    /// cancel-safe.
    pub async fn wait_for_peers(&self, count: usize) {
        self.node.peers.wait_for(count).await;
    }
}

/// What runs with each peer.
async fn serve(
    node: Arc<Node>,
    deliveries: mpsc::Sender<Delivery>,
    peer: Peer,
    mut channel: Channel,
) -> Result<(), BoxError> {
    while let Some(message) = channel.recv().await {
        let payload = payload(&message.payload).ok_or(DisconnectReason::ProtocolError)?;
        // The place comes first: a handler that is cancelled while it waits has not marked the message as seen, and
        // another peer's copy is delivered.
        let place = deliveries.reserve().await;
        if node.is_new(&message.payload) {
            node.count(&node.peers.broadcast_except(&peer.id(), MESSAGE, message.payload));
            if let Ok(place) = place {
                place.send(Delivery { from: peer.id(), payload });
            }
        }
    }
    Ok(())
}

/// What is published with a message; `None` when it is too short for its nonce.
fn payload(message: &Bytes) -> Option<Bytes> {
    message.get(NONCE..).map(|payload| message.slice_ref(payload))
}

impl Node {
    /// Whether a message is seen for the first time, or has been forgotten. Remembers it.
    fn is_new(&self, message: &[u8]) -> bool {
        let id = Keccak256::digest(message).into();
        let (ids, order) = &mut *self.seen.lock().expect("nothing panics under it");
        let is_new = ids.insert(id);
        if is_new {
            order.push_back(id);
            if order.len() > self.max_seen {
                order.pop_front().map(|oldest| ids.remove(&oldest));
            }
        }
        is_new
    }

    fn count(&self, sent: &Broadcast) {
        self.lagged.fetch_add(sent.lagged as u64, Ordering::Relaxed);
    }
}

/// A payload of so many bytes is above [`Settings::max_payload`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a payload of {0} bytes is larger than the setting max_payload")]
pub struct PayloadTooLarge(pub usize);

#[cfg(test)]
mod tests;
