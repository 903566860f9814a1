//! Addresses and subnets, as they are counted.

use std::net::{IpAddr, Ipv6Addr};

/// An address, or a subnet: its first bits, and how many. IPv4 addresses are the IPv6 addresses they are mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Prefix {
    bits: u128,
    length: u8,
}

impl Prefix {
    /// What counts as one address for the throttle: an end user has at least a /64 of IPv6.
    pub(super) fn throttled(ip: IpAddr) -> Self {
        Self::of(ip, if ip.is_ipv4() { 128 } else { 64 })
    }

    /// The address and its subnet: a /24, or a /64 for IPv6.
    pub(super) fn counted(ip: IpAddr) -> [Self; 2] {
        // The 32 bits of an IPv4 address are the last of 128.
        [Self::of(ip, 128), Self::of(ip, if ip.is_ipv4() { 96 + 24 } else { 64 })]
    }

    fn of(ip: IpAddr, length: u8) -> Self {
        let address = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { bits: address.to_bits() & (u128::MAX << (128 - u32::from(length))), length }
    }
}

/// Whether the address is of this machine, of its link or of a private network. Behind it may be a proxy, and with it
/// everybody.
pub(super) fn is_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => *ip == Ipv6Addr::LOCALHOST || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
