//! Connections with one node, in all orders: one at a time is the peer, each has its turn or is refused, and nothing is
//! left of any.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::future::{block_on, spawn};

use super::*;
use crate::node::NodeKey;
use crate::peer::orders::Ends;
use crate::sync::explored::{Timers, at_most, begin, choose, explore, rest};

/// A connection, from the encryption handshake to its end.
async fn connect(set: Arc<PeerSet>, peer: Peer, direction: Direction, peers: Arc<AtomicUsize>) {
    let id = peer.id();
    if direction == Direction::Outbound && set.begin_dial(id, false).is_err() {
        return;
    }
    let ticket = set.claim(id, direction);
    // It may fail at any stage.
    let fails = choose(8);
    if fails > 0 {
        set_up(&set, &peer, &ticket, &peers, fails > 1).await;
    }
    set.unclaim(&ticket);
    if direction == Direction::Outbound {
        set.end_dial(&id);
    }
}

async fn set_up(set: &PeerSet, peer: &Peer, ticket: &Ticket, peers: &AtomicUsize, comes_to_it: bool) {
    // It waits for its turn until the other end speaks first, and may lose patience with others.
    let granted = at_most(choose(4), set.turn(ticket)).await;
    if matches!(granted, Some(Err(_))) || !comes_to_it {
        return;
    }
    if granted.is_none() && choose(3) == 0 {
        set.lose_patience(ticket);
    }
    set.proved(ticket);
    if set.turn(ticket).await.is_ok() && set.insert(peer, *ticket).is_ok() {
        assert_eq!(peers.fetch_add(1, Ordering::Relaxed), 0, "R45: one at a time");
        shuttle::future::yield_now().await;
        peers.fetch_sub(1, Ordering::Relaxed);
        assert_eq!(set.remove(peer), Some(*ticket), "R45: it is the peer until it goes");
    }
}

#[test]
fn one_connection_with_a_node_is_the_peer_whatever_the_order() {
    let key = NodeKey::random();
    let [inbound, outbound] = [Direction::Inbound, Direction::Outbound].map(|direction| Ends::peer(&key, direction));
    for own in [[0; 32], [0xff; 32]] {
        let (inbound, outbound) = (inbound.clone(), outbound.clone());
        explore(1_500, move || {
            let limits = PeerLimits { max_peers: 4, max_inbound: 4, max_outbound: 4 };
            let set = Arc::new(PeerSet::new(NodeId::from_bytes(own), limits, Access::default()));
            let (id, peers) = (inbound.id(), Arc::new(AtomicUsize::new(0)));
            let connections = [&inbound, &inbound, &outbound].map(Peer::clone);
            block_on(async {
                begin(Timers::Never);
                let tasks = connections.map(|peer| {
                    let direction = peer.direction();
                    spawn(connect(set.clone(), peer, direction, peers.clone()))
                });
                let settled = spawn({
                    let set = set.clone();
                    async move { set.settled(&id).await }
                });
                for task in tasks {
                    task.await.expect("R45: each has its turn or is refused");
                }
                settled.await.expect("R45: who waits for them learns of it");
                rest();
                assert!(set.all().is_empty() && set.is_settled(&id), "R44: nothing is left");
                assert_eq!(set.count(), ([0, 0], 0), "R44: all places are free");
            });
        });
    }
}
