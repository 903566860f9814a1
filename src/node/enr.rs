//! Node records (EIP-778): what a node says about itself, signed. In text `enr:` and unpadded base64url.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use rlp::{DecoderError, RlpStream};
use secp256k1::Message;
use secp256k1::ecdsa::{self, Signature};
use sha3::{Digest, Keccak256};

use super::{NodeAddr, NodeId, NodeKey, PublicKey};
use crate::rlp_list::RlpList;

/// The longest record, in bytes.
const MAX_LENGTH: usize = 300;

const PREFIX: &str = "enr:";

/// A node record whose signature is right, of the identity scheme `v4`. At most 300 bytes long.
///
/// It keeps what it was read from: it prints, and encodes, as it came.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Enr {
    public_key: PublicKey,
    sequence: u64,
    /// Keys in ascending order, and values in RLP.
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    encoded: Vec<u8>,
}

impl Enr {
    /// Signs a record of the node with `key`, which says that it listens at `address`, over TCP and with the same port
    /// over UDP. Of two records of a node the one with the higher `sequence` counts.
    pub fn sign(key: &NodeKey, sequence: u64, address: Option<SocketAddr>) -> Self {
        let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = vec![
            (b"id".into(), rlp::encode(&"v4").into()),
            (b"secp256k1".into(), rlp::encode(&&key.public_key().point().serialize()[..]).into()),
        ];
        if let Some(address) = address {
            let (ip, names) = match address.ip().to_canonical() {
                IpAddr::V4(ip) => (rlp::encode(&&ip.octets()[..]), ["ip", "tcp", "udp"]),
                IpAddr::V6(ip) => (rlp::encode(&&ip.octets()[..]), ["ip6", "tcp6", "udp6"]),
            };
            let port = rlp::encode(&address.port());
            pairs.extend(names.into_iter().zip([ip, port.clone(), port]).map(|(name, v)| (name.into(), v.into())));
        }
        pairs.sort();
        Self::signed(key, sequence, pairs)
    }

    pub(crate) fn signed(key: &NodeKey, sequence: u64, pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let signature = ecdsa::sign(digest(sequence, &pairs), key.secret()).serialize_compact();
        let mut stream = RlpStream::new();
        stream.begin_list(2 + 2 * pairs.len()).append(&&signature[..]);
        append_content(&mut stream, sequence, &pairs);
        Self { public_key: key.public_key(), sequence, pairs, encoded: stream.out().into() }
    }

    /// Reads the RLP of a record and checks its signature.
    ///
    /// # Errors
    /// [`EnrError`], when it is longer than 300 bytes, malformed, of another identity scheme, or wrongly signed.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrError> {
        if bytes.len() > MAX_LENGTH {
            return Err(EnrError::TooLong(bytes.len()));
        }
        let (signature, sequence, pairs) = parts(bytes)?;
        let mut record = Self { public_key: key_of(&pairs)?, sequence, pairs, encoded: bytes.to_vec() };
        let signature = Signature::from_compact(&signature).map_err(|_| EnrError::Signature)?;
        let message = digest(record.sequence, &record.pairs);
        ecdsa::verify(&signature, message, record.public_key.point()).map_err(|_| EnrError::Signature)?;
        record.pairs.shrink_to_fit();
        Ok(record)
    }

    /// The RLP of the record.
    pub fn encode(&self) -> &[u8] {
        &self.encoded
    }

    /// The key of the node, which has signed the record.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.public_key.node_id()
    }

    /// How often the node has changed its record: of two, the one with the higher number counts.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The value of `key`, in RLP.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        let place = self.pairs.binary_search_by(|(other, _)| other.as_slice().cmp(key.as_bytes())).ok()?;
        Some(&self.pairs[place].1)
    }

    /// Where the node listens for RLPx, over IPv4 and IPv6; nothing where address or port are missing or malformed. The
    /// port of IPv4 is that of IPv6, too, unless the record has another for it.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let port = |key| self.value(key).and_then(|value| rlp::decode::<u16>(value).ok()).filter(|port| *port != 0);
        let v4: Option<[u8; 4]> = self.bytes("ip");
        let v6: Option<[u8; 16]> = self.bytes("ip6");
        let v4 = v4.zip(port("tcp")).map(|(ip, port)| SocketAddr::from((Ipv4Addr::from(ip), port)));
        let v6 = v6.zip(port("tcp6").or(port("tcp"))).map(|(ip, port)| SocketAddr::from((Ipv6Addr::from(ip), port)));
        v4.into_iter().chain(v6).collect()
    }

    /// The node with its addresses, if it says any.
    pub fn node_addr(&self) -> Option<NodeAddr> {
        let addresses = self.addresses();
        (!addresses.is_empty()).then(|| NodeAddr::new(self.public_key, addresses.into_iter().map(Into::into)))
    }

    fn bytes<const N: usize>(&self, key: &str) -> Option<[u8; N]> {
        rlp::Rlp::new(self.value(key)?).data().ok()?.try_into().ok()
    }
}

