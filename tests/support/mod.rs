//! What the tests of peers and servers share: scripted peers, servers on loopback, and futures that are dropped.

#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod raw;

use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use capmux::p2p::{DisconnectReason, Hello, MessageId, P2P_VERSION};
use capmux::rlpx::{Decompressor, MAX_FRAME_SIZE};
use capmux::testing::{self, Scripted};
use capmux::{
    Capability, Channel, Connection, Ending, Enode, Event, EventStream, NodeId, NodeKey, Peer, PeerError, Protocol,
    Server, ServerBuilder,
};
use tokio::time::{Instant, timeout};

/// How long a test waits for what must come. Nothing that passes waits so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The future's output, or a panic when it does not come.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it comes before the test loses patience")
}

/// Polls a future once, and drops it.
pub(crate) async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    poll_at_most(1, future).await
}

/// Polls a future so many times, letting everything else run in between, and drops it.
pub(crate) async fn poll_at_most<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for poll in 0..polls {
        if poll > 0 {
            tokio::task::yield_now().await;
        }
        let mut once = future.as_mut();
        let polled = std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut once).poll(context))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
    }
    None
}

/// Lets everything that can run do so.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A virtual time that is exact: the timer rounds up to a millisecond, and may do so twice.
#[track_caller]
pub(crate) fn assert_elapsed(since: Instant, expected: Duration, row: &str) {
    let elapsed = since.elapsed();
    assert!((expected..=expected + Duration::from_millis(3)).contains(&elapsed), "{row}: after {elapsed:?}");
}

/// The same bytes for the same seed; snappy finds nothing in them.
pub(crate) fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&next());
    }
    bytes.truncate(length);
    bytes.into()
}

pub(crate) fn capability(name: &str, version: u64) -> Capability {
    Capability::new(name, version).expect("a good name")
}

pub(crate) fn hello(key: &NodeKey, capabilities: &[(&str, u64)]) -> Hello {
    Hello {
        version: P2P_VERSION,
        client_id: "script".into(),
        capabilities: capabilities.iter().map(|(name, version)| capability(name, *version)).collect(),
        listen_port: 0,
        public_key: key.public_key(),
    }
}

/// A protocol whose handler reads nothing and stays until the peer ends.
pub(crate) fn deaf(name: &str, length: u64) -> Protocol {
    Protocol::from_fn(name, 1, length, |_peer, channel| async move {
        channel.sender().closed().await;
        Ok(())
    })
}

/// A protocol whose handler reads everything and stays until the peer ends.
pub(crate) fn sink(name: &str, length: u64) -> Protocol {
    Protocol::from_fn(name, 1, length, |_peer, mut channel| async move {
        while channel.recv().await.is_some() {}
        Ok(())
    })
}

/// A protocol whose handler sends back what it gets.
pub(crate) fn echo() -> Protocol {
    Protocol::from_fn("echo", 1, 2, |_peer, mut channel| async move {
        while let Some(message) = channel.recv().await {
            channel.send(1, message.payload).await?;
        }
        Ok(())
    })
}

/// More than the pipe between two peers in memory holds, and than the writer takes at a time.
pub(crate) const PLUG: usize = 256 * 1024;

/// A node whose only protocol, `aaa/1`, is in the hands of the test, and a script at the other end.
pub(crate) async fn scripted(protocol: impl FnOnce(Protocol) -> Protocol) -> (Scripted, Channel, Peer) {
    let (own, mut opened) = testing::manual("aaa", 1, 4);
    let (scripted, peer) = greet(testing::node().protocol(protocol(own)), &[("aaa", 1)]).await;
    let (_, channel) = opened.next().await;
    (scripted, channel, peer)
}

/// Sends a message that keeps the writer busy until the other end reads.
pub(crate) async fn plug(channel: &Channel) {
    let places = channel.capacity();
    channel.try_send(0, noise(1, PLUG)).expect("there is a place");
    while channel.capacity() < places {
        tokio::task::yield_now().await;
    }
}

