//! The memory that all peers of a server share for what waits for their handlers.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capmux::testing::{self, Opened, expect_message, manual};
use capmux::{Channel, Event, EventStream, NodeId, Peer, PeerError, Protocol, Server};
use support::{dial, echo, event, listening, noise, poll_once, settle, soon, start};
use tokio::time::timeout;

const KIB: usize = 1024;

/// What each peer may hold in any case.
const ALLOWANCE: usize = 64 * KIB;

const BUDGET: usize = 512 * KIB;

/// Three of these are the budget and one allowance.
const LARGE: usize = (BUDGET + ALLOWANCE) / 3;

/// How long nothing may be taken, in tests that wait for it.
const STALL: Duration = Duration::from_millis(700);

/// A server whose `aaa` hoards until the test reads, and which echoes.
struct Scene {
    server: Server,
    opened: Opened,
    events: EventStream,
}

/// A node that is connected to the server, and both ends of `aaa`.
struct Client {
    _server: Server,
    sender: Channel,
    at_server: Peer,
    receiver: Channel,
}

fn hoard(name: &str) -> (Protocol, Opened) {
    let (protocol, opened) = manual(name, 1, 2);
    (protocol.max_message_size(256 * KIB).inbox_bytes(1 << 30).inbox_messages(1 << 20), opened)
}

async fn scene(stall: Duration) -> Scene {
    let (protocol, opened) = hoard("aaa");
    let node = listening().protocol(protocol).protocol(echo().max_message_size(256 * KIB));
    let server = start(node.receive_budget(BUDGET).inbox_stall_timeout(stall)).await;
    let events = server.events();
    Scene { server, opened, events }
}

impl Scene {
    async fn client(&mut self) -> Client {
        let (protocol, mut opened) = hoard("aaa");
        let client = start(testing::node().protocol(protocol)).await;
        dial(&client, &self.server).await;
        let (_, sender) = soon(opened.next()).await;
        let (at_server, receiver) = soon(self.opened.next()).await;
        Client { _server: client, sender, at_server, receiver }
    }

    /// A node that speaks `echo` with the server.
    async fn talker(&self) -> (Server, Channel) {
        let (protocol, mut opened) = manual("echo", 1, 2);
        let client = start(testing::node().protocol(protocol.max_message_size(256 * KIB))).await;
        dial(&client, &self.server).await;
        let (_, channel) = soon(opened.next()).await;
        (client, channel)
    }

    /// The next peer that is dropped, and why.
    async fn dropped(&mut self) -> (NodeId, Arc<String>, bool) {
        loop {
            if let Event::Dropped { peer, ending, .. } = event(&mut self.events).await {
                let is_exhausted = matches!(ending.error(), PeerError::MemoryExhausted);
                return (peer.id(), Arc::new(ending.to_string()), is_exhausted);
            }
        }
    }
}

impl Client {
    fn held(&self) -> usize {
        self.at_server.status().protocols[0].inbox_bytes
    }

    /// Sends messages of this size until the server takes no more.
    fn flood(&self, size: usize) {
        let sender = self.sender.sender();
        tokio::spawn(async move {
            let data = noise(1, size);
            while sender.send(0, data.clone()).await.is_ok() {}
        });
    }

    /// Has the server hold this many messages of [`LARGE`] bytes.
    async fn hoard(&self, messages: usize) {
        let before = self.held();
        for _ in 0..messages {
            self.sender.send(0, noise(1, LARGE)).await.expect("there is a place");
        }
        until(|| self.held() == before + messages * LARGE).await;
    }

    /// Sends a message, and waits until the server has read all of it.
    async fn offer(&self, data: Bytes) {
        let expected = self.at_server.traffic().bytes_received + data.len() as u64;
        self.sender.send(0, data).await.expect("there is a place");
        until(|| self.at_server.traffic().bytes_received >= expected).await;
        settle().await;
    }
}

/// Waits until this holds.
async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Has a message echoed so many times.
async fn talk(channel: &mut Channel, times: usize, size: usize) {
    for _ in 0..times {
        channel.send(0, noise(2, size)).await.expect("it lives");
        assert_eq!(expect_message(channel, 1).await.payload.len(), size);
    }
}

