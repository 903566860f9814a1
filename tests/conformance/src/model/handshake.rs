//! The handshake after `rlpx.md`, "Initial Handshake" and "ECIES Encryption", and EIP-8, with its parts open to change.

use aes::Aes128;
use aes::cipher::KeyInit;
use hmac::{Hmac, Mac};
use rlp::{Rlp, RlpStream};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SecretKey, ecdh};
use sha2::{Digest, Sha256};

use super::Broken;
use super::frames::{Connection, keystream};

const IV: [u8; 16] = [0x17; 16];

/// What ECIES adds to a body: a point, an initialisation vector and a tag, in bytes.
pub const OVERHEAD: usize = 65 + 16 + 32;

/// A node whose every secret is known.
#[derive(Clone)]
pub struct Node {
    /// The static key.
    pub key: SecretKey,
    /// The ephemeral key of its one connection.
    pub ephemeral: SecretKey,
    /// The nonce of its one connection.
    pub nonce: [u8; 32],
}

/// An `auth` before it is sealed.
#[derive(Clone)]
pub struct Auth {
    /// r, s and the recovery id, by the ephemeral key.
    pub signature: [u8; 65],
    /// The static key of the initiator.
    pub public_key: [u8; 64],
    /// 32 bytes, as it should be.
    pub nonce: Vec<u8>,
    /// The end of the message, and for whom it is.
    pub rest: Rest,
}

/// What an `auth` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAuth {
    /// The static key of the initiator.
    pub public_key: [u8; 64],
    /// Its ephemeral key, as the signature shows it.
    pub ephemeral: [u8; 64],
    /// Its nonce.
    pub nonce: [u8; 32],
    /// The version.
    pub version: u64,
    /// How many bytes follow the list.
    pub padding: usize,
}

/// An `ack` before it is sealed.
#[derive(Clone)]
pub struct Ack {
    /// The ephemeral key of the recipient.
    pub ephemeral: [u8; 64],
    /// 32 bytes, as it should be.
    pub nonce: Vec<u8>,
    /// The end of the message, and for whom it is.
    pub rest: Rest,
}

/// What both messages end with.
#[derive(Clone)]
pub struct Rest {
    recipient: [u8; 64],
    /// The RLP of the version and of what follows it in the list.
    pub items: Vec<u8>,
    /// How many bytes follow the list.
    pub padding: usize,
}

impl Node {
    /// The node with the keys that have this number, which is from 1 to 99.
    pub fn new(number: u8) -> Self {
        Self { key: secret(number), ephemeral: secret(number + 100), nonce: [number.wrapping_add(200); 32] }
    }

    /// A node with keys of its own.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        Ok(Self { key: random_secret()?, ephemeral: random_secret()?, nonce: random_bytes()? })
    }

    /// The static public key.
    pub fn public_key(&self) -> [u8; 64] {
        public(&self.key)
    }

    /// The `auth` for the node with this public key.
    ///
    /// # Panics
    /// When the key is not a point of the curve.
    pub fn auth(&self, remote: &[u8; 64]) -> Auth {
        let agreed = agree(&self.key, remote).expect("the key of a node");
        let digest = xor(&agreed, &self.nonce);
        let (id, compact) = RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest), &self.ephemeral)
            .serialize_compact();
        let mut signature = [0; 65];
        signature[..64].copy_from_slice(&compact);
        signature[64] = id.to_u8();
        let (public_key, nonce) = (self.public_key(), self.nonce.to_vec());
        Auth { signature, public_key, nonce, rest: Rest::new(*remote) }
    }

    /// The connection of the initiator, who sent `auth` and got `ack`.
    ///
    /// # Errors
    /// What is wrong with the ack.
    pub fn read_ack(&self, auth: Vec<u8>, ack: Vec<u8>) -> Result<Connection, Broken> {
        let body = open(&self.key, &ack)?;
        let body = Rlp::new(&body);
        let ephemeral: Vec<u8> = body.val_at(0).map_err(|_| Broken::Body("no ephemeral key"))?;
        let nonce: Vec<u8> = body.val_at(1).map_err(|_| Broken::Body("no nonce"))?;
        body.val_at::<u64>(2).map_err(|_| Broken::Body("no version"))?;
        let agreed = agree(&self.ephemeral, &array(&ephemeral, "the length of the ephemeral key")?)?;
        let nonce = array(&nonce, "the length of the nonce")?;
        Ok(Connection::new(&agreed, (&self.nonce, &auth), (&nonce, &ack), true))
    }

    /// The recipient's `ack` for `auth`, after `change`, and the connection.
    ///
    /// # Errors
    /// What is wrong with the auth.
    pub fn answer(&self, auth: Vec<u8>, change: impl FnOnce(Ack) -> Ack) -> Result<(Vec<u8>, Connection), Broken> {
        let read = self.read_auth(&auth)?;
        let ack = change(self.ack(read.public_key)).seal();
        let connection = self.accept(&auth, &ack)?;
        Ok((ack, connection))
    }

    /// The `ack` for the node with this public key.
    pub fn ack(&self, remote: [u8; 64]) -> Ack {
        Ack { ephemeral: public(&self.ephemeral), nonce: self.nonce.to_vec(), rest: Rest::new(remote) }
    }

    /// The connection of the recipient, who got `auth` and sent `ack`, whatever that says.
    ///
    /// # Errors
    /// What is wrong with the auth.
    pub fn accept(&self, auth: &[u8], ack: &[u8]) -> Result<Connection, Broken> {
        let read = self.read_auth(auth)?;
        let agreed = agree(&self.ephemeral, &read.ephemeral)?;
        Ok(Connection::new(&agreed, (&read.nonce, auth), (&self.nonce, ack), false))
    }

    /// What the recipient learns from `auth`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_auth(&self, auth: &[u8]) -> Result<ReadAuth, Broken> {
        let body = open(&self.key, auth)?;
        let body = Rlp::new(&body);
        let signature: Vec<u8> = body.val_at(0).map_err(|_| Broken::Body("no signature"))?;
        let signature: [u8; 65] = array(&signature, "the length of the signature")?;
        let public_key: Vec<u8> = body.val_at(1).map_err(|_| Broken::Body("no public key"))?;
        let public_key = array(&public_key, "the length of the public key")?;
        let nonce: Vec<u8> = body.val_at(2).map_err(|_| Broken::Body("no nonce"))?;
        let nonce: [u8; 32] = array(&nonce, "the length of the nonce")?;
        let version = body.val_at(3).map_err(|_| Broken::Body("no version"))?;
        let list = body.payload_info().map_err(|_| Broken::Body("no list"))?.total();

        let digest = xor(&agree(&self.key, &public_key)?, &nonce);
        let id = RecoveryId::try_from(i32::from(signature[64])).map_err(|_| Broken::Signature)?;
        let signature = RecoverableSignature::from_compact(&signature[..64], id).map_err(|_| Broken::Signature)?;
        let signer = signature.recover(Message::from_digest(digest)).map_err(|_| Broken::Signature)?;
        let padding = body.as_raw().len() - list;
        Ok(ReadAuth { public_key, ephemeral: uncompressed(&signer), nonce, version, padding })
    }
}

