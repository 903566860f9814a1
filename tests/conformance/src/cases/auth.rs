//! `rlpx/auth`: what the node makes of the first message, when the suite dials.

use std::time::Duration;

use crate::case::{Case, case};
use crate::model::handshake::{point, seal_with};
use crate::outcome::Stop;
use crate::visit::Visit;

const HANDSHAKE: &str = "rlpx.md, Initial Handshake";
const ECIES: &str = "rlpx.md, ECIES Encryption";

/// The encryption handshake's limit, and some time for the machine.
const CLOSED: Duration = Duration::from_secs(8);

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "rlpx/auth/honest",
            Must,
            HANDSHAKE,
            [],
            "sends an auth of version 4 with 150 bytes of padding",
            "answers with an ack, and a frame of either end arrives",
            honest
        ),
        case!(
            "rlpx/auth/point-off-curve",
            Must,
            ECIES,
            ["H5"],
            "sends an auth whose ephemeral point is not on the curve, with a tag that is right for a secret of its own",
            "closes the connection without a byte",
            point_off_curve
        ),
    ]
}

async fn honest(visit: &Visit) -> Result<(), Stop> {
    visit.greet().await?.ping().await
}

async fn point_off_curve(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.open().await?;
    let mut off_curve = [0; 64];
    (off_curve[31], off_curve[63]) = (1, 1);
    let auth = seal_with(&point(4, &off_curve), &[7; 32], &[0; 300]);
    script.send_raw("auth with the point (1, 1)", &auth).await;
    script.ending(CLOSED).await?.expect_silent()
}
