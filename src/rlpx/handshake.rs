//! The encryption handshake (devp2p `rlpx.md`, "Initial Handshake", in the form of EIP-8): `auth` from the initiator,
//! `ack` from the recipient, and the secrets of the connection from both.
//!
//! Each state takes the bytes that have come and returns what follows from them; a finished state is gone.

use std::fmt;

use rlp::{DecoderError, RlpStream};
use secp256k1::Message;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use sha3::{Digest, Keccak256};
use zeroize::Zeroizing;

use super::ecies::{self, OpenError};
use super::frame::{Egress, Ingress};
use super::mac::Mac;
use crate::node::{NodeKey, PublicKey};
use crate::rlp_list::RlpList;

/// The largest `auth` or `ack` that is read, without the two bytes of its size.
pub const MAX_HANDSHAKE_SIZE: usize = 2048;

/// The version of the handshake that is sent. It is never compared (EIP-8).
const VERSION: u8 = 4;
const PADDING: std::ops::RangeInclusive<usize> = 100..=199;

/// Why a handshake failed. The connection is closed without a word: nothing is encrypted yet, and an attacker is not
/// told which check stopped him.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The message is shorter than its encryption alone.
    #[error("a handshake message of {size} bytes is too short to be one")]
    TooShort {
        /// The size that the message declares.
        size: usize,
    },
    /// The message is longer than [`MAX_HANDSHAKE_SIZE`].
    #[error("a handshake message of {size} bytes, where the limit is {MAX_HANDSHAKE_SIZE}")]
    TooLong {
        /// The size that the message declares.
        size: usize,
    },
    /// The ephemeral point of the encryption is not on the curve.
    #[error("the handshake message is encrypted with a point that is not on the curve")]
    InvalidPoint,
    /// The message is not encrypted for our key, or was changed.
    #[error("the handshake message is not for this key, or was changed")]
    Authentication,
    /// The plaintext is not the RLP list it should be.
    #[error("the body of the handshake message is malformed")]
    Body(#[from] DecoderError),
    /// A public key in the body is not a point on the curve.
    #[error("a public key in the handshake message is not on the curve")]
    InvalidKey,
    /// The signature in `auth` is out of range or recovers no key.
    #[error("the signature in the auth message is invalid")]
    InvalidSignature,
    /// The other end has our own public key.
    #[error("the other end has our own public key")]
    ConnectedToSelf,
}

impl From<OpenError> for HandshakeError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::TooShort(size) => Self::TooShort { size },
            OpenError::Point => Self::InvalidPoint,
            OpenError::Tag => Self::Authentication,
        }
    }
}

/// The random values that one end spends on one handshake. They must not be used twice.
pub struct HandshakeRandom {
    ephemeral: NodeKey,
    nonce: [u8; 32],
    seal_key: NodeKey,
    seal_iv: [u8; 16],
    padding: [u8; *PADDING.end()],
    padding_len: usize,
}

impl HandshakeRandom {
    /// Takes the values from `fill`, which fills a buffer with random bytes.
    pub fn new(mut fill: impl FnMut(&mut [u8])) -> Self {
        let ephemeral = NodeKey::from_random(&mut fill);
        let seal_key = NodeKey::from_random(&mut fill);
        let (mut nonce, mut seal_iv, mut padding, mut length) = ([0; 32], [0; 16], [0; *PADDING.end()], [0; 4]);
        for buffer in [&mut nonce[..], &mut seal_iv, &mut padding, &mut length] {
            fill(buffer);
        }
        let choices = PADDING.end() - PADDING.start() + 1;
        let padding_len = PADDING.start() + u32::from_le_bytes(length) as usize % choices;
        Self { ephemeral, nonce, seal_key, seal_iv, padding, padding_len }
    }

    /// Takes the values from the operating system.
    ///
    /// # Errors
    /// When the operating system has none to give.
    pub fn from_os() -> Result<Self, getrandom::Error> {
        let mut pool = Zeroizing::new([0; 512]);
        getrandom::fill(&mut pool[..])?;
        let mut rest = &pool[..];
        Ok(Self::new(|buffer| match rest.split_at_checked(buffer.len()) {
            Some((bytes, tail)) => {
                buffer.copy_from_slice(bytes);
                rest = tail;
            }
            None => getrandom::fill(buffer).expect("the operating system gave random numbers a moment ago"),
        }))
    }

    /// The same values with the ephemeral key and the nonce given, as test vectors need it.
    pub fn with_ephemeral(self, ephemeral: NodeKey, nonce: [u8; 32]) -> Self {
        Self { ephemeral, nonce, ..self }
    }

    /// Pads `body`, seals it for `recipient` and puts its size before it.
    fn seal(&self, mut body: Vec<u8>, recipient: &PublicKey) -> Vec<u8> {
        body.extend_from_slice(&self.padding[..self.padding_len]);
        let size = ((body.len() + ecies::OVERHEAD) as u16).to_be_bytes();
        let mut message = Vec::with_capacity(2 + body.len() + ecies::OVERHEAD);
        message.extend_from_slice(&size);
        ecies::seal(&mut message, recipient, &self.seal_key, &self.seal_iv, &size, &body);
        message
    }
}

