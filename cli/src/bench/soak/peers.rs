//! The peers: who stays, who leaves and how, who reads slowly, who is on a bad network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use capmux::{DisconnectReason, Enode, NodeKey, Server, ServerBuilder};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::node::{Node, Setup};
use super::{Phase, count, reached};
use crate::flooder;

/// How many peers there are.
pub(super) const PEERS: usize = 50;

/// How often a peer's application does something.
const EVERY: Duration = Duration::from_millis(150);

/// How long a flooder may take to be disconnected.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a peer is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It stays.
    Steady,
    /// It shuts down in order, and comes back.
    Leaver,
    /// It is aborted or dropped under load, and comes back.
    Crasher,
    /// It takes its time to read.
    Slow,
    /// It is a persistent peer of the node, which dials it.
    Dialled,
    /// It dials through the proxy.
    Faulty,
    /// It sends nothing but Pings.
    Flooder,
}

/// The role of a peer by its number.
pub(super) fn role(number: usize) -> Role {
    match number {
        0..8 => Role::Steady,
        8..20 => Role::Leaver,
        20..28 => Role::Crasher,
        28..32 => Role::Slow,
        32..40 => Role::Dialled,
        40..48 => Role::Faulty,
        _ => Role::Flooder,
    }
}

/// What has happened to peers.
#[derive(Debug, Default)]
pub(super) struct Churn {
    /// Shut down in order, under load.
    pub(super) shutdowns: AtomicU64,
    pub(super) aborts: AtomicU64,
    pub(super) drops: AtomicU64,
    pub(super) floods: AtomicU64,
    /// Dials that led to no peer.
    pub(super) failed_dials: AtomicU64,
    /// The longest orderly shutdown, in microseconds.
    pub(super) longest_shutdown_us: AtomicU64,
}

/// What all peers know.
#[derive(Debug)]
pub(super) struct World {
    pub(super) setup: Arc<Setup>,
    pub(super) churn: Arc<Churn>,
    /// The node under test.
    pub(super) node: Arc<Server>,
    pub(super) enode: Enode,
    pub(super) address: SocketAddr,
    /// The way to it through the proxy.
    pub(super) proxy: SocketAddr,
    /// Lives and pauses are shorter than usual by this factor.
    pub(super) pace: f64,
    /// Where the dialled peers listen, for the other peers to connect to.
    pub(super) neighbours: watch::Sender<Vec<Enode>>,
}

/// A peer through all its lives.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) role: Role,
    pub(super) key: NodeKey,
    pub(super) world: Arc<World>,
    pub(super) random: fastrand::Rng,
    /// Of a dialled one.
    port: u16,
}

impl Peer {
    pub(super) fn new(role: Role, key: NodeKey, world: Arc<World>, random: fastrand::Rng) -> Self {
        Self { role, key, world, random, port: 0 }
    }

    /// Lives one life after the other, until the load is to end and the nodes are to leave.
    pub(super) async fn run(mut self) {
        let mut phase = self.world.setup.phase.clone();
        while *phase.borrow() == Phase::Load {
            if self.role == Role::Flooder {
                tokio::select! {
                    () = self.flood() => {}
                    () = reached(&mut phase, Phase::Settle) => return,
                }
            } else if let Err(error) = self.live(&mut phase).await {
                self.world.setup.ledger.error(error);
            }
            let pause = self.time(0.1, 2.0);
            tokio::select! {
                () = sleep(pause) => {}
                () = reached(&mut phase, Phase::Settle) => {}
            }
        }
    }

    /// Seconds between these, at the pace of the run.
    fn time(&mut self, least: f64, most: f64) -> Duration {
        Duration::from_secs_f64((least + (most - least) * self.random.f64()) * self.world.pace)
    }

    async fn live(&mut self, phase: &mut watch::Receiver<Phase>) -> Result<(), String> {
        let (setup, key) = (self.world.setup.clone(), self.key.clone());
        let (role, port) = (self.role, self.port);
        let listening = |builder: ServerBuilder| match role {
            Role::Dialled => builder.listen(([127, 0, 0, 1], port).into()).max_peers(super::peers::PEERS + 1),
            _ => builder,
        };
        let started = Node::start(&setup, key, EVERY, &mut self.random, listening).await;
        let Ok(node) = started else {
            // Somebody else has the port: another will do, where it has a choice.
            self.port = 0;
            return if role == Role::Dialled { Ok(()) } else { started.map(drop).map_err(|error| error.to_string()) };
        };
        self.be_found(&node.server);
        let life = match self.role {
            Role::Steady | Role::Slow => Duration::MAX,
            Role::Dialled => self.time(30.0, 60.0),
            Role::Faulty => self.time(10.0, 40.0),
            _ => self.time(2.0, 20.0),
        };
        tokio::select! {
            () = sleep(life.min(Duration::from_secs(1_000_000))) => self.leave(node).await,
            () = reached(phase, Phase::Settle) => {
                reached(phase, Phase::Leave).await;
                self.shut_down(&node.server).await;
                node.end().await;
            }
            never = self.stay_connected(&node.server) => match never {},
        }
        Ok(())
    }

