//! Peers that keep the rules, and notice if another does not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use capmux::testing::{self, Opened};
use capmux::{Peer, Protocol, Server, ServerBuilder};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::support::{noise, soon};

/// Of so many round trips it is known how long they took. There is room for them from the start: the counts of the heap
/// do not see it grow.
const REMEMBERED: usize = 50_000;

/// A node that sends a message and reads its echo, again and again.
pub(crate) struct Honest {
    _server: Server,
    peer: Peer,
    times: Arc<Mutex<Vec<Duration>>>,
    talk: AbortHandle,
}

impl Honest {
    /// Becomes a peer of a server, and talks to it from now on, so often.
    pub(crate) async fn start(
        node: impl FnOnce(Protocol) -> ServerBuilder,
        to: &Server,
        seed: u64,
        every: Duration,
    ) -> Self {
        let (protocol, mut opened): (_, Opened) = testing::manual("echo", 1, 2);
        let server = node(protocol).start().await.expect("the settings are good");
        let address = to.node_addr().expect("it listens");
        let peer = soon(server.dial(address)).await.expect("an honest peer connects at the first try");
        let (_, mut channel) = soon(opened.next()).await;
        let times = Arc::new(Mutex::new(Vec::with_capacity(REMEMBERED)));
        let talk = tokio::spawn({
            let times = times.clone();
            async move {
                let data = noise(seed, 1000);
                loop {
                    let since = Instant::now();
                    if channel.send(0, data.clone()).await.is_err() {
                        return;
                    }
                    let Some(echo) = channel.recv().await else { return };
                    assert_eq!(echo.payload, data, "what comes back is what was sent");
                    note(&times, since.elapsed());
                    sleep(every).await;
                }
            }
        });
        Self { _server: server, peer, times, talk: talk.abort_handle() }
    }

    /// How long its round trips took since this was last asked.
    pub(crate) fn take_times(&self) -> Vec<Duration> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// Fails unless it is a peer still, and talks.
    pub(crate) fn assert_lives(&self, row: &str) {
        assert!(self.peer.ending().is_none() && !self.talk.is_finished(), "{row}: {:?}", self.peer.ending());
    }
}

fn note(times: &Mutex<Vec<Duration>>, time: Duration) {
    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
    if times.len() < REMEMBERED {
        times.push(time);
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.talk.abort();
    }
}
