//! The read loop of a peer: frames in, messages to the inboxes, Pongs and Pings to the outbox.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::PeerInner;
use super::budget::Account;
use super::channel::Message;
use super::ending::PeerError;
use super::frames::{FrameReader, Keep};
use super::inbox::{Inbox, Stalled};
use super::outbox::Outbox;
use super::shaper::{Paid, Shapers};
use super::tap::Tap;
use crate::metrics::{ProtocolMeter, Run, Way};
use crate::p2p::{Event, Session, TimerAction};

/// After so many bytes in a row other tasks get their turn.
const TURN_BYTES: usize = 256 * 1024;

/// What a larger frame holds is decompressed only when there is a place for it, and memory.
const SMALL: usize = 4 * 1024;

/// How often it is looked whether a Ping has left that had to queue.
const PING_CHECK: Duration = Duration::from_millis(500);

pub(super) struct Reader {
    pub(super) frames: FrameReader,
    pub(super) session: Session,
    /// One for each shared protocol, in the order of [`Session::shared`], and what counts it.
    pub(super) inboxes: Arc<[Arc<Inbox>]>,
    pub(super) meters: Arc<[Arc<ProtocolMeter>]>,
    pub(super) account: Arc<Account>,
    /// The peer's, and all peers'.
    pub(super) shapers: [Arc<Shapers>; 2],
    pub(super) paid: Paid,
    pub(super) tap: Tap,
    pub(super) outbox: Arc<Outbox>,
    pub(super) peer: Arc<PeerInner>,
    pub(super) stall_timeout: Duration,
    pub(super) run: Run,
    /// A Ping is to be sent and has not been told of as written.
    pub(super) is_ping_queued: bool,
    /// What the account is charged with for messages in chunks that are not whole.
    pub(super) chunk_bytes: usize,
}

