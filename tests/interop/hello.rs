//! What the two ends learn of each other.

use capmux::testing;
use capmux::{Direction, Protocol};

use crate::local::{CLIENT_ID, Local, echo};
use crate::matrix::Case;

with_every_node!(both_ends_know_each_other);

async fn both_ends_know_each_other(case: Case) {
    let arguments = ["--name", "other/v1.2.3/x", "--protocol", "echo/1/2", "--protocol", "theirs/300/1"];
    let mut remote = case.remote(&arguments).await;
    let ours = Protocol::from_fn("ours", 3, 1, |_, _| async { unreachable!("it is not shared") });
    let mut local = Local::start(testing::node().protocol(ours).protocol(echo())).await;

    let (peer, seen) = local.connect(&mut remote, case.direction).await;

    assert_eq!(peer.client_id().as_bytes(), b"other/v1.2.3/x", "R36");
    assert_eq!(peer.public_key(), &remote.enode().public_key, "R33 R35");
    assert_eq!(peer.id(), remote.enode().node_id(), "R35");
    assert_eq!(peer.p2p_version(), 5, "R36");
    let mut offered: Vec<_> = peer.capabilities().iter().map(ToString::to_string).collect();
    offered.sort_unstable();
    assert_eq!(offered, ["echo/1", "theirs/300"], "R2");
    let shared: Vec<_> = peer.shared_capabilities().iter().map(ToString::to_string).collect();
    assert_eq!(shared, ["echo/1"], "R2");
    assert_eq!(local.server.peers(), [peer]);

    assert_eq!(seen.text("name"), CLIENT_ID, "R36");
    assert_eq!(seen.text("id"), local.id(), "R33");
    assert_eq!(seen.sorted_texts("caps"), ["echo/1", "ours/3"], "R2");
    assert_eq!(seen.flag("inbound"), Some(case.direction == Direction::Outbound));
    let protocol = remote.expect_of("protocol", &local.id()).await;
    assert_eq!((protocol.text("protocol"), protocol.number("version")), ("echo", Some(1)), "R2");
}
