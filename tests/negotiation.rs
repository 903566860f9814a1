//! Which subprotocols two nodes share, and which message ids those get.

#[allow(dead_code, reason = "each test takes what it needs")]
mod common;

use std::collections::BTreeMap;
use std::time::Instant;

use capmux::p2p::{
    Capability, DisconnectReason, Event, Hello, HelloError, InvalidCapability, MAX_BASE_MESSAGE_SIZE, MessageId,
    Registered, RegistrationError, Session, SessionError, SessionSettings, SharedCapabilities,
};
use common::key;
use common::session::{capability, frame, hello, id_bytes, registered, session};
use proptest::prelude::*;
use rlp::RlpStream;

/// A capability that no node of ours would offer.
fn foreign(name: &[u8], version: u64) -> Capability {
    let mut stream = RlpStream::new_list(2);
    stream.append(&name).append(&version);
    rlp::decode(&stream.out()).expect("two elements")
}

/// The shared capabilities with their first ids, as go-ethereum's `matchProtocols` finds them: it goes through what the
/// other end offers, sorted, and takes back an older version when a newer one matches.
fn as_geth_does(own: &[Registered], remote: &[Capability]) -> Vec<(Capability, u64, u64)> {
    let mut remote: Vec<_> = remote.iter().map(|capability| (capability.name(), capability.version())).collect();
    remote.sort();
    let mut offset = 16;
    let mut result: BTreeMap<&str, (Capability, u64, u64)> = BTreeMap::new();
    for (name, version) in remote {
        let matches = |own: &&Registered| own.capability.name() == name && own.capability.version() == version;
        let Some(protocol) = own.iter().find(matches) else { continue };
        if let Some((_, _, length)) = result.get(name) {
            offset -= length;
        }
        result.insert(name, (protocol.capability.clone(), offset, protocol.length));
        offset += protocol.length;
    }
    let mut result: Vec<_> = result.into_values().collect();
    result.sort_by_key(|(_, offset, _)| *offset);
    result
}

/// Where a session delivers a message with this id.
fn delivered(session: &mut Session, id: u64) -> Option<(Capability, u64)> {
    match session.receive(frame(&id_bytes(id), b"\0"), Instant::now()) {
        Ok(Event::Message { place, code, .. }) => Some((session.shared()[place].capability.clone(), code)),
        Err(SessionError::UnknownMessageId { id: unknown }) => {
            assert_eq!(unknown, id, "R5: the error names the id");
            None
        }
        other => panic!("{other:?}"),
    }
}

/// A session with a peer that offers `remote` shares what the model says, under the ids that it says.
fn assert_as_geth(own: &[Registered], remote: &[Capability]) {
    let mut session = Session::new(hello(5, remote.to_vec()), own, SessionSettings::default(), Instant::now());
    let expected = as_geth_does(own, remote);
    let shared = session.shared().iter().map(|shared| (shared.capability.clone(), shared.length));
    let expected_shared = expected.iter().map(|(capability, _, length)| (capability.clone(), *length));
    assert!(shared.eq(expected_shared), "R2 H54: {:?} instead of {expected:?}", session.shared());
    for shared in session.shared().iter() {
        assert_eq!(own[shared.index].capability, shared.capability, "R2");
    }
    let mut end = 16;
    for (capability, offset, length) in expected {
        assert_eq!(offset, end, "R2: the ranges adjoin");
        for code in 0..length {
            let message = delivered(&mut session, offset + code);
            assert_eq!(message, Some((capability.clone(), code)), "R2 R6: id {:#x}", offset + code);
        }
        end = offset + length;
    }
    assert_eq!(delivered(&mut session, end), None, "R5 H56: one past the last range");
}

/// How many codes a protocol has, which two nodes must agree on beforehand.
fn length_of(name: &str, version: u64) -> u64 {
    1 + (name.len() as u64 * 7 + version * 3) % 23
}

fn offers() -> impl Strategy<Value = Vec<(String, u64)>> {
    proptest::collection::vec(("[abZ~!]{1,3}|eth|snap", 0..4u64), 0..12)
}

fn protocols(offers: &[(String, u64)]) -> Vec<Registered> {
    let mut seen = std::collections::BTreeSet::new();
    let unique = offers.iter().filter(|offer| seen.insert((*offer).clone()));
    unique.map(|(name, version)| registered(name, *version, length_of(name, *version))).collect()
}

fn capabilities(protocols: &[Registered]) -> Vec<Capability> {
    protocols.iter().map(|protocol| protocol.capability.clone()).collect()
}

