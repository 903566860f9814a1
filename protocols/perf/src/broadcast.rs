//! The same message to many peers. The sender has a process to itself, so that its CPU time is its own.

use std::time::Duration;

use bytes::BytesMut;
use capmux::p2p::{Hello, MessageEncoder, P2P_VERSION};
use capmux::rlpx::{Established, HandshakeRandom, Initiator, Step};
use capmux::{Capability, Enode, NodeKey, PeerError, Server, SharedMessage, connect_tcp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::node::{DATA, NAME, Opened, VERSION, enode, listening, random_payload, take};
use crate::{Observed, PerfError, Window, process};

/// How long the node may take to be connected to.
const DIAL: Duration = Duration::from_secs(5);

/// How much of what comes is thrown away at a time.
const READ: usize = 256 * 1024;

/// A node that waits for peers to broadcast to: those of [`drain`] in another process.
#[derive(Debug)]
pub struct Broadcaster {
    server: Server,
    channels: mpsc::Receiver<Opened>,
    peers: usize,
}

/// What a broadcast cost its sender.
#[derive(Debug, Clone, Copy)]
pub struct BroadcastRate {
    size: usize,
    observed: Observed,
}

impl BroadcastRate {
    /// Bytes of payload a second, over all peers.
    pub fn bytes_per_s(&self) -> f64 {
        self.observed.per_s() * self.size as f64
    }

    /// Bytes of payload, over all peers, for a second of CPU time of this process; `None` where the platform does not
    /// tell.
    pub fn bytes_per_cpu_s(&self) -> Option<f64> {
        Some(self.size as f64 / self.observed.cpu_each()?.as_secs_f64())
    }
}

impl Broadcaster {
    /// Starts a node for so many peers.
    ///
    /// # Errors
    /// [`PerfError`].
    pub async fn start(peers: usize) -> Result<Self, PerfError> {
        process::allow_sockets(peers as u64)?;
        let (protocol, channels) = crate::node::handed_out(peers.max(1));
        Ok(Self { server: listening(peers.max(1), protocol).start().await?, channels, peers })
    }

    /// What the peers have to dial.
    pub fn enode(&self) -> Enode {
        enode(&self.server)
    }

    /// Waits for all peers, and sends messages with payloads of `size` bytes, each to all of them, as fast as they take
    /// them. A window must be shorter than half a minute: [`drain`] answers no Ping.
    ///
    /// # Errors
    /// [`PerfError`].
    pub async fn run(mut self, size: usize, window: Window) -> Result<BroadcastRate, PerfError> {
        let payload = random_payload(size)?;
        let opened = take(&mut self.channels, self.peers).await?;
        let sending = tokio::spawn(async move {
            loop {
                // A broadcast that waits for all: the measure is what each copy costs, and none may be lost.
                let message = SharedMessage::new(DATA, payload.clone());
                for peer in &opened {
                    peer.channel.sender().send_shared(&message).await?;
                }
            }
        });
        let observed = window.observe(|| self.server.traffic().messages_sent).await;
        if sending.is_finished() {
            let ended: Result<Result<(), PerfError>, _> = sending.await;
            ended.map_err(PerfError::task)??;
        }
        Ok(BroadcastRate { size, observed })
    }
}

/// Connects to a node as so many peers, each with a key of its own, and throws away what comes unread: neither
/// decrypted nor answered. Returns when the node has closed all connections.
///
/// # Errors
/// [`PerfError`], when a connection cannot be made.
pub async fn drain(node: &Enode, peers: usize) -> Result<(), PerfError> {
    process::allow_sockets(peers as u64)?;
    let mut drains = JoinSet::new();
    for _ in 0..peers {
        let mut stream = greet(node).await?;
        drains.spawn(async move {
            let mut buffer = vec![0; READ];
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        });
    }
    while drains.join_next().await.is_some() {}
    Ok(())
}

/// Makes the encryption handshake and says Hello.
async fn greet(node: &Enode) -> Result<TcpStream, PerfError> {
    let failed = || PerfError::io("shake hands with the broadcasting node");
    let key = NodeKey::random();
    let mut stream = connect_tcp(node, DIAL).await?;
    let random = HandshakeRandom::from_os().map_err(PerfError::random)?;
    let (mut state, auth) = Initiator::new(&key, node.public_key, random).map_err(PeerError::from)?;
    stream.write_all(&auth).await.map_err(failed())?;
    let mut buffer = [0; 512];
    let Established { egress, .. } = loop {
        let wants = state.wants().min(buffer.len());
        let read = stream.read(&mut buffer[..wants]).await.map_err(failed())?;
        if read == 0 {
            return Err(PeerError::Closed { inside_message: true }.into());
        }
        match state.receive(&mut &buffer[..read]).map_err(PeerError::from)? {
            Step::More(next) => state = next,
            Step::Done(established) => break established,
        }
    };
    let hello = Hello {
        version: P2P_VERSION,
        client_id: "capmux-perf drain".into(),
        capabilities: vec![Capability::new(NAME, VERSION).expect("the name is short")],
        listen_port: 0,
        public_key: key.public_key(),
    };
    let mut out = BytesMut::new();
    MessageEncoder::new(egress).hello(&hello, &mut out).map_err(PeerError::from)?;
    stream.write_all(&out).await.map_err(failed())?;
    Ok(stream)
}
