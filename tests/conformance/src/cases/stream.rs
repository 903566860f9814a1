//! `rlpx/frame`: frames that come in pieces, in one piece, or not to their end.

use std::time::Duration;

use super::frame::{PING, hello_frame};
use super::steps::{
    CLOSED, FIRST, answer, claims_echo, compresses, echo, goes_on, greet_raw, repeated, session, session_with,
    their_hello,
};
use crate::case::{Case, case};
use crate::hello::RawHello;
use crate::model::frames::{HEADER, MAC};
use crate::outcome::Stop;
use crate::script::Script;
use crate::visit::Visit;

const FRAMING: &str = "rlpx.md, Framing";

/// After how long without one no further Pong is expected.
const QUIET: Duration = Duration::from_secs(1);

/// How many messages are sent in one segment.
const MANY: u64 = 1000;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "rlpx/frame/split",
            Must,
            FRAMING,
            ["H29"],
            "sends a Hello and a Ping, each byte in a segment of its own",
            "answers with a Pong",
            split,
            deadline: Duration::from_secs(60)
        ),
        case!(
            "rlpx/frame/joined",
            Must,
            FRAMING,
            ["H29"],
            "sends 30 Pings in one segment, and another when the Pongs have come",
            "answers with Pongs, as many as it likes, and with one to the last Ping",
            joined
        ),
        case!(
            "rlpx/frame/thousand-joined",
            Must,
            FRAMING,
            ["H29"],
            "sends 1,000 different messages for echo/1 at once",
            "answers each, in order",
            thousand_joined,
            deadline: Duration::from_secs(20)
        ),
        case!(
            "rlpx/frame/end-anywhere",
            Should,
            FRAMING,
            ["H30"],
            "sends a part of a Hello and a Ping and ends the stream, on a connection for each of 16 offsets",
            "closes each connection",
            end_anywhere,
            deadline: Duration::from_secs(60)
        ),
        case!(
            "rlpx/frame/reset-anywhere",
            Must,
            FRAMING,
            ["H30"],
            "sends a part of a Hello and a Ping and resets the connection, for each of 16 offsets",
            "is still there",
            reset_anywhere,
            deadline: Duration::from_secs(60)
        ),
    ]
}

async fn split(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.handshake().await?;
    let hello = hello_frame(visit, &mut script);
    script.send_in_pieces("a Hello, byte by byte", &hello, 1).await;
    let data = their_hello(&mut script, CLOSED).await?;
    let version = RawHello::decode(&data).map_err(Stop::unclear)?.version;
    script.set_compressed(version >= 5);
    let content = script.content(2, &[0xc0]);
    let ping = script.egress().seal(&content);
    script.send_in_pieces("a Ping, byte by byte", &ping, 1).await;
    answer(&mut script, 3, CLOSED).await.map(drop)
}

async fn joined(visit: &Visit) -> Result<(), Stop> {
    compresses(visit)?;
    let mut script = session(visit).await?;
    let frames = repeated(&mut script, PING, 30);
    script.send_raw("30 frames with Pings", &frames).await;
    answer(&mut script, 3, CLOSED).await.map_err(|stop| stop.within("the first Pong"))?;
    // One Pong may do for several Pings that have come by then.
    while script.expect(3, QUIET).await.is_ok() {}
    goes_on(&mut script).await.map_err(|stop| stop.within("the Ping after them"))
}

async fn thousand_joined(visit: &Visit) -> Result<(), Stop> {
    claims_echo(visit)?;
    let mut script = session_with(visit, |hello| hello.capabilities = vec![echo()]).await?;
    let mut frames = Vec::new();
    for number in 0..MANY {
        let content = script.content(FIRST, &number.to_be_bytes());
        frames.extend(script.egress().seal(&content));
    }
    script.send_raw("1,000 frames with messages for echo/1", &frames).await;
    for number in 0..MANY {
        let came = answer(&mut script, FIRST + 1, Duration::from_secs(10)).await;
        let came = came.map_err(|stop| stop.within(format!("answer {number} of {MANY}")))?;
        if came != number.to_be_bytes() {
            return Err(Stop::failed(format!("answer {number} of {MANY} is {}", hex::encode(came))));
        }
    }
    Ok(())
}

/// A connection, and what an honest node sends on it: a Hello and a Ping.
async fn honest(visit: &Visit) -> Result<(Script, Vec<u8>), Stop> {
    compresses(visit)?;
    let mut script = visit.handshake().await?;
    let hello = hello_frame(visit, &mut script);
    let ping = script.egress().seal(PING);
    Ok((script, [hello, ping].concat()))
}

/// Sixteen offsets in this many bytes: the borders of the parts of a frame, and others.
fn offsets(length: usize) -> [usize; 16] {
    let (ping, second) = (HEADER + 16 + MAC, length - (HEADER + 16 + MAC));
    let part = |index: usize| HEADER + (second - HEADER) * index / 6;
    let parts = [part(1), part(2), part(3), part(4), part(5)];
    let [a, b, c, d, e] = parts;
    [0, 1, 15, 16, 31, HEADER, a, b, c, d, e, second - 1, second, second + 16, second + HEADER, second + ping - 1]
}

async fn end_anywhere(visit: &Visit) -> Result<(), Stop> {
    for index in 0..16 {
        let (mut script, bytes) = honest(visit).await?;
        let offset = offsets(bytes.len())[index];
        script.send_raw("a part of a Hello and a Ping", &bytes[..offset]).await;
        script.finish().await;
        // It may take the pause of a Disconnect, and there is none to whom it could be said.
        let ending = script.ending(CLOSED).await?;
        ending.expect_closed().map_err(|stop| stop.within(format!("after {offset} bytes of {}", bytes.len())))?;
    }
    Ok(())
}

async fn reset_anywhere(visit: &Visit) -> Result<(), Stop> {
    for index in 0..16 {
        let (mut script, bytes) = honest(visit).await?;
        let offset = offsets(bytes.len())[index];
        script.send_raw("a part of a Hello and a Ping", &bytes[..offset]).await;
        script.reset();
    }
    let mut script = visit.handshake().await?;
    let hello = visit.node.mirror(&script.identity.public_key());
    greet_raw(&mut script, hello.version, &hello.encode()).await?;
    goes_on(&mut script).await
}
