//! What must hold in whatever order the tasks of a peer run: checks that explore the orders.

mod inbox;
mod outbox;

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, DuplexStream, WriteHalf};

use super::connection::Connection;
use super::outbox::Outbox;
use super::send::{ChannelSender, SenderLane};
use super::setup::{self, Config, Ready};
use super::tap::Tap;
use super::wire::Wire;
use super::writer::Writer;
use super::{Counters, Direction, Peer, PeerError, PeerInner};
use crate::node::NodeKey;
use crate::p2p::{DisconnectReason, Event, MessageId, Session};
use crate::protocol::Protocol;
use crate::rlpx::MAX_FRAME_SIZE;
use crate::server::Server;
use crate::sync::explored::{choose, is_exploring, point};
use crate::transport::{ByteStream, Endpoints};

/// More than a check writes.
const PIPE: usize = 1 << 20;

/// How many messages the queue of each protocol holds.
const QUEUE: usize = 2;

/// The sending half of a peer whose tasks are the check's own, and the other end of its connection.
pub(crate) struct Ends {
    pub(crate) peer: Peer,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) senders: Vec<ChannelSender>,
    writer: Option<Writer>,
    connection: Connection,
    session: Session,
}

/// What has come at the other end.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// By protocol, in order.
    pub(crate) messages: [Vec<Bytes>; 2],
    pings: usize,
    pongs: usize,
    /// What was said last.
    goodbye: Option<DisconnectReason>,
}

impl Ends {
    /// A connection with two protocols to the node with this key, which cuts messages into pieces above `chunk` bytes and breaks after so many
    /// bytes, if at all. No order is explored yet.
    pub(crate) fn new(key: &NodeKey, chunk: Option<usize>, breaks_after: Option<usize>) -> Self {
        let (config, dialled, accepted) = connect(key, chunk, breaks_after);
        Self::start(&config, dialled, accepted, Direction::Outbound)
    }

    /// A peer that is the node with this key, for checks that need no more.
    pub(crate) fn peer(key: &NodeKey, direction: Direction) -> Peer {
        let (config, dialled, accepted) = connect(key, None, None);
        Self::start(&config, dialled, accepted, direction).peer
    }

    /// What the task of a peer sets up, without its reader and its handlers.
    fn start(config: &Config, ready: Ready, other: Ready, direction: Direction) -> Self {
        let endpoints = Endpoints { transport: "rough", remote: None, local: None };
        let peer = PeerInner::new(config, &ready, direction, endpoints, &Counters::default());
        let Ready { connection, session, .. } = ready;
        let meters: Arc<[_]> = config.meters.protocols.clone().into();
        let chunk = session.chunking().and(config.chunk_size);
        let shapers = [peer.shapers.clone(), config.shapers.clone()];
        let tap = Tap::new(config.events.clone(), peer.clone());
        let wire = Wire::new(connection.writer, session.chunking(), shapers, tap, meters.clone());
        let limits: Vec<_> = config.protocols.iter().map(Protocol::queue_limits).collect();
        let outbox = Arc::new(Outbox::new(&limits, chunk, wire));
        let lane = |place: usize| SenderLane {
            outbox: outbox.clone(),
            place,
            protocol: session.shared()[place].clone(),
            is_compressed: session.is_compressed(),
            chunk,
            timeout: config.protocols[place].send_limit(),
            meter: meters[place].clone(),
        };
        let writer = Writer { outbox: outbox.clone(), stall_timeout: Duration::from_secs(20) };
        Self {
            peer: Peer::new(peer),
            senders: (0..limits.len()).map(|place| ChannelSender::new(lane(place))).collect(),
            outbox,
            writer: Some(writer),
            connection: other.connection,
            session: other.session,
        }
    }

    /// The task of the writer.
    pub(crate) fn writer(&mut self) -> impl Future<Output = Result<(), PeerError>> + Send + use<> {
        self.writer.take().expect("it runs once").run()
    }

    /// The end of the peer.
    pub(crate) fn finish(self) {
        self.outbox.finish();
        self.peer.inner.set_ending(self.peer.inner.abandoned());
    }

    /// Everything that was written so far, as the other end understands it.
    pub(crate) fn arrived(&mut self) -> Arrived {
        let mut arrived = Arrived::default();
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let content = match pin!(self.connection.recv_frame(MAX_FRAME_SIZE)).poll(&mut context) {
                Poll::Ready(Ok(content)) => content,
                Poll::Ready(Err(PeerError::Closed { .. })) | Poll::Pending => return arrived,
                Poll::Ready(Err(error)) => panic!("R14: the other end understands every byte: {error:?}"),
            };
            assert!(arrived.goodbye.is_none(), "R62: nothing follows a Disconnect");
            let mut rest = content.clone();
            if MessageId::take(&mut rest) == Some(MessageId::DISCONNECT) {
                arrived.goodbye = DisconnectReason::from_data(&rest);
                continue;
            }
            match self.session.receive(content, std::time::Instant::now()).expect("R14: a sound message") {
                Event::Message { place, payload, .. } => arrived.messages[place].push(payload),
                Event::Ping => arrived.pings += 1,
                Event::Pong(_) => arrived.pongs += 1,
                Event::Chunk { .. } | Event::Ignored => {}
            }
        }
    }
}

/// Both ends of a connection, and the settings of the first.
fn connect(key: &NodeKey, chunk: Option<usize>, breaks_after: Option<usize>) -> (Config, Ready, Ready) {
    let (one, other) = tokio::io::duplex(PIPE);
    let (reader, writer) = tokio::io::split(one);
    let rough = ByteStream::new(reader, Rough { stream: writer, left: breaks_after });
    let (first, second) = (config(&NodeKey::random(), chunk), config(key, chunk));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (dialled, accepted) = runtime.block_on(async {
        let dialled = setup::initiate(&first, rough, second.public_key, || ());
        tokio::join!(dialled, setup::accept(&second, other, |_| Ok(())))
    });
    (first, *dialled.expect("it dials").0, *accepted.expect("it accepts").0)
}

fn config(key: &NodeKey, chunk: Option<usize>) -> Config {
    let protocol = |name, weight| {
        let handler = |_, _| async { Ok(()) };
        Protocol::from_fn(name, 1, 4, handler).queue_messages(QUEUE).weight(weight)
    };
    let mut node = Server::builder(key.clone()).protocol(protocol("aaa", 1)).protocol(protocol("bbb", 3));
    if let Some(chunk) = chunk {
        node = node.chunk_size(chunk);
    }
    node.config(0).expect("the settings will do")
}

/// A stream that takes as many bytes at a time as it likes, and lets others go on in the middle of it.
struct Rough {
    stream: WriteHalf<DuplexStream>,
    /// How many bytes it takes before it breaks.
    left: Option<usize>,
}

impl AsyncWrite for Rough {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !is_exploring() {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        point();
        let most = match choose(4) {
            0 => {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            1 => 1 + choose(bytes.len() as u32) as usize,
            _ => bytes.len(),
        };
        let most = most.min(self.left.unwrap_or(usize::MAX));
        if most == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, &bytes[..most]);
        if let Poll::Ready(Ok(written)) = &written {
            self.left = self.left.map(|left| left - written);
        }
        point();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if is_exploring() && choose(8) == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
