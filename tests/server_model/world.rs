//! A server in memory and in virtual time, and other nodes that a script plays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use capmux::book::{AddressBook, SharedBook};
use capmux::p2p::{BaseMessage, Hello, MessageId, P2P_VERSION, SessionError};
use capmux::rlpx::MAX_FRAME_SIZE;
use capmux::testing::{MemoryTransport, Network};
use capmux::{
    Backoff, Capability, Connection, DisconnectReason, Ending, Event, EventStream, Listener, NodeAddr, NodeId, NodeKey,
    Party, Peer, PeerError, PeerLimits, Protocol, PublicKey, Server, Transport, Trust,
};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::operation::{Answer, By, Contact, Dialled, End, NODES, Node, Observed, Operation, Told};

/// So long is waited after each operation: redials have begun and ended by then, and no ban ends about then.
pub(crate) const STEP: Duration = Duration::from_secs(45);

/// At first.
pub(crate) const LIMITS: PeerLimits = PeerLimits { max_peers: 3, max_inbound: 2, max_outbound: 0 };

/// The wall clock at the beginning.
const EPOCH: Duration = Duration::from_secs(1_780_000_000);

const QUITTING: DisconnectReason = DisconnectReason::ClientQuitting;

const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct World {
    server: Option<Arc<Server>>,
    events: EventStream,
    cast: Arc<Cast>,
    listeners: [Option<AbortHandle>; NODES],
    tasks: JoinSet<()>,
    begin: Instant,
    steps: u32,
}

/// The other nodes, and what they have heard.
struct Cast {
    network: Network,
    server: PublicKey,
    keys: [NodeKey; NODES],
    nodes: BTreeMap<NodeId, Node>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    heard: [Vec<Option<DisconnectReason>>; NODES],
    refuses: [bool; NODES],
    /// What ends a node's latest connections.
    leave: [Vec<mpsc::Sender<Option<DisconnectReason>>>; NODES],
}

/// The same time after every failure.
#[derive(Debug)]
struct Steady;

impl Backoff for Steady {
    fn delay(&self, _: u64, _: f64) -> Duration {
        Duration::from_secs(10)
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        let (begin, network, key) = (Instant::now(), Network::new(1), key(100));
        let (keys, host) = (std::array::from_fn(key_of), network.host("server"));
        let protocol = Protocol::from_fn("test", 1, 1, |_, mut channel| async move {
            while channel.recv().await.is_some() {}
            Ok(())
        });
        let book = SharedBook::with_clock(AddressBook::new(100, [1; 16]), move || {
            SystemTime::UNIX_EPOCH + EPOCH + begin.elapsed()
        });
        let PeerLimits { max_peers, max_inbound, max_outbound } = LIMITS;
        let server = Server::builder(key.clone()).protocol(protocol).seed(1).backoff(Steady).address_book(book);
        let server = server.max_peers(max_peers).max_inbound(max_inbound).max_outbound(max_outbound);
        let server = server.listen_on(host.address()).transport(host).start().await.expect("it starts");
        let events = server.events();
        let nodes = keys.iter().map(|key: &NodeKey| key.node_id()).zip(0..).collect();
        let cast = Arc::new(Cast { network, server: key.public_key(), keys, nodes, state: Mutex::default() });
        let mut world = Self {
            server: Some(Arc::new(server)),
            events,
            cast,
            listeners: [const { None }; NODES],
            tasks: JoinSet::new(),
            begin,
            steps: 0,
        };
        for node in 0..NODES {
            world.answer(node, Answer::Welcome).await;
        }
        world
    }

    /// Does something, waits for what comes of it, and tells what was to be seen.
    pub(crate) async fn perform(&mut self, operation: &Operation) -> Observed {
        let mut observed = Observed::default();
        self.begin_to(operation, &mut observed).await;
        self.steps += 1;
        sleep_until(self.begin + STEP * self.steps).await;
        settle().await;
        let server = self.server.as_ref().expect("it runs until the end");
        let status = server.status();
        let peers = server.peers();
        observed.peers = peers.iter().map(|peer| (self.cast.node(&peer.id()), peer.direction())).collect();
        observed.peers.sort_by_key(|(node, _)| *node);
        assert_eq!(status.inbound + status.outbound, peers.len(), "R72: the counts are those of the peers");
        observed.pending = [status.pending, status.dialling];
        self.observe(&mut observed);
        observed
    }

