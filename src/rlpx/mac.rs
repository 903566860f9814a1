//! The MAC of one direction: a Keccak-256 state that runs through every frame (devp2p `rlpx.md`, "MAC").

use aes::Aes256Enc;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use sha3::{Digest, Keccak256};
use zeroize::Zeroizing;

/// The first half of a digest of the state; what goes on the wire.
pub(super) type Tag = [u8; 16];

/// A running MAC, which takes in a header and a content in turn.
///
/// The digest at the start of a header equals the tag at the end of the frame before, so nothing is computed for it: a
/// frame of `n` bytes costs `3 + ceil(n / 136)` permutations. It is kept encrypted, as the next header needs it; that
/// runs beside other work here, and would have to be waited for there.
pub(super) struct Mac {
    pub(super) state: Keccak256,
    pub(super) cipher: Aes256Enc,
    pub(super) mask: Zeroizing<Tag>,
}

impl Mac {
    /// The state of a connection that begins: `seed` is the secret xor the nonce, `greeting` the handshake message
    /// sent in this direction.
    pub(super) fn new(secret: &[u8; 32], seed: &[u8; 32], greeting: &[u8]) -> Self {
        Self::with_state(secret, Keccak256::new().chain_update(seed).chain_update(greeting))
    }

    pub(super) fn with_state(secret: &[u8; 32], state: Keccak256) -> Self {
        let cipher = Aes256Enc::new(secret.into());
        let mask = Zeroizing::new(encrypt(&cipher, digest(&state)));
        Self { state, cipher, mask }
    }

    /// Takes in the ciphertext of a header and returns its tag.
    pub(super) fn header(&mut self, ciphertext: &[u8; 16]) -> Tag {
        self.mix(*self.mask, ciphertext)
    }

    /// Takes in the ciphertext of a frame's content and returns its tag.
    pub(super) fn body(&mut self, ciphertext: &[u8]) -> Tag {
        self.state.update(ciphertext);
        let digest = digest(&self.state);
        let tag = self.mix(encrypt(&self.cipher, digest), &digest);
        *self.mask = encrypt(&self.cipher, tag);
        tag
    }

    /// Keccak takes in `mask ^ data`, the mask being the encrypted digest; the digest after it is the tag.
    fn mix(&mut self, mut mask: Tag, data: &Tag) -> Tag {
        for (byte, other) in mask.iter_mut().zip(data) {
            *byte ^= other;
        }
        self.state.update(mask);
        digest(&self.state)
    }

    #[cfg(test)]
    pub(super) fn state(&self) -> &Keccak256 {
        &self.state
    }
}

fn digest(state: &Keccak256) -> Tag {
    let digest = state.clone().finalize();
    let mut tag = Tag::default();
    tag.copy_from_slice(&digest[..16]);
    tag
}

fn encrypt(cipher: &Aes256Enc, digest: Tag) -> Tag {
    let mut block = digest.into();
    cipher.encrypt_block(&mut block);
    block.into()
}
