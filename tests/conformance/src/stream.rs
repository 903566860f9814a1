//! What a connection with the node runs over: TCP, or in tests of one process something that needs no time.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use capmux::{ByteStream, Enode, NodeAddr, PeerError, Transport, connect_tcp};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

type Dialled<'a> = Pin<Box<dyn Future<Output = Result<Stream, PeerError>> + Send + 'a>>;

/// A stream of bytes to the node.
pub struct Stream(Kind);

enum Kind {
    Tcp(TcpStream),
    Other(Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>),
}

/// Makes streams to the node. Clones are the same.
#[derive(Clone)]
pub(crate) struct Dialler(Arc<dyn Dial>);

impl Stream {
    /// Ends it with a reset where it can be.
    pub(crate) fn reset(self) {
        if let Kind::Tcp(stream) = self.0 {
            let _ = stream.set_zero_linger();
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(Kind::Tcp(stream))
    }
}

impl From<ByteStream> for Stream {
    fn from(stream: ByteStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self(Kind::Other(Box::new(reader), Box::new(writer)))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Kind::Other(reader, _) => Pin::new(reader).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Kind::Other(_, writer) => Pin::new(writer).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Kind::Other(_, writer) => Pin::new(writer).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Kind::Other(_, writer) => Pin::new(writer).poll_shutdown(context),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl Dialler {
    /// Over this transport.
    pub(crate) fn new(transport: impl Transport) -> Self {
        Self(Arc::new(Over(transport)))
    }

    /// A stream to the node, within this time.
    pub(crate) async fn dial(&self, enode: &Enode, limit: Duration) -> Result<Stream, PeerError> {
        self.0.dial(enode, limit).await
    }
}

impl Default for Dialler {
    /// Over TCP.
    fn default() -> Self {
        Self(Arc::new(Tcp))
    }
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialler")
    }
}

trait Dial: Send + Sync {
    fn dial<'a>(&'a self, enode: &'a Enode, limit: Duration) -> Dialled<'a>;
}

struct Tcp;

struct Over<T>(T);

impl Dial for Tcp {
    fn dial<'a>(&'a self, enode: &'a Enode, limit: Duration) -> Dialled<'a> {
        Box::pin(async move { Ok(connect_tcp(enode, limit).await?.into()) })
    }
}

impl<T: Transport> Dial for Over<T> {
    fn dial<'a>(&'a self, enode: &'a Enode, limit: Duration) -> Dialled<'a> {
        Box::pin(async move {
            let node = NodeAddr::from(enode);
            let address = node.addresses.first().expect("an enode URL has an address");
            Ok(self.0.dial(address, limit).await?.into_stream().into())
        })
    }
}
