//! A network of capmux in which nodes of geth, with gossip written anew in Go, stand in the way of every message.

use std::time::Duration;

use capmux::{Direction, testing};
use capmux_gossip::{Delivery, Gossip, Settings};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

use crate::local::{Local, within};
use crate::matrix::Case;
use crate::remote::Remote;

mod every_message_reaches_every_node_once {
    with_every_node! { @one every_message_reaches_every_node_once geth_is_dialled Geth Outbound }
    with_every_node! { @one every_message_reaches_every_node_once geth_dials Geth Inbound }
}

const OURS: usize = 5;
const THEIRS: usize = 3;

/// Between our nodes.
const AMONG_US: [(usize, usize); 2] = [(0, 1), (2, 3)];

/// From one of ours to one of theirs. Without the first of theirs nothing gets from 0 and 1 to 2 and 3, without the
/// second nothing to 4; the third is a leaf.
const BETWEEN: [(usize, usize); 8] = [(0, 0), (1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (4, 1), (4, 2)];

/// The sizes of what each node publishes, in bytes: the last is the largest there may be.
const SIZES: [usize; 3] = [2, 1_000, 64 * 1024];

struct Ours {
    local: Local,
    gossip: Gossip,
    deliveries: Receiver<Delivery>,
}

async fn every_message_reaches_every_node_once(case: Case) {
    let (mut ours, mut theirs) = connected(&case).await;
    let expected = publish_all(&ours, &mut theirs).await;
    let of_others = |node: usize| expected.iter().filter(move |payload| payload[0] != node as u8);
    for (node, ours) in ours.iter_mut().enumerate() {
        let mut got = Vec::new();
        for _ in of_others(node) {
            let delivery = within("a delivery", ours.deliveries.recv()).await.expect("the server runs");
            got.push(delivery.payload.to_vec());
        }
        got.sort_unstable();
        assert!(got.iter().eq(of_others(node)), "R1: node {node} of capmux has every message once");
        assert_eq!(ours.gossip.lagged(), 0);
    }
    for (node, remote) in theirs.iter_mut().enumerate() {
        for payload in of_others(OURS + node) {
            let digest = hex::encode(Sha256::digest(payload));
            remote.expect_where("delivered", "", |event| event.text("sha256") == digest).await;
        }
    }
    assert_nothing_is_left(ours, theirs).await;
}

/// Has every node publish, ours first, and returns all payloads in order: each begins with the number of its node.
async fn publish_all(ours: &[Ours], theirs: &mut [Remote]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (node, Ours { gossip, .. }) in (0..).zip(ours) {
        for payload in payloads(node) {
            gossip.publish(&payload).expect("it is not too large");
            all.push(payload);
        }
    }
    for (node, remote) in (OURS as u8..).zip(theirs) {
        for payload in payloads(node) {
            remote.publish(&payload).await;
            all.push(payload);
        }
    }
    all
}

fn payloads(node: u8) -> impl Iterator<Item = Vec<u8>> {
    (0..).zip(SIZES).map(move |(number, size)| {
        let mut payload = vec![0; size];
        getrandom::fill(&mut payload).expect("there are random numbers");
        payload[..2].copy_from_slice(&[node, number]);
        payload
    })
}

/// Starts and connects all nodes, and waits until gossip runs on every connection.
async fn connected(case: &Case) -> (Vec<Ours>, Vec<Remote>) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..OURS {
        let (protocol, gossip, deliveries) = Gossip::new(Settings::default());
        ours.push(Ours { local: Local::start(testing::node().protocol(protocol)).await, gossip, deliveries });
    }
    for _ in 0..THEIRS {
        theirs.push(case.remote(&["--protocol", "gossip/1/1"]).await);
    }
    for (from, to) in AMONG_US {
        ours[from].local.dial(&ours[to].local.enode()).await.expect("the dial leads to a peer");
    }
    for (our, their) in BETWEEN {
        let (local, remote) = (&mut ours[our].local, &mut theirs[their]);
        match case.direction {
            Direction::Outbound => drop(local.dial(remote.enode()).await.expect("the dial leads to a peer")),
            Direction::Inbound => remote.dial(&local.enode()).await,
        }
        remote.expect_of("protocol", &local.id()).await;
    }
    for (node, Ours { gossip, .. }) in ours.iter().enumerate() {
        let among_us = AMONG_US.into_iter().filter(|(from, to)| node == *from || node == *to).count();
        let peers = among_us + BETWEEN.into_iter().filter(|(our, _)| node == *our).count();
        within("the protocols of a node", gossip.wait_for_peers(peers)).await;
    }
    (ours, theirs)
}

/// Ends all nodes: none may have been given a message twice.
async fn assert_nothing_is_left(ours: Vec<Ours>, theirs: Vec<Remote>) {
    // Copies that are still under way would come now.
    sleep(Duration::from_millis(200)).await;
    for Ours { local, mut deliveries, .. } in ours {
        within("a shutdown", local.server.shutdown()).await;
        drop(local);
        assert_eq!(within("the end of the deliveries", deliveries.recv()).await, None, "R1: nothing comes twice");
    }
    for remote in theirs {
        assert_eq!(remote.unasked("delivered").await, [], "R1: nothing comes twice");
    }
}
