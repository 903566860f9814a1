mod hostile;

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;

use super::*;
use crate::NodeKey;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn book() -> AddressBook {
    AddressBook::new(AddressBook::DEFAULT_CAPACITY, [7; 16])
}

fn node(number: u32, address: &str) -> NodeAddr {
    let mut secret = [1; 32];
    secret[28..].copy_from_slice(&number.to_be_bytes());
    NodeAddr::new(NodeKey::from_bytes(&secret).unwrap().public_key(), [address.parse().unwrap()])
}

fn peer(number: u32, ip: &str) -> Source {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Source::Peer { id: NodeId::from_bytes(id), ip: Some(ip.parse().unwrap()) }
}

/// Nodes of as many networks.
fn spread(count: u32) -> impl Iterator<Item = NodeAddr> {
    (0..count).map(|number| node(number, &format!("{}.{}.1.1:30303", 20 + number / 256, number % 256)))
}

fn all_but_none(_: &NodeId) -> bool {
    false
}

fn pick(book: &mut AddressBook, count: usize, now: SystemTime) -> Vec<NodeId> {
    book.pick(count, all_but_none, now, &mut Rng::with_seed(1)).iter().map(NodeAddr::node_id).collect()
}

#[test]
fn states_follow_what_happens() {
    let (mut book, now) = (book(), now());
    let node = node(1, "8.8.8.8:1");
    let id = node.node_id();
    let state = |book: &AddressBook| book.find(&id, now).unwrap().state;
    book.offer(&node, &Source::Local, now).unwrap();
    assert_eq!(state(&book), State::New, "R54");
    book.tried(&id, now);
    book.failed(&id, now);
    assert_eq!(state(&book), State::Failed, "R54");
    book.connected(&id, node.addresses.first(), now);
    assert_eq!(state(&book), State::Connected, "R54");
    book.disconnected(&id, now);
    assert_eq!(state(&book), State::Tried, "R54");
    book.ban(id, now + MINUTE, now);
    assert_eq!(state(&book), State::Banned, "R54");
    let known = book.find(&id, now).unwrap();
    assert_eq!((known.attempts, known.connections, known.failures, known.score), (1, 1, 0, 0), "R54");
    assert_eq!((known.last_tried, known.last_connected, known.last_failed), (Some(now), Some(now), Some(now)), "R54");
    book.rate(&id, i32::MAX, now);
    book.rate(&id, 1, now);
    assert_eq!(book.find(&id, now).unwrap().score, 100, "R54");
}

#[test]
fn a_ban_ends_on_time_and_a_jumping_clock_makes_it_no_longer() {
    let (mut book, now) = (book(), now());
    let id = node(1, "8.8.8.8:1").node_id();
    book.ban(id, now + 10 * MINUTE, now);
    assert!(book.is_banned(&id, now + 10 * MINUTE - Duration::from_millis(1)), "R54");
    assert!(!book.is_banned(&id, now + 10 * MINUTE), "R54");
    // The clock goes back by a year.
    let past = now - 365 * DAY;
    assert_eq!(book.offer(&node(1, "8.8.8.8:1"), &Source::Local, past), Err(Refusal::Banned), "R54");
    assert!(!book.is_banned(&id, past + 10 * MINUTE), "R54: not for a year");
    // A clock that is wrong altogether.
    for time in [UNIX_EPOCH, UNIX_EPOCH - 100 * 365 * DAY, UNIX_EPOCH + 30_000 * 365 * DAY, now] {
        book.ban(id, UNIX_EPOCH + 100_000 * 365 * DAY, time);
        book.failed(&id, time);
        pick(&mut book, 10, time);
    }
    assert!(book.is_banned(&id, now + 9 * 365 * DAY) && !book.is_banned(&id, now + 11 * 365 * DAY), "R54");
    assert!(book.unban(&id) && !book.is_banned(&id, now));
}

#[test]
fn bans_of_networks_hold_for_addresses_and_are_bounded() {
    let (mut book, now) = (book(), now());
    let subnet: Subnet = "8.8.8.0/24".parse().unwrap();
    book.offer(&node(1, "8.8.8.8:1"), &Source::Local, now).unwrap();
    book.ban_subnet(subnet, now + MINUTE, now);
    assert!(book.is_banned_ip("8.8.8.9".parse().unwrap(), now), "R54");
    assert_eq!(book.offer(&node(2, "8.8.8.9:1"), &Source::Local, now), Err(Refusal::Banned), "R54");
    assert_eq!(pick(&mut book, 1, now), [], "R54");
    assert_eq!(pick(&mut book, 1, now + MINUTE).len(), 1, "R54");
    for number in 0..2_000u32 {
        book.ban(NodeId::from_bytes([number.to_be_bytes(); 8].concat().try_into().unwrap()), now + 2 * MINUTE, now);
    }
    assert!(!book.is_banned_ip("8.8.8.9".parse().unwrap(), now), "the first to end has made way");
}

