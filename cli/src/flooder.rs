//! A peer that floods a node with Pings.

use std::time::Duration;

use capmux::p2p::{BaseMessage, Hello, MAX_MESSAGE_SIZE, MessageId, P2P_VERSION};
use capmux::{Capability, Connection, DisconnectReason, Enode, NodeKey, PeerError, connect_tcp};
use tokio::time::Instant;

/// How long a TCP connection within the machine may take.
const DIAL: Duration = Duration::from_secs(5);

/// How a flood ended.
#[derive(Debug)]
pub(crate) struct Flooded {
    /// What the flooder was told.
    pub(crate) told: Option<DisconnectReason>,
    /// How many Pings it got rid of, and in what time, until then.
    pub(crate) pings: u64,
    pub(crate) took: Duration,
}

/// Says Hello as the node with this key, and then nothing but Pings until the other node has had enough.
pub(crate) async fn flood(key: &NodeKey, enode: &Enode) -> Result<Flooded, String> {
    let failed = |error: PeerError| format!("the flooder: {}", crate::exit::chain(&error));
    let mut connection = greet(key, enode).await.map_err(failed)?;
    let (start, mut pings) = (Instant::now(), 0);
    let mut is_open = true;
    loop {
        let frame = tokio::select! {
            biased;
            frame = connection.recv_frame(MAX_MESSAGE_SIZE) => Some(frame.map_err(failed)?),
            () = std::future::ready(()), if is_open => None,
        };
        match frame {
            Some(mut content) => {
                if MessageId::take(&mut content) == Some(MessageId::DISCONNECT) {
                    let told = DisconnectReason::from_data(&content);
                    return Ok(Flooded { told, pings, took: start.elapsed() });
                }
            }
            // A node that no longer listens has said why.
            None => {
                is_open = connection.send_base(BaseMessage::Ping).await.is_ok();
                pings += u64::from(is_open);
            }
        }
    }
}

async fn greet(key: &NodeKey, enode: &Enode) -> Result<Connection, PeerError> {
    let stream = connect_tcp(enode, DIAL).await?;
    let mut connection = Connection::initiate(stream, key, enode.public_key).await?;
    let hello = Hello {
        version: P2P_VERSION,
        client_id: "flooder".into(),
        capabilities: Capability::new("echo", 1).into_iter().collect(),
        listen_port: 0,
        public_key: key.public_key(),
    };
    connection.send_hello(&hello).await?;
    connection.recv_hello(&key.public_key()).await?;
    Ok(connection)
}