/// Signature, sequence number, and pairs of a record.
type Parts = ([u8; 64], u64, Vec<(Vec<u8>, Vec<u8>)>);

fn parts(bytes: &[u8]) -> Result<Parts, EnrError> {
    let mut outer = RlpList::new(bytes)?;
    let whole = rlp::PayloadInfo::from(bytes)?;
    if whole.header_len + whole.value_len != bytes.len() {
        return Err(EnrError::Rlp(DecoderError::RlpInconsistentLengthAndData));
    }
    let signature = outer.bytes()?;
    let sequence = outer.value()?;
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    while let Some(key) = outer.next_item()? {
        let key: Vec<u8> = if key.is_list() { return Err(EnrError::Order) } else { key.data()?.into() };
        let value = outer.next_item()?.ok_or(EnrError::Rlp(DecoderError::RlpIncorrectListLen))?;
        if pairs.last().is_some_and(|(last, _)| *last >= key) {
            return Err(EnrError::Order);
        }
        pairs.push((key, value.as_raw().into()));
    }
    Ok((signature, sequence, pairs))
}

fn key_of(pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<PublicKey, EnrError> {
    let value = |key: &[u8]| pairs.iter().find(|(other, _)| other == key).map(|(_, value)| rlp::Rlp::new(value));
    let scheme = value(b"id").and_then(|value| value.data().ok());
    if scheme != Some(b"v4") {
        return Err(EnrError::Scheme);
    }
    let key = value(b"secp256k1").and_then(|value| value.data().ok()?.try_into().ok()).ok_or(EnrError::Key)?;
    PublicKey::from_compressed(key).map_err(|_| EnrError::Key)
}

fn digest(sequence: u64, pairs: &[(Vec<u8>, Vec<u8>)]) -> Message {
    let mut stream = RlpStream::new();
    stream.begin_list(1 + 2 * pairs.len());
    append_content(&mut stream, sequence, pairs);
    Message::from_digest(Keccak256::digest(stream.out()).into())
}

fn append_content(stream: &mut RlpStream, sequence: u64, pairs: &[(Vec<u8>, Vec<u8>)]) {
    stream.append(&sequence);
    for (key, value) in pairs {
        stream.append(&key.as_slice()).append_raw(value, 1);
    }
}

impl fmt::Display for Enr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", to_base64url(&self.encoded))
    }
}

impl fmt::Debug for Enr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Enr(of {:?}, {})", self.node_id(), self.sequence)
    }
}

impl FromStr for Enr {
    type Err = EnrError;

    fn from_str(text: &str) -> Result<Self, EnrError> {
        let text = text.strip_prefix(PREFIX).ok_or(EnrError::Prefix)?;
        // Four characters are three bytes.
        if text.len() > MAX_LENGTH / 3 * 4 {
            return Err(EnrError::TooLong(text.len() / 4 * 3));
        }
        Self::decode(&from_base64url(text).ok_or(EnrError::Base64)?)
    }
}

/// Why bytes or a text are no node record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnrError {
    /// It does not begin with `enr:`.
    #[error("a node record begins with enr:")]
    Prefix,
    /// The text is not base64url without padding.
    #[error("the node record is not base64url without padding")]
    Base64,
    /// It has this many bytes.
    #[error("the node record has {0} bytes; 300 are allowed")]
    TooLong(usize),
    /// It is not the RLP of a record.
    #[error("the node record is malformed: {0}")]
    Rlp(#[from] DecoderError),
    /// Its keys are not in ascending order, or one is there twice.
    #[error("the keys of the node record are not in ascending order")]
    Order,
    /// Its identity scheme is not `v4`.
    #[error("the node record is not of the identity scheme v4")]
    Scheme,
    /// Its public key is missing or no point on the curve.
    #[error("the node record has no valid public key")]
    Key,
    /// Its signature is not that of its key.
    #[error("the signature of the node record is wrong")]
    Signature,
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn to_base64url(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0, |group, byte| group << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(DIGITS[group >> (18 - 6 * place) & 63]));
        }
    }
    text
}

