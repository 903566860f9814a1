//! The nodes of the soak: the four protocols, and what applications do with three of them. The fourth is the one that is
//! judged message by message.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capmux::typed::RequestError;
use capmux::{NodeId, NodeKey, Peer, SendError, Server, ServerBuilder, StartError};
use capmux_echo::{Echo, EchoError};
use capmux_gossip::{Delivery, Gossip};
use capmux_kv::{Kv, KvError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::ledger::Ledger;
use super::sequence::Label;
use super::{Phase, count, reached, stream};

/// How long an answer may take, which is longer than any peer lives that does not answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What kv itself waits for an answer: longer than the application does, which so is the one that tells.
const KV_PATIENCE: Duration = Duration::from_secs(2 * PATIENCE.as_secs());

/// How many requests of a node may be unanswered.
const REQUESTS: u16 = 32;

/// The sizes of requests to echo, of values, and of messages of gossip.
const SIZES: std::ops::RangeInclusive<usize> = 32..=2048;

/// How many messages of gossip are remembered: so few that all nodes have as many within the first minute.
const SEEN: usize = 1024;

/// In how many numbers of gossip a message must have come to be told from an earlier one.
const WINDOW: usize = 8 * SEEN;

/// What all nodes share.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) ledger: Arc<Ledger>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) tally: Tally,
    pub(super) seed: u64,
}

/// What applications have counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) echo: AtomicU64,
    pub(super) kv: AtomicU64,
    /// Requests whose peer went before it answered.
    pub(super) unanswered: AtomicU64,
    pub(super) published: AtomicU64,
    pub(super) delivered: AtomicU64,
    /// Messages of gossip that were delivered to a node twice.
    pub(super) delivered_twice: AtomicU64,
}

/// A running node and its application, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) server: Arc<Server>,
    application: JoinSet<()>,
}

impl Node {
    /// Starts a node whose application asks another node about every so often.
    pub(super) async fn start(
        setup: &Arc<Setup>,
        key: NodeKey,
        every: Duration,
        random: &mut fastrand::Rng,
        settings: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Result<Self, StartError> {
        let own = key.public_key().node_id();
        let (echo_protocol, echo) = Echo::new();
        let (kv_protocol, kv) = Kv::new(capmux_kv::Settings { timeout: KV_PATIENCE, ..Default::default() });
        let gossip = capmux_gossip::Settings { seen: SEEN, ..Default::default() };
        let (gossip_protocol, gossip, deliveries) = Gossip::new(gossip);
        let builder = Server::builder(key).client_id("capmux-soak").seed(random.u64(..));
        let builder = [echo_protocol, kv_protocol, gossip_protocol].into_iter().fold(builder, ServerBuilder::protocol);
        let judged = stream::protocol(&setup.ledger, own, &setup.phase, setup.seed ^ random.u64(..));
        let server = Arc::new(settings(builder).protocol(judged).start().await?);
        let mut application = JoinSet::new();
        application.spawn(take(setup.clone(), deliveries));
        let asking =
            Asking { setup: setup.clone(), server: server.clone(), own, echo, kv, gossip, random: random.fork() };
        application.spawn(asking.run(every));
        Ok(Self { server, application })
    }

    /// Ends it in order: its server has been told to end, or is dropped now.
    pub(super) async fn end(mut self) {
        self.application.shutdown().await;
    }
}

/// Takes what is delivered. Nothing may come twice.
async fn take(setup: Arc<Setup>, mut deliveries: mpsc::Receiver<Delivery>) {
    let (mut seen, mut scratch) = (Seen::default(), Vec::new());
    while let Some(delivery) = deliveries.recv().await {
        count(&setup.tally.delivered);
        match Label::of(&delivery.payload, &mut scratch) {
            None => setup.ledger.error("gossip delivered a message that nobody has published".to_owned()),
            Some(label) if seen.is_new(label.number) => {}
            Some(_) => count(&setup.tally.delivered_twice),
        }
    }
}

/// Which of the last numbers have come.
#[derive(Debug)]
struct Seen(Vec<u64>);

impl Default for Seen {
    fn default() -> Self {
        Self(vec![0; WINDOW])
    }
}

impl Seen {
    /// Whether it has not come before, as far as is remembered.
    fn is_new(&mut self, number: u64) -> bool {
        // One more, so that 0 is none.
        let (place, mark) = ((number % WINDOW as u64) as usize, number + 1);
        let before = self.0[place];
        self.0[place] = before.max(mark);
        before != mark
    }
}

/// An application that asks.
struct Asking {
    setup: Arc<Setup>,
    server: Arc<Server>,
    own: NodeId,
    echo: Echo,
    kv: Kv,
    gossip: Gossip,
    random: fastrand::Rng,
}

impl Asking {
    async fn run(mut self, every: Duration) {
        let (mut phase, mut requests) = (self.setup.phase.clone(), JoinSet::new());
        // A key is asked for once at a time.
        let mut keys: BTreeSet<u16> = (0..REQUESTS).collect();
        loop {
            let rest = every.mul_f64(2.0 * self.random.f64());
            tokio::select! {
                biased;
                () = reached(&mut phase, Phase::Settle) => break,
                Some(key) = requests.join_next() => keys.extend(key.ok()),
                () = sleep(rest) => self.act(&mut keys, &mut requests),
            }
        }
        while requests.join_next().await.is_some() {}
    }

