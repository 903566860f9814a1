//! The handshake after devp2p `rlpx.md`, "Initial Handshake" and "ECIES Encryption", with its parts open to change.

use aes::Aes128;
use aes::cipher::KeyInit;
use capmux::PublicKey;
use hmac::{Hmac, Mac};
use rlp::{Rlp, RlpStream};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SecretKey, ecdh};
use sha2::{Digest, Sha256};

use super::frames::{Model, keystream};

const IV: [u8; 16] = [0x17; 16];

/// A node whose every secret is known.
pub(crate) struct ModelNode {
    pub(crate) key: SecretKey,
    pub(crate) ephemeral: SecretKey,
    pub(crate) nonce: [u8; 32],
}

/// An `auth` before it is sealed.
pub(crate) struct Auth {
    pub(crate) signature: [u8; 65],
    pub(crate) public_key: [u8; 64],
    pub(crate) nonce: Vec<u8>,
    pub(crate) rest: Rest,
}

/// An `ack` before it is sealed.
pub(crate) struct Ack {
    pub(crate) ephemeral: [u8; 64],
    pub(crate) nonce: Vec<u8>,
    pub(crate) rest: Rest,
}

/// What both messages end with.
pub(crate) struct Rest {
    recipient: [u8; 64],
    /// The RLP of the version and of what follows it in the list.
    pub(crate) items: Vec<u8>,
    pub(crate) padding: usize,
}

impl ModelNode {
    /// The node with the key that has this number.
    pub(crate) fn new(number: u8) -> Self {
        Self { key: secret(number), ephemeral: secret(number + 100), nonce: [number + 200; 32] }
    }

    pub(crate) fn public_key(&self) -> [u8; 64] {
        public(&self.key)
    }

    pub(crate) fn auth(&self, remote: &PublicKey) -> Auth {
        let digest = xor(&agree(&self.key, &remote.to_bytes()), &self.nonce);
        let (id, compact) = RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest), &self.ephemeral)
            .serialize_compact();
        let mut signature = [0; 65];
        signature[..64].copy_from_slice(&compact);
        signature[64] = id.to_u8();
        let (public_key, nonce) = (self.public_key(), self.nonce.to_vec());
        Auth { signature, public_key, nonce, rest: Rest::new(remote.to_bytes()) }
    }

    /// The connection of the initiator, who sent `auth` and got `ack`.
    pub(crate) fn read_ack(&self, auth: Vec<u8>, ack: Vec<u8>) -> Model {
        let body = open(&self.key, &ack).expect("the ack opens");
        let body = Rlp::new(&body);
        let ephemeral: Vec<u8> = body.val_at(0).expect("an ephemeral key");
        let nonce: Vec<u8> = body.val_at(1).expect("a nonce");
        assert_eq!(body.val_at::<u8>(2), Ok(4), "the version that is sent");
        let agreed = agree(&self.ephemeral, &array(&ephemeral));
        Model::new(&agreed, (&self.nonce, &auth), (&array(&nonce), &ack), true)
    }

    /// The recipient's `ack` for `auth`, after `change`, and the connection.
    pub(crate) fn answer(&self, auth: Vec<u8>, change: impl FnOnce(Ack) -> Ack) -> (Vec<u8>, Model) {
        let body = open(&self.key, &auth).expect("the auth opens");
        let body = Rlp::new(&body);
        let signature: Vec<u8> = body.val_at(0).expect("a signature");
        let remote: Vec<u8> = body.val_at(1).expect("a public key");
        let remote_nonce: [u8; 32] = array(&body.val_at::<Vec<u8>>(2).expect("a nonce"));
        assert_eq!(body.val_at::<u8>(3), Ok(4), "the version that is sent");

        let digest = xor(&agree(&self.key, &array(&remote)), &remote_nonce);
        let id = RecoveryId::try_from(i32::from(signature[64])).expect("a recovery id");
        let signature = RecoverableSignature::from_compact(&signature[..64], id).expect("a signature");
        let remote_ephemeral = signature.recover(Message::from_digest(digest)).expect("the signer");
        let agreed = agree(&self.ephemeral, &array(&remote_ephemeral.serialize_uncompressed()[1..]));

        let ack =
            Ack { ephemeral: public(&self.ephemeral), nonce: self.nonce.to_vec(), rest: Rest::new(array(&remote)) };
        let ack = change(ack).seal();
        let model = Model::new(&agreed, (&remote_nonce, &auth), (&self.nonce, &ack), false);
        (ack, model)
    }
}

