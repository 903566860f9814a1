//! `p2p/base`: Ping, Pong, Disconnect and what else has an id below 0x10.

use std::time::Duration;

use crate::case::{Case, case};
use crate::outcome::Stop;
use crate::visit::Visit;

const PING: &str = "rlpx.md, Ping (0x02)";
const DISCONNECT: &str = "rlpx.md, Disconnect (0x01)";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("p2p/ping/answered", Must, PING, ["H47"], "sends a Ping", "answers with a Pong", answered),
        case!(
            "p2p/disconnect/closes",
            Must,
            DISCONNECT,
            ["H50"],
            "sends a Disconnect with reason 0x08",
            "closes the connection within 5 s",
            disconnect
        ),
    ]
}

async fn answered(visit: &Visit) -> Result<(), Stop> {
    visit.greet().await?.ping().await
}

async fn disconnect(visit: &Visit) -> Result<(), Stop> {
    let mut script = visit.greet().await?;
    script.send("Disconnect 0x08", 1, &[0xc1, 0x08]).await;
    script.ending(Duration::from_secs(5)).await?.expect_closed()
}