proptest! {
    #[test]
    fn both_ends_share_what_geth_would(first in offers(), second in offers()) {
        let (first, second) = (protocols(&first), protocols(&second));
        assert_eq!(Registered::check(&first), Ok(()));
        assert_as_geth(&first, &capabilities(&second));
        assert_as_geth(&second, &capabilities(&first));
        let at_first = SharedCapabilities::negotiate(&first, &capabilities(&second));
        let at_second = SharedCapabilities::negotiate(&second, &capabilities(&first));
        let ranges = |shared: &SharedCapabilities| -> Vec<_> {
            shared.iter().map(|shared| (shared.capability.clone(), shared.length)).collect()
        };
        assert_eq!(ranges(&at_first), ranges(&at_second), "R2: computed alike at both ends");
    }

    #[test]
    fn odd_offers_change_nothing(own in offers(), names in proptest::collection::vec(any::<Vec<u8>>(), 0..6)) {
        let own = protocols(&own);
        let mut remote = capabilities(&own);
        remote.reverse();
        remote.extend(capabilities(&own));
        remote.extend(names.iter().map(|name| foreign(name, 1)));
        assert_as_geth(&own, &remote);
    }
}

#[test]
fn the_highest_common_version_wins() {
    let own = [registered("eth", 67, 17), registered("snap", 1, 8), registered("eth", 68, 17), registered("aa", 1, 5)];
    let remote = [("snap", 1), ("eth", 69), ("eth", 68), ("eth", 67), ("zz", 9)].map(|(n, v)| capability(n, v));
    let mut session = Session::new(hello(5, remote.to_vec()), &own, SessionSettings::default(), Instant::now());
    let shown: Vec<String> = session.shared().iter().map(|shared| shared.capability.to_string()).collect();
    assert_eq!(shown, ["eth/68", "snap/1"], "R2");
    assert_eq!(delivered(&mut session, 0x10), Some((capability("eth", 68), 0)), "R2 R6");
    assert_eq!(delivered(&mut session, 0x20), Some((capability("eth", 68), 16)), "R2 R6");
    assert_eq!(delivered(&mut session, 0x21), Some((capability("snap", 1), 0)), "R2 R6");
    assert_eq!(delivered(&mut session, 0x29), None, "R5 H56");
}

#[test]
fn an_id_past_the_last_range_breaks_the_protocol() {
    let now = Instant::now();
    for (protocols, id) in
        [(vec![registered("a", 1, 3)], 0x13), (vec![], 0x10), (vec![registered("a", 1, 3)], u64::MAX)]
    {
        let error = session(5, &protocols, now).receive(frame(&id_bytes(id), &[]), now).unwrap_err();
        assert_eq!(error, SessionError::UnknownMessageId { id }, "R5 H56");
        assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "R5 H56");
        assert!(error.to_string().contains(&format!("{id:#x}")), "R5: {error}");
    }
}

#[test]
fn a_protocol_has_as_many_codes_as_its_length() {
    let own = [registered("a", 1, 3), registered("b", 1, 2)];
    let session = session(5, &own, Instant::now());
    let ids: Vec<_> = (0..4).map(|code| session.shared()[0].message_id(code).map(MessageId::value)).collect();
    assert_eq!(ids, [Some(0x10), Some(0x11), Some(0x12), None], "R2 R6: 0x13 is the other protocol's");
    assert_eq!(session.shared()[1].message_id(1), Some(MessageId::new(0x14)), "R2 R6");
    assert_eq!(session.shared()[1].message_id(u64::MAX), None, "R6");
}

#[test]
fn the_last_id_of_all_can_be_used() {
    let now = Instant::now();
    let all = [registered("a", 1, u64::MAX - 16)];
    assert_eq!(Registered::check(&all), Ok(()), "R3");
    let mut session = session(5, &all, now);
    assert_eq!(delivered(&mut session, u64::MAX - 1), Some((capability("a", 1), u64::MAX - 17)), "R2");
    assert_eq!(delivered(&mut session, u64::MAX), None, "R5");
}

#[test]
fn ids_are_found_on_both_sides_of_the_table() {
    let now = Instant::now();
    for lengths in
        [[1, 1023, 1, 1], [1, 1022, 1, 2], [1024, 1, 1, 1], [1000, 23, 2, u64::MAX - 2000], [1 << 40, 1, 2, 3]]
    {
        let names = ["a", "b", "c", "d"];
        let own: Vec<_> = names.iter().zip(lengths).map(|(name, length)| registered(name, 1, length)).collect();
        assert_eq!(Registered::check(&own), Ok(()));
        let mut session = session(5, &own, now);
        let mut offset = 16;
        for (name, length) in names.iter().zip(lengths) {
            for code in [0, 1, length / 2, length - 1].into_iter().filter(|code| *code < length) {
                let expected = Some((capability(name, 1), code));
                assert_eq!(delivered(&mut session, offset + code), expected, "R2 R6: {lengths:?}");
            }
            offset += length;
        }
        assert_eq!(delivered(&mut session, offset), None, "R5: {lengths:?}");
    }
}

