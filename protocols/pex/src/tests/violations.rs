//! What ends a peer: each with its cause, and told to the other end.

use capmux::typed::Breach;
use capmux::{DisconnectReason, Ending, Party, PeerError};

use super::*;

capmux::over_each_wire! {
    a_second_request_at_once_ends_the_peer,
    a_count_of_nothing_or_too_much_ends_the_peer,
    an_answer_that_was_not_asked_for_ends_the_peer,
    an_answer_under_another_id_ends_the_peer,
    an_answer_given_twice_ends_the_peer,
    more_than_thirty_records_end_the_peer,
    malformed_records_end_the_peer,
    malformed_requests_and_announcements_end_the_peer,
    a_code_without_a_message_is_none_of_the_protocol,
    the_record_of_another_node_ends_the_peer,
    a_second_announcement_ends_the_peer,
}

/// How the node ended the peer, which was told that the protocol was broken.
async fn ended(driver: &Driver) -> Ending {
    let ending = timeout(LONG, driver.driven.pair.at_second.closed()).await.expect("it ends");
    assert_eq!((ending.by(), ending.reason()), (Party::Local, Some(DisconnectReason::SubprotocolError)), "{ending}");
    let told = timeout(LONG, driver.driven.pair.at_first.closed()).await.expect("it is told");
    assert_eq!(told.reason(), Some(DisconnectReason::SubprotocolError), "{told}");
    ending
}

/// What the peer has done wrong.
fn cause<E: std::error::Error + 'static>(ending: &Ending) -> &E {
    let PeerError::HandlerFailed { source, .. } = ending.error() else { panic!("{ending}") };
    source.downcast_ref().unwrap_or_else(|| panic!("another cause: {ending}"))
}

async fn a_second_request_at_once_ends_the_peer(wire: Wire) {
    let mut driver = Driver::silent(wire).await;
    driver.told(1, 30).await;
    driver.send(GET_NODES, get_nodes(2, 30)).await;
    let ending = ended(&driver).await;
    assert!(matches!(cause(&ending), Violation::TooSoon { early } if *early > MIN_INTERVAL / 2), "R56: {ending}");
    assert_eq!(driver.pex.status().served, 1, "R56: it was not answered");
}

