//! The twins of the traits that can be kept behind a pointer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{ByteStream, Link, Listener, Transport};
use crate::node::Address;
use crate::peer::PeerError;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is known of the two ends of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Endpoints {
    pub(crate) transport: &'static str,
    pub(crate) remote: Option<Address>,
    pub(crate) local: Option<Address>,
}

impl Endpoints {
    fn split(transport: &'static str, link: Link) -> (ByteStream, Self) {
        (link.stream, Self { transport, remote: link.remote, local: link.local })
    }
}

/// Any transport.
#[derive(Clone)]
pub(crate) struct BoxedTransport {
    transport: Arc<dyn DynTransport>,
}

impl BoxedTransport {
    pub(crate) fn new(transport: impl Transport) -> Self {
        Self { transport: Arc::new(transport) }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.transport.name()
    }

    pub(crate) fn can_dial(&self, address: &Address) -> bool {
        self.transport.can_dial(address)
    }

    pub(crate) async fn dial(&self, address: &Address, limit: Duration) -> Result<(ByteStream, Endpoints), PeerError> {
        Ok(Endpoints::split(self.name(), self.transport.dial(address, limit).await?))
    }

    pub(crate) async fn listen(&self, address: &Address) -> io::Result<BoxedListener> {
        Ok(BoxedListener { transport: self.name(), listener: self.transport.listen(address).await? })
    }
}

impl fmt::Debug for BoxedTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.transport, f)
    }
}

/// The listener of any transport.
#[derive(Debug)]
pub(crate) struct BoxedListener {
    transport: &'static str,
    listener: Box<dyn DynListener>,
}

impl BoxedListener {
    /// The next stream.
    ///
    /// # Cancel safety
    /// No stream is lost when the future is dropped.
    pub(crate) async fn accept(&mut self) -> io::Result<(ByteStream, Endpoints)> {
        Ok(Endpoints::split(self.transport, self.listener.accept().await?))
    }

    pub(crate) fn local_address(&self) -> Address {
        self.listener.local_address()
    }
}

trait DynTransport: fmt::Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn can_dial(&self, address: &Address) -> bool;
    fn dial<'a>(&'a self, address: &'a Address, limit: Duration) -> BoxFuture<'a, Result<Link, PeerError>>;
    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn DynListener>>>;
}

impl<T: Transport> DynTransport for T {
    fn name(&self) -> &'static str {
        Transport::name(self)
    }

    fn can_dial(&self, address: &Address) -> bool {
        Transport::can_dial(self, address)
    }

    fn dial<'a>(&'a self, address: &'a Address, limit: Duration) -> BoxFuture<'a, Result<Link, PeerError>> {
        Box::pin(Transport::dial(self, address, limit))
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn DynListener>>> {
        Box::pin(async {
            let listener: Box<dyn DynListener> = Box::new(Transport::listen(self, address).await?);
            Ok(listener)
        })
    }
}

trait DynListener: fmt::Debug + Send {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Link>>;
    fn local_address(&self) -> Address;
}

impl<L: Listener> DynListener for L {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(Listener::accept(self))
    }

    fn local_address(&self) -> Address {
        Listener::local_address(self)
    }
}
