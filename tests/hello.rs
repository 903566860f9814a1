//! Hello: what is accepted, what is refused and why, and how it is shown.

#[allow(dead_code, reason = "each test takes what it needs")]
mod common;

use bytes::Bytes;
use capmux::p2p::{ClientId, DisconnectReason, Hello, HelloError, MAX_BASE_MESSAGE_SIZE, SessionError, receive_hello};
use common::key;
use common::session::{capability, frame, hello};
use rlp::RlpStream;

/// What node 2 makes of the first message of node 1.
fn receive(content: impl Into<Bytes>) -> Result<Hello, SessionError> {
    receive_hello(content.into(), &key(2).public_key(), &key(1).public_key())
}

/// The data of a Hello with these parts.
fn data(client_id: &[u8], listen_port: u64, node_id: &[u8], more: &[u8]) -> Vec<u8> {
    let mut stream = RlpStream::new();
    stream.begin_unbounded_list().append(&5u64).append(&client_id).begin_list(0).append(&listen_port).append(&node_id);
    stream.append_raw(more, 1).finalize_unbounded_list();
    stream.out().to_vec()
}

fn own_id() -> [u8; 64] {
    key(1).public_key().to_bytes()
}

#[test]
fn a_hello_has_these_bytes() {
    let hello = Hello { listen_port: 30303, ..hello(5, vec![capability("eth", 68), capability("snap", 1)]) };
    let mut expected = hex::decode("f859058474657374cdc58365746844c684736e61700182765fb840").unwrap();
    expected.extend(own_id());
    assert_eq!(hex::encode(hello.encode()), hex::encode(expected));
    assert_eq!(receive(frame(&[0x80], &hello.encode())), Ok(hello), "and is read again");
}

#[test]
fn the_identity_is_the_one_of_the_handshake() {
    let (remote, own, other) = (own_id(), key(2).public_key().to_bytes(), key(3).public_key().to_bytes());
    let mut changed = remote;
    changed[63] ^= 1;
    let cases: [(&str, &[u8], HelloError, DisconnectReason); 8] = [
        ("H41 R36: zero", &[0; 64], HelloError::NullIdentity, DisconnectReason::InvalidIdentity),
        ("H41 R36: empty", &[], HelloError::NullIdentity, DisconnectReason::InvalidIdentity),
        ("R36: 63 bytes", &remote[1..], HelloError::NullIdentity, DisconnectReason::InvalidIdentity),
        ("R36: 65 bytes", &[4; 65], HelloError::NullIdentity, DisconnectReason::InvalidIdentity),
        ("H42 R35: another", &other, HelloError::UnexpectedIdentity, DisconnectReason::UnexpectedIdentity),
        ("H42: a bit away", &changed, HelloError::UnexpectedIdentity, DisconnectReason::UnexpectedIdentity),
        ("H42: no point", &[0xff; 64], HelloError::UnexpectedIdentity, DisconnectReason::UnexpectedIdentity),
        ("H43 R35: our own", &own, HelloError::ConnectedToSelf, DisconnectReason::ConnectedToSelf),
    ];
    for (row, node_id, expected, reason) in cases {
        let error = receive(frame(&[0x80], &data(b"x", 0, node_id, &[]))).unwrap_err();
        assert_eq!(error, SessionError::Hello(expected), "{row}");
        assert_eq!(error.disconnect_reason(), Some(reason), "{row}");
    }
}

#[test]
fn unusual_hellos_are_accepted() {
    let more: [&[u8]; 4] = [&[], &[0x01], &[0x83, b'e', b'n', b'r', 0xc2, 0xc0, 0x80], &[0xff, 0xff, 0xff]];
    for more in more {
        for port in [0, 30303, 65535, 70000, u64::MAX] {
            let hello = receive(frame(&[0x80], &data(b"x", port, &own_id(), more))).expect("H45 R75");
            assert_eq!(hello.listen_port, port, "H45: port {port}, R75: more elements {more:02x?}");
        }
    }
    let trailing = [&data(b"x", 0, &own_id(), &[])[..], b"behind the list"].concat();
    assert!(receive(frame(&[0x80], &trailing)).is_ok(), "R75");
    for version in [0, 3, 4, 5, 6, 99, u64::MAX] {
        let hello = hello(version, vec![]);
        assert_eq!(receive(frame(&[0x80], &hello.encode())), Ok(hello), "R75: version {version}");
    }
}

#[test]
fn a_hello_holds_2_kib_and_no_more() {
    let overhead = data(&[b'x'; 1000], 0, &own_id(), &[]).len() - 1000;
    let largest = data(&vec![b'x'; MAX_BASE_MESSAGE_SIZE - overhead], 0, &own_id(), &[]);
    assert_eq!(largest.len(), 2048);
    let hello = receive(frame(&[0x80], &largest)).expect("H40 R36: the limit itself is accepted");
    assert_eq!(hello.client_id.as_bytes().len(), 2048 - overhead);
    let larger = data(&vec![b'x'; MAX_BASE_MESSAGE_SIZE - overhead + 1], 0, &own_id(), &[]);
    let error = receive(frame(&[0x80], &larger)).unwrap_err();
    assert_eq!(error, SessionError::BaseMessageTooLarge { size: 2049 }, "H40 R36");
    assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "H40");
}

#[test]
fn malformed_hellos_break_the_protocol() {
    let whole = data(b"x", 0, &own_id(), &[]);
    let mut cases: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    cases.extend([vec![0xc0], vec![0x80], vec![0xff; 9], vec![0xc1; 2000], [&[0xf8, 0xff], &whole[2..]].concat()]);
    for case in cases {
        let error = receive(frame(&[0x80], &case)).unwrap_err();
        assert!(matches!(error, SessionError::Hello(HelloError::Malformed(_))), "R36: {case:02x?}: {error:?}");
        assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "R36");
    }
}

