//! TCP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{self, TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Link, Listener, Transport};
use crate::node::{Address, Enode, NodeAddr};
use crate::p2p::MAX_TIMEOUT;
use crate::peer::{PeerError, Stage};

/// TCP, at IP addresses and at names that the operating system resolves: what a server uses unless it is given another
/// [transport](crate::ServerBuilder::transport).
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Transport for Tcp {
    type Listener = TcpListener;

    fn name(&self) -> &'static str {
        "tcp"
    }

    fn can_dial(&self, address: &Address) -> bool {
        matches!(address, Address::Ip(_) | Address::Domain(..))
    }

    async fn dial(&self, address: &Address, limit: Duration) -> Result<Link, PeerError> {
        let stream = connect(address, limit).await?;
        let failed = |source| PeerError::Connect { address: address.clone(), source };
        let (remote, local) = (stream.peer_addr().map_err(failed)?, stream.local_addr().map_err(failed)?);
        Ok(Link::new(stream).with_remote(remote).with_local(local))
    }

    async fn listen(&self, address: &Address) -> io::Result<TcpListener> {
        let listener = match address {
            Address::Ip(address) => net::TcpListener::bind(address).await?,
            Address::Domain(name, port) => net::TcpListener::bind((&**name, *port)).await?,
            Address::Other(..) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(TcpListener { address: listener.local_addr()?, listener })
    }
}

/// Accepts TCP connections.
#[derive(Debug)]
pub struct TcpListener {
    listener: net::TcpListener,
    address: SocketAddr,
}

impl Listener for TcpListener {
    async fn accept(&mut self) -> io::Result<Link> {
        let (stream, remote) = loop {
            match self.listener.accept().await {
                // That one was gone before it was taken. The next may be there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                accepted => break accepted?,
            }
        };
        if let Err(error) = tune(&stream) {
            // It is closed already: who reads from it will see.
            tracing::debug!(%remote, "cannot set up a socket: {error}");
        }
        let local = stream.local_addr().unwrap_or(self.address);
        Ok(Link::new(stream).with_remote(remote).with_local(local))
    }

    fn local_address(&self) -> Address {
        self.address.into()
    }
}

/// Makes a TCP connection to a node, for [`Connection::initiate`](crate::Connection::initiate). A name is resolved, and
/// its addresses are tried in turn, each for its share of the time that is left of `limit`.
///
/// # Errors
/// [`PeerError::Resolve`], and [`PeerError::Connect`] or [`PeerError::Timeout`] of the last address.
pub async fn connect_tcp(enode: &Enode, limit: Duration) -> Result<TcpStream, PeerError> {
    let node = NodeAddr::from(enode);
    let address = node.addresses.first().expect("an enode has an address");
    connect(address, limit).await
}

async fn connect(address: &Address, limit: Duration) -> Result<TcpStream, PeerError> {
    let late = || PeerError::Timeout { stage: Stage::Dial, limit };
    let deadline = Instant::now() + limit.min(MAX_TIMEOUT);
    let addresses = timeout_at(deadline, resolve(address)).await.unwrap_or_else(|_| Err(late()))?;
    let mut last = unresolved(address, io::ErrorKind::NotFound.into());
    for (place, address) in addresses.iter().copied().enumerate() {
        let share = deadline.saturating_duration_since(Instant::now()).div_f64((addresses.len() - place) as f64);
        let failed = |source| PeerError::Connect { address: address.into(), source };
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream).map_err(failed)?;
                return Ok(stream);
            }
            Ok(Err(source)) => last = failed(source),
            Err(_) => last = late(),
        }
    }
    Err(last)
}

async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, PeerError> {
    match address {
        Address::Ip(address) => Ok(vec![*address]),
        Address::Domain(name, port) => {
            let found = lookup_host((&**name, *port)).await.map_err(|source| unresolved(address, source))?;
            Ok(found.collect())
        }
        Address::Other(..) => {
            Err(PeerError::Connect { address: address.clone(), source: io::ErrorKind::Unsupported.into() })
        }
    }
}

fn unresolved(address: &Address, source: io::Error) -> PeerError {
    let host = match address {
        Address::Domain(name, _) => name.to_string(),
        other => other.to_string(),
    };
    PeerError::Resolve { host, source }
}

/// So many bytes may wait in the kernel to be sent. More would go out ahead of what is said later, whatever its weight,
/// and gain nothing: what is sent and not acknowledged does not count.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT_IN_KERNEL: u32 = 128 * 1024;

/// Sets up a socket for messages of several protocols: a lone one leaves at once, and queues are kept here, not in the
/// kernel.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_IN_KERNEL)?;
    Ok(())
}
