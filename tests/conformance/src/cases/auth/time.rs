//! Dials that take their time.

use std::time::Duration;

use tokio::time::Instant;

use super::super::handshake::{CLOSED, HARDENING, refusal, silent};
use super::closed;
use crate::case::Case;
use crate::outcome::Stop;
use crate::visit::Visit;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        refusal!(
            "rlpx/auth/silent",
            Should,
            HARDENING,
            ["H1"],
            "connects, and sends nothing",
            "closes the connection without a byte, 5 s after the dial or a little later",
            silence
        ),
        refusal!(
            "rlpx/auth/half",
            Should,
            HARDENING,
            ["H1"],
            "sends the first half of an auth, and nothing more",
            "closes the connection without a byte, 5 s after the dial or a little later",
            half
        ),
        refusal!(
            "rlpx/auth/byte-each-second",
            Should,
            HARDENING,
            ["H2"],
            "sends an auth, one byte each second",
            "closes the connection without a byte, 5 s after the dial or a little later",
            byte_each_second
        ),
        refusal!(
            "rlpx/auth/end-within",
            Should,
            HARDENING,
            ["H30"],
            "sends the first half of an auth, and closes its end of the connection",
            "closes the connection without a byte",
            end_within
        ),
    ];
    cases.to_vec()
}

async fn silence(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.open().await?;
    silent(&mut script, "silence").await
}

async fn half(visit: &Visit) -> Result<(), Stop> {
    closed(visit, "half an auth", |auth| {
        let auth = auth.seal();
        auth[..auth.len() / 2].to_vec()
    })
    .await
}

async fn byte_each_second(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.open().await?;
    let auth = script.identity.auth(&visit.key()).seal();
    let start = Instant::now();
    for byte in auth {
        script.send_raw("a byte of an auth", &[byte]).await;
        let mut ending = script.ending(Duration::from_secs(1)).await?;
        ending.after = start.elapsed();
        if ending.closed.is_some() || ending.bytes > 0 || ending.after > CLOSED {
            return ending.expect_silent();
        }
    }
    Err(Stop::failed("the node has taken the whole auth"))
}

async fn end_within(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.open().await?;
    let auth = script.identity.auth(&visit.key()).seal();
    script.send_raw("half an auth", &auth[..auth.len() / 2]).await;
    script.finish().await;
    silent(&mut script, "half an auth, and the end").await
}