#[test]
fn the_first_message_is_hello_or_disconnect() {
    for (id, bytes) in
        [(2, &[0x02][..]), (3, &[0x03]), (4, &[0x04]), (0x0f, &[0x0f]), (0x10, &[0x10]), (0x80, &[0x81, 0x80])]
    {
        let error = receive(frame(bytes, &hello(5, vec![]).encode())).unwrap_err();
        assert_eq!(error, SessionError::ExpectedHello { id }, "R37 H38");
        assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "H38");
    }
    let not_ids: [&[u8]; 8] = [
        &[],
        &[0x00],
        &[0x81],
        &[0x81, 0x05],
        &[0x82, 0x00, 0x80],
        &[0x89, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        &[0xc0],
        &[0xb8, 1],
    ];
    for id in not_ids {
        let error = receive(frame(id, &[])).unwrap_err();
        assert_eq!(error, SessionError::InvalidMessageId, "R37: {id:02x?}");
        assert_eq!(error.disconnect_reason(), Some(DisconnectReason::ProtocolError), "R37");
    }
}

/// Client ids with what is shown of them.
fn odd_client_ids() -> Vec<(&'static str, Vec<u8>, String)> {
    let shown = |text: &str| text.to_owned();
    vec![
        ("an ordinary one", b"Geth/v1.17.10/linux-amd64/go1.26".to_vec(), shown("Geth/v1.17.10/linux-amd64/go1.26")),
        ("quotes", b"it's \"quoted\"".to_vec(), shown("it's \"quoted\"")),
        ("newlines", b"a\r\nINFO forged".to_vec(), shown(r"a\r\nINFO forged")),
        ("terminal escapes", b"\x1b[2J\x1b]0;title\x07".to_vec(), shown(r"\u{1b}[2J\u{1b}]0;title\u{7}")),
        ("C1 controls", "a\u{9b}2J\u{85}".into(), shown(r"a\u{9b}2J\u{85}")),
        ("NUL and DEL", b"\x00\x7f".to_vec(), shown(r"\0\u{7f}")),
        ("bidi override", "a\u{202e}b\u{2066}c\u{200f}".into(), shown(r"a\u{202e}b\u{2066}c\u{200f}")),
        ("line separators", "a\u{2028}b\u{2029}".into(), shown(r"a\u{2028}b\u{2029}")),
        ("nothing to see", "a\u{200b}\u{feff}\u{3164}\u{2060}".into(), shown(r"a\u{200b}\u{feff}\u{3164}\u{2060}")),
        ("backslashes", br"a\n".to_vec(), shown(r"a\\n")),
        (
            "invalid UTF-8",
            b"a\xff\xc0\x80b\xed\xa0\x80".to_vec(),
            shown("a\u{fffd}\u{fffd}\u{fffd}b\u{fffd}\u{fffd}\u{fffd}"),
        ),
        ("64 characters", vec![b'x'; 64], "x".repeat(64)),
        ("65 characters", vec![b'x'; 65], "x".repeat(64) + "…"),
        ("1,900 characters", vec![b'x'; 1900], "x".repeat(64) + "…"),
        ("wide characters", "ü".repeat(70).into_bytes(), "ü".repeat(64) + "…"),
        ("nothing but newlines", vec![b'\n'; 1900], r"\n".repeat(32) + "…"),
        ("an escape at the cut", [&[b'x'; 63][..], b"\n"].concat(), "x".repeat(63) + "…"),
    ]
}

#[test]
fn a_client_id_is_escaped_and_cut_wherever_it_is_shown() {
    for (what, bytes, expected) in odd_client_ids() {
        let hello = receive(frame(&[0x80], &data(&bytes, 0, &own_id(), &[]))).unwrap();
        assert_eq!(hello.client_id.as_bytes(), bytes, "R81 H81: the bytes are kept: {what}");
        assert_eq!(hello.client_id.to_string(), expected, "R81 H81: {what}");
        assert_eq!(format!("{:?}", hello.client_id), format!("\"{expected}\""), "R81 H81: {what}");
        assert!(format!("{hello:?}").contains(&format!("client_id: \"{expected}\"")), "R81 H81: {what}: {hello:?}");
        for shown in [hello.client_id.to_string(), format!("{hello:?}"), format!("{hello:#?}").replace("\n", "")] {
            assert!(
                !shown.contains(|c: char| c.is_control() || (c != '…' && ('\u{200b}'..'\u{2070}').contains(&c))),
                "H81: {what}"
            );
        }
    }
    assert_eq!(format!("{:>6}", ClientId::from("abc")), "   abc", "a width is honoured");
}

#[test]
fn names_of_capabilities_are_escaped_and_cut_as_well() {
    let (long, name) = ([b'n'; 500], "e\u{202e}th\n\x1b".as_bytes());
    let mut stream = RlpStream::new_list(2);
    stream.begin_list(2).append(&name).append(&7u64);
    stream.begin_list(2).append(&&long[..]).append(&7u64);
    let mut hello = RlpStream::new_list(5);
    hello.append(&5u64).append(&"x").append_raw(&stream.out(), 1).append(&0u64).append(&&own_id()[..]);
    let hello = receive(frame(&[0x80], &hello.out())).unwrap();
    for shown in [format!("{hello:?}"), format!("{:?}", hello.capabilities)] {
        assert!(shown.contains(r"e\u{202e}th\n\u{1b}/7"), "R81 H54: {shown}");
        assert!(shown.contains(&("n".repeat(64) + "…/7")) && !shown.contains(&"n".repeat(65)), "R81 H54: {shown}");
    }
}
