//! Connected peers in memory, for tests of protocols: real encryption and real sessions over a pipe instead of a
//! socket. With `#[tokio::test(start_paused = true)]` time passes only when nothing else can happen.
//!
//! ```
//! use capmux::{Protocol, testing};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let echo = Protocol::from_fn("echo", 1, 2, |_peer, mut channel| async move {
//!     while let Some(message) = channel.recv().await {
//!         channel.send(1, message.payload).await?;
//!     }
//!     Ok(())
//! });
//! let mut other = testing::drive("echo", 1, 2, echo).await;
//! other.channel.send(0, "hello").await.expect("sent");
//! let answer = testing::expect_message(&mut other.channel, 1).await;
//! assert_eq!(answer.payload, "hello");
//! # }
//! ```

mod network;
mod pipe;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

pub use network::{MemoryListener, MemoryTransport, Network};
pub use wire::Wire;

use crate::peer::driver::Driver;
use crate::peer::setup::{self, Config, Ready};
use crate::peer::{Channel, Connection, Counters, Direction, Ending, Message, Peer, PeerInner};
use crate::protocol::Protocol;
use crate::server::{Server, ServerBuilder};
use crate::{
    NodeKey,
    transport::{ByteStream, Endpoints},
};

/// How many bytes the pipe between two peers holds in each direction.
const PIPE: usize = 64 * 1024;

/// How long [`expect_message`] waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// The settings of a node with a new key, to which protocols are added.
pub fn node() -> ServerBuilder {
    Server::builder(NodeKey::random())
}

/// Two peers that are connected to each other. Dropping it aborts both.
#[derive(Debug)]
pub struct Pair {
    /// The first node's view of the second, which it has dialled.
    pub at_first: Peer,
    /// The second node's view of the first.
    pub at_second: Peer,
    _tasks: JoinSet<()>,
}

/// Connects two nodes in memory. Settings that concern the network or several peers have no effect.
///
/// # Panics
/// When the settings will not do, or the nodes do not become peers.
pub async fn pair(first: ServerBuilder, second: ServerBuilder) -> Pair {
    Wire::Memory.pair(first, second).await
}

/// Connects two nodes over the two ends of a connection, the dialler's first.
async fn connect(ends: [(ByteStream, Endpoints); 2], first: ServerBuilder, second: ServerBuilder) -> Pair {
    let [(dialled, endpoints), accepted] = ends;
    let (first, second) = (config(first), config(second));
    let mut tasks = JoinSet::new();
    let second_key = second.public_key;
    let at_second = spawn(&mut tasks, second, accepted);
    let (ready, ()) =
        setup::initiate(&first, dialled, second_key, || ()).await.expect("the first node makes the connection");
    let at_first = run(&mut tasks, first, ready, endpoints);
    let at_second = answer(at_second).await.expect("the second node takes the connection");
    Pair { at_first, at_second, _tasks: tasks }
}

/// A protocol that runs at one end, and the test's own end of it.
#[derive(Debug)]
pub struct Driven {
    /// The test's end of the protocol.
    pub channel: Channel,
    /// Both peers; `at_second` is where the protocol runs.
    pub pair: Pair,
}

/// Runs `protocol` with a peer whose end of it, with the name, version and length given, is in the hands of the test.
///
/// # Panics
/// As [`pair`].
pub async fn drive(name: &str, version: u64, length: u64, protocol: Protocol) -> Driven {
    Wire::Memory.drive(name, version, length, protocol).await
}

/// A protocol whose handler does nothing but hand its channels to the test.
pub fn manual(name: &str, version: u64, length: u64) -> (Protocol, Opened) {
    let (opened, channels) = mpsc::channel(64);
    let protocol = Protocol::from_fn(name, version, length, move |peer, channel| {
        let opened = opened.clone();
        async move {
            let sender = channel.sender();
            opened.send((peer, channel)).await?;
            sender.closed().await;
            Ok(())
        }
    });
    (protocol, Opened { channels })
}

/// The channels of a [`manual`] protocol.
#[derive(Debug)]
pub struct Opened {
    channels: mpsc::Receiver<(Peer, Channel)>,
}

impl Opened {
    /// The next peer that has come, and the channel to it.
    ///
    /// # Panics
    /// When the protocol is gone.
    pub async fn next(&mut self) -> (Peer, Channel) {
        self.channels.recv().await.expect("the protocol is registered somewhere")
    }
}

