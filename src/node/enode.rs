//! The `enode` URL: `enode://<128 hex>@host:tcp[?discport=udp]`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{NodeId, PublicKey};

/// Where a node is: an address, or a name that is resolved when it is dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A domain name, in ASCII.
    Domain(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Domain(name) => f.write_str(name),
        }
    }
}

impl FromStr for Host {
    type Err = EnodeError;

    /// Reads an IPv4 address, an IPv6 address in brackets, or a domain name.
    fn from_str(text: &str) -> Result<Self, EnodeError> {
        if let Some(inner) = text.strip_prefix('[') {
            let ip: Ipv6Addr = inner.strip_suffix(']').and_then(|ip| ip.parse().ok()).ok_or(EnodeError::Host)?;
            return Ok(Self::Ip(ip.into()));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        if is_domain(text) { Ok(Self::Domain(text.to_owned())) } else { Err(EnodeError::Host) }
    }
}

/// A node's public key and the address it listens on, as in an `enode` URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Enode {
    /// Whom to expect there.
    pub public_key: PublicKey,
    /// Address or name.
    pub host: Host,
    /// The TCP port of the RLPx listener.
    pub tcp_port: u16,
    /// The UDP port of node discovery; the same as the TCP port unless the URL has a `discport`.
    pub udp_port: u16,
}

impl Enode {
    /// The node with this key at this address, with one port for TCP and UDP.
    pub fn new(public_key: PublicKey, address: SocketAddr) -> Self {
        let port = address.port();
        Self { public_key, host: Host::Ip(address.ip()), tcp_port: port, udp_port: port }
    }

    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.public_key.node_id()
    }
}

/// The part of a text that keeps it from being an `enode` URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnodeError {
    /// It does not begin with `enode://`.
    #[error("an enode URL begins with enode://")]
    Scheme,
    /// There is no `@` between the public key and the host.
    #[error("an enode URL has an @ between the public key and the host")]
    NoHost,
    /// The public key is not 128 characters long.
    #[error("the public key in an enode URL has 128 hexadecimal digits, not {0} characters")]
    PublicKeyLength(usize),
    /// The public key is not hexadecimal.
    #[error("the public key in the enode URL has a character that is not a hexadecimal digit")]
    PublicKeyDigits,
    /// The public key is not a point on the curve.
    #[error("the public key in the enode URL is not a point on secp256k1")]
    PublicKeyPoint,
    /// The host is neither an address nor a domain name.
    #[error("the host in the enode URL is neither an IP address (IPv6 in brackets) nor a domain name")]
    Host,
    /// The TCP port is missing or not a number from 1 to 65535.
    #[error("the port in the enode URL is missing or not a number from 1 to 65535")]
    Port,
    /// What follows the `?` is not `discport=` and a number.
    #[error("after the ? an enode URL has discport= and a number from 0 to 65535")]
    Query,
}

impl FromStr for Enode {
    type Err = EnodeError;

    fn from_str(text: &str) -> Result<Self, EnodeError> {
        let rest = text.strip_prefix("enode://").ok_or(EnodeError::Scheme)?;
        let (key, rest) = rest.split_once('@').ok_or(EnodeError::NoHost)?;
        let public_key = parse_public_key(key)?;
        let (address, query) = match rest.split_once('?') {
            Some((address, query)) => (address, Some(query)),
            None => (rest, None),
        };
        let (host, port) = address.rsplit_once(':').ok_or(EnodeError::Port)?;
        let host = host.parse()?;
        let tcp_port = parse_port(port).filter(|port| *port != 0).ok_or(EnodeError::Port)?;
        let udp_port = match query {
            Some(query) => query.strip_prefix("discport=").and_then(parse_port).ok_or(EnodeError::Query)?,
            None => tcp_port,
        };
        Ok(Self { public_key, host, tcp_port, udp_port })
    }
}

pub(super) fn parse_public_key(text: &str) -> Result<PublicKey, EnodeError> {
    if text.len() != 128 {
        return Err(EnodeError::PublicKeyLength(text.chars().count()));
    }
    let mut bytes = [0; 64];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| EnodeError::PublicKeyDigits)?;
    PublicKey::from_bytes(&bytes).map_err(|_| EnodeError::PublicKeyPoint)
}

/// RFC 1123: labels of letters, digits and inner hyphens, and no all-numeric last label, which would be a mistyped
/// IPv4 address.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 253 && text.split('.').all(label) && !text.rsplit('.').next().is_some_and(numeric)
}

/// A port as it is written in a URL: digits alone, without the sign that `u16::from_str` allows.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Enode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enode://{}@{}:{}", self.public_key, self.host, self.tcp_port)?;
        if self.udp_port != self.tcp_port {
            write!(f, "?discport={}", self.udp_port)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd31387574077f301b421bc84df7266c44e9e6d569fc56be00812904767bf5ccd1fc7f";

    #[test]
    fn what_is_printed_parses_to_the_same() {
        for tail in ["10.0.0.1:30303", "[2001:db8::1]:1", "node.example.org:65535?discport=0", "localhost:30303"] {
            let text = format!("enode://{KEY}@{tail}");
            assert_eq!(text.parse::<Enode>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_discport_that_equals_the_port_is_not_printed() {
        let enode: Enode = format!("enode://{KEY}@10.0.0.1:9?discport=9").parse().unwrap();
        assert_eq!(enode.to_string(), format!("enode://{KEY}@10.0.0.1:9"));
    }

    #[test]
    fn each_bad_part_is_named() {
        let zeros = "0".repeat(128);
        for (text, expected) in [
            ("http://a".to_owned(), EnodeError::Scheme),
            (format!("enode://{KEY}"), EnodeError::NoHost),
            ("enode://abcd@1.2.3.4:1".to_owned(), EnodeError::PublicKeyLength(4)),
            (format!("enode://{}@1.2.3.4:1", KEY.replace('c', "g")), EnodeError::PublicKeyDigits),
            (format!("enode://{zeros}@1.2.3.4:1"), EnodeError::PublicKeyPoint),
            (format!("enode://{KEY}@1.2.3.4"), EnodeError::Port),
            (format!("enode://{KEY}@1.2.3.4:0"), EnodeError::Port),
            (format!("enode://{KEY}@1.2.3.4:+5"), EnodeError::Port),
            (format!("enode://{KEY}@1.2.3.4:65536"), EnodeError::Port),
            (format!("enode://{KEY}@1.2.3.400:1"), EnodeError::Host),
            (format!("enode://{KEY}@[::1:1"), EnodeError::Host),
            (format!("enode://{KEY}@:1"), EnodeError::Host),
            (format!("enode://{KEY}@a b:1"), EnodeError::Host),
            (format!("enode://{KEY}@1.2.3.4:1?port=2"), EnodeError::Query),
            (format!("enode://{KEY}@1.2.3.4:1?discport=x"), EnodeError::Query),
        ] {
            assert_eq!(text.parse::<Enode>(), Err(expected), "{text}");
        }
    }
}
