//! The task that writes whatever a lone sender has not written itself.

use std::sync::Arc;
use std::time::Duration;

use super::ending::PeerError;
use super::outbox::{Next, Outbox};
use super::wire::Wire;
use crate::p2p::BaseMessage;
use crate::sync::timeout;

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
                if wire.failed.is_some() {
                    // It stays failed for whoever looks before the peer is gone.
                    return Err(wire.failed.replace(PeerError::Internal).unwrap_or(PeerError::Internal));
                }
                self.write_all(wire).await?;
                match self.outbox.next(wire) {
                    Next::Work => wire.seal_work()?,
                    Next::Nothing => break,
                    Next::Last(reason) => {
                        if let Some(reason) = reason {
                            wire.seal_base(BaseMessage::Disconnect(reason));
                            // A goodbye does not wait for the byte rates.
                            let all = wire.unwritten();
                            self.write(wire, all).await?;
                        }
                        return wire.shutdown().await.map_err(PeerError::Io);
                    }
                }
            }
        }
    }

    /// Writes what is sealed, as the byte rates allow.
    async fn write_all(&self, wire: &mut Wire) -> Result<(), PeerError> {
        while !wire.is_idle() {
            let passes = wire.pass().await;
            self.write(wire, passes).await?;
        }
        Ok(())
    }

    /// Writes so many bytes of what is sealed, and what the stream itself holds back.
    async fn write(&self, wire: &mut Wire, mut passes: usize) -> Result<(), PeerError> {
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
        Ok(())
    }
}
