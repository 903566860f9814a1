//! The end of a connection that a handler holds: messages of its protocol, in and out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use rlp::{Decodable, DecoderError, Encodable, Rlp};
use tokio_stream::Stream;

use super::inbox::Inbox;
use super::send::{ChannelSender, Receipt, SendError};
use crate::p2p::Capability;
use crate::rlp_list;

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

    /// Sends a message, waiting for a place in the queue if need be. See [`ChannelSender::send`].
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

    /// Sends a message, and returns what will tell when it is in the socket. See [`ChannelSender::send_with_receipt`].
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send_with_receipt(&self, code: u64, payload: impl Into<Bytes>) -> Result<Receipt, SendError> {
        self.sender.send_with_receipt(code, payload).await
    }

    /// Sends a message if there is a place in the queue, without waiting. See [`ChannelSender::try_send`].
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

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.receiver.inbox.poll_recv(context)
    }
}

/// The receiving direction of a [`Channel`]; a `Stream` of messages.
#[derive(Debug)]
pub struct ChannelReceiver {
    inbox: Arc<Inbox>,
}

impl ChannelReceiver {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox }
    }

    /// The next message; `None` when the peer is gone and all its messages are read.
    ///
    /// # Cancel safety
    /// No message is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Message> {
        std::future::poll_fn(|context| self.inbox.poll_recv(context)).await
    }
}

impl Stream for ChannelReceiver {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.inbox.poll_recv(context)
    }
}

impl Drop for ChannelReceiver {
    fn drop(&mut self) {
        self.inbox.abandon();
    }
}
