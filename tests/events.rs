//! What a server tells its subscribers, and what it costs. The counter replaces the allocator of this test alone, and
//! counts by thread.

mod support;

use allocation_counter::measure;
use bytes::Bytes;
use capmux::p2p::DisconnectReason;
use capmux::testing::{manual, node};
use capmux::{Channel, Event, EventFilter, EventKind, EventStream, NodeKey, Server};
use support::{
    added, capability, deaf, dial, dropped, echo, event, listening, noise, poll_once, refused, settle, sink, soon,
    start,
};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

/// What has been told so far and not read.
async fn waiting(events: &mut EventStream) -> Vec<Event> {
    settle().await;
    let mut waiting = Vec::new();
    while let Some(Some(event)) = poll_once(events.recv()).await {
        waiting.push(event);
    }
    waiting
}

/// A way, a protocol, a code and a size.
type Told = (EventKind, String, u64, usize);

fn told(event: &Event) -> Told {
    match event {
        Event::MessageSent { capability, code, bytes, .. } | Event::MessageReceived { capability, code, bytes, .. } => {
            (event.kind(), capability.to_string(), *code, *bytes)
        }
        other => panic!("a message should have been told of: {other:?}"),
    }
}

fn of_message(kind: EventKind, capability: &str, code: u64, bytes: usize) -> Told {
    (kind, capability.to_owned(), code, bytes)
}

/// Two nodes, with channels between them.
async fn connected(chunk_size: Option<usize>) -> ([Server; 2], [Channel; 2]) {
    let ((own, mut opened), (other, mut others)) = (manual("aaa", 1, 4), manual("aaa", 1, 4));
    let chunked = |builder: capmux::ServerBuilder| match chunk_size {
        Some(size) => builder.chunk_size(size),
        None => builder,
    };
    let server = start(chunked(listening().protocol(other))).await;
    let client = start(chunked(node().protocol(own))).await;
    dial(&client, &server).await;
    let ((_, sender), (_, receiver)) = (soon(opened.next()).await, soon(others.next()).await);
    ([client, server], [sender, receiver])
}

/// Sends so many messages and takes them at the other end.
async fn exchange(sender: &Channel, receiver: &mut Channel, data: &Bytes, count: usize) {
    let send = async {
        for _ in 0..count {
            sender.send(1, data.clone()).await.expect("sent");
        }
    };
    let receive = async {
        for _ in 0..count {
            assert_eq!(receiver.recv().await.expect("a message").payload.len(), data.len());
        }
    };
    soon(async { tokio::join!(send, receive) }).await;
}

#[tokio::test]
async fn a_subscriber_gets_exactly_what_it_asked_for() {
    let server = start(listening().protocol(echo())).await;
    let [one, other] = [start(node().protocol(echo())).await, start(node().protocol(echo())).await];
    let mut all = server.events();
    let mut ends = server.events_with(EventFilter::new().kinds([EventKind::Dropped]));
    let mut of_one = server.events_with(EventFilter::new().peer(one.id()));
    let id = other.id();
    let mut chosen = server.events_with(EventFilter::new().matching(move |event| event.peer_id() == Some(id)));
    for client in [&one, &other] {
        dial(client, &server).await.disconnect(DisconnectReason::Requested);
        added(&mut all).await;
        dropped(&mut all).await;
    }
    let kinds = |events: &[Event]| events.iter().map(|event| (event.kind(), event.peer_id())).collect::<Vec<_>>();
    let came_and_went = |node: &Server| [(EventKind::Added, Some(node.id())), (EventKind::Dropped, Some(node.id()))];
    assert_eq!(kinds(&waiting(&mut ends).await), [came_and_went(&one)[1], came_and_went(&other)[1]], "R69: by kind");
    assert_eq!(kinds(&waiting(&mut of_one).await), came_and_went(&one), "R69: by peer");
    assert_eq!(kinds(&waiting(&mut chosen).await), came_and_went(&other), "R69: by what the application says");
    assert!(waiting(&mut all).await.is_empty(), "R66 R69: each once");
}

