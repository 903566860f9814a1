//! `rlpx/auth`: what the node makes of the first message, when the suite dials.

mod bytes;
mod fields;
mod points;
mod time;

use std::time::Duration;

use rlp::Rlp;
use sha3::{Digest, Keccak256};

use super::handshake::{ECIES, EIP_8, HANDSHAKE, HARDENING, LIMIT, ended, pieces, refusal, silent, unanswered, works};
use crate::case::{Case, case};
use crate::model;
use crate::model::handshake::{Auth, OVERHEAD, Rest, open, public, seal_before_eip_8, secret};
use crate::node;
use crate::outcome::Stop;
use crate::script::Script;
use crate::visit::Visit;

/// The size of the list in an auth of version 4, in bytes.
const LIST_SIZE: usize = 169;

/// Enough for a list of connections of which each takes a while, and for a message in many pieces.
const LIST: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    [accepted_cases(), piece_cases(), points::cases(), bytes::cases(), fields::cases(), time::cases()].concat()
}

fn accepted_cases() -> Vec<Case> {
    let cases = [
        case!(
            "rlpx/auth/honest",
            Must,
            HANDSHAKE,
            [],
            "sends an auth of version 4 with 150 bytes of padding",
            "answers with an ack, and a frame of either end arrives",
            |visit| accepted(visit, |_| ())
        ),
        case!(
            "rlpx/auth/version-99",
            Must,
            EIP_8,
            ["H12"],
            "sends an auth of version 99",
            "takes it as any other",
            |visit| accepted(visit, |rest| rest.items = vec![99])
        ),
        case!(
            "rlpx/auth/version-of-8-bytes",
            Should,
            EIP_8,
            ["H12"],
            "sends an auth of version 2^64 - 1",
            "takes it as any other",
            |visit| accepted(visit, |rest| rest.items = [&[0x88][..], &[0xff; 8]].concat())
        ),
        case!(
            "rlpx/auth/more-elements",
            Must,
            EIP_8,
            ["H12"],
            "sends an auth with a list and two strings behind the version",
            "takes it as any other",
            |visit| accepted(visit, |rest| rest.items = vec![4, 0xc2, 4, 5, 0x80, 0x83, b'x', b'y', b'z'])
        ),
        case!(
            "rlpx/auth/padding-none",
            May,
            EIP_8,
            ["H12"],
            "sends an auth without padding, which is shorter than one of the form before EIP-8",
            "takes it as any other",
            |visit| accepted(visit, |rest| rest.padding = 0)
        ),
        case!(
            "rlpx/auth/padding-300",
            Must,
            EIP_8,
            ["H12"],
            "sends an auth with 300 bytes of padding, the most that is recommended",
            "takes it as any other",
            |visit| accepted(visit, |rest| rest.padding = 300)
        ),
        case!(
            "rlpx/auth/padding-to-2-kib",
            Should,
            EIP_8,
            ["H12"],
            "sends an auth that padding makes 2,048 bytes long",
            "takes it as any other",
            |visit| accepted(visit, |rest| rest.padding = LIMIT - OVERHEAD - LIST_SIZE)
        ),
        refusal!(
            "rlpx/auth/padding-above-2-kib",
            May,
            HARDENING,
            ["H4"],
            "sends a good auth that padding makes 2,049 bytes long",
            "gives no answer",
            above_limit
        ),
    ];
    cases.to_vec()
}

fn piece_cases() -> Vec<Case> {
    let cases = [
        case!(
            "rlpx/auth/in-pieces",
            Must,
            HANDSHAKE,
            ["H29"],
            "sends an auth that is cut within and after each of its parts",
            "answers as to a whole one",
            in_pieces,
            deadline: LIST
        ),
        case!(
            "rlpx/auth/byte-by-byte",
            Must,
            HANDSHAKE,
            ["H29"],
            "sends an auth with each byte in a segment of its own",
            "answers as to a whole one",
            byte_by_byte,
            deadline: LIST
        ),
        case!(
            "rlpx/auth/fresh-secrets",
            Must,
            HANDSHAKE,
            [],
            "sends the same auth on two connections",
            "has another ephemeral key and another nonce in each ack",
            fresh_secrets,
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/own-key",
            Should,
            HARDENING,
            ["H16"],
            "sends an auth in the name of the node itself, with a signature by another key",
            "closes the connection",
            own_key
        ),
        refusal!(
            "rlpx/auth/for-another-key",
            Must,
            ECIES,
            ["H9"],
            "sends an auth that is sealed for another node",
            "gives no answer",
            |visit| refused(visit, "auth", |auth| Auth { rest: Rest::new(public(&secret(98))), ..auth }.seal())
        ),
        refusal!(
            "rlpx/auth/before-eip-8",
            May,
            EIP_8,
            [],
            "sends an auth in the form before EIP-8",
            "gives no answer",
            before_eip_8
        ),
    ];
    cases.to_vec()
}

