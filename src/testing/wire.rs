//! What connects a pair: the same tests run over each.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Driven, PIPE, Pair, manual, node};
use crate::Protocol;
use crate::node::Address;
use crate::server::ServerBuilder;
use crate::transport::{BoxedTransport, ByteStream, Endpoints, Tcp};

/// How long a connection over loopback may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What connects the two peers of a [`Pair`]. [`over_each_wire!`](crate::over_each_wire) runs tests over both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wire {
    /// A pipe in memory, with which the time can be virtual.
    Memory,
    /// TCP over loopback, which takes real time.
    Tcp,
}

impl Wire {
    /// [`pair`](super::pair) over this.
    ///
    /// # Panics
    /// As [`pair`](super::pair), or when there is no loopback interface.
    pub async fn pair(self, first: ServerBuilder, second: ServerBuilder) -> Pair {
        super::connect(self.streams().await, first, second).await
    }

    /// [`drive`](super::drive) over this.
    ///
    /// # Panics
    /// As [`Wire::pair`].
    pub async fn drive(self, name: &str, version: u64, length: u64, protocol: Protocol) -> Driven {
        let (own, mut opened) = manual(name, version, length);
        let pair = self.pair(node().protocol(own), node().protocol(protocol)).await;
        let (_, channel) = opened.next().await;
        Driven { channel, pair }
    }

    /// The end that dials, and the one that accepts.
    async fn streams(self) -> [(ByteStream, Endpoints); 2] {
        match self {
            Self::Memory => {
                let (one, other) = tokio::io::duplex(PIPE);
                [one, other].map(|stream| (stream.into(), in_memory()))
            }
            Self::Tcp => {
                let (tcp, loopback) = (BoxedTransport::new(Tcp), Address::Ip((Ipv4Addr::LOCALHOST, 0).into()));
                let mut listener = tcp.listen(&loopback).await.expect("a port is free");
                let address = listener.local_address();
                let (dialled, accepted) = tokio::join!(tcp.dial(&address, LIMIT), listener.accept());
                [dialled.expect("it listens"), accepted.expect("it is dialled")]
            }
        }
    }
}

/// What is known of a pipe.
pub(super) fn in_memory() -> Endpoints {
    Endpoints { transport: "memory", remote: None, local: None }
}

/// Makes of each named `async fn(Wire)` of the module two tests: `NAME::in_memory`, in virtual time, and
/// `NAME::over_tcp`.
///
/// ```
/// # // Tests are compiled by `cargo test` alone.
/// use capmux::testing::{self, Wire};
///
/// capmux::over_each_wire!(they_become_peers);
///
/// async fn they_become_peers(wire: Wire) {
///     let (chat, _opened) = testing::manual("chat", 1, 1);
///     wire.pair(testing::node().protocol(chat.clone()), testing::node().protocol(chat)).await;
/// }
/// ```
#[macro_export]
macro_rules! over_each_wire {
    ($($test:ident),* $(,)?) => {$(
        #[cfg(test)]
        mod $test {
            #[tokio::test(start_paused = true)]
            async fn in_memory() {
                super::$test($crate::testing::Wire::Memory).await;
            }

            #[tokio::test]
            async fn over_tcp() {
                super::$test($crate::testing::Wire::Tcp).await;
            }
        }
    )*};
}
