//! The messages: `docs/pex.md` as types.

use std::net::{IpAddr, SocketAddr};

use capmux::node::Enr;
use capmux::rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};
use capmux::typed::{self, Asked, BodyError, MessageSet, Request};
use capmux::{Address, NodeAddr, PublicKey};

use crate::{MAX_RECORDS, Violation};

pub(crate) const ANNOUNCE: u64 = 2;

/// How many bytes the signature has that a signed record begins with.
const SIGNATURE: usize = 64;

/// What a peer may say.
#[derive(Debug, PartialEq)]
pub(crate) enum PexMessage {
    GetNodes(Asked<GetNodes>),
    Announce(Announce),
}

impl MessageSet for PexMessage {
    const LENGTH: u64 = 3;
    const ANSWER_CODES: &'static [u64] = &[GetNodes::ANSWER_CODE];
    const MAX_OUTSTANDING: usize = 1;

    fn parts(&self) -> (u64, &dyn Encodable) {
        match self {
            Self::GetNodes(body) => (GetNodes::CODE, body),
            Self::Announce(body) => (ANNOUNCE, body),
        }
    }

    fn from_parts(code: u64, body: &Rlp<'_>) -> Result<Self, BodyError> {
        Ok(match code {
            GetNodes::CODE => Self::GetNodes(body.as_val()?),
            ANNOUNCE => Self::Announce(body.as_val()?),
            _ => return Err(BodyError::UnknownCode),
        })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GetNodes {
    pub(crate) count: u64,
}

impl GetNodes {
    /// How many nodes may be told of. No peer gets further with another count.
    pub(crate) fn checked_count(&self) -> Result<usize, Violation> {
        let count = usize::try_from(self.count).ok().filter(|count| (1..=MAX_RECORDS).contains(count));
        count.ok_or(Violation::Count { count: self.count })
    }
}

impl Request for GetNodes {
    type Messages = PexMessage;
    type Answer = Nodes;
    const CODE: u64 = 0;
    const ANSWER_CODE: u64 = 1;
}

/// What a [`GetNodes`] is answered with. This node always asks for as many as there may be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Nodes(pub(crate) Vec<Record>);

/// A node that is told of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    /// What it says about itself. The signature is right.
    Signed(Enr),
    /// What is known of it.
    Plain { public_key: PublicKey, address: SocketAddr },
}

impl Record {
    /// The node; `None` when its record says no address.
    pub(crate) fn node_addr(&self) -> Option<NodeAddr> {
        match self {
            Self::Signed(record) => record.node_addr(),
            Self::Plain { public_key, address } => Some(NodeAddr::new(*public_key, [Address::Ip(*address)])),
        }
    }

    /// Writes one item of a list. Not by `Encodable`: what that writes raw counts twice.
    fn append_to(&self, stream: &mut RlpStream) {
        match self {
            Self::Signed(record) => {
                stream.append_raw(record.encode(), 1);
            }
            Self::Plain { public_key, address } => {
                stream.begin_list(3);
                match address.ip().to_canonical() {
                    IpAddr::V4(ip) => stream.append(&&ip.octets()[..]),
                    IpAddr::V6(ip) => stream.append(&&ip.octets()[..]),
                };
                stream.append(&address.port()).append(&&public_key.to_bytes()[..]);
            }
        }
    }
}

/// Where a node says that it listens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Announcement {
    /// On this port of the address that it is seen at.
    Port(u16),
    /// Where its record says.
    Signed(Enr),
}

/// `[announcement]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Announce(pub(crate) Announcement);

impl Encodable for GetNodes {
    fn rlp_append(&self, stream: &mut RlpStream) {
        self.count.rlp_append(stream);
    }
}

impl Decodable for GetNodes {
    fn decode(count: &Rlp<'_>) -> Result<Self, DecoderError> {
        Ok(Self { count: count.as_val()? })
    }
}

impl Encodable for Nodes {
    fn rlp_append(&self, stream: &mut RlpStream) {
        stream.begin_list(self.0.len());
        self.0.iter().for_each(|record| record.append_to(stream));
    }
}

impl Decodable for Nodes {
    fn decode(list: &Rlp<'_>) -> Result<Self, DecoderError> {
        // Before any signature is checked.
        match list.item_count()? {
            ..=MAX_RECORDS => Ok(Self(list.as_list()?)),
            _ => Err(DecoderError::Custom("at most 30 nodes are told of")),
        }
    }
}

impl Decodable for Record {
    /// What it begins with tells which of the two it is.
    fn decode(record: &Rlp<'_>) -> Result<Self, DecoderError> {
        let first = record.at(0)?;
        if first.is_data() && first.size() == SIGNATURE {
            return signed(record).map(Self::Signed);
        }
        let [ip, port, public_key] = typed::items(record)?;
        let public_key = bytes(&public_key)?.try_into().map_err(|_| DecoderError::RlpInvalidLength)?;
        let public_key = PublicKey::from_bytes(public_key);
        let public_key = public_key.map_err(|_| DecoderError::Custom("a public key is not on the curve"))?;
        Ok(Self::Plain { public_key, address: (numeric(&ip)?, port.as_val()?).into() })
    }
}

impl Encodable for Announce {
    fn rlp_append(&self, stream: &mut RlpStream) {
        stream.begin_list(1);
        match &self.0 {
            Announcement::Port(port) => stream.append(port),
            Announcement::Signed(record) => stream.append_raw(record.encode(), 1),
        };
    }
}

impl Decodable for Announce {
    fn decode(list: &Rlp<'_>) -> Result<Self, DecoderError> {
        let [announcement] = typed::items(list)?;
        Ok(Self(match announcement.is_list() {
            true => Announcement::Signed(signed(&announcement)?),
            false => Announcement::Port(announcement.as_val()?),
        }))
    }
}

fn signed(record: &Rlp<'_>) -> Result<Enr, DecoderError> {
    Enr::decode(record.as_raw()).map_err(|_| DecoderError::Custom("a signed record is not valid"))
}

fn numeric(ip: &Rlp<'_>) -> Result<IpAddr, DecoderError> {
    let ip = bytes(ip)?;
    let v4 = <[u8; 4]>::try_from(ip).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(ip).map(IpAddr::from);
    v4.or_else(|_| v6()).map_err(|_| DecoderError::Custom("an IP address has 4 or 16 bytes"))
}

fn bytes<'a>(item: &Rlp<'a>) -> Result<&'a [u8], DecoderError> {
    if item.is_list() { Err(DecoderError::RlpExpectedToBeData) } else { item.data() }
}
