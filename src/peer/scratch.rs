//! Buffers that belong to threads instead of peers: a peer that is silent holds none.

use std::cell::Cell;
use std::collections::VecDeque;

use bytes::BytesMut;

use super::outbox::Work;

/// How much is read at a time, and what a thread's read buffer holds.
pub(super) const READ_BUFFER: usize = 256 * 1024;

/// A write buffer that a large message has left behind is not kept above this size.
const KEPT_WRITE_BUFFER: usize = 4 * 1024 * 1024;

/// What a writer needs while it has something to write.
#[derive(Debug, Default)]
pub(super) struct WriteBuffers {
    /// Sealed frames.
    pub(super) frames: BytesMut,
    /// What is about to be sealed.
    pub(super) work: Vec<Work>,
    /// Where messages end, counted in bytes from the start of the connection.
    pub(super) ends: VecDeque<u64>,
}

thread_local! {
    static READ: Cell<BytesMut> = Cell::default();
    static WRITE: Cell<WriteBuffers> = Cell::default();
}

/// An empty buffer with room for a read.
pub(super) fn take_read_buffer() -> BytesMut {
    let mut buffer = READ.take();
    buffer.reserve(READ_BUFFER);
    buffer
}

/// Keeps the memory of `buffer` for the next read on this thread, unless messages still share it.
pub(super) fn give_read_buffer(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.try_reclaim(READ_BUFFER) {
        READ.set(buffer);
    }
}

/// Empty buffers.
pub(super) fn take_write_buffers() -> WriteBuffers {
    WRITE.take()
}

/// Keeps the memory of `buffers` for the next write on this thread.
pub(super) fn give_write_buffers(mut buffers: WriteBuffers) {
    buffers.frames.clear();
    buffers.work.clear();
    buffers.ends.clear();
    // What was written from its front is not in its capacity until it is reclaimed.
    if !buffers.frames.try_reclaim(KEPT_WRITE_BUFFER + 1) {
        WRITE.set(buffers);
    }
}
