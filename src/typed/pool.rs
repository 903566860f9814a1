//! Requests to any of several peers, asked one after the other until one answers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{MessageSet, Request, RequestError, TypedSender};
use crate::node::NodeId;
use crate::p2p::MAX_TIMEOUT;
use crate::peer::Peer;
use crate::peers::{Pick, choose};

/// The peers that requests of `M` can be made to. Clones are the same pool.
///
/// A handler [joins](RequestPool::join) it with the sending direction of its channel. Who asks the pool need not know
/// whom.
///
/// ```
/// # use capmux::rlp::{Rlp, Encodable};
/// # use capmux::typed::{self, BodyError, MessageSet, RequestPool, TypedChannel};
/// # enum Calc {}
/// # impl MessageSet for Calc {
/// #     const LENGTH: u64 = 1;
/// #     fn parts(&self) -> (u64, &dyn Encodable) { match *self {} }
/// #     fn from_parts(_: u64, _: &Rlp<'_>) -> Result<Self, BodyError> { Err(BodyError::UnknownCode) }
/// # }
/// let pool = RequestPool::new();
/// let joining = pool.clone();
/// let calc = typed::protocol("calc", 1, move |peer, mut channel: TypedChannel<Calc>| {
///     let pool = joining.clone();
///     async move {
///         let _membership = pool.join(&peer, channel.sender());
///         while channel.recv().await?.is_some() {}
///         Ok(())
///     }
/// });
/// # drop(calc);
/// ```
pub struct RequestPool<M> {
    shared: Arc<Shared<M>>,
}

struct Shared<M> {
    state: Mutex<State<M>>,
    /// How many have joined so far.
    joined: watch::Sender<u64>,
}

struct State<M> {
    /// One for each handler that has joined and runs, by the order in which they came.
    members: BTreeMap<u64, (Peer, TypedSender<M>)>,
    next: u64,
    random: fastrand::Rng,
}

/// How a request is made to any of several peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// How many peers are asked at most. Default 3.
    pub limit: usize,
    /// How long each may take to answer. Default 5 s.
    pub timeout: Duration,
    /// How long all of them may take together, a year at most. Default 15 s.
    pub deadline: Duration,
    /// Which of those that have not been asked is next. Default [`Pick::Fastest`].
    pub pick: Pick,
}

impl Default for Attempts {
    fn default() -> Self {
        let (timeout, deadline) = (Duration::from_secs(5), Duration::from_secs(15));
        Self { limit: 3, timeout, deadline, pick: Pick::Fastest }
    }
}

/// Why no peer has answered a request: who was asked, in order, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no answer: {}", Tried(tried))]
#[non_exhaustive]
pub struct Unanswered {
    /// The peers that were asked. Empty when there was none to ask.
    pub tried: Vec<(NodeId, RequestError)>,
}

