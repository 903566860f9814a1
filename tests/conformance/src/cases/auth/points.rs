//! Points and public keys that are none.

use super::super::handshake::{
    BadPoint, ECIES, HANDSHAKE, HARDENING, OFF_CURVE, ORDER_2, ORDER_3, ORDER_6, TWIST, X_ABOVE_P, Y_ABOVE_P, ZERO,
    ZERO_AS_P, refusal,
};
use super::{LIST, refused};
use crate::case::Case;
use crate::model::handshake::{Auth, agree, point, public, seal_with, secret};
use crate::outcome::Stop;
use crate::visit::Visit;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        refusal!(
            "rlpx/auth/point-zero",
            Must,
            ECIES,
            ["H5"],
            "sends an auth whose ephemeral point is (0, 0), with the tag for the secret 0",
            "gives no answer",
            |visit| bad_point(visit, &ZERO)
        ),
        refusal!(
            "rlpx/auth/point-off-curve",
            Must,
            ECIES,
            ["H5"],
            "sends an auth whose ephemeral point is not on the curve, with a tag that is right for a secret of its own",
            "gives no answer",
            |visit| bad_point(visit, &OFF_CURVE)
        ),
        refusal!(
            "rlpx/auth/point-order-2",
            Must,
            ECIES,
            ["H5"],
            "sends auths with a point of order 2 on another curve, with the tags for all secrets that it can lead to",
            "gives no answer; an ack would tell whether the node's key is odd",
            |visit| bad_point(visit, &ORDER_2),
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/point-order-3",
            Must,
            ECIES,
            ["H5"],
            "sends an auth with a point of order 3 on another curve, with the tag for the secret that it can lead to",
            "gives no answer; an ack would tell of the node's key modulo 3",
            |visit| bad_point(visit, &ORDER_3)
        ),
        refusal!(
            "rlpx/auth/point-order-6",
            Must,
            ECIES,
            ["H5"],
            "sends auths with a point of order 6 on another curve, with the tags for all secrets that it can lead to",
            "gives no answer; an ack would tell of the node's key modulo 6",
            |visit| bad_point(visit, &ORDER_6),
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/point-on-twist",
            Must,
            ECIES,
            ["H5"],
            "sends an auth whose ephemeral point has an x that no point of the curve has",
            "gives no answer",
            |visit| bad_point(visit, &TWIST)
        ),
        refusal!(
            "rlpx/auth/point-above-p",
            Should,
            ECIES,
            ["H6"],
            "sends auths with points of which x, y or both are p or more",
            "gives no answer",
            above_p,
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/point-first-byte",
            Should,
            ECIES,
            ["H5"],
            "sends auths, good otherwise, whose point does not begin with 4",
            "gives no answer",
            first_byte,
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/public-key",
            Must,
            HANDSHAKE,
            ["H11"],
            "sends auths in which the initiator's public key is no point of the curve",
            "gives no answer",
            public_key,
            deadline: LIST
        ),
        refusal!(
            "rlpx/auth/public-key-above-p",
            Should,
            HARDENING,
            ["H6", "H11"],
            "sends auths in which x, y or both of the initiator's public key are p or more",
            "gives no answer",
            public_key_above_p,
            deadline: LIST
        ),
    ];
    cases.to_vec()
}

async fn bad_point(visit: &Visit, point: &BadPoint) -> Result<(), Stop> {
    for secret in point.secrets {
        refused(visit, "auth", |auth| seal_with(&point.bytes, &secret.bytes(), &auth.body())).await?;
    }
    Ok(())
}

async fn above_p(visit: &Visit) -> Result<(), Stop> {
    for point in [&X_ABOVE_P, &Y_ABOVE_P, &ZERO_AS_P] {
        bad_point(visit, point).await?;
    }
    Ok(())
}

async fn first_byte(visit: &Visit) -> Result<(), Stop> {
    let (good, key) = (public(&secret(97)), visit.key());
    let agreed = agree(&secret(97), &key).map_err(|broken| Stop::unclear(format!("the node's key is {broken}")))?;
    for prefix in [0, 1, 2, 3, 5, 6, 7, 0xff] {
        let what = format!("auth whose point begins with {prefix}");
        refused(visit, &what, |auth| seal_with(&point(prefix, &good), &agreed, &auth.body())).await?;
    }
    Ok(())
}

async fn public_key(visit: &Visit) -> Result<(), Stop> {
    let points =
        [(&ZERO, "(0, 0)"), (&OFF_CURVE, "(1, 1)"), (&ORDER_2, "(1, 0)"), (&ORDER_3, "(0, 1)"), (&TWIST, "(5, 1)")];
    for (point, what) in points {
        bad_key(visit, point, what).await?;
    }
    Ok(())
}

async fn public_key_above_p(visit: &Visit) -> Result<(), Stop> {
    for (point, what) in [(&X_ABOVE_P, "p + 1 as x"), (&Y_ABOVE_P, "p + 1 as y"), (&ZERO_AS_P, "(p, p)")] {
        bad_key(visit, point, what).await?;
    }
    Ok(())
}

async fn bad_key(visit: &Visit, point: &BadPoint, what: &str) -> Result<(), Stop> {
    let what = format!("auth with the public key {what}");
    refused(visit, &what, |auth| Auth { public_key: point.coordinates(), ..auth }.seal()).await
}