#[test]
fn one_network_gets_ten_places_however_many_ids_it_has() {
    let (mut book, now) = (book(), now());
    for number in 0..100_000u32 {
        let source = peer(number % 100, &format!("{}.7.0.1", 20 + number % 97));
        let _ = book.offer(&node(number, &format!("8.8.8.{}:{}", number % 256, 1 + number % 60_000)), &source, now);
    }
    assert_eq!(book.len(), 10, "H75: ten per table");
    let most = (0..128).map(|bucket| book.table.ids(bucket).len()).max();
    assert!(most.is_some_and(|most| most <= 2), "H75: {most:?} in a bucket");
    let refused = book.offer(&node(200_000, "8.8.8.1:5"), &Source::Local, now);
    assert_eq!(refused, Err(Refusal::SubnetFull("8.8.8.0/24".parse().unwrap())), "H75");
    // Working does not help.
    for id in book.entries.keys().copied().collect::<Vec<_>>() {
        let address = book.find(&id, now).map(|known| known.node.addresses[0].clone());
        book.connected(&id, address.as_ref(), now);
    }
    let most = (0..128).map(|bucket| book.table.ids(bucket).len()).max();
    assert!(book.len() == 10 && most.is_some_and(|most| most <= 2), "H75: {most:?} in a bucket");
}

#[test]
fn one_source_cannot_fill_the_book_nor_push_out_what_is_wanted() {
    let (mut book, now) = (book(), now());
    for node in spread(20) {
        book.keep(&node, Flags::PERSISTENT, now).unwrap();
    }
    for node in spread(120).skip(20) {
        book.offer(&node, &Source::Local, now).unwrap();
        book.connected(&node.node_id(), node.addresses.first(), now);
        book.disconnected(&node.node_id(), now);
    }
    let attackers: Vec<_> = spread(12_000).skip(1_000).collect();
    for (number, node) in (0..).zip(&attackers) {
        let _ = book.offer(node, &peer(number, &format!("66.6.{}.1", number % 256)), now);
    }
    assert!(book.len() - 120 <= 4 * 32, "H75: one /16 filled {} places", book.len() - 120);
    for (number, node) in (0..).zip(&attackers) {
        let _ = book.offer(node, &peer(number, &format!("{}.{}.1.1", 70 + number % 50, number % 256)), now);
    }
    assert!(book.len() <= 1_000, "R55: {}", book.len());
    assert!(spread(120).all(|node| book.find(&node.node_id(), now).is_some()), "H78");
    let first = book.pick(20, all_but_none, now, &mut Rng::with_seed(3));
    assert!(first.iter().all(|node| book.find(&node.node_id(), now).unwrap().flags.is_persistent), "H78");
}

#[test]
fn a_full_book_makes_way_for_persistent_nodes_and_for_nobody_else() {
    let now = now();
    let mut book = AddressBook::new(20, [7; 16]);
    for node in spread(20) {
        book.offer(&node, &Source::Local, now).unwrap();
    }
    let late: Vec<_> = spread(60).skip(20).collect();
    assert_eq!(book.offer(&late[0], &Source::Local, now), Err(Refusal::Full), "R55");
    for node in &late[..20] {
        book.keep(node, Flags::PERSISTENT, now).unwrap();
    }
    assert_eq!(book.len(), 20, "R55");
    assert_eq!(book.keep(&late[20], Flags::PERSISTENT, now), Err(Refusal::Full), "R55");
    assert!(late[..20].iter().all(|node| book.find(&node.node_id(), now).is_some()), "H78");
}

