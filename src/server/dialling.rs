//! Which nodes the application wants: dialled once, kept, private, banned.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use super::access::Mark;
use super::builder::{Nodes, listen, port};
use super::events::Event;
use super::schedule::{Purpose, Taken};
use super::shared::Shared;
use super::start_error::StartError;
use super::switch::Command;
use super::{Server, reachable};
use crate::book::{Flags, Refusal, SharedBook, Source};
use crate::node::{Address, NodeAddr, NodeId, Subnet};
use crate::p2p::DisconnectReason;
use crate::peer::{Ending, Peer, PeerError, Stage};
use crate::peers::{Group, GroupChange};
use crate::transport::BoxedListener;

/// The longest ban that is worth its name.
const MAX_BAN: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Why a node was not made a persistent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAdded {
    /// It is this node.
    #[error("a node cannot be a peer of itself")]
    Own,
    /// As many nodes are persistent as may be.
    #[error("there are as many persistent nodes as there may be")]
    Full,
    /// The server has been shut down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// No peer and no persistent node has this id, and nobody has asked for it to be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{id} is neither a peer nor a persistent node")]
#[non_exhaustive]
pub struct UnknownNode {
    /// The id.
    pub id: NodeId,
}

impl Server {
    /// Dials a node once and waits until it is a peer. Its addresses are tried in turn, each for its share of what is
    /// left of the [`dial_timeout`](crate::ServerBuilder::dial_timeout), until the encryption handshake shows that the
    /// node is there. If it is a peer already, or becomes one by its own dial meanwhile, that peer is returned; while
    /// it is being dialled, this waits for the same dial. When both ends dial at once, the connection that the node
    /// with the smaller id has dialled is kept, and the other ended with [`DisconnectReason::AlreadyConnected`].
    ///
    /// # Errors
    /// Why, by whom and at which stage the attempt ended; it is also reported as [`Event::DialFailed`], unless it did
    /// not begin: [`PeerError::TooManyDials`] when a thousand others wait.
    ///
    /// # Cancel safety
    /// When the future is dropped, the dial goes on, and is told of by [`Event::Added`] or [`Event::DialFailed`].
    pub async fn dial(&self, node: impl Into<NodeAddr>) -> Result<Peer, Ending> {
        let failed = |error| Ending::new(Stage::Dial, error);
        let (node, shutdown) = (node.into(), &self.shared.config.shutdown);
        let id = node.node_id();
        if let Some(peer) = self.peer(&id) {
            return Ok(peer);
        }
        if shutdown.is_cancelled() {
            return Err(failed(PeerError::ShuttingDown));
        }
        let answer = loop {
            let (reply, answer) = oneshot::channel();
            match (self.shared.dialler.ask(&node, reply), self.peer(&id)) {
                (Ok(()), _) => break answer,
                (Err(Taken::Connected), Some(peer)) => return Ok(peer),
                // It is about to be told that the peer is gone.
                (Err(Taken::Connected), None) => tokio::task::yield_now().await,
                (Err(_), _) => return Err(failed(PeerError::TooManyDials)),
            }
        };
        tokio::select! {
            biased;
            answer = answer => {
                let is_over = shutdown.is_cancelled();
                let gone = if is_over { PeerError::ShuttingDown } else { PeerError::Internal };
                answer.unwrap_or(Err(failed(gone)))
            }
            () = shutdown.cancelled() => Err(failed(PeerError::ShuttingDown)),
        }
    }

    /// Makes a node a persistent one, and returns at once: it is dialled until it is a peer, and again with
    /// [backoff](crate::ServerBuilder::backoff) whenever it is lost, until [`Server::remove_peer`]. It passes all
    /// limits. For one that is persistent already, addresses are added.
    ///
    /// # Errors
    /// [`NotAdded`].
    pub fn add_peer(&self, node: impl Into<NodeAddr>) -> Result<(), NotAdded> {
        let node = node.into();
        if node.public_key == self.shared.config.public_key {
            return Err(NotAdded::Own);
        }
        if self.shared.config.shutdown.is_cancelled() {
            return Err(NotAdded::ShuttingDown);
        }
        // First, so that a dial that begins at once passes the limits.
        let _order = self.shared.order();
        self.shared.mark(Mark::Persistent, &node);
        if self.shared.dialler.add(&node, Purpose::Persistent) == Taken::Full {
            self.shared.unmark(Mark::Persistent, &node.node_id());
            return Err(NotAdded::Full);
        }
        self.shared.keep_persistent(&node);
        Ok(())
    }

    /// Takes a node's persistence away, gives up dialling it, and disconnects it with [`DisconnectReason::Requested`].
    /// Returns the peer, if it was one: [`Peer::closed`] waits for the end. Of a dial under way comes no peer that stays,
    /// and who waits in [`Server::dial`] for it is told [`PeerError::Requested`].
    ///
    /// # Errors
    /// [`UnknownNode`].
    pub fn remove_peer(&self, id: &NodeId) -> Result<Option<Peer>, UnknownNode> {
        let _order = self.shared.order();
        let was_wanted = self.shared.dialler.remove(id);
        self.shared.unmark(Mark::Persistent, id);
        self.shared.unflag(id, Flags::PERSISTENT);
        match self.peer(id) {
            None if !was_wanted => Err(UnknownNode { id: *id }),
            peer => Ok(peer.inspect(|peer| peer.disconnect(DisconnectReason::Requested))),
        }
    }

    /// Makes these nodes the members of a group, and changes only what is different: new members become persistent
    /// ([`Server::add_peer`]), and those that are members no longer are removed ([`Server::remove_peer`]), whether the
    /// application has added them otherwise or not. Returns the difference, without new members that could not be added.
    pub fn set_group(&self, group: &Group, nodes: impl IntoIterator<Item = NodeAddr>) -> GroupChange {
        let nodes: BTreeMap<NodeId, NodeAddr> = nodes.into_iter().map(|node| (node.node_id(), node)).collect();
        let mut change = group.set(nodes.keys().copied());
        change.added.retain(|id| self.add_peer(&nodes[id]).is_ok());
        for id in &change.removed {
            // It may be gone already.
            let _ = self.remove_peer(id);
        }
        change
    }

    /// Whether a node is persistent.
    pub fn is_persistent(&self, id: &NodeId) -> bool {
        self.shared.dialler.is_persistent(id)
    }

    /// Sets whether a node is private: nobody else is told of a private one. One that is in the address book needs no
    /// addresses here; those that are given are added.
    ///
    /// # Errors
    /// [`Refusal`], when the node is not in the book and has no place there: then nothing has changed.
    pub fn set_private(&self, node: impl Into<NodeAddr>, is_private: bool) -> Result<(), Refusal> {
        let node = node.into();
        if is_private {
            return self.shared.flag(&node, Flags::PRIVATE);
        }
        self.shared.unflag(&node.node_id(), Flags::PRIVATE);
        Ok(())
    }

    /// The address book: the one that was [given](crate::ServerBuilder::address_book) to the server, or one of its own,
    /// that has what is banned.
    pub fn book(&self) -> &SharedBook {
        &self.shared.book
    }

    /// Bans a node for a time, at most for ten years, and disconnects it with [`DisconnectReason::UselessPeer`] if it
    /// is a peer, which is then returned. It is not dialled and not accepted until the ban ends, a persistent one
    /// neither. Told as [`Event::Banned`].
    pub fn ban(&self, id: NodeId, time: Duration) -> Option<Peer> {
        let until = self.shared.book.with(|book, now| {
            let until = end_of_ban(now, time);
            book.ban(id, until, now);
            until
        });
        self.shared.emit(Event::Banned { id, until });
        self.peer(&id).inspect(|peer| peer.disconnect(DisconnectReason::UselessPeer))
    }

    /// Bans all addresses of a network for a time, at most for ten years. Peers that are connected from there, or there,
    /// are disconnected and returned. Connections from there are closed unread, and no node is dialled there, a persistent
    /// one neither.
    pub fn ban_subnet(&self, subnet: Subnet, time: Duration) -> Vec<Peer> {
        self.shared.book.with(|book, now| book.ban_subnet(subnet, end_of_ban(now, time), now));
        let mut banned = self.peers();
        banned.retain(|peer| peer.remote_addr().is_some_and(|address| subnet.contains(address.ip())));
        banned.iter().for_each(|peer| peer.disconnect(DisconnectReason::UselessPeer));
        banned
    }

    /// Ends the ban of a node; whether there was one.
    pub fn unban(&self, id: &NodeId) -> bool {
        self.shared.book.with(|book, _| book.unban(id))
    }

    /// Ends the ban of a network; whether there was one.
    pub fn unban_subnet(&self, subnet: &Subnet) -> bool {
        self.shared.book.with(|book, _| book.unban_subnet(subnet))
    }

    /// Listens on another address from now on, or on none. The new one is listened on before the old one is given up;
    /// peers stay. Returns where it listens: nowhere when the server is shutting down.
    ///
    /// # Errors
    /// [`StartError::NoTransport`] and [`StartError::Listen`]; then nothing has changed.
    ///
    /// # Cancel safety
    /// When the future is dropped, the change may or may not be made.
    pub async fn set_listen(&self, address: Option<Address>) -> Result<Option<Address>, StartError> {
        let listener = match &address {
            Some(address) => Some(listen(&self.shared.transports, address).await?),
            None => None,
        };
        let address = listener.as_ref().map(BoxedListener::local_address);
        let (done, is_done) = oneshot::channel();
        // Either fails if the task has ended, or is about to.
        let _ = self.commands.send(Command::Listen(listener, done)).await;
        Ok(is_done.await.ok().and(address))
    }
}

fn end_of_ban(now: SystemTime, time: Duration) -> SystemTime {
    now.checked_add(time.min(MAX_BAN)).unwrap_or(now)
}

impl Shared {
    /// Makes the nodes of the settings known to those who decide about dials.
    pub(super) fn introduce(&self, nodes: &Nodes) -> Result<(), StartError> {
        let address = self.local_address.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.set_local_address(address);
        let is_other = |node: &&NodeAddr| node.public_key != self.config.public_key;
        for node in nodes.persistent.iter().filter(is_other) {
            self.dialler.add(node, Purpose::Persistent);
            self.keep_persistent(node);
        }
        for node in nodes.private.iter().filter(is_other) {
            let id = node.node_id();
            self.flag(node, Flags::PRIVATE).map_err(|source| StartError::Private { id, source })?;
        }
        Ok(())
    }

    /// Notes in the book that a node is persistent. It is without the book, too.
    fn keep_persistent(&self, node: &NodeAddr) {
        if let Err(refusal) = self.flag(node, Flags::PERSISTENT) {
            tracing::debug!(%node, "not in the address book: {refusal}");
        }
    }

    pub(super) fn set_local_address(&self, address: Option<Address>) {
        let own = address.as_ref().and_then(Address::socket_addr).map(reachable);
        self.book.with(|book, _| book.set_own(self.config.public_key.node_id(), own.into_iter().collect()));
        let listen_port = address.as_ref().map_or(0, port);
        self.config.listen_port.store(listen_port, std::sync::atomic::Ordering::Relaxed);
        *self.local_address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Notes in the book what the application wants of a node.
    fn flag(&self, node: &NodeAddr, flag: Flags) -> Result<(), Refusal> {
        let id = node.node_id();
        self.book.with(|book, now| {
            let Some(known) = book.find(&id, now) else { return book.keep(node, flag, now) };
            book.set_flags(&id, known.flags.and(flag), now);
            // The addresses that are known may be all that there are.
            let _ = book.offer(node, &Source::Local, now);
            Ok(())
        })
    }

    fn unflag(&self, id: &NodeId, flag: Flags) {
        self.book.with(|book, now| {
            if let Some(known) = book.find(id, now) {
                book.set_flags(id, known.flags.without(flag), now);
            }
        });
    }
}