impl Auth {
    pub(crate) fn seal(&self) -> Vec<u8> {
        self.rest.seal(&[&self.signature[..], &self.public_key, &self.nonce])
    }
}

impl Ack {
    pub(crate) fn seal(&self) -> Vec<u8> {
        self.rest.seal(&[&self.ephemeral[..], &self.nonce])
    }
}

impl Rest {
    pub(crate) fn new(recipient: [u8; 64]) -> Self {
        Self { recipient, items: vec![4], padding: 150 }
    }

    fn seal(&self, fields: &[&[u8]]) -> Vec<u8> {
        let mut body = RlpStream::new();
        body.begin_unbounded_list();
        for field in fields {
            body.append(field);
        }
        body.append_raw(&self.items, 1);
        body.finalize_unbounded_list();
        let mut body = body.out().to_vec();
        body.resize(body.len() + self.padding, 0x5a);
        seal(&self.recipient, &body)
    }
}

/// A whole handshake message with this plaintext.
pub(crate) fn seal(recipient: &[u8; 64], plaintext: &[u8]) -> Vec<u8> {
    let ephemeral = secret(99);
    let mut point = [4; 65];
    point[1..].copy_from_slice(&public(&ephemeral));
    seal_with(&point, &agree(&ephemeral, recipient), plaintext)
}

/// A whole handshake message with this point and a tag that is right for this secret.
pub(crate) fn seal_with(point: &[u8; 65], agreed: &[u8; 32], plaintext: &[u8]) -> Vec<u8> {
    let (encryption, mac) = derive(agreed);
    let size = ((65 + 16 + plaintext.len() + 32) as u16).to_be_bytes();
    let mut ciphertext = plaintext.to_vec();
    keystream(&Aes128::new(&encryption.into()), u128::from_be_bytes(IV), &mut ciphertext);
    let tag = tag(&mac, &IV, &ciphertext, &size);
    [&size[..], point, &IV, &ciphertext, &tag].concat()
}

/// The plaintext of a whole handshake message.
pub(crate) fn open(key: &SecretKey, message: &[u8]) -> Option<Vec<u8>> {
    let (size, sealed) = message.split_at(2);
    assert_eq!(usize::from(u16::from_be_bytes(array(size))), sealed.len());
    let (point, rest) = sealed.split_at(65);
    let (iv, rest) = rest.split_at(16);
    let (ciphertext, received) = rest.split_at(rest.len() - 32);
    let (encryption, mac) = derive(&agree(key, &array(&point[1..])));
    if tag(&mac, iv, ciphertext, size) != received {
        return None;
    }
    let mut plaintext = ciphertext.to_vec();
    keystream(&Aes128::new(&encryption.into()), u128::from_be_bytes(array(iv)), &mut plaintext);
    Some(plaintext)
}

fn derive(agreed: &[u8; 32]) -> ([u8; 16], [u8; 32]) {
    let block = Sha256::digest([&[0, 0, 0, 1], &agreed[..]].concat());
    (array(&block[..16]), Sha256::digest(&block[16..]).into())
}

fn tag(key: &[u8; 32], iv: &[u8], ciphertext: &[u8], shared: &[u8]) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any key will do");
    mac.update(&[iv, ciphertext, shared].concat());
    mac.finalize().into_bytes().to_vec()
}

/// The x coordinate of the product.
pub(crate) fn agree(secret: &SecretKey, public: &[u8; 64]) -> [u8; 32] {
    let mut point = [4; 65];
    point[1..].copy_from_slice(public);
    let point = secp256k1::PublicKey::from_byte_array_uncompressed(point).expect("a point");
    array(&ecdh::shared_secret_point(&point, secret)[..32])
}

pub(crate) fn secret(number: u8) -> SecretKey {
    SecretKey::from_secret_bytes([number; 32]).expect("a small number is a key")
}

pub(crate) fn public(secret: &SecretKey) -> [u8; 64] {
    array(&secp256k1::PublicKey::from_secret_key(secret).serialize_uncompressed()[1..])
}

fn xor(first: &[u8; 32], second: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|index| first[index] ^ second[index])
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the length is right")
}
