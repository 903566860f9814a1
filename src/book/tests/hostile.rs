//! What others try, and what the user must not lose by it.

use super::*;

#[test]
fn private_nodes_stay_private_however_full_it_is() {
    let now = now();
    let mut book = AddressBook::new(64, [7; 16]);
    let secret = node(900, "8.8.8.8:1");
    let id = secret.node_id();
    // All from one /24, and more of one source than its buckets hold.
    for number in 0..10 {
        book.offer(&node(number, &format!("8.8.8.{number}:1")), &Source::Local, now).unwrap();
    }
    book.keep(&secret, Flags::PRIVATE, now).expect("R48: the user's word counts, whatever the network");
    for node in spread(60) {
        let _ = book.offer(&node, &Source::Local, now);
        book.connected(&node.node_id(), node.addresses.first(), now);
    }
    for node in spread(30) {
        let _ = book.keep(&node, Flags::PERSISTENT, now);
    }
    assert!(book.len() <= 64, "R55");
    let flags = |book: &AddressBook| book.find(&id, now).map(|known| known.flags);
    assert_eq!(flags(&book), Some(Flags::PRIVATE), "R48: persistent nodes take the places of others");
    let read = AddressBook::from_json(&book.to_json(), 31).unwrap().book;
    assert_eq!(flags(&read), Some(Flags::PRIVATE), "R48: a smaller book keeps it");
}

#[test]
fn marking_a_node_private_never_forgets_it() {
    let now = now();
    let mut book = AddressBook::new(20, [7; 16]);
    let source = peer(1, "9.9.9.9");
    // Those that work leave their buckets to more of the same source.
    for node in spread(400) {
        if book.offer(&node, &source, now).is_ok() && book.len() < 12 {
            book.connected(&node.node_id(), node.addresses.first(), now);
        }
    }
    for id in book.entries.keys().copied().collect::<Vec<_>>() {
        assert!(book.set_flags(&id, Flags::PRIVATE, now));
        assert!(book.find(&id, now).is_some_and(|known| known.flags.is_private), "R48");
    }
}

#[test]
fn a_node_that_is_refused_a_place_is_as_it_was() {
    let (mut book, now) = (book(), now());
    let known = node(900, "9.9.9.9:1");
    book.offer(&known, &Source::Local, now).unwrap();
    for number in 0..10 {
        let _ = book.offer(&node(number, &format!("8.8.8.{number}:1")), &Source::Local, now);
    }
    let moved = node(900, "8.8.8.99:1");
    assert!(matches!(book.keep(&moved, Flags::default(), now), Err(Refusal::SubnetFull(_))), "H75");
    assert_eq!(book.find(&known.node_id(), now).map(|known| known.node), Some(known), "R54: it is not forgotten");
}

#[test]
fn others_tell_four_addresses_of_a_node_at_the_most() {
    let (mut book, now) = (book(), now());
    let many = |number| {
        let addresses = (0..8u8).map(|place| address(([20 + place, 1, 1, 1], 1)));
        NodeAddr { addresses: addresses.collect(), ..node(number, "1.1.1.1:1") }
    };
    book.offer(&many(1), &peer(2, "9.9.9.9"), now).unwrap();
    assert_eq!(book.find(&many(1).node_id(), now).unwrap().node.addresses.len(), 4, "H77: of a new one, too");
    book.offer(&many(3), &Source::Local, now).unwrap();
    assert_eq!(book.find(&many(3).node_id(), now).unwrap().node.addresses.len(), 8, "R59: the user tells more");
}

#[test]
fn who_dials_this_node_has_not_shown_that_its_addresses_work() {
    let (mut book, mut now) = (book(), now());
    let bogus = node(1, "8.8.8.8:1");
    let id = bogus.node_id();
    book.offer(&bogus, &Source::Peer { id, ip: Some("8.8.8.8".parse().unwrap()) }, now).unwrap();
    for _ in 0..500 {
        book.connected(&id, None, now);
        book.disconnected(&id, now);
    }
    let known = book.find(&id, now).unwrap();
    assert_eq!((known.score, known.state), (0, State::New), "H78: a score is not to be had by dialling in");
    for failures in 1..=6 {
        assert!(book.find(&id, now).is_some(), "after {failures}");
        now += DAY;
        book.connected(&id, None, now);
        book.disconnected(&id, now);
        book.failed(&id, now);
    }
    assert!(book.find(&id, now).is_none(), "H78: it goes like any that has never worked");
}

#[test]
fn when_there_are_too_many_bans_those_that_end_first_do() {
    let (mut book, now) = (book(), now());
    let id = |number: u32| NodeId::from_bytes([number.to_be_bytes(); 8].concat().try_into().unwrap());
    for number in 0..1_000 {
        book.ban(id(number), now + DAY, now);
    }
    for number in 1_000..2_000 {
        book.ban(id(number), now + MINUTE, now);
        book.ban(id(number), now, now);
    }
    assert!((0..1_000).all(|number| book.is_banned(&id(number), now)), "R54: short bans end no long ones");
}

#[test]
fn all_that_a_file_has_no_room_for_is_counted() {
    let (mut book, now) = (book(), now());
    for node in spread(100) {
        book.offer(&node, &Source::Local, now).unwrap();
        book.failed(&node.node_id(), now);
    }
    let parsed = AddressBook::from_json(&book.to_json(), 10).unwrap();
    assert_eq!(parsed.book.len() + parsed.skipped, 100, "R55: those that made way, too");
}

#[test]
fn what_a_file_says_reads_as_it_was_written_with_any_address() {
    let (mut book, now) = (book(), now());
    let addresses = ["[fe80::1%3]:30303", "memory://a:b@c/d;e", "example.org:1"];
    for (number, text) in (0..).zip(addresses) {
        book.offer(&node(number, text), &Source::Local, now).unwrap();
    }
    let parsed = AddressBook::from_json(&book.to_json(), 10).unwrap();
    assert_eq!((parsed.book.len(), parsed.skipped), (3, 0), "R55");
    assert!(book.iter(now).zip(parsed.book.iter(now)).all(|(one, other)| one.node == other.node), "R55");
    assert!("memory://a,b".parse::<Address>().is_err() && Address::other("memory", "a?b").is_err());
}

#[test]
fn exports_have_no_addresses_of_banned_networks() {
    let (mut book, now) = (book(), now());
    for (number, text) in (0..).zip(["8.8.8.8:1", "9.9.9.9:1"]) {
        book.offer(&node(number, text), &Source::Local, now).unwrap();
    }
    book.ban_subnet("8.8.8.0/24".parse().unwrap(), now + DAY, now);
    assert_eq!(book.to_enode_list(now), format!("{}\n", node(1, "9.9.9.9:1")), "R54");
}