/// The next message, which must have this code.
///
/// # Panics
/// When it has another, when none comes within ten seconds, or when the peer is gone.
pub async fn expect_message(channel: &mut Channel, code: u64) -> Message {
    let received = tokio::time::timeout(PATIENCE, channel.recv()).await;
    let message = received.unwrap_or_else(|_| panic!("no message came within {PATIENCE:?}, expected code {code}"));
    let message = message.unwrap_or_else(|| panic!("the peer is gone, expected a message with code {code}"));
    assert_eq!(message.code, code, "the message is {message:?}");
    message
}

/// A node at one end, and at the other an encrypted connection that the test scripts message by message.
pub struct Scripted {
    /// The test's end: no Hello has been sent or read.
    pub connection: Connection,
    setup: oneshot::Receiver<Result<Peer, Ending>>,
    _tasks: JoinSet<()>,
}

impl Scripted {
    /// Waits until the node has made a peer of the connection, or has refused it.
    ///
    /// # Errors
    /// How it was refused.
    pub async fn peer(&mut self) -> Result<Peer, Ending> {
        answer(&mut self.setup).await
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// Dials `node` in memory with `key`, as far as the encryption.
///
/// # Panics
/// When the settings will not do, or the encryption handshake fails.
pub async fn script(node: ServerBuilder, key: &NodeKey) -> Scripted {
    let (one, other) = tokio::io::duplex(PIPE);
    script_over(node, one, key, other).await
}

/// [`script`] over streams of the test's own, which count, delay or break what goes through them: what `node` reads
/// from and writes to, and the other end of it.
///
/// # Panics
/// As [`script`].
pub async fn script_over(
    node: ServerBuilder,
    at_node: impl Into<ByteStream>,
    key: &NodeKey,
    at_script: impl Into<ByteStream>,
) -> Scripted {
    let config = config(node);
    let remote = config.public_key;
    let mut tasks = JoinSet::new();
    let setup = spawn(&mut tasks, config, (at_node.into(), wire::in_memory()));
    let connection = Connection::initiate(at_script, key, remote).await.expect("the encryption handshake succeeds");
    Scripted { connection, setup, _tasks: tasks }
}

fn config(node: ServerBuilder) -> Config {
    node.config(0).unwrap_or_else(|error| panic!("the settings of the node will not do: {error}"))
}

/// Accepts a connection in a task of its own.
fn spawn(
    tasks: &mut JoinSet<()>,
    config: Config,
    (stream, endpoints): (ByteStream, Endpoints),
) -> oneshot::Receiver<Result<Peer, Ending>> {
    let (reply, setup) = oneshot::channel();
    tasks.spawn(async move {
        let set_up = setup::accept(&config, stream, |_| Ok(())).await;
        let started = set_up.map(|(ready, ())| start(&config, ready, Direction::Inbound, endpoints));
        // The test may not care.
        let _ = reply.send(started.as_ref().map(|(_, inner)| Peer::new(inner.clone())).map_err(Clone::clone));
        if let Ok((ready, inner)) = started {
            run_to_end(&config, ready, inner).await;
        }
    });
    setup
}

/// Runs a session in a task of its own.
fn run(tasks: &mut JoinSet<()>, config: Config, ready: Box<Ready>, endpoints: Endpoints) -> Peer {
    let (ready, inner) = start(&config, ready, Direction::Outbound, endpoints);
    let peer = Peer::new(inner.clone());
    tasks.spawn(async move { run_to_end(&config, ready, inner).await });
    peer
}

fn start(
    config: &Config,
    ready: Box<Ready>,
    direction: Direction,
    endpoints: Endpoints,
) -> (Box<Ready>, Arc<PeerInner>) {
    let inner = PeerInner::new(config, &ready, direction, endpoints, &Counters::default());
    (ready, inner)
}

/// Runs a session until it ends. The handles of the peer learn of the end when the task is aborted, too.
async fn run_to_end(config: &Config, ready: Box<Ready>, inner: Arc<PeerInner>) {
    let mut running = Running { inner: inner.clone(), ending: None };
    running.ending = Some(Driver::start(config, ready, inner).run(&mut |_| {}).await);
}

struct Running {
    inner: Arc<PeerInner>,
    ending: Option<Ending>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inner.set_ending(self.ending.take().unwrap_or_else(|| self.inner.abandoned()));
    }
}

async fn answer(
    setup: impl Future<Output = Result<Result<Peer, Ending>, oneshot::error::RecvError>>,
) -> Result<Peer, Ending> {
    setup.await.expect("the task of the node tells how its setup ended, once")
}
