//! The sending direction of a channel.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rlp::Encodable;
use tokio::sync::oneshot;

use super::outbox::{Outbox, Outgoing, Refused};
use super::shared::SharedMessage;
use crate::metrics::ProtocolMeter;
use crate::node::NodeId;
use crate::p2p::{Capability, MAX_ID_LEN, MessageId, Shared};
use crate::rlpx::{Compressor, MAX_FRAME_SIZE, max_compressed_len};
use crate::sync;

/// How many bytes of data a frame holds.
const ROOM: usize = MAX_FRAME_SIZE - MAX_ID_LEN;

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
    /// The message is larger than the protocol allows, or than a frame holds where nothing is compressed.
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
    /// The queue is full ([`ChannelSender::try_send`]).
    #[error("the send queue is full")]
    Full,
    /// The queue stayed full for the protocol's [send timeout](crate::Protocol::send_timeout)
    /// ([`ChannelSender::send`]).
    #[error("the send queue stayed full for {limit:?}")]
    Timeout {
        /// The limit in force.
        limit: Duration,
    },
    /// The peer is gone.
    #[error("the peer is gone")]
    Closed,
    /// The protocol does not run with a peer with this id ([`ProtocolPeers`](crate::ProtocolPeers)).
    #[error("the protocol does not run with a peer {id}")]
    UnknownPeer {
        /// The id.
        id: NodeId,
    },
    /// Too much came after it for a peer that did not connect
    /// ([`ProtocolPeers::send_later`](crate::ProtocolPeers::send_later)).
    #[error("newer messages took the place of this one while its peer was not connected")]
    Displaced,
    /// The peer had not connected when the node was shut down, or nobody expected it any longer
    /// ([`ProtocolPeers::send_later`](crate::ProtocolPeers::send_later)).
    #[error("the peer did not connect")]
    NeverConnected,
    /// Messages wait for as many peers as may be that are not connected
    /// ([`ProtocolPeers::send_later`](crate::ProtocolPeers::send_later)).
    #[error("messages wait for {limit} peers that are not connected, the limit")]
    TooManyAwaited {
        /// The limit in force.
        limit: usize,
    },
}

/// What becomes of one message, from [`ChannelSender::send_with_receipt`]: a future that is ready once, with how many
/// bytes the message took on the wire, when all of them are in the socket.
///
/// # Errors
/// [`SendError::Closed`] when the connection ended first, for whatever reason: the message may then have been written
/// in part. What waited for a peer to connect can fail otherwise:
/// [`ProtocolPeers::send_later`](crate::ProtocolPeers::send_later) tells how.
///
/// # Cancel safety
/// It can be polled again later. Dropping it does not take the message back.
#[derive(Debug)]
pub struct Receipt {
    written: oneshot::Receiver<Result<u64, SendError>>,
}

impl Receipt {
    pub(crate) fn new() -> (ReceiptSender, Self) {
        let (sender, written) = oneshot::channel();
        (ReceiptSender(sender), Self { written })
    }
}

impl Future for Receipt {
    type Output = Result<u64, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.written).poll(context).map(|told| told.unwrap_or(Err(SendError::Closed)))
    }
}

/// The other end of a [`Receipt`]; dropping it is the error [`SendError::Closed`].
#[derive(Debug)]
pub(crate) struct ReceiptSender(oneshot::Sender<Result<u64, SendError>>);

impl ReceiptSender {
    pub(super) fn written(self, bytes: u64) {
        // Nobody may be waiting.
        let _ = self.0.send(Ok(bytes));
    }

    pub(crate) fn failed(self, error: SendError) {
        // Likewise.
        let _ = self.0.send(Err(error));
    }
}

/// The sending direction of a [`Channel`](crate::Channel). Clones share one queue and one order.
#[derive(Debug, Clone)]
pub struct ChannelSender {
    lane: Arc<SenderLane>,
}

/// A protocol's place in the outbox of its peer.
#[derive(Debug)]
pub(crate) struct SenderLane {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) place: usize,
    pub(crate) protocol: Shared,
    pub(crate) is_compressed: bool,
    /// Messages are cut into pieces above this size.
    pub(crate) chunk: Option<usize>,
    pub(crate) timeout: Duration,
    pub(crate) meter: Arc<ProtocolMeter>,
}

