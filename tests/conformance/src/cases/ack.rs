//! `rlpx/ack`: what the node makes of the answer to its auth, when it dials the suite.

use crate::case::{Case, Role, case};
use crate::outcome::Stop;
use crate::visit::Visit;

const HANDSHAKE: &str = "rlpx.md, Initial Handshake";

pub(super) fn cases() -> Vec<Case> {
    vec![case!(
        "rlpx/ack/honest",
        Must,
        HANDSHAKE,
        [],
        "is dialled, and answers with an ack of version 4 with 150 bytes of padding",
        "sends an auth that can be read, and a frame of either end arrives",
        honest,
        role: Role::Listens
    )]
}

async fn honest(visit: &Visit) -> Result<(), Stop> {
    visit.accept()?.greet(&visit.node).await?.ping().await
}
