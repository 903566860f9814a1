//! `p2p/disconnect`: how the node takes a Disconnect, and how it sends one.

use std::time::Duration;

use tokio::time::Instant;

use super::snappy::zeros_content;
use super::steps::{CLOSED, after_content, after_message, compresses};
use crate::case::{Case, case};
use crate::ending::Ending;
use crate::incoming::Incoming;
use crate::incoming::uncompressed;
use crate::outcome::Stop;
use crate::script::Script;
use crate::visit::Visit;

const DISCONNECT: &str = "rlpx.md, Disconnect (0x01)";
const BASE: &str = "rlpx.md, \"p2p\" Capability";
const MESSAGES: &str = "rlpx.md, Message Encoding";

/// How long a node that has said Disconnect may keep the connection: the 2 s that it should wait, and some time for the
/// machine.
const GRACE: Duration = Duration::from_secs(5);

pub(super) fn cases() -> Vec<Case> {
    [forms(), phases(), sent()].concat()
}

/// In which forms nodes send it.
fn forms() -> Vec<Case> {
    const EXPECTS: &str = "closes the connection within 4 s";
    vec![
        case!(
            "p2p/disconnect/closes",
            Must,
            DISCONNECT,
            ["H50"],
            "sends a Disconnect with reason 0x08",
            "closes the connection within 4 s",
            |visit| ended(after_message(visit, "Disconnect 0x08", 1, &[0xc1, 0x08]))
        ),
        case!(
            "p2p/disconnect/bare",
            Should,
            DISCONNECT,
            ["H50"],
            "sends a Disconnect whose reason is not in a list",
            EXPECTS,
            |visit| ended(after_message(visit, "a bare Disconnect 0x08", 1, &[0x08]))
        ),
        case!(
            "p2p/disconnect/empty-list",
            Should,
            DISCONNECT,
            ["H50"],
            "sends a Disconnect that is an empty list",
            EXPECTS,
            |visit| ended(after_message(visit, "Disconnect without a reason", 1, &[0xc0]))
        ),
        case!(
            "p2p/disconnect/no-data",
            Should,
            DISCONNECT,
            ["H50"],
            "sends a Disconnect without data",
            EXPECTS,
            |visit| ended(after_message(visit, "Disconnect without data", 1, &[]))
        ),
        case!(
            "p2p/disconnect/zero-byte",
            Should,
            DISCONNECT,
            ["H50"],
            "sends a Disconnect whose reason 0 is written as the byte 00",
            EXPECTS,
            |visit| ended(after_message(visit, "a bare Disconnect 0x00", 1, &[0x00]))
        ),
        case!(
            "p2p/disconnect/unknown-reason",
            Should,
            DISCONNECT,
            ["H50"],
            "sends a Disconnect with reason 300",
            EXPECTS,
            |visit| ended(after_message(visit, "Disconnect 300", 1, &[0xc3, 0x82, 0x01, 0x2c]))
        ),
        case!(
            "p2p/disconnect/not-compressed",
            Should,
            DISCONNECT,
            ["H50"],
            "sends a Disconnect in a list that is not compressed, in a session that is",
            EXPECTS,
            |visit| ended(after_plain(visit, "Disconnect 0x08, not compressed", &[0x01, 0xc1, 0x08]))
        ),
        case!(
            "p2p/disconnect/bare-not-compressed",
            Should,
            DISCONNECT,
            ["H50"],
            "sends a Disconnect that is neither in a list nor compressed, in a session that is",
            EXPECTS,
            |visit| ended(after_plain(visit, "a bare Disconnect 0x08, not compressed", &[0x01, 0x08]))
        ),
        case!(
            "p2p/disconnect/nothing",
            Should,
            DISCONNECT,
            ["H50"],
            "sends the id of a Disconnect and nothing behind it, not compressed",
            EXPECTS,
            |visit| ended(after_content(visit, "the id of a Disconnect", &[0x01]))
        ),
        case!(
            "p2p/disconnect/list-of-2-64",
            Should,
            DISCONNECT,
            ["H37", "H50"],
            "sends a Disconnect whose list claims 2^64 - 1 bytes",
            EXPECTS,
            |visit| ended(after_message(visit, "Disconnect with a list of 2^64 - 1 bytes", 1, &[0xff; 9]))
        ),
        case!(
            "p2p/disconnect/16-mib",
            Should,
            DISCONNECT,
            ["H34", "H50"],
            "sends a Disconnect with 16 MiB of zeros, compressed",
            EXPECTS,
            |visit| ended(huge(visit)),
            deadline: Duration::from_secs(20)
        ),
    ]
}

/// When it can come.
fn phases() -> Vec<Case> {
    vec![
        case!(
            "p2p/disconnect/in-place-of-hello",
            Must,
            BASE,
            ["H38", "H50"],
            "sends a Disconnect in place of a Hello",
            "closes the connection within 4 s",
            |visit| ended(in_place_of_hello(visit, &[0xc1, 0x04]))
        ),
        case!(
            "p2p/disconnect/in-place-of-hello-in-any-form",
            Should,
            BASE,
            ["H38", "H50"],
            "sends a Disconnect in place of a Hello on ten connections, each time in another form",
            "closes each connection within 4 s",
            any_form,
            deadline: Duration::from_secs(60)
        ),
        case!(
            "p2p/disconnect/behind-hello",
            Should,
            BASE,
            ["H50"],
            "sends a Hello and a Disconnect at once, before it has read anything",
            "closes the connection within 4 s",
            |visit| ended(behind_hello(visit))
        ),
    ]
}

