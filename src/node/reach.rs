//! What kind of IP address it is: from where it can be reached, and which network it belongs to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where an IP address can be reached, by the ranges of RFC 6890. An IPv4 address inside an IPv6 one counts as
/// the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reach {
    /// No node can have it: unspecified, multicast, broadcast, reserved, or for documentation, tests and translation.
    Nowhere,
    /// From the same machine only.
    Loopback,
    /// From the same network only: private, shared by a provider's customers, or local to a link.
    Lan,
    /// From the whole internet.
    Public,
}

impl Reach {
    /// From where `ip` can be reached.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => of_v4(ip),
            IpAddr::V6(ip) => of_v6(ip),
        }
    }

    /// Whether somebody at an address of this kind can know, or make use of, an address of the `other` kind. Nobody can
    /// of [`Reach::Nowhere`].
    pub fn sees(self, other: Self) -> bool {
        other != Self::Nowhere && (other == Self::Public || self != Self::Nowhere && self <= other)
    }
}

fn of_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        [127, ..] => Reach::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [169, 254, ..] | [100, 64..=127, ..] => Reach::Lan,
        [0, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Reach::Nowhere
        }
        [224..=255, ..] => Reach::Nowhere,
        _ => Reach::Public,
    }
}

/// Of the whole space, 2000::/3 alone is given out to be routed.
fn of_v6(ip: Ipv6Addr) -> Reach {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Loopback,
        [0xfc00..=0xfdff, ..] | [0xfe80..=0xfebf, ..] => Reach::Lan,
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => Reach::Nowhere,
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Nowhere,
    }
}

/// A network: an IP address and how many of its bits are the network's. In text `10.1.2.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    ip: IpAddr,
    bits: u8,
}

impl Subnet {
    /// The network of the first `bits` bits of `ip`; more than it has are as many as it has.
    pub fn new(ip: IpAddr, bits: u8) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let bits = bits.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { ip: Ipv4Addr::from_bits(ip.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(ip) => {
                let bits = bits.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { ip: Ipv6Addr::from_bits(ip.to_bits() & mask).into(), bits }
            }
        }
    }

    /// The network of this address alone.
    pub fn host(ip: IpAddr) -> Self {
        Self::new(ip, 128)
    }

    /// What one customer has: /24 of IPv4, /64 of IPv6.
    pub fn narrow(ip: IpAddr) -> Self {
        Self::new(ip, if ip.to_canonical().is_ipv4() { 24 } else { 64 })
    }

    /// What one provider has: /16 of IPv4, /32 of IPv6.
    pub fn wide(ip: IpAddr) -> Self {
        Self::new(ip, if ip.to_canonical().is_ipv4() { 16 } else { 32 })
    }

    /// Whether `ip` is of this network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        Self::new(ip, self.bits).ip == self.ip
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

impl std::str::FromStr for Subnet {
    type Err = InvalidSubnet;

    /// Reads an IP address, or one with a slash and a number of bits.
    fn from_str(text: &str) -> Result<Self, InvalidSubnet> {
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().map_err(|_| InvalidSubnet)?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| InvalidSubnet)?;
        let is_mapped = ip != ip.to_canonical();
        if bits > most || is_mapped { Err(InvalidSubnet) } else { Ok(Self::new(ip, bits)) }
    }
}

/// A text is no [`Subnet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network is an IP address, and after a slash how many of its bits count: 32 at most for IPv4, 128 for IPv6")]
pub struct InvalidSubnet;

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(text: &str) -> Reach {
        Reach::of(text.parse().unwrap())
    }

    #[test]
    fn special_addresses_are_told_from_public_ones() {
        let nowhere = "0.0.0.0 0.1.2.3 192.0.0.1 192.0.2.1 198.18.0.1 198.19.255.255 198.51.100.9 203.0.113.1 224.0.0.1
            239.1.1.1 240.0.0.1 255.255.255.255 192.88.99.1 :: ff02::1 2001:db8::1 64:ff9b::a00:1 64:ff9b::808:808
            100::1 2002:a00:1:: 2001::1 3fff::1 ::ffff:224.0.0.1 ::ffff:0.0.0.0 ::a00:1";
        let lan = "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.1.1 100.64.0.1 100.127.255.255 fc00::1
            fdff::1 fe80::1 febf::1 ::ffff:10.0.0.1";
        let public = "8.8.8.8 1.1.1.1 172.32.0.1 172.15.0.1 100.63.0.1 100.128.0.1 198.20.0.1 192.0.1.1 223.255.255.255
            2606:4700::1 2a00::1 2001:4860::1 ::ffff:8.8.8.8";
        for (texts, expected) in [(nowhere, Reach::Nowhere), (lan, Reach::Lan), (public, Reach::Public)] {
            for text in texts.split_whitespace() {
                assert_eq!(reach(text), expected, "H77: {text}");
            }
        }
        for text in ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(reach(text), Reach::Loopback, "H77: {text}");
        }
    }

    #[test]
    fn the_wider_the_address_the_fewer_it_can_tell_of() {
        use Reach::{Lan, Loopback, Nowhere, Public};
        let seen = |from: Reach| [Nowhere, Loopback, Lan, Public].map(|other| from.sees(other));
        assert_eq!(seen(Public), [false, false, false, true], "H77");
        assert_eq!(seen(Lan), [false, false, true, true], "H77");
        assert_eq!(seen(Loopback), [false, true, true, true], "H77");
        assert_eq!(seen(Nowhere), [false, false, false, true], "H77");
    }

    #[test]
    fn a_network_holds_its_addresses_and_reads_as_it_was_written() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(Subnet::narrow(ip("1.2.3.4")).to_string(), "1.2.3.0/24");
        assert_eq!(Subnet::narrow(ip("::ffff:1.2.3.4")), Subnet::narrow(ip("1.2.3.99")));
        assert_eq!(Subnet::narrow(ip("2001:db8:1:2:3::4")).to_string(), "2001:db8:1:2::/64");
        assert_eq!(Subnet::wide(ip("2001:db8:1:2:3::4")).to_string(), "2001:db8::/32");
        assert!(Subnet::wide(ip("1.2.3.4")).contains(ip("1.2.200.1")));
        assert!(!Subnet::wide(ip("1.2.3.4")).contains(ip("1.3.3.4")));
        assert!(Subnet::new(ip("1.2.3.4"), 0).contains(ip("9.9.9.9")));
        assert!(!Subnet::new(ip("1.2.3.4"), 0).contains(ip("2001::1")));
        for text in ["1.2.3.0/24", "2001:db8::/32", "0.0.0.0/0", "::/0", "1.2.3.4/32"] {
            assert_eq!(text.parse::<Subnet>().unwrap().to_string(), text);
        }
        for text in ["", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/x", "::/129", "::ffff:1.2.3.4/96", "1.2.3/24"] {
            assert_eq!(text.parse::<Subnet>(), Err(InvalidSubnet), "{text}");
        }
    }
}
