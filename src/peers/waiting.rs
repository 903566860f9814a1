//! Messages for peers that are not connected yet.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::ProtocolPeers;
use super::registry::Registry;
use crate::node::NodeId;
use crate::peer::{Receipt, ReceiptSender, SendError};

/// How much waits for peers that are not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingLimits {
    /// For how many peers messages wait. Default 256.
    pub peers: usize,
    /// How many messages wait for each; the latest does in any case. Default 1,000.
    pub messages: usize,
    /// How many bytes wait for each; a single message may be larger. Default 1 MiB.
    pub bytes: usize,
}

impl Default for WaitingLimits {
    fn default() -> Self {
        Self { peers: 256, messages: 1_000, bytes: 1024 * 1024 }
    }
}

impl ProtocolPeers {
    /// Sends a message to a peer when it is connected: at once if it is, and else when it comes, ahead of everything
    /// that is sent to it afterwards and first in, first out. A peer that is going is not connected, though its handler
    /// may still run. It dials nobody.
    ///
    /// The receipt tells when the message is in the socket. It fails with [`SendError::Displaced`] when newer messages
    /// exceed the [limits](ProtocolPeers::set_waiting_limits), the oldest first; with [`SendError::NeverConnected`]
    /// when the server is shut down or the peer is [forgotten](ProtocolPeers::forget) before it comes; and when it has
    /// come, as any message does.
    ///
    /// # Errors
    /// [`SendError::TooManyAwaited`], and [`SendError::Full`] and others when the peer is connected.
    pub fn send_later(&self, id: &NodeId, code: u64, payload: impl Into<Bytes>) -> Result<Receipt, SendError> {
        let payload = payload.into();
        loop {
            let (sender, receipt) = Receipt::new();
            let mut state = self.registry.lock();
            let Some(member) = state.find(id).filter(|member| !member.is_leaving()).cloned() else {
                state.waiting.check_place(id)?;
                let displaced = state.waiting.push(id, Entry { code, payload, receipt: sender });
                drop(state);
                displaced.into_iter().for_each(|entry| entry.receipt.failed(SendError::Displaced));
                return Ok(receipt);
            };
            drop(state);
            match member.sender.try_send_for(code, payload.clone(), sender) {
                // It has gone in between.
                Err(SendError::Closed) => {}
                sent => return sent.map(|()| receipt),
            }
        }
    }

    /// Drops what waits for a peer that is expected no longer, and returns how many messages that were.
    pub fn forget(&self, id: &NodeId) -> usize {
        let forgotten = self.registry.lock().waiting.queues.remove(id);
        forgotten.map_or(0, |queue| fail(queue.entries))
    }

    /// How many messages wait for a peer that is not connected.
    pub fn waiting(&self, id: &NodeId) -> usize {
        self.registry.lock().waiting.queues.get(id).map_or(0, |queue| queue.entries.len())
    }

    /// Sets how much waits for peers that are not connected. What waits already stays, until more comes.
    pub fn set_waiting_limits(&self, limits: WaitingLimits) {
        self.registry.lock().waiting.limits = limits;
    }
}

impl Registry {
    /// No peer will come any more.
    pub(crate) fn forget_all(&self) {
        let queues = std::mem::take(&mut self.lock().waiting.queues);
        queues.into_values().for_each(|queue| {
            fail(queue.entries);
        });
    }
}

fn fail(entries: VecDeque<Entry>) -> usize {
    let count = entries.len();
    entries.into_iter().for_each(|entry| entry.receipt.failed(SendError::NeverConnected));
    count
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    limits: WaitingLimits,
    queues: HashMap<NodeId, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    code: u64,
    payload: Bytes,
    receipt: ReceiptSender,
}

impl Waiting {
    /// What has waited for a peer, in order; `None` if nothing has.
    pub(super) fn take(&mut self, id: &NodeId) -> Option<Vec<(u64, Bytes, ReceiptSender)>> {
        let queue = self.queues.remove(id)?;
        Some(queue.entries.into_iter().map(|entry| (entry.code, entry.payload, entry.receipt)).collect())
    }

    /// Whether messages may wait for this peer.
    fn check_place(&self, id: &NodeId) -> Result<(), SendError> {
        let limit = self.limits.peers;
        let has_place = self.queues.len() < limit || self.queues.contains_key(id);
        if has_place { Ok(()) } else { Err(SendError::TooManyAwaited { limit }) }
    }

    /// Adds a message, and returns those that it displaces.
    fn push(&mut self, id: &NodeId, entry: Entry) -> Vec<Entry> {
        let WaitingLimits { messages, bytes, .. } = self.limits;
        let queue = self.queues.entry(*id).or_default();
        let mut displaced = Vec::new();
        while queue.entries.len() >= messages || queue.bytes.saturating_add(entry.payload.len()) > bytes {
            let Some(oldest) = queue.entries.pop_front() else { break };
            queue.bytes -= oldest.payload.len();
            displaced.push(oldest);
        }
        queue.bytes += entry.payload.len();
        queue.entries.push_back(entry);
        displaced
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A payload whose owner is code of the application.
    struct Asking(ProtocolPeers);

    impl AsRef<[u8]> for Asking {
        fn as_ref(&self) -> &[u8] {
            b"payload"
        }
    }

    impl Drop for Asking {
        fn drop(&mut self) {
            self.0.count();
        }
    }

    #[test]
    fn a_payload_that_is_not_taken_is_dropped_without_a_lock() {
        let (told, heard) = mpsc::sync_channel(16);
        std::thread::spawn(move || {
            let (peers, id) = (ProtocolPeers::seeded(1), NodeId::from_bytes([1; 32]));
            peers.set_waiting_limits(WaitingLimits { peers: 0, ..WaitingLimits::default() });
            told.send(peers.send_later(&id, 1, Bytes::from_owner(Asking(peers.clone()))).map(drop))
        });
        let refused = heard.recv_timeout(Duration::from_secs(10));
        assert_eq!(refused, Ok(Err(SendError::TooManyAwaited { limit: 0 })), "R58");
    }
}
