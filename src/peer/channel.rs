//! The end of a connection that a handler holds: messages of its protocol, in and out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rlp::{Decodable, DecoderError, Encodable, Rlp};
use tokio::sync::mpsc;
use tokio_stream::Stream;

use super::outbox::{Outbox, Outgoing};
use crate::p2p::{Capability, MAX_ID_LEN, Shared};
use crate::rlp_list;
use crate::rlpx::{Compressor, MAX_FRAME_SIZE, max_compressed_len};

/// How long [`Channel::send`] waits for a place in the queue.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A message of a subprotocol.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The code, counted from 0 in its protocol.
    pub code: u64,
    /// The data, uncompressed. It shares memory with what was read along with it: copy it to keep it for long.
    pub payload: Bytes,
}

impl Message {
    pub(crate) fn new(code: u64, payload: Bytes) -> Self {
        Self { code, payload }
    }

    /// Reads the payload as RLP, all of it, with lists nested at most 64 deep.
    ///
    /// # Errors
    /// When it is not a `T`, goes on behind it, or is malformed anywhere.
    pub fn decode<T: Decodable>(&self) -> Result<T, DecoderError> {
        rlp_list::check(&self.payload)?;
        Rlp::new(&self.payload).as_val()
    }
}

/// Why a message was not sent. The connection goes on, unless it is [`SendError::Closed`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The protocol has no such code.
    #[error("{capability} has no message code {code}: its codes end at {last}", last = .length - 1)]
    InvalidCode {
        /// The protocol.
        capability: Capability,
        /// The code.
        code: u64,
        /// How many codes it has.
        length: u64,
    },
    /// The message is larger than the protocol allows.
    #[error("a message of {size} bytes for {capability}, where the limit is {limit}")]
    TooLarge {
        /// The protocol.
        capability: Capability,
        /// Its size, in bytes.
        size: usize,
        /// The protocol's limit.
        limit: usize,
    },
    /// The message is within the protocol's limit, but its compressed form fits no frame.
    #[error("a message of {size} bytes for {capability} takes {compressed} compressed, more than a frame holds")]
    TooLargeCompressed {
        /// The protocol.
        capability: Capability,
        /// Its size, in bytes.
        size: usize,
        /// Its compressed size, in bytes.
        compressed: usize,
    },
    /// The queue is full ([`Channel::try_send`]).
    #[error("the send queue is full")]
    Full,
    /// The queue stayed full for [`SEND_TIMEOUT`] ([`Channel::send`]).
    #[error("the send queue stayed full for {limit:?}")]
    Timeout {
        /// The limit in force.
        limit: Duration,
    },
    /// The peer is gone.
    #[error("the peer is gone")]
    Closed,
}

/// Both directions of a protocol with one peer.
///
/// Codes are relative to the protocol: 0 to `length - 1`.
#[derive(Debug)]
pub struct Channel {
    sender: ChannelSender,
    receiver: ChannelReceiver,
}

impl Channel {
    pub(crate) fn new(sender: ChannelSender, receiver: ChannelReceiver) -> Self {
        Self { sender, receiver }
    }

    /// Which protocol and version was agreed on.
    pub fn capability(&self) -> &Capability {
        self.sender.capability()
    }

    /// The next message; `None` when the peer is gone and all its messages are read. See [`ChannelReceiver::recv`].
    pub async fn recv(&mut self) -> Option<Message> {
        self.receiver.recv().await
    }

    /// Queues a message, waiting for a place in the queue for [`SEND_TIMEOUT`] at most. See [`ChannelSender::send`].
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, code: u64, payload: impl Into<Bytes>) -> Result<(), SendError> {
        self.sender.send(code, payload).await
    }

    /// [`Channel::send`] of a value in RLP.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send_rlp<T: Encodable>(&self, code: u64, value: &T) -> Result<(), SendError> {
        self.sender.send_rlp(code, value).await
    }

    /// Queues a message if there is a place, without waiting. See [`ChannelSender::try_send`].
    ///
    /// # Errors
    /// [`SendError`], [`SendError::Full`] among it.
    pub fn try_send(&self, code: u64, payload: impl Into<Bytes>) -> Result<(), SendError> {
        self.sender.try_send(code, payload)
    }

    /// How many messages the queue has room for.
    pub fn capacity(&self) -> usize {
        self.sender.capacity()
    }

    /// Another handle on the sending direction.
    pub fn sender(&self) -> ChannelSender {
        self.sender.clone()
    }

    /// The two directions as values that can be moved to different tasks.
    pub fn split(self) -> (ChannelSender, ChannelReceiver) {
        (self.sender, self.receiver)
    }
}

