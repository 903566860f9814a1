//! The nodes of the workloads, and the protocol between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use capmux::{BoxError, Channel, Enode, NodeKey, Protocol, Server, ServerBuilder};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::PerfError;

/// The name of the protocol that the workloads use.
pub const NAME: &str = "perf";
/// Its version.
pub const VERSION: u64 = 1;
/// How many message codes it has.
pub const CODES: u64 = 3;

pub(crate) const DATA: u64 = 0;
pub(crate) const REQUEST: u64 = 1;
pub(crate) const REPLY: u64 = 2;

/// How long the handlers of a new peer may take to start.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many messages of data a node has received.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received(Arc<AtomicU64>);

impl Received {
    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A channel that was handed out of its handler. Dropping it ends the peer.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) channel: Channel,
    _handler: oneshot::Sender<()>,
}

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Bytes that do not compress.
pub(crate) fn random_payload(size: usize) -> Result<Bytes, PerfError> {
    let mut payload = vec![0; size];
    getrandom::fill(&mut payload).map_err(PerfError::random)?;
    Ok(payload.into())
}

/// The end that counts data and answers requests.
pub(crate) fn answering(received: Received) -> Protocol {
    Protocol::from_fn(NAME, VERSION, CODES, move |_peer, channel| answer(received.clone(), channel))
}

async fn answer(received: Received, mut channel: Channel) -> Result<(), BoxError> {
    while let Some(message) = channel.recv().await {
        match message.code {
            REQUEST => channel.send(REPLY, message.payload).await?,
            _ => drop(received.0.fetch_add(1, Ordering::Relaxed)),
        }
    }
    Ok(())
}

/// The end that a workload drives: the channel of each peer is handed out to it.
pub(crate) fn handed_out(peers: usize) -> (Protocol, mpsc::Receiver<Opened>) {
    let (opened, channels) = mpsc::channel(peers);
    let protocol = Protocol::from_fn(NAME, VERSION, CODES, move |_peer, channel| {
        let opened = opened.clone();
        async move {
            let (_handler, dropped) = oneshot::channel();
            // When nobody takes it, the peer ends, as it does when it was dropped later.
            let _ = opened.send(Opened { channel, _handler }).await;
            let _ = dropped.await;
            Ok(())
        }
    });
    (protocol, channels)
}

/// Takes so many of the channels that are handed out.
pub(crate) async fn take(channels: &mut mpsc::Receiver<Opened>, count: usize) -> Result<Vec<Opened>, PerfError> {
    let mut opened = Vec::with_capacity(count);
    while opened.len() < count {
        match timeout(PATIENCE, channels.recv()).await {
            Ok(Some(channel)) => opened.push(channel),
            _ => return Err(PerfError::Missing { have: opened.len(), needed: count }),
        }
    }
    Ok(opened)
}

/// A node that listens, with room for so many peers.
pub(crate) fn listening(peers: usize, protocol: Protocol) -> ServerBuilder {
    Server::builder(NodeKey::random())
        .listen(loopback())
        .max_peers(peers)
        .max_inbound(peers)
        .max_pending(peers)
        .protocol(protocol)
}

pub(crate) fn enode(server: &Server) -> Enode {
    server.enode().expect("it listens")
}

/// A node with a number of peers, each a node of its own in this process, to which it sends.
#[derive(Debug)]
pub struct Hub {
    received: Received,
    opened: Vec<Opened>,
    /// Dropping them ends everything.
    _nodes: Vec<Server>,
}

impl Hub {
    /// Starts a node and so many others that connect to it, and waits for all of them to be peers.
    ///
    /// # Errors
    /// [`PerfError`].
    pub async fn start(peers: usize) -> Result<Self, PerfError> {
        crate::process::allow_sockets(2 * peers as u64)?;
        let received = Received::default();
        let (protocol, mut channels) = handed_out(peers.max(1));
        let hub = listening(peers.max(1), protocol).start().await?;
        let enode = enode(&hub);
        let mut nodes = vec![hub];
        for _ in 0..peers {
            let node = Server::builder(NodeKey::random()).protocol(answering(received.clone())).start().await?;
            node.dial(&enode).await?;
            nodes.push(node);
        }
        let opened = take(&mut channels, peers).await?;
        Ok(Self { received, opened, _nodes: nodes })
    }

    /// How many messages of data the peers have received, together.
    pub fn received(&self) -> u64 {
        self.received.read()
    }

    /// How many peers there are.
    pub fn peers(&self) -> usize {
        self.opened.len()
    }

    /// Sends data to one peer, counted from 0 and beginning anew behind the last.
    ///
    /// # Errors
    /// [`PerfError::Send`].
    ///
    /// # Panics
    /// When there is no peer.
    pub async fn send(&self, peer: usize, payload: Bytes) -> Result<(), PerfError> {
        Ok(self.opened[peer % self.opened.len()].channel.send(DATA, payload).await?)
    }

    pub(crate) fn received_counter(&self) -> Received {
        self.received.clone()
    }

    pub(crate) fn channel(&mut self) -> Result<&mut Channel, PerfError> {
        let missing = PerfError::Missing { have: 0, needed: 1 };
        self.opened.first_mut().map(|opened| &mut opened.channel).ok_or(missing)
    }
}
