//! `rlpx/frame`: what the node makes of frames.

use std::time::Duration;

use super::steps::{CLOSED, after_content, answer, breach, closed, compresses, session};
use crate::case::{Case, case};
use crate::ending::Ending;
use crate::model::frames::{HEADER, LARGEST, padded};
use crate::outcome::Stop;
use crate::script::Script;
use crate::visit::Visit;

const FRAMING: &str = "rlpx.md, Framing";
const MACS: &str = "rlpx.md, MAC";
const MESSAGES: &str = "rlpx.md, Message Encoding";

/// A Ping in a frame of a session that is compressed.
pub(super) const PING: &[u8] = &[2, 1, 0, 0xc0];

/// What most headers have behind the size.
const USUAL: &[u8] = &[0xc2, 0x80, 0x80];

pub(super) fn cases() -> Vec<Case> {
    [damaged(), sizes(), tolerated()].concat()
}

/// Frames that were not sealed as they came.
fn damaged() -> Vec<Case> {
    vec![
        case!(
            "rlpx/frame/header-mac",
            Must,
            MACS,
            ["H21"],
            "sends a Ping with a bit of its header's MAC flipped",
            "closes the connection, and no Pong comes",
            |visit| refused(visit, |frame| frame[16] ^= 1)
        ),
        case!(
            "rlpx/frame/header-bit",
            Must,
            MACS,
            ["H21"],
            "sends a Ping with a bit of its encrypted header flipped",
            "closes the connection, and no Pong comes",
            |visit| refused(visit, |frame| frame[2] ^= 1)
        ),
        case!(
            "rlpx/frame/header-mac-alone",
            Should,
            MACS,
            ["H21"],
            "sends a header with a bit of its MAC flipped, and nothing behind it",
            "closes the connection without waiting for the rest",
            |visit| refused(visit, |frame| {
                frame[31] ^= 0x80;
                frame.truncate(HEADER);
            })
        ),
        case!(
            "rlpx/frame/body-mac",
            Must,
            MACS,
            ["H22"],
            "sends a Ping with a bit of its body's MAC flipped",
            "closes the connection, and no Pong comes",
            |visit| refused(visit, |frame| frame[HEADER + 16] ^= 1)
        ),
        case!(
            "rlpx/frame/body-bit",
            Must,
            MACS,
            ["H22"],
            "sends a Ping with a bit of its encrypted body flipped",
            "closes the connection, and no Pong comes",
            |visit| refused(visit, |frame| frame[HEADER + 15] ^= 1)
        ),
        case!(
            "rlpx/frame/first-header-mac",
            Must,
            MACS,
            ["H21"],
            "sends a Hello with a bit of its header's MAC flipped",
            "closes the connection",
            |visit| first_refused(visit, 16)
        ),
        case!(
            "rlpx/frame/first-body-mac",
            Must,
            MACS,
            ["H22"],
            "sends a Hello with a bit of its body's MAC flipped",
            "closes the connection",
            |visit| first_refused(visit, usize::MAX)
        ),
        case!(
            "rlpx/frame/replayed",
            Must,
            MACS,
            ["H27"],
            "sends the same frame with a Ping twice",
            "answers the first and closes the connection at the second",
            replayed
        ),
        case!(
            "rlpx/frame/swapped",
            Must,
            MACS,
            ["H27"],
            "sends two frames with Pings in the wrong order",
            "closes the connection, and no Pong comes",
            |visit| two(visit, |first, second| [second, first].concat())
        ),
        case!(
            "rlpx/frame/left-out",
            Must,
            MACS,
            ["H27"],
            "leaves out a frame and sends the next",
            "closes the connection, and no Pong comes",
            |visit| two(visit, |_, second| second)
        ),
        case!(
            "rlpx/frame/reflected",
            Must,
            MACS,
            ["H27"],
            "sends the node's own first frame back to it",
            "closes the connection",
            reflected
        ),
    ]
}