/// Who was asked, as an error shows it.
struct Tried<'a>(&'a [(NodeId, RequestError)]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there is no peer to ask");
        }
        for (place, (id, error)) in self.0.iter().enumerate() {
            write!(f, "{}{id}: {error}", if place == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl<M: MessageSet> RequestPool<M> {
    /// A pool without peers.
    pub fn new() -> Self {
        Self::seeded(getrandom::u64().expect("the operating system has randomness"))
    }

    /// A pool whose random choices follow from the seed, for tests.
    pub fn seeded(seed: u64) -> Self {
        let state = State { members: BTreeMap::new(), next: 0, random: fastrand::Rng::with_seed(seed) };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), joined: watch::Sender::new(0) }) }
    }

    /// Makes a peer one to ask until what is returned is dropped, at the end of the handler.
    #[must_use = "the peer is asked only as long as it lives"]
    pub fn join(&self, peer: &Peer, sender: TypedSender<M>) -> PoolMembership<M> {
        let mut state = self.lock();
        let place = state.next;
        state.next += 1;
        state.members.insert(place, (peer.clone(), sender));
        drop(state);
        self.shared.joined.send_modify(|joined| *joined += 1);
        PoolMembership { pool: self.clone(), place }
    }

    /// The sending direction to a certain peer, waiting for its handler to join: that is shortly after the connection
    /// is a peer. `None` when the peer is gone, or goes without having joined.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub async fn sender(&self, peer: &Peer) -> Option<TypedSender<M>> {
        let mut joined = self.shared.joined.subscribe();
        loop {
            if let Some(sender) = self.find(peer) {
                return Some(sender);
            }
            tokio::select! {
                biased;
                // The sender lives as long as `self`.
                _ = joined.changed() => {}
                _ = peer.closed() => return None,
            }
        }
    }

    fn find(&self, peer: &Peer) -> Option<TypedSender<M>> {
        let state = self.lock();
        // The latest are the likeliest to be looked for.
        state.members.values().rev().find(|(member, _)| member == peer).map(|(_, sender)| sender.clone())
    }

    /// How many peers there are to ask.
    pub fn count(&self) -> usize {
        self.lock().members.len()
    }

    /// Asks a peer that `filter` says yes to, and when it does not answer in time, cannot be sent to or goes, another
    /// one, as `attempts` says. No node is asked twice. Returns who has answered, and what.
    ///
    /// The filter is called on this task, without a lock.
    ///
    /// # Errors
    /// [`Unanswered`], as soon as nobody is left to ask or the time is over.
    ///
    /// # Cancel safety
    /// As [`TypedSender::request`]: when the future is dropped, nothing is outstanding any longer.
    pub async fn request<R: Request<Messages = M> + Clone>(
        &self,
        request: &R,
        attempts: Attempts,
        mut filter: impl FnMut(&Peer) -> bool,
    ) -> Result<(NodeId, R::Answer), Unanswered> {
        let end = Instant::now() + attempts.deadline.min(MAX_TIMEOUT);
        let mut tried: Vec<(NodeId, RequestError)> = Vec::new();
        while tried.len() < attempts.limit && Instant::now() < end {
            let is_new = |peer: &Peer| !tried.iter().any(|(id, _)| *id == peer.id());
            let next = self.pick(attempts.pick, |peer| is_new(peer) && filter(peer));
            let Some((peer, sender)) = next else { break };
            let asked = timeout_at(end, sender.request(request.clone(), attempts.timeout)).await;
            match asked.unwrap_or(Err(RequestError::Timeout { limit: attempts.deadline })) {
                Ok(answer) => return Ok((peer.id(), answer)),
                Err(error) => tried.push((peer.id(), error)),
            }
        }
        Err(Unanswered { tried })
    }

    fn pick(&self, pick: Pick, filter: impl FnMut(&Peer) -> bool) -> Option<(Peer, TypedSender<M>)> {
        let mut members: Vec<_> = self.lock().members.values().cloned().collect();
        // A handler may go on after its peer has gone, and the node may be back.
        members.retain(|(_, sender)| !sender.is_closed());
        let random = |count| self.lock().random.usize(..count);
        let place = choose(pick, members.iter().map(|(peer, _)| peer), filter, random)?;
        members.into_iter().nth(place)
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: MessageSet> Default for RequestPool<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Clone for RequestPool<M> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<M: MessageSet> fmt::Debug for RequestPool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestPool").field("count", &self.count()).finish_non_exhaustive()
    }
}

/// A peer's place in a [`RequestPool`], which it has as long as this lives.
pub struct PoolMembership<M: MessageSet> {
    pool: RequestPool<M>,
    place: u64,
}

impl<M: MessageSet> Drop for PoolMembership<M> {
    fn drop(&mut self) {
        let left = self.pool.lock().members.remove(&self.place);
        drop(left);
    }
}

impl<M: MessageSet> fmt::Debug for PoolMembership<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolMembership").field("place", &self.place).finish_non_exhaustive()
    }
}
