//! Supervision of one peer: its reader, writer and handlers are started here, and joined here before it is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, ChannelReceiver, ChannelSender};
use super::connection::{FAREWELL, FAREWELL_WRITE, FrameReader};
use super::ending::{Ending, Party, PeerError, Stage};
use super::outbox::{Close, Outbox};
use super::reader::Reader;
use super::setup::{Config, Ready};
use super::writer::Writer;
use super::{Peer, PeerInner};
use crate::p2p::{Capability, DisconnectReason, SessionError};
use crate::protocol::BoxError;

/// How long queued messages may take to be written before the Disconnect.
const DRAIN: Duration = Duration::from_secs(1);
/// How long what the other end said last is looked for, after a write has failed.
const LAST_WORD: Duration = Duration::from_millis(200);

type HandlerResult = Result<(), BoxError>;

/// Closes the outbox when it is dropped: also when the task of the peer is aborted, whoever holds a sender must learn
/// that the peer is gone.
struct OpenOutbox(Arc<Outbox>);

impl Drop for OpenOutbox {
    fn drop(&mut self) {
        self.0.close(Close::Now(None));
    }
}

/// The tasks of a peer. Dropping it aborts them all.
pub(crate) struct Driver {
    peer: Arc<PeerInner>,
    reader: Reader,
    outbox: OpenOutbox,
    writer: JoinSet<Result<(), PeerError>>,
    handlers: JoinSet<HandlerResult>,
    /// Which handler is which.
    running: Vec<(AbortHandle, Capability)>,
    shutdown: CancellationToken,
}

impl Driver {
    /// Starts the handlers and the writer of a session.
    pub(crate) fn start(config: &Config, ready: Ready, peer: Arc<PeerInner>) -> Self {
        let Ready { connection, session, .. } = ready;
        let protocols: Vec<_> = session.shared().iter().map(|shared| &config.protocols[shared.index]).collect();
        let outbox = Arc::new(Outbox::new(protocols.iter().map(|protocol| protocol.queue_limit())));
        let (mut inboxes, mut handlers, mut running) = (Vec::new(), JoinSet::new(), Vec::new());
        for (place, (shared, protocol)) in session.shared().iter().zip(protocols).enumerate() {
            let (inbox, messages) = mpsc::channel(protocol.inbox_limit().min(Semaphore::MAX_PERMITS));
            inboxes.push(inbox);
            let sender = ChannelSender::new(outbox.clone(), place, shared.clone(), session.is_compressed());
            let channel = Channel::new(sender, ChannelReceiver::new(messages));
            let task = handlers.spawn(protocol.handler().run(Peer::new(peer.clone()), channel));
            running.push((task, shared.capability.clone()));
        }
        let timeouts = config.timeouts;
        let mut writer = JoinSet::new();
        writer.spawn(
            Writer {
                frames: connection.writer,
                outbox: outbox.clone(),
                peer: peer.clone(),
                stall_timeout: timeouts.write_stall,
            }
            .run(),
        );
        let reader = Reader {
            frames: connection.reader,
            session,
            inboxes,
            outbox: outbox.clone(),
            peer: peer.clone(),
            stall_timeout: timeouts.inbox_stall,
        };
        Self { peer, reader, outbox: OpenOutbox(outbox), writer, handlers, running, shutdown: config.shutdown.clone() }
    }

    /// Runs the session until it ends, and returns when no task of it is left.
    pub(crate) async fn run(mut self) -> Ending {
        let ending = Ending::new(Stage::Session, self.until_end().await);
        tracing::debug!(peer = %self.peer.id, by = %ending.by(), "the session ends: {ending}");
        self.finish(&ending).await;
        ending
    }

    /// Waits for the first thing that ends the session.
    async fn until_end(&mut self) -> PeerError {
        tokio::select! {
            biased;
            reason = self.peer.disconnect_requested() => PeerError::Requested(reason),
            () = self.shutdown.cancelled() => PeerError::ShuttingDown,
            Some(ended) = self.handlers.join_next_with_id() => handler_error(&self.running, ended),
            Some(ended) = self.writer.join_next() => match ended {
                Ok(Err(PeerError::Io(error))) => self.last_word().await.unwrap_or(PeerError::Io(error)),
                Ok(Err(error)) => error,
                Ok(Ok(())) | Err(_) => PeerError::Internal,
            },
            error = self.reader.run() => error,
        }
    }

    /// The Disconnect that the other end has sent, if it has: it says more than the failure of a write to an end that
    /// has closed.
    async fn last_word(&mut self) -> Option<PeerError> {
        let said = timeout(LAST_WORD, self.reader.run()).await.ok()?;
        matches!(said, PeerError::Session(SessionError::Disconnected(_))).then_some(said)
    }

    /// Says goodbye if that makes sense, closes the connection, and joins every task.
    async fn finish(self, ending: &Ending) {
        let Self { mut reader, outbox, writer, handlers, .. } = self;
        // Handlers see the end of their messages.
        reader.inboxes.clear();
        let reason = ending.error().disconnect_reason().filter(|_| ending.by() != Party::Remote);
        let goodbye = say_goodbye(reader.frames, writer, &outbox.0, reason, ending.error().drains());
        tokio::join!(goodbye, join_handlers(handlers));
    }
}

/// Takes no more messages, has the writer end with a Disconnect if there is a reason, and closes the connection: at
/// once, or when the other end has had time to read it.
async fn say_goodbye(
    mut reader: FrameReader,
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
    if reason.is_some() && matches!(ended, Some(Ok(Ok(())))) {
        reader.drain(Instant::now() + FAREWELL).await;
    }
}

async fn join_handlers(mut handlers: JoinSet<HandlerResult>) {
    let deadline = Instant::now() + FAREWELL;
    while let Ok(Some(_)) = timeout_at(deadline, handlers.join_next()).await {}
    handlers.shutdown().await;
}

/// What it means that a handler has ended.
fn handler_error(
    running: &[(AbortHandle, Capability)],
    ended: Result<(task::Id, HandlerResult), JoinError>,
) -> PeerError {
    let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
    let Some((_, capability)) = running.iter().find(|(task, _)| task.id() == id) else { return PeerError::Internal };
    let capability = capability.clone();
    match ended {
        Ok((_, Ok(()))) => PeerError::HandlerFinished { capability },
        Ok((_, Err(source))) => PeerError::HandlerFailed { capability, source },
        Err(error) => match error.try_into_panic() {
            Ok(panic) => PeerError::HandlerPanicked { capability, message: panic_message(&*panic) },
            Err(_) => PeerError::Internal,
        },
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