/// Dials `node` with a script that has these capabilities, and exchanges Hellos.
pub(crate) async fn greet(node: ServerBuilder, capabilities: &[(&str, u64)]) -> (Scripted, Peer) {
    let key = NodeKey::random();
    let mut scripted = testing::script(node, &key).await;
    scripted.connection.send_hello(&hello(&key, capabilities)).await.expect("sent");
    scripted.connection.recv_hello(&key.public_key()).await.expect("the node's Hello");
    let peer = soon(scripted.peer()).await.expect("the node takes it as a peer");
    (scripted, peer)
}

/// The next message, its data as it was sent; `None` when the connection is closed.
pub(crate) async fn read(connection: &mut Connection) -> Option<(MessageId, Bytes)> {
    match soon(connection.recv_frame(MAX_FRAME_SIZE)).await {
        Ok(mut content) => Some((MessageId::take(&mut content).expect("an id"), content)),
        Err(PeerError::Closed { inside_message: false }) => None,
        Err(error) => panic!("the node sends whole messages: {error:?}"),
    }
}

/// The next message, which must be of a subprotocol.
pub(crate) async fn read_message(connection: &mut Connection) -> (u64, Bytes) {
    let (id, data) = read(connection).await.expect("a message");
    assert!(id.value() >= 0x10, "a subprotocol's message: {id:?}");
    (id.value(), decompress(&data))
}

pub(crate) fn decompress(data: &[u8]) -> Bytes {
    Decompressor::default().decompress(data, MAX_FRAME_SIZE).expect("compressed data")
}

/// Reads to the end of the connection.
pub(crate) async fn read_all(connection: &mut Connection) -> Vec<(MessageId, Bytes)> {
    let mut messages = Vec::new();
    while let Some(message) = read(connection).await {
        messages.push(message);
    }
    messages
}

/// Reads to the end of the connection: the reason in the Disconnect, of which there is one at the most, at the end.
pub(crate) async fn last_words(connection: &mut Connection) -> Option<DisconnectReason> {
    let messages = read_all(connection).await;
    let disconnects: Vec<_> = messages.iter().enumerate().filter(|(_, (id, _))| *id == MessageId::DISCONNECT).collect();
    assert!(disconnects.len() <= 1, "one Disconnect at the most");
    let (place, (_, data)) = disconnects.first()?;
    assert_eq!(place + 1, messages.len(), "nothing follows a Disconnect");
    Some(DisconnectReason::from_data(data).expect("the node gives a reason"))
}

/// Settings of a node that listens on loopback.
pub(crate) fn listening() -> ServerBuilder {
    testing::node().listen("127.0.0.1:0".parse().expect("an address"))
}

pub(crate) async fn start(node: ServerBuilder) -> Server {
    node.start().await.expect("the server starts")
}

pub(crate) fn enode(server: &Server) -> Enode {
    server.enode().expect("the server listens")
}

pub(crate) async fn dial(from: &Server, to: &Server) -> Peer {
    soon(from.dial(&enode(to))).await.expect("they become peers")
}

/// The next event.
pub(crate) async fn event(events: &mut EventStream) -> Event {
    soon(events.recv()).await.expect("the server is there")
}

pub(crate) async fn added(events: &mut EventStream) -> Peer {
    match event(events).await {
        Event::Added { peer, .. } => peer,
        other => panic!("a peer should have been added: {other:?}"),
    }
}

pub(crate) async fn dropped(events: &mut EventStream) -> (NodeId, Ending) {
    match event(events).await {
        Event::Dropped { peer, ending, .. } => (peer.id(), ending),
        other => panic!("a peer should have been dropped: {other:?}"),
    }
}

pub(crate) async fn refused(events: &mut EventStream) -> Ending {
    match event(events).await {
        Event::Refused { ending, .. } => ending,
        other => panic!("a connection should have been refused: {other:?}"),
    }
}
