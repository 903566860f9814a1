//! `p2p/hello` where the node has dialled.

use super::super::handshake::{CLOSED, ended};
use crate::case::{Case, case};
use crate::hello::RawHello;
use crate::incoming::Incoming;
use crate::model::handshake::{public, secret};
use crate::node;
use crate::outcome::Stop;
use crate::visit::Visit;

const HELLO: &str = "rlpx.md, Hello (0x00)";
const DISCONNECT: &str = "rlpx.md, Disconnect (0x01)";

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case!(
            "p2p/hello/dialler-says-it",
            Must,
            HELLO,
            [],
            "is dialled, answers with an ack, and says nothing more",
            "says its Hello, with its own public key as the id",
            says_it
        ),
        case!(
            "p2p/hello/dialled-and-silent",
            Should,
            HELLO,
            ["H39"],
            "is dialled, answers with an ack, and never says Hello",
            "closes the connection, 5 s after the ack or a little later",
            never_said
        ),
        case!(
            "p2p/hello/other-than-dialled",
            Should,
            DISCONNECT,
            ["H42"],
            "is dialled, and says a Hello with another id than the one that was dialled",
            "says Disconnect 0x09 (unexpected identity)",
            other_id
        ),
        case!(
            "p2p/hello/dialled-without-a-match",
            Should,
            DISCONNECT,
            ["H53"],
            "is dialled, and says a Hello with no capability of the node",
            "says Disconnect 0x03 (useless peer)",
            no_match
        ),
        case!(
            "p2p/disconnect/dialled-full",
            Should,
            DISCONNECT,
            ["H50"],
            "is dialled, and says Disconnect 0x04 (too many peers) in place of a Hello",
            "closes the connection",
            too_many
        ),
    ];
    cases.to_vec()
}

async fn says_it(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.accept()?.answer(|ack| ack).await?;
    match script.receive(node::STEP).await? {
        Incoming::Message { id: 0, data } => match RawHello::decode(&data) {
            Ok(hello) if hello.id == visit.key() => Ok(()),
            Ok(_) => Err(Stop::failed("the Hello has another id than the node's public key")),
            Err(error) => Err(Stop::failed(error)),
        },
        other => Err(Stop::failed(format!("{other} in place of a Hello"))),
    }
}

async fn never_said(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.accept()?.answer(|ack| ack).await?;
    ended(&mut script, "no Hello").await?.expect_closed()
}

async fn other_id(visit: &Visit) -> Result<(), Stop> {
    ends_with(visit, 9, |hello| hello.id = public(&secret(98)).to_vec()).await
}

async fn no_match(visit: &Visit) -> Result<(), Stop> {
    ends_with(visit, 3, |hello| hello.capabilities = vec![(b"conformance".to_vec(), 1)]).await
}

/// A Hello after this change ends the connection with this reason, before or after the node's own.
async fn ends_with(visit: &Visit, reason: u64, change: impl FnOnce(&mut RawHello)) -> Result<(), Stop> {
    let mut script = visit.accept()?.answer(|ack| ack).await?;
    let mut own = visit.node.mirror(&script.identity.public_key());
    change(&mut own);
    script.send(&own.to_string(), 0, &own.encode()).await;
    if let Incoming::Message { id: 0, .. } = script.receive(node::STEP).await? {
        script.set_compressed(visit.node.hello.version >= 5);
    }
    let mut ending = script.ending(CLOSED).await?;
    ending.disconnect = ending.disconnect.or(script.disconnect);
    ending.expect_reason(&[reason])
}

async fn too_many(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.accept()?.answer(|ack| ack).await?;
    script.send("Disconnect 0x04", 1, &[0xc1, 0x04]).await;
    ended(&mut script, "the Disconnect").await?.expect_closed()
}
