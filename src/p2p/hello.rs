//! Hello, the first message of either end (devp2p `rlpx.md`, "Hello (0x00)").

use std::fmt;

use rlp::{DecoderError, RlpStream};

use super::capability::Capability;
use super::disconnect::DisconnectReason;
use crate::node::PublicKey;
use crate::rlp_list::RlpList;
use crate::text::printable;

/// The version of `p2p` that is spoken.
pub const P2P_VERSION: u64 = 5;

/// The version of `p2p` from which messages are compressed.
pub const SNAPPY_VERSION: u64 = 5;

/// The largest message of the base protocol, in bytes.
pub const MAX_BASE_MESSAGE_SIZE: usize = 2048;

/// What is wrong with a Hello.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// It is not the list it should be.
    #[error("the Hello is malformed")]
    Malformed(#[from] DecoderError),
    /// Its node id is not 64 bytes, or zero.
    #[error("the Hello has no node id")]
    NullIdentity,
    /// Its node id is not the one that was proved in the handshake.
    #[error("the node id in the Hello is not the one of the handshake")]
    UnexpectedIdentity,
    /// Its node id is our own.
    #[error("the other end is this node itself")]
    ConnectedToSelf,
}

impl HelloError {
    pub(super) fn disconnect_reason(&self) -> DisconnectReason {
        match self {
            Self::Malformed(_) => DisconnectReason::ProtocolError,
            Self::NullIdentity => DisconnectReason::InvalidIdentity,
            Self::UnexpectedIdentity => DisconnectReason::UnexpectedIdentity,
            Self::ConnectedToSelf => DisconnectReason::ConnectedToSelf,
        }
    }
}

/// What a node calls itself, such as `Geth/v1.17.10-stable/linux-amd64/go1.26`.
///
/// The bytes are whatever the peer sent, up to the size of a Hello. `Display` and `Debug` show at most 64 characters
/// and escape everything that could disturb a terminal or a log.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ClientId(Vec<u8>);

impl ClientId {
    /// The bytes as they were sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<T: Into<Vec<u8>>> From<T> for ClientId {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&printable(&String::from_utf8_lossy(&self.0)))
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The version of `p2p` it speaks.
    pub version: u64,
    /// What it calls itself.
    pub client_id: ClientId,
    /// The subprotocols it offers.
    pub capabilities: Vec<Capability>,
    /// The TCP port it listens on; 0 when it does not say. Nodes no longer use it.
    pub listen_port: u64,
    /// Its public key.
    pub public_key: PublicKey,
}

impl Hello {
    /// The RLP of the five elements that version 5 has. Some nodes refuse more.
    pub fn encode(&self) -> Vec<u8> {
        let mut stream = RlpStream::new_list(5);
        stream.append(&self.version).append(&self.client_id.as_bytes()).append_list(&self.capabilities);
        stream.append(&self.listen_port).append(&&self.public_key.to_bytes()[..]);
        stream.out().into()
    }

    /// Reads a Hello that came to the node `own` over a connection whose other end has proved to hold `remote`.
    /// Elements past the fifth are ignored.
    ///
    /// # Errors
    /// [`HelloError`].
    pub fn decode(data: &[u8], own: &PublicKey, remote: &PublicKey) -> Result<Self, HelloError> {
        let mut items = RlpList::new(data)?;
        let version = items.value()?;
        let client_id = items.string()?.into();
        let mut offered = items.list()?;
        let mut capabilities = Vec::new();
        while let Some(item) = offered.next_item()? {
            capabilities.push(item.as_val()?);
        }
        let listen_port = items.value()?;
        let node_id: [u8; 64] = match items.string()?.try_into() {
            Ok(node_id) if node_id != [0; 64] => node_id,
            _ => return Err(HelloError::NullIdentity),
        };
        if node_id == own.to_bytes() {
            return Err(HelloError::ConnectedToSelf);
        }
        if node_id != remote.to_bytes() {
            return Err(HelloError::UnexpectedIdentity);
        }
        Ok(Self { version, client_id, capabilities, listen_port, public_key: *remote })
    }
}
