//! This end: a server of capmux.

use std::time::Duration;

use capmux::bytes::Bytes;
use capmux::testing::{self, Opened};
use capmux::{Channel, Direction, Ending, Enode, Event, EventStream, Peer, Protocol, Server, ServerBuilder};

use crate::json::Json;
use crate::remote::Remote;

/// What capmux calls itself.
pub(crate) const CLIENT_ID: &str = concat!("capmux/", env!("CARGO_PKG_VERSION"));

/// How long anything may take. The slowest are 10 MiB in an unoptimised build on a machine with other work to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a while, and then says for what.
pub(crate) async fn within<T>(awaited: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{awaited} was awaited for {PATIENCE:?}"))
}

/// Answers every message with code 0 by the same payload with code 1, as the programs do.
pub(crate) fn echo() -> Protocol {
    Protocol::from_fn("echo", 1, 2, |_peer, mut channel| async move {
        while let Some(message) = channel.recv().await {
            if message.code == 0 {
                channel.send(1, message.payload).await?;
            }
        }
        Ok(())
    })
}

/// A protocol in the hands of the test, for the largest messages there are.
pub(crate) fn manual(name: &str, version: u64, length: u64) -> (Protocol, Opened) {
    let (protocol, opened) = testing::manual(name, version, length);
    (protocol.max_message_size(16 * 1024 * 1024 - 1), opened)
}

/// A server that listens on a port of its own.
pub(crate) struct Local {
    pub(crate) server: Server,
    events: EventStream,
}

impl Local {
    pub(crate) async fn start(node: ServerBuilder) -> Self {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let server = node.listen(listen).start().await.expect("the server starts");
        let events = server.events();
        Self { server, events }
    }

    /// A server with the protocol echo.
    pub(crate) async fn echoing() -> Self {
        Self::start(testing::node().protocol(echo())).await
    }

    pub(crate) fn enode(&self) -> Enode {
        self.server.enode().expect("it listens")
    }

    /// Its public key in hexadecimal digits, as the programs call it.
    pub(crate) fn id(&self) -> String {
        self.enode().public_key.to_string()
    }

    /// Connects to the other node in this direction, and returns what each end makes of the other.
    pub(crate) async fn connect(&mut self, remote: &mut Remote, direction: Direction) -> (Peer, Json) {
        let peer = match direction {
            Direction::Outbound => self.dial(remote.enode()).await.expect("the dial leads to a peer"),
            Direction::Inbound => {
                remote.dial(&self.enode()).await;
                self.added().await
            }
        };
        assert_eq!(peer.direction(), direction);
        let seen = remote.expect_of("peer", &self.id()).await;
        (peer, seen)
    }

    pub(crate) async fn dial(&self, enode: &Enode) -> Result<Peer, Ending> {
        within("the end of a dial", self.server.dial(enode)).await
    }

    /// The next peer.
    pub(crate) async fn added(&mut self) -> Peer {
        loop {
            match self.event().await {
                Event::Added { peer, .. } => return peer,
                Event::Refused { ending, .. } => panic!("a peer was expected, and refused: {ending}"),
                _ => {}
            }
        }
    }

    /// How the next inbound connection is refused.
    pub(crate) async fn refused(&mut self) -> Ending {
        loop {
            match self.event().await {
                Event::Refused { ending, .. } => return ending,
                Event::Added { peer, .. } if peer.direction() == Direction::Inbound => {
                    panic!("{peer:?} was not refused")
                }
                _ => {}
            }
        }
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> Event {
        within("an event of the server", self.events.recv()).await.expect("the server lives")
    }
}

/// The next message, which must have this code.
pub(crate) async fn next_message(channel: &mut Channel, code: u64) -> Bytes {
    let message = within("a message", channel.recv()).await.expect("the peer lives");
    assert_eq!(message.code, code, "R6");
    message.payload
}

/// How a peer ends.
pub(crate) async fn ending(peer: &Peer) -> Ending {
    within("the end of a peer", peer.closed()).await
}
