//! `rlpx/vectors`: the vectors of EIP-8, as far as a node that draws its own keys can be given them. The literal auths
//! are sealed for one key, the literal acks for another: they are replayed to a node that was started with that key.

use std::time::Duration;

use rlp::Rlp;

use super::handshake::works;
use super::steps::their_hello;
use crate::case::{Case, Role, case};
use crate::ending::Closed;
use crate::model::handshake::{Ack, Auth, Rest, open};
use crate::model::vectors::{ACK_2, ACK_3, AUTH_2, AUTH_3, HELLO, bytes, initiator, recipient};
use crate::node;
use crate::outcome::Stop;
use crate::script::Script;
use crate::visit::Visit;

const VECTORS: &str = "EIP-8, Test Vectors";

/// How long the node may take to say what it makes of the Hello.
const WORD: Duration = Duration::from_secs(5);

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case!(
            "rlpx/vectors/initiator",
            Must,
            VECTORS,
            ["H12"],
            "dials as node A, with its keys and nonce, once with the fields of the second auth and once with those of \
             the third, and says the Hello with three more elements",
            "answers with its own Hello, and takes the other for a Hello of version 5",
            as_initiator,
            deadline: Duration::from_secs(25)
        ),
        case!(
            "rlpx/vectors/recipient",
            Must,
            VECTORS,
            ["H12"],
            "is dialled, and answers with the ephemeral key, the nonce, the version and the elements of the third ack",
            "takes it as any other",
            as_recipient,
            role: Role::Listens
        ),
        // Alone, for the node would meet node A twice otherwise.
        case!(
            "rlpx/vectors/literal-auths",
            Must,
            VECTORS,
            ["H12"],
            "sends the second and the third auth, byte for byte, to a node that has the key of node B",
            "answers each with an ack, and a frame of either end arrives",
            literal_auths,
            deadline: Duration::from_secs(25),
            alone: true
        ),
        case!(
            "rlpx/vectors/literal-ack-2",
            Must,
            VECTORS,
            ["H12"],
            "is dialled, and sends the second ack, byte for byte, to a node that has the key of node A",
            "takes it as any other",
            |visit| literal_ack(visit, ACK_2),
            role: Role::Listens
        ),
        case!(
            "rlpx/vectors/literal-ack-3",
            Must,
            VECTORS,
            ["H12"],
            "is dialled, and sends the third ack, byte for byte, to a node that has the key of node A",
            "takes it as any other",
            |visit| literal_ack(visit, ACK_3),
            role: Role::Listens
        ),
    ];
    cases.to_vec()
}

async fn as_initiator(visit: &Visit) -> Result<(), Stop> {
    if visit.key() == initiator().public_key() {
        return Err(Stop::skipped("the node has the key of node A itself"));
    }
    for (vector, what) in [(AUTH_2, "the second auth"), (AUTH_3, "the third auth")] {
        let mut script = visit.open().await?;
        script.identity = initiator();
        let rest = rest(&recipient().key, vector, 3, visit.key())?;
        let auth = Auth { rest, ..script.identity.auth(&visit.key()) }.seal();
        script.send_raw(what, &auth).await;
        node::read_ack(&mut script, auth).await.map_err(|seen| Stop::failed(format!("{what}: no ack: {seen}")))?;
        hello(&mut script).await.map_err(|stop| stop.within(what))?;
    }
    Ok(())
}

/// Says the literal Hello. The node may have no use for it, and is to say so.
async fn hello(script: &mut Script) -> Result<(), Stop> {
    script.send("Hello of version 55", 0, &bytes(HELLO)).await;
    let came = their_hello(script, WORD).await;
    // A node that it met a moment ago may be there still.
    if came.is_err() && script.disconnect == Some(Some(5)) {
        return Err(Stop::unclear("the node takes node A for connected already"));
    }
    came?;
    script.set_compressed(true);
    script.send("Ping", 2, &[0xc0]).await;
    let ending = script.ending(Duration::from_secs(1)).await?;
    match (ending.disconnect, ending.closed) {
        // Useless peer, too many peers, already connected: the Hello itself was understood.
        (Some(Some(3..=5)), _) => {}
        (None, None) if ending.messages.contains(&3) => {}
        (None, Some(Closed::Reset)) => {
            return Err(Stop::unclear(format!("{ending}: a last word would have been lost with the reset")));
        }
        _ => return Err(Stop::failed(ending.to_string())),
    }
    leave(script).await
}

async fn as_recipient(visit: &Visit) -> Result<(), Stop> {
    let mut dialled = visit.accept()?;
    (dialled.script.identity.ephemeral, dialled.script.identity.nonce) = (recipient().ephemeral, recipient().nonce);
    let rest = rest(&initiator().key, ACK_3, 2, visit.key())?;
    let mut script = dialled.answer(|ack| Ack { rest, ..ack }).await?;
    works(&mut script, &visit.node).await
}

async fn literal_auths(visit: &Visit) -> Result<(), Stop> {
    if visit.key() != recipient().public_key() {
        return Err(Stop::skipped("the node was not started with the static key B of EIP-8"));
    }
    for (vector, what) in [(AUTH_2, "the second auth"), (AUTH_3, "the third auth")] {
        let mut script = visit.open().await?;
        script.identity = initiator();
        script.send_raw(what, &bytes(vector)).await;
        let read = node::read_ack(&mut script, bytes(vector)).await;
        read.map_err(|seen| Stop::failed(format!("{what}: no ack: {seen}")))?;
        works(&mut script, &visit.node).await.map_err(|stop| stop.within(what))?;
        leave(&mut script).await?;
    }
    Ok(())
}

/// Ends the connection, so that the node can be met again.
async fn leave(script: &mut Script) -> Result<(), Stop> {
    script.send("Disconnect 0x08", 1, &[0xc1, 0x08]).await;
    script.ending(WORD).await.map(drop)
}

async fn literal_ack(visit: &Visit, vector: &str) -> Result<(), Stop> {
    let mut dialled = visit.accept()?;
    if visit.key() != initiator().public_key() {
        return Err(Stop::skipped("the node was not started with the static key A of EIP-8"));
    }
    (dialled.script.identity.ephemeral, dialled.script.identity.nonce) = (recipient().ephemeral, recipient().nonce);
    let connection = dialled.script.identity.accept(&dialled.auth, &bytes(vector));
    let connection = connection.map_err(|broken| Stop::failed(format!("the node's auth is {broken}")))?;
    let mut script = dialled.script;
    script.send_raw("the ack of EIP-8", &bytes(vector)).await;
    script.encrypt(connection);
    works(&mut script, &visit.node).await
}

/// The end of a literal message from the version on, for another recipient. The model reads it with this key.
fn rest(key: &secp256k1::SecretKey, vector: &str, version: usize, recipient: [u8; 64]) -> Result<Rest, Stop> {
    let wrong = |error: String| Stop::unclear(format!("the vector: {error}"));
    let body = open(key, &bytes(vector)).map_err(|broken| wrong(broken.to_string()))?;
    let list = Rlp::new(&body);
    let items: Vec<&[u8]> = list.iter().skip(version).map(|item| item.as_raw()).collect();
    let end = list.payload_info().map_err(|error| wrong(error.to_string()))?.total();
    let mut rest = Rest::new(recipient);
    (rest.items, rest.padding) = (items.concat(), body.len() - end);
    Ok(rest)
}