#[test]
fn useless_addresses_are_refused_by_where_they_come_from() {
    let (mut book, now) = (book(), now());
    let own = "8.8.4.4:30303".parse().unwrap();
    book.set_own(node(0, "8.8.4.4:30303").node_id(), vec![own]);
    let public = peer(1, "9.9.9.9");
    let refused =
        |book: &mut AddressBook, text: &str, source: &Source| book.offer(&node(5, text), source, now).expect_err(text);
    for text in
        ["127.0.0.1", "10.0.0.1", "[::1]", "[fe80::1]", "224.0.0.1", "0.0.0.0", "[::ffff:10.0.0.1]", "192.0.2.1"]
    {
        let refusal = refused(&mut book, &format!("{text}:30303"), &public);
        assert!(matches!(refusal, Refusal::NotRoutable(_)), "H77: {text} {refusal:?}");
    }
    assert!(matches!(refused(&mut book, "8.8.8.8:0", &public), Refusal::PortZero(_)), "H77");
    assert_eq!(refused(&mut book, "8.8.4.4:30303", &public), Refusal::OwnAddress(own), "H77");
    assert_eq!(refused(&mut book, "[::ffff:8.8.4.4]:30303", &Source::Local), Refusal::OwnAddress(own), "H77");
    assert!(matches!(refused(&mut book, "example.org:1", &public), Refusal::NotNumeric(_)), "R56");
    assert_eq!(book.offer(&node(0, "8.8.8.8:1"), &Source::Local, now), Err(Refusal::OwnId), "H77");
    assert!(matches!(refused(&mut book, "127.0.0.1:1", &peer(1, "10.0.0.1")), Refusal::NotRoutable(_)), "H77");
    assert!(pick(&mut book, 9, now).is_empty(), "H77: none of it is dialled");
    book.offer(&node(5, "10.0.0.2:1"), &peer(1, "10.0.0.1"), now).unwrap();
    book.offer(&node(6, "127.0.0.1:1"), &peer(1, "127.0.0.1"), now).unwrap();
    book.offer(&node(7, "example.org:1"), &Source::Local, now).unwrap();
    let many =
        NodeAddr { addresses: (1..10).map(|port| ([8, 8, 8, 8], port)).map(address).collect(), ..node(8, "1.1.1.1:1") };
    assert_eq!(book.offer(&many, &public, now), Err(Refusal::TooManyAddresses(9)));
    let none = NodeAddr { addresses: Vec::new(), ..many };
    assert_eq!(book.offer(&none, &public, now), Err(Refusal::NoAddress));
}

fn address(parts: ([u8; 4], u16)) -> Address {
    SocketAddr::from(parts).into()
}

#[test]
fn others_add_addresses_to_an_entry_but_push_none_out() {
    let (mut book, now) = (book(), now());
    let known = node(1, "8.8.8.8:1");
    let id = known.node_id();
    book.offer(&known, &Source::Local, now).unwrap();
    for number in 0..20 {
        book.offer(&node(1, &format!("20.{number}.1.1:1")), &peer(2, "9.9.9.9"), now).unwrap();
    }
    let addresses = book.find(&id, now).unwrap().node.addresses;
    assert_eq!((addresses.len(), &addresses[0]), (4, &known.addresses[0]), "R59");
    for number in 0..20 {
        let own_word = Source::Peer { id, ip: Some("30.1.1.1".parse().unwrap()) };
        book.offer(&node(1, &format!("30.{number}.1.1:1")), &own_word, now).unwrap();
    }
    let addresses = book.find(&id, now).unwrap().node.addresses;
    assert_eq!((addresses.len(), addresses[0].to_string().as_str()), (8, "30.19.1.1:1"), "R59");
    book.connected(&id, Some(&addresses[3]), now);
    assert_eq!(book.find(&id, now).unwrap().node.addresses[0], addresses[3], "R59: what worked comes first");
    book.remove(&id);
    assert_eq!(book.table.subnet_counts(), 0, "nothing is left of it");
}

#[test]
fn failures_are_waited_for_and_the_hopeless_forgotten() {
    let (mut book, mut now) = (book(), now());
    let (newcomer, friend) = (node(1, "8.8.8.8:1"), node(2, "9.9.9.9:1"));
    book.offer(&newcomer, &Source::Local, now).unwrap();
    book.offer(&friend, &Source::Local, now).unwrap();
    book.connected(&friend.node_id(), friend.addresses.first(), now);
    book.disconnected(&friend.node_id(), now);
    for failures in 1..=6u32 {
        book.failed(&newcomer.node_id(), now);
        book.failed(&friend.node_id(), now);
        let wait = (MINUTE * 4u32.pow(failures - 1)).min(DAY / 2);
        assert!(pick(&mut book, 2, now + wait - Duration::from_millis(1)).is_empty(), "after {failures}");
        now += wait;
        assert_eq!(pick(&mut book, 2, now).len(), if failures < 6 { 2 } else { 1 }, "after {failures}");
    }
    assert!(book.find(&newcomer.node_id(), now).is_none() && book.find(&friend.node_id(), now).is_some());
    // A clock that was ahead has left nothing that is waited for.
    book.failed(&friend.node_id(), now + 3650 * DAY);
    assert!(pick(&mut book, 2, now).is_empty());
    assert_eq!(pick(&mut book, 2, now + DAY).len(), 1);
}

