//! The suite over something else than TCP.

use std::sync::Arc;

use capmux::testing::{Network, node};
use capmux_conformance::{Node, Outcome, cases};

#[tokio::test(start_paused = true)]
async fn a_case_runs_over_any_transport_and_in_virtual_time() {
    let network = Network::new(1);
    let (own, other) = (network.host("10.0.0.1"), network.host("10.0.0.2"));
    let echo = capmux::Protocol::from_fn("echo", 1, 2, |_peer, channel| async move {
        channel.sender().closed().await;
        Ok(())
    });
    let server = node().listen_on(own.address()).transport(own).protocol(echo).start().await.expect("it starts");
    let enode = server.enode().expect("it listens");
    let node = Arc::new(Node::probe_over(other, &enode).await.expect("it answers"));
    let honest = cases().into_iter().find(|case| case.name == "p2p/ping/answered").expect("there is one");
    let result = honest.visit(node.clone()).await;
    assert_eq!((result.outcome, node.is_alive().await), (Outcome::Passed, Ok(())), "{}", result.seen);
}