/// The case that comes after all others, for there are nodes that it stops for good.
pub(super) fn last_cases() -> Vec<Case> {
    vec![refusal!(
        "rlpx/auth/bytes-behind",
        Should,
        HARDENING,
        ["H21"],
        "sends 32 bytes with the auth, and honest frames after the ack",
        "takes the 32 bytes for the header of a frame, and closes the connection",
        bytes_behind,
        alone: true
    )]
}

/// An auth with this end leads to a connection.
async fn accepted(visit: &Visit, change: impl FnOnce(&mut Rest)) -> Result<(), Stop> {
    let mut script = visit.open().await?;
    let mut auth = script.identity.auth(&visit.key());
    change(&mut auth.rest);
    let auth = auth.seal();
    script.send_raw("auth", &auth).await;
    connected(visit, script, auth).await
}

async fn connected(visit: &Visit, mut script: Script, auth: Vec<u8>) -> Result<(), Stop> {
    node::read_ack(&mut script, auth).await.map_err(|seen| Stop::failed(format!("no ack: {seen}")))?;
    works(&mut script, &visit.node).await
}

/// What is made of an honest auth, on a connection of its own, gets no answer.
async fn refused(visit: &Visit, what: &str, make: impl FnOnce(Auth) -> Vec<u8>) -> Result<(), Stop> {
    let mut script = visit.open().await?;
    let message = make(script.identity.auth(&visit.key()));
    script.send_raw(what, &message).await;
    unanswered(&mut script, what).await
}

/// What is made of an honest auth, on a connection of its own, has the node close it without a byte.
async fn closed(visit: &Visit, what: &str, make: impl FnOnce(Auth) -> Vec<u8>) -> Result<(), Stop> {
    let mut script = visit.open().await?;
    let message = make(script.identity.auth(&visit.key()));
    script.send_raw(what, &message).await;
    silent(&mut script, what).await
}

async fn above_limit(visit: &Visit) -> Result<(), Stop> {
    refused(visit, "auth of 2,049 bytes", |mut auth| {
        auth.rest.padding = LIMIT + 1 - OVERHEAD - LIST_SIZE;
        auth.seal()
    })
    .await
}

async fn in_pieces(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.open().await?;
    let auth = script.identity.auth(&visit.key()).seal();
    script.send_pieces("auth in pieces", &pieces(&auth)).await;
    connected(visit, script, auth).await
}

async fn byte_by_byte(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.open().await?;
    let auth = script.identity.auth(&visit.key()).seal();
    let pieces: Vec<_> = auth.chunks(1).collect();
    script.send_pieces("auth byte by byte", &pieces).await;
    connected(visit, script, auth).await
}

async fn bytes_behind(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.open().await?;
    let auth = script.identity.auth(&visit.key()).seal();
    script.send_raw("auth and 32 bytes", &[&auth[..], &[0xee; 32]].concat()).await;
    if node::read_ack(&mut script, auth).await.is_ok() {
        let hello = visit.node.mirror(&script.identity.public_key());
        script.send(&hello.to_string(), 0, &hello.encode()).await;
    }
    ended(&mut script, "the 32 bytes").await?.expect_closed()
}

async fn fresh_secrets(visit: &Visit) -> Result<(), Stop> {
    let identity = model::Node::random().map_err(|error| Stop::unclear(format!("no random numbers: {error}")))?;
    let auth = identity.auth(&visit.key()).seal();
    let mut seen = Vec::new();
    for place in ["the first ack", "the second ack"] {
        let mut script = visit.open().await?;
        script.send_raw("auth", &auth).await;
        let ack = node::ack(&mut script).await.map_err(|ending| Stop::unclear(format!("{place}: {ending}")))?;
        let ack = open(&identity.key, &ack).map_err(|broken| Stop::failed(format!("{place} is {broken}")))?;
        let field = |index| Rlp::new(&ack).val_at::<Vec<u8>>(index);
        match (field(0), field(1)) {
            (Ok(ephemeral), Ok(nonce)) => seen.push((ephemeral, nonce)),
            _ => return Err(Stop::failed(format!("{place} has no key and nonce"))),
        }
    }
    match seen[0].0 == seen[1].0 || seen[0].1 == seen[1].1 {
        true => Err(Stop::failed("both acks have the same ephemeral key or the same nonce")),
        false => Ok(()),
    }
}

async fn own_key(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.open().await?;
    let auth = Auth { public_key: visit.key(), ..script.identity.auth(&visit.key()) };
    script.send_raw("auth in the node's own name", &auth.seal()).await;
    ended(&mut script, "its own key").await?.expect_closed()
}

async fn before_eip_8(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.open().await?;
    let auth = script.identity.auth(&visit.key());
    let ephemeral = Keccak256::digest(public(&script.identity.ephemeral));
    let fields = [&auth.signature[..], &ephemeral, &auth.public_key, &auth.nonce, &[0]];
    let auth = seal_before_eip_8(&visit.key(), &fields.concat());
    script.send_raw("auth before EIP-8", &auth).await;
    unanswered(&mut script, "auth before EIP-8").await
}
