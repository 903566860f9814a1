//! The base protocol `p2p`: Hello, capability negotiation, Disconnect, Ping and Pong (devp2p `rlpx.md`, "p2p
//! Capability"), as a state machine that is given frames and the time.
//!
//! [`Session`] says what a frame means; [`MessageEncoder`] turns messages into frames. Message ids are absolute here
//! and relative to a protocol everywhere else.

mod bucket;
mod capability;
pub(crate) mod chunk;
mod disconnect;
mod error;
mod hello;
mod liveness;
mod message;
mod rate;
mod round_trip;
mod session;
mod settings;

pub use capability::{
    Capability, InvalidCapability, MAX_NAME_LEN, Registered, RegistrationError, Shared, SharedCapabilities,
};
pub use chunk::{CHUNK_TIMEOUT, ChunkError, Chunking, MAX_CHUNK_SIZE};
pub use disconnect::DisconnectReason;
pub use error::SessionError;
pub use hello::{ClientId, Hello, HelloError, MAX_BASE_MESSAGE_SIZE, P2P_VERSION, SNAPPY_VERSION};
pub use liveness::{LivenessSettings, LivenessSettingsError, MAX_TIMEOUT, TimerAction};
pub use message::{BaseMessage, MAX_ID_LEN, MAX_MESSAGE_SIZE, MessageEncoder, MessageId};
pub use rate::{RATE_PATIENCE, RateLimit, RateLimitError};
pub use round_trip::RoundTrip;
pub use session::{Event, FIRST_FRAME_LIMIT, Session, receive_hello};
pub use settings::SessionSettings;