/// `None` unless the text is what [`to_base64url`] makes: bits that are left over are zero.
fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut group = 0;
        for digit in chunk {
            group = group << 6 | DIGITS.iter().position(|other| other == digit)?;
        }
        group <<= 6 * (4 - chunk.len());
        let (whole, left) = ((group as u32).to_be_bytes(), chunk.len() - 1);
        if left == 0 || whole[1 + left..].iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(&whole[1..=left]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of EIP-778.
    const TEXT: &str = "enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8";
    const SECRET: &str = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291";

    #[test]
    fn the_example_of_the_specification_reads_and_is_signed_alike() {
        let record: Enr = TEXT.parse().unwrap();
        assert_eq!(record.to_string(), TEXT);
        assert_eq!(record.sequence(), 1);
        assert_eq!(record.node_id().to_string(), "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7");
        assert_eq!(record.value("ip"), Some(&b"\x84\x7f\0\0\x01"[..]));
        assert_eq!(record.node_addr(), None, "it has no TCP port");
        let key = NodeKey::from_hex(SECRET).unwrap();
        assert_eq!(Enr::signed(&key, 1, record.pairs.clone()), record);
    }

    #[test]
    fn what_is_signed_reads_again() {
        let key = NodeKey::random();
        for address in ["10.0.0.1:30303", "[2a00::1]:1"] {
            let record = Enr::sign(&key, u64::MAX, Some(address.parse().unwrap()));
            assert_eq!(record.to_string().parse::<Enr>().as_ref(), Ok(&record));
            assert_eq!(record.addresses(), [address.parse().unwrap()]);
            assert_eq!(record.public_key(), key.public_key());
        }
        let record = Enr::sign(&key, 0, None);
        assert_eq!(Enr::decode(record.encode()).as_ref(), Ok(&record));
        assert_eq!(record.node_addr(), None);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let record = Enr::sign(&NodeKey::random(), 7, Some("10.0.0.1:30303".parse().unwrap()));
        for bit in 0..record.encode().len() * 8 {
            let mut bytes = record.encode().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Enr::decode(&bytes).is_err(), "bit {bit}");
        }
        for length in 0..record.encode().len() {
            assert!(Enr::decode(&record.encode()[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_key_of_one_letter_has_one_form() {
        let key = NodeKey::random();
        let mut pairs = Enr::sign(&key, 1, None).pairs;
        pairs.insert(0, (b"a".to_vec(), vec![5]));
        let record = Enr::signed(&key, 1, pairs.clone());
        assert_eq!(Enr::decode(record.encode()).as_ref(), Ok(&record));
        // The signature is over the letter alone, which needs no header.
        let mut longer = RlpStream::new_list(2 + 2 * pairs.len());
        longer.append_raw(rlp::Rlp::new(record.encode()).at(0).unwrap().as_raw(), 1).append(&1u64);
        longer.append_raw(b"\x81a\x05", 2);
        for (key, value) in &pairs[1..] {
            longer.append(&key.as_slice()).append_raw(value, 1);
        }
        assert_eq!(Enr::decode(&longer.out()), Err(EnrError::Rlp(DecoderError::RlpInvalidIndirection)));
    }

    #[test]
    fn each_bad_part_is_named() {
        let key = NodeKey::random();
        let with = |pairs: &[(&str, &[u8])]| {
            let pairs = pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), rlp::encode(value).into()));
            Enr::signed(&key, 1, pairs.collect()).to_string().parse::<Enr>()
        };
        let point = key.public_key().point().serialize();
        let good = [("id", &b"v4"[..]), ("secp256k1", &point[..])];
        assert!(with(&good).is_ok());
        assert_eq!(with(&[good[1], good[0]]), Err(EnrError::Order));
        assert_eq!(with(&[good[0], good[0], good[1]]), Err(EnrError::Order));
        assert_eq!(with(&[("id", b"v5"), good[1]]), Err(EnrError::Scheme));
        assert_eq!(with(&[good[0], ("secp256k1", &[5; 33])]), Err(EnrError::Key));
        assert!(matches!(with(&[good[0], good[1], ("z", &[0; 200])]), Err(EnrError::TooLong(_))));
        let mut longer = Enr::sign(&key, 1, None).encode().to_vec();
        longer.push(0);
        assert!(matches!(Enr::decode(&longer), Err(EnrError::Rlp(_))));
        assert_eq!(TEXT[4..].parse::<Enr>(), Err(EnrError::Prefix));
        assert_eq!(format!("{TEXT}=").parse::<Enr>(), Err(EnrError::Base64));
    }
}