#[tokio::test]
async fn a_flood_of_refusals_evicts_nothing_from_who_did_not_ask_for_them() {
    const FLOOD: usize = 50;
    let server = start(listening().event_capacity(4).protocol(echo())).await;
    let client = start(node().protocol(echo())).await;
    let address = server.local_addr().expect("it listens");
    let mut peers = server.events_with(EventFilter::new().kinds([EventKind::Added, EventKind::Dropped]));
    let mut refusals = server.events_with(EventFilter::new().kinds([EventKind::Refused]));
    let (mut all, mut slow) = (server.events(), server.events_with(EventFilter::new().capacity(FLOOD)));
    let peer = dial(&client, &server).await;
    added(&mut all).await;
    for _ in 0..FLOOD {
        drop(TcpStream::connect(address).await.expect("it listens"));
        refused(&mut refusals).await;
    }
    peer.disconnect(DisconnectReason::Requested);
    assert_eq!(added(&mut peers).await.id(), client.id(), "R69: it waits since before the flood");
    assert_eq!(dropped(&mut peers).await.0, client.id(), "R69");
    let lost = FLOOD as u64 + 1 - 4;
    assert!(matches!(event(&mut all).await, Event::Lagged(count) if count == lost), "R69: it has read the first");
    assert!(matches!(event(&mut slow).await, Event::Lagged(2)), "R69: a capacity of its own");
}

#[tokio::test]
async fn messages_are_told_in_both_directions_with_their_size_before_compression() {
    let (nodes, [sender, mut receiver]) = connected(None).await;
    let mut by_default = nodes.each_ref().map(Server::events);
    let [mut sent, mut received] = nodes.each_ref().map(|node| node.events_with(EventFilter::new().messages()));
    let sizes = [0, 1, 200, 50_000];
    for (code, size) in (0..).zip(sizes) {
        soon(sender.send(code, vec![0; size])).await.expect("sent");
        assert_eq!(soon(receiver.recv()).await.expect("a message").payload.len(), size);
        for (events, kind) in [(&mut sent, EventKind::MessageSent), (&mut received, EventKind::MessageReceived)] {
            assert_eq!(told(&event(events).await), of_message(kind, "aaa/1", code, size), "R68");
        }
    }
    soon(receiver.send(3, "back")).await.expect("sent");
    let told_of = event(&mut sent).await;
    assert_eq!(told(&told_of), of_message(EventKind::MessageReceived, "aaa/1", 3, 4), "R68");
    assert_eq!(told_of.peer_id(), Some(nodes[1].id()), "R68: by whom");
    for events in &mut by_default {
        assert!(waiting(events).await.is_empty(), "R68: for those alone who ask");
    }
}

#[tokio::test]
async fn a_message_in_pieces_is_one_event() {
    const SIZE: usize = 100_000;
    let (nodes, [sender, mut receiver]) = connected(Some(1024)).await;
    let mut events = nodes.each_ref().map(|node| node.events_with(EventFilter::new().messages()));
    soon(sender.send(2, noise(1, SIZE))).await.expect("sent");
    assert_eq!(soon(receiver.recv()).await.expect("a message").payload.len(), SIZE);
    for (events, kind) in events.iter_mut().zip([EventKind::MessageSent, EventKind::MessageReceived]) {
        let all: Vec<_> = waiting(events).await.iter().map(told).collect();
        assert_eq!(all, [of_message(kind, "aaa/1", 2, SIZE)], "R68");
    }
}