    async fn begin_to(&mut self, operation: &Operation, observed: &mut Observed) {
        let Some(server) = &self.server else { return };
        let id = |node: &Node| self.cast.keys[*node].node_id();
        let mut returned = Vec::new();
        match operation {
            Operation::Meet(contacts) => observed.dialled = self.meet(contacts).await,
            Operation::Disconnect(node, reason) => {
                if let Some(peer) = server.peer(&id(node)) {
                    peer.disconnect(*reason);
                }
            }
            Operation::Leave(node, reason) => self.leave(*node, *reason).await,
            Operation::Add(node) => server.add_peer(self.cast.addr(*node)).expect("there is room for it"),
            Operation::Remove(node) => match server.remove_peer(&id(node)) {
                Ok(peer) => returned.extend(peer),
                Err(_) => observed.is_error = true,
            },
            Operation::Trust(node, true) => server.add_trusted(self.cast.addr(*node)),
            Operation::Trust(node, false) => observed.is_error = !server.remove_trusted(&id(node)),
            Operation::Private(node, is_private) => {
                // The book may have no place for it. Who is a peer must not depend on it.
                let _ = server.set_private(self.cast.addr(*node), *is_private);
            }
            Operation::Open => returned = server.set_trust(Trust::Open),
            Operation::Only(nodes) => returned = server.set_trust(nodes.iter().map(id).collect()),
            Operation::Allow(node) => server.allow(id(node)),
            Operation::Disallow(node) => returned.extend(server.disallow(&id(node))),
            Operation::Ban(node, time) => returned.extend(server.ban(id(node), Duration::from_secs(*time))),
            // Whether there was one depends on when the book last forgot what is over.
            Operation::Unban(node) => _ = server.unban(&id(node)),
            Operation::Limit(max_peers, max_inbound) => {
                let limits = PeerLimits { max_peers: *max_peers, max_inbound: *max_inbound, max_outbound: 0 };
                match server.set_limits(limits) {
                    Ok(peers) => returned = peers,
                    Err(_) => observed.is_error = true,
                }
            }
            Operation::Answer(node, answer) => self.answer(*node, *answer).await,
            Operation::Wait => {}
        }
        observed.returned = returned.iter().map(|peer: &Peer| self.cast.node(&peer.id())).collect();
    }

    /// Begins connections at the same time. What becomes of dials is returned in their order.
    async fn meet(&mut self, contacts: &[Contact]) -> Vec<Dialled> {
        let server = self.server.as_ref().expect("it runs until the end");
        let mut dials = Vec::new();
        for contact in contacts {
            let (cast, server, node) = (self.cast.clone(), server.clone(), contact.node());
            match contact {
                Contact::Inbound(_) => _ = self.tasks.spawn(async move { cast.dial(node).await }),
                Contact::Dial(_) => dials.push(tokio::spawn(async move { server.dial(cast.addr(node)).await })),
            }
        }
        let mut dialled = Vec::new();
        for dial in dials {
            dialled.push(what_became_of(&dial.await.expect("it does not panic")));
        }
        dialled
    }

    async fn leave(&mut self, node: Node, reason: Option<DisconnectReason>) {
        let connections = std::mem::take(&mut self.cast.lock().leave[node]);
        for connection in connections {
            // Those that have ended do not hear it.
            let _ = connection.send(reason).await;
        }
    }

    async fn answer(&mut self, node: Node, answer: Answer) {
        self.cast.lock().refuses[node] = answer == Answer::Refuse;
        if answer == Answer::Nothing {
            if let Some(listener) = self.listeners[node].take() {
                listener.abort();
            }
        } else if self.listeners[node].is_none() {
            let (cast, host) = (self.cast.clone(), self.cast.host(node));
            let mut listener = host.listen(&host.address()).await.expect("nobody else listens there");
            self.listeners[node] = Some(self.tasks.spawn(async move {
                while let Ok(link) = listener.accept().await {
                    let cast = cast.clone();
                    tokio::spawn(async move { cast.accept(node, link.into_stream()).await });
                }
            }));
        }
        settle().await;
    }

    /// Ends the server.
    pub(crate) async fn end(mut self, end: End) -> Observed {
        let mut observed = Observed::default();
        let server = self.server.take().expect("it is ended once");
        let node = self.cast.addr(0);
        match end {
            End::Shutdown => server.shutdown().await,
            End::Abort => server.abort().await,
            End::Drop => {}
        }
        if end != End::Drop {
            let refused = server.dial(node.clone()).await;
            let is_over = matches!(refused.as_ref().map_err(Ending::error), Err(PeerError::ShuttingDown));
            assert!(is_over && server.add_peer(node).is_err(), "R63: nothing begins after the end: {refused:?}");
            let status = server.status();
            observed.peers = server.peers().iter().map(|peer| (self.cast.node(&peer.id()), peer.direction())).collect();
            observed.pending = [status.pending, status.dialling];
        }
        drop(server);
        self.steps += 1;
        sleep_until(self.begin + STEP * self.steps).await;
        self.observe(&mut observed);
        observed
    }

    /// Takes what was told since the last time.
    fn observe(&mut self, observed: &mut Observed) {
        observed.heard = std::mem::take(&mut self.cast.lock().heard);
        if self.server.is_some() {
            // Feelers say so, which look for nodes of the book.
            observed.heard.iter_mut().for_each(|heard| heard.retain(|reason| *reason != Some(QUITTING)));
        }
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            let next = std::pin::pin!(self.events.recv()).poll(&mut context);
            let event = match next {
                std::task::Poll::Ready(Some(event)) => event,
                std::task::Poll::Ready(None) => {
                    observed.is_over = true;
                    return;
                }
                std::task::Poll::Pending => return,
            };
            let Some(node) = event.peer_id().map(|id| self.cast.node(&id)) else { panic!("of no node: {event:?}") };
            let told = match event {
                Event::Added { peer, .. } => Told::Added(peer.direction()),
                Event::Dropped { ending, .. } => why_dropped(&ending),
                Event::Refused { ending, .. } => Told::Refused(reason_of(ending.error())),
                Event::Banned { .. } => Told::Banned,
                // Persistent nodes are dialled again and again, and feelers look for others.
                Event::DialFailed { .. } => continue,
                other => panic!("nothing else happens: {other:?}"),
            };
            observed.told[node].push(told);
        }
    }
}