#[tokio::test(start_paused = true)]
async fn requests_every_three_seconds_end_nobody() {
    let mut driver = Driver::silent(Wire::Memory).await;
    for id in 0..100 {
        driver.told(id, 1 + id % 30).await;
        tokio::time::sleep(MIN_INTERVAL).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    driver.told(100, 1).await;
    // What was not asked is not saved up.
    tokio::time::sleep(Duration::from_millis(1_900)).await;
    driver.send(GET_NODES, get_nodes(101, 1)).await;
    let ending = ended(&driver).await;
    let early = Duration::from_millis(1_100);
    assert_eq!(*cause::<Violation>(&ending), Violation::TooSoon { early }, "R56");
}

async fn a_count_of_nothing_or_too_much_ends_the_peer(wire: Wire) {
    for count in [0, 31, u64::MAX] {
        let driver = Driver::silent(wire).await;
        driver.send(GET_NODES, get_nodes(1, count)).await;
        assert_eq!(*cause::<Violation>(&ended(&driver).await), Violation::Count { count }, "R56");
    }
}

async fn an_answer_that_was_not_asked_for_ends_the_peer(wire: Wire) {
    let driver = Driver::silent(wire).await;
    driver.send(NODES, nodes(7, &[plain(1, public(1))])).await;
    let ending = ended(&driver).await;
    assert!(matches!(cause(&ending), Breach::Unsolicited { id: 7, .. }), "R56: {ending}");
    assert!(!knows(&driver.book, 1), "R56: it was not believed");
}

async fn an_answer_under_another_id_ends_the_peer(wire: Wire) {
    let mut driver = Driver::start(wire, PexSettings::default()).await;
    let id = driver.asked().await.wrapping_add(1);
    driver.send(NODES, nodes(id, &[plain(1, public(1))])).await;
    let ending = ended(&driver).await;
    assert!(matches!(cause(&ending), Breach::Unsolicited { .. }), "R56: {ending}");
    assert!(!knows(&driver.book, 1), "R56: it was not believed");
}

async fn an_answer_given_twice_ends_the_peer(wire: Wire) {
    let mut driver = Driver::start(wire, PexSettings::default()).await;
    let id = driver.asked().await;
    for number in [1, 2] {
        driver.send(NODES, nodes(id, &[plain(number, public(number))])).await;
    }
    let ending = ended(&driver).await;
    assert!(matches!(cause(&ending), Breach::Unsolicited { .. }), "R56: {ending}");
    assert!(!knows(&driver.book, 2), "R56: the second was not believed");
}

async fn more_than_thirty_records_end_the_peer(wire: Wire) {
    let mut driver = Driver::start(wire, PexSettings::default()).await;
    let id = driver.asked().await;
    let records: Vec<_> = (1..=31).map(|number| plain(number, public(number))).collect();
    driver.send(NODES, nodes(id, &records)).await;
    let ending = ended(&driver).await;
    assert!(matches!(cause(&ending), Breach::Malformed { code: NODES, .. }), "R56: {ending}");
    assert_eq!(driver.book.with(|book, _| book.len()), 0, "R56: none was believed");
}

/// A record of these items.
fn record(items: &[&[u8]]) -> Vec<u8> {
    let mut list = RlpStream::new_list(items.len());
    items.iter().for_each(|item| {
        list.append(item);
    });
    list.out().into()
}

async fn malformed_records_end_the_peer(wire: Wire) {
    let key = key(1).public_key().to_bytes();
    let mut forged = Enr::sign(&super::key(1), 1, Some(public(1))).encode().to_vec();
    forged[10] ^= 1;
    let ip: &[u8] = &[8, 8, 8, 8];
    for (what, body) in [
        ("a name", record(&[b"example.org", &[9], &key])),
        ("an address of 5 bytes", record(&[&[8; 5], &[9], &key])),
        ("no address", record(&[b"", &[9], &key])),
        ("a port above 65535", record(&[ip, &[1, 0, 0], &key])),
        ("a port with a leading zero", record(&[ip, &[0, 9], &key])),
        ("a key that is not on the curve", record(&[ip, &[9], &[0xff; 64]])),
        ("a short key", record(&[ip, &[9], &key[1..]])),
        ("a fourth item", record(&[ip, &[9], &key, b"x"])),
        ("two items", record(&[ip, &[9]])),
        ("nothing", record(&[])),
        ("no list", "x".rlp_bytes().to_vec()),
        ("a forged signature", forged),
    ] {
        let mut driver = Driver::start(wire, PexSettings::default()).await;
        let mut list = RlpStream::new_list(2);
        list.append(&driver.asked().await).begin_list(1).append_raw(&body, 1);
        driver.send(NODES, list.out()).await;
        let ending = ended(&driver).await;
        assert!(matches!(cause(&ending), Breach::Malformed { code: NODES, .. }), "R56: {what}: {ending}");
        assert!(!knows(&driver.book, 1), "R56: {what}");
    }
}

async fn malformed_requests_and_announcements_end_the_peer(wire: Wire) {
    for (code, body) in [
        (GET_NODES, ""),
        (GET_NODES, "01"),
        (GET_NODES, "c101"),
        (GET_NODES, "c3010101"),
        (GET_NODES, "c20100"),
        (GET_NODES, "c201c0"),
        (GET_NODES, "c2011e00"),
        (ANNOUNCE, ""),
        (ANNOUNCE, "c0"),
        (ANNOUNCE, "c20101"),
        (ANNOUNCE, "c483010000"),
        (ANNOUNCE, "c1c0"),
        (ANNOUNCE, "c2c101"),
    ] {
        let driver = Driver::silent(wire).await;
        driver.send(code, hex::decode(body).unwrap()).await;
        let ending = ended(&driver).await;
        assert!(matches!(cause(&ending), Breach::Malformed { .. }), "R56: {code} {body}: {ending}");
    }
}

async fn a_code_without_a_message_is_none_of_the_protocol(wire: Wire) {
    let driver = Driver::silent(wire).await;
    assert!(driver.driven.channel.send(LENGTH, vec![0xc0]).await.is_err(), "R56: it cannot even be sent");
}

async fn the_record_of_another_node_ends_the_peer(wire: Wire) {
    let driver = Driver::silent(wire).await;
    let foreign = Enr::sign(&key(1), 1, Some(public(1)));
    driver.send(ANNOUNCE, Announce(Announcement::Signed(foreign)).rlp_bytes()).await;
    let ending = ended(&driver).await;
    assert_eq!(*cause::<Violation>(&ending), Violation::ForeignRecord { id: key(1).node_id() }, "R56");
    assert!(!knows(&driver.book, 1), "R56");
}

async fn a_second_announcement_ends_the_peer(wire: Wire) {
    let driver = Driver::silent(wire).await;
    for _ in 0..2 {
        driver.send(ANNOUNCE, Announce(Announcement::Port(30_303)).rlp_bytes()).await;
    }
    assert_eq!(*cause::<Violation>(&ended(&driver).await), Violation::AnnouncedTwice, "R56");
}
