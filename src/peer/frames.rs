//! Frames read from one half of a stream of bytes, and written to the other.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::ending::PeerError;
use super::scratch;
use crate::p2p::MessageEncoder;
use crate::rlpx::{FrameError, Ingress};
use crate::transport::{BoxedReader, BoxedWriter};

/// How much is read at a time until the other end has proved who it is.
const FIRST_READ: usize = 2 * 1024;

/// A frame of which more than this is missing is read into a buffer of its own, which gets so much room at first, and
/// then as much again as has come.
const OWN_BUFFER: usize = 64 * 1024;

/// How much is read at a time when it is only to be forgotten.
const DRAIN_READ: usize = 16 * 1024;

/// A buffer that a large message left behind is given back above this size.
const KEPT_BUFFER: usize = 64 * 1024;

/// What becomes of the content of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// It is kept, and must not hold a buffer that is larger than itself.
    Content,
    /// It is dropped before the next read.
    Nothing,
}

/// The receiving half of a connection.
///
/// While nothing has come it holds no buffer. It reads into a buffer of the thread, and keeps what is left of it when a
/// frame is not whole.
pub(crate) struct FrameReader {
    io: BoxedReader,
    ingress: Ingress,
    buffer: BytesMut,
    /// The buffer is the thread's.
    is_borrowed: bool,
    /// A small buffer that is not needed now.
    spare: BytesMut,
    /// How much is read at a time.
    most: usize,
}

impl FrameReader {
    pub(super) fn new(io: BoxedReader, ingress: Ingress) -> Self {
        let (buffer, spare) = (BytesMut::new(), BytesMut::new());
        Self { io, ingress, buffer, is_borrowed: false, spare, most: FIRST_READ }
    }

    /// The other end has proved who it is: as much is read at a time as there is.
    pub(super) fn trust(&mut self) {
        self.most = usize::MAX;
    }

    /// The content of the next frame, if it has come whole.
    pub(crate) fn next_frame(&mut self, limit: usize, keep: Keep) -> Result<Option<Bytes>, FrameError> {
        let content = self.ingress.open(&mut self.buffer, limit)?;
        if content.is_none() {
            self.settle();
        }
        Ok(content.map(|content| match keep {
            Keep::Content if self.is_borrowed => Bytes::copy_from_slice(&content),
            _ => content.freeze(),
        }))
    }

    /// Gives the thread's buffer back.
    fn settle(&mut self) {
        if std::mem::take(&mut self.is_borrowed) {
            let mut rest = std::mem::take(&mut self.spare);
            if !self.buffer.is_empty() {
                let room = if self.missing() > OWN_BUFFER { self.growth() } else { 0 };
                rest.reserve(self.buffer.len() + room);
                rest.extend_from_slice(&self.buffer);
            }
            scratch::give_read_buffer(std::mem::replace(&mut self.buffer, rest));
        } else if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Gives back what is kept for the rest of a frame that has come in part.
    pub(crate) fn release_memory(&mut self) {
        self.spare = BytesMut::new();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// How many bytes are missing for the next step.
    fn missing(&self) -> usize {
        self.ingress.wants().saturating_sub(self.buffer.len())
    }

    /// How much room a buffer of a frame's own gets beyond what it holds.
    fn growth(&self) -> usize {
        self.missing().min(self.buffer.len().max(OWN_BUFFER))
    }

    /// How many bytes have been read and not opened.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether bytes of a frame have come that is not whole, when [`FrameReader::next_frame`] finds no other.
    pub(crate) fn is_inside_frame(&self) -> bool {
        !self.buffer.is_empty() || self.ingress.is_inside_frame()
    }

    /// Reads what has come, `most` bytes of it at most, and returns how many. The end of the stream is an error.
    ///
    /// Memory grows with what has come, not with what a header announces.
    ///
    /// # Cancel safety
    /// No byte is lost when the future is dropped.
    pub(crate) async fn fill(&mut self, most: usize) -> Result<usize, PeerError> {
        let most = most.min(self.most);
        match std::future::poll_fn(|context| self.poll_fill(context, most)).await.map_err(PeerError::Io)? {
            0 => Err(PeerError::Closed { inside_message: self.is_inside_frame() }),
            read => Ok(read),
        }
    }

    fn poll_fill(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let missing = self.missing();
        if missing > OWN_BUFFER || self.buffer.len() > OWN_BUFFER {
            if self.buffer.len() == self.buffer.capacity() {
                self.buffer.reserve(self.growth());
            }
            let room = missing.min(self.buffer.capacity() - self.buffer.len()).min(most);
            return pin!(self.io.read_buf(&mut (&mut self.buffer).limit(room))).poll(context);
        }
        let mut buffer = scratch::take_read_buffer();
        buffer.extend_from_slice(&self.buffer);
        let room = most.min(scratch::READ_BUFFER);
        let read = pin!(self.io.read_buf(&mut (&mut buffer).limit(room))).poll(context);
        match read {
            Poll::Ready(Ok(1..)) => {
                self.spare = std::mem::replace(&mut self.buffer, buffer);
                self.spare.clear();
                self.is_borrowed = true;
            }
            _ => scratch::give_read_buffer(buffer),
        }
        read
    }

    /// Reads and forgets until the other end closes or `deadline` passes, so that it can read what was sent last:
    /// closing a socket with unread bytes in it would discard them.
    pub(crate) async fn drain(&mut self, deadline: Instant) {
        self.buffer = BytesMut::new();
        // An end that floods is always ready: the time has to be looked at, not only waited for.
        while Instant::now() < deadline {
            self.buffer.clear();
            self.buffer.reserve(DRAIN_READ);
            match timeout_at(deadline, self.io.read_buf(&mut self.buffer)).await {
                Ok(Ok(read)) if read > 0 => {}
                _ => return,
            }
        }
    }
}

/// The sending half of a connection.
pub(crate) struct FrameWriter {
    io: BoxedWriter,
    pub(crate) encoder: MessageEncoder,
    pub(crate) buffer: BytesMut,
    /// Nothing is left in a buffer of the stream's own.
    is_flushed: bool,
}

impl FrameWriter {
    pub(super) fn new(io: BoxedWriter, encoder: MessageEncoder) -> Self {
        Self { io, encoder, buffer: BytesMut::new(), is_flushed: true }
    }

    /// Whether everything is written.
    pub(crate) fn is_idle(&self) -> bool {
        self.buffer.is_empty() && self.is_flushed
    }

    /// Writes out what is in the buffer.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while !self.is_idle() {
            std::future::poll_fn(|context| self.poll_write(context, usize::MAX)).await?;
        }
        // What was written from its front is not in its capacity until it is reclaimed.
        if self.buffer.try_reclaim(KEPT_BUFFER + 1) {
            self.buffer = BytesMut::new();
        }
        Ok(())
    }

    /// Writes at most `limit` bytes of what is in the buffer, and returns how many; 0 when only the stream's own buffer
    /// was left to be written.
    pub(crate) fn poll_write(&mut self, context: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        let mut written = 0;
        if !self.buffer.is_empty() {
            let limit = limit.min(self.buffer.len());
            written = ready!(Pin::new(&mut self.io).poll_write(context, &self.buffer[..limit]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.advance(written);
            self.is_flushed = false;
        }
        if self.buffer.is_empty() && !self.is_flushed {
            match Pin::new(&mut self.io).poll_flush(context)? {
                Poll::Ready(()) => self.is_flushed = true,
                Poll::Pending if written == 0 => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        Poll::Ready(Ok(written))
    }

    /// Closes the sending direction.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }
}
