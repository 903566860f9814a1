//! Encryption handshakes, at both ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capmux::{Connection, NodeKey, PublicKey};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::node::loopback;
use crate::{Observed, PerfError, Window};

/// How many handshakes this machine makes.
#[derive(Debug, Clone, Copy)]
pub struct HandshakeRate(Observed);

impl HandshakeRate {
    /// Handshakes a second.
    pub fn per_s(&self) -> f64 {
        self.0.per_s()
    }

    /// CPU time of both ends for a handshake, TCP included; `None` where the platform does not tell.
    pub fn cpu(&self) -> Option<Duration> {
        self.0.cpu_each()
    }
}

/// Makes a TCP connection and the encryption handshake on it, both ends in this process, and closes it; `at_once` of
/// them at a time. There is no Hello.
///
/// # Errors
/// [`PerfError`].
pub async fn handshakes(at_once: usize, window: Window) -> Result<HandshakeRate, PerfError> {
    let failed = || PerfError::io("connect over loopback TCP");
    let key = Arc::new(NodeKey::random());
    let remote = key.public_key();
    let listener = TcpListener::bind(loopback()).await.map_err(failed())?;
    let address = listener.local_addr().map_err(failed())?;
    // Whatever is in the sets ends with this function.
    let mut dialled = JoinSet::new();
    dialled.spawn(accept(listener, key));
    let (made, mut dialling) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    for _ in 0..at_once.max(1) {
        let made = made.clone();
        dialling.spawn(async move {
            let key = NodeKey::random();
            loop {
                dial(address, &key, remote).await?;
                made.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let observed = window.observe(|| made.load(Ordering::Relaxed)).await;
    match dialling.try_join_next() {
        None => Ok(HandshakeRate(observed)),
        Some(ended) => {
            let ended: Result<(), PerfError> = ended.map_err(PerfError::task)?;
            ended.map(|()| HandshakeRate(observed))
        }
    }
}

async fn dial(address: std::net::SocketAddr, key: &NodeKey, remote: PublicKey) -> Result<(), PerfError> {
    let failed = || PerfError::io("connect over loopback TCP");
    let stream = TcpStream::connect(address).await.map_err(failed())?;
    stream.set_nodelay(true).map_err(failed())?;
    // Closed with a reset: thousands a second would use up the ports in half a minute.
    stream.set_zero_linger().map_err(failed())?;
    Connection::initiate(stream, key, remote).await?;
    Ok(())
}

async fn accept(listener: TcpListener, key: Arc<NodeKey>) {
    let mut ends = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                let key = key.clone();
                // What fails here fails at the other end too, which tells.
                ends.spawn(async move { Connection::accept(stream, &key).await.is_ok() });
            }
            Some(_) = ends.join_next() => {}
        }
    }
}