/// What a header may claim.
fn sizes() -> Vec<Case> {
    let mut cases = vec![
        case!(
            "rlpx/frame/sizes",
            Must,
            FRAMING,
            [],
            "sends Pings whose frames have a content of 4 to 48 bytes",
            "answers each with a Pong",
            every_size
        ),
        case!(
            "rlpx/frame/claimed-and-silent",
            Should,
            FRAMING,
            ["H25"],
            "sends the header of a frame of 0xffffff bytes and 1,000 bytes of it, then nothing",
            "closes the connection within 60 s",
            |visit| stalled(visit, 0x00ff_ffff),
            deadline: Duration::from_secs(70)
        ),
        case!(
            "rlpx/frame/begun-and-silent",
            Should,
            FRAMING,
            ["H25"],
            "sends the header of a frame of 2,000 bytes and 1,000 bytes of it, then nothing",
            "closes the connection within 60 s",
            |visit| stalled(visit, 2000),
            deadline: Duration::from_secs(70)
        ),
    ];
    cases.extend(breach!(
        "rlpx/frame/size-zero",
        Should,
        MESSAGES,
        ["H23"],
        "sends a frame of size 0",
        |visit| after_content(visit, "a frame of size 0", &[]),
        0x02
    ));
    cases.extend(breach!(
        "rlpx/frame/first-too-large",
        Should,
        FRAMING,
        ["H24"],
        "sends the header of a first frame of 0xffffff bytes, and nothing behind it",
        |visit| first_claims(visit, 0x00ff_ffff),
        0x02
    ));
    cases.extend(breach!(
        "rlpx/frame/first-above-2-kib",
        Should,
        FRAMING,
        ["H24", "H40"],
        "sends the header of a first frame of 2,050 bytes, which no Hello needs, and nothing behind it",
        |visit| first_claims(visit, 2050),
        0x02
    ));
    cases
}

/// What is odd and harmless.
fn tolerated() -> Vec<Case> {
    vec![
        case!(
            "rlpx/frame/header-data",
            Should,
            FRAMING,
            ["H26"],
            "sends Pings with other header data: none, other ids, no list, all bits",
            "answers each with a Pong",
            header_data
        ),
        case!(
            "rlpx/frame/padding",
            Should,
            FRAMING,
            ["H26"],
            "sends a Ping whose padding is not zero",
            "answers with a Pong",
            padding
        ),
    ]
}

/// A Ping that was changed after it was sealed is refused.
async fn refused(visit: &Visit, change: impl FnOnce(&mut Vec<u8>) + Send) -> Result<(), Stop> {
    compresses(visit)?;
    let mut script = session(visit).await?;
    let mut frame = script.egress().seal(PING);
    change(&mut frame);
    script.send_raw("a damaged frame with a Ping", &frame).await;
    without_pong(&script.ending(CLOSED).await?)
}

/// The connection is closed, and the Ping had no effect.
fn without_pong(ending: &Ending) -> Result<(), Stop> {
    ending.expect_closed()?;
    match ending.messages.contains(&3) {
        true => Err(Stop::failed(format!("a Pong came: {ending}"))),
        false => Ok(()),
    }
}

/// A Hello with a bit flipped at this offset, or in its last byte, is refused.
async fn first_refused(visit: &Visit, offset: usize) -> Result<(), Stop> {
    let mut script = visit.handshake().await?;
    let mut frame = hello_frame(visit, &mut script);
    let offset = offset.min(frame.len() - 1);
    frame[offset] ^= 1;
    script.send_raw("a damaged frame with a Hello", &frame).await;
    closed(script.ending(CLOSED)).await
}

/// An honest Hello in a frame.
pub(super) fn hello_frame(visit: &Visit, script: &mut Script) -> Vec<u8> {
    let hello = visit.node.mirror(&script.identity.public_key()).encode();
    let content = script.content(0, &hello);
    script.egress().seal(&content)
}

