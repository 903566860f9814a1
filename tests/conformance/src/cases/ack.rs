//! `rlpx/ack`: what the node makes of the answer to its auth, when it dials the suite.

mod hello;
mod refused;
mod time;

use std::time::Duration;

use super::handshake::{EIP_8, HANDSHAKE, HARDENING, LIMIT, pieces, works};
use super::steps::{goes_on, their_hello};
use crate::case::{Case, Role, case};
use crate::model::handshake::{OVERHEAD, Rest};
use crate::node;
use crate::outcome::Stop;
use crate::visit::Visit;

/// Enough for a message in many pieces, on a machine that has other things to do.
const SLOW: Duration = Duration::from_secs(30);

/// The size of the list in an ack of version 4, in bytes.
const LIST_SIZE: usize = 102;

pub(super) fn cases() -> Vec<Case> {
    let cases = [accepted_cases(), form_cases(), refused::cases(), time::cases(), hello::cases()].concat();
    cases.into_iter().map(|case| Case { role: Role::Listens, ..case }).collect()
}

fn accepted_cases() -> Vec<Case> {
    let cases = [
        case!(
            "rlpx/ack/honest",
            Must,
            HANDSHAKE,
            [],
            "is dialled, and answers with an ack of version 4 with 150 bytes of padding",
            "sends an auth that can be read, and a frame of either end arrives",
            |visit| accepted(visit, |_| ())
        ),
        case!(
            "rlpx/ack/version-99",
            Must,
            EIP_8,
            ["H12"],
            "answers with an ack of version 99",
            "takes it as any other",
            |visit| accepted(visit, |rest| rest.items = vec![99])
        ),
        case!(
            "rlpx/ack/version-of-8-bytes",
            Should,
            EIP_8,
            ["H12"],
            "answers with an ack of version 2^64 - 1",
            "takes it as any other",
            |visit| accepted(visit, |rest| rest.items = [&[0x88][..], &[0xff; 8]].concat())
        ),
        case!(
            "rlpx/ack/more-elements",
            Must,
            EIP_8,
            ["H12"],
            "answers with an ack with a list and two strings behind the version",
            "takes it as any other",
            |visit| accepted(visit, |rest| rest.items = vec![4, 0xc2, 4, 5, 0x80, 0x83, b'x', b'y', b'z'])
        ),
        case!(
            "rlpx/ack/padding-none",
            May,
            EIP_8,
            ["H12"],
            "answers with an ack without padding",
            "takes it as any other",
            |visit| accepted(visit, |rest| rest.padding = 0)
        ),
        case!(
            "rlpx/ack/padding-300",
            Must,
            EIP_8,
            ["H12"],
            "answers with an ack with 300 bytes of padding, the most that is recommended",
            "takes it as any other",
            |visit| accepted(visit, |rest| rest.padding = 300)
        ),
        case!(
            "rlpx/ack/padding-to-2-kib",
            Should,
            EIP_8,
            ["H12"],
            "answers with an ack that padding makes 2,048 bytes long",
            "takes it as any other",
            |visit| accepted(visit, |rest| rest.padding = LIMIT - OVERHEAD - LIST_SIZE)
        ),
    ];
    cases.to_vec()
}

fn form_cases() -> Vec<Case> {
    let cases = [
        case!(
            "rlpx/ack/in-pieces",
            Must,
            HANDSHAKE,
            ["H29"],
            "answers with an ack that is cut within and after each of its parts",
            "takes it as a whole one",
            |visit| in_pieces(visit, pieces),
            deadline: SLOW
        ),
        case!(
            "rlpx/ack/byte-by-byte",
            Must,
            HANDSHAKE,
            ["H29"],
            "answers with an ack with each byte in a segment of its own",
            "takes it as a whole one",
            |visit| in_pieces(visit, |ack| ack.chunks(1).collect()),
            deadline: SLOW
        ),
        case!(
            "rlpx/ack/with-hello",
            Must,
            HANDSHAKE,
            ["H29"],
            "sends the ack and the frame with the Hello at once",
            "takes both",
            with_hello
        ),
        case!(
            "rlpx/ack/auth-identity",
            Must,
            HANDSHAKE,
            [],
            "is dialled, and reads the auth",
            "has named its own public key, as it is in its enode",
            auth_identity
        ),
        case!(
            "rlpx/ack/auth-padding",
            May,
            EIP_8,
            [],
            "is dialled, and reads the auth",
            "has padded it with 100 bytes or more, so that it is longer than one of the form before EIP-8",
            auth_padding
        ),
        case!(
            "rlpx/ack/auth-limit",
            Should,
            HARDENING,
            ["H4"],
            "is dialled, and reads the auth",
            "has not made it longer than 2,048 bytes, which others refuse",
            auth_limit
        ),
    ];
    cases.to_vec()
}

/// An ack with this end leads to a connection.
async fn accepted(visit: &Visit, change: impl FnOnce(&mut Rest)) -> Result<(), Stop> {
    let dialled = visit.accept()?;
    let changed = dialled.answer(|mut ack| {
        change(&mut ack.rest);
        ack
    });
    works(&mut changed.await?, &visit.node).await
}

async fn in_pieces(visit: &Visit, cut: impl for<'a> FnOnce(&'a [u8]) -> Vec<&'a [u8]>) -> Result<(), Stop> {
    let dialled = visit.accept()?;
    let (ack, connection) = dialled.ack(|ack| ack)?;
    let mut script = dialled.script;
    script.send_pieces("ack in pieces", &cut(&ack)).await;
    script.encrypt(connection);
    works(&mut script, &visit.node).await
}

async fn with_hello(visit: &Visit) -> Result<(), Stop> {
    let dialled = visit.accept()?;
    let (ack, mut connection) = dialled.ack(|ack| ack)?;
    let mut script = dialled.script;
    let own = visit.node.mirror(&script.identity.public_key());
    let frame = connection.egress.seal(&script.content(0, &own.encode()));
    script.send_raw("ack and Hello", &[ack, frame].concat()).await;
    script.encrypt(connection);
    their_hello(&mut script, node::STEP).await?;
    script.set_compressed(visit.node.hello.version >= 5);
    goes_on(&mut script).await
}

async fn auth_identity(visit: &Visit) -> Result<(), Stop> {
    let dialled = visit.accept()?;
    match dialled.read()?.public_key == visit.key() {
        true => Ok(()),
        false => Err(Stop::failed("the auth names another public key than the node's enode")),
    }
}

async fn auth_padding(visit: &Visit) -> Result<(), Stop> {
    let padding = visit.accept()?.read()?.padding;
    if padding >= 100 { Ok(()) } else { Err(Stop::failed(format!("the auth has {padding} bytes of padding"))) }
}

async fn auth_limit(visit: &Visit) -> Result<(), Stop> {
    let size = visit.accept()?.auth.len() - 2;
    if size <= LIMIT { Ok(()) } else { Err(Stop::failed(format!("the auth has {size} bytes"))) }
}
