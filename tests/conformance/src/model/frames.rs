//! Frames after `rlpx.md`, "Framing" and "MAC", with their parts open to change.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit, consts::U16};
use sha3::{Digest, Keccak256};

use super::Broken;

/// The size of a frame's header and its MAC, in bytes.
pub const HEADER: usize = 32;

/// The largest size that a header can claim, and the largest that a message may have uncompressed, in bytes.
pub const LARGEST: usize = 0x00ff_ffff;

/// The size of the MAC behind a header or a body, in bytes.
pub const MAC: usize = 16;

/// One end of a connection.
#[derive(Clone)]
pub struct Connection {
    /// What this end sends.
    pub egress: Half,
    /// What this end receives.
    pub ingress: Half,
}

/// One direction of a connection. A clone goes on from the same state, on its own.
#[derive(Clone)]
pub struct Half {
    pub(super) cipher: Aes256,
    pub(super) blocks: u128,
    pub(super) mac_cipher: Aes256,
    pub(super) mac: Keccak256,
}

impl Connection {
    /// The connection with this ephemeral secret, the nonce and message of the initiator, and those of the recipient.
    pub fn new(
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
    pub fn seal(&mut self, content: &[u8]) -> Vec<u8> {
        let mut frame = self.header(content.len(), &[0xc2, 0x80, 0x80]);
        frame.extend(self.body(&padded(content)));
        frame
    }

    /// The header of a frame that claims this size, modulo 2^24, with up to 13 bytes of header data, and its MAC.
    pub fn header(&mut self, size: usize, data: &[u8]) -> Vec<u8> {
        let mut header = [0; 16];
        header[..3].copy_from_slice(&(size as u32).to_be_bytes()[1..]);
        header[3..3 + data.len()].copy_from_slice(data);
        self.encrypt(&mut header);
        let mac = self.mix(&self.digest(), &header);
        [header, mac].concat()
    }

    /// The rest of a frame, whose content is [padded] already, and its MAC.
    pub fn body(&mut self, padded: &[u8]) -> Vec<u8> {
        let mut body = padded.to_vec();
        self.encrypt(&mut body);
        let mac = self.body_mac(&body);
        body.extend(mac);
        body
    }

    /// The padded content of a whole frame, and the size in its header.
    ///
    /// # Errors
    /// [`Broken::HeaderMac`] and [`Broken::FrameMac`], for a frame that is cut off, too.
    pub fn open(&mut self, frame: &[u8]) -> Result<(usize, Vec<u8>), Broken> {
        let (header, body) = frame.split_first_chunk().ok_or(Broken::HeaderMac)?;
        let (size, _) = self.open_header(header)?;
        Ok((size, self.open_body(body)?))
    }

    /// The size in the header of a frame, and the 13 bytes after it.
    ///
    /// # Errors
    /// [`Broken::HeaderMac`].
    pub fn open_header(&mut self, sealed: &[u8; HEADER]) -> Result<(usize, [u8; 13]), Broken> {
        let (header, mac) = sealed.split_at(HEADER - MAC);
        let mut header: [u8; 16] = std::array::from_fn(|index| header[index]);
        if self.mix(&self.digest(), &header) != *mac {
            return Err(Broken::HeaderMac);
        }
        self.encrypt(&mut header);
        let size = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        Ok((size, std::array::from_fn(|index| header[3 + index])))
    }

    /// The padded content of a frame whose header has been opened.
    ///
    /// # Errors
    /// [`Broken::FrameMac`].
    pub fn open_body(&mut self, sealed: &[u8]) -> Result<Vec<u8>, Broken> {
        let (body, mac) = sealed.split_at(sealed.len().saturating_sub(MAC));
        if self.body_mac(body) != *mac {
            return Err(Broken::FrameMac);
        }
        let mut body = body.to_vec();
        self.encrypt(&mut body);
        Ok(body)
    }

    fn encrypt(&mut self, data: &mut [u8]) {
        keystream(&self.cipher, self.blocks, data);
        self.blocks += data.len() as u128 / 16;
    }

    fn body_mac(&mut self, ciphertext: &[u8]) -> [u8; MAC] {
        self.mac.update(ciphertext);
        let digest = self.digest();
        self.mix(&digest, &digest)
    }

    fn mix(&mut self, digest: &[u8; 16], data: &[u8]) -> [u8; MAC] {
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

/// The content with zeros up to the next multiple of 16 bytes.
pub fn padded(content: &[u8]) -> Vec<u8> {
    let mut padded = content.to_vec();
    padded.resize(content.len().next_multiple_of(16), 0);
    padded
}

/// Counter mode: XORs `data` with the encryption of `counter`, `counter + 1` and so on.
pub(super) fn keystream(cipher: &impl BlockCipherEncrypt<BlockSize = U16>, counter: u128, data: &mut [u8]) {
    for (index, chunk) in data.chunks_mut(16).enumerate() {
        let mut block = counter.wrapping_add(index as u128).to_be_bytes().into();
        cipher.encrypt_block(&mut block);
        chunk.iter_mut().zip(block).for_each(|(byte, key)| *byte ^= key);
    }
}

fn keccak(parts: &[&[u8; 32]]) -> [u8; 32] {
    parts.iter().fold(Keccak256::new(), |state, part| state.chain_update(part)).finalize().into()
}
