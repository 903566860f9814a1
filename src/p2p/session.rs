//! One connection after the handshake: frames and the time in, events out.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::bucket::TokenBucket;
use super::capability::{FIRST_ID, Registered, Shared, SharedCapabilities};
use super::chunk::{ChunkError, Chunking, Reassembly, Whole};
use super::disconnect::DisconnectReason;
use super::error::SessionError;
use super::hello::{Hello, MAX_BASE_MESSAGE_SIZE, SNAPPY_VERSION};
use super::liveness::{Liveness, TimerAction};
use super::message::{MAX_ID_LEN, MessageId};
use super::rate::{Exceeded, RateLimit, RateLimiter};
use super::round_trip::RoundTrip;
use super::settings::SessionSettings;
use crate::node::PublicKey;
use crate::rlpx::{Decompressor, MAX_FRAME_SIZE, max_compressed_len};

/// How many messages of the base protocol a peer may send at once, and how often one more.
const BASE_BURST: u32 = 64;
const BASE_INTERVAL: Duration = Duration::from_millis(100);

/// What a frame means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message for a subprotocol.
    Message {
        /// The protocol's place in [`Session::shared`].
        place: usize,
        /// The code, relative to the protocol.
        code: u64,
        /// The data, uncompressed.
        payload: Bytes,
    },
    /// A part of a message, which is delivered when it is whole.
    Chunk {
        /// The place of the message's protocol in [`Session::shared`].
        place: usize,
    },
    /// A Ping: a Pong is to be sent.
    Ping,
    /// A Pong, and how long it took; `None` when nobody asked for it. [`Session::round_trip`] has counted it.
    Pong(Option<Duration>),
    /// A message of the base protocol that has no meaning yet.
    Ignored,
}

/// The size that the first frame of either end may have: a Hello of 2 KiB and its id.
pub const FIRST_FRAME_LIMIT: usize = MAX_BASE_MESSAGE_SIZE + 1;

/// Reads the first message that the other end sends, which must be its Hello.
///
/// # Errors
/// [`SessionError`], [`SessionError::Disconnected`] among it: a node may refuse a connection before its Hello.
pub fn receive_hello(mut content: Bytes, own: &PublicKey, remote: &PublicKey) -> Result<Hello, SessionError> {
    match MessageId::take(&mut content).ok_or(SessionError::InvalidMessageId)? {
        MessageId::HELLO if content.len() > MAX_BASE_MESSAGE_SIZE => {
            Err(SessionError::BaseMessageTooLarge { size: content.len() })
        }
        MessageId::HELLO => Ok(Hello::decode(&content, own, remote)?),
        MessageId::DISCONNECT => Err(SessionError::Disconnected(DisconnectReason::from_data(&content))),
        id => Err(SessionError::ExpectedHello { id: id.value() }),
    }
}

/// A session: both Hellos are exchanged.
///
/// It is given the content of each frame and the time, and says what follows. What is to be sent goes through a
/// [`MessageEncoder`](super::MessageEncoder).
#[derive(Debug)]
pub struct Session {
    remote: Hello,
    shared: SharedCapabilities,
    chunks: Option<Reassembly>,
    frame_limit: usize,
    decompressor: Option<Decompressor>,
    liveness: Liveness,
    base_rate: TokenBucket,
    /// By place; as long as there are limits.
    rates: Vec<Option<RateLimiter>>,
    unsolicited_pongs: u64,
}

impl Session {
    /// Begins a session with the node that sent `remote`. `registered` is what this end offers, has passed
    /// [`SessionSettings::check_protocols`], and was in its own Hello of version 5 as
    /// [`SessionSettings::capabilities`].
    ///
    /// Sharing nothing is not an error here: crawlers do not mind. A server ends it with
    /// [`SessionError::NoSharedCapability`].
    pub fn new(remote: Hello, registered: &[Registered], settings: SessionSettings, now: Instant) -> Self {
        let hidden = settings.hidden();
        let (shared, hidden) = SharedCapabilities::negotiate_with(registered, hidden.as_ref(), &remote.capabilities);
        let decompressor = (remote.version >= SNAPPY_VERSION).then(Decompressor::default);
        let largest = shared.iter().chain(&hidden).map(|shared| shared.max_message_size).max().unwrap_or(0);
        let largest = largest.max(MAX_BASE_MESSAGE_SIZE);
        let on_wire = if decompressor.is_some() { max_compressed_len(largest) } else { largest };
        let rates = match shared.iter().any(|shared| shared.rate.is_some()) {
            true => shared.iter().map(|shared| shared.rate.map(RateLimiter::new)).collect(),
            false => Vec::new(),
        };
        Self {
            remote,
            shared,
            chunks: hidden.map(Reassembly::new),
            frame_limit: (on_wire + MAX_ID_LEN).min(MAX_FRAME_SIZE),
            decompressor,
            liveness: Liveness::new(settings.liveness_settings(), now),
            base_rate: TokenBucket::new(BASE_BURST, BASE_INTERVAL),
            rates,
            unsolicited_pongs: 0,
        }
    }