impl Reader {
    /// Reads until something ends the session, and returns what.
    ///
    /// # Cancel safety
    /// When the future is dropped, at most the message that waits for a place in its inbox is lost.
    pub(super) async fn run(&mut self) -> PeerError {
        match self.read().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn read(&mut self) -> Result<Infallible, PeerError> {
        let peer = self.peer.clone();
        self.set_rates();
        let mut timer = pin!(sleep_until(self.on_timer()?));
        let mut turn = 0;
        loop {
            self.receive(&mut timer).await?;
            if turn >= TURN_BYTES {
                turn = 0;
                tokio::task::yield_now().await;
            }
            self.account.settle();
            let most = self.step();
            tokio::select! {
                // What is always ready must not hide the clock.
                biased;
                () = &mut timer => {
                    // What a burst has left is given back every few seconds; who is not silent takes it again.
                    self.release_memory();
                    timer.as_mut().reset(self.on_timer()?);
                }
                () = peer.asked() => {
                    self.set_rates();
                    if peer.take_ping() {
                        self.ping();
                    }
                    timer.as_mut().reset(self.on_timer()?);
                }
                read = self.frames.fill(most) => {
                    let read = read?;
                    turn += read;
                    self.peer.traffic.bytes_received(read);
                    self.session.inbound(Instant::now().into_std());
                    self.shape(read).await;
                }
            }
        }
    }

    /// Does what the frames say that have come whole.
    async fn receive(&mut self, timer: &mut Pin<&mut Sleep>) -> Result<(), PeerError> {
        let mut now = Instant::now();
        let limit = self.session.frame_limit();
        let keep = if self.session.is_compressed() { Keep::Nothing } else { Keep::Content };
        let mut messages = 0;
        while let Some(content) = self.frames.next_frame(limit, keep)? {
            messages += 1;
            let reserved = if content.len() > SMALL { self.reserve(&content, &mut now).await? } else { 0 };
            let event = self.session.receive(content, now.into_std());
            // Only a message has its size announced. What is none must not count until the end of the connection.
            match event.inspect_err(|_| self.account.discharge(reserved))? {
                Event::Message { place, code, payload } => {
                    self.message(place, Message::new(code, payload), reserved, &mut now).await?;
                }
                Event::Chunk { .. } => self.charge_chunks(),
                Event::Ping => self.outbox.pong(),
                Event::Pong(Some(_)) => {
                    self.peer.set_round_trip(self.session.round_trip());
                    timer.as_mut().reset(self.on_timer()?);
                }
                Event::Pong(None) => self.peer.unsolicited_pong(),
                _ => {}
            }
        }
        self.flush_counts();
        self.peer.traffic.messages_received(messages);
        let frame_limit = self.session.frame_pending(now.into_std(), self.frames.is_inside_frame());
        if frame_limit.is_some_and(|limit| Instant::from_std(limit) < timer.deadline()) {
            timer.as_mut().reset(self.on_timer()?);
        }
        Ok(())
    }

    /// Counts a message and hands it to its handler, in its time.
    async fn message(
        &mut self,
        place: usize,
        message: Message,
        reserved: usize,
        now: &mut Instant,
    ) -> Result<(), PeerError> {
        if self.chunk_bytes > 0 {
            self.charge_chunks();
        }
        let (code, size) = (message.code, message.payload.len());
        self.run.count(&self.meters, place, code, size);
        let pause = self.session.admit(place, now.into_std())?;
        if self.tap.is_open(Way::Received) {
            self.tap.tell(Way::Received, &self.meters[place].capability, code, size);
        }
        self.deliver(place, message, reserved, now).await?;
        if let Some(pause) = pause {
            self.flush_counts();
            let since = Instant::now();
            sleep(pause).await;
            self.excuse(now, since);
        }
        Ok(())
    }

    /// Does what the clock asks for, and returns when to ask again. It is not moved when bytes come: it then fires
    /// early, once, and finds nothing to do. A Pong does move it, as the next Ping may be due before that Pong was.
    fn on_timer(&mut self) -> Result<Instant, PeerError> {
        loop {
            self.note_ping();
            match self.session.poll(Instant::now().into_std())? {
                TimerAction::Ping => self.send_ping(),
                TimerAction::Wait(until) if self.is_ping_queued => {
                    return Ok(Instant::from_std(until).min(Instant::now() + PING_CHECK));
                }
                TimerAction::Wait(until) => return Ok(Instant::from_std(until)),
            }
        }
    }

    fn release_memory(&mut self) {
        self.session.release_memory();
        self.frames.release_memory();
        self.outbox.release_memory();
        self.inboxes.iter().for_each(|inbox| inbox.release_memory());
    }

    /// Has the message rates hold that are in force now.
    fn set_rates(&mut self) {
        for place in 0..self.inboxes.len() {
            let rate = self.peer.rate_of(place);
            if self.session.rate(place) != rate {
                self.session.set_rate(place, rate, Instant::now().into_std());
            }
        }
    }

    /// The application wants to know the round-trip time.
    fn ping(&mut self) {
        if self.session.ping(Instant::now().into_std()) {
            self.send_ping();
        }
    }

    fn send_ping(&mut self) {
        self.is_ping_queued = true;
        self.outbox.ping();
    }

    fn note_ping(&mut self) {
        if let Some(written) = self.outbox.take_ping_written() {
            self.is_ping_queued = false;
            self.session.ping_written(written.into_std());
        }
    }

    /// Waits for a place for what a larger frame holds, and charges the account for it: it is decompressed only then, as
    /// few bytes can hold much. Returns what was charged.
    async fn reserve(&mut self, content: &Bytes, now: &mut Instant) -> Result<usize, PeerError> {
        let Some((place, size)) = self.session.announced(content) else { return Ok(0) };
        if !self.inboxes[place].has_room(size) {
            self.room(place, size, now).await?;
        }
        self.charge(size, now).await;
        Ok(size)
    }

    /// Puts a message into its inbox, for which so much has been charged already. While that is full, or the memory for
    /// all peers is used up, nothing is read from this peer.
    async fn deliver(
        &mut self,
        place: usize,
        message: Message,
        reserved: usize,
        now: &mut Instant,
    ) -> Result<(), PeerError> {
        let size = message.payload.len();
        if reserved < size {
            self.charge(size - reserved, now).await;
        }
        let mut offered = self.inboxes[place].offer(message);
        while let Err(refused) = offered {
            self.room(place, size, now).await?;
            offered = self.inboxes[place].offer(refused);
        }
        Ok(())
    }

    /// Has messages in chunks that are not whole count like those that wait for a handler. A piece is never waited for:
    /// who waits could not finish what it holds.
    fn charge_chunks(&mut self) {
        let held = self.session.unfinished_bytes();
        let before = std::mem::replace(&mut self.chunk_bytes, held);
        match held.checked_sub(before) {
            Some(more) => self.account.charge_anyway(more),
            None => self.account.discharge(before - held),
        }
    }

    /// Charges the peer's account for what has come, waiting if the memory for all peers is used up.
    async fn charge(&mut self, bytes: usize, now: &mut Instant) {
        if !self.account.try_charge(bytes) {
            self.flush_counts();
            let since = Instant::now();
            self.account.charge(bytes, self.stall_timeout).await;
            self.excuse(now, since);
        }
    }

    /// Waits for a place in an inbox.
    async fn room(&mut self, place: usize, size: usize, now: &mut Instant) -> Result<(), PeerError> {
        self.flush_counts();
        let since = Instant::now();
        if let Err(Stalled) = self.inboxes[place].room(size, self.stall_timeout).await {
            let capability = self.session.shared()[place].capability.clone();
            return Err(PeerError::HandlerStalled { capability, limit: self.stall_timeout });
        }
        self.excuse(now, since);
        Ok(())
    }

    /// Adds what has been counted to the meters: at the end of what was read, and before what may take long.
    pub(super) fn flush_counts(&mut self) {
        self.run.flush(&self.meters);
    }

    /// Nothing was read since then because this end did not.
    fn excuse(&mut self, now: &mut Instant, since: Instant) {
        *now = Instant::now();
        self.session.excuse(now.duration_since(since));
    }

    /// How many bytes to read at a time.
    fn step(&self) -> usize {
        self.shapers.iter().map(|shapers| shapers.inbound.step()).min().unwrap_or(usize::MAX)
    }

    /// Waits until as many bytes as were read are within the rates.
    async fn shape(&mut self, mut bytes: usize) {
        if !self.shapers.iter().any(|shapers| shapers.inbound.is_limited()) {
            return;
        }
        let since = Instant::now();
        let [peer, server] = &self.shapers;
        while bytes > 0 {
            bytes -= self.paid.pass([&peer.inbound, &server.inbound], bytes).await;
        }
        self.excuse(&mut Instant::now(), since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p2p::{BaseMessage, FIRST_FRAME_LIMIT, Hello, MessageId, P2P_VERSION};
    use crate::{Capability, NodeKey, testing};

    #[tokio::test(start_paused = true)]
    async fn the_next_ping_does_not_wait_for_the_deadline_of_a_pong_that_has_come() {
        let (protocol, _opened) = testing::manual("test", 1, 1);
        let key = NodeKey::random();
        let mut scripted = testing::script(testing::node().protocol(protocol), &key).await;
        let hello = Hello {
            version: P2P_VERSION,
            client_id: "scripted".into(),
            capabilities: vec![Capability::new("test", 1).unwrap()],
            listen_port: 0,
            public_key: key.public_key(),
        };
        scripted.connection.send_hello(&hello).await.unwrap();
        scripted.connection.recv_hello(&key.public_key()).await.unwrap();
        for _ in 0..3 {
            let since = Instant::now();
            let mut content = scripted.connection.recv_frame(FIRST_FRAME_LIMIT).await.unwrap();
            assert_eq!(MessageId::take(&mut content), Some(MessageId::PING), "R24");
            assert_eq!(since.elapsed().as_secs(), 15, "R24");
            scripted.connection.send_base(BaseMessage::Pong).await.unwrap();
        }
    }
}
