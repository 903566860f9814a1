//! No place for another peer, at either end.

use capmux::{DisconnectReason, Party, PeerError, Stage, testing};

use crate::local::{Local, echo, ending};
use crate::matrix::Case;
use crate::tools::Implementation;

/// Limits on inbound peers: for those we dial, it is theirs.
mod our_limit {
    with_every_node! { @one our_limit geth_dials Geth Inbound }
    with_every_node! { @one our_limit ethereumjs_dials EthereumJs Inbound }
}

mod their_limit {
    with_every_node! { @one their_limit geth_is_dialled Geth Outbound }
    with_every_node! { @one their_limit ethereumjs_is_dialled EthereumJs Outbound }
}

async fn our_limit(case: Case) {
    let mut remote = case.remote(&[]).await;
    let mut local = Local::start(testing::node().max_peers(1).protocol(echo())).await;
    let other = Local::echoing().await;
    let first = other.dial(&local.enode()).await.expect("there is a place");
    local.added().await;

    remote.dial(&local.enode()).await;
    let ending = local.refused().await;

    assert_eq!((ending.stage(), ending.by()), (Stage::Hello, Party::Local), "R44 {ending}");
    assert_eq!(ending.reason(), Some(DisconnectReason::TooManyPeers), "R44 H64 {ending}");
    assert!(matches!(ending.error(), PeerError::TooManyPeers { limit: 1 }), "R44 {ending}");
    let theirs = remote.expect("dial_failed").await;
    assert_eq!(theirs.number("code"), Some(0x04), "R44 H64 {theirs:?}");
    remote.assert_knows_nobody().await;
    assert!(first.ending().is_none(), "R44: who was there first stays");
}

async fn their_limit(case: Case) {
    // geth keeps a third of its places, one at least, for those it dials itself.
    let is_geth = case.implementation == Implementation::Geth;
    let mut remote = case.remote(&["--max-peers", if is_geth { "2" } else { "1" }]).await;
    let mut other = Local::echoing().await;
    other.connect(&mut remote, case.direction).await;
    let local = Local::echoing().await;

    let ending = match local.dial(remote.enode()).await {
        Ok(peer) => ending(&peer).await,
        Err(ending) => ending,
    };

    // geth says it in place of its Hello, in plain; ethereumjs after it, in plain and as a bare integer.
    let stage = if is_geth { Stage::Hello } else { Stage::Session };
    assert_eq!((ending.stage(), ending.by()), (stage, Party::Remote), "R38 {ending}");
    assert_eq!(ending.reason(), Some(DisconnectReason::TooManyPeers), "R38 H50 {ending}");
    assert_eq!(local.server.peers(), []);
    assert_eq!(other.server.peers().len(), 1);
}
