//! The settings about which nodes there are peers of, and how many.

use std::collections::BTreeSet;
use std::sync::Arc;
#[cfg(feature = "book-file")]
use std::time::Duration;

use tokio_stream::Stream;

use super::ServerBuilder;
use crate::book::SharedBook;
use crate::node::NodeAddr;
#[cfg(feature = "book-file")]
use crate::p2p::MAX_TIMEOUT;
use crate::server::access::{Access, Mark, Trust};
use crate::server::backoff::{Backoff, ExponentialBackoff};
use crate::server::candidates::CandidateStream;
use crate::server::gate::AcceptLimits;
use crate::server::peer_set::PeerLimits;
use crate::server::schedule::DialLimits;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Limits {
    pub(in crate::server) peers: usize,
    pub(in crate::server) inbound: Option<usize>,
    pub(in crate::server) outbound: Option<usize>,
    pub(in crate::server) accept: AcceptLimits,
    pub(in crate::server) dials: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let accept =
            AcceptLimits { max_pending: 50, max_per_address: 8, max_per_subnet: 16, limit_local_addresses: false };
        Self { peers: 50, inbound: None, outbound: None, accept, dials: 16 }
    }
}

impl Limits {
    /// With the defaults that depend on the number of all peers.
    pub(in crate::server) fn of_peers(&self) -> PeerLimits {
        let third = self.peers / 3;
        PeerLimits {
            max_peers: self.peers,
            max_inbound: self.inbound.unwrap_or(self.peers - third),
            max_outbound: self.outbound.unwrap_or(third.max(1).min(self.peers)),
        }
    }
}

/// Which nodes a server is to know, and how it is to come by others.
#[derive(Debug)]
pub(in crate::server) struct Nodes {
    pub(in crate::server) access: Access,
    pub(in crate::server) persistent: Vec<NodeAddr>,
    pub(in crate::server) private: Vec<NodeAddr>,
    pub(in crate::server) bootnodes: Vec<NodeAddr>,
    pub(in crate::server) candidates: Option<CandidateStream>,
    pub(in crate::server) book: Option<SharedBook>,
    #[cfg(feature = "book-file")]
    pub(in crate::server) book_file: Option<crate::server::saver::BookFile>,
    pub(in crate::server) backoff: Arc<dyn Backoff>,
    pub(in crate::server) seed: Option<u64>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            access: Access::default(),
            persistent: Vec::new(),
            private: Vec::new(),
            bootnodes: Vec::new(),
            candidates: None,
            book: None,
            #[cfg(feature = "book-file")]
            book_file: None,
            backoff: Arc::new(ExponentialBackoff::default()),
            seed: None,
        }
    }
}

impl Nodes {
    /// Whether the server looks for peers by itself.
    pub(in crate::server) fn are_looked_for(&self) -> bool {
        self.book.is_some() || !self.bootnodes.is_empty() || self.candidates.is_some()
    }

    /// The name of a setting that will not do.
    pub(in crate::server) fn out_of_range(&self) -> Option<&'static str> {
        #[cfg(feature = "book-file")]
        if self.book_file.as_ref().is_some_and(|file| file.interval.is_zero() || file.interval > MAX_TIMEOUT) {
            return Some("save_book");
        }
        let persistent: BTreeSet<_> = self.persistent.iter().map(NodeAddr::node_id).collect();
        (persistent.len() > DialLimits::default().waiting).then_some("persistent")
    }
}

impl ServerBuilder {
    /// The most peers at a time, in both directions together. Default 50. What comes above it is told
    /// [`TooManyPeers`](crate::DisconnectReason::TooManyPeers). [Persistent](Self::persistent) nodes pass it.
    pub fn max_peers(mut self, peers: usize) -> Self {
        self.limits.peers = peers;
        self
    }

    /// The most peers at a time that have dialled this node. Default: `max_peers` less a third of it; at most
    /// `max_peers`, and with 0 only those come in that pass it: [trusted](Self::trusted) and
    /// [persistent](Self::persistent) nodes, which take none of these places.
    pub fn max_inbound(mut self, peers: usize) -> Self {
        self.limits.inbound = Some(peers);
        self
    }

    /// The most peers at a time that this node has dialled of its own accord. Default: a third of `max_peers`, and 1 at
    /// least; at most `max_peers`. What the application dials is not limited by it.
    ///
    /// When all these places are taken, and there are two at least, the youngest of these peers makes room for another
    /// node every five minutes or so, once that one is a peer: otherwise the parts of a network that were parted for
    /// long would have no place left for each other. It is told
    /// [`TooManyPeers`](crate::DisconnectReason::TooManyPeers).
    pub fn max_outbound(mut self, peers: usize) -> Self {
        self.limits.outbound = Some(peers);
        self
    }

    /// The most inbound connections at a time that are not peers yet. Default 50. Those above it are closed unread.
    pub fn max_pending(mut self, connections: usize) -> Self {
        self.limits.accept.max_pending = connections;
        self
    }

