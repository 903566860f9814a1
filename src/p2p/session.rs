//! One connection after the handshake: frames and the time in, events out.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::bucket::TokenBucket;
use super::capability::{Capability, FIRST_ID, Registered, SharedCapabilities};
use super::disconnect::DisconnectReason;
use super::hello::{Hello, HelloError, MAX_BASE_MESSAGE_SIZE, SNAPPY_VERSION};
use super::liveness::{Liveness, LivenessSettings, TimerAction};
use super::message::{MAX_ID_LEN, MessageId};
use super::round_trip::RoundTrip;
use crate::node::PublicKey;
use crate::rlpx::{Decompressor, MAX_FRAME_SIZE, SnappyError, max_compressed_len};

/// How many messages of the base protocol a peer may send at once, and how often one more.
const BASE_BURST: u32 = 64;
const BASE_INTERVAL: Duration = Duration::from_millis(100);

/// What a peer did that ends the session, or failed to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The other end sent Disconnect, with the reason that could be made out.
    #[error("the other end disconnected: {}", .0.as_ref().map_or("no reason given".to_owned(), ToString::to_string))]
    Disconnected(Option<DisconnectReason>),
    /// A frame does not begin with a message id.
    #[error("a frame does not begin with a message id")]
    InvalidMessageId,
    /// The first message is neither Hello nor Disconnect.
    #[error("the first message has id {id:#x}, which is neither Hello nor Disconnect")]
    ExpectedHello {
        /// Its id.
        id: u64,
    },
    /// The Hello is not acceptable.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// A second Hello.
    #[error("a second Hello")]
    UnexpectedHello,
    /// No capability is shared.
    #[error("no capability is shared")]
    NoSharedCapability,
    /// A message of the base protocol above 2 KiB.
    #[error("a base protocol message of {size} bytes, where the limit is {MAX_BASE_MESSAGE_SIZE}")]
    BaseMessageTooLarge {
        /// Its size.
        size: usize,
    },
    /// More messages of the base protocol than are allowed.
    #[error("too many base protocol messages")]
    BaseMessageFlood,
    /// A message id that belongs to no shared capability.
    #[error("the message id {id:#x} belongs to no shared capability")]
    UnknownMessageId {
        /// The id.
        id: u64,
    },
    /// An uncompressed message is larger than its protocol allows.
    #[error("a message of {size} bytes for {capability}, where the limit is {limit}")]
    MessageTooLarge {
        /// The protocol it is for.
        capability: Capability,
        /// Its size.
        size: usize,
        /// The protocol's limit.
        limit: usize,
    },
    /// A compressed message is damaged or declares a size that its protocol does not allow.
    #[error("a message for {capability} does not decompress")]
    Snappy {
        /// The protocol it is for.
        capability: Capability,
        /// What is wrong.
        source: SnappyError,
    },
    /// No Pong in time.
    #[error("no Pong within {limit:?}")]
    PingTimeout {
        /// The limit in force.
        limit: Duration,
    },
    /// A frame that had begun was not whole in time.
    #[error("a frame was not complete within {limit:?}")]
    FrameTimeout {
        /// The limit in force.
        limit: Duration,
    },
    /// Not a byte in time.
    #[error("no inbound byte for {limit:?}")]
    IdleTimeout {
        /// The limit in force.
        limit: Duration,
    },
}

impl SessionError {
    /// What the other end is told; `None` when nothing is to be said.
    pub fn disconnect_reason(&self) -> Option<DisconnectReason> {
        use DisconnectReason::{NetworkError, PingTimeout, ProtocolError, UselessPeer};
        match self {
            Self::Disconnected(_) => None,
            Self::Hello(error) => Some(error.disconnect_reason()),
            Self::NoSharedCapability => Some(UselessPeer),
            Self::PingTimeout { .. } => Some(PingTimeout),
            Self::FrameTimeout { .. } | Self::IdleTimeout { .. } => Some(NetworkError),
            Self::InvalidMessageId
            | Self::ExpectedHello { .. }
            | Self::UnexpectedHello
            | Self::BaseMessageTooLarge { .. }
            | Self::BaseMessageFlood
            | Self::UnknownMessageId { .. }
            | Self::MessageTooLarge { .. }
            | Self::Snappy { .. } => Some(ProtocolError),
        }
    }
}

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
    frame_limit: usize,
    decompressor: Option<Decompressor>,
    liveness: Liveness,
    base_rate: TokenBucket,
    unsolicited_pongs: u64,
}

impl Session {
    /// Begins a session with the node that sent `remote`. `registered` is what this end has offered in its own Hello
    /// of version 5.
    ///
    /// Sharing nothing is not an error here: crawlers do not mind. A server ends it with
    /// [`SessionError::NoSharedCapability`].
    pub fn new(remote: Hello, registered: &[Registered], liveness: LivenessSettings, now: Instant) -> Self {
        let shared = SharedCapabilities::negotiate(registered, &remote.capabilities);
        let decompressor = (remote.version >= SNAPPY_VERSION).then(Decompressor::default);
        let largest = shared.iter().map(|shared| shared.max_message_size).max().unwrap_or(0);
        let largest = largest.max(MAX_BASE_MESSAGE_SIZE);
        let on_wire = if decompressor.is_some() { max_compressed_len(largest) } else { largest };
        Self {
            remote,
            shared,
            frame_limit: (on_wire + MAX_ID_LEN).min(MAX_FRAME_SIZE),
            decompressor,
            liveness: Liveness::new(liveness, now),
            base_rate: TokenBucket::new(BASE_BURST, BASE_INTERVAL),
            unsolicited_pongs: 0,
        }
    }

    /// What the other end says of itself.
    pub fn remote(&self) -> &Hello {
        &self.remote
    }

    /// The subprotocols that both ends have.
    pub fn shared(&self) -> &SharedCapabilities {
        &self.shared
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
        let unknown = SessionError::UnknownMessageId { id: id.value() };
        let (place, code) = self.shared.locate(id).ok_or(unknown)?;
        let payload = self.open_payload(place, content)?;
        Ok(Event::Message { place, code, payload })
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

    fn open_payload(&mut self, place: usize, data: Bytes) -> Result<Bytes, SessionError> {
        let protocol = &self.shared[place];
        let limit = protocol.max_message_size;
        match &mut self.decompressor {
            Some(decompressor) => decompressor
                .decompress(&data, limit)
                .map_err(|source| SessionError::Snappy { capability: protocol.capability.clone(), source }),
            None if data.len() > limit => {
                Err(SessionError::MessageTooLarge { capability: protocol.capability.clone(), size: data.len(), limit })
            }
            None => Ok(data),
        }
    }

    /// Notes that bytes have come, though perhaps not a whole frame.
    pub fn inbound(&mut self, now: Instant) {
        self.liveness.inbound(now);
    }

    /// Notes, when every whole frame of what came has been received, whether a further one has begun. Its deadline runs
    /// from the first call that says so. Returns the time by which it must be whole, at which [`Session::poll`] is to be
    /// called.
    pub fn frame_pending(&mut self, now: Instant, is_pending: bool) -> Option<Instant> {
        self.liveness.frame_pending(now, is_pending)
    }

    /// Notes that nothing was read for `pause` because this end did not read: no deadline runs in that time.
    pub fn excuse(&mut self, pause: Duration) {
        self.liveness.excuse(pause);
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
    /// [`SessionError::PingTimeout`], [`SessionError::FrameTimeout`] and [`SessionError::IdleTimeout`]; the session is over then.
    pub fn poll(&mut self, now: Instant) -> Result<TimerAction, SessionError> {
        self.liveness.poll(now)
    }
}
