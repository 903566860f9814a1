//! What waits for a peer: whoever comes, goes and is forgotten meanwhile, each message goes to one connection, in order,
//! or is given up, and its receipt tells which.

use std::sync::Arc;

use shuttle::future::{block_on, spawn};

use super::ProtocolPeers;
use super::registry::Registry;
use crate::node::{NodeId, NodeKey};
use crate::peer::orders::Ends;
use crate::peer::outbox::Close;
use crate::peer::{Receipt, SendError};
use crate::sync::explored::{Timers, begin, choose, explore, rest};

/// Messages of each sender.
const MESSAGES: u8 = 3;

/// Sends messages, and keeps the receipts of those that are taken on.
async fn send(peers: ProtocolPeers, id: NodeId, name: u8) -> Vec<([u8; 2], Receipt)> {
    let mut taken = Vec::new();
    for number in 0..MESSAGES {
        let message = [name, number];
        match peers.send_later(&id, 0, message.to_vec()) {
            Ok(receipt) => taken.push((message, receipt)),
            Err(error) => assert_eq!(error, SendError::Full, "R58: nothing else is wrong"),
        }
        if choose(2) == 0 {
            shuttle::future::yield_now().await;
        }
    }
    taken
}

/// A connection of the peer's: it comes, stays for a while, and goes.
async fn connection(registry: Arc<Registry>, mut ends: Ends) -> Ends {
    let membership = registry.join(ends.peer.clone(), ends.senders[0].clone());
    let writer = spawn(ends.writer());
    for _ in 0..choose(20) {
        shuttle::future::yield_now().await;
    }
    if choose(2) == 0 {
        ends.outbox.close(Close::Drain(None));
        writer.await.expect("it ends by itself").expect("the stream does not break");
    } else {
        writer.abort();
    }
    ends.outbox.finish();
    drop(membership);
    ends
}

async fn come_and_go() {
    let key = NodeKey::random();
    let (peers, id) = (ProtocolPeers::seeded(1), key.node_id());
    let ends = [(); 2].map(|()| Ends::new(&key, None, None));
    begin(Timers::Never);
    let senders = [0, 1].map(|name| spawn(send(peers.clone(), id, name)));
    let connections = ends.map(|ends| spawn(connection(peers.registry().clone(), ends)));
    if choose(2) == 0 {
        shuttle::future::yield_now().await;
        peers.forget(&id);
    }
    let mut arrived = Vec::new();
    for connection in connections {
        let mut ends = connection.await.expect("it ends by itself");
        let [messages, _] = ends.arrived().messages;
        arrived.push(messages);
    }
    let mut taken = Vec::new();
    for sender in senders {
        taken.extend(sender.await.expect("it does not wait"));
    }
    peers.registry().forget_all();
    assert_eq!((peers.count(), peers.waiting(&id)), (0, 0), "R58: nobody and nothing is left");
    for (message, receipt) in taken {
        let copies = arrived.iter().flatten().filter(|arrived| ***arrived == message).count();
        match receipt.await {
            Ok(_) => assert_eq!(copies, 1, "R58: {message:?} is sent once"),
            Err(SendError::NeverConnected | SendError::Closed) => assert_eq!(copies, 0, "R58: {message:?} is given up"),
            Err(error) => panic!("R58: {error:?}"),
        }
    }
    rest();
    for messages in arrived {
        let of = |name| messages.iter().filter(move |message| message[0] == name).map(|message| message[1]);
        assert!([0, 1].into_iter().all(|name| of(name).is_sorted()), "R58: in order: {messages:?}");
    }
}

#[test]
fn what_waits_for_a_peer_is_sent_once_or_given_up() {
    explore(400, || block_on(come_and_go()));
}
