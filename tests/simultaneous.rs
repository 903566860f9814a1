//! Two nodes that dial each other at the same time, on real TCP.

mod support;

use capmux::testing::node;
use capmux::{Direction, Server};
use support::{echo, enode, listening, soon, start};

/// The one peer of each node, if each has one and both are ends of the same connection.
fn one_connection(first: &Server, second: &Server) -> Option<Direction> {
    let (at_first, at_second) = (first.peers(), second.peers());
    let ([one], [other]) = (&at_first[..], &at_second[..]) else { return None };
    (one.local_addr() == other.remote_addr()).then_some(one.direction())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_survives_and_it_is_the_same_at_both_ends() {
    for _ in 0..50 {
        let (first, second) = (start(listening().protocol(echo())).await, start(listening().protocol(echo())).await);
        let (mut at_first, mut at_second) = (first.events(), second.events());
        let (to_first, to_second) = (enode(&first), enode(&second));
        let (one, other) = soon(async { tokio::join!(first.dial(&to_second), second.dial(&to_first)) }).await;
        assert!(one.is_ok() && other.is_ok(), "R45: each dial leads to a peer: {one:?} {other:?}");
        soon(async {
            while one_connection(&first, &second).is_none() {
                tokio::select! {
                    _ = at_first.recv() => {}
                    _ = at_second.recv() => {}
                }
            }
        })
        .await;
        let smaller_dialled = if first.id() < second.id() { Direction::Outbound } else { Direction::Inbound };
        let collided = one.is_ok_and(|one| one.ending().is_some()) || other.is_ok_and(|other| other.ending().is_some());
        if collided {
            assert_eq!(one_connection(&first, &second), Some(smaller_dialled), "R45");
        }
    }
}

#[tokio::test]
async fn dialling_a_node_that_has_dialled_meanwhile_is_no_failure() {
    let (first, second) = (start(listening().protocol(echo())).await, start(node().protocol(echo())).await);
    let peer = soon(second.dial(&enode(&first))).await.unwrap();
    assert_eq!(soon(second.dial(&enode(&first))).await.unwrap(), peer, "R45: it is the peer there is");
}
