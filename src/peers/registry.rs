//! Which peers a protocol runs with, and what waits for others.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::waiting::Waiting;
use crate::node::NodeId;
use crate::peer::{ChannelSender, Peer};
use crate::sync::{Mutex, MutexGuard, WatchSender};

/// A peer that the protocol runs with.
#[derive(Debug)]
pub(crate) struct Member {
    pub(super) peer: Peer,
    pub(super) sender: ChannelSender,
}

impl Member {
    /// Whether nothing can be sent to it any more, or soon: another connection to its node is preferred.
    pub(super) fn is_leaving(&self) -> bool {
        self.peer.is_leaving() || self.sender.is_closed()
    }
}

/// The peers of a moment: one for each node, by id.
pub(super) type Members = Arc<[Arc<Member>]>;

pub(crate) struct Registry {
    state: Mutex<State>,
    count: WatchSender<usize>,
}

pub(super) struct State {
    /// By the order in which they came, where a node has several.
    members: BTreeMap<(NodeId, u64), Arc<Member>>,
    /// How many nodes they are.
    nodes: usize,
    next: u64,
    /// `members` as it is handed out, until the next change.
    snapshot: Option<Members>,
    pub(super) waiting: Waiting,
    pub(super) random: fastrand::Rng,
}

impl Registry {
    pub(super) fn seeded(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (members, waiting) = (BTreeMap::new(), Waiting::default());
        let state = State { members, nodes: 0, next: 0, snapshot: None, waiting, random };
        Self { state: Mutex::new(state), count: WatchSender::new(0) }
    }

    /// Lists a peer until what is returned is dropped. What has waited for it is queued before anybody can send.
    pub(crate) fn join(self: &Arc<Self>, peer: Peer, sender: ChannelSender) -> Membership {
        let id = peer.id();
        let member = Arc::new(Member { peer, sender });
        let place = loop {
            let mut state = self.lock();
            let backlog = if member.is_leaving() { None } else { state.waiting.take(&id) };
            let Some(backlog) = backlog else {
                let place = (id, state.next);
                state.next += 1;
                state.nodes += usize::from(state.find(&id).is_none());
                state.members.insert(place, member);
                state.snapshot = None;
                break place;
            };
            drop(state);
            member.sender.preload(backlog.into_iter());
        };
        self.tell_count();
        Membership { registry: self.clone(), place }
    }

    /// The peers of this moment.
    pub(super) fn members(&self) -> Members {
        let mut state = self.lock();
        let State { members, snapshot, .. } = &mut *state;
        snapshot.get_or_insert_with(|| one_of_each(members)).clone()
    }

    /// How many nodes they are.
    pub(super) fn count(&self) -> usize {
        self.lock().nodes
    }

    pub(super) fn find(&self, id: &NodeId) -> Option<Arc<Member>> {
        self.lock().find(id).cloned()
    }

    pub(super) async fn wait_until(&self, mut is_it: impl FnMut(usize) -> bool) {
        let mut count = self.count.subscribe();
        loop {
            // What is called must not hold the lock.
            let now = *count.borrow_and_update();
            if is_it(now) {
                return;
            }
            // The sender lives as long as `self`.
            let _ = count.changed().await;
        }
    }

    fn leave(&self, place: (NodeId, u64)) {
        let mut state = self.lock();
        let left = state.members.remove(&place);
        state.nodes -= usize::from(state.find(&place.0).is_none());
        let snapshot = state.snapshot.take();
        drop(state);
        drop((left, snapshot));
        self.tell_count();
    }

    /// Tells the number that there is now, whichever of several changes is told of first.
    fn tell_count(&self) {
        self.count.send_if_modified(|count| {
            let now = self.count();
            std::mem::replace(count, now) != now
        });
    }

    /// No code that can panic runs under the lock.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The connection to a node that counts.
    pub(super) fn find(&self, id: &NodeId) -> Option<&Arc<Member>> {
        preferred(self.members.range((*id, 0)..=(*id, u64::MAX)).map(|(_, member)| member))
    }
}

/// Of each node the connection that counts.
fn one_of_each(members: &BTreeMap<(NodeId, u64), Arc<Member>>) -> Members {
    let ordered: Vec<_> = members.iter().collect();
    let of_nodes = ordered.chunk_by(|((one, _), _), ((other, _), _)| one == other);
    of_nodes.filter_map(|all| preferred(all.iter().map(|(_, member)| *member))).cloned().collect()
}

/// Of the connections to a node, in the order in which they came, the latest that stays, or the latest of all. The one
/// that is given up for another may come here after it.
fn preferred<'a>(connections: impl DoubleEndedIterator<Item = &'a Arc<Member>>) -> Option<&'a Arc<Member>> {
    let mut latest_first = connections.rev();
    let latest = latest_first.next()?;
    match latest_first.next() {
        Some(earlier) if latest.is_leaving() => {
            std::iter::once(earlier).chain(latest_first).find(|member| !member.is_leaving()).or(Some(latest))
        }
        _ => Some(latest),
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::seeded(getrandom::u64().expect("the operating system has randomness"))
    }
}

/// A peer's place among those of a protocol, which it has as long as this lives.
pub(crate) struct Membership {
    registry: Arc<Registry>,
    place: (NodeId, u64),
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.registry.leave(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::p2p::DisconnectReason;
    use crate::testing::{self, manual, node};
    use crate::{NodeKey, Server};

    #[tokio::test(start_paused = true)]
    async fn who_is_to_go_never_takes_the_place_of_who_stays() {
        let (protocol, mut opened) = manual("test", 1, 1);
        let (registry, key) = (protocol.registry().clone(), NodeKey::random());
        let mut connect = async || {
            let (own, held) = manual("test", 1, 1);
            let own = Server::builder(key.clone()).protocol(own);
            let pair = testing::pair(own, node().protocol(protocol.clone())).await;
            ((pair, held), opened.next().await)
        };
        let (_kept, (stays, _channel)) = connect().await;
        let (_replaced, (goes, channel)) = connect().await;
        assert!(registry.find(&key.node_id()).is_some_and(|member| member.peer == goes), "R13: the later");
        goes.disconnect(DisconnectReason::AlreadyConnected);
        // Its task was held up on the way here, and the other connection passed it.
        let _late = registry.join(goes, channel.sender());
        assert!(registry.find(&key.node_id()).is_some_and(|member| member.peer == stays), "R13 R58");
        assert!(registry.members().iter().map(|member| &member.peer).eq([&stays]), "R13: also for broadcasts");
    }

    #[tokio::test]
    async fn no_lock_is_held_while_the_application_says_how_many_peers_will_do() {
        let registry = Arc::new(Registry::seeded(1));
        let telling = registry.clone();
        let is_it = move |_| {
            let (told, heard) = mpsc::sync_channel(16);
            let telling = telling.clone();
            std::thread::spawn(move || {
                telling.tell_count();
                told.send(())
            });
            heard.recv_timeout(Duration::from_secs(5)).is_ok()
        };
        let waited = tokio::time::timeout(Duration::from_secs(1), registry.wait_until(is_it)).await;
        assert!(waited.is_ok(), "R13: another thread can tell of changes");
    }
}
