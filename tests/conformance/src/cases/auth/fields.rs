//! Bodies that are well sealed, and wrong.

use super::super::handshake::{HANDSHAKE, HARDENING, bad_bodies, refusal};
use super::{LIST, refused};
use crate::case::Case;
use crate::model::handshake::{Auth, seal};
use crate::outcome::Stop;
use crate::visit::Visit;

/// The order of the curve.
const N: [u8; 32] = [
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 254, 186, 174, 220, 230, 175, 72, 160,
    59, 191, 210, 94, 140, 208, 54, 65, 65,
];

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        refusal!(
            "rlpx/auth/bodies",
            Should,
            HARDENING,
            ["H10"],
            "sends auths whose body is no list, a list without an end, nested lists and the like",
            "gives no answer",
            bodies,
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/lengths",
            Should,
            HARDENING,
            ["H10"],
            "sends auths with a nonce of 0, 31 and 33 bytes",
            "gives no answer",
            lengths,
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/version-none",
            May,
            HARDENING,
            ["H10"],
            "sends auths without a version, and with a list in its place",
            "gives no answer",
            no_version,
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/signature-zero",
            Must,
            HANDSHAKE,
            ["H11"],
            "sends auths in whose signature r or s is 0",
            "gives no answer",
            |visit| bad_halves(visit, [0; 32]),
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/signature-above-order",
            Must,
            HANDSHAKE,
            ["H11"],
            "sends auths in whose signature r or s is the order of the curve, or 2^256 - 1",
            "gives no answer",
            above_order,
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/recovery-id",
            Must,
            HANDSHAKE,
            ["H11"],
            "sends auths in whose signature the recovery id is 4, 27, 28 and 255",
            "gives no answer",
            recovery_id,
            deadline: LIST
        ),
    ];
    cases.to_vec()
}

async fn bodies(visit: &Visit) -> Result<(), Stop> {
    for (what, body) in bad_bodies() {
        refused(visit, &format!("{what} as the body"), |_| seal(&visit.key(), &body)).await?;
    }
    Ok(())
}

async fn lengths(visit: &Visit) -> Result<(), Stop> {
    for length in [0, 31, 33] {
        refused(visit, &format!("auth with a nonce of {length} bytes"), |auth| {
            Auth { nonce: vec![1; length], ..auth }.seal()
        })
        .await?;
    }
    Ok(())
}

async fn no_version(visit: &Visit) -> Result<(), Stop> {
    for (what, items) in [("auth without a version", vec![]), ("auth with a list as the version", vec![0xc1, 4])] {
        refused(visit, what, |mut auth| {
            auth.rest.items = items;
            auth.seal()
        })
        .await?;
    }
    Ok(())
}

async fn above_order(visit: &Visit) -> Result<(), Stop> {
    bad_halves(visit, N).await?;
    bad_halves(visit, [0xff; 32]).await
}

async fn bad_halves(visit: &Visit, value: [u8; 32]) -> Result<(), Stop> {
    for (half, name) in [(0..32, 'r'), (32..64, 's')] {
        refused(visit, &format!("auth with the {name} {}", hex::encode(value)), |mut auth| {
            auth.signature[half].copy_from_slice(&value);
            auth.seal()
        })
        .await?;
    }
    Ok(())
}

async fn recovery_id(visit: &Visit) -> Result<(), Stop> {
    for id in [4, 27, 28, 255] {
        refused(visit, &format!("auth with the recovery id {id}"), |mut auth| {
            auth.signature[64] = id;
            auth.seal()
        })
        .await?;
    }
    Ok(())
}