#[test]
fn protocols_that_cannot_be_offered_together_are_refused() {
    let (eth, snap) = (registered("eth", 68, 17), registered("snap", 1, 8));
    assert_eq!(Registered::check([]), Ok(()), "R3");
    assert_eq!(Registered::check([&eth, &snap, &registered("eth", 67, 17)]), Ok(()), "R3: two versions");
    let twice = Registered::check([&eth, &snap, &registered("eth", 68, 9)]);
    assert_eq!(twice, Err(RegistrationError::Duplicate(capability("eth", 68))), "R3: whatever its length");
    let empty = Registered::check([&eth, &registered("none", 1, 0)]);
    assert_eq!(empty, Err(RegistrationError::NoCodes(capability("none", 1))), "R3");
    for lengths in [[u64::MAX - 15, 1], [u64::MAX - 17, 2], [u64::MAX, u64::MAX], [1 << 63, 1 << 63]] {
        let both = [registered("a", 1, lengths[0]), registered("b", 1, lengths[1])];
        assert_eq!(Registered::check(&both), Err(RegistrationError::TooManyCodes), "R3: {lengths:?}");
    }
}

#[test]
fn names_are_one_to_eight_ascii_characters() {
    for name in ["a", "eth", "12345678", "~!-_/:"] {
        assert_eq!(Capability::new(name, 1).map(|capability| capability.to_string()), Ok(format!("{name}/1")), "R3");
    }
    for name in ["", "123456789", "ä", "eth\n", "a b", "\0", "\u{7f}", "\u{202e}"] {
        assert_eq!(Capability::new(name, 1), Err(InvalidCapability { name: name.into() }), "R3: {name:?}");
    }
}

#[test]
fn nothing_shared_makes_a_useless_peer() {
    let own = [registered("eth", 68, 17)];
    for remote in [vec![], vec![capability("eth", 67)], vec![capability("Eth", 68)], vec![foreign(b"eth\0", 68)]] {
        let session = Session::new(hello(5, remote), &own, SessionSettings::default(), Instant::now());
        assert!(session.shared().is_empty(), "R3 H53");
    }
    let reason = SessionError::NoSharedCapability.disconnect_reason();
    assert_eq!(reason, Some(DisconnectReason::UselessPeer), "R3 H53");
}

/// A Hello of node 1 with this RLP as its list of capabilities.
fn decode(capabilities: &[u8]) -> Result<Hello, HelloError> {
    let mut stream = RlpStream::new_list(5);
    stream.append(&5u64).append(&"x").append_raw(capabilities, 1).append(&0u64);
    stream.append(&&key(1).public_key().to_bytes()[..]);
    let data = stream.out();
    assert!(data.len() <= MAX_BASE_MESSAGE_SIZE);
    Hello::decode(&data, &key(2).public_key(), &key(1).public_key())
}

fn list(capabilities: &[(&[u8], u64)]) -> Vec<u8> {
    let mut stream = RlpStream::new_list(capabilities.len());
    for (name, version) in capabilities {
        stream.begin_list(2).append(name).append(version);
    }
    stream.out().to_vec()
}

#[test]
fn odd_capabilities_in_a_hello_get_the_ids_that_geth_gives() {
    let own = [registered("b", u64::MAX, 3), registered("a", 1, 5), registered("a", 2, 7)];
    let long = [b'n'; 1000];
    let offers: [Vec<(&[u8], u64)>; 7] = [
        vec![(b"b", u64::MAX), (b"a", 2), (b"a", 1)],
        vec![(b"a", 1), (b"a", 1), (b"a", 1), (b"b", u64::MAX), (b"b", u64::MAX)],
        vec![(b"", 0), (b"", 1), (b"a", 1)],
        vec![(&long, 1), (b"b", u64::MAX)],
        vec![(b"\xff\xfe", 1), ("ä".as_bytes(), 1), (b"a\n", 1), (b"a", 2), (b"\xff\xfe", 1)],
        vec![(b"a", u64::MAX), (b"a", 0), (b"a", 3)],
        vec![(b"", 0); 640],
    ];
    for offer in offers {
        let hello = decode(&list(&offer)).unwrap();
        assert_eq!(hello.capabilities.len(), offer.len(), "H54");
        assert_as_geth(&own, &hello.capabilities);
    }
}

#[test]
fn malformed_capabilities_break_the_protocol() {
    let lists: [(&str, &[u8]); 6] = [
        ("no list", &[0x83, 1, 2, 3]),
        ("an element that is no list", &[0xc1, 0x05]),
        ("an empty element", &[0xc1, 0xc0]),
        ("no version", &[0xc4, 0xc3, 0x82, b'a', b'b']),
        ("a list as the name", &[0xc4, 0xc3, 0xc1, 0x05, 0x01]),
        ("a version of 9 bytes", &[0xcc, 0xcb, b'a', 0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (what, capabilities) in lists {
        let error = SessionError::from(decode(capabilities).expect_err(what));
        assert!(matches!(error, SessionError::Hello(HelloError::Malformed(_))), "H54: {what}");
        assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "H54: {what}");
    }
}