impl Auth {
    /// The whole message.
    pub fn seal(&self) -> Vec<u8> {
        seal(&self.rest.recipient, &self.body())
    }

    /// The message before encryption, padding included.
    pub fn body(&self) -> Vec<u8> {
        self.rest.body(&[&self.signature[..], &self.public_key, &self.nonce])
    }
}

impl Ack {
    /// The whole message.
    pub fn seal(&self) -> Vec<u8> {
        seal(&self.rest.recipient, &self.body())
    }

    /// The message before encryption, padding included.
    pub fn body(&self) -> Vec<u8> {
        self.rest.body(&[&self.ephemeral[..], &self.nonce])
    }
}

impl Rest {
    /// Version 4 and 150 bytes of padding, for the node with this public key.
    pub fn new(recipient: [u8; 64]) -> Self {
        Self { recipient, items: vec![4], padding: 150 }
    }

    /// For whom the message is.
    pub fn recipient(&self) -> &[u8; 64] {
        &self.recipient
    }

    fn body(&self, fields: &[&[u8]]) -> Vec<u8> {
        let mut body = RlpStream::new();
        body.begin_unbounded_list();
        for field in fields {
            body.append(field);
        }
        body.append_raw(&self.items, 1);
        body.finalize_unbounded_list();
        let mut body = body.out().to_vec();
        body.resize(body.len() + self.padding, 0x5a);
        body
    }
}

/// A whole handshake message with this plaintext.
///
/// # Panics
/// When the key is not a point of the curve, or the message is longer than 65,535 bytes.
pub fn seal(recipient: &[u8; 64], plaintext: &[u8]) -> Vec<u8> {
    let ephemeral = secret(99);
    let agreed = agree(&ephemeral, recipient).expect("the key of a node");
    seal_with(&point(4, &public(&ephemeral)), &agreed, plaintext)
}

/// A whole handshake message with this point and a tag that is right for this secret.
///
/// # Panics
/// When the message is longer than 65,535 bytes.
pub fn seal_with(point: &[u8; 65], agreed: &[u8; 32], plaintext: &[u8]) -> Vec<u8> {
    let size = u16::try_from(OVERHEAD + plaintext.len()).expect("a size of two bytes").to_be_bytes();
    [&size[..], &encrypt(point, agreed, plaintext, &size)].concat()
}

/// A handshake message with this plaintext in the form before EIP-8: without a size.
///
/// # Panics
/// When the key is not a point of the curve.
pub fn seal_before_eip_8(recipient: &[u8; 64], plaintext: &[u8]) -> Vec<u8> {
    let ephemeral = secret(99);
    let agreed = agree(&ephemeral, recipient).expect("the key of a node");
    encrypt(&point(4, &public(&ephemeral)), &agreed, plaintext, &[])
}

