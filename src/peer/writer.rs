//! The task that writes whatever a lone sender has not written itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::ending::PeerError;
use super::outbox::{Next, Outbox};
use super::wire::Wire;
use crate::p2p::BaseMessage;

pub(super) struct Writer {
    pub(super) outbox: Arc<Outbox>,
    pub(super) stall_timeout: Duration,
}

impl Writer {
    /// Writes what the outbox holds, in one write for what is ready together, until the outbox is closed.
    pub(super) async fn run(self) -> Result<(), PeerError> {
        loop {
            let mut lent = self.outbox.turn().await;
            let wire = lent.wire();
            loop {
                if let Some(error) = wire.failed.take() {
                    return Err(error);
                }
                self.write_all(wire).await?;
                match self.outbox.next(wire) {
                    Next::Work => wire.seal_work()?,
                    Next::Nothing => break,
                    Next::Last(reason) => {
                        if let Some(reason) = reason {
                            wire.seal_base(BaseMessage::Disconnect(reason));
                            self.write_all(wire).await?;
                        }
                        return wire.shutdown().await.map_err(PeerError::Io);
                    }
                }
            }
        }
    }

    async fn write_all(&self, wire: &mut Wire) -> Result<(), PeerError> {
        while !wire.is_idle() {
            let mut passes = wire.pass().await;
            while passes > 0 || wire.unwritten() == 0 && !wire.is_idle() {
                let before = wire.unwritten();
                let write = std::future::poll_fn(|context| wire.poll_write(context, passes));
                let written = timeout(self.stall_timeout, write)
                    .await
                    .map_err(|_| PeerError::WriteStalled { limit: self.stall_timeout })?
                    .map_err(PeerError::Io)?;
                self.outbox.note(&written);
                passes -= before - wire.unwritten();
            }
        }
        Ok(())
    }
}
