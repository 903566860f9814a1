//! Who tells of a node, and what is believed of whom.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use super::table::MAX_ADDRESSES;
use crate::node::{Reach, Subnet};
use crate::{Address, NodeAddr, NodeId};

/// Who tells of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The user: settings, commands, imported lists.
    Local,
    /// A list that is published under this name, such as a DNS domain.
    Service(Arc<str>),
    /// A peer.
    Peer {
        /// Which one.
        id: NodeId,
        /// Its address, when it is connected over IP.
        ip: Option<IpAddr>,
    },
}

impl Source {
    /// What of it fills the same few buckets.
    pub(super) fn group(&self) -> String {
        match self {
            Self::Peer { ip: Some(ip), .. } if Reach::of(*ip) == Reach::Public => Subnet::wide(*ip).to_string(),
            // In one's own network and machine all have the same, or none.
            Self::Peer { id, .. } => id.to_string(),
            Self::Local | Self::Service(_) => self.to_string(),
        }
    }

    /// Whether it may know of, or is to be told, addresses of this kind.
    pub(super) fn sees(&self, reach: Reach) -> bool {
        match self {
            Self::Local => true,
            Self::Peer { ip: Some(ip), .. } => Reach::of(*ip).sees(reach),
            Self::Service(_) | Self::Peer { ip: None, .. } => Reach::Public.sees(reach),
        }
    }

    /// Whether it is the user, or the node itself.
    pub(super) fn is_trusted_about(&self, node: &NodeId) -> bool {
        match self {
            Self::Local => true,
            Self::Peer { id, .. } => id == node,
            Self::Service(_) => false,
        }
    }
}

impl fmt::Display for Source {
    /// `local`, `service:NAME`, or `peer:` and the id, with `@` and the address when it is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Service(name) => write!(f, "service:{name}"),
            Self::Peer { id, ip: None } => write!(f, "peer:{id}"),
            Self::Peer { id, ip: Some(ip) } => write!(f, "peer:{id}@{ip}"),
        }
    }
}

impl FromStr for Source {
    type Err = InvalidSource;

    /// Reads what [`Display`](fmt::Display) writes; names are 255 bytes long at most, and have no control characters.
    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        match text.split_once(':') {
            None if text == "local" => Ok(Self::Local),
            Some(("service", name)) if name.len() <= 255 && !name.contains(char::is_control) => {
                Ok(Self::Service(name.into()))
            }
            Some(("peer", peer)) => {
                let (id, ip) = peer.split_once('@').map_or((peer, None), |(id, ip)| (id, Some(ip)));
                let ip = ip.map(str::parse).transpose().map_err(|_| InvalidSource)?;
                Ok(Self::Peer { id: id.parse().map_err(|_| InvalidSource)?, ip })
            }
            _ => Err(InvalidSource),
        }
    }
}

/// A text is no [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a source is local, service:NAME, peer:ID or peer:ID@IP")]
pub struct InvalidSource;

/// Why a node does not get into the book.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is this node.
    #[error("it is this node's own id")]
    OwnId,
    /// It is where this node listens.
    #[error("{0} is this node's own address")]
    OwnAddress(SocketAddr),
    /// The node or its network is banned.
    #[error("it is banned")]
    Banned,
    /// There is no address.
    #[error("it has no address")]
    NoAddress,
    /// It has this many addresses.
    #[error("it has {0} addresses; {MAX_ADDRESSES} are allowed")]
    TooManyAddresses(usize),
    /// The port is 0.
    #[error("the port of {0} is 0")]
    PortZero(Address),
    /// The address cannot be reached, or the source can know nothing of it.
    #[error("{0} cannot be reached from here, or its source cannot know it")]
    NotRoutable(IpAddr),
    /// Only the user may tell of addresses that have to be resolved or need a transport of their own.
    #[error("{0} is not an IP address")]
    NotNumeric(Address),
    /// There are ten nodes of this network in the book, or two in the bucket.
    #[error("there are too many nodes of {0}")]
    SubnetFull(Subnet),
    /// The place for what this source tells is taken by nodes that may be good.
    #[error("there is no room for more from this source")]
    BucketFull,
    /// All places are taken by nodes that may be good.
    #[error("the address book is full")]
    Full,
}

/// An IPv4 address inside an IPv6 one is dialled as the IPv4 address.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

/// The addresses in their canonical form, without repetitions, if the node is another one and has not too many.
pub(super) fn count_checked(node: &NodeAddr, own_id: Option<&NodeId>) -> Result<Vec<Address>, Refusal> {
    if own_id == Some(&node.node_id()) {
        return Err(Refusal::OwnId);
    }
    match node.addresses.len() {
        0 => return Err(Refusal::NoAddress),
        count if count > MAX_ADDRESSES => return Err(Refusal::TooManyAddresses(count)),
        _ => {}
    }
    let mut addresses = Vec::with_capacity(node.addresses.len());
    for address in &node.addresses {
        let address = address.socket_addr().map_or_else(|| address.clone(), |address| canonical(address).into());
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Whether an address that `source` tells may be dialled.
pub(super) fn check_address(address: &Address, source: &Source, own: &[SocketAddr]) -> Result<(), Refusal> {
    let is_local = matches!(source, Source::Local);
    match address {
        Address::Ip(socket) if socket.port() == 0 => Err(Refusal::PortZero(address.clone())),
        Address::Domain(_, 0) => Err(Refusal::PortZero(address.clone())),
        Address::Ip(socket) if own.contains(socket) => Err(Refusal::OwnAddress(*socket)),
        Address::Ip(socket) => {
            let ip = socket.ip();
            let is_nobody = ip.is_unspecified() || ip.is_multicast();
            if is_nobody || !source.sees(Reach::of(ip)) { Err(Refusal::NotRoutable(ip)) } else { Ok(()) }
        }
        _ if is_local => Ok(()),
        _ => Err(Refusal::NotNumeric(address.clone())),
    }
}