/// The plaintext of a whole handshake message.
///
/// # Errors
/// [`Broken::HandshakeSize`], [`Broken::Point`] and [`Broken::HandshakeTag`].
pub fn open(key: &SecretKey, message: &[u8]) -> Result<Vec<u8>, Broken> {
    let (size, sealed) = message.split_first_chunk::<2>().ok_or(Broken::HandshakeSize)?;
    if usize::from(u16::from_be_bytes(*size)) != sealed.len() {
        return Err(Broken::HandshakeSize);
    }
    decrypt(key, sealed, size)
}

/// The plaintext of a handshake message in the form before EIP-8.
///
/// # Errors
/// [`Broken::HandshakeSize`], [`Broken::Point`] and [`Broken::HandshakeTag`].
pub fn open_before_eip_8(key: &SecretKey, message: &[u8]) -> Result<Vec<u8>, Broken> {
    decrypt(key, message, &[])
}

/// The x coordinate of the product.
///
/// # Errors
/// [`Broken::Point`].
pub fn agree(secret: &SecretKey, public: &[u8; 64]) -> Result<[u8; 32], Broken> {
    agree_with(secret, &point(4, public))
}

/// A point in the form that messages have it in, with this first byte, which should be 4.
pub fn point(prefix: u8, public: &[u8; 64]) -> [u8; 65] {
    let mut point = [prefix; 65];
    point[1..].copy_from_slice(public);
    point
}

/// The key that has this number.
///
/// # Panics
/// When the number is 0.
pub fn secret(number: u8) -> SecretKey {
    SecretKey::from_secret_bytes([number; 32]).expect("a small number is a key")
}

/// The public key to this one.
pub fn public(secret: &SecretKey) -> [u8; 64] {
    uncompressed(&secp256k1::PublicKey::from_secret_key(secret))
}

fn uncompressed(key: &secp256k1::PublicKey) -> [u8; 64] {
    let bytes = key.serialize_uncompressed();
    std::array::from_fn(|index| bytes[index + 1])
}

fn agree_with(secret: &SecretKey, point: &[u8; 65]) -> Result<[u8; 32], Broken> {
    let point = secp256k1::PublicKey::from_byte_array_uncompressed(*point).map_err(|_| Broken::Point)?;
    let product = ecdh::shared_secret_point(&point, secret);
    Ok(std::array::from_fn(|index| product[index]))
}

fn encrypt(point: &[u8; 65], agreed: &[u8; 32], plaintext: &[u8], shared: &[u8]) -> Vec<u8> {
    let (encryption, mac) = derive(agreed);
    let mut ciphertext = plaintext.to_vec();
    keystream(&Aes128::new(&encryption.into()), u128::from_be_bytes(IV), &mut ciphertext);
    let tag = tag(&mac, &IV, &ciphertext, shared);
    [&point[..], &IV, &ciphertext, &tag].concat()
}

fn decrypt(key: &SecretKey, sealed: &[u8], shared: &[u8]) -> Result<Vec<u8>, Broken> {
    if sealed.len() < OVERHEAD {
        return Err(Broken::HandshakeSize);
    }
    let (point, rest) = sealed.split_at(65);
    let (iv, rest) = rest.split_at(16);
    let (ciphertext, received) = rest.split_at(rest.len() - 32);
    let point: [u8; 65] = std::array::from_fn(|index| point[index]);
    let (encryption, mac) = derive(&agree_with(key, &point)?);
    if tag(&mac, iv, ciphertext, shared) != received {
        return Err(Broken::HandshakeTag);
    }
    let iv: [u8; 16] = std::array::from_fn(|index| iv[index]);
    let mut plaintext = ciphertext.to_vec();
    keystream(&Aes128::new(&encryption.into()), u128::from_be_bytes(iv), &mut plaintext);
    Ok(plaintext)
}

fn derive(agreed: &[u8; 32]) -> ([u8; 16], [u8; 32]) {
    let block = Sha256::digest([&[0, 0, 0, 1], &agreed[..]].concat());
    (std::array::from_fn(|index| block[index]), Sha256::digest(&block[16..]).into())
}

fn tag(key: &[u8; 32], iv: &[u8], ciphertext: &[u8], shared: &[u8]) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any key will do");
    mac.update(&[iv, ciphertext, shared].concat());
    mac.finalize().into_bytes().to_vec()
}

fn random_secret() -> Result<SecretKey, getrandom::Error> {
    loop {
        if let Ok(secret) = SecretKey::from_secret_bytes(random_bytes()?) {
            return Ok(secret);
        }
    }
}

fn random_bytes() -> Result<[u8; 32], getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

fn xor(first: &[u8; 32], second: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|index| first[index] ^ second[index])
}

fn array<const N: usize>(bytes: &[u8], what: &'static str) -> Result<[u8; N], Broken> {
    bytes.try_into().map_err(|_| Broken::Body(what))
}
