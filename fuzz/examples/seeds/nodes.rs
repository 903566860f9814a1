//! Nodes in text and in records, and the address book.

use capmux::node::Enr;
use capmux::{NodeKey, PublicKey};

use super::{Seed, field};

/// The example of EIP-778.
const RECORD: &str = "enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8";

fn key() -> NodeKey {
    NodeKey::from_bytes(&[2; 32]).expect("a small number is a key")
}

pub fn texts() -> Vec<Seed> {
    let key: PublicKey = key().public_key();
    let id = key.node_id();
    let enode = |rest: &str| format!("enode://{key}@{rest}").into_bytes();
    vec![
        ("enode", enode("10.0.0.1:30303")),
        ("enode_ipv6_discport", enode("[2001:db8::1]:30303?discport=30301")),
        ("enode_domain", enode("node.example.org:30303")),
        ("enode_without_a_port", enode("10.0.0.1")),
        ("enode_without_a_host", format!("enode://{key}").into()),
        ("enode_short_key", b"enode://abcd@10.0.0.1:1".to_vec()),
        ("enode_key_off_the_curve", format!("enode://{}@10.0.0.1:1", "0".repeat(128)).into()),
        ("node_with_addresses", enode("10.0.0.1:1,[fe80::1%3]:2,example.org:3,memory://a/b@c")),
        ("address_ipv4", b"10.0.0.1:65535".to_vec()),
        ("address_port_too_large", b"10.0.0.1:65536".to_vec()),
        ("address_other", b"quic-v1://anything:at/all".to_vec()),
        ("network_ipv4", b"8.8.8.8/22".to_vec()),
        ("network_ipv6", b"2001:db8::1/33".to_vec()),
        ("network_all", b"::/0".to_vec()),
        ("network_mapped", b"::ffff:1.2.3.4/96".to_vec()),
        ("source_local", b"local".to_vec()),
        ("source_service", b"service:all.mainnet.example.org".to_vec()),
        ("source_peer", format!("peer:{id}@2001:db8::1").into()),
        ("node_id", id.to_string().into()),
        ("public_key", key.to_string().into()),
        ("secret_key", "02".repeat(32).into()),
        ("secret_key_zero", "00".repeat(32).into()),
        ("control_characters", b"\x1b[2J\n\xe2\x80\xae\xff".to_vec()),
    ]
}

/// The kind, the sequence number, these pairs, whether there are scheme and key among them (1) in order (1), and changes.
fn signed(kind: u8, pairs: &[(&[u8], &[u8])], has_scheme: u8, is_sorted: u8, changes: &[[u8; 3]]) -> Vec<u8> {
    let content: Vec<u8> = pairs.iter().flat_map(|(key, value)| [field(key), field(value)].concat()).collect();
    let head = [&[kind][..], &7u64.to_le_bytes(), &[pairs.len() as u8]].concat();
    [head, content, vec![has_scheme, is_sorted, changes.len() as u8], changes.concat()].concat()
}

pub fn records() -> Vec<Seed> {
    let address = [(&b"ip"[..], &b"\x84\x08\x08\x08\x08"[..]), (b"tcp", b"\x82\x76\x5f"), (b"z", b"\xc2\x01\x02")];
    let v6 = [(&b"ip6"[..], &[&[0x90], &[0x2a; 16][..]].concat()[..]), (b"tcp", b"\x01"), (b"tcp6", b"\x80")];
    let own = Enr::sign(&key(), 1, Some(([8, 8, 8, 8], 30303).into()));
    let text = |text: &str| [b"\0", text.as_bytes()].concat();
    let mut cut = own.to_string();
    cut.pop();
    vec![
        ("text", text(RECORD)),
        ("text_padded", text(&format!("{RECORD}="))),
        ("text_cut_short", text(&cut)),
        ("text_without_its_prefix", text(&RECORD[4..])),
        ("bytes", [b"\x01", own.encode()].concat()),
        ("bytes_and_more", [b"\x01", own.encode(), b"\0"].concat()),
        ("bytes_of_a_list", b"\x01\xc0".to_vec()),
        ("signed_ipv4", signed(2, &address, 1, 1, &[])),
        ("signed_ipv6", signed(2, &v6, 1, 1, &[])),
        ("signed_out_of_order", signed(2, &address, 1, 0, &[])),
        ("signed_without_a_scheme", signed(2, &address, 0, 1, &[])),
        ("signed_too_long", signed(2, &[(b"a", &[7; 80]), (b"b", &[7; 80]), (b"c", &[7; 80])], 1, 1, &[])),
        ("signed_another_scheme", signed(2, &[(b"id", b"\x82v3")], 1, 1, &[])),
        ("damaged_signature", signed(3, &address, 1, 1, &[[0, 20, 1]])),
        ("damaged_address", signed(3, &address, 1, 1, &[[0, 85, 1]])),
        ("damaged_and_repaired", signed(3, &address, 1, 1, &[[0, 85, 1], [0, 85, 1]])),
    ]
}

