//! What is asked and told, and what becomes of it.

use capmux::testing::{expect_message, node};
use tokio::time::Instant;

use super::*;

// R32: the same tests over memory and TCP. Those of exact times have to be in memory.
capmux::over_each_wire! {
    both_ends_come_to_know_what_the_other_knows,
    a_request_is_answered_with_these_bytes,
    private_nodes_and_failed_and_banned_ones_are_told_to_nobody,
    a_record_is_passed_on_as_it_was_signed_unless_it_says_more_than_may_be_told,
    useless_addresses_are_counted_and_end_nobody,
}

async fn both_ends_come_to_know_what_the_other_knows(wire: Wire) {
    let books = [book_of(100), book_of(100)];
    let signed = Enr::sign(&key(3), 5, Some(public(3)));
    for (book, number) in books.iter().zip([1, 2]) {
        add(book, &at(number, public(number)));
    }
    add(&books[0], &at(3, public(3)));
    books[0].with(|book, _| book.set_record(signed.clone()));
    let [one, other] = [0, 1].map(|n| Pex::new(books[n].clone(), PexSettings { seed: Some(9), ..Default::default() }));
    let _pair = wire.pair(node().protocol(one.0), node().protocol(other.0)).await;
    let exchange = async {
        while !books.iter().all(|book| [1, 2, 3].into_iter().all(|number| knows(book, number))) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, exchange).await.expect("R56: each knows all three");
    let known = books[1].with(|book, now| book.find(&key(3).node_id(), now)).unwrap();
    assert_eq!(known.record, Some(signed), "R56: with the signed record");
    assert!(matches!(known.source, Source::Peer { .. }), "R56: and who told of it");
    assert_eq!((one.1.status().new, other.1.status().new), (1, 2));
    assert_eq!((one.1.status().unanswered, one.1.status().served), (0, 1));
}

async fn a_request_is_answered_with_these_bytes(wire: Wire) {
    let mut one = [0; 32];
    one[31] = 1;
    let public_key = NodeKey::from_bytes(&one).unwrap().public_key();
    for (address, before) in [
        ("8.8.8.8:30303", "f84f07f84cf84a840808080882765fb840"),
        ("[2001:4860::1]:7", "f85907f856f854902001486000000000000000000000000107b840"),
    ] {
        let mut driver = Driver::silent(wire).await;
        let address: SocketAddr = address.parse().unwrap();
        add(&driver.book, &NodeAddr::new(public_key, [Address::Ip(address)]));
        driver.send(GET_NODES, hex::decode("c2071e").unwrap()).await;
        let answer = expect_message(&mut driver.driven.channel, NODES).await;
        assert_eq!(hex::encode(&answer.payload), format!("{before}{public_key}"), "R56: the example of docs/pex.md");
    }
}

async fn private_nodes_and_failed_and_banned_ones_are_told_to_nobody(wire: Wire) {
    let mut driver = Driver::silent(wire).await;
    for number in 1..=6 {
        add(&driver.book, &at(number, public(number)));
    }
    driver.book.with(|book, now| {
        book.set_flags(&key(1).node_id(), Flags::PRIVATE, now);
        book.set_flags(&key(2).node_id(), Flags::PRIVATE.and(Flags::PERSISTENT), now);
        book.connected(&key(2).node_id(), None, now);
        book.failed(&key(3).node_id(), now);
        book.ban(key(4).node_id(), now + LONG, now);
    });
    let records = driver.told(1, 30).await;
    assert_eq!(records.len(), 2, "R48: {records:?}");
    for number in [5, 6] {
        assert!(records.contains(&plain(number, public(number))), "R48: {number}");
    }
}

async fn a_record_is_passed_on_as_it_was_signed_unless_it_says_more_than_may_be_told(wire: Wire) {
    let mut driver = Driver::silent(wire).await;
    // What nobody can reach is told over neither wire.
    let (far, near): (SocketAddr, SocketAddr) = (public(1), "192.0.2.1:30303".parse().unwrap());
    let records = [(1, far), (2, near), (3, public(99))].map(|(n, ip)| Enr::sign(&key(n), 1, Some(ip)));
    for (record, number) in records.iter().zip(1..) {
        add(&driver.book, &at(number, public(number)));
        assert!(driver.book.with(|book, _| book.set_record(record.clone())));
    }
    let told = driver.told(1, 30).await;
    assert!(told.contains(&Record::Signed(records[0].clone())), "R56: {told:?}");
    for number in [2, 3] {
        assert!(told.contains(&plain(number, public(number))), "R48 H77: its record says another address");
    }
}

