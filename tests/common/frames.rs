//! Frames after devp2p `rlpx.md`, "Framing" and "MAC", with their parts open to change.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit, consts::U16};
use sha3::{Digest, Keccak256};

/// One end of a connection.
pub(crate) struct Model {
    pub(crate) egress: Half,
    pub(crate) ingress: Half,
}

/// One direction of a connection.
#[derive(Clone)]
pub(crate) struct Half {
    cipher: Aes256,
    blocks: u128,
    mac_cipher: Aes256,
    mac: Keccak256,
}

impl Model {
    /// The connection with this ephemeral secret, the nonce and message of the initiator, and those of the recipient.
    pub(crate) fn new(
        agreed: &[u8; 32],
        initiator: (&[u8; 32], &[u8]),
        recipient: (&[u8; 32], &[u8]),
        is_initiator: bool,
    ) -> Self {
        let shared = keccak(&[agreed, &keccak(&[recipient.0, initiator.0])]);
        let aes = keccak(&[agreed, &shared]);
        let mac = keccak(&[agreed, &aes]);
        let half = |nonce: &[u8; 32], message: &[u8]| {
            let seed: [u8; 32] = std::array::from_fn(|index| mac[index] ^ nonce[index]);
            Half {
                cipher: Aes256::new(&aes.into()),
                blocks: 0,
                mac_cipher: Aes256::new(&mac.into()),
                mac: Keccak256::new().chain_update(seed).chain_update(message),
            }
        };
        let from_initiator = half(recipient.0, initiator.1);
        let from_recipient = half(initiator.0, recipient.1);
        match is_initiator {
            true => Self { egress: from_initiator, ingress: from_recipient },
            false => Self { egress: from_recipient, ingress: from_initiator },
        }
    }
}

impl Half {
    /// A frame as it should be.
    pub(crate) fn seal(&mut self, content: &[u8]) -> Vec<u8> {
        let mut frame = self.header(content.len(), &[0xc2, 0x80, 0x80]);
        let mut body = content.to_vec();
        body.resize(content.len().next_multiple_of(16), 0);
        frame.extend(self.body(&body));
        frame
    }

    /// The header of a frame that claims this size, and its tag.
    pub(crate) fn header(&mut self, size: usize, data: &[u8]) -> Vec<u8> {
        let mut header = [0; 16];
        header[..3].copy_from_slice(&(size as u32).to_be_bytes()[1..]);
        header[3..3 + data.len()].copy_from_slice(data);
        self.encrypt(&mut header);
        let tag = self.mix(&self.digest(), &header);
        [header, tag].concat()
    }

    /// The rest of a frame, whose content is padded already, and its tag.
    pub(crate) fn body(&mut self, padded: &[u8]) -> Vec<u8> {
        let mut body = padded.to_vec();
        self.encrypt(&mut body);
        let tag = self.body_tag(&body);
        body.extend(tag);
        body
    }

    /// The padded content of a frame, and the size in its header.
    pub(crate) fn open(&mut self, frame: &[u8]) -> (usize, Vec<u8>) {
        let (mut header, tag) = (frame[..16].to_vec(), &frame[16..32]);
        assert_eq!(self.mix(&self.digest(), &header), tag, "the tag of a header");
        self.encrypt(&mut header);
        assert_eq!(header[3..], [0xc2, 0x80, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "what follows the size in a header");
        let (body, tag) = frame[32..].split_at(frame.len() - 48);
        assert_eq!(self.body_tag(body), tag, "the tag of a frame");
        let mut body = body.to_vec();
        self.encrypt(&mut body);
        (u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize, body)
    }

    fn encrypt(&mut self, data: &mut [u8]) {
        keystream(&self.cipher, self.blocks, data);
        self.blocks += data.len() as u128 / 16;
    }

    fn body_tag(&mut self, ciphertext: &[u8]) -> [u8; 16] {
        self.mac.update(ciphertext);
        let digest = self.digest();
        self.mix(&digest, &digest)
    }

    fn mix(&mut self, digest: &[u8; 16], data: &[u8]) -> [u8; 16] {
        let mut block = (*digest).into();
        self.mac_cipher.encrypt_block(&mut block);
        let seed: [u8; 16] = std::array::from_fn(|index| block[index] ^ data[index]);
        self.mac.update(seed);
        self.digest()
    }

    fn digest(&self) -> [u8; 16] {
        let digest = self.mac.clone().finalize();
        std::array::from_fn(|index| digest[index])
    }
}

/// Counter mode: XORs `data` with the encryption of `counter`, `counter + 1` and so on.
pub(crate) fn keystream(cipher: &impl BlockCipherEncrypt<BlockSize = U16>, counter: u128, data: &mut [u8]) {
    for (index, chunk) in data.chunks_mut(16).enumerate() {
        let mut block = counter.wrapping_add(index as u128).to_be_bytes().into();
        cipher.encrypt_block(&mut block);
        chunk.iter_mut().zip(block).for_each(|(byte, key)| *byte ^= key);
    }
}

fn keccak(parts: &[&[u8; 32]]) -> [u8; 32] {
    parts.iter().fold(Keccak256::new(), |state, part| state.chain_update(part)).finalize().into()
}
