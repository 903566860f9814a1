//! Supervision of one peer: its reader, writer and handlers are started here, and joined here before it is gone.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::budget::Account;
use super::channel::{Channel, ChannelReceiver};
use super::connection::{FAREWELL, FAREWELL_WRITE};
use super::ending::{Ending, Party, PeerError, Stage};
use super::frames::FrameReader;
use super::handlers::{Handlers, Report};
use super::inbox::Inbox;
use super::outbox::{Close, Outbox, QueueLimits};
use super::reader::Reader;
use super::send::{ChannelSender, SenderLane};
use super::setup::{Config, Ready};
use super::shaper::Paid;
use super::tap::Tap;
use super::wire::Wire;
use super::writer::Writer;
use super::{Links, Peer, PeerInner};
use crate::metrics::{ProtocolMeter, Run, Way};
use crate::p2p::{DisconnectReason, SessionError};
use crate::protocol::Protocol;

/// How long queued messages may take to be written before the Disconnect.
const DRAIN: Duration = Duration::from_secs(1);
/// How long what the other end said last is looked for, after a write has failed.
const LAST_WORD: Duration = Duration::from_millis(200);

/// The queues of a peer, which are closed when this is dropped: also when the task of the peer is aborted, whoever
/// holds an end of a channel must learn that the peer is gone.
struct Open {
    outbox: Arc<Outbox>,
    inboxes: Arc<[Arc<Inbox>]>,
    peer: Arc<PeerInner>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.inboxes.iter().for_each(|inbox| inbox.close());
        self.outbox.finish();
        self.peer.unsent.store(self.outbox.unsent(), Ordering::Relaxed);
    }
}

/// The tasks of a peer. Dropping it aborts them all.
pub(crate) struct Driver {
    peer: Arc<PeerInner>,
    /// Locked by its task, for as long as that runs.
    reader: Arc<Mutex<Reader>>,
    reading: JoinSet<PeerError>,
    account: Arc<Account>,
    queues: Open,
    writer: JoinSet<Result<(), PeerError>>,
    watch: JoinSet<Infallible>,
    handlers: Handlers,
    shutdown: CancellationToken,
    abort: CancellationToken,
}

impl Driver {
    /// Starts the handlers, the writer and the reader of a session.
    pub(crate) fn start(config: &Config, ready: Box<Ready>, peer: Arc<PeerInner>) -> Self {
        let Ready { connection, session, .. } = *ready;
        let indices: Vec<_> = session.shared().iter().map(|shared| shared.index).collect();
        let protocols: Vec<_> = indices.iter().map(|index| &config.protocols[*index]).collect();
        let meters: Arc<[_]> = indices.iter().map(|index| config.meters.protocols[*index].clone()).collect();
        let chunk = session.chunking().and(config.chunk_size);
        let account = config.budget.account();
        let shapers = [peer.shapers.clone(), config.shapers.clone()];
        let tap = Tap::new(config.events.clone(), peer.clone());
        let wire = Wire::new(connection.writer, session.chunking(), shapers.clone(), tap.clone(), meters.clone());
        let limits: Vec<QueueLimits> = protocols.iter().map(|protocol| protocol.queue_limits()).collect();
        let outbox = Arc::new(Outbox::new(&limits, chunk, wire));
        let inbox = |protocol: &&Protocol| Arc::new(Inbox::new(protocol.inbox_limits(), account.clone()));
        let inboxes: Arc<[Arc<Inbox>]> = protocols.iter().map(inbox).collect();
        peer.link(Links { outbox: Arc::downgrade(&outbox), inboxes: inboxes.iter().map(Arc::downgrade).collect() });
        let handlers = start_handlers(&protocols, &session, &meters, &outbox, &inboxes, &peer, chunk);
        let mut writer = JoinSet::new();
        let timeouts = config.timeouts;
        writer.spawn(Writer { outbox: outbox.clone(), stall_timeout: timeouts.write_stall }.run());
        let mut watch = JoinSet::new();
        let watched = outbox.clone();
        watch.spawn(async move { watched.watch_writer().await });
        // What came along with the Hello has been read.
        peer.traffic.bytes_received(connection.reader.buffered());
        let reader = Arc::new(Mutex::new(Reader {
            frames: connection.reader,
            session,
            inboxes: inboxes.clone(),
            meters,
            account: account.clone(),
            shapers,
            tap,
            paid: Paid::default(),
            outbox: outbox.clone(),
            peer: peer.clone(),
            stall_timeout: timeouts.inbox_stall,
            run: Run::new(Way::Received),
            is_ping_queued: false,
            chunk_bytes: 0,
        }));
        let mut reading = JoinSet::new();
        let locked = reader.clone().try_lock_owned().expect("nobody else has it yet");
        reading.spawn(async move {
            let mut reader = locked;
            reader.run().await
        });
        Self {
            peer: peer.clone(),
            reader,
            reading,
            account,
            queues: Open { outbox, inboxes, peer },
            writer,
            watch,
            handlers,
            shutdown: config.shutdown.clone(),
            abort: config.abort.clone(),
        }
    }