async fn useless_addresses_are_counted_and_end_nobody(wire: Wire) {
    let mut driver = Driver::start(wire, PexSettings::default()).await;
    let id = driver.asked().await;
    let useless = ["224.0.0.1:1", "0.0.0.0:1", "[::]:1", "[ff02::1]:1", "8.8.8.8:0", "255.255.255.255:1"];
    let mut records: Vec<_> = useless.iter().zip(10..).map(|(ip, n)| plain(n, ip.parse().unwrap())).collect();
    records.push(Record::Signed(Enr::sign(&key(20), 1, None)));
    records.push(plain(30, public(30)));
    let peer = driver.driven.pair.at_second.id();
    let own = NodeAddr::new(*driver.driven.pair.at_second.public_key(), [Address::Ip(public(40))]);
    add(&driver.book, &own);
    driver.send(NODES, nodes(id, &records)).await;
    driver.until(|driver| driver.pex.status().records == 8).await;
    let status = driver.pex.status();
    assert_eq!((status.useless, status.new), (7, 1), "H77");
    assert_eq!(driver.book.with(|book, _| book.len()), 2, "H77: none of them is in the book");
    let score = driver.book.with(|book, now| book.find(&peer, now).map(|known| known.score));
    assert_eq!(score, Some(-5), "H77: the peer is rated down");
    assert!(driver.driven.pair.at_second.ending().is_none(), "H77: and goes on");
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_asked_at_most_every_three_seconds_and_once_at_a_time() {
    let mut driver = Driver::start(Wire::Memory, PexSettings { few: 2_000, ..PexSettings::default() }).await;
    let mut last: Option<Instant> = None;
    for number in 0..100 {
        let id = driver.asked().await;
        let waited = last.map(|last| last.elapsed());
        assert!(waited.is_none_or(|waited| waited >= MIN_INTERVAL), "R56: {waited:?}");
        let again = timeout(Duration::from_secs(5), driver.driven.channel.recv()).await;
        assert!(again.is_err(), "R56: one request at a time");
        driver.send(NODES, nodes(id, &[plain(number, public(number))])).await;
        last = Some(Instant::now());
    }
    assert_eq!((driver.pex.status().asked, driver.pex.status().unanswered), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_is_left_alone_and_its_late_answer_is_no_fault() {
    let mut driver = Driver::start(Wire::Memory, PexSettings::default()).await;
    let (id, start) = (driver.asked().await, Instant::now());
    let next = driver.asked().await;
    assert!(start.elapsed() > Duration::from_secs(270), "R56: {:?}", start.elapsed());
    assert_eq!(driver.pex.status().unanswered, 1, "R56");
    driver.send(NODES, nodes(id, &[plain(1, public(1))])).await;
    driver.send(NODES, nodes(next, &[plain(2, public(2))])).await;
    driver.until(|driver| knows(&driver.book, 2)).await;
    assert!(!knows(&driver.book, 1), "R56: what comes too late is dropped");
}

#[tokio::test(start_paused = true)]
async fn one_that_dialled_is_asked_no_longer_when_enough_is_known() {
    let mut driver = Driver::start(Wire::Memory, PexSettings { few: 3, ..PexSettings::default() }).await;
    let id = driver.asked().await;
    driver.send(NODES, nodes(id, &[1, 2, 3].map(|n| plain(n, public(n))))).await;
    let asked = timeout(Duration::from_secs(3_600), driver.driven.channel.recv()).await;
    assert!(asked.is_err(), "R56");
}

#[tokio::test(start_paused = true)]
async fn asking_often_does_not_bring_the_book_to_light() {
    let mut driver = Driver::silent(Wire::Memory).await;
    (1..=200).for_each(|number| add(&driver.book, &at(number, public(number))));
    let mut first = driver.told(1, 30).await;
    first.sort_by_key(|record| record.node_addr().map(|node| node.node_id()));
    assert_eq!(first.len(), MAX_RECORDS, "R56");
    for id in 2..150 {
        tokio::time::sleep(MIN_INTERVAL).await;
        let mut told = driver.told(id, 30).await;
        told.sort_by_key(|record| record.node_addr().map(|node| node.node_id()));
        assert_eq!(told, first, "R56: request {id}");
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_ne!(driver.told(200, 30).await, first, "R56: later there are others");
}

/// What a peer brings that tells of 30 new nodes whenever it is asked, for so many requests.
async fn flood(driver: &mut Driver, requests: u64) {
    for request in 0..requests {
        let id = driver.asked().await;
        let numbers = 1_000 + 30 * request..1_030 + 30 * request;
        let records: Vec<_> = numbers.map(|number| plain(number, public(number))).collect();
        driver.send(NODES, nodes(id, &records)).await;
    }
    driver.until(|driver| driver.pex.status().records == 30 * requests).await;
}

#[tokio::test(start_paused = true)]
async fn one_source_fills_its_quota_of_the_book_and_no_more() {
    let mut driver = Driver::start(Wire::Memory, PexSettings { few: 2_000, ..PexSettings::default() }).await;
    flood(&mut driver, 100).await;
    let len = driver.book.with(|book, _| book.len());
    assert!(len > 30, "it does learn: {len}");
    // Four of 64 buckets, each of twice the average.
    assert!(len <= 128, "R56: {len} of 3000 nodes from one source");
}

#[tokio::test(start_paused = true)]
async fn a_liar_displaces_neither_persistent_nodes_nor_those_that_work() {
    let book = book_of(40);
    for number in 1..=20 {
        add(&book, &at(number, public(number)));
        book.with(|book, now| match number {
            ..=10 => assert!(book.set_flags(&key(number).node_id(), Flags::PERSISTENT, now)),
            _ => book.connected(&key(number).node_id(), None, now),
        });
    }
    let mut driver = Driver::with(Wire::Memory, PexSettings { few: 2_000, ..PexSettings::default() }, book).await;
    flood(&mut driver, 50).await;
    assert!(driver.book.with(|book, _| book.len()) <= 40);
    for number in 1..=20 {
        assert!(knows(&driver.book, number), "H78: {number}");
    }
    let mut rng = fastrand::Rng::with_seed(1);
    let picked = driver.book.with(|book, now| book.pick(10, |_| false, now, &mut rng));
    let is_persistent = |node: &NodeAddr| (1..=10).any(|number| key(number).node_id() == node.node_id());
    assert!(picked.iter().all(is_persistent), "H78: persistent nodes are dialled first all the same");
}