/// How the node sends it. It is made to by a Hello that shares nothing.
fn sent() -> Vec<Case> {
    vec![
        case!(
            "p2p/disconnect/sent-then-closed",
            Should,
            DISCONNECT,
            ["H52"],
            "makes the node send a Disconnect, ignores it and goes on sending Pings",
            "closes the connection within 2 s of its Disconnect, and 3 s for the machine",
            sent_then_closed,
            deadline: Duration::from_secs(20)
        ),
        case!(
            "p2p/disconnect/sent-in-a-list",
            Must,
            DISCONNECT,
            ["H50"],
            "makes the node send a Disconnect",
            "sends the reason in a list of one element",
            |visit| sent_as(visit, |data| uncompressed(data).unwrap_or(data.to_vec())[..].starts_with(&[0xc1]))
        ),
        case!(
            "p2p/disconnect/sent-compressed",
            Must,
            MESSAGES,
            ["H50"],
            "makes the node send a Disconnect behind its Hello of version 5",
            "compresses it",
            sent_compressed
        ),
    ]
}

/// The node has closed the connection, whatever it said before: some repeat the reason that they were given.
async fn ended(ending: impl Future<Output = Result<Ending, Stop>>) -> Result<(), Stop> {
    ending.await?.expect_closed()
}

/// How a session ends that is compressed, after this content which is not.
async fn after_plain(visit: &Visit, what: &str, content: &[u8]) -> Result<Ending, Stop> {
    compresses(visit)?;
    after_content(visit, what, content).await
}

async fn huge(visit: &Visit) -> Result<Ending, Stop> {
    compresses(visit)?;
    // A byte less than 16 MiB, which is the most that nodes decompress.
    after_content(visit, "Disconnect with 16 MiB of zeros", &zeros_content(1, 0x00ff_ffff)).await
}

async fn in_place_of_hello(visit: &Visit, data: &[u8]) -> Result<Ending, Stop> {
    let mut script = visit.handshake().await?;
    script.send("Disconnect in place of a Hello", 1, data).await;
    script.ending(CLOSED).await
}

async fn any_form(visit: &Visit) -> Result<(), Stop> {
    const FORMS: [&[u8]; 10] = [
        &[0xc1, 0x04],
        &[0x04],
        &[0x02, 0x04, 0xc1, 0x04],
        &[0x01, 0x00, 0x04],
        &[0xc0],
        &[],
        &[0x00],
        &[0x80],
        &[0xc3, 0x82, 0x01, 0x2c],
        &[0xff; 9],
    ];
    for form in FORMS {
        let ended = ended(in_place_of_hello(visit, form)).await;
        ended.map_err(|stop| stop.within(format!("Disconnect {}", hex::encode(form))))?;
    }
    Ok(())
}

async fn behind_hello(visit: &Visit) -> Result<Ending, Stop> {
    let mut script = visit.handshake().await?;
    let hello = visit.node.mirror(&script.identity.public_key()).encode();
    let content = script.content(0, &hello);
    let hello = script.egress().seal(&content);
    script.set_compressed(visit.node.hello.version >= 5);
    let content = script.content(1, &[0xc1, 0x08]);
    let disconnect = script.egress().seal(&content);
    script.send_raw("a Hello and a Disconnect", &[hello, disconnect].concat()).await;
    script.ending(CLOSED).await
}

/// A connection on which the node has said Disconnect.
async fn disconnected(visit: &Visit) -> Result<Script, Stop> {
    let mut script = visit.greet_with(|hello| hello.capabilities = vec![(b"nothing".to_vec(), 1)]).await?;
    match script.receive(CLOSED).await? {
        Incoming::Message { id: 1, .. } => Ok(script),
        other => Err(Stop::unclear(format!("the node does not say Disconnect when nothing is shared: {other}"))),
    }
}

async fn sent_then_closed(visit: &Visit) -> Result<(), Stop> {
    let mut script = disconnected(visit).await?;
    script.set_answering(false);
    let start = Instant::now();
    while start.elapsed() < GRACE {
        script.send("Ping", 2, &[0xc0]).await;
        if script.ending(Duration::from_millis(200)).await?.closed.is_some() {
            return Ok(());
        }
    }
    Err(Stop::failed(format!("the connection is open {GRACE:?} after the node's Disconnect")))
}

async fn sent_compressed(visit: &Visit) -> Result<(), Stop> {
    compresses(visit)?;
    sent_as(visit, |data| uncompressed(data).is_some()).await
}

/// The node's Disconnect stands in its frame like this.
async fn sent_as(visit: &Visit, holds: impl FnOnce(&[u8]) -> bool + Send) -> Result<(), Stop> {
    let script = disconnected(visit).await?;
    let data = script.disconnect_data.as_deref().unwrap_or_default();
    match holds(data) {
        true => Ok(()),
        false => Err(Stop::failed(format!("the data of its Disconnect is {}", hex::encode(data)))),
    }
}
