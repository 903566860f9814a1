//! A session, driven by a list of operations and compared with a small model of what it must do.

use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};
use bytes::{Bytes, BytesMut};

use super::choice;
use super::chunks::Chunks;
use super::clock::{Clock, FRAME_TIMEOUT};
use super::handshake::public_keys;
use super::messages::payload;
use super::rates::{BaseRate, MessageRate};
use crate::p2p::{
    BaseMessage, Capability, ChunkError, Event, Hello, LivenessSettings, MessageEncoder, MessageId, RateLimit,
    Registered, RoundTrip, Session, SessionError, SessionSettings, TimerAction,
};
use crate::rlpx::{Compressor, Ingress, inside};

/// A session in virtual time. It delivers exactly the messages that were meant for it, keeps to the sizes and rates
/// that it promises, and its clock does what the settings say. Returns how many messages were delivered.
///
/// The input: the version and the capabilities of the other end (1 byte each), three settings of the clock (1 byte
/// each), and operations of a byte and what belongs to it.
pub fn session(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let mut driver = Driver::new(input)?;
    // One error ends the session.
    while !input.is_empty() && driver.step(input)? {}
    Ok(driver.delivered)
}

/// The message rate of one of the protocols.
const RATE: u32 = 2;
const BURST: u32 = 3;

/// What this end offers.
fn registered() -> Vec<Registered> {
    [("bzz", 1, 3, 64), ("eth", 68, 17, 1000), ("eth", 69, 18, 2000)]
        .map(|(name, version, length, max_message_size)| Registered {
            capability: Capability::new(name, version).expect("the name is valid"),
            length,
            max_message_size,
            rate: (name == "bzz").then(|| RateLimit::new(RATE, BURST).expect("neither is 0")),
        })
        .into()
}

/// What this end is set to, apart from its clock.
fn settings() -> SessionSettings {
    SessionSettings::default().chunking(true)
}

/// A Hello that offers of `registered`, and of chunking, what `offered` has a bit for.
fn remote_hello(version: u64, offered: u8) -> Hello {
    let all = settings().capabilities(&registered()).into_iter().enumerate();
    let capabilities = all.filter(|(index, _)| offered & 1 << index != 0).map(|(_, capability)| capability).collect();
    Hello { version, client_id: "fuzz".into(), capabilities, listen_port: 0, public_key: public_keys().1 }
}

struct Driver {
    session: Session,
    /// The other end's half of the encryption, and ours.
    encoder: MessageEncoder,
    ingress: Ingress,
    now: Instant,
    clock: Clock,
    base: BaseRate,
    chunks: Chunks,
    /// Of the protocol that has a rate.
    rate: MessageRate,
    round_trip: Option<RoundTrip>,
    delivered: usize,
}

impl Driver {
    fn new(input: &mut Unstructured<'_>) -> Result<Self> {
        let hello = remote_hello(4 + u64::from(choice(input, 3)?), choice(input, 16)?);
        let mut seconds = || Ok(Duration::from_secs(1 + u64::from(input.arbitrary::<u8>()?)));
        let (ping_after, pong_timeout) = (seconds()?, seconds()?);
        let idle_timeout = ping_after + pong_timeout + seconds()?;
        let now = Instant::now();
        let clock = Clock::new([ping_after, pong_timeout, idle_timeout], now);
        let settings = LivenessSettings::default()
            .ping_after(ping_after)
            .pong_timeout(pong_timeout)
            .idle_timeout(idle_timeout)
            .frame_timeout(FRAME_TIMEOUT);
        assert_eq!(settings.check(), Ok(()));
        let (egress, ingress) = inside::direction();
        let session = Session::new(hello, &registered(), self::settings().liveness(settings), now);
        let mut encoder = MessageEncoder::new(egress);
        if session.is_compressed() {
            encoder.enable_snappy();
        }
        Ok(Self {
            session,
            encoder,
            ingress,
            now,
            clock,
            base: BaseRate::new(now),
            chunks: Chunks::default(),
            rate: MessageRate::new(registered()[0].rate, now),
            round_trip: None,
            delivered: 0,
        })
    }