async fn replayed(visit: &Visit) -> Result<(), Stop> {
    compresses(visit)?;
    let mut script = session(visit).await?;
    let frame = script.egress().seal(PING);
    script.send_raw("a frame with a Ping", &frame).await;
    script.expect(3, CLOSED).await.map_err(|stop| Stop::unclear(format!("the first time: {stop}")))?;
    script.send_raw("the same frame", &frame).await;
    without_pong(&script.ending(CLOSED).await?)
}

/// What becomes of two frames with Pings is refused.
async fn two(visit: &Visit, change: impl FnOnce(Vec<u8>, Vec<u8>) -> Vec<u8> + Send) -> Result<(), Stop> {
    compresses(visit)?;
    let mut script = session(visit).await?;
    let (first, second) = (script.egress().seal(PING), script.egress().seal(PING));
    script.send_raw("frames with Pings, not all or not in order", &change(first, second)).await;
    without_pong(&script.ending(CLOSED).await?)
}

async fn reflected(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.handshake().await?;
    let frame = script.receive_raw(HEADER, CLOSED).await;
    let frame = frame.map_err(|ending| Stop::unclear(format!("no frame to send back: {ending}")))?;
    script.send_raw("the header of the node's own first frame", &frame).await;
    match script.receive_raw(LARGEST, CLOSED).await {
        Err(ending) => ending.expect_closed(),
        Ok(_) => Err(Stop::failed("it goes on to send")),
    }
}

async fn every_size(visit: &Visit) -> Result<(), Stop> {
    compresses(visit)?;
    let mut script = session(visit).await?;
    for size in 4..=48 {
        let literal = size - 3;
        let mut data = vec![0x01; literal];
        data[0] = 0xc0 + (literal - 1) as u8;
        // A block with one literal, so that each size can be had.
        let content = [&[2, literal as u8, (literal as u8 - 1) << 2], &data[..]].concat();
        script.send_frame(&format!("a Ping in a frame of {size} bytes"), &content).await;
        let answered = answer(&mut script, 3, Duration::from_secs(5)).await;
        answered.map_err(|stop| stop.within(format!("a frame of {size} bytes")))?;
    }
    Ok(())
}

/// A frame that has begun and does not go on.
async fn stalled(visit: &Visit, size: usize) -> Result<(), Stop> {
    let mut script = session(visit).await?;
    // A Pong would be taken for the rest of the frame.
    script.set_answering(false);
    let header = script.egress().header(size, USUAL);
    script.send_raw("the header of a frame, and 1,000 bytes", &[header, vec![0; 1000]].concat()).await;
    script.ending(Duration::from_secs(60)).await?.expect_closed()
}

async fn first_claims(visit: &Visit, size: usize) -> Result<Ending, Stop> {
    let mut script = visit.handshake().await?;
    let header = script.egress().header(size, USUAL);
    script.send_raw("the header of a first frame", &header).await;
    script.ending(CLOSED).await
}

async fn header_data(visit: &Visit) -> Result<(), Stop> {
    compresses(visit)?;
    let mut script = session(visit).await?;
    for data in [&[][..], &[0xc0], &[0xc1, 0x80], &[0xc2, 0x01, 0x02], &[0x05], &[0xff; 13]] {
        let half = script.egress();
        let frame = [half.header(PING.len(), data), half.body(&padded(PING))].concat();
        script.send_raw("a frame with a Ping", &frame).await;
        let answered = answer(&mut script, 3, Duration::from_secs(5)).await;
        answered.map_err(|stop| stop.within(format!("header data {}", hex::encode(data))))?;
    }
    Ok(())
}

async fn padding(visit: &Visit) -> Result<(), Stop> {
    compresses(visit)?;
    let mut script = session(visit).await?;
    let half = script.egress();
    let mut body = vec![0xa5; 16];
    body[..PING.len()].copy_from_slice(PING);
    let frame = [half.header(PING.len(), USUAL), half.body(&body)].concat();
    script.send_raw("a frame with a Ping and odd padding", &frame).await;
    answer(&mut script, 3, Duration::from_secs(5)).await.map(drop)
}
