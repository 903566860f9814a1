//! Who a node is: its key, its public key, its id, and the `enode` URL that says where to find it.

mod address;
mod enode;
mod enr;
mod key;
mod key_file;
pub(crate) mod private_file;
mod reach;

use std::fmt;
use std::str::FromStr;

use sha3::{Digest, Keccak256};

pub use address::{Address, InvalidAddress, NodeAddr};
pub use enode::{Enode, EnodeError, Host};
pub use enr::{Enr, EnrError};
pub use key::{InvalidKey, NodeKey};
pub use key_file::KeyFileError;
pub use reach::{InvalidSubnet, Reach, Subnet};

/// A node's public key: a point on secp256k1, other than infinity.
///
/// On the wire and in an `enode` URL it is the 64 bytes of its two coordinates, without the `04` prefix of the
/// uncompressed form (devp2p `rlpx.md`, "Node Identity"). A value of this type is always on the curve.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(secp256k1::PublicKey);

impl PublicKey {
    /// Reads the 64 bytes of the two coordinates.
    ///
    /// # Errors
    /// [`InvalidKey`] when a coordinate is not below the field's prime or the point is not on the curve.
    pub fn from_bytes(bytes: &[u8; 64]) -> Result<Self, InvalidKey> {
        let mut uncompressed = [4; 65];
        uncompressed[1..].copy_from_slice(bytes);
        Self::from_uncompressed(&uncompressed)
    }

    /// The 64 bytes of the two coordinates.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(&self.to_uncompressed()[1..]);
        bytes
    }

    /// The id of the node with this key: the Keccak-256 digest of the 64 bytes.
    pub fn node_id(&self) -> NodeId {
        NodeId(Keccak256::digest(self.to_bytes()).into())
    }

    /// Reads the 65 bytes of the uncompressed form, and that form alone: the library below would also take the
    /// hybrid prefixes 06 and 07.
    pub(crate) fn from_uncompressed(bytes: &[u8; 65]) -> Result<Self, InvalidKey> {
        if bytes[0] != 4 {
            return Err(InvalidKey);
        }
        secp256k1::PublicKey::from_byte_array_uncompressed(*bytes).map(Self).map_err(|_| InvalidKey)
    }

    pub(crate) fn to_uncompressed(self) -> [u8; 65] {
        self.0.serialize_uncompressed()
    }

    /// Reads the 33 bytes of the compressed form.
    pub(crate) fn from_compressed(bytes: &[u8; 33]) -> Result<Self, InvalidKey> {
        secp256k1::PublicKey::from_byte_array_compressed(*bytes).map(Self).map_err(|_| InvalidKey)
    }

    pub(crate) fn point(&self) -> &secp256k1::PublicKey {
        &self.0
    }
}

impl From<secp256k1::PublicKey> for PublicKey {
    fn from(key: secp256k1::PublicKey) -> Self {
        Self(key)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}…)", hex::encode(&self.to_bytes()[..8]))
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    /// Reads 128 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut bytes = [0; 64];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidKey)?;
        Self::from_bytes(&bytes)
    }
}

/// A node's id: the Keccak-256 digest of its 64-byte public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for NodeId {
    /// 64 hexadecimal digits; `{:.8}` cuts them to eight.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({}…)", hex::encode(&self.0[..8]))
    }
}

impl FromStr for NodeId {
    type Err = InvalidKey;

    /// Reads 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidKey)?;
        Ok(Self(bytes))
    }
}
