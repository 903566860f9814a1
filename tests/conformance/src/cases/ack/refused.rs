//! Acks that are wrong.

use super::super::handshake::{
    BadPoint, ECIES, HANDSHAKE, HARDENING, IV, LIMIT, OFF_CURVE, ORDER_2, ORDER_3, ORDER_6, POINT, TWIST, X_ABOVE_P,
    Y_ABOVE_P, ZERO, bad_bodies, changed, ended, silent, tag, unanswered,
};
use super::LIST_SIZE;
use crate::case::{Case, case};
use crate::dialled::Dialled;
use crate::model::frames::Connection;
use crate::model::handshake::{Ack, OVERHEAD, Rest, agree, point, public, seal, seal_with, secret};
use crate::outcome::Stop;
use crate::visit::Visit;

/// A case in which the node is to give no answer.
macro_rules! refused {
    ($name:literal, $level:ident, $section:expr, [$($row:literal),*], $does:literal, $make:expr) => {
        case!($name, $level, $section, [$($row),*], $does, "gives no answer", |visit| {
            refused(visit, $make)
        })
    };
}

pub(super) fn cases() -> Vec<Case> {
    [point_cases(), key_cases(), changed_cases(), body_cases(), identity_cases()].concat()
}

fn point_cases() -> Vec<Case> {
    let cases = [
        refused!(
            "rlpx/ack/point-zero",
            Must,
            ECIES,
            ["H5"],
            "answers with an ack whose ephemeral point is (0, 0), with the tag for the secret 0",
            |ack| bad_point(&ack, &ZERO)
        ),
        refused!(
            "rlpx/ack/point-off-curve",
            Must,
            ECIES,
            ["H5"],
            "answers with an ack whose ephemeral point is not on the curve",
            |ack| bad_point(&ack, &OFF_CURVE)
        ),
        refused!(
            "rlpx/ack/point-order-2",
            Must,
            ECIES,
            ["H5"],
            "answers with an ack with a point of order 2 on another curve, with the tag for one of two secrets",
            |ack| bad_point(&ack, &ORDER_2)
        ),
        refused!(
            "rlpx/ack/point-order-3",
            Must,
            ECIES,
            ["H5"],
            "answers with an ack with a point of order 3 on another curve, with the tag for the secret it can lead to",
            |ack| bad_point(&ack, &ORDER_3)
        ),
        refused!(
            "rlpx/ack/point-on-twist",
            Must,
            ECIES,
            ["H5"],
            "answers with an ack whose ephemeral point has an x that no point of the curve has",
            |ack| bad_point(&ack, &TWIST)
        ),
        refused!(
            "rlpx/ack/point-above-p",
            Should,
            ECIES,
            ["H6"],
            "answers with an ack whose ephemeral point has an x above p",
            |ack| bad_point(&ack, &X_ABOVE_P)
        ),
        refused!(
            "rlpx/ack/point-first-byte",
            Should,
            ECIES,
            ["H5"],
            "answers with an ack, good otherwise, whose point begins with 6",
            first_byte
        ),
    ];
    cases.to_vec()
}

fn key_cases() -> Vec<Case> {
    let cases = [
        refused!(
            "rlpx/ack/key-zero",
            Must,
            HANDSHAKE,
            ["H17"],
            "answers with an ack in which the recipient's ephemeral key is (0, 0)",
            |ack| with_key(ack, &ZERO)
        ),
        refused!(
            "rlpx/ack/key-off-curve",
            Must,
            HANDSHAKE,
            ["H17"],
            "answers with an ack in which the recipient's ephemeral key is not on the curve",
            |ack| with_key(ack, &OFF_CURVE)
        ),
        refused!(
            "rlpx/ack/key-order-2",
            Must,
            HANDSHAKE,
            ["H17"],
            "answers with an ack in which the recipient's ephemeral key has order 2 on another curve",
            |ack| with_key(ack, &ORDER_2)
        ),
        refused!(
            "rlpx/ack/key-order-3",
            Must,
            HANDSHAKE,
            ["H17"],
            "answers with an ack in which the recipient's ephemeral key has order 3 on another curve",
            |ack| with_key(ack, &ORDER_3)
        ),
        refused!(
            "rlpx/ack/key-order-6",
            Must,
            HANDSHAKE,
            ["H17"],
            "answers with an ack in which the recipient's ephemeral key has order 6 on another curve",
            |ack| with_key(ack, &ORDER_6)
        ),
        refused!(
            "rlpx/ack/key-above-p",
            Should,
            HARDENING,
            ["H17"],
            "answers with an ack in which y of the recipient's ephemeral key is above p",
            |ack| with_key(ack, &Y_ABOVE_P)
        ),
    ];
    cases.to_vec()
}

