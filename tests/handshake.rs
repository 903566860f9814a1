//! Handshakes with peers that break the rules, and with those that only look as if they did.

#[allow(dead_code, reason = "each test takes what it needs")]
mod common;

use bytes::BytesMut;
use capmux::rlpx::{Established, HandshakeError, Initiator, MAX_HANDSHAKE_SIZE, Recipient, Step};
use capmux_conformance::model::Node;
use capmux_conformance::model::handshake::{
    Ack, Auth, OVERHEAD as ECIES_OVERHEAD, Rest, point as uncompressed, public, seal, seal_with, secret,
};
use common::{assert_connected, content, done, initiator, key, more, pair, recipient};

/// What node 2 makes of this `auth`.
fn to_recipient(message: &[u8]) -> Result<Step<Recipient, (Vec<u8>, Established)>, HandshakeError> {
    recipient().receive(&mut &message[..])
}

/// What node 1, which has sent its `auth` to node 2, makes of this `ack`.
fn to_initiator(message: &[u8]) -> Result<Step<Initiator, Established>, HandshakeError> {
    initiator().0.receive(&mut &message[..])
}

/// Both roles refuse this message for the same reason; `sealed_for` makes it for the given key.
#[track_caller]
fn both_refuse(row: &str, sealed_for: impl Fn(&[u8; 64]) -> Vec<u8>, expected: &HandshakeError) {
    let auth = sealed_for(&public(&secret(2)));
    assert_eq!(to_recipient(&auth).err().as_ref(), Some(expected), "{row}: auth");
    let ack = sealed_for(&public(&secret(1)));
    assert_eq!(to_initiator(&ack).err().as_ref(), Some(expected), "{row}: ack");
}

fn auth() -> Auth {
    Node::new(1).auth(&key(2).public_key().to_bytes())
}

/// `auth` leads to a connection on which a frame of either end arrives.
fn accepted(row: &str, auth: &Auth) {
    let sealed = auth.seal();
    let (ack, mut established) = done(to_recipient(&sealed).expect(row));
    assert_eq!(established.remote, key(1).public_key(), "{row}");
    let mut model = Node::new(1).read_ack(sealed, ack).expect(row);
    assert_connected(row, &mut established, &mut model);
}

#[test]
fn sizes_below_the_overhead_are_refused_at_the_size() {
    for size in 0..=200usize {
        let prefix = (size as u16).to_be_bytes();
        let (auth, ack) = (to_recipient(&prefix), to_initiator(&prefix));
        if size < ECIES_OVERHEAD {
            assert_eq!(auth.err(), Some(HandshakeError::TooShort { size }), "H3: no byte of the point is needed");
            assert_eq!(ack.err(), Some(HandshakeError::TooShort { size }), "H3: no byte of the point is needed");
            continue;
        }
        let (at_recipient, at_initiator) = (more(auth.unwrap()), more(ack.unwrap()));
        assert_eq!((at_recipient.wants(), at_initiator.wants()), (size, size), "H3");
        let zeros = vec![0; size];
        assert_eq!(at_recipient.receive(&mut &zeros[..]).err(), Some(HandshakeError::InvalidPoint), "H3");
        assert_eq!(at_initiator.receive(&mut &zeros[..]).err(), Some(HandshakeError::InvalidPoint), "H3");
    }
}

#[test]
fn sizes_above_the_limit_are_refused_at_the_size() {
    for size in MAX_HANDSHAKE_SIZE + 1..=usize::from(u16::MAX) {
        let prefix = (size as u16).to_be_bytes();
        assert_eq!(to_recipient(&prefix).err(), Some(HandshakeError::TooLong { size }), "H4");
    }
    for size in [2049, 2050, 4096, 0x7fff, 0x8000, 65535] {
        let prefix = (size as u16).to_be_bytes();
        assert_eq!(to_initiator(&prefix).err(), Some(HandshakeError::TooLong { size }), "H4 H17: too large an ack");
    }
    let largest = (MAX_HANDSHAKE_SIZE as u16).to_be_bytes();
    assert_eq!(more(to_recipient(&largest).unwrap()).wants(), MAX_HANDSHAKE_SIZE, "H4: the limit itself is accepted");
    assert_eq!(more(to_initiator(&largest).unwrap()).wants(), MAX_HANDSHAKE_SIZE, "H4: the limit itself is accepted");
}

