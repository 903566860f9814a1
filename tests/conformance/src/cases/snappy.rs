//! `rlpx/snappy`: messages whose data is compressed, or should be.

use std::time::Duration;

use super::steps::{
    CLOSED, FIRST, after_content, answer, breach, claims_echo, claims_something, compresses, echo, echoes,
    goes_on_or_closes, session, session_with,
};
use crate::case::{Case, case};
use crate::ending::Ending;
use crate::outcome::Stop;
use crate::visit::Visit;

const MESSAGES: &str = "rlpx.md, Message Encoding";
const DOS: &str = "rlpx.md, Message Encoding; EIP-706, Avoiding DOS attacks";
const EIP: &str = "EIP-706, Specification";

/// The largest size of a frame, and of the data of a message.
const LARGEST: usize = 0x00ff_ffff;

/// How often 16 MiB of zeros are sent.
const TIMES: usize = 8;

pub(super) fn cases() -> Vec<Case> {
    [versions(), sizes(), corrupt()].concat()
}

/// Whether messages are compressed.
fn versions() -> Vec<Case> {
    vec![
        case!(
            "rlpx/snappy/version-5",
            Must,
            EIP,
            [],
            "sends a Ping, compressed, in a session of version 5",
            "answers with a Pong that is compressed",
            |visit| pong(visit, 5, &[1, 0, 0xc0])
        ),
        case!(
            "rlpx/snappy/version-4",
            Must,
            EIP,
            [],
            "says in its Hello that it has version 4, and sends a Ping that is not compressed",
            "answers with a Pong that is not compressed",
            |visit| pong(visit, 4, &[0xc0])
        ),
        case!(
            "rlpx/snappy/version-4-message",
            Must,
            EIP,
            [],
            "says in its Hello that it has version 4, and sends 10,000 bytes to echo/1, not compressed",
            "sends them back, not compressed",
            |visit| echoed(visit, 4, 10_000)
        ),
        case!(
            "rlpx/snappy/message",
            Must,
            EIP,
            [],
            "sends 500,000 bytes to echo/1, compressed",
            "sends them back, compressed",
            |visit| echoed(visit, 5, 500_000)
        ),
        case!(
            "rlpx/snappy/empty-message",
            Must,
            EIP,
            [],
            "sends no bytes to echo/1, compressed: the byte 00",
            "sends no bytes back, compressed",
            |visit| echoed(visit, 5, 0)
        ),
        case!(
            "rlpx/snappy/literals",
            Must,
            EIP,
            [],
            "sends 5,000 bytes to echo/1 as a block of literals, as an encoder may that does not look for repetitions",
            "sends them back",
            literals
        ),
    ]
}

