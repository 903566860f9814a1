//! Disconnect reasons, sent and received, and ends in order.

use capmux::{Direction, DisconnectReason, Party, Peer, PeerError, Stage};

use crate::local::{Local, ending};
use crate::matrix::Case;
use crate::remote::Remote;
use crate::tools::Implementation;

with_every_node!(our_reason_reaches_them, their_reason_reaches_us, our_shutdown, their_shutdown);

/// All that have a name, and one that has none.
fn reasons() -> impl Iterator<Item = DisconnectReason> {
    (0..=0x0b).chain([0x10, 0x42]).map(DisconnectReason::from_code)
}

/// A server of its own for each reason, so that they are all ended at once.
async fn a_peer_for_each_reason(remote: &mut Remote, direction: Direction) -> Vec<(DisconnectReason, Local, Peer)> {
    let mut all = Vec::new();
    for reason in reasons() {
        let mut local = Local::echoing().await;
        let (peer, _) = local.connect(remote, direction).await;
        all.push((reason, local, peer));
    }
    all
}

async fn our_reason_reaches_them(case: Case) {
    let mut remote = case.remote(&[]).await;
    let all = a_peer_for_each_reason(&mut remote, case.direction).await;
    for (reason, _, peer) in &all {
        peer.disconnect(*reason);
    }
    for (reason, local, peer) in &all {
        let drop = remote.expect_of("drop", &local.id()).await;
        assert_eq!((drop.number("code"), drop.flag("remote")), (Some(reason.code()), Some(true)), "R62 {drop:?}");
        let ending = ending(peer).await;
        assert_eq!((ending.stage(), ending.by()), (Stage::Session, Party::Local), "R62 {ending}");
        assert_eq!(ending.reason(), Some(*reason), "R62 {ending}");
        assert_eq!(local.server.peers(), [], "R66");
    }
}

async fn their_reason_reaches_us(case: Case) {
    let mut remote = case.remote(&[]).await;
    let all = a_peer_for_each_reason(&mut remote, case.direction).await;
    for (reason, local, _) in &all {
        remote.disconnect(&local.id(), reason.code()).await;
    }
    for (reason, local, peer) in &all {
        let ending = ending(peer).await;
        assert_eq!((ending.stage(), ending.by()), (Stage::Session, Party::Remote), "R38 R62 {ending}");
        // geth takes a network error at its word and says nothing.
        let silent = case.implementation == Implementation::Geth && *reason == DisconnectReason::NetworkError;
        let told = (!silent).then_some(*reason);
        // From geth it is a list and compressed, from ethereumjs a bare integer and plain.
        assert_eq!(ending.reason(), told, "R38 R62 H50 {ending}");
        let closed = matches!(ending.error(), PeerError::Closed { inside_message: false });
        assert_eq!(closed, silent, "R65 {ending}");
        assert_eq!(local.server.peers(), [], "R66");
    }
}

async fn our_shutdown(case: Case) {
    let mut remote = case.remote(&[]).await;
    let mut local = Local::echoing().await;
    let (peer, _) = local.connect(&mut remote, case.direction).await;
    local.server.shutdown().await;
    let drop = remote.expect_of("drop", &local.id()).await;
    assert_eq!((drop.number("code"), drop.flag("remote")), (Some(0x08), Some(true)), "R63 {drop:?}");
    assert!(matches!(ending(&peer).await.error(), PeerError::ShuttingDown), "R63");
}

async fn their_shutdown(case: Case) {
    let mut remote = case.remote(&[]).await;
    let mut local = Local::echoing().await;
    let (peer, _) = local.connect(&mut remote, case.direction).await;
    remote.quit();
    let ending = ending(&peer).await;
    assert_eq!((ending.stage(), ending.by()), (Stage::Session, Party::Remote), "R38 {ending}");
    assert_eq!(ending.reason(), Some(DisconnectReason::ClientQuitting), "R38 R62 {ending}");
    remote.ended().await;
}
