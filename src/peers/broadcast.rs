//! One message to many peers.

use bytes::Bytes;

use super::ProtocolPeers;
use crate::node::NodeId;
use crate::peer::{Peer, SendError, SharedMessage};

/// What became of a broadcast.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broadcast {
    /// Copies that were queued.
    pub queued: usize,
    /// Copies that were lost to peers whose queue was full. They are counted in
    /// [`ProtocolStatus::lagged`](crate::ProtocolStatus::lagged), too, and as a metric.
    pub lagged: usize,
    /// Peers that were gone, though their handler had not ended yet.
    pub gone: usize,
    /// Copies that could not be sent at all: the code or the size is not one of the protocol, or of the version that
    /// was agreed on.
    pub refused: usize,
    /// Why the first of those was refused.
    pub refusal: Option<SendError>,
}

impl Broadcast {
    fn count(&mut self, sent: Result<(), SendError>) {
        match sent {
            Ok(()) => self.queued += 1,
            Err(SendError::Full) => self.lagged += 1,
            Err(SendError::Closed) => self.gone += 1,
            Err(error) => {
                self.refused += 1;
                self.refusal.get_or_insert(error);
            }
        }
    }
}

/// Broadcasts wait for nobody: peers whose queue is full miss the message. The payload is shared by all copies, and
/// compressed once, where it is not [cut into pieces](SharedMessage). [`SharedMessage`] and
/// [`ProtocolPeers::send_shared`] do the same for who would rather wait.
impl ProtocolPeers {
    /// Sends a message to all peers, in the order of their ids.
    pub fn broadcast(&self, code: u64, payload: impl Into<Bytes>) -> Broadcast {
        self.broadcast_shared(&SharedMessage::new(code, payload), |_| true)
    }

    /// [`ProtocolPeers::broadcast`] to all but one: the peer that it came from, say.
    pub fn broadcast_except(&self, id: &NodeId, code: u64, payload: impl Into<Bytes>) -> Broadcast {
        self.broadcast_shared(&SharedMessage::new(code, payload), |peer| peer.id() != *id)
    }

    /// [`ProtocolPeers::broadcast`] to the peers that `filter` says yes to. It is called on this task, without a lock.
    pub fn broadcast_to(&self, filter: impl FnMut(&Peer) -> bool, code: u64, payload: impl Into<Bytes>) -> Broadcast {
        self.broadcast_shared(&SharedMessage::new(code, payload), filter)
    }

    /// [`ProtocolPeers::broadcast_to`] of a message that goes to others, too.
    pub fn broadcast_shared(&self, message: &SharedMessage, mut filter: impl FnMut(&Peer) -> bool) -> Broadcast {
        let mut outcome = Broadcast::default();
        for member in self.registry.members().iter() {
            if filter(&member.peer) {
                outcome.count(member.sender.try_send_copy(message));
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;
    use crate::rlpx::COMPRESSIONS;
    use crate::testing::{self, expect_message, manual, node};

    /// Small enough to be written at once, and so large that it is left to the writer.
    const SIZES: [usize; 2] = [1024, 128 * 1024];

    #[tokio::test(start_paused = true)]
    async fn a_broadcast_is_compressed_once_for_all_peers() {
        let (protocol, _opened) = manual("test", 1, 2);
        let peers = protocol.peers();
        let mut others = Vec::new();
        for _ in 0..8 {
            let (own, mut opened) = manual("test", 1, 2);
            let pair = testing::pair(node().protocol(own), node().protocol(protocol.clone())).await;
            others.push((opened.next().await.1, pair));
        }
        peers.wait_for(others.len()).await;
        for size in SIZES {
            let before = COMPRESSIONS.get();
            let outcome = peers.broadcast(1, vec![7; size]);
            assert_eq!(outcome, Broadcast { queued: 8, ..Broadcast::default() });
            for (channel, _) in &mut others {
                assert_eq!(expect_message(channel, 1).await.payload, vec![7; size], "R23: all get it, whole");
            }
            assert_eq!(COMPRESSIONS.get() - before, 1, "R23: {size} bytes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_compressed_for_nobody() {
        let peers = Protocol::from_fn("test", 1, 1, |_, _| async { Ok(()) }).peers();
        let before = COMPRESSIONS.get();
        assert_eq!(peers.broadcast(0, vec![0; 1000]), Broadcast::default());
        assert_eq!(COMPRESSIONS.get(), before, "R23");
    }
}
