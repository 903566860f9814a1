//! The nodes of the demo: started, connected, watched, and shut down.

use std::sync::Arc;
use std::time::Duration;

use capmux::{NodeKey, Peer, Server, Traffic};
use capmux_echo::Echo;
use capmux_gossip::{Delivery, Gossip, Settings};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::graph::Graph;
use super::load;
use super::tally::Tally;
use crate::exit::{Exit, Failure};

/// How long the protocols of a new connection may take to start, and what was delivered to be counted.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a TCP connection within the machine may take.
const DIAL: Duration = Duration::from_secs(2);

/// A node with the ends of its protocols that the demo holds.
pub(super) struct Node {
    server: Server,
    pub(super) echo: Echo,
    pub(super) gossip: Gossip,
}

/// A connection: who dialled, who was dialled, and the peer that the former has.
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) peer: Peer,
}

/// All nodes, and the tasks that take what is delivered to them.
pub(super) struct Network {
    pub(super) nodes: Vec<Node>,
    applications: JoinSet<()>,
}

impl Network {
    /// Starts so many nodes, each on a port of its own.
    pub(super) async fn start(count: usize, tally: &Arc<Tally>) -> Result<Self, Failure> {
        let mut network = Self { nodes: Vec::new(), applications: JoinSet::new() };
        for number in 0..count {
            let (node, deliveries) = start_node(number, count).await.map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot start node {number} of {count}: {error}"))
            })?;
            network.nodes.push(node);
            network.applications.spawn(application(number, deliveries, tally.clone()));
        }
        Ok(network)
    }

    /// Makes the connections one after another, so that none waits for the others' cryptography, up to the first that
    /// cannot be made.
    pub(super) async fn connect(&self, graph: &Graph, tally: &Tally) -> Vec<Link> {
        let mut links = Vec::new();
        for &(from, to) in graph.edges() {
            let enode = self.nodes[to].server.enode().expect("every node listens");
            let start = Instant::now();
            match self.nodes[from].server.dial(&enode).await {
                Ok(peer) => {
                    tally.connected(start.elapsed(), peer.setup_times());
                    links.push(Link { from, to, peer });
                }
                Err(ending) => {
                    tally.error(format!("node {from} could not connect to node {to}: {ending}"));
                    return links;
                }
            }
        }
        let started = async {
            for (number, node) in self.nodes.iter().enumerate() {
                let peers = links.iter().filter(|link| link.from == number || link.to == number).count();
                node.gossip.wait_for_peers(peers).await;
            }
        };
        if timeout(PATIENCE, started).await.is_err() {
            tally.error(format!("the protocols did not start within {PATIENCE:?} on all connections"));
        }
        links
    }

    /// What has gone over all connections.
    pub(super) fn traffic(&self) -> Traffic {
        total(self.nodes.iter().map(|node| node.server.traffic()))
    }

    /// Notes connections that have ended by themselves.
    pub(super) fn check(&self, links: &[Link], tally: &Tally) {
        for Link { from, to, peer } in links {
            if let Some(ending) = peer.ending() {
                tally.error(format!("the connection of node {from} to node {to} ended: {ending}"));
            }
        }
    }

    /// Shuts all nodes down in order, and returns what has gone over their connections.
    pub(super) async fn shutdown(self, tally: &Tally) -> Traffic {
        let Self { nodes, mut applications } = self;
        let mut shutdowns = JoinSet::new();
        for Node { server, .. } in nodes {
            shutdowns.spawn(async move {
                server.shutdown().await;
                server
            });
        }
        let servers = shutdowns.join_all().await;
        for peers in servers.iter().map(|server| server.peers().len()).filter(|peers| *peers > 0) {
            tally.error(format!("a node still had {peers} peers after its shutdown"));
        }
        let traffic = total(servers.iter().map(Server::traffic));
        // With the servers the deliveries end.
        drop(servers);
        let ended = async { while applications.join_next().await.is_some() {} };
        if timeout(PATIENCE, ended).await.is_err() {
            tally.error(format!("deliveries went on for {PATIENCE:?} after the shutdown"));
        }
        traffic
    }
}

async fn start_node(number: usize, count: usize) -> Result<(Node, mpsc::Receiver<Delivery>), capmux::StartError> {
    let (echo_protocol, echo) = Echo::new();
    let (gossip_protocol, gossip, deliveries) = Gossip::new(Settings::default());
    let server = Server::builder(NodeKey::random())
        .client_id(format!("capmux-demo/{number}"))
        .listen(([127, 0, 0, 1], 0).into())
        .max_peers(count)
        .max_inbound(count)
        .dial_timeout(DIAL)
        .protocol(echo_protocol)
        .protocol(gossip_protocol)
        .start()
        .await?;
    Ok((Node { server, echo, gossip }, deliveries))
}

/// The application of a node: it counts what it is given.
async fn application(node: usize, mut deliveries: mpsc::Receiver<Delivery>, tally: Arc<Tally>) {
    while let Some(delivery) = deliveries.recv().await {
        tally.delivered(node, load::number_of(&delivery.payload));
    }
}

fn total(parts: impl Iterator<Item = Traffic>) -> Traffic {
    parts.fold(Traffic::default(), |mut sum, part| {
        sum.bytes_sent += part.bytes_sent;
        sum.bytes_received += part.bytes_received;
        sum.messages_sent += part.messages_sent;
        sum.messages_received += part.messages_received;
        sum
    })
}