#[test]
fn the_best_are_picked_first_newcomers_get_a_chance_and_networks_differ() {
    let (mut book, now) = (book(), now());
    let (good, bad, newcomers) = (0..20, 20..40, 40..80);
    for (number, node) in (0..).zip(spread(80)) {
        book.offer(&node, &Source::Local, now).unwrap();
        if !newcomers.contains(&number) {
            book.connected(&node.node_id(), node.addresses.first(), now);
            book.disconnected(&node.node_id(), now);
            book.rate(&node.node_id(), if good.contains(&number) { 50 } else { -50 }, now);
        }
    }
    let ids: Vec<_> = spread(80).map(|node| node.node_id()).collect();
    let picked = pick(&mut book, 20, now);
    let of = |range: std::ops::Range<usize>| picked.iter().filter(|id| ids[range.clone()].contains(id)).count();
    assert!(of(0..20) > 8 && of(40..80) >= 2 && of(bad) == 0, "R54: {} good, {} new", of(0..20), of(40..80));
    assert_eq!(pick(&mut book, 20, now), picked, "the same seed picks the same");
    let not_those = book.pick(80, |id| picked.contains(id), now, &mut Rng::with_seed(1));
    assert!(not_those.len() == 60 && not_those.iter().all(|node| !picked.contains(&node.node_id())));

    let mut book = self::book();
    for number in 0..6 {
        let address = if number < 5 { format!("8.8.8.{number}:1") } else { "9.9.9.9:1".into() };
        let _ = book.keep(&node(number, &address), Flags::PERSISTENT, now);
    }
    let two = book.pick(2, all_but_none, now, &mut Rng::with_seed(2));
    assert!(two.iter().any(|node| node.addresses[0].to_string() == "9.9.9.9:1"), "no two of a /24: {two:?}");
    assert_eq!(pick(&mut book, 9, now).len(), 6, "unless there are no others");
}

#[test]
fn private_and_banned_nodes_are_never_shared_and_addresses_fit_the_asker() {
    let (mut book, now) = (book(), now());
    let shared = |book: &AddressBook, asker: &Source| -> Vec<NodeId> {
        let nodes = book.share(100, asker, now, &mut Rng::with_seed(1));
        let public = |ip: IpAddr| crate::node::Reach::of(ip) == crate::node::Reach::Public;
        let fits = |address: &Address| address.ip().is_some_and(|ip| public(ip) || ip.is_ipv4());
        assert!(nodes.iter().all(|node| node.addresses.iter().all(fits)), "R56: numeric");
        nodes.iter().map(NodeAddr::node_id).collect()
    };
    let names = ["8.8.8.8:1", "7.7.7.7:1", "6.6.6.6:1", "10.0.0.1:1", "127.0.0.1:1", "example.org:1", "memory://a"];
    let nodes: Vec<_> = (0..).zip(names).map(|(number, address)| node(number, address)).collect();
    for node in &nodes {
        book.offer(node, &Source::Local, now).unwrap();
        book.connected(&node.node_id(), node.addresses.first(), now);
    }
    let ids: Vec<_> = nodes.iter().map(NodeAddr::node_id).collect();
    let sorted = |mut ids: Vec<NodeId>| {
        ids.sort();
        ids
    };
    let public = peer(99, "9.9.9.9");
    assert_eq!(sorted(shared(&book, &public)), sorted(ids[..3].to_vec()));
    assert_eq!(sorted(shared(&book, &peer(99, "10.0.0.9"))), sorted(ids[..4].to_vec()));
    assert_eq!(sorted(shared(&book, &peer(99, "127.0.0.1"))), sorted(ids[..5].to_vec()));
    book.set_flags(&ids[0], Flags::PRIVATE.and(Flags::PERSISTENT), now);
    book.ban(ids[1], now + DAY, now);
    assert_eq!(shared(&book, &public), [ids[2]], "R48: private peers are never shared");
    assert_eq!(shared(&book, &Source::Peer { id: ids[2], ip: None }), [], "nobody is told of itself");
    book.ban_subnet("6.6.6.6".parse().unwrap(), now + DAY, now);
    assert_eq!(shared(&book, &public), []);
}