impl Stream for Channel {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.receiver.messages.poll_recv(context)
    }
}

/// The receiving direction of a [`Channel`]; a `Stream` of messages.
#[derive(Debug)]
pub struct ChannelReceiver {
    messages: mpsc::Receiver<Message>,
}

impl ChannelReceiver {
    pub(crate) fn new(messages: mpsc::Receiver<Message>) -> Self {
        Self { messages }
    }

    /// The next message; `None` when the peer is gone and all its messages are read.
    ///
    /// # Cancel safety
    /// No message is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Message> {
        self.messages.recv().await
    }
}

impl Stream for ChannelReceiver {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.messages.poll_recv(context)
    }
}

/// The sending direction of a [`Channel`]. Clones share one queue and one order.
#[derive(Debug, Clone)]
pub struct ChannelSender {
    lane: Arc<SenderLane>,
}

/// A protocol's place in the outbox of its peer.
#[derive(Debug)]
struct SenderLane {
    outbox: Arc<Outbox>,
    place: usize,
    protocol: Shared,
    compressed: bool,
}

impl ChannelSender {
    pub(crate) fn new(outbox: Arc<Outbox>, place: usize, protocol: Shared, compressed: bool) -> Self {
        Self { lane: Arc::new(SenderLane { outbox, place, protocol, compressed }) }
    }

    /// Which protocol and version was agreed on.
    pub fn capability(&self) -> &Capability {
        &self.lane.protocol.capability
    }

    /// How many messages the queue has room for.
    pub fn capacity(&self) -> usize {
        self.lane.outbox.capacity(self.lane.place)
    }

    /// Queues a message, waiting for a place in the queue for [`SEND_TIMEOUT`] at most. Once this returns `Ok`, the
    /// message is written whole or the connection ends. Messages of one protocol keep their order.
    ///
    /// # Errors
    /// [`SendError`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message has not been queued.
    pub async fn send(&self, code: u64, payload: impl Into<Bytes>) -> Result<(), SendError> {
        let outgoing = self.prepare(code, payload.into())?;
        let SenderLane { outbox, place, .. } = &*self.lane;
        // The timer costs something, and a place is free most of the time.
        match outbox.try_push(*place, outgoing) {
            Err((SendError::Full, outgoing)) => {
                match tokio::time::timeout(SEND_TIMEOUT, outbox.push(*place, outgoing)).await {
                    Ok(pushed) => pushed,
                    Err(_) => Err(SendError::Timeout { limit: SEND_TIMEOUT }),
                }
            }
            Err((error, _)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    /// [`ChannelSender::send`] of a value in RLP.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send_rlp<T: Encodable>(&self, code: u64, value: &T) -> Result<(), SendError> {
        self.send(code, rlp::encode(value)).await
    }

    /// Queues a message if there is a place, without waiting.
    ///
    /// # Errors
    /// [`SendError`], [`SendError::Full`] among it.
    pub fn try_send(&self, code: u64, payload: impl Into<Bytes>) -> Result<(), SendError> {
        let outgoing = self.prepare(code, payload.into())?;
        self.lane.outbox.try_push(self.lane.place, outgoing).map_err(|(error, _)| error)
    }

    /// Waits until the peer is gone, or is about to be: nothing can be sent any more.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub async fn closed(&self) {
        self.lane.outbox.closed().await;
    }

    fn prepare(&self, code: u64, payload: Bytes) -> Result<Outgoing, SendError> {
        let Shared { capability, length, max_message_size: limit, .. } = &self.lane.protocol;
        let capability = || capability.clone();
        let invalid = || SendError::InvalidCode { capability: capability(), code, length: *length };
        let id = self.lane.protocol.message_id(code).ok_or_else(invalid)?;
        let size = payload.len();
        if size > *limit {
            return Err(SendError::TooLarge { capability: capability(), size, limit: *limit });
        }
        let room = MAX_FRAME_SIZE - MAX_ID_LEN;
        if !self.lane.compressed || max_compressed_len(size) <= room {
            if size > room {
                return Err(SendError::TooLarge { capability: capability(), size, limit: room });
            }
            return Ok(Outgoing { id, data: payload, is_final: false });
        }
        // So near the limit only compressing tells whether it fits; what was compressed is sent as it is.
        let mut data = BytesMut::new();
        Compressor::default().compress(&payload, &mut data);
        if data.len() > room {
            return Err(SendError::TooLargeCompressed { capability: capability(), size, compressed: data.len() });
        }
        Ok(Outgoing { id, data: data.freeze(), is_final: true })
    }
}