fn coordinates(x: &str, y: &str) -> [u8; 64] {
    let mut bytes = [0; 64];
    hex::decode_to_slice(format!("{x:0>64}{y:0>64}"), &mut bytes).expect("two coordinates");
    bytes
}

/// Points that are not on secp256k1. The small ones lie on a curve of the same form with another constant, where the
/// order of a point can be 2, 3 or 6: multiplied with a key, they would give it away bit by bit.
fn bad_points() -> Vec<(&'static str, [u8; 64])> {
    const P: &str = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f";
    const P_PLUS_1: &str = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc30";
    let all_ones = "f".repeat(64);
    vec![
        ("H5: zero", coordinates("0", "0")),
        ("H5: off the curve", coordinates("1", "1")),
        ("H5 R34: of order 2, y^2 = x^3 - 1", coordinates("1", "0")),
        ("H5 R34: of order 3, y^2 = x^3 + 1", coordinates("0", "1")),
        ("H5 R34: of order 6, y^2 = x^3 + 1", coordinates("2", "3")),
        ("H5: on the twist, for no point has x = 5", coordinates("5", "1")),
        ("H6: x >= p", coordinates(P_PLUS_1, Y_OF_1)),
        ("H6: y >= p", coordinates(X_OF_Y_1, P_PLUS_1)),
        ("H6: zero as p", coordinates(P, P)),
        ("H6: all ones", coordinates(&all_ones, &all_ones)),
    ]
}

const Y_OF_1: &str = "4218f20ae6c646b363db68605822fb14264ca8d2587fdd6fbc750d587e76a7ee";
const X_OF_Y_1: &str = "1fe1e5ef3fceb5c135ab7741333ce5a6e80d68167653f6b2b24bcbcfaaaff507";

#[test]
fn points_off_the_curve_are_refused_before_the_tag_is_looked_at() {
    // H9: the right tag for a secret that the sender has chosen gets a bad point no further, and no other way of
    // failing than a wrong tag has: an error, and nothing to send.
    for (row, point) in bad_points() {
        let message = seal_with(&uncompressed(4, &point), &[7; 32], &content(200));
        both_refuse(row, |_| message.clone(), &HandshakeError::InvalidPoint);
    }
    let good = public(&secret(9));
    for prefix in (0..=255).filter(|prefix| *prefix != 4) {
        let message = seal_with(&uncompressed(prefix, &good), &[7; 32], &content(200));
        both_refuse("H5: not the uncompressed form", |_| message.clone(), &HandshakeError::InvalidPoint);
    }
    for (x, y) in [("1", Y_OF_1), (X_OF_Y_1, "1")] {
        let message = seal_with(&uncompressed(4, &coordinates(x, y)), &[7; 32], &content(200));
        both_refuse("H9 H6: the same points, reduced", |_| message.clone(), &HandshakeError::Authentication);
    }
}

/// Whether a handshake gets through with what came, and zeros as long as it wants more.
fn completes<S, D>(
    mut step: Result<Step<S, D>, HandshakeError>,
    receive: impl Fn(S, &[u8]) -> Result<Step<S, D>, HandshakeError>,
) -> bool {
    for _ in 0..4 {
        match step {
            Ok(Step::Done(_)) => return true,
            Ok(Step::More(state)) => step = receive(state, &[0; MAX_HANDSHAKE_SIZE]),
            Err(_) => return false,
        }
    }
    panic!("the handshake wants more bytes than its limit")
}

#[test]
fn any_changed_byte_ends_the_handshake() {
    let (_, auth) = initiator();
    let (ack, _) = done(to_recipient(&auth).unwrap());
    for mask in [0x01, 0x80, 0xff] {
        for position in 0..auth.len() {
            let mut changed = auth.clone();
            changed[position] ^= mask;
            let through = completes(to_recipient(&changed), |state, mut zeros| state.receive(&mut zeros));
            assert!(!through, "H8 R33: byte {position} of auth ^ {mask:#x}");
        }
    }
    for position in 0..ack.len() {
        let mut changed = ack.clone();
        changed[position] ^= 1 << (position % 8);
        let through = completes(to_initiator(&changed), |state, mut zeros| state.receive(&mut zeros));
        assert!(!through, "H8 R33: byte {position} of ack");
    }
    assert!(to_recipient(&auth).is_ok() && to_initiator(&ack).is_ok(), "unchanged they are accepted");
}

