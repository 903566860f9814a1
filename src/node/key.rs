//! The secret key of a node.

use std::fmt;

use secp256k1::{SecretKey, ecdh};
use zeroize::Zeroizing;

use super::{NodeId, PublicKey};

/// Bytes or text that are not a key: wrong length, not hexadecimal, out of range, or not on the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a secp256k1 key")]
pub struct InvalidKey;

/// A node's secret key. Zeroed when dropped; `Debug` shows the public half only.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeKey {
    secret: SecretKey,
    /// Kept, since every handshake asks for it, and it takes a multiplication on the curve.
    public: PublicKey,
}

impl NodeKey {
    /// A new key from the operating system's random numbers.
    ///
    /// # Panics
    /// When the operating system has none to give, after which no cryptography is possible.
    pub fn random() -> Self {
        Self::from_random(|bytes| getrandom::fill(bytes).expect("the operating system gives random numbers"))
    }

    /// A new key from `fill`, which is asked for 32 bytes again in the (2^-127) case that they are not a valid key.
    pub(crate) fn from_random(mut fill: impl FnMut(&mut [u8])) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            fill(&mut bytes[..]);
            if let Ok(key) = Self::from_bytes(&bytes) {
                return key;
            }
        }
    }

    /// Reads the 32 bytes of the key.
    ///
    /// # Errors
    /// [`InvalidKey`] when they are zero or not below the order of the curve.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidKey> {
        let secret = SecretKey::from_secret_bytes(*bytes).map_err(|_| InvalidKey)?;
        let public = secp256k1::PublicKey::from_secret_key(&secret).into();
        Ok(Self { secret, public })
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`InvalidKey`] when the text is anything else, or not a key.
    pub fn from_hex(text: &str) -> Result<Self, InvalidKey> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text, &mut bytes[..]).map_err(|_| InvalidKey)?;
        Self::from_bytes(&bytes)
    }

    /// The secret itself, as 64 hexadecimal digits, to be written where it is kept. The text is zeroed when dropped.
    pub fn to_hex(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.secret.to_secret_bytes());
        Zeroizing::new(hex::encode(&bytes[..]))
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// The id of the node with this key.
    pub fn node_id(&self) -> NodeId {
        self.public_key().node_id()
    }

    pub(crate) fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// The x coordinate of this key times `point`: what devp2p calls `ecdh.agree`.
    pub(crate) fn agree(&self, point: &PublicKey) -> Zeroizing<[u8; 32]> {
        let shared = Zeroizing::new(ecdh::shared_secret_point(point.point(), &self.secret));
        let mut x = Zeroizing::new([0; 32]);
        x.copy_from_slice(&shared[..32]);
        x
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey(of {:?})", self.node_id())
    }
}

impl Drop for NodeKey {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret_bytes() {
        let key = NodeKey::from_bytes(&[0x5a; 32]).unwrap();
        let shown = format!("{key:?} {:?} {}", key.public_key(), key.node_id());
        assert!(!shown.contains("5a5a"), "R42 H83: {shown}");
    }

    #[test]
    fn refuses_zero_and_the_order_of_the_curve() {
        assert_eq!(NodeKey::from_bytes(&[0; 32]), Err(InvalidKey));
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        assert_eq!(NodeKey::from_hex(order), Err(InvalidKey));
        assert_eq!(NodeKey::from_hex("5a"), Err(InvalidKey));
    }
}
