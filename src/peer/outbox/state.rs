//! What an outbox keeps under its lock: the queues, whose turn it is, and the wire while nobody has it.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::queue::{FRAME, Outgoing, Piece, Queue, Work};
use super::{BATCH_BYTES, BURST, Close};
use crate::p2p::BaseMessage;
use crate::peer::drr::RoundRobin;
use crate::peer::wire::Wire;
use crate::sync::now;

pub(super) struct State {
    /// Absent while it is lent, and at the end.
    pub(super) wire: Option<Box<Wire>>,
    pub(super) queues: Box<[Queue]>,
    pub(super) turns: RoundRobin,
    /// Messages in all queues.
    pub(super) queued: usize,
    /// Messages that were taken on.
    pub(super) accepted: u64,
    pub(super) ping: bool,
    pub(super) pong: bool,
    pub(super) ping_written: Option<Instant>,
    pub(super) close: Option<Close>,
    /// The wire is not wanted back.
    pub(super) is_over: bool,
    pub(super) last_write: Option<Instant>,
    /// When the writer was woken, until it comes.
    pub(super) woken: Option<Instant>,
    /// The watch was told that the writer is woken, and has not yet seen it come.
    pub(super) is_watched: bool,
}

impl State {
    /// The wire, if a message can leave on it at once.
    pub(super) fn lend_idle(&mut self) -> Option<Box<Wire>> {
        if self.queued > 0 || self.woken.is_some() || self.last_write.is_some_and(|last| now() - last < BURST) {
            return None;
        }
        self.wire.take_if(|wire| wire.is_idle() && wire.failed.is_none() && !wire.is_shaped())
    }

    pub(super) fn has_work(&self) -> bool {
        self.queued > 0 || self.ping || self.pong || self.close.is_some()
    }

    /// Empties the queues.
    pub(super) fn clear(&mut self) -> Vec<VecDeque<Outgoing>> {
        self.queued = 0;
        self.queues
            .iter_mut()
            .map(|queue| {
                (queue.bytes, queue.offset) = (0, 0);
                std::mem::take(&mut queue.messages)
            })
            .collect()
    }

    /// The control lane first, then messages by turns.
    ///
    /// `freed` is told of lanes in which somebody waits for a place that there is now.
    pub(super) fn take(&mut self, wire: &mut Wire, chunk: Option<usize>, freed: impl Fn(usize)) {
        let State { queues, turns, queued, ping, pong, .. } = self;
        wire.correct(|lane, bytes| turns.charge(lane, bytes));
        let limit = wire.step().min(BATCH_BYTES);
        let work = wire.work();
        let control = [(pong, BaseMessage::Pong), (ping, BaseMessage::Ping)];
        work.extend(
            control.into_iter().filter_map(|(flag, message)| std::mem::take(flag).then_some(Work::Base(message))),
        );
        let mut bytes = 0;
        while bytes < limit {
            let Some(lane) = turns.next(|lane| !queues[lane].messages.is_empty()) else { return };
            let queue = &mut queues[lane];
            let (item, size) = match chunk {
                Some(chunk) if queue.messages[0].data.len() > chunk => queue.take_piece(lane, chunk.min(limit)),
                _ => queue.take_message(lane),
            };
            turns.charge(lane, (size + FRAME) as i64);
            bytes += size + FRAME;
            if !matches!(&item, Work::Piece(_, Piece { ends: None, .. })) {
                *queued -= 1;
                if queue.waiting > 0 {
                    freed(lane);
                }
            }
            work.push(item);
        }
    }
}
