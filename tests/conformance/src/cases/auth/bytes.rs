//! Lengths, and bytes that were changed on the way.

use std::ops::Range;
use std::time::Duration;

use super::super::handshake::{ECIES, HARDENING, IV, LIMIT, OFF_CURVE, POINT, SIZE, changed, ended, refusal, tag};
use super::{LIST, closed, refused};
use crate::case::Case;
use crate::model::handshake::{Auth, OVERHEAD, seal, seal_with};
use crate::outcome::Stop;
use crate::visit::Visit;

/// How far apart two ends of the same kind are at most: one at once and one after 5 s are not of the same kind.
const APART: Duration = Duration::from_millis(2500);

pub(super) fn cases() -> Vec<Case> {
    [size_cases(), changed_cases()].concat()
}

fn size_cases() -> Vec<Case> {
    let cases = [
        refusal!(
            "rlpx/auth/sizes-to-200",
            Should,
            HARDENING,
            ["H3"],
            "sends sealed messages of every size from 0 to 200 bytes, and some bytes behind each",
            "closes each connection without a byte",
            sizes_to_200,
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/sizes-above-2-kib",
            Should,
            HARDENING,
            ["H4"],
            "sends zeros as messages of 2,049 to 65,535 bytes",
            "closes each connection without a byte",
            sizes_above_limit,
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/size-grown",
            Should,
            HARDENING,
            ["H1", "H8"],
            "sends an auth whose size is one byte too large, and nothing more",
            "closes the connection without a byte, 5 s after the dial at the latest",
            size_grown
        ),
    ];
    cases.to_vec()
}

fn changed_cases() -> Vec<Case> {
    let cases = [
        refusal!(
            "rlpx/auth/changed-size",
            Must,
            ECIES,
            ["H8"],
            "sends auths with a changed size, and as many bytes as it says",
            "gives no answer",
            |visit| changed_within(visit, |_| SIZE),
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/changed-point",
            Must,
            ECIES,
            ["H8"],
            "sends auths in which a byte of the ephemeral point is changed",
            "gives no answer",
            |visit| changed_within(visit, |_| POINT),
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/changed-iv",
            Must,
            ECIES,
            ["H8"],
            "sends auths in which a byte of the initialisation vector is changed",
            "gives no answer",
            |visit| changed_within(visit, |_| IV),
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/changed-ciphertext",
            Must,
            ECIES,
            ["H8"],
            "sends auths in which a byte of the ciphertext is changed, the padding's last one, too",
            "gives no answer",
            |visit| changed_within(visit, |auth| IV.end..tag(auth)),
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/changed-tag",
            Must,
            ECIES,
            ["H8", "H9"],
            "sends auths in which a byte of the tag is changed",
            "gives no answer",
            |visit| changed_within(visit, |auth| tag(auth)..auth.len()),
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/refused-and-closed",
            Should,
            HARDENING,
            ["H5", "H8", "H11"],
            "sends an auth with a wrong tag, one with a point off the curve and one with an empty signature",
            "closes each connection without a byte, at once or 5 s after the dial",
            refused_and_closed,
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/bad-tag-as-bad-point",
            Should,
            HARDENING,
            ["H9"],
            "sends an auth with a wrong tag, and one with a point off the curve",
            "gives no answer, and closes both in the same way, at once or after a while, or none",
            alike,
            deadline: LIST
        ),
    ];
    cases.to_vec()
}

async fn sizes_to_200(visit: &Visit) -> Result<(), Stop> {
    for size in 0..=200_usize {
        let what = format!("a message of {size} bytes");
        closed(visit, &what, |_| {
            let mut message = seal(&visit.key(), &vec![0; size.saturating_sub(OVERHEAD)]);
            message[..2].copy_from_slice(&(size as u16).to_be_bytes());
            message.truncate(2 + size);
            // For nodes that read 307 bytes first, as the form before EIP-8 had it.
            message.resize(400, 0);
            message
        })
        .await?;
    }
    Ok(())
}

async fn sizes_above_limit(visit: &Visit) -> Result<(), Stop> {
    for size in [LIMIT + 1, 4096, 0x7fff, 0xffff] {
        let message = [&(size as u16).to_be_bytes()[..], &vec![0; size]].concat();
        closed(visit, &format!("zeros as a message of {size} bytes"), |_| message).await?;
    }
    Ok(())
}

async fn size_grown(visit: &Visit) -> Result<(), Stop> {
    closed(visit, "auth with a size too large by one", |auth| {
        let mut auth = auth.seal();
        let size = u16::from_be_bytes([auth[0], auth[1]]) + 1;
        auth[..2].copy_from_slice(&size.to_be_bytes());
        auth
    })
    .await
}

async fn changed_within(visit: &Visit, part: impl Fn(&[u8]) -> Range<usize>) -> Result<(), Stop> {
    for (place, mask) in [(0, 0x01), (0, 0x80), (50, 0x10), (100, 0x01), (100, 0xff)] {
        refused(visit, &format!("auth with a byte ^ {mask:#04x}"), |auth| {
            let auth = auth.seal();
            let part = part(&auth);
            changed(&auth, part.start + (part.len() - 1) * place / 100, mask)
        })
        .await?;
    }
    Ok(())
}

async fn refused_and_closed(visit: &Visit) -> Result<(), Stop> {
    closed(visit, "auth with a wrong tag", |auth| changed(&auth.seal(), auth.seal().len() - 1, 1)).await?;
    closed(visit, "auth with a bad point", |auth| seal_with(&OFF_CURVE.bytes, &[7; 32], &auth.body())).await?;
    closed(visit, "auth without a signature", |auth| Auth { signature: [0; 65], ..auth }.seal()).await
}

async fn alike(visit: &Visit) -> Result<(), Stop> {
    let mut endings = Vec::new();
    for is_point in [false, true] {
        let mut script = visit.open().await?;
        let auth = script.identity.auth(&visit.key());
        let message = match is_point {
            false => changed(&auth.seal(), auth.seal().len() - 1, 1),
            true => seal_with(&OFF_CURVE.bytes, &[7; 32], &auth.body()),
        };
        script.send_raw(if is_point { "bad point" } else { "bad tag" }, &message).await;
        endings.push(ended(&mut script, "the message").await?);
    }
    let apart = endings[0].after.abs_diff(endings[1].after);
    let is_silent = endings[0].bytes == 0 && endings[1].bytes == 0;
    match is_silent && endings[0].closed == endings[1].closed && apart < APART {
        true => Ok(()),
        false => Err(Stop::failed(format!("a bad tag: {}; a bad point: {}", endings[0], endings[1]))),
    }
}