    /// What the other end says of itself.
    pub fn remote(&self) -> &Hello {
        &self.remote
    }

    /// The subprotocols that both ends have. Chunking is not among them.
    pub fn shared(&self) -> &SharedCapabilities {
        &self.shared
    }

    /// How to send messages in chunks; `None` when one of the ends does not do that.
    pub fn chunking(&self) -> Option<Chunking> {
        self.chunks.as_ref().map(|chunks| chunks.chunking)
    }

    /// How many bytes are held of messages in chunks that are not whole yet.
    pub fn unfinished_bytes(&self) -> usize {
        self.chunks.as_ref().map_or(0, Reassembly::unfinished_bytes)
    }

    /// Whether messages are compressed, in both directions.
    pub fn is_compressed(&self) -> bool {
        self.decompressor.is_some()
    }

    /// The largest content of a frame that can be meant well, for [`Ingress::open`](crate::rlpx::Ingress::open).
    pub fn frame_limit(&self) -> usize {
        self.frame_limit
    }

    /// How many Pongs have come that nobody asked for.
    pub fn unsolicited_pongs(&self) -> u64 {
        self.unsolicited_pongs
    }

    /// The place of the protocol for which the message in a frame is, and how large its data says to be uncompressed;
    /// `None` when it is for none, or its size cannot be told. So a place can be waited for before memory is taken.
    pub fn announced(&self, content: &Bytes) -> Option<(usize, usize)> {
        let mut data = content.clone();
        let (place, _) = self.shared.locate(MessageId::take(&mut data)?)?;
        let limit = self.shared[place].max_message_size;
        let size = if self.is_compressed() { Decompressor::declared_len(&data, limit).ok()? } else { data.len() };
        Some((place, size))
    }

    /// Says what a frame means. A payload is decompressed only when it is delivered, after its declared size was
    /// found to be within the limit of its protocol.
    ///
    /// # Errors
    /// [`SessionError`]; the session is over then.
    pub fn receive(&mut self, mut content: Bytes, now: Instant) -> Result<Event, SessionError> {
        self.liveness.frame_complete(now);
        let id = MessageId::take(&mut content).ok_or(SessionError::InvalidMessageId)?;
        if id.value() < FIRST_ID {
            return self.receive_base(id, &content, now);
        }
        let Some((place, code)) = self.shared.locate(id) else { return self.receive_chunk(id, content, now) };
        if let Some(chunks) = &self.chunks {
            chunks.check_free(place, &self.shared)?;
        }
        let payload = open_payload(&mut self.decompressor, &self.shared[place], content)?;
        Ok(Event::Message { place, code, payload })
    }

    /// Takes a message that is none of a protocol: a chunk of one, if it is anything.
    fn receive_chunk(&mut self, id: MessageId, content: Bytes, now: Instant) -> Result<Event, SessionError> {
        let chunks = self.chunks.as_mut().filter(|chunks| chunks.chunking.is_chunk(id));
        let chunks = chunks.ok_or(SessionError::UnknownMessageId { id: id.value() })?;
        let data = open_payload(&mut self.decompressor, &chunks.shared, content)?;
        Ok(match chunks.receive(id, &data, &self.shared, now)? {
            (_, Some(Whole { place, code, payload })) => Event::Message { place, code, payload },
            (place, None) => Event::Chunk { place },
        })
    }

    fn receive_base(&mut self, id: MessageId, data: &[u8], now: Instant) -> Result<Event, SessionError> {
        if id == MessageId::DISCONNECT {
            return Err(SessionError::Disconnected(DisconnectReason::from_data(data)));
        }
        if data.len() > MAX_BASE_MESSAGE_SIZE {
            return Err(SessionError::BaseMessageTooLarge { size: data.len() });
        }
        if !self.base_rate.admit(now) {
            return Err(SessionError::BaseMessageFlood);
        }
        match id {
            MessageId::HELLO => Err(SessionError::UnexpectedHello),
            MessageId::PING => Ok(Event::Ping),
            MessageId::PONG => {
                let round_trip = self.liveness.pong(now);
                self.unsolicited_pongs += u64::from(round_trip.is_none());
                Ok(Event::Pong(round_trip))
            }
            _ => Ok(Event::Ignored),
        }
    }