#[tokio::test]
async fn hoarders_share_the_budget_and_a_peer_with_small_traffic_goes_on() {
    let mut scene = scene(Duration::from_secs(20)).await;
    let hoarders = [scene.client().await, scene.client().await, scene.client().await];
    hoarders.iter().for_each(|hoarder| hoarder.flood(10 * KIB));
    let held = || hoarders.iter().map(Client::held).sum::<usize>();
    until(|| held() + 3 * 10 * KIB >= BUDGET + 3 * ALLOWANCE).await;
    settle().await;
    assert!(held() <= BUDGET + 3 * ALLOWANCE, "R10: the budget is for all of them together: {}", held());
    let (_client, mut talker) = scene.talker().await;
    talk(&mut talker, 300, 100).await;
    assert!(held() <= BUDGET + 3 * ALLOWANCE, "R10: the budget is for all of them together: {}", held());
    for hoarder in &hoarders {
        assert!(hoarder.held() > ALLOWANCE - 10 * KIB, "each has its allowance: {}", hoarder.held());
        assert!(hoarder.at_server.ending().is_none(), "it is given its time");
    }
}

#[tokio::test]
async fn a_peer_whose_handler_keeps_up_never_waits_for_the_budget() {
    let mut scene = scene(Duration::from_secs(20)).await;
    let hoarder = scene.client().await;
    hoarder.hoard(3).await;
    let (_client, mut talker) = scene.talker().await;
    let sender = talker.sender();
    // More than the allowance comes at once, and the handler has it taken before long.
    tokio::spawn(async move {
        for _ in 0..100 {
            sender.send(0, noise(2, 10 * KIB)).await.expect("it lives");
        }
    });
    for _ in 0..100 {
        let answer = timeout(Duration::from_secs(5), talker.recv()).await;
        assert!(answer.is_ok(), "its handler holds less than the allowance, and it waits for others all the same");
    }
    assert!(hoarder.at_server.ending().is_none());
}

#[tokio::test]
async fn peers_that_wait_for_the_budget_go_on_in_their_order() {
    let mut scene = scene(Duration::from_secs(20)).await;
    let mut hoarder = scene.client().await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(scene.client().await);
    }
    hoarder.hoard(3).await;
    // The last to connect is the first to wait.
    waiting.reverse();
    for client in &waiting {
        client.offer(noise(3, LARGE)).await;
        assert_eq!(client.held(), 0, "the budget is used up");
    }
    let next = |held: &[Client]| held.iter().map(Client::held).collect::<Vec<_>>();
    expect_message(&mut hoarder.receiver, 0).await;
    until(|| waiting[0].held() == LARGE).await;
    settle().await;
    assert_eq!(next(&waiting), [LARGE, 0, 0], "who came first goes on first, and alone");
    expect_message(&mut waiting[0].receiver, 0).await;
    until(|| waiting[1].held() == LARGE).await;
    assert!(poll_once(waiting[0].receiver.recv()).await.is_none());
    expect_message(&mut hoarder.receiver, 0).await;
    until(|| waiting[2].held() == LARGE).await;
}

#[tokio::test]
async fn hoarders_that_take_nothing_are_ended_so_that_others_go_on() {
    let mut scene = scene(STALL).await;
    let hoarder = scene.client().await;
    hoarder.hoard(3).await;
    let id = hoarder.at_server.id();
    let mut honest = scene.client().await;
    honest.offer(noise(3, LARGE)).await;
    assert_eq!(honest.held(), 0, "the budget is used up");
    let (dropped, ending, is_exhausted) = scene.dropped().await;
    assert!(dropped == id && is_exhausted, "R10: the one that hoards, with the reason: {ending}");
    // What it hoarded is held by the test's end of the channel until that is dropped.
    drop(hoarder);
    assert_eq!(expect_message(&mut honest.receiver, 0).await.payload.len(), LARGE, "R10: the others go on");
    drop(honest);

    let again = scene.client().await;
    again.hoard(3).await;
    assert!(again.at_server.ending().is_none(), "R10 R71: all of the budget has come back");
}

#[tokio::test]
async fn a_peer_whose_handler_has_taken_everything_is_no_hoarder() {
    let mut scene = scene(STALL).await;
    let (_client, mut talker) = scene.talker().await;
    // It took some of the budget, and needs it no more.
    talk(&mut talker, 1, 100 * KIB).await;
    let hoarder = scene.client().await;
    hoarder.flood(10 * KIB);
    let (dropped, ending, is_exhausted) = scene.dropped().await;
    assert!(dropped == hoarder.at_server.id() && is_exhausted, "{ending}");
    talk(&mut talker, 3, 100).await;
}
