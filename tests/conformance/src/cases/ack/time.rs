//! Recipients that take their time.

use std::time::Duration;

use tokio::time::Instant;

use super::super::handshake::{CLOSED, HARDENING, silent};
use crate::case::{Case, case};
use crate::outcome::Stop;
use crate::visit::Visit;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case!(
            "rlpx/ack/silent",
            Should,
            HARDENING,
            ["H18"],
            "is dialled, reads the auth, and sends nothing",
            "closes the connection without a byte, 5 s after its dial or a little later",
            silence
        ),
        case!(
            "rlpx/ack/half",
            Should,
            HARDENING,
            ["H18"],
            "answers with the first half of an ack, and nothing more",
            "closes the connection without a byte, 5 s after its dial or a little later",
            half
        ),
        case!(
            "rlpx/ack/byte-each-second",
            Should,
            HARDENING,
            ["H18"],
            "answers with an ack, one byte each second",
            "closes the connection without a byte, 5 s after its dial or a little later",
            byte_each_second
        ),
        case!(
            "rlpx/ack/end-within",
            Should,
            HARDENING,
            ["H30"],
            "answers with the first half of an ack, and closes its end of the connection",
            "closes the connection without a byte",
            end_within
        ),
    ];
    cases.to_vec()
}

async fn silence(visit: &Visit) -> Result<(), Stop> {
    silent(&mut visit.accept()?.script, "silence").await
}

async fn half(visit: &Visit) -> Result<(), Stop> {
    let mut dialled = visit.accept()?;
    let (ack, _) = dialled.ack(|ack| ack)?;
    dialled.script.send_raw("half an ack", &ack[..ack.len() / 2]).await;
    silent(&mut dialled.script, "half an ack").await
}

async fn byte_each_second(visit: &Visit) -> Result<(), Stop> {
    let dialled = visit.accept()?;
    let (ack, _) = dialled.ack(|ack| ack)?;
    let mut script = dialled.script;
    let start = Instant::now();
    for byte in ack {
        script.send_raw("a byte of an ack", &[byte]).await;
        let mut ending = script.ending(Duration::from_secs(1)).await?;
        ending.after = start.elapsed();
        if ending.closed.is_some() || ending.bytes > 0 || ending.after > CLOSED {
            return ending.expect_silent();
        }
    }
    Err(Stop::failed("the node has taken the whole ack"))
}

async fn end_within(visit: &Visit) -> Result<(), Stop> {
    let mut dialled = visit.accept()?;
    let (ack, _) = dialled.ack(|ack| ack)?;
    dialled.script.send_raw("half an ack", &ack[..ack.len() / 2]).await;
    dialled.script.finish().await;
    silent(&mut dialled.script, "half an ack, and the end").await
}
