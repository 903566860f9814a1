//! The task that owns the sending half of a peer's connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::PeerInner;
use super::connection::FrameWriter;
use super::ending::PeerError;
use super::outbox::{Outbox, Work};

pub(super) struct Writer {
    pub(super) frames: FrameWriter,
    pub(super) outbox: Arc<Outbox>,
    pub(super) peer: Arc<PeerInner>,
    pub(super) stall_timeout: Duration,
}

impl Writer {
    /// Writes what the outbox holds, in one write for what is ready together, until the outbox is closed.
    pub(super) async fn run(mut self) -> Result<(), PeerError> {
        let mut work = Vec::new();
        loop {
            let goes_on = self.outbox.take(&mut work).await;
            self.peer.traffic.messages_sent(work.len() as u64);
            for item in work.drain(..) {
                self.seal(item)?;
            }
            self.write_all().await?;
            if !goes_on {
                return self.frames.shutdown().await.map_err(PeerError::Io);
            }
        }
    }

    fn seal(&mut self, work: Work) -> Result<(), PeerError> {
        let buffer = &mut self.frames.buffer;
        match work {
            Work::Base(message) => self.frames.encoder.base(message, buffer),
            Work::Message(message) if message.is_final => {
                self.frames.encoder.seal_plain(message.id, &message.data, buffer)?;
            }
            Work::Message(message) => self.frames.encoder.message(message.id, &message.data, buffer)?,
        }
        Ok(())
    }

    async fn write_all(&mut self) -> Result<(), PeerError> {
        while !self.frames.buffer.is_empty() {
            let written = timeout(self.stall_timeout, self.frames.write_some())
                .await
                .map_err(|_| PeerError::WriteStalled { limit: self.stall_timeout })?
                .map_err(PeerError::Io)?;
            self.peer.traffic.bytes_sent(written);
        }
        Ok(())
    }
}