    /// Counts a message that came for the protocol at this place, against its rate. Returns how long reading from this
    /// peer is to pause after it, if it is over the rate: the message is to be delivered all the same. What the pause
    /// takes is to be [excused](Session::excuse).
    ///
    /// # Errors
    /// [`SessionError::RateExceeded`] when the peer has kept the bucket empty for
    /// [`RATE_PATIENCE`](super::RATE_PATIENCE); the session is over then.
    pub fn admit(&mut self, place: usize, now: Instant) -> Result<Option<Duration>, SessionError> {
        let Some(Some(limiter)) = self.rates.get_mut(place) else { return Ok(None) };
        limiter.admit(now).map_err(|Exceeded| SessionError::RateExceeded {
            capability: self.shared[place].capability.clone(),
            limit: limiter.limit(),
        })
    }

    /// The message rate of the protocol at this place; `None` without a limit.
    pub fn rate(&self, place: usize) -> Option<RateLimit> {
        self.rates.get(place)?.as_ref().map(RateLimiter::limit)
    }

    /// Changes the message rate of the protocol at this place; `None` lifts the limit. What a peer has used up under
    /// one limit stays used up under the next.
    pub fn set_rate(&mut self, place: usize, limit: Option<RateLimit>, now: Instant) {
        if self.rates.len() <= place {
            self.rates.resize_with(place + 1, || None);
        }
        match (&mut self.rates[place], limit) {
            (Some(limiter), Some(limit)) => limiter.set(limit, now),
            (limiter, limit) => *limiter = limit.map(RateLimiter::new),
        }
    }

    /// Notes that bytes have come, though perhaps not a whole frame.
    pub fn inbound(&mut self, now: Instant) {
        self.liveness.inbound(now);
    }

    /// Notes, when every whole frame of what came has been received, whether a further one has begun. Its deadline runs
    /// from the first call that says so. Returns the time by which it must be whole, at which [`Session::poll`] is to
    /// be called.
    pub fn frame_pending(&mut self, now: Instant, is_pending: bool) -> Option<Instant> {
        self.liveness.frame_pending(now, is_pending)
    }

    /// Notes that nothing was read for `pause` because this end did not read: no deadline runs in that time.
    pub fn excuse(&mut self, pause: Duration) {
        self.liveness.excuse(pause);
        if let Some(chunks) = &mut self.chunks {
            chunks.excuse(pause);
        }
    }

    /// Gives back the memory that is kept for the next message. It is taken again when one comes, so this is for a peer
    /// that has been silent for a while.
    pub fn release_memory(&mut self) {
        if let Some(decompressor) = &mut self.decompressor {
            decompressor.release();
        }
    }

    /// Notes that a Ping is to be sent because somebody asks for it; `false` when one is outstanding, be it by
    /// [`TimerAction::Ping`]: another must not be sent then, and the Pong that is waited for answers both.
    pub fn ping(&mut self, now: Instant) -> bool {
        self.liveness.ping(now)
    }

    /// Notes that the Ping was written: its time and the deadline of its Pong run from here. [`Session::poll`] is to be
    /// called again. A Pong may have come before; then there is nothing to note.
    ///
    /// Before it is written its Pong has no deadline. A write that stalls needs one elsewhere.
    pub fn ping_written(&mut self, at: Instant) {
        self.liveness.ping_written(at);
    }

    /// How long Pings have taken so far; `None` before the first Pong.
    pub fn round_trip(&self) -> Option<RoundTrip> {
        self.liveness.round_trip()
    }

    /// Says what the clock asks for at `now`.
    ///
    /// # Errors
    /// [`SessionError::PingTimeout`], [`SessionError::FrameTimeout`] and [`SessionError::IdleTimeout`]; the session is
    /// over then.
    pub fn poll(&mut self, now: Instant) -> Result<TimerAction, SessionError> {
        let deadline = self.chunks.as_ref().and_then(Reassembly::deadline);
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Err(ChunkError::Overdue.into());
        }
        Ok(match self.liveness.poll(now)? {
            TimerAction::Wait(until) => TimerAction::Wait(deadline.map_or(until, |deadline| deadline.min(until))),
            action => action,
        })
    }
}

/// The data of a message for this protocol, uncompressed. Its declared size is checked first.
fn open_payload(
    decompressor: &mut Option<Decompressor>,
    protocol: &Shared,
    data: Bytes,
) -> Result<Bytes, SessionError> {
    let limit = protocol.max_message_size;
    match decompressor {
        Some(decompressor) => decompressor
            .decompress(&data, limit)
            .map_err(|source| SessionError::Snappy { capability: protocol.capability.clone(), source }),
        None if data.len() > limit => {
            Err(SessionError::MessageTooLarge { capability: protocol.capability.clone(), size: data.len(), limit })
        }
        None => Ok(data),
    }
}
