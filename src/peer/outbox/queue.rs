//! One protocol's queue, and what is taken from it to be sealed.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::p2p::{BaseMessage, MessageId};
use crate::peer::send::ReceiptSender;
use crate::peer::shared::SharedBody;
use crate::rlpx::FRAME_OVERHEAD;

/// What is reckoned with for a frame beyond the data in it: its overhead, the id and the padding.
pub(crate) const FRAME: usize = FRAME_OVERHEAD + 16;

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: MessageId,
    pub(crate) code: u64,
    pub(crate) data: Bytes,
    /// Compressed already, or not to be.
    pub(crate) is_final: bool,
    /// The same data with its compressed form, which is sealed in its place.
    pub(crate) shared: Option<Arc<SharedBody>>,
    pub(crate) receipt: Option<ReceiptSender>,
    /// When it was queued, for those whose time is taken.
    pub(crate) queued: Option<Instant>,
}

/// A part of a message.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) id: MessageId,
    /// The size of the message, with its first piece.
    pub(crate) total: Option<usize>,
    pub(crate) data: Bytes,
    /// The message, with its last piece.
    pub(crate) ends: Option<Box<Outgoing>>,
}

/// What the owner of the wire is to seal next.
#[derive(Debug)]
pub(crate) enum Work {
    Base(BaseMessage),
    Message(usize, Outgoing),
    Piece(usize, Piece),
}

/// The bounds and the weight of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) weight: u16,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) messages: VecDeque<Outgoing>,
    pub(super) bytes: usize,
    /// How much of the first message has been taken in pieces.
    pub(super) offset: usize,
    /// Senders that wait for a place.
    pub(super) waiting: usize,
    /// The time of a message in this queue is being taken.
    pub(super) is_sampled: bool,
}

impl Queue {
    pub(super) fn has_room(&self, limits: &QueueLimits, size: usize) -> bool {
        // What does not compress can be larger than the message that the limit has to hold.
        let fits = self.messages.is_empty() || size <= limits.bytes.saturating_sub(self.bytes);
        self.messages.len() < limits.messages && fits
    }

    pub(super) fn take_message(&mut self, lane: usize) -> (Work, usize) {
        let message = self.messages.pop_front().expect("the queue has a message, as was looked at");
        let size = message.data.len();
        self.bytes -= size;
        self.is_sampled &= message.queued.is_none();
        (Work::Message(lane, message), size)
    }

    /// Takes at most `chunk` bytes of the first message, and the message with the last of them.
    pub(super) fn take_piece(&mut self, lane: usize, chunk: usize) -> (Work, usize) {
        let message = &self.messages[0];
        let (id, total) = (message.id, (self.offset == 0).then_some(message.data.len()));
        let end = message.data.len().min(self.offset + chunk);
        let data = message.data.slice(self.offset..end);
        let size = data.len();
        let is_last = end == message.data.len();
        self.offset = if is_last { 0 } else { end };
        let ends = if is_last {
            let message = self.messages.pop_front();
            self.bytes -= end;
            message.map(Box::new)
        } else {
            None
        };
        self.is_sampled &= ends.as_ref().is_none_or(|message| message.queued.is_none());
        (Work::Piece(lane, Piece { id, total, data, ends }), size)
    }
}