    /// Publishes something, or asks one of the peers.
    fn act(&mut self, keys: &mut BTreeSet<u16>, requests: &mut JoinSet<u16>) {
        let payload = Label { end: 0, stream: 0, number: 1 }.payload(self.random.usize(SIZES));
        if self.random.u8(..20) == 0 {
            return self.publish(payload.len());
        }
        let mut peers = self.server.peers();
        peers.retain(|peer| peer.shared_capabilities().iter().any(|shared| shared.name() == "soak"));
        if peers.is_empty() {
            return;
        }
        let Some(key) = keys.pop_first() else { return };
        let peer = peers.swap_remove(self.random.usize(..peers.len()));
        let (setup, echo, kv, own) = (self.setup.clone(), self.echo.clone(), self.kv.clone(), self.own);
        let (is_echo, version) = (self.random.bool(), self.random.u64(..));
        requests.spawn(async move {
            let asked = async {
                if is_echo {
                    ask_echo(&echo, &peer, payload).await
                } else {
                    ask_kv(&kv, &peer, own, key, version).await
                }
            };
            let counter = if is_echo { &setup.tally.echo } else { &setup.tally.kv };
            match timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))) {
                Ok(true) => count(counter),
                Ok(false) => count(&setup.tally.unanswered),
                Err(error) => setup.ledger.error(error),
            }
            key
        });
    }

    fn publish(&self, size: usize) {
        let number = self.setup.tally.published.fetch_add(1, Ordering::Relaxed);
        let payload = Label { end: u64::MAX, stream: 0, number }.payload(size);
        if let Err(error) = self.gossip.publish(payload) {
            self.setup.ledger.error(format!("cannot publish: {error}"));
        }
    }
}

/// Whether the reply came; the protocol itself looks at its content.
async fn ask_echo(echo: &Echo, peer: &Peer, payload: Vec<u8>) -> Result<bool, String> {
    match echo.request(peer, payload).await {
        Ok(_) => Ok(true),
        // The queue of a peer that reads slowly may be full.
        Err(EchoError::Gone | EchoError::Send(SendError::Full)) => Ok(false),
        Err(error) => Err(format!("echo: {error}")),
    }
}

/// Stores something with a peer and asks for it; whether the right answers came.
async fn ask_kv(kv: &Kv, peer: &Peer, own: NodeId, key: u16, version: u64) -> Result<bool, String> {
    let (name, value) = (format!("{:.8}/{key}", own.to_string()), version.to_be_bytes().repeat(16));
    let found = async {
        kv.put(peer, name.clone(), value.clone()).await?;
        kv.get(peer, name).await
    };
    match found.await {
        Ok(Some(found)) if found == value => Ok(true),
        Ok(found) => Err(format!("kv: what was stored is not what is found: {found:?}")),
        Err(KvError::Request(RequestError::Gone)) => Ok(false),
        Err(error) => Err(format!("kv: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_delivered_twice_is_noticed() {
        let mut seen = Seen::default();
        assert!((0..100).all(|number| seen.is_new(number)));
        assert!(!seen.is_new(0) && !seen.is_new(99));
        let later = 10 + WINDOW as u64;
        assert!(seen.is_new(later) && !seen.is_new(later));
        assert!(seen.is_new(10), "too old to tell");
    }
}