    /// The most inbound connections at a time from one public address, peers included. Default 8. Those above it are
    /// closed unread, and so are those that come within 30 s of another from the same address, or from the same /64 of
    /// IPv6.
    ///
    /// Loopback, link-local and private addresses are not limited, unless [set so](Self::limit_local_addresses), and
    /// the numeric addresses of [trusted](Self::trusted) and [persistent](Self::persistent) nodes never are.
    pub fn max_per_address(mut self, connections: usize) -> Self {
        self.limits.accept.max_per_address = connections;
        self
    }

    /// The most inbound connections at a time from one /24 of IPv4 or /64 of IPv6, peers included. Default 16. Of
    /// [`max_pending`](Self::max_pending) it has half at the most. It is limited where
    /// [addresses](Self::max_per_address) are.
    pub fn max_per_subnet(mut self, connections: usize) -> Self {
        self.limits.accept.max_per_subnet = connections;
        self
    }

    /// Limits loopback, link-local and private addresses like public ones. Off by default: a proxy would share its
    /// limits among all that come through it.
    pub fn limit_local_addresses(mut self, limit: bool) -> Self {
        self.limits.accept.limit_local_addresses = limit;
        self
    }

    /// Which nodes may be peers, whoever dials. Default [`Trust::Open`]. Others are told
    /// [`UselessPeer`](crate::DisconnectReason::UselessPeer), once they have proved their keys.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.nodes.access.trust = trust;
        self
    }

    /// Adds a trusted node: it passes [`max_inbound`](Self::max_inbound), and its numeric addresses have no limits of
    /// their own.
    pub fn trusted(mut self, node: impl Into<NodeAddr>) -> Self {
        self.nodes.access.mark(Mark::Trusted, &node.into());
        self
    }

    /// Adds a persistent node: it is dialled until it is a peer, and again whenever it is lost; it passes
    /// [`max_peers`](Self::max_peers), too. [`Server::add_peer`](crate::Server::add_peer) adds one later.
    /// For one that was added already, addresses are added. There may be a thousand; this node itself is left out.
    pub fn persistent(mut self, node: impl Into<NodeAddr>) -> Self {
        let node = node.into();
        self.nodes.access.mark(Mark::Persistent, &node);
        self.nodes.persistent.push(node);
        self
    }

    /// Adds a private node: nobody else is ever told of it by way of the [address book](Self::address_book).
    pub fn private(mut self, node: impl Into<NodeAddr>) -> Self {
        self.nodes.private.push(node.into());
        self
    }

    /// Adds nodes to ask for others: while this node has dialled no peer that is there, they are dialled, at once if the
    /// [address book](Self::address_book) knows nobody else, and otherwise after 20 s. Peers that came by themselves do
    /// not count: they may all be one attacker's. Bootnodes are not put into the book, and asking them is for a
    /// protocol, such as that of the crate `capmux-pex`.
    pub fn bootnodes<N: Into<NodeAddr>>(mut self, nodes: impl IntoIterator<Item = N>) -> Self {
        self.nodes.bootnodes.extend(nodes.into_iter().map(Into::into));
        self
    }

    /// Takes nodes to dial from this stream, as long as there are places for them; see
    /// [`max_outbound`](Self::max_outbound). A second call replaces the first.
    pub fn candidates(mut self, nodes: impl Stream<Item = NodeAddr> + Send + 'static) -> Self {
        self.nodes.candidates = Some(CandidateStream::new(nodes));
        self
    }

    /// Uses this address book: its nodes are dialled up to [`max_outbound`](Self::max_outbound), those first that were
    /// peers in the last run, and it notes how that goes. Protocols may add to it and tell others of it.
    ///
    /// Without a book, bootnodes or candidates the server dials nobody of its own accord but persistent nodes.
    pub fn address_book(mut self, book: SharedBook) -> Self {
        self.nodes.book = Some(book);
        self
    }

    /// Saves the address book to this file at such intervals, if it has changed, and at a shutdown, with those that are
    /// peers then. An interval is above 0, and a year at most. [`AddressBook::load`](crate::book::AddressBook::load) reads it. A second writer of the same file
    /// would undo what the first has written.
    #[cfg(feature = "book-file")]
    pub fn save_book(mut self, path: impl Into<std::path::PathBuf>, interval: Duration) -> Self {
        self.nodes.book_file = Some(crate::server::saver::BookFile { path: path.into(), interval });
        self
    }

    /// How long to wait before a node is dialled again that could not be reached, or was lost at once. Default
    /// [`ExponentialBackoff`].
    pub fn backoff(mut self, backoff: impl Backoff + 'static) -> Self {
        self.nodes.backoff = Arc::new(backoff);
        self
    }

    /// Where the jitter of dials and the choice among nodes begin. Random by default; a simulation that is to be
    /// repeated sets it.
    pub fn seed(mut self, seed: u64) -> Self {
        self.nodes.seed = Some(seed);
        self
    }

    /// The most dials at a time. Default 16. Further ones wait.
    pub fn max_dials(mut self, dials: usize) -> Self {
        self.limits.dials = dials;
        self
    }
}
