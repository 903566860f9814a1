//! Nodes, addresses and networks in text.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use crate::book::Source;
use crate::node::{Enode, Host, Subnet};
use crate::text::escaped;
use crate::{Address, NodeAddr, NodeId, NodeKey, PublicKey};

/// A text: each kind of value that reads it prints something that reads as the same value and prints the same again,
/// kinds that understand the same text agree on it, and what is shown of it disturbs no terminal. Returns for how many
/// kinds it is a value.
///
/// The input: the text.
pub fn node_text(data: &[u8]) -> usize {
    let text = &*String::from_utf8_lossy(data);
    check_shown(text);
    check_networks(text);
    let reads = [
        reads_back::<Enode>(text),
        reads_back::<Host>(text),
        reads_back::<Address>(text),
        reads_back::<NodeAddr>(text),
        reads_back::<Subnet>(text),
        reads_back::<Source>(text),
        reads_back::<NodeId>(text),
        reads_back::<PublicKey>(text),
        check_key(text),
    ];
    if let Ok(enode) = text.parse::<Enode>() {
        let node: NodeAddr = text.parse().expect("an enode URL is a node with one address");
        assert_eq!(node, NodeAddr::from(&enode), "the same text, read in two ways");
    }
    reads.into_iter().map(usize::from).sum()
}

/// Whether the text is such a value, which must be the same when it is printed and read.
fn reads_back<T: FromStr<Err: Display> + Display + Debug + PartialEq>(text: &str) -> bool {
    match text.parse::<T>() {
        Ok(value) => {
            let printed = value.to_string();
            assert!(!printed.contains(char::is_control), "control characters are shown: {printed:?}");
            let again = printed.parse::<T>().unwrap_or_else(|error| panic!("{printed:?}, from {text:?}: {error}"));
            assert_eq!(again, value, "{printed:?}, from {text:?}");
            assert_eq!(again.to_string(), printed);
            true
        }
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "control characters are shown");
            false
        }
    }
}

/// A secret key is not shown, and reads as it was written.
fn check_key(text: &str) -> bool {
    let Ok(key) = NodeKey::from_hex(text) else { return false };
    assert!(key.to_hex().eq_ignore_ascii_case(text));
    assert!(!format!("{key:?}").contains(&key.to_hex()[..16]), "a secret is shown");
    true
}

/// A network holds its own address and those of the networks in it, and no address of the other kind.
fn check_networks(text: &str) {
    let Ok(network) = text.parse::<Subnet>() else { return };
    let printed = network.to_string();
    let (ip, bits) = printed.split_once('/').expect("a network is printed with its length");
    let ip = ip.parse().expect("the address of a network is one");
    assert!(network.contains(ip));
    assert_eq!(Subnet::new(ip, bits.parse().expect("the length is a number")), network);
    for other in [Subnet::host(ip), Subnet::narrow(ip), Subnet::wide(ip)] {
        assert!(other.contains(ip), "{other} is the network of {ip}");
    }
    let foreign = if ip.is_ipv4() { "2001:4860::1" } else { "8.8.8.8" };
    assert!(!network.contains(foreign.parse().expect("an address")), "{network} holds {foreign}");
}

fn check_shown(text: &str) {
    for limit in [0, 5, 64] {
        let shown = escaped(text, limit);
        assert!(!shown.contains(char::is_control), "control characters are shown: {shown:?}");
        assert!(shown.chars().count() <= limit + 1, "more is shown than the limit allows");
    }
}