/// As many lists in one another as this many bytes hold.
fn nested_lists(room: usize) -> Vec<u8> {
    let mut lists = vec![0xc0];
    loop {
        let mut outer = match lists.len() {
            length @ 0..=55 => vec![0xc0 + length as u8],
            length @ 56..=255 => vec![0xf8, length as u8],
            length => vec![0xf9, (length >> 8) as u8, length as u8],
        };
        outer.append(&mut lists);
        lists = outer;
        if lists.len() + 3 > room {
            return lists;
        }
    }
}

#[test]
fn bodies_that_are_not_the_list_they_should_be_are_refused() {
    let list = |items: &[&[u8]]| {
        let payload = items.concat();
        [&[0xf9, (payload.len() >> 8) as u8, payload.len() as u8][..], &payload].concat()
    };
    let string = |length: usize| [&[0xb8, length as u8][..], &vec![1; length]].concat();
    let bodies = [
        ("nothing", vec![]),
        ("a string", string(60)),
        ("an integer", vec![4]),
        ("an empty list", vec![0xc0]),
        ("a list that is cut off", vec![0xf8, 0xff, 0x01]),
        ("a length that is cut off", vec![0xfb, 0xff]),
        ("a length of 2^64 - 1", vec![0xff; 60]),
        ("nested lists", nested_lists(MAX_HANDSHAKE_SIZE - ECIES_OVERHEAD)),
        ("open lists without an end", vec![0xc1; 1900]),
        ("a list as the first element", list(&[&[0xc1, 0xc0], &string(64), &string(32), &[4]])),
        ("elements of a wrong length", list(&[&string(66), &string(63), &string(33), &[4]])),
        ("an item longer than the list", list(&[&[0xb8, 0x40, 1, 2, 3]])),
    ];
    for (what, body) in bodies {
        let step = to_recipient(&seal(&public(&secret(2)), &body));
        assert!(matches!(step, Err(HandshakeError::Body(_))), "H10: {what} as auth");
        let step = to_initiator(&seal(&public(&secret(1)), &body));
        assert!(matches!(step, Err(HandshakeError::Body(_))), "H10: {what} as ack");
    }
}

