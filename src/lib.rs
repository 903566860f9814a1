//! Multiplex subprotocols over one encrypted connection, the way Ethereum's devp2p does it.
//!
//! capmux is wire-compatible with RLPx version 5: go-ethereum and ethereumjs nodes are peers as they are. It
//! needs no `eth` protocol and no fork of a client: register a [`Protocol`] and start a [`Server`].
//!
//! ```
//! use capmux::{NodeKey, Protocol, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # #[cfg(feature = "net")] {
//! let echo = Protocol::from_fn("echo", 1, 2, |_peer, mut channel| async move {
//!     while let Some(message) = channel.recv().await {
//!         channel.send(1, message.payload).await?;
//!     }
//!     Ok(())
//! });
//!
//! let server = Server::builder(NodeKey::random())
//!     .listen("127.0.0.1:0".parse()?)
//!     .protocol(echo)
//!     .start()
//!     .await?;
//! println!("{}", server.enode().expect("it listens"));
//! # server.shutdown().await;
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! # Layers
//! | Module | What it does | tokio |
//! |---|---|---|
//! | [`node`] | keys, ids, `enode` URLs, key files | no |
//! | [`rlpx`] | the encryption handshake and frames: bytes in, bytes out | no |
//! | [`p2p`] | Hello, negotiation, Ping, Pong, Disconnect: frames and the time in, events out | no |
//! | [`book`] | the nodes that are known, and how it went with them | no |
//! | [`Protocol`], [`Channel`], [`Peer`] | a task for each protocol and peer, bounded queues, one writer | yes |
//! | [`ProtocolPeers`], [`Reactor`] | all peers of a protocol: by id, broadcasts, or one task for all of them | yes |
//! | [`typed`] | messages as values of an enum, requests and answers | yes |
//! | [`Transport`] | streams of bytes to other nodes: [`Tcp`], or any other | yes |
//! | [`Server`] | listens, dials and dials again, limits, bans, events | yes |
//! | `Server::metrics_text` (feature `metrics`) | what a server counts, for Prometheus | yes |
//! | `testing` (feature) | connected peers and a simulated network in memory, for tests of protocols | yes |
//!
//! The modules without tokio are state machines that take time and randomness as arguments. All of them but [`book`]
//! are what is left with `default-features = false`. With the feature `book-file` books are kept in files.
//!
//! # Which nodes are peers
//! A server dials what the application [dials](Server::dial), once, and [persistent](ServerBuilder::persistent) nodes
//! for ever. With an [address book](ServerBuilder::address_book), [bootnodes](ServerBuilder::bootnodes) or
//! [candidates](ServerBuilder::candidates) it looks for others, too, up to
//! [`max_outbound`](ServerBuilder::max_outbound). Who dials it comes in within [`PeerLimits`] and [`AcceptLimits`],
//! unless it is [banned](Server::ban) or [`Trust`] leaves it out. What happens is told as [`Event`]s, to each
//! subscriber those that its [`EventFilter`] asks for.
//!
//! # Cancel safety
//! [`Channel::recv`] loses no message when it is dropped, [`Channel::send`] has then either taken on the message or not
//! begun to. Neither can bring a connection out of step, at whatever byte it stands: handlers do not touch the socket.
//! What a [`Connection`] reads loses nothing either; what it was writing goes on with the next call. Once `send`
//! returns `Ok`, the message is written whole or the connection ends.
//!
//! [`EventStream::recv`] and [`Reactor::recv`] lose nothing. A [dial](Server::dial) or a [shutdown](Server::shutdown)
//! that is awaited no longer goes on; a [request](typed::RequestPool::request) is outstanding no longer. The methods of
//! [`ProtocolPeers`] that wait are like [`Channel::send`], those that do not are done when they return.
//!
//! # What is not promised
//! - Secrecy. RLPx uses one key and counter for both directions, which a listener can exploit. It authenticates, and
//!   that is what it should be used for.
//! - Delivery. A message that was accepted is lost when the connection ends before it is read at the other end.
//!   Broadcasts leave out peers that are too slow, and [`send_later`](ProtocolPeers::send_later) keeps messages in
//!   memory alone, and not more than its limits allow; both tell of what is lost.
//! - Order between protocols. Messages of one protocol keep theirs.
//! - All events to subscribers that are too slow: they lose the oldest, and are told how many.
//! - That nodes of an [address book](book) exist. What peers tell is hearsay: what one source can put in is bounded,
//!   and what has worked is not displaced by it. What has changed since a book was last saved is lost in a crash.
//! - That a ban keeps out who has many keys and addresses: it is on a node id or a network.
//! - That a handler which blocks its thread is interrupted: tokio cancels at an `await` only. Others go on where the
//!   runtime has a thread left for them, and what the session has sent is written some 10 ms later, where no byte rates
//!   are set. But tokio keeps the task that it woke last, if that is another one, for the thread that is then blocked,
//!   and may have no thread left that watches the sockets and the timers. Use `tokio::task::block_in_place` or
//!   `spawn_blocking`.

#[cfg(feature = "net")]
pub mod book;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(feature = "net")]
mod metrics;
pub mod node;
pub mod p2p;
#[cfg(feature = "net")]
mod peer;
#[cfg(feature = "net")]
mod peers;
#[cfg(feature = "net")]
mod protocol;
#[cfg(feature = "net")]
mod reactor;
mod rlp_list;
pub mod rlpx;
#[cfg(feature = "net")]
mod server;
#[cfg(feature = "net")]
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
#[cfg(feature = "net")]
mod transport;
#[cfg(feature = "net")]
pub mod typed;

pub use bytes;
pub use node::{Address, Enode, NodeAddr, NodeId, NodeKey, PublicKey};
pub use p2p::{Capability, DisconnectReason, RateLimit};
#[cfg(feature = "net")]
pub use peer::{
    ByteRates, Channel, ChannelReceiver, ChannelSender, Connection, Direction, Ending, FailedAttempt, Message, Party,
    Peer, PeerError, PeerStatus, ProtocolState, ProtocolStatus, Receipt, SendError, SetupTimes, SharedMessage, Stage,
    Traffic, TrafficRates,
};
#[cfg(feature = "net")]
pub use peers::{Broadcast, Group, GroupChange, Pick, ProtocolPeers, WaitingLimits};
#[cfg(feature = "metrics")]
pub use prometheus_client;
#[cfg(feature = "net")]
pub use protocol::{BoxError, ExitPolicy, Protocol, ProtocolError, ProtocolHandler};
#[cfg(feature = "net")]
pub use reactor::{Reactor, ReactorEvent};
pub use rlp;
#[cfg(feature = "net")]
pub use server::{
    AcceptLimits, Backoff, BackoffError, Event, EventFilter, EventKind, EventStream, ExponentialBackoff,
    FibonacciBackoff, InvalidLimits, NotAdded, PeerLimits, Refusal, Server, ServerBuilder, ServerStatus, StartError,
    Trust, UnknownNode, UnknownProtocol,
};
#[cfg(feature = "net")]
pub use transport::{ByteStream, Link, Listener, Tcp, TcpListener, Transport, connect_tcp};

/// The snippets of the README compile and run.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;
