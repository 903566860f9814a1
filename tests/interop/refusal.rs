//! Connections that lead to nothing: no capability in common, or not the key that was dialled.

use capmux::p2p::SessionError;
use capmux::{Direction, DisconnectReason, Ending, Enode, NodeKey, Party, PeerError, PublicKey, Stage};

use crate::json::Json;
use crate::local::Local;
use crate::matrix::Case;
use crate::remote::Remote;
use crate::tools::Implementation;

with_every_node!(a_useless_peer, the_wrong_static_key);

async fn a_useless_peer(case: Case) {
    // The same name in another version, and another name in the same.
    let mut remote = case.remote(&["--protocol", "echo/2/2", "--protocol", "other/1/2"]).await;
    let mut local = Local::echoing().await;

    let (ending, theirs) = attempt(&mut local, &mut remote, case.direction, None).await;

    assert_eq!(ending.stage(), Stage::Hello, "R3 {ending}");
    assert_eq!(ending.reason(), Some(DisconnectReason::UselessPeer), "R3 H53 {ending}");
    let PeerError::Session(error) = ending.error() else { panic!("{ending}") };
    match ending.by() {
        Party::Local => assert_eq!(error, &SessionError::NoSharedCapability, "R3"),
        // An ethereumjs that finds our Hello right behind the ack says Disconnect in place of its own Hello.
        by => assert_eq!((by, case.implementation), (Party::Remote, Implementation::EthereumJs), "R38 {ending}"),
    }
    assert_eq!(theirs.number("code"), Some(0x03), "R3 H53 {theirs:?}");
    assert_eq!(local.server.peers(), []);
    remote.assert_knows_nobody().await;
}

async fn the_wrong_static_key(case: Case) {
    let mut remote = case.remote(&[]).await;
    let mut local = Local::echoing().await;
    let stranger = NodeKey::random().public_key();

    let (ending, theirs) = attempt(&mut local, &mut remote, case.direction, Some(stranger)).await;

    // Whoever was dialled cannot read the auth. capmux and geth hang up without a word; ethereumjs keeps silent until
    // our deadline.
    let by = match (case.direction, case.implementation) {
        (Direction::Inbound, _) => Party::Local,
        (Direction::Outbound, Implementation::Geth) => Party::Remote,
        (Direction::Outbound, Implementation::EthereumJs) => Party::Network,
    };
    assert_eq!((ending.stage(), ending.by()), (Stage::Encryption, by), "R35 R37 H17 {ending}");
    assert_eq!(ending.reason(), None, "R35 H17 {ending}");
    assert_eq!(matches!(ending.error(), PeerError::Handshake(_)), by == Party::Local, "R35 {ending}");
    assert_eq!(theirs.number("code"), None, "R35 H17 {theirs:?}");
    assert_eq!(local.server.peers(), [], "H17");
    remote.assert_knows_nobody().await;
}

/// How each end tells of a connection that does not lead to a peer, made in this direction, to this key if it is not
/// the right one.
async fn attempt(
    local: &mut Local,
    remote: &mut Remote,
    direction: Direction,
    key: Option<PublicKey>,
) -> (Ending, Json) {
    let dialled = if direction == Direction::Outbound { remote.enode().clone() } else { local.enode() };
    let enode = Enode { public_key: key.unwrap_or(dialled.public_key), ..dialled };
    match direction {
        Direction::Outbound => {
            let ending = local.dial(&enode).await.expect_err("the dial fails");
            (ending, remote.expect("rejected").await)
        }
        Direction::Inbound => {
            remote.dial(&enode).await;
            (local.refused().await, remote.expect("dial_failed").await)
        }
    }
}
