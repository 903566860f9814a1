//! One dial: from a name or address to a peer.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::events::Event;
use super::switch::{Shared, prepare, run_peer};
use crate::node::{Enode, Host, NodeId};
use crate::peer::setup::{self, within};
use crate::peer::{Direction, Ending, Peer, PeerError, Stage};
use crate::rlpx::HandshakeError;

/// A node to be dialled, and who wants to know.
#[derive(Debug)]
pub(super) struct DialRequest {
    pub(super) enode: Enode,
    pub(super) reply: Option<oneshot::Sender<Result<Peer, Ending>>>,
}

/// Dials, and runs the peer to its end. `permit` is given back when the dial is over.
pub(super) async fn dial(shared: Arc<Shared>, request: DialRequest, permit: OwnedSemaphorePermit) {
    let DialRequest { enode, mut reply } = request;
    let Err(ending) = dial_and_run(&shared, &enode, permit, &mut reply).await else { return };
    tracing::debug!(%enode, stage = %ending.stage(), "dial failed: {ending}");
    if let Some(reply) = reply {
        // Who dialled may have stopped waiting.
        let _ = reply.send(Err(ending.clone()));
    }
    shared.emit(Event::DialFailed { enode, ending });
}

async fn dial_and_run(
    shared: &Arc<Shared>,
    enode: &Enode,
    permit: OwnedSemaphorePermit,
    reply: &mut Option<oneshot::Sender<Result<Peer, Ending>>>,
) -> Result<(), Ending> {
    let failed = |error| Ending::new(Stage::Dial, error);
    if enode.public_key == shared.config.public_key {
        return Err(failed(HandshakeError::ConnectedToSelf.into()));
    }
    let dialling = Dialling::begin(shared, enode.node_id()).map_err(failed)?;
    let limit = shared.config.timeouts.dial;
    let stream = within(&shared.config, Stage::Dial, limit, connect(enode)).await?;
    let addresses = prepare(&stream).map_err(|error| failed(PeerError::Io(error)))?;
    let ready = setup::initiate(&shared.config, stream, enode.public_key).await?;
    drop(dialling);
    run_peer(shared, ready, Direction::Outbound, addresses, permit, reply.take()).await
}

/// Tries the addresses of the host in turn.
async fn connect(enode: &Enode) -> Result<TcpStream, PeerError> {
    let unresolved = |source| PeerError::Resolve { host: enode.host.to_string(), source };
    let addresses: Vec<SocketAddr> = match &enode.host {
        Host::Ip(ip) => vec![(*ip, enode.tcp_port).into()],
        Host::Domain(name) => {
            tokio::net::lookup_host((name.as_str(), enode.tcp_port)).await.map_err(unresolved)?.collect()
        }
    };
    let mut last = unresolved(std::io::ErrorKind::NotFound.into());
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(source) => last = PeerError::Connect { address, source },
        }
    }
    Err(last)
}

/// Marks a node as being dialled.
struct Dialling {
    shared: Arc<Shared>,
    id: NodeId,
}

impl Dialling {
    fn begin(shared: &Arc<Shared>, id: NodeId) -> Result<Self, PeerError> {
        shared.peers.begin_dial(id)?;
        Ok(Self { shared: shared.clone(), id })
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.shared.peers.end_dial(&self.id);
    }
}