    /// Runs the session until it ends, and returns when no task of it is left. Ends of handlers that do not end the
    /// peer are reported.
    pub(crate) async fn run(mut self, report: Report<'_>) -> Ending {
        let ending = Ending::new(Stage::Session, self.until_end(report).await);
        tracing::debug!(peer = %self.peer.id, by = %ending.by(), "the session ends: {ending}");
        let outbox = self.queues.outbox.clone();
        self.finish(&ending, report).await;
        ending.with_unsent(outbox.unsent())
    }

    /// Waits for the first thing that ends the session.
    async fn until_end(&mut self, report: Report<'_>) -> PeerError {
        tokio::select! {
            biased;
            reason = self.peer.disconnect_requested() => PeerError::Requested(reason),
            () = self.abort.cancelled() => PeerError::Aborted,
            () = self.shutdown.cancelled() => PeerError::ShuttingDown,
            error = self.handlers.next_end(report) => error,
            Some(ended) = self.writer.join_next() => match ended {
                Ok(Err(PeerError::Io(error))) => self.last_word().await.unwrap_or(PeerError::Io(error)),
                Ok(Err(error)) => error,
                Ok(Ok(())) | Err(_) => PeerError::Internal,
            },
            () = self.account.evicted() => PeerError::MemoryExhausted,
            Some(ended) = self.reading.join_next() => ended.unwrap_or(PeerError::Internal),
        }
    }

    /// The Disconnect that the other end has sent, if it has: it says more than the failure of a write to an end that
    /// has closed.
    async fn last_word(&mut self) -> Option<PeerError> {
        let said = timeout(LAST_WORD, self.reading.join_next()).await.ok()??.ok()?;
        matches!(said, PeerError::Session(SessionError::Disconnected(_))).then_some(said)
    }

    /// Says goodbye if that makes sense, closes the connection, and joins every task.
    async fn finish(self, ending: &Ending, report: Report<'_>) {
        let Self { reader, mut reading, queues, writer, mut watch, handlers, .. } = self;
        reading.shutdown().await;
        // Handlers see the end of their messages.
        queues.inboxes.iter().for_each(|inbox| inbox.close());
        let is_abort = matches!(ending.error(), PeerError::Aborted);
        let reason = ending.error().disconnect_reason().filter(|_| ending.by() != Party::Remote);
        let mut reader = reader.lock().await;
        reader.flush_counts();
        let goodbye = say_goodbye(&mut reader.frames, writer, &queues.outbox, reason, ending.error().drains());
        let deadline = Instant::now() + if is_abort { Duration::ZERO } else { FAREWELL };
        tokio::join!(goodbye, handlers.join(deadline, report));
        watch.shutdown().await;
    }
}

/// Starts a handler for each shared protocol.
fn start_handlers(
    protocols: &[&Protocol],
    session: &crate::p2p::Session,
    meters: &[Arc<ProtocolMeter>],
    outbox: &Arc<Outbox>,
    inboxes: &[Arc<Inbox>],
    peer: &Arc<PeerInner>,
    chunk: Option<usize>,
) -> Handlers {
    let mut handlers = Handlers::default();
    for (place, (shared, protocol)) in session.shared().iter().zip(protocols).enumerate() {
        let sender = ChannelSender::new(SenderLane {
            outbox: outbox.clone(),
            place,
            protocol: shared.clone(),
            is_compressed: session.is_compressed(),
            chunk,
            timeout: protocol.send_limit(),
            meter: meters[place].clone(),
        });
        let membership = protocol.registry().join(Peer::new(peer.clone()), sender.clone());
        let channel = Channel::new(sender, ChannelReceiver::new(inboxes[place].clone()));
        let handler = protocol.handler().run(Peer::new(peer.clone()), channel);
        handlers.spawn(handler, membership, meters[place].clone(), protocol.exit());
    }
    handlers
}

/// Takes no more messages, has the writer end with a Disconnect if there is a reason, and closes the connection: at
/// once, or when the other end has had time to read it.
async fn say_goodbye(
    reader: &mut FrameReader,
    mut writer: JoinSet<Result<(), PeerError>>,
    outbox: &Outbox,
    reason: Option<DisconnectReason>,
    drains: bool,
) {
    let mut ended = None;
    if drains {
        outbox.close(Close::Drain(reason));
        ended = timeout(DRAIN, writer.join_next()).await.ok().flatten();
    }
    if ended.is_none() {
        outbox.close(Close::Now(reason));
        if reason.is_some() {
            ended = timeout(FAREWELL_WRITE, writer.join_next()).await.ok().flatten();
        }
    }
    writer.shutdown().await;
    outbox.finish();
    if reason.is_some() && matches!(ended, Some(Ok(Ok(())))) {
        reader.drain(Instant::now() + FAREWELL).await;
    }
}
