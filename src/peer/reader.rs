//! The read loop of a peer: frames in, messages to the inboxes, Pongs and Pings to the outbox.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep_until, timeout};

use super::PeerInner;
use super::channel::Message;
use super::connection::FrameReader;
use super::ending::PeerError;
use super::outbox::Outbox;
use crate::p2p::{Event, Session, TimerAction};

pub(super) struct Reader {
    pub(super) frames: FrameReader,
    pub(super) session: Session,
    /// One for each shared protocol, in the order of [`Session::shared`].
    pub(super) inboxes: Vec<mpsc::Sender<Message>>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) peer: Arc<PeerInner>,
    pub(super) stall_timeout: Duration,
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

    async fn read(&mut self) -> Result<std::convert::Infallible, PeerError> {
        let mut timer = pin!(sleep_until(self.on_timer()?));
        loop {
            let mut now = Instant::now();
            let limit = self.session.frame_limit();
            let mut messages = 0;
            while let Some(content) = self.frames.next_frame(limit)? {
                let event = self.session.receive(content, now.into_std())?;
                let is_pong = matches!(event, Event::Pong(Some(_)));
                self.handle(event, &mut now).await?;
                if is_pong {
                    timer.as_mut().reset(self.on_timer()?);
                }
                messages += 1;
            }
            self.peer.traffic.messages_received(messages);
            let frame_limit = self.session.frame_pending(now.into_std(), self.frames.is_inside_frame());
            if frame_limit.is_some_and(|limit| Instant::from_std(limit) < timer.deadline()) {
                timer.as_mut().reset(self.on_timer()?);
            }
            tokio::select! {
                read = self.frames.fill() => {
                    self.peer.traffic.bytes_received(read?);
                    self.session.inbound(Instant::now().into_std());
                }
                () = &mut timer => timer.as_mut().reset(self.on_timer()?),
            }
        }
    }

    /// Does what the clock asks for, and returns when to ask again. It is not moved when bytes come: it then fires
    /// early, once, and finds nothing to do. A Pong does move it, as the next Ping may be due before that Pong was.
    fn on_timer(&mut self) -> Result<Instant, PeerError> {
        loop {
            match self.session.poll(Instant::now().into_std())? {
                TimerAction::Ping => {
                    self.outbox.ping();
                    self.session.ping_written(Instant::now().into_std());
                }
                TimerAction::Wait(until) => return Ok(Instant::from_std(until)),
            }
        }
    }

    /// `now` moves on if it has to wait.
    async fn handle(&mut self, event: Event, now: &mut Instant) -> Result<(), PeerError> {
        match event {
            Event::Message { place, code, payload } => self.deliver(place, Message::new(code, payload), now).await?,
            Event::Ping => self.outbox.pong(),
            Event::Pong(Some(round_trip)) => self.peer.set_round_trip(round_trip),
            Event::Pong(None) => self.peer.unsolicited_pong(),
            Event::Chunk { .. } | Event::Ignored => {}
        }
        Ok(())
    }

    /// Puts a message into its inbox. While that is full nothing is read from this peer.
    async fn deliver(&mut self, place: usize, message: Message, now: &mut Instant) -> Result<(), PeerError> {
        let inbox = &self.inboxes[place];
        let message = match inbox.try_send(message) {
            // A handler that has dropped its receiver wants no more messages.
            Ok(()) | Err(TrySendError::Closed(_)) => return Ok(()),
            Err(TrySendError::Full(message)) => message,
        };
        let since = Instant::now();
        let stalled = timeout(self.stall_timeout, inbox.send(message)).await.is_err();
        if stalled {
            let capability = self.session.shared()[place].capability.clone();
            return Err(PeerError::HandlerStalled { capability, limit: self.stall_timeout });
        }
        *now = Instant::now();
        self.session.excuse(now.duration_since(since));
        Ok(())
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
