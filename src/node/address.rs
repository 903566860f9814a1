//! Where nodes can be reached: an address of any transport, and a node with all of its addresses.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use super::enode::{Enode, EnodeError, Host};
use super::{NodeId, PublicKey};

/// The longest address in text, in bytes.
const MAX_LENGTH: usize = 512;

/// Where a node can be reached. Which transport an address is for, the transport itself tells.
///
/// In text `10.0.0.1:30303`, `[2001:db8::1]:30303`, `node.example.org:30303`, or `scheme://rest` for a transport with
/// addresses of its own kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A domain name in ASCII, which is resolved when it is dialled, and a port.
    Domain(Arc<str>, u16),
    /// An address of another kind: the name of the kind, and what only its transport understands.
    Other(Arc<str>, Arc<str>),
}

impl Address {
    /// An address of a kind of its own, `scheme://rest` in text.
    ///
    /// # Errors
    /// When the scheme is not lowercase letters, digits and hyphens, the rest is empty, has characters other than
    /// printable ASCII, a comma or a question mark, or both are longer than 512 bytes together.
    pub fn other(scheme: &str, rest: &str) -> Result<Self, InvalidAddress> {
        let is_scheme = !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let is_rest = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b",?".contains(&byte));
        match is_scheme && is_rest && scheme.len() + rest.len() <= MAX_LENGTH {
            true => Ok(Self::Other(scheme.into(), rest.into())),
            false => Err(InvalidAddress),
        }
    }

    /// The IP address, where it is known without asking anybody.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_addr().map(|address| address.ip())
    }

    /// IP address and port, where both are known without asking anybody.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            _ => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Domain(name, port) => write!(f, "{name}:{port}"),
            Self::Other(scheme, rest) => write!(f, "{scheme}://{rest}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if let Some((scheme, rest)) = text.split_once("://") {
            return Self::other(scheme, rest);
        }
        // An address of a link has a scope, which a URL cannot have.
        if let Ok(address @ SocketAddr::V6(_)) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidAddress)?;
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = is_number.then(|| port.parse().ok()).flatten().ok_or(InvalidAddress)?;
        Ok(match host.parse().map_err(|_| InvalidAddress)? {
            Host::Ip(ip) => Self::Ip((ip, port).into()),
            Host::Domain(name) => Self::Domain(name.into(), port),
        })
    }
}

/// A text is no [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an address is an IP address (IPv6 in brackets) or a domain name with a port, or has the form scheme://rest")]
pub struct InvalidAddress;

/// A node and where it can be reached: what is dialled. The addresses are tried in turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct NodeAddr {
    /// Whom to expect there.
    pub public_key: PublicKey,
    /// The addresses, the best one first.
    pub addresses: Vec<Address>,
}

impl NodeAddr {
    /// The node with this key at these addresses.
    pub fn new(public_key: PublicKey, addresses: impl IntoIterator<Item = Address>) -> Self {
        Self { public_key, addresses: addresses.into_iter().collect() }
    }

    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.public_key.node_id()
    }
}

impl From<&Enode> for NodeAddr {
    fn from(enode: &Enode) -> Self {
        let address = match &enode.host {
            Host::Ip(ip) => Address::Ip((*ip, enode.tcp_port).into()),
            Host::Domain(name) => Address::Domain(name.as_str().into(), enode.tcp_port),
        };
        Self::new(enode.public_key, [address])
    }
}

impl From<Enode> for NodeAddr {
    fn from(enode: Enode) -> Self {
        Self::from(&enode)
    }
}

impl From<&NodeAddr> for NodeAddr {
    fn from(node: &NodeAddr) -> Self {
        node.clone()
    }
}

impl fmt::Display for NodeAddr {
    /// As an `enode` URL with the first address, and the others behind commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enode://{}@", self.public_key)?;
        for (place, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{address}", if place > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for NodeAddr {
    type Err = EnodeError;

    /// Reads what [`Display`](fmt::Display) writes. A `discport` is ignored.
    fn from_str(text: &str) -> Result<Self, EnodeError> {
        let text = text.split_once('?').map_or(text, |(text, _)| text);
        let rest = text.strip_prefix("enode://").ok_or(EnodeError::Scheme)?;
        let (key, addresses) = rest.split_once('@').ok_or(EnodeError::NoHost)?;
        let public_key = super::enode::parse_public_key(key)?;
        let addresses = addresses.split(',').map(|address| address.parse().map_err(|_| EnodeError::Host));
        Ok(Self { public_key, addresses: addresses.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeKey;

    #[test]
    fn what_is_printed_parses_to_the_same() {
        let texts = ["10.0.0.1:30303", "[2001:db8::1]:0", "node.example.org:65535", "localhost:1", "memory://alice"];
        for text in texts {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let addresses = texts.map(|text| text.parse().unwrap());
        let node = NodeAddr::new(NodeKey::random().public_key(), addresses);
        assert_eq!(node.to_string().parse::<NodeAddr>(), Ok(node), "R59");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("memory://{}", "a".repeat(MAX_LENGTH));
        for text in ["", "10.0.0.1", "10.0.0.1:", "10.0.0.1:+1", "10.0.0.1:65536", "::1:1", "a b:1", "://a", "A://a"] {
            assert_eq!(text.parse::<Address>(), Err(InvalidAddress), "{text}");
        }
        for text in ["a://", "a://b c", "a://\u{e9}", &long] {
            assert_eq!(text.parse::<Address>(), Err(InvalidAddress), "{text}");
        }
    }
}
