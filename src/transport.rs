//! What a connection runs over: a stream of bytes in two halves, and how one is made to a node.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use crate::node::{Enode, Host};
use crate::p2p::MAX_TIMEOUT;
use crate::peer::{PeerError, Stage};

pub(crate) type BoxedReader = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type BoxedWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// A stream of bytes in two halves, which are moved to different tasks.
pub struct ByteStream {
    pub(crate) reader: BoxedReader,
    pub(crate) writer: BoxedWriter,
}

impl ByteStream {
    /// A stream of any two halves.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self { reader: Box::new(reader), writer: Box::new(writer) }
    }
}

impl From<TcpStream> for ByteStream {
    fn from(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self::new(reader, writer)
    }
}

impl From<DuplexStream> for ByteStream {
    fn from(stream: DuplexStream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self::new(reader, writer)
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteStream")
    }
}

/// Makes a TCP connection to a node, for [`Connection::initiate`](crate::Connection::initiate). A name is resolved, and
/// its addresses are tried in turn, each for its share of the time that is left of `limit`.
///
/// # Errors
/// [`PeerError::Resolve`], and [`PeerError::Connect`] or [`PeerError::Timeout`] of the last address.
pub async fn connect_tcp(enode: &Enode, limit: Duration) -> Result<TcpStream, PeerError> {
    let late = || PeerError::Timeout { stage: Stage::Dial, limit };
    let deadline = Instant::now() + limit.min(MAX_TIMEOUT);
    let addresses = timeout_at(deadline, resolve(enode)).await.unwrap_or_else(|_| Err(late()))?;
    let mut last = PeerError::Resolve { host: enode.host.to_string(), source: io::ErrorKind::NotFound.into() };
    for (place, address) in addresses.iter().copied().enumerate() {
        let share = deadline.saturating_duration_since(Instant::now()).div_f64((addresses.len() - place) as f64);
        let failed = |source| PeerError::Connect { address, source };
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

/// So many bytes may wait in the kernel to be sent. More would go out ahead of what is said later, whatever its weight,
/// and gain nothing: what is sent and not acknowledged does not count.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT_IN_KERNEL: u32 = 128 * 1024;

/// Sets up a socket for messages of several protocols: a lone one leaves at once, and queues are kept here, not in the
/// kernel.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_IN_KERNEL)?;
    Ok(())
}

async fn resolve(enode: &Enode) -> Result<Vec<SocketAddr>, PeerError> {
    let failed = |source| PeerError::Resolve { host: enode.host.to_string(), source };
    match &enode.host {
        Host::Ip(ip) => Ok(vec![(*ip, enode.tcp_port).into()]),
        Host::Domain(name) => Ok(lookup_host((name.as_str(), enode.tcp_port)).await.map_err(failed)?.collect()),
    }
}
