//! What a connection runs over: a stream of bytes in two halves, and the transports that make one to a node.

mod boxed;
mod tcp;

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;

use crate::node::Address;
use crate::peer::PeerError;

pub(crate) use boxed::{BoxedListener, BoxedTransport, Endpoints};
pub use tcp::{Tcp, TcpListener, connect_tcp};

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

    /// Both halves: what the other end has written, and what it is to read.
    pub fn into_split(self) -> (impl AsyncRead + Send + Unpin, impl AsyncWrite + Send + Unpin) {
        (self.reader, self.writer)
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

/// A way to make streams of bytes to other nodes, with addresses of its own kind; a
/// [server](crate::ServerBuilder::transport) has one or several.
///
/// The stream need be neither encrypted nor authenticated, but whole and in order. What has been written before its
/// writer is shut down arrives, also when both halves are dropped right after: a transport that would throw away what
/// is under way waits for it in `poll_shutdown`, or in a task of its own. A transport is written without a word of the
/// protocols above it:
///
/// ```
/// use std::{io, time::Duration};
///
/// use capmux::{Address, Link, Listener, PeerError, Transport};
///
/// /// Unix domain sockets, at addresses such as `unix:///run/node.sock`.
/// #[derive(Debug)]
/// struct Unix;
///
/// impl Transport for Unix {
///     type Listener = UnixListener;
///
///     fn name(&self) -> &'static str {
///         "unix"
///     }
///
///     fn can_dial(&self, address: &Address) -> bool {
///         path(address).is_some()
///     }
///
///     async fn dial(&self, address: &Address, _limit: Duration) -> Result<Link, PeerError> {
///         let failed = |source| PeerError::Connect { address: address.clone(), source };
///         let path = path(address).ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))?;
///         let (reader, writer) = tokio::net::UnixStream::connect(path).await.map_err(failed)?.into_split();
///         Ok(Link::new(capmux::ByteStream::new(reader, writer)).with_remote(address.clone()))
///     }
///
///     async fn listen(&self, address: &Address) -> io::Result<UnixListener> {
///         let path = path(address).ok_or(io::ErrorKind::Unsupported)?;
///         Ok(UnixListener { listener: tokio::net::UnixListener::bind(path)?, address: address.clone() })
///     }
/// }
///
/// #[derive(Debug)]
/// struct UnixListener {
///     listener: tokio::net::UnixListener,
///     address: Address,
/// }
///
/// impl Listener for UnixListener {
///     async fn accept(&mut self) -> io::Result<Link> {
///         let (reader, writer) = self.listener.accept().await?.0.into_split();
///         Ok(Link::new(capmux::ByteStream::new(reader, writer)).with_local(self.address.clone()))
///     }
///
///     fn local_address(&self) -> Address {
///         self.address.clone()
///     }
/// }
///
/// fn path(address: &Address) -> Option<&str> {
///     match address {
///         Address::Other(scheme, path) if &**scheme == "unix" => Some(path),
///         _ => None,
///     }
/// }
/// ```
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// What accepts streams for it.
    type Listener: Listener;

    /// What [`Peer::transport`](crate::Peer::transport) shows, such as `tcp`.
    fn name(&self) -> &'static str;

    /// Whether the address is one of its kind, to be dialled or listened on. It is asked before each dial, and answers
    /// at once.
    fn can_dial(&self, address: &Address) -> bool;

    /// Makes a stream to this address. After `limit` the future is dropped; an address that stands for several may use
    /// it to give each its share.
    ///
    /// # Errors
    /// [`PeerError::Connect`], [`PeerError::Resolve`], or [`PeerError::Timeout`].
    ///
    /// # Cancel safety
    /// What has been made must not outlive the future when that is dropped.
    fn dial(&self, address: &Address, limit: Duration) -> impl Future<Output = Result<Link, PeerError>> + Send;

    /// Accepts streams at this address from now on, until the listener is dropped.
    ///
    /// # Errors
    /// Why the address cannot be listened on.
    fn listen(&self, address: &Address) -> impl Future<Output = io::Result<Self::Listener>> + Send;
}

/// Accepts streams of bytes, for a [`Transport`].
pub trait Listener: fmt::Debug + Send + 'static {
    /// The next stream. What fails with a single stream is that stream's matter, and no error here.
    ///
    /// Streams are counted and limited once they are returned, by the IP address of [`Link::with_remote`]. A transport
    /// with a handshake of its own leaves that to the first use of the stream's halves, so that it is made for those
    /// alone that are let in, and no slow one holds up the others.
    ///
    /// # Errors
    /// When streams cannot be accepted for now, as for want of descriptors. It is called again, five times a second.
    ///
    /// # Cancel safety
    /// It must lose no stream when the future is dropped: it is, whenever something else happens on the server.
    fn accept(&mut self) -> impl Future<Output = io::Result<Link>> + Send;

    /// Where others reach it: with the port that was chosen, where there are ports.
    fn local_address(&self) -> Address;
}

/// A stream of bytes to another node, and the addresses of its ends, as far as they are known.
#[derive(Debug)]
pub struct Link {
    stream: ByteStream,
    remote: Option<Address>,
    local: Option<Address>,
}

impl Link {
    /// A stream whose ends have no addresses.
    pub fn new(stream: impl Into<ByteStream>) -> Self {
        Self { stream: stream.into(), remote: None, local: None }
    }

    /// Adds the address of the other end. Limits by address hold where it is an [`Address::Ip`], whatever the
    /// transport.
    pub fn with_remote(self, address: impl Into<Address>) -> Self {
        Self { remote: Some(address.into()), ..self }
    }

    /// Adds the address of this end.
    pub fn with_local(self, address: impl Into<Address>) -> Self {
        Self { local: Some(address.into()), ..self }
    }

    /// The address of the other end, if it is known.
    pub fn remote_address(&self) -> Option<&Address> {
        self.remote.as_ref()
    }

    /// The address of this end, if it is known.
    pub fn local_address(&self) -> Option<&Address> {
        self.local.as_ref()
    }

    /// The stream alone.
    pub fn into_stream(self) -> ByteStream {
        self.stream
    }
}