impl fmt::Debug for HandshakeRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandshakeRandom")
    }
}

/// What a state makes of the bytes it was given.
#[derive(Debug)]
pub enum Step<S, D> {
    /// Bytes are missing; the state goes on.
    More(S),
    /// The state is finished, and this is its result.
    Done(D),
}

/// An established connection: who is at the other end, and the two halves of the encrypted stream.
#[derive(Debug)]
pub struct Established {
    /// The public key of the other end. The first frame that opens proves it: who does not hold the key, claims it or
    /// replays a handshake, gets this far and cannot make one.
    pub remote: PublicKey,
    /// The sending half.
    pub egress: Egress,
    /// The receiving half.
    pub ingress: Ingress,
}

/// The end that dialled, its `auth` made and the `ack` awaited.
pub struct Initiator {
    key: NodeKey,
    remote: PublicKey,
    ephemeral: NodeKey,
    nonce: [u8; 32],
    auth: Vec<u8>,
    ack: Packet,
}

impl Initiator {
    /// Begins a handshake with the node that holds `remote`; the bytes are the `auth` message to be sent.
    ///
    /// # Errors
    /// [`HandshakeError::ConnectedToSelf`] when `remote` belongs to `key`.
    pub fn new(key: &NodeKey, remote: PublicKey, random: HandshakeRandom) -> Result<(Self, Vec<u8>), HandshakeError> {
        let own = key.public_key();
        if own == remote {
            return Err(HandshakeError::ConnectedToSelf);
        }
        let signed = xor(&key.agree(&remote), &random.nonce);
        let signature =
            RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(*signed), random.ephemeral.secret());
        let (recovery_id, compact) = signature.serialize_compact();
        let mut signature = [0; 65];
        signature[..64].copy_from_slice(&compact);
        signature[64] = recovery_id.to_u8();

        let mut body = RlpStream::new_list(4);
        body.append(&&signature[..]).append(&&own.to_bytes()[..]).append(&&random.nonce[..]).append(&VERSION);
        let auth = random.seal(body.out().into(), &remote);
        let HandshakeRandom { ephemeral, nonce, .. } = random;
        let state = Self { key: key.clone(), remote, ephemeral, nonce, auth: auth.clone(), ack: Packet::default() };
        Ok((state, auth))
    }

    /// How many bytes to read next; reading more is harmless.
    pub fn wants(&self) -> usize {
        self.ack.wants()
    }

    /// Takes bytes of the `ack` from the front of `input`; what follows it is left there.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub fn receive(mut self, input: &mut &[u8]) -> Result<Step<Self, Established>, HandshakeError> {
        if !self.ack.fill(input)? {
            return Ok(Step::More(self));
        }
        let (remote_ephemeral, remote_nonce) = {
            let mut body = Zeroizing::new(self.ack.bytes.clone());
            let mut body = self.ack.open(&self.key, &mut body)?;
            let ephemeral = public_key(&body.bytes()?)?;
            let nonce = body.bytes()?;
            version(&mut body)?;
            (ephemeral, nonce)
        };
        let secrets = Secrets::derive(&self.ephemeral, &remote_ephemeral, &self.nonce, &remote_nonce);
        let egress = secrets.mac(&remote_nonce, &self.auth);
        let ingress = secrets.mac(&self.nonce, &self.ack.bytes);
        Ok(Step::Done(secrets.establish(self.remote, egress, ingress)))
    }

    /// The same state after another `auth`: test vectors have one that was sealed with an unknown key.
    #[cfg(test)]
    pub(super) fn with_auth(self, auth: Vec<u8>) -> Self {
        Self { auth, ..self }
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator").field("remote", &self.remote).field("wants", &self.wants()).finish_non_exhaustive()
    }
}

/// The end that was dialled, the `auth` awaited.
#[derive(Debug)]
pub struct Recipient {
    key: NodeKey,
    random: HandshakeRandom,
    auth: Packet,
}

impl Recipient {
    /// Waits for the handshake of whoever dialled.
    pub fn new(key: NodeKey, random: HandshakeRandom) -> Self {
        Self { key, random, auth: Packet::default() }
    }

    /// How many bytes to read next; reading more is harmless.
    pub fn wants(&self) -> usize {
        self.auth.wants()
    }

    /// Takes bytes of the `auth` from the front of `input`; what follows it is left there. When it is whole, the
    /// result is the `ack` message to be sent and the connection.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub fn receive(mut self, input: &mut &[u8]) -> Result<Step<Self, (Vec<u8>, Established)>, HandshakeError> {
        if !self.auth.fill(input)? {
            return Ok(Step::More(self));
        }
        let (signature, remote, remote_nonce) = {
            let mut body = Zeroizing::new(self.auth.bytes.clone());
            let mut body = self.auth.open(&self.key, &mut body)?;
            let signature: [u8; 65] = body.bytes()?;
            let remote = public_key(&body.bytes()?)?;
            let nonce: [u8; 32] = body.bytes()?;
            version(&mut body)?;
            (signature, remote, nonce)
        };
        if remote == self.key.public_key() {
            return Err(HandshakeError::ConnectedToSelf);
        }
        let signed = xor(&self.key.agree(&remote), &remote_nonce);
        let remote_ephemeral = recover(&signature, *signed)?;

