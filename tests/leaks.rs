//! A thousand connects and disconnects while other peers talk: what is left of them. It counts tasks, descriptors and the
//! heap of this thread, on which everything runs, so it is alone in its process.

mod support;

use allocation_counter::measure;
use capmux::p2p::DisconnectReason;
use capmux::testing::{self, Opened, manual};
use capmux::{EventStream, Server};
use support::{added, dial, dropped, echo, listening, noise, poll_once, settle, sink, soon, start};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;

const ROUNDS: usize = 1000;

/// So much of the heap may be what the runtime and the buffers of the thread have grown by.
const SLACK: i64 = 64 * 1024;

/// A server, a node that comes and goes, and peers that talk all the while.
struct Scene {
    server: Server,
    events: EventStream,
    client: Server,
    opened: Opened,
    _talkers: Vec<Server>,
    talking: JoinSet<()>,
}

async fn scene() -> Scene {
    let server = start(listening().protocol(echo()).protocol(sink("aaa", 1))).await;
    let mut events = server.events();
    let (mut talkers, mut talking) = (Vec::new(), JoinSet::new());
    for seed in 0..3 {
        let (protocol, mut opened) = manual("echo", 1, 2);
        let talker = start(testing::node().protocol(protocol)).await;
        dial(&talker, &server).await;
        added(&mut events).await;
        let (_, mut channel) = soon(opened.next()).await;
        let data = noise(seed, 4000);
        talking.spawn(async move {
            loop {
                channel.send(0, data.clone()).await.expect("it lives");
                assert_eq!(channel.recv().await.expect("it lives").payload, data);
            }
        });
        talkers.push(talker);
    }
    let (protocol, opened) = manual("aaa", 1, 1);
    let client = start(testing::node().protocol(protocol)).await;
    Scene { server, events, client, opened, _talkers: talkers, talking }
}

impl Scene {
    async fn connect_and_disconnect(&mut self, round: usize) {
        let at_client = dial(&self.client, &self.server).await;
        let at_server = added(&mut self.events).await;
        let (_, channel) = soon(self.opened.next()).await;
        channel.send(0, noise(round as u64, 2000)).await.expect("it lives");
        // Now one end hangs up, now the other.
        if round.is_multiple_of(2) { &at_client } else { &at_server }.disconnect(DisconnectReason::Requested);
        assert_eq!(dropped(&mut self.events).await.0, at_server.id(), "R66");
        soon(at_client.closed()).await;
    }

    async fn rest(&mut self) -> (usize, usize, [usize; 2]) {
        // The task of a connection ends after its last event.
        settle().await;
        assert!(self.talking.try_join_next().is_none(), "the others talk all the while");
        assert!(poll_once(self.events.recv()).await.is_none(), "R66: no event is left");
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let tasks = Handle::current().metrics().num_alive_tasks();
        (tasks, descriptors, [self.server.peers().len(), self.client.peers().len()])
    }
}

#[test]
fn a_thousand_connects_and_disconnects_leave_nothing_behind() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut scene = runtime.block_on(scene());
    let mut rounds = |count: usize| {
        runtime.block_on(async {
            for round in 0..count {
                scene.connect_and_disconnect(round).await;
            }
            scene.rest().await
        })
    };
    let before = rounds(100);
    let mut after = None;
    let used = measure(|| after = Some(rounds(ROUNDS)));
    let (tasks, descriptors, peers) = after.unwrap();
    assert_eq!(tasks, before.0, "R8: tasks");
    assert_eq!(descriptors, before.1, "R8: descriptors");
    assert_eq!(peers, [3, 0], "R71: peers");
    assert!(used.bytes_current.abs() < SLACK, "R8: heap: {used:?}");
    let server = &scene.server;
    assert!(server.peers().iter().all(|peer| peer.status().unsent_messages <= 1), "R71: queues");
    let status = server.status();
    assert_eq!((status.pending, status.dialling, status.receive_budget_used), (0, 0, 0), "R71: gauges");
    runtime.block_on(async { soon(server.shutdown()).await });
    assert!(scene.server.peers().is_empty(), "R71");
}
