//! Peers that ask their node all the time, and must not notice what it does with another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capmux::{Peer, Server};
use capmux_echo::Echo;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{Cue, PATIENCE, check, connect, node};

/// The pause between two requests of a peer, and their size.
const ECHO_EVERY: Duration = Duration::from_millis(10);
const ECHO_BYTES: usize = 256;

/// The peers, which ask until the scene ends.
pub(super) struct Others {
    servers: Vec<Server>,
    peers: Vec<Peer>,
    answered: Vec<Arc<AtomicU64>>,
    tasks: JoinSet<Result<(), String>>,
}

impl Others {
    pub(super) async fn start(count: usize, target: &Server, cue: &Cue) -> Result<Self, String> {
        let mut others = Self { servers: Vec::new(), peers: Vec::new(), answered: Vec::new(), tasks: JoinSet::new() };
        for _ in 0..count {
            let (protocol, echo) = Echo::new();
            let server = node("other", [protocol]).await?;
            let peer = connect(&server, target).await?;
            let answered = Arc::<AtomicU64>::default();
            others.tasks.spawn(ask(echo, peer.clone(), answered.clone(), cue.clone()));
            others.servers.push(server);
            others.peers.push(peer);
            others.answered.push(answered);
        }
        Ok(others)
    }

    /// How many requests of each have been answered.
    pub(super) fn answered(&self) -> Vec<u64> {
        self.answered.iter().map(|answered| answered.load(Ordering::Relaxed)).collect()
    }

    /// How many requests of all have been answered since then; an error if one of them had no answer.
    pub(super) fn answered_since(&self, before: &[u64], cue: &Cue) -> Result<u64, String> {
        let since: Vec<_> = self.answered().into_iter().zip(before).map(|(now, before)| now - before).collect();
        match since.contains(&0) && !cue.is_stopped() {
            true => Err("another peer was answered nothing any more".to_owned()),
            false => Ok(since.iter().sum()),
        }
    }

    /// Waits until they have asked all that they ask.
    pub(super) async fn finish(&mut self) -> Result<(), String> {
        while let Some(done) = self.tasks.join_next().await {
            done.map_err(|error| error.to_string())??;
        }
        self.peers.iter().try_for_each(check)?;
        for server in &self.servers {
            server.shutdown().await;
        }
        Ok(())
    }
}

async fn ask(echo: Echo, peer: Peer, answered: Arc<AtomicU64>, mut cue: Cue) -> Result<(), String> {
    // The last answers come after what the others must not notice, however short the scene is.
    while cue.wait_until(Instant::now() + ECHO_EVERY).await {
        let answer = timeout(PATIENCE, echo.request(&peer, vec![7; ECHO_BYTES])).await;
        answer
            .map_err(|_| format!("another peer had no reply within {PATIENCE:?}"))?
            .map_err(|error| format!("another peer had no reply: {error}"))?;
        answered.fetch_add(1, Ordering::Relaxed);
        if Instant::now() >= cue.end {
            break;
        }
    }
    Ok(())
}
