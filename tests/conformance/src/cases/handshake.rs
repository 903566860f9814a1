//! What the cases of both handshake messages share.

use std::time::Duration;

use super::steps::placed;
use crate::ending::Ending;
use crate::model::handshake::OVERHEAD;
use crate::node::{self, Node};
use crate::outcome::Stop;
use crate::script::Script;
use crate::visit::Visit;

pub(super) const HANDSHAKE: &str = "rlpx.md, Initial Handshake";
pub(super) const ECIES: &str = "rlpx.md, ECIES Encryption";
pub(super) const EIP_8: &str = "EIP-8, Specification";
/// For what no text demands.
pub(super) const HARDENING: &str = "hardening; rlpx.md, Initial Handshake";

/// The encryption handshake's limit of 5 s, and some time for the machine.
pub(super) const CLOSED: Duration = Duration::from_secs(8);

/// How long an answer is waited for that should not come. Nothing demands that the connection is closed.
const ANSWERED: Duration = Duration::from_secs(3);

/// The largest message that capmux and go-ethereum read.
pub(super) const LIMIT: usize = 2048;

/// A point that is not on secp256k1, or not in the form of the specification.
pub(super) struct BadPoint {
    /// The first byte, x and y.
    pub(super) bytes: [u8; 65],
    /// The secrets that a node may get which multiplies the point with its key unchecked: x of all that can come out,
    /// where the point is of a small order on another curve.
    pub(super) secrets: &'static [Secret],
}

/// An x coordinate.
#[derive(Clone, Copy)]
pub(super) enum Secret {
    /// This small number.
    Small(u8),
    /// p - 1.
    MinusOne,
}

/// Zero; the product of anything.
pub(super) const ZERO: BadPoint = BadPoint { bytes: small_point(0, 0), secrets: &[Secret::Small(0)] };
/// On y^2 = x^3.
pub(super) const OFF_CURVE: BadPoint = BadPoint { bytes: small_point(1, 1), secrets: &[Secret::Small(1)] };
/// On y^2 = x^3 - 1, where it is its own negative.
pub(super) const ORDER_2: BadPoint =
    BadPoint { bytes: small_point(1, 0), secrets: &[Secret::Small(1), Secret::Small(0)] };
/// On y^2 = x^3 + 1.
pub(super) const ORDER_3: BadPoint = BadPoint { bytes: small_point(0, 1), secrets: &[Secret::Small(0)] };
/// On y^2 = x^3 + 1; its double is (0, 1), thrice it is (-1, 0).
pub(super) const ORDER_6: BadPoint =
    BadPoint { bytes: small_point(2, 3), secrets: &[Secret::Small(2), Secret::Small(0), Secret::MinusOne] };
/// No point has x = 5: what computes with x alone would be on the twist.
pub(super) const TWIST: BadPoint = BadPoint { bytes: small_point(5, 1), secrets: &[Secret::Small(5)] };
/// The point with x = 1, with p added to x.
pub(super) const X_ABOVE_P: BadPoint = BadPoint { bytes: above_p(Coordinate::X), secrets: &[Secret::Small(1)] };
/// The point with y = 1, with p added to y.
pub(super) const Y_ABOVE_P: BadPoint = BadPoint { bytes: above_p(Coordinate::Y), secrets: &[Secret::Small(1)] };
/// Zero, with p added to both.
pub(super) const ZERO_AS_P: BadPoint = BadPoint { bytes: both_p(), secrets: &[Secret::Small(0)] };

impl BadPoint {
    /// Without the first byte.
    pub(super) fn coordinates(&self) -> [u8; 64] {
        std::array::from_fn(|index| self.bytes[index + 1])
    }
}

impl Secret {
    /// In 32 bytes.
    pub(super) fn bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        match self {
            Self::Small(number) => bytes[31] = number,
            Self::MinusOne => {
                bytes = P;
                bytes[31] -= 1;
            }
        }
        bytes
    }
}

const P: [u8; 32] = [
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 254, 255, 255, 252, 47,
];

/// A square root of 8.
const Y_OF_1: [u8; 32] = [
    66, 24, 242, 10, 230, 198, 70, 179, 99, 219, 104, 96, 88, 34, 251, 20, 38, 76, 168, 210, 88, 127, 221, 111, 188,
    117, 13, 88, 126, 118, 167, 238,
];

/// A cube root of -6.
const X_OF_1: [u8; 32] = [
    31, 225, 229, 239, 63, 206, 181, 193, 53, 171, 119, 65, 51, 60, 229, 166, 232, 13, 104, 22, 118, 83, 246, 178, 178,
    75, 203, 207, 170, 175, 245, 7,
];

enum Coordinate {
    X,
    Y,
}

const fn small_point(x: u8, y: u8) -> [u8; 65] {
    let mut bytes = [0; 65];
    (bytes[0], bytes[32], bytes[64]) = (4, x, y);
    bytes
}

const fn above_p(coordinate: Coordinate) -> [u8; 65] {
    let mut one_above_p = P;
    one_above_p[31] += 1;
    match coordinate {
        Coordinate::X => point(&one_above_p, &Y_OF_1),
        Coordinate::Y => point(&X_OF_1, &one_above_p),
    }
}

const fn both_p() -> [u8; 65] {
    point(&P, &P)
}

const fn point(x: &[u8; 32], y: &[u8; 32]) -> [u8; 65] {
    let mut bytes = [4; 65];
    let mut index = 0;
    while index < 32 {
        (bytes[1 + index], bytes[33 + index]) = (x[index], y[index]);
        index += 1;
    }
    bytes
}

