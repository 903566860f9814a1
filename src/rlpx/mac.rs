//! The MAC of one direction: a Keccak-256 state that runs through every frame (devp2p `rlpx.md`, "MAC").

use std::fmt;

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use sha3::{Digest, Keccak256};

/// The first half of a digest of the state; what goes on the wire.
pub(super) type Tag = [u8; 16];

/// A running MAC.
///
/// The digest at the start of a header equals the tag at the end of the frame before, so it is kept: a frame of `n`
/// bytes costs `3 + ceil(n / 136)` permutations.
pub(super) struct Mac {
    state: Keccak256,
    cipher: Aes256,
    digest: Tag,
}

impl Mac {
    /// The state of a connection that begins: `seed` is the secret xor the nonce, `greeting` the handshake message
    /// sent in this direction.
    pub(super) fn new(secret: &[u8; 32], seed: &[u8; 32], greeting: &[u8]) -> Self {
        let state = Keccak256::new().chain_update(seed).chain_update(greeting);
        let digest = digest(&state);
        Self { state, cipher: Aes256::new(secret.into()), digest }
    }

    /// Takes in the ciphertext of a header and returns its tag.
    pub(super) fn header(&mut self, ciphertext: &[u8; 16]) -> Tag {
        self.mix(self.digest, ciphertext)
    }

    /// Takes in the ciphertext of a frame's content and returns its tag.
    pub(super) fn body(&mut self, ciphertext: &[u8]) -> Tag {
        self.state.update(ciphertext);
        let digest = digest(&self.state);
        self.mix(digest, &digest)
    }

    /// Keccak takes in `aes(mac-secret, digest) ^ data`; the digest after it is the tag.
    fn mix(&mut self, digest_before: Tag, data: &Tag) -> Tag {
        let mut block = digest_before.into();
        self.cipher.encrypt_block(&mut block);
        for (byte, other) in block.iter_mut().zip(data) {
            *byte ^= other;
        }
        self.state.update(block);
        self.digest = digest(&self.state);
        self.digest
    }

    #[cfg(test)]
    pub(super) fn state_mut(&mut self) -> &mut Keccak256 {
        &mut self.state
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mac")
    }
}

fn digest(state: &Keccak256) -> Tag {
    let digest = state.clone().finalize();
    let mut tag = Tag::default();
    tag.copy_from_slice(&digest[..16]);
    tag
}
