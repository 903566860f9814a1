//! `p2p/dispatch`: message ids that lead nowhere, and messages that handlers do not expect.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::refused::nested;
use super::steps::{
    CLOSED, FIRST, after_content, after_message, breach, claims_echo, claims_something, echo, goes_on_or_closes,
    repeated, session, session_with,
};
use crate::case::{Case, case};
use crate::model::Node;
use crate::outcome::Stop;
use crate::script::Script;
use crate::visit::Visit;

const MULTIPLEXING: &str = "rlpx.md, Message ID-based Multiplexing";
const MESSAGES: &str = "rlpx.md, Message Encoding";

/// What is sent at once in a flood, in bytes before compression.
const PIECE: usize = 64 * 1024;

pub(super) fn cases() -> Vec<Case> {
    [unknown(), no_ids(), bodies(), flow()].concat()
}

/// Ids behind those of all protocols. How many a protocol has is not said on the wire, so they are far behind.
fn unknown() -> Vec<Case> {
    [
        breach!(
            "p2p/dispatch/id-unknown",
            Should,
            MULTIPLEXING,
            ["H56"],
            "sends a message with the id 0x10 + 2^20, far behind those of all protocols",
            |visit| after_message(visit, "message 0x10 + 2^20", FIRST + (1 << 20), &[0xc0]),
            0x02
        ),
        breach!(
            "p2p/dispatch/id-of-four-bytes",
            Should,
            MULTIPLEXING,
            ["H56"],
            "sends a message with the id 2^32 - 1",
            |visit| after_message(visit, "message 2^32 - 1", u64::from(u32::MAX), &[0xc0]),
            0x02
        ),
        breach!(
            "p2p/dispatch/id-of-eight-bytes",
            Should,
            MULTIPLEXING,
            ["H56"],
            "sends a message with the id 2^64 - 1",
            |visit| after_message(visit, "message 2^64 - 1", u64::MAX, &[0xc0]),
            0x02
        ),
        breach!(
            "p2p/dispatch/id-past-echo",
            Should,
            MULTIPLEXING,
            ["H56"],
            "shares echo/1 alone, which has two messages, and sends 0x12",
            past_echo,
            0x02
        ),
    ]
    .concat()
}

/// What stands in place of a message id.
fn no_ids() -> Vec<Case> {
    [
        breach!(
            "p2p/dispatch/id-of-nine-bytes",
            Should,
            MESSAGES,
            ["H56"],
            "sends a message whose id has nine bytes",
            |visit| after_content(visit, "an id of nine bytes", &[0x89, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 0, 0xc0]),
            0x02
        ),
        breach!(
            "p2p/dispatch/id-list",
            Should,
            MESSAGES,
            ["H56"],
            "sends a list in place of a message id",
            |visit| after_content(visit, "a list in place of an id", &[0xc1, 0x02, 1, 0, 0xc0]),
            0x02
        ),
        breach!(
            "p2p/dispatch/id-truncated",
            Should,
            MESSAGES,
            ["H56"],
            "sends a frame that ends inside its message id",
            |visit| after_content(visit, "a part of an id", &[0x84, 1, 2]),
            0x02
        ),
        breach!(
            "p2p/dispatch/id-leading-zero",
            Should,
            MESSAGES,
            ["H56"],
            "sends a message whose id 0x10 is written with a leading zero",
            |visit| after_content(visit, "the id 00 10", &[0x82, 0x00, FIRST as u8, 1, 0, 0xc0]),
            0x02
        ),
        breach!(
            "p2p/dispatch/id-not-shortest",
            Should,
            MESSAGES,
            ["H56"],
            "sends a message whose id 0x10 has a length before it",
            |visit| after_content(visit, "the id 81 10", &[0x81, FIRST as u8, 1, 0, 0xc0]),
            0x02
        ),
    ]
    .concat()
}

