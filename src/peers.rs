//! The peers of one protocol: sending to them by id, without holding anything of theirs.

mod broadcast;
mod group;
#[cfg(test)]
mod orders;
mod pick;
mod registry;
mod waiting;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use broadcast::Broadcast;
pub use group::{Group, GroupChange};
pub use pick::Pick;
pub(crate) use pick::choose;
pub(crate) use registry::{Membership, Registry};
pub use waiting::WaitingLimits;

use crate::node::NodeId;
use crate::peer::{ChannelSender, Peer, Receipt, SendError, SharedMessage};

/// The peers that a protocol runs with: a handle for the application, which clones share.
///
/// A peer is listed from just before its handler starts until the handler has ended, in whatever way. Codes are those
/// of the protocol, counted from 0. Where a node is connected twice for a moment, the later connection counts, unless
/// it is the one that is given up.
///
/// ```
/// use capmux::{Protocol, ProtocolPeers};
///
/// let peers = ProtocolPeers::default();
/// let relay = {
///     let peers = peers.clone();
///     Protocol::from_fn("relay", 1, 1, move |peer, mut channel| {
///         let peers = peers.clone();
///         async move {
///             while let Some(message) = channel.recv().await {
///                 peers.broadcast_except(&peer.id(), message.code, message.payload);
///             }
///             Ok(())
///         }
///     })
/// }
/// .with_peers(&peers);
/// assert_eq!(relay.peers().count(), 0);
/// assert_eq!(peers.broadcast(0, "to nobody yet").queued, 0);
/// ```
#[derive(Clone, Default)]
pub struct ProtocolPeers {
    registry: Arc<Registry>,
}

impl ProtocolPeers {
    /// A handle whose random choices follow from the seed, for tests.
    pub fn seeded(seed: u64) -> Self {
        Self { registry: Arc::new(Registry::seeded(seed)) }
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The ids of the peers of this moment, smallest first.
    pub fn ids(&self) -> Vec<NodeId> {
        self.registry.members().iter().map(|member| member.peer.id()).collect()
    }

    /// The peers of this moment, by id, smallest first.
    pub fn all(&self) -> Vec<Peer> {
        self.registry.members().iter().map(|member| member.peer.clone()).collect()
    }

    /// The peer with this id, if the protocol runs with it.
    pub fn find(&self, id: &NodeId) -> Option<Peer> {
        self.registry.find(id).map(|member| member.peer.clone())
    }

    /// How many peers there are.
    pub fn count(&self) -> usize {
        self.registry.count()
    }

    /// Waits until there are at least so many peers.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub async fn wait_for(&self, count: usize) {
        self.wait_until(|peers| peers >= count).await;
    }

    /// Waits until the number of peers is one that `is_it` says yes to.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub async fn wait_until(&self, is_it: impl FnMut(usize) -> bool) {
        self.registry.wait_until(is_it).await;
    }

    /// Sends a message to one peer, waiting for a place in its queue; see [`ChannelSender::send`].
    ///
    /// # Errors
    /// [`SendError::UnknownPeer`] when there is none with this id, and those of [`ChannelSender::send`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message has not been queued.
    pub async fn send(&self, id: &NodeId, code: u64, payload: impl Into<Bytes>) -> Result<(), SendError> {
        self.sender(id)?.send(code, payload).await
    }

    /// [`ProtocolPeers::send`] with a receipt; see [`ChannelSender::send_with_receipt`].
    ///
    /// # Errors
    /// As [`ProtocolPeers::send`].
    ///
    /// # Cancel safety
    /// As [`ProtocolPeers::send`].
    pub async fn send_with_receipt(
        &self,
        id: &NodeId,
        code: u64,
        payload: impl Into<Bytes>,
    ) -> Result<Receipt, SendError> {
        self.sender(id)?.send_with_receipt(code, payload).await
    }

    /// Sends a message to one peer if there is a place in its queue, without waiting.
    ///
    /// # Errors
    /// As [`ProtocolPeers::send`], and [`SendError::Full`].
    pub fn try_send(&self, id: &NodeId, code: u64, payload: impl Into<Bytes>) -> Result<(), SendError> {
        self.sender(id)?.try_send(code, payload)
    }

    /// [`ProtocolPeers::send`] of a message that goes to others, too.
    ///
    /// # Errors
    /// As [`ProtocolPeers::send`].
    ///
    /// # Cancel safety
    /// As [`ProtocolPeers::send`].
    pub async fn send_shared(&self, id: &NodeId, message: &SharedMessage) -> Result<(), SendError> {
        self.sender(id)?.send_shared(message).await
    }

    fn sender(&self, id: &NodeId) -> Result<ChannelSender, SendError> {
        let member = self.registry.find(id).ok_or(SendError::UnknownPeer { id: *id })?;
        Ok(member.sender.clone())
    }
}

impl fmt::Debug for ProtocolPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtocolPeers").field("count", &self.count()).finish_non_exhaustive()
    }
}