/// The parts of a sealed message, by where they begin and end.
pub(super) const SIZE: std::ops::Range<usize> = 0..2;
pub(super) const POINT: std::ops::Range<usize> = 2..67;
pub(super) const IV: std::ops::Range<usize> = 67..83;

/// Where the ciphertext of a sealed message ends and its tag begins.
pub(super) fn tag(message: &[u8]) -> usize {
    message.len() - 32
}

/// The message, cut within and after each of its parts.
pub(super) fn pieces(message: &[u8]) -> Vec<&[u8]> {
    let tag = tag(message);
    let cuts =
        [0, 1, 2, 3, POINT.end - 1, POINT.end, IV.end - 1, IV.end, tag - 1, tag, message.len() - 1, message.len()];
    cuts.windows(2).map(|cut| &message[cut[0]..cut[1]]).collect()
}

/// The message with this byte changed by XOR, and zeros up to the length that its size may claim then, so that a node
/// has no more to wait for.
pub(super) fn changed(message: &[u8], position: usize, mask: u8) -> Vec<u8> {
    let mut changed = message.to_vec();
    changed[position] ^= mask;
    let size = usize::from(u16::from_be_bytes([changed[0], changed[1]]));
    changed.resize(changed.len().max(2 + size), 0);
    changed
}

/// As many lists in one another as this many bytes hold.
pub(super) fn nested_lists(room: usize) -> Vec<u8> {
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

/// Bodies that are not the list that they should be, in well sealed messages. Nodes that read 307 or 210 bytes first, as
/// the form before EIP-8 had it, have them with the padding.
pub(super) fn bad_bodies() -> Vec<(&'static str, Vec<u8>)> {
    let padded = |mut body: Vec<u8>| {
        body.resize(body.len().max(320), 0x5a);
        body
    };
    vec![
        ("nothing but padding of zeros", vec![0; 320]),
        ("a string", padded([&[0xb8, 60][..], &[1; 60]].concat())),
        ("an integer", padded(vec![4])),
        ("an empty list", padded(vec![0xc0])),
        ("a list that is cut off", [&[0xf9, 0x02, 0x00][..], &[0x80; 320]].concat()),
        ("a length of 2^64 - 1", vec![0xff; 320]),
        ("nested lists", nested_lists(LIMIT - OVERHEAD)),
        ("open lists without an end", vec![0xc1; LIMIT - OVERHEAD]),
        ("an item that is longer than its list", padded(vec![0xc5, 0xb8, 0x40, 1, 2, 3])),
    ]
}

/// A case in which the node should refuse what it is sent. A node that is full, or tired of this address, closes the
/// connection unheard, so an honest handshake comes afterwards, once for all connections of the case.
macro_rules! refusal {
    (
        $name:expr, $level:ident, $section:expr, [$($row:literal),*],
        $does:expr, $expects:expr, $run:expr $(, $field:ident: $value:expr)* $(,)?
    ) => {
        $crate::case::case!(
            $name, $level, $section, [$($row),*], $does, $expects,
            |visit| $crate::cases::handshake::heard(visit, $run(visit)) $(, $field: $value)*
        )
    };
}
pub(super) use refusal;

/// The node has refused what it was sent, and takes an honest auth.
pub(super) async fn heard(visit: &Visit, refused: impl Future<Output = Result<(), Stop>>) -> Result<(), Stop> {
    refused.await?;
    visit.handshake().await.map(drop).map_err(|stop| stop.within("an honest auth afterwards"))
}

/// The node gives no answer, whether it closes the connection or leaves it open.
pub(super) async fn unanswered(script: &mut Script, what: &str) -> Result<(), Stop> {
    let ending = script.ending(ANSWERED).await.map_err(|stop| stop.within(what))?;
    match ending.bytes {
        0 => Ok(()),
        _ => Err(Stop::failed(format!("{what}: {ending}"))),
    }
}

/// The node closes the connection without a byte.
pub(super) async fn silent(script: &mut Script, what: &str) -> Result<(), Stop> {
    ended(script, what).await?.expect_silent().map_err(|stop| stop.within(what))
}

/// How the node ends the connection.
pub(super) async fn ended(script: &mut Script, what: &str) -> Result<Ending, Stop> {
    script.ending(CLOSED).await.map_err(|stop| stop.within(what))
}

/// The node's Hello arrives, ours is taken, and a Ping is answered.
pub(super) async fn works(script: &mut Script, node: &Node) -> Result<(), Stop> {
    let own = node.mirror(&script.identity.public_key());
    let worked = match node::greet(script, &own).await {
        Ok(_) => script.ping().await,
        Err(stop) => Err(stop),
    };
    placed(script, worked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::handshake::{agree, secret};

    #[test]
    fn bad_points_are_none_and_those_above_p_would_be_good_if_reduced() {
        for bad in [&ZERO, &OFF_CURVE, &ORDER_2, &ORDER_3, &ORDER_6, &TWIST, &X_ABOVE_P, &Y_ABOVE_P, &ZERO_AS_P] {
            assert!(agree(&secret(1), &bad.coordinates()).is_err(), "{:02x?}", bad.bytes);
        }
        let mut one = [0; 32];
        one[31] = 1;
        for good in [point(&one, &Y_OF_1), point(&X_OF_1, &one)] {
            let coordinates = std::array::from_fn(|index| good[index + 1]);
            assert!(agree(&secret(1), &coordinates).is_ok());
        }
    }

    #[test]
    fn a_changed_message_has_the_length_that_it_claims() {
        let message = [&[0, 20][..], &[9; 20]].concat();
        for position in 0..message.len() {
            let changed = changed(&message, position, 0x01);
            assert!(changed.len() >= 2 + usize::from(u16::from_be_bytes([changed[0], changed[1]])));
            assert_eq!(changed[position], message[position] ^ 1);
        }
    }
}
