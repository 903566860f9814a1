//! ECIES as RLPx uses it: seal and open the body of one handshake message (devp2p `rlpx.md`, "ECIES Encryption").
//!
//! A sealed message is `R || iv || c || d`: an ephemeral point of 65 bytes, 16 bytes of initial counter, the
//! AES-128-CTR ciphertext, and the HMAC-SHA256 tag of `iv || c || shared data`.

use aes::Aes128;
use aes::cipher::{KeyIvInit, StreamCipher};
use ctr::Ctr128BE;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::node::{InvalidKey, NodeKey, PublicKey};

const POINT: usize = 65;
const IV: usize = 16;
const TAG: usize = 32;

/// How much longer a sealed message is than its plaintext.
pub(super) const OVERHEAD: usize = POINT + IV + TAG;

/// Why a sealed message does not open. Peers are never told which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenError {
    TooShort(usize),
    Point,
    Tag,
}

impl From<InvalidKey> for OpenError {
    fn from(_: InvalidKey) -> Self {
        Self::Point
    }
}

/// Appends `plaintext`, sealed for `recipient`, to `out`. `shared` is authenticated along with it.
pub(super) fn seal(
    out: &mut Vec<u8>,
    recipient: &PublicKey,
    ephemeral: &NodeKey,
    iv: &[u8; IV],
    shared: &[u8],
    plaintext: &[u8],
) {
    let keys = Keys::derive(ephemeral, recipient);
    out.extend_from_slice(&ephemeral.public_key().to_uncompressed());
    out.extend_from_slice(iv);
    let ciphertext = out.len();
    out.extend_from_slice(plaintext);
    keys.apply_keystream(iv, &mut out[ciphertext..]);
    let tag = keys.mac(iv, &out[ciphertext..], shared).finalize().into_bytes();
    out.extend_from_slice(&tag);
}

/// Opens `sealed` in place and returns the plaintext.
///
/// The point is checked before `key` is used on it, and the tag before anything is decrypted.
pub(super) fn open<'a>(key: &NodeKey, shared: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
    let too_short = OpenError::TooShort(sealed.len());
    let (point, rest) = sealed.split_first_chunk_mut::<POINT>().ok_or(too_short)?;
    let (iv, rest) = rest.split_first_chunk_mut::<IV>().ok_or(too_short)?;
    let (ciphertext, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(too_short)?;
    let point = PublicKey::from_uncompressed(point)?;
    let keys = Keys::derive(key, &point);
    // `verify` compares in constant time.
    keys.mac(iv, ciphertext, shared).verify((&*tag).into()).map_err(|_| OpenError::Tag)?;
    keys.apply_keystream(iv, ciphertext);
    Ok(ciphertext)
}

struct Keys {
    encryption: Zeroizing<[u8; 16]>,
    mac: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// The concatenation KDF of NIST SP 800-56 with SHA-256: one block of it is all that is needed.
    fn derive(own: &NodeKey, other: &PublicKey) -> Self {
        let z = own.agree(other);
        let block: Zeroizing<[u8; 32]> =
            Zeroizing::new(Sha256::new().chain_update(1u32.to_be_bytes()).chain_update(&z[..]).finalize().into());
        let mut encryption = Zeroizing::new([0; 16]);
        encryption.copy_from_slice(&block[..16]);
        Self { encryption, mac: Zeroizing::new(Sha256::digest(&block[16..]).into()) }
    }

    fn apply_keystream(&self, iv: &[u8; IV], data: &mut [u8]) {
        Ctr128BE::<Aes128>::new((&*self.encryption).into(), iv.into()).apply_keystream(data);
    }

    fn mac(&self, iv: &[u8; IV], ciphertext: &[u8], shared: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.mac[..]).expect("HMAC takes keys of any length");
        mac.chain_update(iv).chain_update(ciphertext).chain_update(shared)
    }
}
