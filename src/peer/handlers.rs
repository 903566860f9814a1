//! The tasks in which a peer's handlers run, and what it means when one ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::ending::PeerError;
use crate::metrics::ProtocolMeter;
use crate::p2p::Capability;
use crate::peers::Membership;
use crate::protocol::{BoxError, ExitPolicy, HandlerFuture};

type HandlerResult = Result<(), BoxError>;

/// A handler has ended, and its peer goes on or was ending already.
pub(crate) struct HandlerEnd {
    pub(crate) capability: Capability,
    pub(crate) error: PeerError,
}

/// What is told of such ends.
pub(crate) type Report<'a> = &'a mut (dyn FnMut(HandlerEnd) + Send);

#[derive(Debug, Default)]
pub(super) struct Handlers {
    tasks: JoinSet<HandlerResult>,
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    task: AbortHandle,
    meter: Arc<ProtocolMeter>,
    exit: ExitPolicy,
}

impl Handlers {
    /// Runs a handler, whose peer is a member of the protocol's peers until it has ended, however it does.
    pub(super) fn spawn(
        &mut self,
        handler: HandlerFuture,
        membership: Membership,
        meter: Arc<ProtocolMeter>,
        exit: ExitPolicy,
    ) {
        let task = self.tasks.spawn(async move {
            let _membership = membership;
            handler.await
        });
        self.running.push(Running { task, meter, exit });
    }

    /// Waits for the end of a handler that ends the peer.
    ///
    /// # Cancel safety
    /// No end is lost when the future is dropped.
    pub(super) async fn next_end(&mut self, report: Report<'_>) -> PeerError {
        loop {
            let Some(ended) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
            let Some((exit, end)) = self.take(ended) else { return PeerError::Internal };
            if exit == ExitPolicy::EndPeer || self.running.is_empty() {
                return end.error;
            }
            report(end);
        }
    }

    /// Waits until all handlers have ended, and cancels those that have not by the deadline.
    pub(super) async fn join(mut self, deadline: Instant, report: Report<'_>) {
        while let Ok(Some(ended)) = timeout_at(deadline, self.tasks.join_next_with_id()).await {
            self.report_panic(ended, report);
        }
        self.tasks.abort_all();
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.report_panic(ended, report);
        }
    }

    /// The peer ends for another reason: that a handler ends too is no news, unless it panics.
    fn report_panic(&mut self, ended: Result<(task::Id, HandlerResult), JoinError>, report: Report<'_>) {
        match self.take(ended) {
            Some((_, end)) if matches!(end.error, PeerError::HandlerPanicked { .. }) => report(end),
            _ => {}
        }
    }

    /// What it means that a handler has ended.
    fn take(&mut self, ended: Result<(task::Id, HandlerResult), JoinError>) -> Option<(ExitPolicy, HandlerEnd)> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let place = self.running.iter().position(|running| running.task.id() == id)?;
        let Running { meter, exit, .. } = self.running.swap_remove(place);
        let capability = meter.capability.clone();
        let error = match ended {
            Ok((_, Ok(()))) => PeerError::HandlerFinished { capability: capability.clone() },
            Ok((_, Err(source))) => PeerError::HandlerFailed { capability: capability.clone(), source },
            Err(error) => match error.try_into_panic() {
                Ok(panic) => {
                    meter.panics.fetch_add(1, Ordering::Relaxed);
                    PeerError::HandlerPanicked { capability: capability.clone(), message: panic_message(&*panic) }
                }
                Err(_) => PeerError::Internal,
            },
        };
        Some((exit, HandlerEnd { capability, error }))
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