pub fn items() -> Vec<Seed> {
    let input = |id: u64, bytes: &[u8]| [&id.to_be_bytes()[..], bytes].concat();
    vec![
        ("nothing", input(0, b"")),
        ("zero", input(0, b"\x80")),
        ("number", input(0x7f, b"\x82\x01\x00")),
        ("number_with_a_zero_in_front", input(0x80, b"\x82\x00\x80")),
        ("byte_with_a_header", input(0x100, b"\x81\x05")),
        ("byte_with_a_header_in_a_list", input(0xffff, b"\xc2\x81\x05")),
        ("largest_number", input(u64::MAX, &[&[0x88], &[0xff; 8][..]].concat())),
        ("two_items", input(1, b"\xc2\x01\x02")),
        ("long_string", input(1, &[&[0xb8, 56], &[7; 56][..]].concat())),
        ("long_string_that_is_short", input(1, b"\xb8\x01\x05")),
        ("long_list", input(1, &[&[0xf8, 60], &[0xc0; 60][..]].concat())),
        ("length_2_64", input(1, &[0xff; 9])),
        ("nested_63", input(1, &nested(63))),
        ("nested_64", input(1, &nested(64))),
        ("more_behind_it", input(1, b"\xc1\x05\x05")),
    ]
}

/// An empty list in so many lists.
fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(vec![0xc0], |inner, _| {
        let length = inner.len() as u8;
        let header = if length < 56 { vec![0xc0 + length] } else { vec![0xf8, length] };
        [header, inner].concat()
    })
}

/// A capacity, and operations; the keys of a target count from 1.
fn book(capacity: u8, operations: &[&[u8]]) -> Vec<u8> {
    [&[capacity - 1], &operations.concat()[..]].concat()
}

pub fn books() -> Vec<Seed> {
    // Offer: operation, node, one address less, its network and host, who tells.
    let offer = |node: u8| [0, node, 0, node % 4, node, 0, 0];
    let all: Vec<[u8; 7]> = (1..24).map(offer).collect();
    let all: Vec<&[u8]> = all.iter().map(|offer| &offer[..]).collect();
    let same: Vec<[u8; 7]> = (1..24).map(|node| [0, node, 0, 0, node, 0, 0]).collect();
    let same: Vec<&[u8]> = same.iter().map(|offer| &offer[..]).collect();
    let (pick, share): ([u8; 4], [u8; 5]) = ([12, 0, 31, 23], [13, 0, 31, 1, 2]);
    let (tried, connected, dropped): ([u8; 3], [u8; 3], [u8; 3]) = ([6, 1, 0], [7, 1, 0], [8, 1, 0]);
    let failed: [u8; 3] = [9, 1, 1];
    let wait: [u8; 4] = [14, 0, 0xff, 0xff];
    let own: &[u8] = &[0, 0, 0, 0, 1, 0, 0];
    let keep = |flags: u8| [3, 1, 0, 0, 1, flags];
    vec![
        ("filled", book(16, &[&all[..], &[&pick, &share]].concat())),
        ("of_one_network", book(16, &[&same[..], &[&pick, &share]].concat())),
        ("own_id", book(16, &[own])),
        ("connected", book(4, &[&offer(1), &tried, &connected, &pick, &share, &dropped, &pick])),
        (
            "failed_until_it_is_forgotten",
            book(
                4,
                &[&offer(1)[..], &failed, &pick, &wait, &pick]
                    .iter()
                    .copied()
                    .chain([&failed[..]; 6])
                    .collect::<Vec<_>>(),
            ),
        ),
        ("persistent", book(1, &[&keep(1), &offer(2), &failed, &pick, &offer(3)])),
        ("private", book(2, &[&keep(2), &share, &pick, &[4, 1, 0], &share])),
        (
            "banned",
            book(
                4,
                &[&offer(1), &[11, 1, 0, 0, 9, 0, 0], &pick, &share, &offer(1), &wait, &pick, &[11, 1, 1, 0, 9, 0, 0]],
            ),
        ),
        (
            "banned_network",
            book(4, &[&offer(1), &[11, 1, 2, 0, 9, 1, 2], &pick, &share, &offer(1), &[11, 1, 3, 0, 9, 1, 2]]),
        ),
        ("clock_goes_back", book(4, &[&offer(1), &failed, &[15, 0, 99], &pick, &offer(2), &share])),
        ("rated_and_signed", book(4, &[&offer(1), &[10, 1, 0], &[10, 1, 7], &[5, 1], &[10, 1, 7]])),
    ]
}
