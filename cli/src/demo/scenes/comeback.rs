//! A node is killed and comes back. The nodes that it is a persistent peer of dial it with backoff until it is there.
//!
//! At first it has dialled them: whoever has dialled a node leaves it alone for 35 seconds from then on.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capmux::{Backoff, Event, EventStream, FibonacciBackoff, NodeId, NodeKey, Server, ServerBuilder};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Cue, Line, Outcome, connect, start};

/// How many nodes it is a persistent peer of.
pub(in crate::demo) const PEERS: usize = 3;

/// Listeners, the one of the port that is kept, and both ends of connections.
pub(super) const FILES: usize = 2 + 3 * PEERS;

/// How long it is gone at most, but for peers that have not dialled it in vain by then: on a busy machine.
const GONE: Duration = Duration::from_secs(2);

/// How the peers came back.
#[derive(Debug)]
pub(in crate::demo) struct Comeback {
    /// How long the node was gone.
    pub(in crate::demo) gone: Duration,
    /// For each peer, the times from the loss to its first redial, and from each redial to the next. The last one is
    /// the one that led to the node.
    pub(in crate::demo) delays: Vec<Vec<Duration>>,
    /// How long it took from the node's return until it had all peers again.
    pub(in crate::demo) took: Duration,
}

impl Comeback {
    pub(in crate::demo) fn dials(&self) -> usize {
        self.delays.iter().map(Vec::len).sum()
    }

    fn judge(self) -> Outcome<Self> {
        for delays in &self.delays {
            if delays.len() < 2 {
                return Err("a peer has not dialled the node in vain while it was gone".to_owned());
            }
            let (dials, total) = (delays.len(), delays.iter().sum());
            let allowed = most_dials(total);
            if dials > allowed {
                return Err(format!("a peer has dialled {dials} times in {total:?}, where {allowed} are allowed"));
            }
        }
        Ok(Some(self))
    }
}

/// How many dials the backoff allows in this time.
fn most_dials(time: Duration) -> usize {
    let backoff = FibonacciBackoff::default();
    let mut left = time;
    let mut dials = 0;
    while let Some(rest) = left.checked_sub(backoff.delay(dials, 0.0)) {
        left = rest;
        dials += 1;
    }
    usize::try_from(dials).unwrap_or(usize::MAX)
}

pub(super) async fn play(mut cue: Cue, line: Line) -> Outcome<Comeback> {
    let key = NodeKey::random();
    let node = start("comer", 0, builder(key.clone())).await?;
    let peers = persistent_peers(&node).await?;
    line.write(format!("{PEERS} persistent peers"));
    let played =
        if cue.wait_until(cue.quarter(1)).await { restart(&mut cue, &line, key, node, &peers).await } else { Ok(None) };
    for peer in &peers {
        peer.shutdown().await;
    }
    played?.map_or(Ok(None), Comeback::judge)
}

fn builder(key: NodeKey) -> ServerBuilder {
    Server::builder(key).protocol(capmux_echo::protocol())
}

/// Nodes that the node has dialled, and that keep it as a persistent peer from then on.
async fn persistent_peers(node: &Server) -> Result<Vec<Server>, String> {
    let enode = node.enode().ok_or("the node does not listen")?;
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let builder = builder(NodeKey::random()).backoff(FibonacciBackoff::default());
        let peer = start("keeper", 0, builder).await?;
        connect(node, &peer).await?;
        peer.add_peer(&enode).map_err(|error| format!("the node cannot be a persistent peer: {error}"))?;
        peers.push(peer);
    }
    Ok(peers)
}

/// Kills the node and starts it again after a while, with the same key and at the same port.
async fn restart(cue: &mut Cue, line: &Line, key: NodeKey, node: Server, peers: &[Server]) -> Outcome<Comeback> {
    let port = node.local_addr().ok_or("the node does not listen")?.port();
    let mut watched = JoinSet::new();
    let killed = Instant::now();
    let in_vain = Arc::<AtomicUsize>::default();
    for (number, peer) in peers.iter().enumerate() {
        let (events, id, in_vain) = (peer.events(), node.id(), in_vain.clone());
        watched.spawn(async move { (number, watch(events, id, killed, &in_vain).await) });
    }
    node.abort().await;
    let kept = keep(port);
    line.write("killed, and not back yet".to_owned());
    let all_have_dialled = || in_vain.load(Ordering::Relaxed) == PEERS;
    let is_going_on = cue.wait_until(killed + GONE.min((cue.end - cue.start) / 4)).await
        && cue.wait_for("the persistent peers of a node that is gone dial it", all_have_dialled).await?;
    drop(kept);
    if !is_going_on {
        return Ok(None);
    }
    let node = start("comer", port, builder(key)).await?;
    let back = Instant::now();
    let (gone, are_back) = (back - killed, || node.peers().len() == PEERS);
    if !cue.wait_for("the persistent peers of a node that has come back are there again", are_back).await? {
        return Ok(None);
    }
    let took = back.elapsed();
    let mut delays = vec![Vec::new(); PEERS];
    while let Some(done) = watched.join_next().await {
        let (number, seen) = done.map_err(|error| error.to_string())?;
        delays[number] = seen;
    }
    node.shutdown().await;
    let comeback = Comeback { gone, delays, took };
    line.write(format!("all {PEERS} peers back after {took:.1?}, with {} dials", comeback.dials()));
    Ok(Some(comeback))
}

/// Keeps others from taking the port, where the operating system lets a port be kept by whoever does not listen.
fn keep(port: u16) -> Option<TcpSocket> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.set_reuseaddr(true).ok()?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into()).ok()?;
    Some(socket)
}

/// The times between the dials to a node, until one leads to it. The first that does not is counted.
async fn watch(mut events: EventStream, id: NodeId, killed: Instant, in_vain: &AtomicUsize) -> Vec<Duration> {
    let (mut last, mut delays) = (killed, Vec::new());
    while let Some(event) = events.recv().await {
        let is_back = matches!(&event, Event::Added { .. });
        let is_dial = is_back || matches!(&event, Event::DialFailed { .. });
        if event.peer_id() == Some(id) && is_dial {
            let now = Instant::now();
            if delays.is_empty() {
                in_vain.fetch_add(1, Ordering::Relaxed);
            }
            delays.push(now - last);
            last = now;
            if is_back {
                break;
            }
        }
    }
    delays
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_dials_more_often_than_the_backoff_allows_is_found_out() {
        let judge = |delays: &[u64]| {
            let delays = delays.iter().copied().map(Duration::from_millis).collect();
            Comeback { gone: Duration::ZERO, delays: vec![delays], took: Duration::ZERO }.judge().map(|_| ())
        };
        assert_eq!(judge(&[101, 107, 205, 320, 510]), Ok(()));
        assert_eq!(judge(&[90, 120, 200]), Ok(()), "what is told late seems to be sooner the next time");
        assert!(judge(&[100, 100, 100]).is_err_and(|error| error.contains("3 times in 300ms, where 2 are allowed")));
        assert!(judge(&[2000]).is_err_and(|error| error.contains("in vain")));
    }
}