#[tokio::test]
async fn messages_are_filtered_by_protocol_code_and_peer() {
    let ((first, mut firsts), (second, mut seconds)) = (manual("aaa", 1, 4), manual("bbb", 2, 4));
    let server = start(listening().protocol(sink("aaa", 4)).protocol(echo())).await;
    let peers = start(node().protocol(first).protocol(second)).await;
    let only = |filter: EventFilter| server.events_with(filter.kinds([EventKind::MessageReceived]));
    let mut of_code = only(EventFilter::new().code(2));
    let mut of_other = only(EventFilter::new().capability(capability("bbb", 2)));
    let mut of_both = only(EventFilter::new().capability(capability("aaa", 1)).code(1).code(3).peer(peers.id()));
    let mut of_nobody = only(EventFilter::new().peer(NodeKey::random().public_key().node_id()));
    dial(&peers, &server).await;
    let (_, channel) = soon(firsts.next()).await;
    for code in 0..4 {
        soon(channel.send_with_receipt(code, "a")).await.expect("sent").await.expect("written");
    }
    let codes = |events: &[Event]| events.iter().map(|event| told(event).2).collect::<Vec<_>>();
    assert_eq!(told(&event(&mut of_code).await).2, 2, "R69: by code");
    let both = [event(&mut of_both).await, event(&mut of_both).await];
    assert_eq!(codes(&both), [1, 3], "R69: by protocol, codes and peer");
    for events in [&mut of_code, &mut of_both, &mut of_other, &mut of_nobody] {
        assert!(waiting(events).await.is_empty(), "R69");
    }
    assert!(poll_once(seconds.next()).await.is_none(), "they do not share it");
}

#[tokio::test]
async fn who_reads_no_events_of_messages_holds_up_none_of_them() {
    const COUNT: usize = 5_000;
    let (nodes, [sender, mut receiver]) = connected(None).await;
    let filter = || EventFilter::new().messages().capacity(10);
    let mut slow = nodes.each_ref().map(|node| node.events_with(filter()));
    exchange(&sender, &mut receiver, &noise(1, 64), COUNT).await;
    for events in &mut slow {
        let all = waiting(events).await;
        assert!(matches!(all[0], Event::Lagged(lost) if lost == COUNT as u64 - 10), "R69: {:?}", all[0]);
        assert_eq!(all.len(), 11, "R69");
    }
}

#[tokio::test]
async fn the_streams_end_with_their_server_after_the_last_event() {
    let server = start(listening().protocol(deaf("aaa", 1))).await;
    let client = start(node().protocol(deaf("aaa", 1))).await;
    let (mut events, mut messages) = (server.events(), server.events_with(EventFilter::new().kinds([])));
    let peer = dial(&client, &server).await;
    let at_server = added(&mut events).await;
    soon(server.shutdown()).await;
    assert!(poll_once(messages.recv()).await.is_none(), "R69: the server is there");
    drop(server);
    assert_eq!(dropped(&mut events).await.0, client.id(), "R66 R69: what came before is told");
    assert!(
        soon(events.recv()).await.is_none() && soon(messages.recv()).await.is_none(),
        "R69: also while {at_server:?} is held"
    );
    drop(peer);
}

#[test]
fn nobody_pays_for_events_of_messages_who_did_not_ask() {
    const COUNT: usize = 20_000;
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (nodes, [sender, mut receiver]) = runtime.block_on(connected(None));
    let data = noise(1, 32);
    let count = |receiver: &mut Channel| {
        runtime.block_on(exchange(&sender, receiver, &data, COUNT));
        measure(|| runtime.block_on(exchange(&sender, receiver, &data, COUNT))).count_total as f64 / COUNT as f64
    };
    let default = nodes.each_ref().map(Server::events);
    let each = count(&mut receiver);
    assert!(each <= 0.02, "R68: {each} allocations for a message of 32 bytes, sent and received");
    let asked = nodes.each_ref().map(|node| node.events_with(EventFilter::new().messages()));
    let each = count(&mut receiver);
    assert!(each >= 2.0, "R68: {each} allocations when somebody asks: they would be seen");
    drop(asked);
    let each = count(&mut receiver);
    assert!(each <= 0.02, "R68: {each} allocations after they have gone");
    drop(default);
}

#[test]
fn a_server_takes_no_memory_for_events_that_nobody_reads() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let of_capacity = |capacity: usize| {
        let mut server = None;
        let started = measure(|| {
            server = Some(runtime.block_on(start(node().event_capacity(capacity).protocol(echo()))));
        });
        let mut events = None;
        let server = server.expect("it has started");
        let subscribed = measure(|| events = Some(server.events()));
        (started.bytes_current, subscribed.bytes_current)
    };
    of_capacity(1); // What the runtime takes once.
    let (server, stream) = of_capacity(1 << 20);
    assert!(server <= 24 * 1024, "R69: {server} bytes for a server");
    assert!(stream <= 1024, "R69: {stream} bytes for a subscription");
}