    /// Tells the node, and the other peers, where a dialled peer listens.
    fn be_found(&mut self, server: &Server) {
        let Some(enode) = server.enode() else { return };
        let port = server.local_addr().map_or(0, |address| address.port());
        if port == self.port {
            return;
        }
        self.port = port;
        // Its address is added if the node knows it already.
        if let Err(error) = self.world.node.add_peer(&enode) {
            self.world.setup.ledger.error(format!("a peer cannot be a persistent one: {error}"));
        }
        self.world.neighbours.send_modify(|known| {
            known.retain(|other| other.public_key != enode.public_key);
            known.push(enode);
        });
    }

    /// Dials whenever it is not connected. One in four is connected to another peer, too.
    async fn stay_connected(&mut self, server: &Server) -> std::convert::Infallible {
        let mut target = self.world.enode.clone();
        if self.role == Role::Faulty {
            target = Enode::new(target.public_key, self.world.proxy);
        }
        if self.role == Role::Dialled {
            return std::future::pending().await;
        }
        loop {
            match server.dial(&target).await {
                Ok(peer) => {
                    self.meet_neighbour(server).await;
                    peer.closed().await;
                }
                Err(_) => self.dial_failed(),
            }
            sleep(self.time(0.1, 1.0)).await;
        }
    }

    async fn meet_neighbour(&mut self, server: &Server) {
        let neighbours = self.world.neighbours.borrow().clone();
        if self.role == Role::Faulty || neighbours.is_empty() || self.random.u8(..4) > 0 {
            return;
        }
        if server.dial(&neighbours[self.random.usize(..neighbours.len())]).await.is_err() {
            self.dial_failed();
        }
    }

    fn dial_failed(&self) {
        count(&self.world.churn.failed_dials);
    }

    /// Leaves while the load goes on.
    async fn leave(&mut self, node: Node) {
        let (churn, server) = (self.world.churn.clone(), node.server.clone());
        let is_orderly = match self.role {
            Role::Crasher => false,
            Role::Dialled => self.random.bool(),
            _ => true,
        };
        if is_orderly {
            self.shut_down(&server).await;
            count(&churn.shutdowns);
        } else if self.random.bool() {
            server.abort().await;
            count(&churn.aborts);
        } else {
            self.world.setup.ledger.dropping(server.id());
            count(&churn.drops);
        }
        drop(server);
        node.end().await;
    }

    async fn shut_down(&self, server: &Server) {
        super::shut_down(server, &self.world.churn, &self.world.setup.ledger).await;
    }

    /// Floods the node, which has to put an end to it.
    async fn flood(&mut self) {
        let flood = tokio::time::timeout(PATIENCE, flooder::flood(&self.key, &self.world.enode)).await;
        let error = match flood {
            Ok(Ok(flooded)) if flooded.told == Some(DisconnectReason::ProtocolError) => {
                return count(&self.world.churn.floods);
            }
            // It has been closed before it could read why, or was not let in: it is too busy to look.
            Ok(Err(_)) => return count(&self.world.churn.failed_dials),
            Ok(Ok(flooded)) if flooded.told == Some(DisconnectReason::Requested) => return,
            Ok(Ok(flooded)) => format!("a flooder was told {:?}", flooded.told),
            Err(_) => format!("a flood went on for {PATIENCE:?}"),
        };
        self.world.setup.ledger.error(error);
    }
}

/// Ends some peers of the node now and then, asks all for a sign of life, and throws garbage at its listener.
pub(super) async fn disturb(world: Arc<World>, garbage: Arc<AtomicU64>, mut random: fastrand::Rng) {
    let mut thrown = JoinSet::new();
    loop {
        sleep(Duration::from_secs_f64(0.4 * world.pace * random.f64())).await;
        match random.u8(..10) {
            0 => {
                let peers = world.node.peers();
                if let Some(peer) = peers.get(random.usize(..peers.len().max(1))) {
                    peer.disconnect(DisconnectReason::Requested);
                }
            }
            1 => drop(tokio::time::timeout(Duration::from_millis(100), world.node.ping_all()).await),
            _ if thrown.len() < 8 => {
                count(&garbage);
                thrown.spawn(super::garbage::throw(world.address, random.fork()));
            }
            _ => {}
        }
        while thrown.try_join_next().is_some() {}
    }
}