fn changed_cases() -> Vec<Case> {
    let cases = [
        refused!(
            "rlpx/ack/changed-size",
            Must,
            ECIES,
            ["H8"],
            "answers with an ack whose size is one bit off, and as many bytes as it says",
            |ack| changed(&ack.seal(), 1, 1)
        ),
        refused!(
            "rlpx/ack/changed-point",
            Must,
            ECIES,
            ["H8"],
            "answers with an ack in which a bit of the ephemeral point is changed",
            |ack| changed(&ack.seal(), POINT.end - 1, 1)
        ),
        refused!(
            "rlpx/ack/changed-iv",
            Must,
            ECIES,
            ["H8"],
            "answers with an ack in which a bit of the initialisation vector is changed",
            |ack| changed(&ack.seal(), IV.start, 0x80)
        ),
        refused!(
            "rlpx/ack/changed-ciphertext",
            Must,
            ECIES,
            ["H8"],
            "answers with an ack in which a bit of the padding is changed, after its encryption",
            |ack| {
                let ack = ack.seal();
                changed(&ack, tag(&ack) - 1, 1)
            }
        ),
        refused!(
            "rlpx/ack/changed-tag",
            Must,
            ECIES,
            ["H8"],
            "answers with an ack in which the last bit of the tag is changed",
            |ack| {
                let ack = ack.seal();
                changed(&ack, ack.len() - 1, 1)
            }
        ),
        case!(
            "rlpx/ack/size-0",
            Should,
            HARDENING,
            ["H3"],
            "answers with the size 0, and zeros behind it",
            "closes the connection without a byte",
            |visit| closed(visit, |_| vec![0; 400])
        ),
        case!(
            "rlpx/ack/size-112",
            Should,
            HARDENING,
            ["H3"],
            "answers with a message of 112 bytes, one less than ECIES alone takes, and zeros behind it",
            "closes the connection without a byte",
            |visit| closed(visit, |ack| [&[0, 112][..], &ack.seal()[2..114], &[0; 300]].concat())
        ),
        case!(
            "rlpx/ack/size-65535",
            Should,
            HARDENING,
            ["H4", "H17"],
            "answers with 65,535 zeros as a message",
            "closes the connection without a byte",
            |visit| closed(visit, |_| [&[0xff; 2][..], &[0; 0xffff]].concat())
        ),
        refused!(
            "rlpx/ack/padding-above-2-kib",
            May,
            HARDENING,
            ["H4", "H17"],
            "answers with a good ack that padding makes 2,049 bytes long",
            |mut ack| {
                ack.rest.padding = LIMIT + 1 - OVERHEAD - LIST_SIZE;
                ack.seal()
            }
        ),
    ];
    cases.to_vec()
}

fn body_cases() -> Vec<Case> {
    let cases = [
        refused!(
            "rlpx/ack/body-zeros",
            Should,
            HARDENING,
            ["H10"],
            "answers with a well sealed message of zeros",
            |ack| body(&ack, 0)
        ),
        refused!(
            "rlpx/ack/body-string",
            Should,
            HARDENING,
            ["H10"],
            "answers with a well sealed string in place of the list",
            |ack| body(&ack, 1)
        ),
        refused!(
            "rlpx/ack/body-cut-off",
            Should,
            HARDENING,
            ["H10"],
            "answers with a well sealed list that goes on behind the end of the message",
            |ack| body(&ack, 4)
        ),
        refused!(
            "rlpx/ack/body-nested",
            Should,
            HARDENING,
            ["H10"],
            "answers with a well sealed message of lists in one another",
            |ack| body(&ack, 6)
        ),
        refused!(
            "rlpx/ack/nonce-31",
            Should,
            HARDENING,
            ["H10"],
            "answers with an ack whose nonce has 31 bytes",
            |ack| Ack { nonce: vec![1; 31], ..ack }.seal()
        ),
        refused!(
            "rlpx/ack/nonce-33",
            Should,
            HARDENING,
            ["H10"],
            "answers with an ack whose nonce has 33 bytes",
            |ack| Ack { nonce: vec![1; 33], ..ack }.seal()
        ),
        refused!(
            "rlpx/ack/version-none",
            May,
            HARDENING,
            ["H10"],
            "answers with an ack without a version",
            |mut ack| {
                ack.rest.items.clear();
                ack.seal()
            }
        ),
    ];
    cases.to_vec()
}