/// How large a message says to be.
fn sizes() -> Vec<Case> {
    let mut cases = [
        breach!(
            "rlpx/snappy/declared-4-gib",
            Should,
            DOS,
            ["H32"],
            "sends a message of 16 bytes that declares 4 GiB - 1 uncompressed",
            |visit| after_block(visit, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0x28, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
            0x02
        ),
        breach!(
            "rlpx/snappy/above-16-mib",
            Should,
            DOS,
            ["H32"],
            "sends a message with 16 MiB and a byte of zeros, compressed",
            |visit| zeros(visit, LARGEST + 2),
            0x02
        ),
    ]
    .concat();
    cases.push(case!(
        "rlpx/snappy/zeros",
        Should,
        DOS,
        ["H34"],
        "sends eight messages with 16 MiB of zeros each, compressed",
        "closes the connection, or answers a Ping",
        many_zeros,
        deadline: Duration::from_secs(60)
    ));
    cases
}

/// Blocks that cannot be decompressed.
fn corrupt() -> Vec<Case> {
    [
        breach!(
            "rlpx/snappy/no-block",
            Should,
            MESSAGES,
            ["H35"],
            "sends a message with no data at all behind its id",
            |visit| after_block(visit, &[]),
            0x02
        ),
        breach!(
            "rlpx/snappy/truncated",
            Should,
            MESSAGES,
            ["H35"],
            "sends a block that ends inside a literal",
            |visit| after_block(visit, &[10, 9 << 2, 1, 2, 3]),
            0x02
        ),
        breach!(
            "rlpx/snappy/trailing",
            Should,
            MESSAGES,
            ["H35"],
            "sends a block with bytes behind its end",
            |visit| after_block(visit, &[1, 0, 0xc0, 0, 0xc0]),
            0x02
        ),
        breach!(
            "rlpx/snappy/short",
            Should,
            MESSAGES,
            ["H35"],
            "sends a block that holds less than it declares",
            |visit| after_block(visit, &[100, 0, 0xc0]),
            0x02
        ),
        breach!(
            "rlpx/snappy/copy-before-start",
            Should,
            MESSAGES,
            ["H35"],
            "sends a block with a copy from before its start",
            |visit| after_block(visit, &[5, 0, 0xc0, 0x01, 0x09]),
            0x02
        ),
        breach!(
            "rlpx/snappy/copy-offset-zero",
            Should,
            MESSAGES,
            ["H35"],
            "sends a block with a copy whose offset is 0",
            |visit| after_block(visit, &[5, 0, 0xc0, 0x01, 0x00]),
            0x02
        ),
        breach!(
            "rlpx/snappy/length-overlong",
            Should,
            MESSAGES,
            ["H35"],
            "sends a block whose length is a varint of eleven bytes",
            |visit| after_block(visit, &[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0, 0xc0]),
            0x02
        ),
        breach!(
            "rlpx/snappy/not-compressed",
            Should,
            MESSAGES,
            ["H35"],
            "sends an empty list that is not compressed, in a session that is",
            |visit| after_block(visit, &[0xc0]),
            0x02
        ),
    ]
    .concat()
}

/// How the connection ends after this block for the first subprotocol.
async fn after_block(visit: &Visit, block: &[u8]) -> Result<Ending, Stop> {
    claims_something(visit)?;
    compresses(visit)?;
    after_content(visit, "message 0x10 with a block of its own", &[&[FIRST as u8], block].concat()).await
}

async fn zeros(visit: &Visit, size: usize) -> Result<Ending, Stop> {
    claims_something(visit)?;
    compresses(visit)?;
    let mut script = session(visit).await?;
    script.send_frame("message 0x10 with zeros", &zeros_content(FIRST as u8, size)).await;
    script.ending(CLOSED).await
}

async fn many_zeros(visit: &Visit) -> Result<(), Stop> {
    claims_something(visit)?;
    compresses(visit)?;
    let mut script = session(visit).await?;
    let content = zeros_content(FIRST as u8, LARGEST);
    for _ in 0..TIMES {
        script.send_frame("message 0x10 with 16 MiB of zeros", &content).await;
        if script.is_closed() {
            break;
        }
    }
    goes_on_or_closes(&mut script).await
}

/// The Pong in a session of this version is an empty list, or nothing, in the form in which it should be.
async fn pong(visit: &Visit, version: u64, ping: &[u8]) -> Result<(), Stop> {
    if version >= 5 {
        compresses(visit)?;
    }
    let mut script = visit.greet_with(|hello| hello.version = version).await?;
    script.send_frame("Ping", &[&[2], ping].concat()).await;
    // Of version 5 it is decompressed by then, or the case has failed.
    match &answer(&mut script, 3, CLOSED).await?[..] {
        [] | [0xc0] => Ok(()),
        data => Err(Stop::failed(format!("the data of the Pong is {}", hex::encode(data)))),
    }
}

async fn echoed(visit: &Visit, version: u64, length: usize) -> Result<(), Stop> {
    claims_echo(visit)?;
    if version >= 5 {
        compresses(visit)?;
    }
    let change = |hello: &mut crate::RawHello| (hello.version, hello.capabilities) = (version, vec![echo()]);
    let mut script = session_with(visit, change).await?;
    echoes(&mut script, &ramp(length)).await
}

async fn literals(visit: &Visit) -> Result<(), Stop> {
    claims_echo(visit)?;
    compresses(visit)?;
    let mut script = session_with(visit, |hello| hello.capabilities = vec![echo()]).await?;
    let payload = ramp(5000);
    let mut content = vec![FIRST as u8, 0x88, 0x27];
    for literal in payload.chunks(50) {
        content.push((literal.len() as u8 - 1) << 2);
        content.extend(literal);
    }
    script.send_frame("5,000 bytes for echo/1 in literals", &content).await;
    match answer(&mut script, FIRST + 1, CLOSED).await? == payload {
        true => Ok(()),
        false => Err(Stop::failed("the payload that came back is another")),
    }
}

/// The content of a frame with this message and this many zeros: one, and copies of it.
pub(super) fn zeros_content(id: u8, size: usize) -> Vec<u8> {
    let mut content = vec![id];
    let mut length = size;
    while length >= 0x80 {
        content.push(length as u8 | 0x80);
        length >>= 7;
    }
    content.extend([length as u8, 0, 0]);
    content.extend([63 << 2 | 2, 1, 0].repeat((size - 1) / 64));
    match (size - 1) % 64 {
        0 => {}
        rest => content.extend([(rest as u8 - 1) << 2 | 2, 1, 0]),
    }
    content
}

/// Bytes that compress a little.
fn ramp(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index / 7 + index * index / 1000) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_a_block_of_their_size() {
        for size in [1, 2, 64, 65, 66, 130, 1000, LARGEST, LARGEST + 2] {
            let content = zeros_content(1, size);
            let data = snap::raw::Decoder::new().decompress_vec(&content[1..]).unwrap();
            assert!(data.len() == size && data.iter().all(|byte| *byte == 0), "H34: {size}");
        }
    }
}