/// Data that no handler can make sense of. What it does then is its own affair, but for the node.
fn bodies() -> Vec<Case> {
    const EXPECTS: &str = "closes the connection, or answers a Ping within 30 s";
    let deadline = Duration::from_secs(45);
    vec![
        case!(
            "p2p/dispatch/body-not-rlp",
            Should,
            MULTIPLEXING,
            ["H57"],
            "sends a message 0x10 whose data is no RLP",
            EXPECTS,
            |visit| body(visit, || vec![0xff, 0xff, 0xff]),
            deadline: deadline
        ),
        case!(
            "p2p/dispatch/body-list-of-2-64",
            Should,
            MULTIPLEXING,
            ["H37", "H57", "H62"],
            "sends a message 0x10 with a list that claims 2^64 - 1 bytes",
            EXPECTS,
            |visit| body(visit, || vec![0xff; 9]),
            deadline: deadline
        ),
        case!(
            "p2p/dispatch/body-nested",
            Should,
            MULTIPLEXING,
            ["H37", "H57"],
            "sends a message 0x10 with 200,000 lists, each in the one before it",
            EXPECTS,
            |visit| body(visit, || nested(200_000)),
            deadline: deadline
        ),
        case!(
            "p2p/dispatch/body-empty-lists",
            Should,
            MULTIPLEXING,
            ["H37", "H57"],
            "sends a message 0x10 with a list of 1,000,000 empty lists",
            EXPECTS,
            |visit| body(visit, || [&[0xfa, 0x0f, 0x42, 0x40][..], &[0xc0; 1_000_000]].concat()),
            deadline: deadline
        ),
    ]
}

/// More than handlers take, or than we take.
fn flow() -> Vec<Case> {
    vec![
        case!(
            "p2p/dispatch/flood",
            Should,
            MULTIPLEXING,
            ["H60"],
            "sends 8 MiB of messages 0x10 as fast as the node takes them",
            "answers another peer's Ping meanwhile",
            flood,
            deadline: Duration::from_secs(40)
        ),
        case!(
            "p2p/dispatch/not-reading",
            Should,
            MULTIPLEXING,
            ["H61"],
            "has echo/1 send back 32 MiB and reads none of it for 45 s",
            "answers other peers' Pings, and has closed the connection by then",
            not_reading,
            deadline: Duration::from_secs(75)
        ),
    ]
}

async fn past_echo(visit: &Visit) -> Result<crate::Ending, Stop> {
    claims_echo(visit)?;
    let mut script = session_with(visit, |hello| hello.capabilities = vec![echo()]).await?;
    script.send("message 0x12", FIRST + 2, &[0xc0]).await;
    script.ending(CLOSED).await
}

async fn body(visit: &Visit, data: impl FnOnce() -> Vec<u8> + Send) -> Result<(), Stop> {
    claims_something(visit)?;
    let mut script = session(visit).await?;
    script.send("message 0x10", FIRST, &data()).await;
    goes_on_or_closes(&mut script).await
}

/// Frames with messages that do not compress, for the first subprotocol.
fn frames(script: &mut Script, count: usize) -> Vec<u8> {
    let data = Node::random().map_or([7; 64], |node| node.public_key());
    let data: Vec<_> = (0..PIECE).map(|index| data[index % 64] ^ (index / 64).wrapping_mul(167) as u8).collect();
    let content = script.content(FIRST, &data);
    repeated(script, &content, count)
}

async fn flood(visit: &Visit) -> Result<(), Stop> {
    claims_something(visit)?;
    let (mut script, mut other) = (session(visit).await?, session(visit).await?);
    for _ in 0..8 {
        let frames = frames(&mut script, 16);
        script.send_raw("16 messages of 64 KiB", &frames).await;
        other.ping().await.map_err(|stop| stop.within("the other peer"))?;
        if script.is_closed() {
            break;
        }
    }
    Ok(())
}

async fn not_reading(visit: &Visit) -> Result<(), Stop> {
    claims_echo(visit)?;
    let mut script = session_with(visit, |hello| hello.capabilities = vec![echo()]).await?;
    let until = Instant::now() + Duration::from_secs(45);
    // How much of it the node takes tells nothing: the buffers of the systems may hold all of it.
    for _ in 0..32 {
        let frames = frames(&mut script, 16);
        if !script.send_without_reading("16 messages of 64 KiB", &frames, until).await {
            break;
        }
    }
    let other = session(visit).await;
    other.map_err(|stop| Stop::failed(format!("meanwhile another peer: {stop}")))?;
    sleep_until(until).await;
    // What has come until then is read now; behind it is the end.
    script.set_answering(false);
    script.ending(Duration::from_secs(10)).await?.expect_closed()
}