        let random = &self.random;
        let mut body = RlpStream::new_list(3);
        body.append(&&random.ephemeral.public_key().to_bytes()[..]).append(&&random.nonce[..]).append(&VERSION);
        let ack = random.seal(body.out().into(), &remote);

        let secrets = Secrets::derive(&random.ephemeral, &remote_ephemeral, &remote_nonce, &random.nonce);
        let egress = secrets.mac(&remote_nonce, &ack);
        let ingress = secrets.mac(&random.nonce, &self.auth.bytes);
        Ok(Step::Done((ack, secrets.establish(remote, egress, ingress))))
    }
}

/// A handshake message on its way in, the two bytes of its size included.
#[derive(Debug, Default)]
struct Packet {
    bytes: Vec<u8>,
}

impl Packet {
    /// The length of the whole, once its size has come.
    fn len(&self) -> Option<usize> {
        self.bytes.first_chunk().map(|size| 2 + usize::from(u16::from_be_bytes(*size)))
    }

    fn wants(&self) -> usize {
        self.len().unwrap_or(2) - self.bytes.len()
    }

    /// Moves the bytes that belong to the message from `input`, and tells whether it is whole.
    fn fill(&mut self, input: &mut &[u8]) -> Result<bool, HandshakeError> {
        loop {
            let (taken, rest) = input.split_at(self.wants().min(input.len()));
            self.bytes.extend_from_slice(taken);
            *input = rest;
            let Some(len) = self.len() else { return Ok(false) };
            let size = len - 2;
            if size < ecies::OVERHEAD {
                return Err(HandshakeError::TooShort { size });
            }
            if size > MAX_HANDSHAKE_SIZE {
                return Err(HandshakeError::TooLong { size });
            }
            if self.wants() == 0 || input.is_empty() {
                return Ok(self.wants() == 0);
            }
            self.bytes.reserve_exact(self.wants());
        }
    }

    /// Opens a copy of the message, whose ciphertext goes into the MACs later, and returns the items of its body.
    fn open<'a>(&self, key: &NodeKey, copy: &'a mut [u8]) -> Result<RlpList<'a>, HandshakeError> {
        let (size, sealed) = copy.split_at_mut(2);
        let body = ecies::open(key, size, sealed)?;
        Ok(RlpList::new(body)?)
    }
}

/// The secrets that both ends derive (devp2p `rlpx.md`: `shared-secret`, `aes-secret`, `mac-secret`).
pub(super) struct Secrets {
    pub(super) aes: Zeroizing<[u8; 32]>,
    pub(super) mac: Zeroizing<[u8; 32]>,
}

impl Secrets {
    pub(super) fn derive(
        ephemeral: &NodeKey,
        remote_ephemeral: &PublicKey,
        initiator_nonce: &[u8; 32],
        recipient_nonce: &[u8; 32],
    ) -> Self {
        let agreed = ephemeral.agree(remote_ephemeral);
        let nonces = keccak(recipient_nonce, initiator_nonce);
        let shared = keccak(&agreed, &nonces);
        let aes = keccak(&agreed, &shared);
        let mac = keccak(&agreed, &aes);
        Self { aes, mac }
    }

    pub(super) fn mac(&self, receiver_nonce: &[u8; 32], greeting: &[u8]) -> Mac {
        Mac::new(&self.mac, &xor(&self.mac, receiver_nonce), greeting)
    }

    pub(super) fn establish(&self, remote: PublicKey, egress: Mac, ingress: Mac) -> Established {
        Established { remote, egress: Egress::new(&self.aes, egress), ingress: Ingress::new(&self.aes, ingress) }
    }
}

fn keccak(first: &[u8; 32], second: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(Keccak256::new().chain_update(first).chain_update(second).finalize().into())
}

fn xor(first: &[u8; 32], second: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(std::array::from_fn(|index| first[index] ^ second[index]))
}

fn public_key(bytes: &[u8; 64]) -> Result<PublicKey, HandshakeError> {
    PublicKey::from_bytes(bytes).map_err(|_| HandshakeError::InvalidKey)
}

/// The version must be an integer, and may be any (EIP-8). What follows it is ignored.
fn version(body: &mut RlpList<'_>) -> Result<u64, HandshakeError> {
    Ok(body.value()?)
}

/// The key that signed `digest`.
fn recover(signature: &[u8; 65], digest: [u8; 32]) -> Result<PublicKey, HandshakeError> {
    let recovery_id = RecoveryId::try_from(i32::from(signature[64]));
    recovery_id
        .and_then(|id| RecoverableSignature::from_compact(&signature[..64], id))
        .and_then(|signature| signature.recover(Message::from_digest(digest)))
        .map(PublicKey::from)
        .map_err(|_| HandshakeError::InvalidSignature)
}
