//! The task of a server: it accepts and dials, and owns the tasks of all connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::attempt::Attempt;
use super::candidates::Candidates;
use super::connection::serve;
use super::dial::dial;
use super::events::Event;
use super::saver::Saver;
use super::shared::Shared;
use crate::node::Address;
use crate::transport::{BoxedListener, ByteStream, Endpoints};

/// How long everything may take to end after a shutdown.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// How long connections may take to end by themselves after an abort, which may come when a shutdown has begun.
const ABORT: Duration = Duration::from_millis(100);

/// After an accept that failed, most likely for want of descriptors: five a second.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What the application asks of the task. The answer tells that it is done.
#[derive(Debug)]
pub(super) enum Command {
    /// Accepts from this listener instead of the one there is, or from none.
    Listen(Option<BoxedListener>, oneshot::Sender<()>),
}

pub(super) struct Switch {
    pub(super) shared: Arc<Shared>,
    pub(super) listener: Option<BoxedListener>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) candidates: Candidates,
    pub(super) saver: Saver,
    pub(super) connections: JoinSet<()>,
}

impl Switch {
    /// Runs until the shutdown, and until every connection has ended after it.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        let mut not_before = None;
        loop {
            let wake = self.dial_what_is_due();
            tokio::select! {
                biased;
                () = shared.config.shutdown.cancelled() => break,
                Some(ended) = self.connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!("the task of a connection failed: {error}");
                    }
                }
                Some(command) = self.commands.recv() => self.obey(command),
                () = shared.dialler.changed() => {}
                () = shared.book.changed(), if shared.keeps_book => {}
                () = until(wake) => {}
                node = self.candidates.next(&shared), if shared.dialler.wanted() > 0 && shared.peers.has_place() => self.candidates.take(&shared, &node),
                () = self.saver.run(&shared) => {}
                accepted = accept(self.listener.as_mut(), not_before) => match accepted {
                    Ok((stream, endpoints)) => self.accepted(stream, endpoints),
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        not_before = Some(Instant::now() + ACCEPT_PAUSE);
                    }
                }
            }
        }
        self.end().await;
    }

    async fn end(mut self) {
        self.listener = None;
        let abort = self.shared.config.abort.clone();
        let late = async {
            let aborted = async {
                abort.cancelled().await;
                sleep(ABORT).await;
            };
            // It does not matter which.
            let _ = timeout(SHUTDOWN, aborted).await;
        };
        // Before the book forgets who is connected.
        let saved = self.saver.last(&self.shared);
        let ended = async { while self.connections.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            _ = async { tokio::join!(ended, saved) } => return,
            () = late => {}
        }
        self.connections.shutdown().await;
    }

    /// Begins the dials that are due, and returns when there may be others.
    fn dial_what_is_due(&mut self) -> Option<Instant> {
        let refill = self.candidates.refill(&self.shared);
        let due = self.shared.dialler.poll();
        for due in due.dials {
            self.connections.spawn(dial(self.shared.clone(), due));
        }
        let wake = due.wake.map(Instant::from_std);
        refill.into_iter().chain(wake).min()
    }

    fn obey(&mut self, command: Command) {
        let Command::Listen(listener, done) = command;
        // Of several orders at once the last one holds, for both.
        self.shared.set_local_address(listener.as_ref().map(BoxedListener::local_address));
        self.listener = listener;
        // Who asked may have stopped waiting.
        let _ = done.send(());
    }

    fn accepted(&mut self, stream: ByteStream, endpoints: Endpoints) {
        let now = Instant::now().into_std();
        match self.shared.admit(endpoints.remote.as_ref().and_then(Address::ip), now) {
            Ok(ticket) => {
                let attempt = Attempt::new(self.shared.clone(), endpoints.remote.clone(), ticket);
                self.connections.spawn(serve(self.shared.clone(), stream, endpoints, attempt));
            }
            Err(refusal) => {
                drop(stream);
                self.shared.config.meters.closed_unread();
                if let Some(count) = self.shared.gate.tell(now) {
                    let remote_addr = endpoints.remote.as_ref().and_then(Address::socket_addr);
                    tracing::debug!(remote = ?endpoints.remote, count, "closed unread: {refusal}");
                    self.shared.emit(Event::ClosedUnread { remote_addr, refusal, count });
                }
            }
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Accepts a connection, though not before the time given.
async fn accept(
    listener: Option<&mut BoxedListener>,
    not_before: Option<Instant>,
) -> io::Result<(ByteStream, Endpoints)> {
    if let Some(time) = not_before {
        sleep_until(time).await;
    }
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
