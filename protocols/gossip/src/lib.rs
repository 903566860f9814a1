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
//! Name `gossip`, version 1, one code. Code 0 is the RLP list `[nonce, payload]` of a 64-bit integer, which tells equal
//! payloads apart, and any bytes. A message is known by the Keccak-256 of all of it, so that nobody can pass off one
//! message under the id of another. Anything else is a [`Violation`], told as `SubprotocolError`.
//!
//! # What is not promised
//! Who published a message is not known, nor is it proved. A node that joins late misses what was published before, and
//! copies are lost on the way to peers that read too slowly ([`Gossip::lagged`]) or whose connection ends.

mod seen;
mod wire;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use capmux::{BoxError, Channel, ChannelSender, NodeId, Peer, Protocol, SendError};
use sha3::{Digest, Keccak256};
use tokio::sync::{mpsc, watch};

use seen::Seen;
pub use wire::{PayloadTooLarge, Violation};

const MESSAGE: u64 = 0;

/// The limits of a node, none of which may be 0.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The largest payload, in bytes. Default 64 KiB. All nodes need the same: who sends more is disconnected.
    pub max_payload: usize,
    /// How many messages are remembered as seen; the oldest is forgotten first. Default 16,384, about 1.5 MiB. When all
    /// nodes together publish more than this while a message spreads, messages come again.
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
    /// What was published. It shares memory with what was read along with it: copy it to keep it for long.
    pub payload: Bytes,
}

/// What comes from other nodes, each message once and in no order among nodes.
///
/// An application that takes none slows gossip down: this node then relays no more either. When the inbox of a peer is
/// full as well, reading from that peer pauses, and after `inbox_stall_timeout` it is dropped. An application that wants
/// none drops the receiver; this node then only relays.
pub type Deliveries = mpsc::Receiver<Delivery>;

/// The publishing side of a node. Clones are the same node.
#[derive(Debug, Clone)]
pub struct Gossip {
    node: Arc<Node>,
}

#[derive(Debug)]
struct Node {
    max_payload: usize,
    seen: Mutex<Seen>,
    /// Counts connections, to tell them apart.
    connections: AtomicU64,
    /// The peers whose handlers run. A watch, so that an application can wait for them.
    peers: watch::Sender<HashMap<u64, ChannelSender>>,
    lagged: AtomicU64,
}

impl Gossip {
    /// A protocol to be registered at one server, its publishing side, and what it receives.
    ///
    /// # Panics
    /// When a setting is 0.
    pub fn new(settings: Settings) -> (Protocol, Self, Deliveries) {
        assert!(settings.max_payload > 0 && settings.seen > 0 && settings.deliveries > 0, "a setting of gossip is 0");
        let (sender, deliveries) = mpsc::channel(settings.deliveries);
        let node = Arc::new(Node {
            max_payload: settings.max_payload,
            seen: Mutex::new(Seen::new(settings.seen)),
            connections: AtomicU64::default(),
            peers: watch::Sender::default(),
            lagged: AtomicU64::default(),
        });
        let gossip = Self { node: node.clone() };
        let run = move |peer, channel| serve(node.clone(), sender.clone(), peer, channel);
        let protocol = Protocol::from_fn("gossip", 1, 1, run);
        (protocol.max_message_size(settings.max_payload.saturating_add(wire::OVERHEAD)), gossip, deliveries)
    }

    /// Sends a payload to all peers, which pass it on. It does not come back to this node's own application. Peers whose
    /// queue is full miss it; nobody is waited for.
    ///
    /// # Errors
    /// [`PayloadTooLarge`].
    pub fn publish(&self, payload: impl AsRef<[u8]>) -> Result<(), PayloadTooLarge> {
        let payload = payload.as_ref();
        wire::check_size(payload, self.node.max_payload)?;
        let nonce = getrandom::u64().expect("the operating system has randomness");
        let message = wire::encode(nonce, payload);
        self.node.is_new(&message);
        self.node.relay(&message, None);
        Ok(())
    }

    /// How many copies were not sent because the queue of their peer was full.
    pub fn lagged(&self) -> u64 {
        self.node.lagged.load(Ordering::Relaxed)
    }

    /// Waits until there are at least so many peers to send to: shortly after as many connections were made.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub async fn wait_for_peers(&self, count: usize) {
        let mut peers = self.node.peers.subscribe();
        // The sender lives as long as `self`.
        let _ = peers.wait_for(|peers| peers.len() >= count).await;
    }
}

/// What runs with each peer.
async fn serve(
    node: Arc<Node>,
    deliveries: mpsc::Sender<Delivery>,
    peer: Peer,
    mut channel: Channel,
) -> Result<(), BoxError> {
    let registration = Registration::new(node.clone(), channel.sender());
    while let Some(message) = channel.recv().await {
        let payload = wire::decode(&message.payload, node.max_payload)?;
        // The place comes first: a handler that is cancelled while it waits has not marked the message as seen, and
        // another peer's copy is delivered.
        let place = deliveries.reserve().await;
        if node.is_new(&message.payload) {
            node.relay(&message.payload, Some(registration.connection));
            if let Ok(place) = place {
                place.send(Delivery { from: peer.id(), payload });
            }
        }
    }
    Ok(())
}

impl Node {
    /// Whether a message is seen for the first time, or has been forgotten.
    fn is_new(&self, message: &[u8]) -> bool {
        self.seen.lock().expect("nothing panics under it").insert(Keccak256::digest(message).into())
    }

    /// Sends a message to all peers but the one on connection `from`. They share its bytes.
    fn relay(&self, message: &Bytes, from: Option<u64>) {
        for (_, peer) in self.peers.borrow().iter().filter(|(connection, _)| Some(**connection) != from) {
            // A peer that is gone needs no copy.
            if peer.try_send(MESSAGE, message.clone()) == Err(SendError::Full) {
                self.lagged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Makes a peer one to relay to as long as its handler runs: also when the handler is cancelled or panics.
struct Registration {
    node: Arc<Node>,
    connection: u64,
}

impl Registration {
    fn new(node: Arc<Node>, peer: ChannelSender) -> Self {
        let connection = node.connections.fetch_add(1, Ordering::Relaxed);
        node.peers.send_modify(|peers| drop(peers.insert(connection, peer)));
        Self { node, connection }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.node.peers.send_modify(|peers| drop(peers.remove(&self.connection)));
    }
}

#[cfg(test)]
mod tests;