#[test]
fn fields_of_a_wrong_form_are_refused() {
    type Change = (&'static str, fn(&mut Vec<u8>, &mut Rest));
    let changes: [Change; 5] = [
        ("a nonce of 31 bytes", |nonce, _| nonce.truncate(31)),
        ("a nonce of 33 bytes", |nonce, _| nonce.push(1)),
        ("no version", |_, rest| rest.items.clear()),
        ("a list as the version", |_, rest| rest.items = vec![0xc1, 4]),
        ("a version of 9 bytes", |_, rest| rest.items = vec![0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    ];
    for (what, change) in changes {
        let mut auth = auth();
        change(&mut auth.nonce, &mut auth.rest);
        assert!(matches!(to_recipient(&auth.seal()), Err(HandshakeError::Body(_))), "H10: {what} in auth");

        let (initiator, auth) = initiator();
        let (ack, _) = Node::new(2)
            .answer(auth, |mut ack| {
                change(&mut ack.nonce, &mut ack.rest);
                ack
            })
            .unwrap();
        assert!(matches!(initiator.receive(&mut &ack[..]), Err(HandshakeError::Body(_))), "H10: {what} in ack");
    }
}

#[test]
fn bad_keys_in_the_body_are_refused() {
    for (row, point) in bad_points() {
        let bad = Auth { public_key: point, ..auth() };
        assert_eq!(to_recipient(&bad.seal()).err(), Some(HandshakeError::InvalidKey), "H11 R34, as {row}");

        let (initiator, auth) = initiator();
        let (ack, _) = Node::new(2).answer(auth, |ack| Ack { ephemeral: point, ..ack }).unwrap();
        assert_eq!(initiator.receive(&mut &ack[..]).err(), Some(HandshakeError::InvalidKey), "H17 R34, as {row}");
    }
}

#[test]
fn bad_signatures_are_refused() {
    const N: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let order: Vec<u8> = hex::decode(N).unwrap();
    let refused = |row: &str, change: &dyn Fn(&mut [u8; 65])| {
        let mut auth = auth();
        change(&mut auth.signature);
        assert_eq!(to_recipient(&auth.seal()).err(), Some(HandshakeError::InvalidSignature), "{row}");
    };
    for half in [0..32, 32..64] {
        refused("H11: r or s is 0", &|signature| signature[half.clone()].fill(0));
        refused("H11: r or s is n", &|signature| signature[half.clone()].copy_from_slice(&order));
        refused("H11: r or s is above n", &|signature| signature[half.clone()].fill(0xff));
    }
    for id in 4..=255 {
        refused("H11: a recovery id above 3", &|signature| signature[64] = id);
    }
}

#[test]
fn what_a_later_version_may_add_is_ignored() {
    // The list with its four elements takes 170 bytes, that of an ack fewer.
    let items: [(&str, Vec<u8>, usize); 5] = [
        ("version 99", vec![99], 150),
        ("version 2^64 - 1", [&[0x88][..], &[0xff; 8]].concat(), 0),
        ("three more elements", vec![4, 0xc2, 4, 5, 0x80, 0x83, b'x', b'y', b'z'], 7),
        ("nested lists as one more", [&[4][..], &nested_lists(1000)].concat(), 0),
        ("2 KiB in all", vec![4], MAX_HANDSHAKE_SIZE - ECIES_OVERHEAD - 170),
    ];
    for (what, items, padding) in items {
        let rest = |recipient| {
            let mut rest = Rest::new(recipient);
            (rest.items, rest.padding) = (items.clone(), padding);
            rest
        };
        accepted(&format!("H12 R75: auth with {what}"), &Auth { rest: rest(key(2).public_key().to_bytes()), ..auth() });

        let (initiator, auth) = initiator();
        let change = |ack| Ack { rest: rest(key(1).public_key().to_bytes()), ..ack };
        let (ack, mut model) = Node::new(2).answer(auth, change).unwrap();
        let mut established = done(initiator.receive(&mut &ack[..]).expect(what));
        assert_connected(&format!("H12 R75: ack with {what}"), &mut established, &mut model);
    }
}

/// Feeds `message` in the given pieces, followed by `rest`, and checks what is left of the input.
fn in_pieces<S, D>(
    mut state: S,
    pieces: &[&[u8]],
    wants: impl Fn(&S) -> usize,
    receive: impl Fn(S, &mut &[u8]) -> Result<Step<S, D>, HandshakeError>,
) -> D {
    let total: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut taken = 0;
    for piece in pieces {
        let mut input = *piece;
        let step = receive(state, &mut input).expect("the message is sound");
        assert!(input.is_empty(), "R65: all bytes of the message are taken");
        taken += piece.len();
        state = match step {
            Step::Done(result) => {
                assert_eq!(taken, total, "R65: not complete before the last byte");
                return result;
            }
            Step::More(state) => state,
        };
        assert!((1..=total - taken).contains(&wants(&state)), "R65: what is wanted is never past the message");
    }
    panic!("the message is whole")
}

#[test]
fn a_message_may_come_in_any_pieces() {
    let (_, auth) = initiator();
    let (ack, mut expected) = done(to_recipient(&auth).unwrap());
    let expected_frame = common::seal(&mut expected, b"the same secrets");
    let (mut expected, _) = pair();
    let frame = common::seal(&mut expected, b"the same secrets");
    let single: Vec<&[u8]> = auth.chunks(1).collect();
    let splits = (1..auth.len()).map(|at| vec![&auth[..at], &auth[at..]]).chain([single]);
    for pieces in splits {
        let (answer, mut established) =
            in_pieces(recipient(), &pieces, Recipient::wants, |state, input| state.receive(input));
        assert_eq!(answer, ack, "H29");
        assert_eq!(common::seal(&mut established, b"the same secrets"), expected_frame, "H29");
    }
    let single: Vec<&[u8]> = ack.chunks(1).collect();
    let splits = (1..ack.len()).map(|at| vec![&ack[..at], &ack[at..]]).chain([single]);
    for pieces in splits {
        let mut established = in_pieces(initiator().0, &pieces, Initiator::wants, |state, input| state.receive(input));
        assert_eq!(common::seal(&mut established, b"the same secrets"), frame, "H29");
    }
}

#[test]
fn what_follows_a_message_is_left_for_the_frames() {
    let (initiator, auth) = initiator();
    let (ack, mut at_recipient) = done(to_recipient(&auth).unwrap());
    let frame = common::seal(&mut at_recipient, b"hello");
    let segment = [&ack[..], &frame].concat();
    let mut input = &segment[..];
    let mut at_initiator = done(initiator.receive(&mut input).unwrap());
    assert_eq!(input, frame, "H29: a frame in the segment of the ack");
    let opened = at_initiator.ingress.open(&mut BytesMut::from(input), 100).unwrap();
    assert_eq!(opened.unwrap(), b"hello"[..], "H29");
}
