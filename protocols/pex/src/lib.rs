//! Peer exchange: connected nodes tell each other of nodes, so that one that knows a single node comes to know others.
//! What is learnt goes into an address book, from which a server dials.
//!
//! ```
//! use capmux::book::{AddressBook, SharedBook};
//! use capmux::{NodeKey, Server};
//! use capmux_pex::{Pex, PexSettings};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let book = SharedBook::new(AddressBook::random()?);
//! let (protocol, pex) = Pex::new(book.clone(), PexSettings::default());
//! let node = Server::builder(NodeKey::random()).listen("127.0.0.1:0".parse()?);
//! let server = node.protocol(protocol).address_book(book).start().await?;
//! if let Some(address) = server.local_addr() {
//!     pex.announce_port(address.port());
//! }
//! # server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! There is nothing to spawn: asking and answering are done by the handler that the server runs with each peer, and end
//! with it.
//!
//! # Who is asked, and what is believed
//! A node asks the peers that it has dialled, and those that have dialled it only while it knows few nodes: who
//! fills its places with connections of his own shall not fill its book as well. What a peer tells is offered to
//! the book with the peer as its [`Source`](capmux::book::Source), whose quota and whose view of the network the
//! book enforces: no address that cannot be routed from where the peer is, and no more nodes than four of the
//! book's buckets hold for all peers of its network. A peer whose answers are mostly of no use is rated down.
//!
//! A node tells of what its book [shares](capmux::book::AddressBook::share) with the asker, which is never a
//! private node, and tells one asker of 30 nodes at most in ten minutes, however often it asks.
//!
//! The wire is in `docs/pex.md`.

mod answers;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handler;
mod node;
mod pace;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use capmux::book::SharedBook;
use capmux::node::Enr;
use capmux::{NodeId, Protocol, typed};

use node::Node;
use wire::Announcement;

const NAME: &str = "pex";

/// How many nodes one answer tells of, at most.
pub const MAX_RECORDS: usize = 30;

/// The shortest time between two requests to the same peer. It begins with the answer to the first.
pub const MIN_INTERVAL: Duration = Duration::from_secs(3);

/// The longest time between two requests to the same peer, whatever the settings.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Above the longest answer: 30 records of 300 bytes.
const MAX_BODY_SIZE: usize = 10 * 1024;

/// How many messages of one peer wait for its handler.
const INBOX: usize = 8;

/// The settings of a node.
#[derive(Debug, Clone, Copy)]
pub struct PexSettings {
    /// How often a peer is asked, give or take a tenth. Default 30 s, at least
    /// [`MIN_INTERVAL`], at most a day.
    pub interval: Duration,
    /// While the book has fewer nodes than this, peers are asked more often, from [`MIN_INTERVAL`] up as long as they
    /// tell of new ones, and those that have dialled are asked, too. Default 16.
    pub few: usize,
    /// How long an answer may take. After that the peer is rated down, and left alone for ten times the
    /// [`interval`](Self::interval). Default 10 s.
    pub timeout: Duration,
    /// How long an asker is told of the same nodes, and so is everybody in its network (/24, /64) when it is a public
    /// one. Default ten minutes.
    pub same_answer: Duration,
    /// Where chance comes from, in simulations. Default `None`: from the operating system.
    pub seed: Option<u64>,
}

impl Default for PexSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            few: 16,
            timeout: Duration::from_secs(10),
            same_answer: Duration::from_secs(600),
            seed: None,
        }
    }
}

/// The peer exchange of one node. Clones are the same; dropping it ends nothing.
#[derive(Debug, Clone)]
pub struct Pex {
    node: Arc<Node>,
}

impl Pex {
    /// A protocol to be registered at the server that uses the same book, and a handle on it.
    pub fn new(book: SharedBook, settings: PexSettings) -> (Protocol, Self) {
        let node = Arc::new(Node::new(book, settings));
        let pex = Self { node: node.clone() };
        let run = move |peer, channel| handler::run(node.clone(), peer, channel);
        let protocol = typed::protocol(NAME, 1, run);
        (protocol.max_message_size(MAX_BODY_SIZE).inbox_messages(INBOX).inbox_bytes(2 * MAX_BODY_SIZE), pex)
    }

    /// Tells peers, those of now if they have been told nothing yet and those to come, that this node listens at the
    /// address they see it at, on this port. Without it, nodes that this one has dialled do not know where it listens.
    pub fn announce_port(&self, port: u16) {
        self.node.own.send_replace(Some(Announcement::Port(port)));
    }

    /// [`Pex::announce_port`] with a record that this node has signed, which peers pass on as it is. What it says of
    /// addresses other than the one they see is not believed.
    pub fn announce_record(&self, record: Enr) {
        self.node.own.send_replace(Some(Announcement::Signed(record)));
    }

    /// What has gone on so far.
    pub fn status(&self) -> PexStatus {
        self.node.status()
    }
}

/// What has gone on so far with all peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PexStatus {
    /// How many requests were made.
    pub asked: u64,
    /// How many of them were not answered in time.
    pub unanswered: u64,
    /// How many records came.
    pub records: u64,
    /// How many of them were of nodes that then were new in the book.
    pub new: u64,
    /// How many of them were of no use: without an address, or with one that cannot be dialled or that the peer cannot
    /// know.
    pub useless: u64,
    /// How many requests of peers were answered.
    pub served: u64,
    /// How many peers said where they listen, and were believed.
    pub announced: u64,
}

/// What a peer can do wrong, beside [`typed::Breach`]. It ends the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// It asks too often.
    #[error("a request {early:?} too early, where one in {MIN_INTERVAL:?} is allowed")]
    TooSoon {
        /// By how much.
        early: Duration,
    },
    /// It asks for no nodes, or for too many.
    #[error("nodes asked for with a count of {count}, where 1 to {MAX_RECORDS} are allowed")]
    Count {
        /// The count.
        count: u64,
    },
    /// It says a second time where it listens.
    #[error("it has said already where it listens")]
    AnnouncedTwice,
    /// It announces the record of another node.
    #[error("it announces the record of {id}, which is another node")]
    ForeignRecord {
        /// The other node.
        id: NodeId,
    },
}

#[cfg(test)]
mod tests;
