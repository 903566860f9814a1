//! How the end of a handler reaches the other end, and of theirs us.

use capmux::{BoxError, DisconnectReason, Party, PeerError, Protocol, Stage, testing};

use crate::local::{Local, ending};
use crate::matrix::Case;

with_every_node!(the_end_of_our_handler);

/// ethereumjs has no such thing: its protocols are objects that are called.
mod the_failure_of_their_handler {
    with_every_node! { @one the_failure_of_their_handler geth_is_dialled Geth Outbound }
    with_every_node! { @one the_failure_of_their_handler geth_dials Geth Inbound }
}

/// A protocol whose handler ends as the first message says, by the number of its bytes.
fn told_how_to_end() -> Protocol {
    Protocol::from_fn("echo", 1, 2, |_peer, mut channel| async move {
        match channel.recv().await.map(|message| message.payload.len()) {
            None | Some(0) => Ok(()),
            Some(1) => Err("an error of its own".into()),
            Some(2) => Err(DisconnectReason::TooManyPeers.into()),
            Some(3) => Err(BoxError::from(Wrapped(DisconnectReason::ProtocolError))),
            Some(size) => panic!("the test has sent {size} bytes"),
        }
    })
}

#[derive(Debug, thiserror::Error)]
#[error("the other end is to know why")]
struct Wrapped(#[source] DisconnectReason);

async fn the_end_of_our_handler(case: Case) {
    let mut remote = case.remote(&[]).await;
    for (size, code) in [(0, 0x08), (1, 0x10), (2, 0x04), (3, 0x02), (4, 0x10)] {
        let mut local = Local::start(testing::node().protocol(told_how_to_end())).await;
        let (peer, _) = local.connect(&mut remote, case.direction).await;
        remote.send(&local.id(), "echo", 0, size, "zeros").await;
        let drop = remote.expect_of("drop", &local.id()).await;
        assert_eq!((drop.number("code"), drop.flag("remote")), (Some(code), Some(true)), "R7 R62 {drop:?}");
        let ending = ending(&peer).await;
        assert_eq!((ending.stage(), ending.by()), (Stage::Session, Party::Local), "R7 {ending}");
        assert_eq!(ending.reason().map(DisconnectReason::code), Some(code), "R7 {ending}");
        let panicked = matches!(ending.error(), PeerError::HandlerPanicked { .. });
        assert_eq!(panicked, size == 4, "R7 H58 {ending}");
    }
}

async fn the_failure_of_their_handler(case: Case) {
    let mut remote = case.remote(&[]).await;
    let mut local = Local::echoing().await;
    let (peer, _) = local.connect(&mut remote, case.direction).await;
    remote.fail(&local.id(), "echo").await;
    let ending = ending(&peer).await;
    assert_eq!((ending.stage(), ending.by()), (Stage::Session, Party::Remote), "R38 {ending}");
    assert_eq!(ending.reason(), Some(DisconnectReason::SubprotocolError), "R38 R62 {ending}");
}