impl Cast {
    fn node(&self, id: &NodeId) -> Node {
        self.nodes[id]
    }

    fn host(&self, node: Node) -> MemoryTransport {
        self.network.host(&format!("node{node}"))
    }

    fn addr(&self, node: Node) -> NodeAddr {
        NodeAddr::new(self.keys[node].public_key(), [self.host(node).address()])
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Dials the server, and is a peer until the connection ends.
    async fn dial(&self, node: Node) {
        let (host, to) = (self.host(node), self.network.host("server").address());
        let link = host.dial(&to, PATIENCE).await.expect("the server listens");
        let connection = Connection::initiate(link.into_stream(), &self.keys[node], self.server).await;
        self.greet(node, connection.expect("R44: a refusal is told, not just a close")).await;
    }

    /// Answers a dial of the server's.
    async fn accept(&self, node: Node, stream: capmux::ByteStream) {
        let connection = Connection::accept(stream, &self.keys[node]).await.expect("the server dials");
        if self.lock().refuses[node] {
            return connection.disconnect(DisconnectReason::TooManyPeers).await;
        }
        self.greet(node, connection).await;
    }

    async fn greet(&self, node: Node, mut connection: Connection) {
        let hello = Hello {
            version: P2P_VERSION,
            client_id: "script".into(),
            capabilities: vec![Capability::new("test", 1).expect("a good name")],
            listen_port: 0,
            public_key: self.keys[node].public_key(),
        };
        // It may have been refused already.
        let _ = connection.send_hello(&hello).await;
        match connection.recv_hello(&self.keys[node].public_key()).await {
            Ok(_) => self.stay(node, connection).await,
            Err(PeerError::Session(SessionError::Disconnected(reason))) => self.hear(node, reason),
            Err(PeerError::Closed { .. } | PeerError::Io(_)) => self.hear(node, None),
            Err(error) => panic!("the server says Hello or Disconnect: {error:?}"),
        }
    }

    /// Answers Pings until either end disconnects.
    async fn stay(&self, node: Node, mut connection: Connection) {
        let (leave, mut left) = mpsc::channel(1);
        self.lock().leave[node].push(leave);
        loop {
            let received = tokio::select! {
                biased;
                received = connection.recv_frame(MAX_FRAME_SIZE) => received,
                Some(reason) = left.recv() => {
                    return match reason {
                        Some(reason) => connection.disconnect(reason).await,
                        None => drop(connection),
                    };
                }
            };
            let Ok(mut content) = received else { return self.hear(node, None) };
            match MessageId::take(&mut content).expect("an id") {
                MessageId::PING => connection.send_base(BaseMessage::Pong).await.expect("the server reads"),
                MessageId::DISCONNECT => return self.hear(node, DisconnectReason::from_data(&content)),
                id => panic!("the server sends no messages: {id:?}"),
            }
        }
    }

    fn hear(&self, node: Node, reason: Option<DisconnectReason>) {
        self.lock().heard[node].push(reason);
    }
}

fn key(number: usize) -> NodeKey {
    let mut bytes = [1; 32];
    bytes[31] = number as u8;
    NodeKey::from_bytes(&bytes).expect("far below the order of the curve")
}

fn key_of(node: Node) -> NodeKey {
    key(node + 1)
}

/// Lets everything that can run do so.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn what_became_of(dial: &Result<Peer, Ending>) -> Dialled {
    match dial.as_ref().map_err(Ending::error) {
        Ok(_) => Dialled::Peer,
        Err(PeerError::Connect { .. }) => Dialled::Nobody,
        Err(PeerError::Session(SessionError::Disconnected(Some(DisconnectReason::TooManyPeers)))) => {
            Dialled::RefusedThere
        }
        Err(error) => Dialled::RefusedHere(reason_of(error)),
    }
}

fn why_dropped(ending: &Ending) -> Told {
    match ending.error() {
        PeerError::Aborted => Told::Dropped(By::Abort, None),
        PeerError::Requested(_) | PeerError::ShuttingDown => {
            assert_eq!(ending.by(), Party::Local, "R68");
            Told::Dropped(By::Local, ending.error().disconnect_reason())
        }
        PeerError::Session(SessionError::Disconnected(reason)) => Told::Dropped(By::Remote, *reason),
        PeerError::Closed { .. } => Told::Dropped(By::Remote, None),
        error => panic!("R68: nothing else ends a peer here: {error:?}"),
    }
}

fn reason_of(error: &PeerError) -> DisconnectReason {
    error.disconnect_reason().unwrap_or_else(|| panic!("the other end would be told nothing: {error:?}"))
}