    /// Does one operation and tells whether the session goes on.
    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<bool> {
        match choice(input, 15)? {
            0 | 1 => self.message(input),
            2 => self.damaged_message(input),
            3 => self.base_message(input),
            4 => {
                let content = Bytes::copy_from_slice(payload(input)?);
                let outcome = self.receive(content);
                Ok(self.check_any(outcome))
            }
            9 => Ok(self.poll()),
            12 => self.chunk(input),
            13 => self.set_rate(input).map(|()| true),
            14 => {
                self.session.release_memory();
                Ok(true)
            }
            operation => self.tell_clock(operation, input).map(|()| true),
        }
    }

    /// Time passes, or something happens that the clock is told of.
    fn tell_clock(&mut self, operation: u8, input: &mut Unstructured<'_>) -> Result<()> {
        match operation {
            5 => self.now += Duration::from_millis(u64::from(u16::from_be_bytes(input.arbitrary()?))),
            6 => {
                let pause = Duration::from_millis(u64::from(u16::from_be_bytes(input.arbitrary()?)));
                self.pause(pause);
            }
            7 => {
                self.session.inbound(self.now);
                self.clock.last_inbound = self.now;
            }
            8 => {
                let expected = self.clock.ping(self.now);
                assert_eq!(self.session.ping(self.now), expected, "two Pings outstanding, or none allowed");
            }
            10 => {
                self.session.ping_written(self.now);
                self.clock.ping_written(self.now);
            }
            _ => {
                let begun = choice(input, 2)? == 1;
                let limit = self.clock.frame_pending(self.now, begun);
                assert_eq!(self.session.frame_pending(self.now, begun), limit);
            }
        }
        Ok(())
    }

    fn poll(&mut self) -> bool {
        let polled = self.session.poll(self.now);
        assert_eq!(polled, self.expected_poll());
        match polled {
            Ok(TimerAction::Wait(until)) => assert!(until > self.now, "a deadline that has passed"),
            Ok(TimerAction::Ping) => assert!(!self.session.ping(self.now), "the Ping is not outstanding"),
            Err(error) => {
                assert!(error.disconnect_reason().is_some());
                return false;
            }
        }
        true
    }