impl ChannelSender {
    pub(crate) fn new(lane: SenderLane) -> Self {
        Self { lane: Arc::new(lane) }
    }

    /// Which protocol and version was agreed on.
    pub fn capability(&self) -> &Capability {
        &self.lane.protocol.capability
    }

    /// How many messages the queue has room for. One may still be refused when it is larger than
    /// [`ChannelSender::capacity_bytes`].
    pub fn capacity(&self) -> usize {
        self.lane.outbox.room(self.lane.place).0
    }

    /// How many bytes the queue has room for.
    pub fn capacity_bytes(&self) -> usize {
        self.lane.outbox.room(self.lane.place).1
    }

    /// Sends a message, waiting for a place in the queue for the protocol's
    /// [send timeout](crate::Protocol::send_timeout) at most. Once this returns `Ok`, the message is written whole or
    /// the connection ends. Messages of one protocol keep their order, and those who wait are served in theirs.
    ///
    /// # Errors
    /// [`SendError`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message has not been queued.
    pub async fn send(&self, code: u64, payload: impl Into<Bytes>) -> Result<(), SendError> {
        let message = self.prepare(code, payload.into(), None)?;
        self.push(message).await
    }

    /// [`ChannelSender::send`] of a value in RLP.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send_rlp<T: Encodable>(&self, code: u64, value: &T) -> Result<(), SendError> {
        self.send(code, rlp::encode(value)).await
    }

    /// [`ChannelSender::send`] with a receipt, which tells when the message is in the socket.
    ///
    /// # Errors
    /// [`SendError`].
    ///
    /// # Cancel safety
    /// As [`ChannelSender::send`].
    pub async fn send_with_receipt(&self, code: u64, payload: impl Into<Bytes>) -> Result<Receipt, SendError> {
        let (sender, receipt) = Receipt::new();
        let message = self.prepare(code, payload.into(), Some(sender))?;
        self.push(message).await?;
        Ok(receipt)
    }

    /// [`ChannelSender::send`] of a message that goes to others, too.
    ///
    /// # Errors
    /// [`SendError`].
    ///
    /// # Cancel safety
    /// As [`ChannelSender::send`].
    pub async fn send_shared(&self, message: &SharedMessage) -> Result<(), SendError> {
        let message = self.prepare_shared(message)?;
        self.push(message).await
    }

    /// [`ChannelSender::try_send`] of a message that goes to others, too.
    ///
    /// # Errors
    /// [`SendError`], [`SendError::Full`] among it.
    pub fn try_send_shared(&self, message: &SharedMessage) -> Result<(), SendError> {
        self.try_push(self.prepare_shared(message)?)
    }

    /// Sends a message if there is a place in the queue, without waiting.
    ///
    /// # Errors
    /// [`SendError`], [`SendError::Full`] among it.
    pub fn try_send(&self, code: u64, payload: impl Into<Bytes>) -> Result<(), SendError> {
        self.try_push(self.prepare(code, payload.into(), None)?)
    }

    /// [`ChannelSender::try_send`] of a copy of a broadcast, which is counted when the peer is too slow for it.
    pub(crate) fn try_send_copy(&self, message: &SharedMessage) -> Result<(), SendError> {
        let sent = self.try_send_shared(message);
        if sent == Err(SendError::Full) {
            self.lane.outbox.note_lagged(self.lane.place);
            self.lane.meter.lagged.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// [`ChannelSender::try_send`] with a receipt that exists already.
    pub(crate) fn try_send_for(&self, code: u64, payload: Bytes, receipt: ReceiptSender) -> Result<(), SendError> {
        self.try_push(self.prepare(code, payload, Some(receipt))?)
    }

    /// Queues what has waited for the peer to come, ahead of everything else and whether there is a place or not.
    /// What cannot be sent at all fails.
    pub(crate) fn preload(&self, messages: impl Iterator<Item = (u64, Bytes, ReceiptSender)>) {
        let mut sound = Vec::new();
        for (code, payload, receipt) in messages {
            match self.prepare(code, payload, None) {
                Ok(message) => sound.push(Outgoing { receipt: Some(receipt), ..message }),
                Err(error) => receipt.failed(error),
            }
        }
        self.lane.outbox.preload(self.lane.place, sound);
    }

    /// Waits until the peer is gone, or is about to be: nothing can be sent any more.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub async fn closed(&self) {
        self.lane.outbox.closed().await;
    }

    /// Whether nothing can be sent any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.lane.outbox.is_closed()
    }

    fn try_push(&self, message: Outgoing) -> Result<(), SendError> {
        match self.lane.outbox.try_push(self.lane.place, message) {
            Ok(()) => Ok(()),
            Err(Refused::Full(_)) => Err(SendError::Full),
            Err(Refused::Closed) => Err(SendError::Closed),
        }
    }

    async fn push(&self, message: Outgoing) -> Result<(), SendError> {
        let SenderLane { outbox, place, timeout, .. } = &*self.lane;
        // A handler that sends without end lets others run.
        tokio::task::coop::consume_budget().await;
        // The timer costs something, and a place is free most of the time.
        match outbox.try_push(*place, message) {
            Err(Refused::Full(message)) => {
                let pushed = sync::timeout(*timeout, outbox.push(*place, message)).await;
                pushed.unwrap_or(Err(SendError::Timeout { limit: *timeout }))
            }
            Err(Refused::Closed) => Err(SendError::Closed),
            Ok(()) => Ok(()),
        }
    }

    fn prepare(&self, code: u64, payload: Bytes, receipt: Option<ReceiptSender>) -> Result<Outgoing, SendError> {
        let id = self.admit(code, payload.len())?;
        let (data, is_final) = self.fit(payload)?;
        Ok(Outgoing { id, code, data, is_final, shared: None, receipt, queued: None })
    }

    fn prepare_shared(&self, message: &SharedMessage) -> Result<Outgoing, SendError> {
        let SenderLane { is_compressed, chunk, .. } = &*self.lane;
        let (code, data) = (message.code(), message.payload());
        if !*is_compressed || chunk.is_some_and(|chunk| data.len() > chunk) {
            return self.prepare(code, data.clone(), None);
        }
        let id = self.admit(code, data.len())?;
        self.fit_compressed(data.len(), message.body().compressed().len())?;
        let shared = Some(message.body().clone());
        Ok(Outgoing { id, code, data: data.clone(), is_final: false, shared, receipt: None, queued: None })
    }

    /// The id on the wire of a message that the protocol allows.
    fn admit(&self, code: u64, size: usize) -> Result<MessageId, SendError> {
        let Shared { capability, length, max_message_size: limit, .. } = &self.lane.protocol;
        let invalid = || SendError::InvalidCode { capability: capability.clone(), code, length: *length };
        let id = self.lane.protocol.message_id(code).ok_or_else(invalid)?;
        if size > *limit {
            return Err(SendError::TooLarge { capability: capability.clone(), size, limit: *limit });
        }
        Ok(id)
    }

    /// The data to be sent, which fits a frame, and whether it is in its final form. So near the limit only compressing
    /// tells, and what was compressed is then sent as it is.
    fn fit(&self, payload: Bytes) -> Result<(Bytes, bool), SendError> {
        let SenderLane { protocol: Shared { capability, .. }, is_compressed, chunk, .. } = &*self.lane;
        let (size, room) = (payload.len(), ROOM);
        let is_cut = chunk.is_some_and(|chunk| size > chunk);
        if is_cut || *is_compressed && max_compressed_len(size) <= room || !*is_compressed && size <= room {
            return Ok((payload, false));
        }
        if !*is_compressed {
            return Err(SendError::TooLarge { capability: capability.clone(), size, limit: room });
        }
        let mut data = BytesMut::new();
        Compressor::default().compress(&payload, &mut data);
        self.fit_compressed(size, data.len())?;
        Ok((data.freeze(), true))
    }

    fn fit_compressed(&self, size: usize, compressed: usize) -> Result<(), SendError> {
        if compressed <= ROOM {
            return Ok(());
        }
        Err(SendError::TooLargeCompressed { capability: self.capability().clone(), size, compressed })
    }
}
