//! A newcomer that knows one node finds the others by peer exchange, and connects to them.

use std::time::Duration;

use capmux::book::{AddressBook, SharedBook};
use capmux::{NodeAddr, NodeId, NodeKey, Server};
use capmux_pex::{Pex, PexSettings};
use tokio::time::Instant;

use super::{Cue, Line, Outcome, start};

/// How many nodes there are beside the one that the newcomer knows.
pub(in crate::demo) const OTHERS: usize = 5;

/// Listeners, and both ends of connections.
pub(super) const FILES: usize = 2 + OTHERS + 2 * (2 * OTHERS + 1);

/// How the newcomer found the others.
#[derive(Debug)]
pub(in crate::demo) struct Newcomer {
    /// How many it was told of, and how many it is connected to, the one that it knew from the first included.
    pub(in crate::demo) found: usize,
    pub(in crate::demo) connected: usize,
    /// How often it asked.
    pub(in crate::demo) asked: u64,
    /// How long it took from its start.
    pub(in crate::demo) found_after: Duration,
    pub(in crate::demo) connected_after: Duration,
}

/// A node with an address book.
struct Node {
    server: Server,
    book: SharedBook,
    pex: Pex,
}

impl Node {
    async fn start(name: &str, bootnode: Option<NodeAddr>, max_outbound: usize) -> Result<Self, String> {
        let book = AddressBook::random().map_err(|error| format!("no address book: {error}"))?;
        let book = SharedBook::new(book);
        let (protocol, pex) = Pex::new(book.clone(), PexSettings::default());
        let builder = Server::builder(NodeKey::random()).protocol(protocol).address_book(book.clone());
        let server = start(name, 0, builder.bootnodes(bootnode).max_outbound(max_outbound)).await?;
        pex.announce_port(server.local_addr().ok_or("a node does not listen")?.port());
        Ok(Self { server, book, pex })
    }

    /// How many of these nodes are in its book.
    fn knows(&self, ids: &[NodeId]) -> usize {
        self.book.with(|book, now| ids.iter().filter(|id| book.find(id, now).is_some()).count())
    }
}

pub(super) async fn play(mut cue: Cue, line: Line) -> Outcome<Newcomer> {
    let bootnode = Node::start("bootnode", None, 0).await?;
    let known = bootnode.server.node_addr().ok_or("the bootnode does not listen")?;
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        others.push(Node::start("settled", Some(known.clone()), 1).await?);
    }
    let ids: Vec<_> = others.iter().map(|other| other.server.id()).collect();
    let found = match cue.wait_for("a bootnode knows its peers", || bootnode.knows(&ids) == OTHERS).await? {
        true => find(&mut cue, &line, known, &ids).await,
        false => Ok(None),
    };
    for node in others.iter().chain([&bootnode]) {
        node.server.shutdown().await;
    }
    found
}

/// Starts the newcomer, and waits until it has found all others.
async fn find(cue: &mut Cue, line: &Line, bootnode: NodeAddr, others: &[NodeId]) -> Outcome<Newcomer> {
    let begun = Instant::now();
    let newcomer = Node::start("newcomer", Some(bootnode), OTHERS + 1).await?;
    let mut result =
        Newcomer { found: 0, connected: 0, asked: 0, found_after: Duration::ZERO, connected_after: Duration::ZERO };
    let are_found = || {
        let (found, connected) = (newcomer.knows(others), newcomer.server.peers().len());
        if found > result.found {
            (result.found, result.found_after) = (found, begun.elapsed());
        }
        if connected > result.connected {
            (result.connected, result.connected_after) = (connected, begun.elapsed());
        }
        line.write(format!("{found} of {OTHERS} nodes found, connected to {connected}"));
        found == OTHERS && connected == OTHERS + 1
    };
    let is_done = cue.wait_for("a newcomer is connected to all nodes", are_found).await?;
    let status = newcomer.pex.status();
    result.asked = status.asked;
    newcomer.server.shutdown().await;
    match is_done {
        true if status.new < OTHERS as u64 => {
            Err(format!("peer exchange has told of {} nodes that were new, and not of {OTHERS}", status.new))
        }
        true => Ok(Some(result)),
        false => Ok(None),
    }
}