fn identity_cases() -> Vec<Case> {
    let cases = [
        case!(
            "rlpx/ack/refused-and-closed",
            Should,
            HARDENING,
            ["H8", "H17"],
            "answers with an ack with a wrong tag",
            "closes the connection without a byte, at once or 5 s after its dial",
            |visit| closed(visit, |ack| changed(&ack.seal(), ack.seal().len() - 1, 1))
        ),
        refused!(
            "rlpx/ack/for-another-key",
            Must,
            ECIES,
            ["H17"],
            "answers with an ack that is sealed for another node",
            |ack| Ack { rest: Rest::new(public(&secret(98))), ..ack }.seal()
        ),
        case!(
            "rlpx/ack/reflected",
            Should,
            HARDENING,
            ["H17"],
            "answers with the node's own auth",
            "gives no answer",
            reflected
        ),
        case!(
            "rlpx/ack/impostor",
            Should,
            HANDSHAKE,
            ["H17"],
            "answers as one that has not the dialled key: with an ack of its own, and frames of other secrets",
            "closes the connection",
            impostor
        ),
    ];
    cases.to_vec()
}

/// What is made of an honest ack gets no answer.
async fn refused(visit: &Visit, make: impl FnOnce(Ack) -> Vec<u8>) -> Result<(), Stop> {
    let dialled = visit.accept()?;
    let ack = dialled.honest()?;
    send(dialled, "ack", &make(ack)).await
}

/// What is made of an honest ack has the node close the connection without a byte.
async fn closed(visit: &Visit, make: impl FnOnce(Ack) -> Vec<u8>) -> Result<(), Stop> {
    let mut dialled = visit.accept()?;
    let ack = make(dialled.honest()?);
    dialled.script.send_raw("ack", &ack).await;
    silent(&mut dialled.script, "ack").await
}

async fn send(mut dialled: Dialled, what: &str, message: &[u8]) -> Result<(), Stop> {
    dialled.script.send_raw(what, message).await;
    unanswered(&mut dialled.script, what).await
}

fn bad_point(ack: &Ack, point: &BadPoint) -> Vec<u8> {
    seal_with(&point.bytes, &point.secrets[0].bytes(), &ack.body())
}

fn first_byte(ack: Ack) -> Vec<u8> {
    let agreed = agree(&secret(97), ack.rest.recipient()).expect("the key of a node");
    seal_with(&point(6, &public(&secret(97))), &agreed, &ack.body())
}

fn with_key(ack: Ack, point: &BadPoint) -> Vec<u8> {
    Ack { ephemeral: point.coordinates(), ..ack }.seal()
}

fn body(ack: &Ack, place: usize) -> Vec<u8> {
    seal(ack.rest.recipient(), &bad_bodies()[place].1)
}

async fn reflected(visit: &Visit) -> Result<(), Stop> {
    let dialled = visit.accept()?;
    let auth = dialled.auth.clone();
    send(dialled, "the node's own auth", &auth).await
}

async fn impostor(visit: &Visit) -> Result<(), Stop> {
    let dialled = visit.accept()?;
    let ack = dialled.honest()?.seal();
    let nonce = [7; 32];
    let mut connection = Connection::new(&[7; 32], (&nonce, &dialled.auth), (&nonce, &ack), false);
    let mut script = dialled.script;
    let own = visit.node.mirror(&script.identity.public_key());
    script.send_raw("ack", &ack).await;
    let frame = connection.egress.seal(&script.content(0, &own.encode()));
    script.send_raw("Hello with other secrets", &frame).await;
    ended(&mut script, "the frame of other secrets").await?.expect_closed()
}
