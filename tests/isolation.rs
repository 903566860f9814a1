//! What a bad handler or a bad peer costs the others: nothing that they could notice. Real threads and sockets.
//!
//! The bounds are wide, as the machine may be busy; what they rule out is that anybody waits for the disturbance, which
//! lasts at least twice as long.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capmux::testing::{self, expect_message, manual};
use capmux::{Channel, Event, ExitPolicy, NodeKey, Peer, Protocol, Server};
use support::raw::{Raw, drip};
use support::{deaf, dial, echo, event, listening, noise, soon, start};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// How long a disturbance lasts at least.
const DISTURBANCE: Duration = Duration::from_secs(1);

/// How long no answer may take meanwhile.
const BOUND: Duration = Duration::from_millis(400);

/// One test at a time: the others would be a disturbance, too.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A thread that notes for how long the machine lets nothing run.
struct Canary {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Duration>,
}

impl Canary {
    fn start() -> Self {
        const NAP: Duration = Duration::from_millis(2);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let since = std::time::Instant::now();
                std::thread::sleep(NAP);
                longest = longest.max(since.elapsed() - NAP);
            }
            longest
        });
        Self { stop, thread }
    }

    fn longest(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

/// A node that speaks `echo` with the server, and perhaps another protocol.
struct Client {
    _server: Server,
    at_client: Peer,
    talk: Channel,
    bad: Option<Channel>,
}

impl Client {
    async fn new(server: &Server, bad: Option<&str>) -> Self {
        let (talk, mut talks) = manual("echo", 1, 2);
        let mut node = testing::node().protocol(talk);
        let mut bads = None;
        if let Some(name) = bad {
            let (protocol, opened) = manual(name, 1, 2);
            node = node.protocol(protocol);
            bads = Some(opened);
        }
        let client = start(node).await;
        let mut events = server.events();
        let at_client = dial(&client, server).await;
        while !matches!(event(&mut events).await, Event::Added { peer, .. } if peer.id() == client.id()) {}
        let talk = soon(talks.next()).await.1;
        let bad = match &mut bads {
            Some(opened) => Some(soon(opened.next()).await.1),
            None => None,
        };
        Self { _server: client, at_client, talk, bad }
    }

    fn bad(&self) -> &Channel {
        self.bad.as_ref().expect("it speaks the other protocol")
    }

    /// Has messages echoed for this long: the median and the longest of their times, without what the machine itself has
    /// held everything up meanwhile.
    async fn measure(&mut self, time: Duration) -> (Duration, Duration) {
        let (start, mut times) = (Instant::now(), Vec::new());
        let canary = Canary::start();
        while start.elapsed() < time || times.len() < 200 {
            let since = Instant::now();
            self.talk.send(0, "ping").await.expect("it lives");
            expect_message(&mut self.talk, 1).await;
            times.push(since.elapsed());
        }
        times.sort();
        (times[times.len() / 2], times[times.len() - 1].saturating_sub(canary.longest()))
    }

    /// Nobody waits for what goes on meanwhile.
    async fn assert_undisturbed(&mut self, what: &str) {
        let (median, longest) = self.measure(DISTURBANCE).await;
        assert!(median < BOUND / 10 && longest < BOUND, "{what}: {median:?} at the median, {longest:?} at the most");
    }
}

/// A server with `echo` and this protocol; two nodes, of which the second speaks both.
async fn scene(bad: Protocol) -> (Server, Client, Client) {
    let server = start(listening().protocol(echo()).protocol(bad)).await;
    let honest = Client::new(&server, None).await;
    let beside = Client::new(&server, Some("bad")).await;
    (server, honest, beside)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_never_reads_disturbs_nobody() {
    let _alone = ALONE.lock().await;
    let (_server, mut honest, mut beside) = scene(deaf("bad", 2)).await;
    for _ in 0..100 {
        beside.bad().send(0, "unread").await.unwrap();
    }
    beside.assert_undisturbed("the other protocol, while the inbox is not full").await;
    let sender = beside.bad().sender();
    let flood = tokio::spawn(async move { while sender.send(0, noise(1, 10_000)).await.is_ok() {} });
    honest.assert_undisturbed("H60: other peers, while the inbox is full and reading paused").await;
    assert!(beside.at_client.ending().is_none());
    flood.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_or_returns_disturbs_nobody() {
    let _alone = ALONE.lock().await;
    for (policy, lives) in [(ExitPolicy::Detach, true), (ExitPolicy::EndPeer, false)] {
        let bad = Protocol::from_fn("bad", 1, 2, |_peer, mut channel| async move {
            match channel.recv().await {
                Some(message) if message.payload == "panic" => panic!("as it was told to"),
                _ => Ok(()),
            }
        });
        let (server, mut honest, _) = scene(bad.on_exit(policy)).await;
        for how in ["panic", "return"] {
            let mut beside = Client::new(&server, Some("bad")).await;
            beside.bad().send(0, how).await.unwrap();
            if lives {
                beside.assert_undisturbed("the other protocol of the peer").await;
            }
            honest.assert_undisturbed("H58 H59: other peers").await;
            assert_eq!(beside.at_client.ending().is_none(), lives, "H58 H59: {how}");
        }
    }
}

/// A handler that blocks its thread, from its first message on and until this is dropped.
struct Block {
    begun: Arc<AtomicBool>,
    _release: std::sync::mpsc::SyncSender<()>,
}

impl Block {
    /// The handler's protocol; it sends so many messages before it blocks.
    fn after(burst: usize) -> (Self, Protocol) {
        let (release, released) = std::sync::mpsc::sync_channel(0);
        let (begun, released) = (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::Mutex::new(released)));
        let block = Self { begun: begun.clone(), _release: release };
        let protocol = Protocol::from_fn("bad", 1, 2, move |_peer, mut channel| {
            let (begun, released) = (begun.clone(), released.clone());
            async move {
                if channel.recv().await.is_none() {
                    return Ok(());
                }
                for _ in 0..burst {
                    channel.try_send(1, noise(1, 2000))?;
                }
                begun.store(true, Ordering::SeqCst);
                let _dropped = released.lock().expect("nobody panics with it").recv();
                Ok(())
            }
        });
        (block, protocol)
    }

    /// Waits until the handler blocks its thread.
    async fn begun(&self) {
        soon(async {
            while !self.begun.load(Ordering::SeqCst) {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

/// A thread that gives the runtime something to do each millisecond, as any server has that is not idle.
///
/// Without it nobody may be left to look at the sockets: tokio wakes one thread for them, that thread runs the handler
/// which they woke and is blocked by it, and tokio wakes no other to take over until something else is to be done.
struct Pulse(Arc<AtomicBool>);

impl Pulse {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, runtime) = (stop.clone(), tokio::runtime::Handle::current());
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                runtime.spawn(async {});
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self(stop)
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_disturbs_no_other_peer() {
    let _alone = ALONE.lock().await;
    let _pulse = Pulse::start();
    for burst in [0, 50] {
        let (block, bad) = Block::after(burst);
        let (_server, mut honest, beside) = scene(bad).await;
        beside.bad().send(0, "block").await.unwrap();
        block.begun().await;
        honest.assert_undisturbed("other peers, while it blocks").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_disturbs_no_other_protocol_of_its_peer() {
    let _alone = ALONE.lock().await;
    let _pulse = Pulse::start();
    for burst in [0, 50] {
        let (block, bad) = Block::after(burst);
        let (_server, _, mut beside) = scene(bad).await;
        beside.bad().send(0, "block").await.unwrap();
        block.begun().await;
        for _ in 0..burst {
            expect_message(beside.bad.as_mut().expect("it speaks the other protocol"), 1).await;
        }
        beside.assert_undisturbed("the other protocol of its peer, while it blocks").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_reads_disturbs_nobody() {
    let _alone = ALONE.lock().await;
    let streaming = Protocol::from_fn("bad", 1, 2, |_peer, channel| async move {
        loop {
            channel.send(1, noise(1, 100_000)).await?;
        }
    });
    let server = start(listening().protocol(echo()).protocol(streaming)).await;
    let mut honest = Client::new(&server, None).await;
    let _deaf = Raw::greet(&server, &NodeKey::random(), &[("bad", 1)]).await;
    honest.assert_undisturbed("H61: other peers").await;
    assert_eq!(server.peers().len(), 2, "H61: it is there all the while");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_sends_a_byte_a_second_disturbs_nobody() {
    let _alone = ALONE.lock().await;
    let server = start(listening().protocol(echo())).await;
    let mut honest = Client::new(&server, None).await;
    let mut slow = Raw::greet(&server, &NodeKey::random(), &[("echo", 1)]).await;
    slow.stream.set_nodelay(true).unwrap();
    let frame = slow.message(0x10, &noise(1, 1000));
    let dripping = tokio::spawn(async move { drip(&mut slow.stream, &frame, Duration::from_secs(1)).await });
    honest.assert_undisturbed("other peers").await;
    honest.assert_undisturbed("other peers").await;
    assert_eq!(server.peers().len(), 2, "it is there all the while");
    dripping.abort();
}
