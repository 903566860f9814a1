//! The task of a server: it accepts and dials, and owns the tasks of all connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::attempt::{Attempt, Origin, Place};
use super::connection::serve;
use super::dial::{self, DialRequest};
use super::events::Event;
use super::shared::Shared;
use crate::node::Address;
use crate::transport::{BoxedListener, ByteStream, Endpoints};

/// How long everything may take to end after a shutdown.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// How long connections may take to end by themselves after an abort, which may come when a shutdown has begun.
const ABORT: Duration = Duration::from_millis(100);

/// After an accept that failed, most likely for want of descriptors: five a second.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Switch {
    pub(super) shared: Arc<Shared>,
    pub(super) listener: Option<BoxedListener>,
    pub(super) requests: mpsc::Receiver<DialRequest>,
    /// Places for dials.
    pub(super) dials: Arc<Semaphore>,
    pub(super) connections: JoinSet<()>,
}

impl Switch {
    /// Runs until the shutdown, and until every connection has ended after it.
    pub(super) async fn run(mut self) {
        let shutdown = self.shared.config.shutdown.clone();
        let mut not_before = None;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = self.connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!("the task of a connection failed: {error}");
                    }
                }
                (permit, request) = next_dial(&self.dials, &mut self.requests) => {
                    let place = Place::Dialled { _permit: permit };
                    let attempt = Attempt::new(self.shared.clone(), Origin::Dialled(request.node.clone()), place);
                    self.connections.spawn(dial::dial(self.shared.clone(), request, attempt));
                }
                accepted = accept(self.listener.as_mut(), not_before) => match accepted {
                    Ok((stream, endpoints)) => self.accepted(stream, endpoints),
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        not_before = Some(Instant::now() + ACCEPT_PAUSE);
                    }
                }
            }
        }
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
        tokio::select! {
            () = async { while self.connections.join_next().await.is_some() {} } => return,
            () = late => {}
        }
        self.connections.shutdown().await;
    }

    fn accepted(&mut self, stream: ByteStream, endpoints: Endpoints) {
        let now = Instant::now().into_std();
        match self.shared.admit(endpoints.remote.as_ref().and_then(Address::ip), now) {
            Ok(ticket) => {
                let place = Place::Accepted(ticket);
                let attempt = Attempt::new(self.shared.clone(), Origin::Accepted(endpoints.remote.clone()), place);
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

async fn next_dial(
    places: &Arc<Semaphore>,
    requests: &mut mpsc::Receiver<DialRequest>,
) -> (OwnedSemaphorePermit, DialRequest) {
    let permit = places.clone().acquire_owned().await;
    match (permit, requests.recv().await) {
        (Ok(permit), Some(request)) => (permit, request),
        // The server is gone, and this task about to be aborted.
        _ => std::future::pending().await,
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
