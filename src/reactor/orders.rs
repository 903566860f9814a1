//! In all orders of peers that come, speak and go, the reactor hears each whole and in order, or not at all, and its
//! end.

use bytes::Bytes;
use shuttle::future::{block_on, spawn};

use super::*;
use crate::NodeKey;
use crate::peer::budget::Budget;
use crate::peer::inbox::{Inbox, InboxLimits};
use crate::peer::orders::Ends;
use crate::peer::outbox::Close;
use crate::sync::explored::{Timers, begin, choose, explore, rest};

const MESSAGES: u64 = 3;

/// A peer, from before it comes until after it has gone.
async fn peer(seats: Arc<Seats>, ends: Ends) {
    let budget = Budget::new(1 << 20);
    let inbox = Arc::new(Inbox::new(InboxLimits { messages: 8, bytes: 1000 }, budget.account()));
    let channel = Channel::new(ends.senders[0].clone(), ChannelReceiver::new(inbox.clone()));
    let handler = spawn(serve(seats, ends.peer.clone(), channel));
    for code in 0..MESSAGES {
        inbox.offer(Message::new(code, Bytes::new())).expect("there is room");
        if choose(3) == 0 {
            shuttle::future::yield_now().await;
        }
    }
    inbox.close();
    for _ in 0..choose(10) {
        shuttle::future::yield_now().await;
    }
    ends.outbox.close(Close::Now(None));
    handler.await.expect("R8: it ends with its peer").expect("it does not fail");
    ends.finish();
}

fn of(event: &ReactorEvent) -> &Peer {
    let (ReactorEvent::Added { peer } | ReactorEvent::Received { peer, .. } | ReactorEvent::Removed { peer, .. }) =
        event;
    peer
}

/// What the reactor hears until its end.
async fn hear(mut reactor: Reactor) -> Vec<ReactorEvent> {
    let mut events = Vec::new();
    while let Some(event) = reactor.recv().await {
        events.push(event);
    }
    events
}

async fn hear_two() {
    let ends = [(); 2].map(|()| Ends::new(&NodeKey::random(), None, None));
    let peers = ends.each_ref().map(|ends| ends.peer.clone());
    let registered = Registered::new(Arc::default());
    let seats = registered.seats().clone();
    let reactor = Reactor { peers: ProtocolPeers::seeded(1), seats: seats.clone(), taken: HashMap::new() };
    begin(Timers::Never);
    let reactor = spawn(hear(reactor));
    let tasks = ends.map(|ends| spawn(peer(seats.clone(), ends)));
    for task in tasks {
        task.await.expect("it waits for nobody");
    }
    drop(registered);
    let events = reactor.await.expect("R78: it learns of the end");
    rest();
    for peer in peers {
        let of_peer: Vec<_> = events.iter().filter(|event| of(event) == &peer).collect();
        let [ReactorEvent::Added { .. }, messages @ .., ReactorEvent::Removed { .. }] = &of_peer[..] else {
            assert!(of_peer.is_empty(), "R78: it has gone before it was told of: {of_peer:?}");
            continue;
        };
        let code = |event: &&ReactorEvent| match event {
            ReactorEvent::Received { message, .. } => message.code,
            other => panic!("R78: once each: {other:?}"),
        };
        assert!(messages.iter().map(code).eq(0..MESSAGES), "R78: each message once, in order: {messages:?}");
    }
}

#[test]
fn the_reactor_hears_each_peer_whole_and_in_order() {
    explore(400, || block_on(hear_two()));
}