    fn expected_poll(&mut self) -> std::result::Result<TimerAction, SessionError> {
        let deadline = self.chunks.deadline();
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            return Err(ChunkError::Overdue.into());
        }
        Ok(match (self.clock.poll(self.now)?, deadline) {
            (TimerAction::Wait(until), Some(deadline)) => TimerAction::Wait(until.min(deadline)),
            (action, _) => action,
        })
    }

    /// A message as the other end would send it: delivered as it is, or refused for its id or its size.
    fn message(&mut self, input: &mut Unstructured<'_>) -> Result<bool> {
        let id = MessageId::new(0x10 + u64::from(input.arbitrary::<u8>()? % 48));
        let data = payload(input)?;
        let content = self.seal(|encoder, wire| encoder.message(id, data, wire).expect("it fits a frame"));
        let located = self.session.shared().locate(id);
        let outcome = self.receive(content);
        if self.session.chunking().is_some_and(|chunking| chunking.is_chunk(id)) {
            return Ok(self.check_any(outcome));
        }
        let Some((place, code)) = located else {
            assert_eq!(outcome, Err(SessionError::UnknownMessageId { id: id.value() }));
            return Ok(false);
        };
        if self.chunks.is_in_progress(place) {
            assert!(matches!(outcome, Err(SessionError::Chunk(ChunkError::Interrupted { .. }))));
            return Ok(false);
        }
        let limit = self.session.shared()[place].max_message_size;
        if data.len() > limit {
            let refused = matches!(outcome, Err(SessionError::MessageTooLarge { .. } | SessionError::Snappy { .. }));
            assert!(refused, "{} bytes, where the limit is {limit}", data.len());
            return Ok(false);
        }
        assert_eq!(outcome, Ok(Event::Message { place, code, payload: Bytes::copy_from_slice(data) }));
        self.delivered += 1;
        Ok(self.admit(place))
    }

    /// A chunk as the other end would send it, or as none would: the message is delivered when it is whole, and no breach
    /// is overlooked.
    fn chunk(&mut self, input: &mut Unstructured<'_>) -> Result<bool> {
        let (is_first, id) = (choice(input, 2)? == 0, MessageId::new(u64::from(input.arbitrary::<u8>()? % 64)));
        let (size, piece) = (usize::from(u16::from_be_bytes(input.arbitrary()?)), payload(input)?);
        let Some(chunking) = self.session.chunking() else { return Ok(true) };
        let mut data = BytesMut::new();
        let chunk = match is_first {
            true => chunking.encode_first(id, size, piece, &mut data),
            false => chunking.encode_more(id, piece, &mut data),
        };
        let expected = self.chunks.receive(self.session.shared(), id, is_first.then_some(size), piece, self.now);
        let content = self.seal(|encoder, wire| encoder.message(chunk, &data, wire).expect("it fits a frame"));
        match self.receive(content) {
            Ok(Event::Message { place, code, payload }) => {
                assert_eq!(expected, Some((place, Some((code, payload)))));
                self.delivered += 1;
                Ok(self.admit(place))
            }
            Ok(event) => {
                let Some((place, None)) = expected else { panic!("{event:?} instead of {expected:?}") };
                assert_eq!(event, Event::Chunk { place });
                Ok(true)
            }
            Err(error) => {
                assert!(matches!(error, SessionError::Chunk(_)) && expected.is_none(), "{error:?}");
                Ok(false)
            }
        }
    }

    /// Counts a message against the rate of its protocol, and pauses as long as that asks for.
    fn admit(&mut self, place: usize) -> bool {
        let admitted = self.session.admit(place, self.now);
        if self.session.shared()[place].rate.is_none() {
            assert_eq!(admitted, Ok(None));
            return true;
        }
        let counted = self.rate.counted(admitted, self.now);
        counted.map(|pause| self.pause(pause)).is_ok()
    }

    /// Another rate from now on, or none.
    fn set_rate(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let limit = RateLimit::new(choice(input, 16)?.into(), choice(input, 8)?.into()).ok();
        if let Some(place) = self.session.shared().iter().position(|shared| shared.rate.is_some()) {
            self.session.set_rate(place, limit, self.now);
            self.rate = MessageRate::new(limit, self.now);
            assert_eq!(self.session.rate(place), self.rate.limit());
        }
        Ok(())
    }

    /// Nothing is read for a while; when that is over it is reported.
    fn pause(&mut self, pause: Duration) {
        self.now += pause;
        self.session.excuse(pause);
        self.clock.excuse(pause);
        self.chunks.excuse(pause);
    }

    /// A message whose compressed form was changed: delivered within the limit, or refused.
    fn damaged_message(&mut self, input: &mut Unstructured<'_>) -> Result<bool> {
        let id = MessageId::new(0x10 + u64::from(input.arbitrary::<u8>()? % 24));
        let mut compressed = BytesMut::new();
        Compressor::default().compress(payload(input)?, &mut compressed);
        let place = usize::from(u16::from_be_bytes(input.arbitrary()?)) % compressed.len();
        compressed[place] ^= input.arbitrary::<u8>()?;
        let content = self.seal(|encoder, wire| encoder.seal_plain(id, &compressed, wire).expect("it fits a frame"));
        let outcome = self.receive(content);
        Ok(self.check_any(outcome))
    }

    fn base_message(&mut self, input: &mut Unstructured<'_>) -> Result<bool> {
        let (kind, code) = (choice(input, 4)?, input.arbitrary()?);
        let message = match kind {
            0 => BaseMessage::Disconnect(crate::DisconnectReason::from_code(code)),
            1 => BaseMessage::Ping,
            _ => BaseMessage::Pong,
        };
        let content = self.seal(|encoder, wire| encoder.base(message, wire));
        let (asked, unsolicited) = (self.clock.ping_since, self.session.unsolicited_pongs());
        let outcome = self.receive(content);
        match (message, &outcome) {
            (BaseMessage::Disconnect(reason), _) => {
                // An end that compresses its Disconnect is understood as well.
                assert_eq!(outcome, Err(SessionError::Disconnected(Some(reason))));
            }
            (BaseMessage::Ping, Ok(event)) => assert_eq!(*event, Event::Ping),
            (BaseMessage::Pong, Ok(event)) => {
                let time = asked.map(|sent| self.now - sent);
                assert_eq!(*event, Event::Pong(time));
                self.learn_round_trip(time);
                assert_eq!(self.session.unsolicited_pongs(), unsolicited + u64::from(asked.is_none()));
            }
            (_, Err(error)) => assert_eq!(*error, SessionError::BaseMessageFlood),
        }
        Ok(self.check_any(outcome))
    }

    fn learn_round_trip(&mut self, time: Option<Duration>) {
        if let Some(time) = time {
            self.round_trip = Some(self.round_trip.map_or(RoundTrip::new(time), |before| before.and(time)));
        }
        assert_eq!(self.session.round_trip(), self.round_trip);
        let known = self.round_trip;
        assert!(known.is_none_or(|known| known.min <= known.last && known.min <= known.smoothed));
    }

    /// The content of a frame, after it went through the encryption.
    fn seal(&mut self, write: impl FnOnce(&mut MessageEncoder, &mut BytesMut)) -> Bytes {
        let mut wire = BytesMut::new();
        write(&mut self.encoder, &mut wire);
        let content = self.ingress.open(&mut wire, usize::MAX).expect("it was sealed for this end");
        content.expect("it is whole").freeze()
    }

    /// Gives a frame to the session, and to the model what it learns from that.
    fn receive(&mut self, content: Bytes) -> std::result::Result<Event, SessionError> {
        let announced = self.session.announced(&content);
        let fits = content.len() <= self.session.frame_limit();
        let outcome = self.session.receive(content, self.now);
        assert!(fits || outcome.is_err() || !self.session.is_compressed(), "a message that fits no frame");
        if let Ok(Event::Message { place, payload, .. }) = &outcome {
            let is_announced = announced == Some((*place, payload.len()));
            // What a chunk completes is announced by none.
            assert!(is_announced || announced.is_none() && self.session.chunking().is_some(), "{announced:?}");
        }
        (self.clock.last_inbound, self.clock.frame_since) = (self.now, None);
        match &outcome {
            Ok(Event::Ping | Event::Ignored) => self.base.admitted(self.now),
            Ok(Event::Pong(_)) => {
                self.base.admitted(self.now);
                self.clock.ping_since = None;
            }
            Ok(_) => {}
            Err(SessionError::BaseMessageFlood) => self.base.refused(),
            Err(error) => assert!(!error.to_string().contains(char::is_control), "control characters are shown"),
        }
        outcome
    }

    /// What holds for every outcome; tells whether the session goes on.
    fn check_any(&self, outcome: std::result::Result<Event, SessionError>) -> bool {
        if let Ok(Event::Message { place, code, payload }) = &outcome {
            let protocol = &self.session.shared()[*place];
            assert!(*code < protocol.length && payload.len() <= protocol.max_message_size);
            // What bytes of no known meaning have completed, the model does not know of.
            return !self.chunks.is_in_progress(*place);
        }
        outcome.is_ok_and(|event| !matches!(event, Event::Chunk { .. }))
    }
}
