//! Six scenes beside the network, on connections of their own: shares by weight, a handler that sleeps, a flood, a node
//! that comes back, a ban, a newcomer.
//!
//! They take little of the processor, so that the figures of the network stay what they are: the link that is filled is
//! a slow one, the flood is short, and so few nodes connect.

pub(super) mod ban;
pub(super) mod comeback;
pub(super) mod flood;
pub(super) mod isolation;
pub(super) mod newcomer;
mod others;
pub(super) mod shares;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use capmux::{NodeKey, Peer, Protocol, Server, ServerBuilder};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::tally::Tally;
use ban::Ban;
use comeback::Comeback;
use flood::Flood;
use isolation::Isolation;
use newcomer::Newcomer;
use shares::Shares;

/// The most listeners and connections of all scenes at a time.
pub(super) const FILES: usize = 13 + comeback::FILES + ban::FILES + newcomer::FILES;

/// How many scenes there are.
const SCENES: usize = 6;

/// How often it is looked at whether what is waited for has happened.
const LOOK: Duration = Duration::from_millis(5);

/// No scene needs longer.
const LONGEST: Duration = Duration::from_secs(10);

/// How long whatever a scene waits for at its end may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of the scenes; `None` where one was cut short before there was something to tell, or failed.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) shares: Option<Shares>,
    pub(super) isolation: Option<Isolation>,
    pub(super) flood: Option<Flood>,
    pub(super) comeback: Option<Comeback>,
    pub(super) ban: Option<Ban>,
    pub(super) newcomer: Option<Newcomer>,
}

/// What a scene has come to, or the error for the demo's list.
type Outcome<T> = Result<Option<T>, String>;

/// The running scenes.
pub(super) struct Scenes {
    stopped: watch::Sender<bool>,
    shares: JoinHandle<Outcome<Shares>>,
    isolation: JoinHandle<Outcome<Isolation>>,
    flood: JoinHandle<Outcome<Flood>>,
    comeback: JoinHandle<Outcome<Comeback>>,
    ban: JoinHandle<Outcome<Ban>>,
    newcomer: JoinHandle<Outcome<Newcomer>>,
}

impl Scenes {
    /// Starts all scenes, which end after `time` or sooner.
    pub(super) fn start(time: Duration, board: &Board) -> Self {
        let stopped = watch::Sender::new(false);
        let start = Instant::now();
        let cue = || Cue { start, end: start + time.min(LONGEST), stopped: stopped.subscribe() };
        Self {
            shares: tokio::spawn(shares::play(cue(), board.line(0))),
            isolation: tokio::spawn(isolation::play(cue(), board.line(1))),
            flood: tokio::spawn(flood::play(cue(), board.line(2))),
            comeback: tokio::spawn(comeback::play(cue(), board.line(3))),
            ban: tokio::spawn(ban::play(cue(), board.line(4))),
            newcomer: tokio::spawn(newcomer::play(cue(), board.line(5))),
            stopped,
        }
    }

    /// Ends the scenes at once.
    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Waits for the scenes, and notes what went wrong.
    pub(super) async fn finish(self, tally: &Tally) -> Played {
        let Self { shares, isolation, flood, comeback, ban, newcomer, stopped: _running } = self;
        Played {
            shares: noted("shares", shares.await, tally),
            isolation: noted("isolation", isolation.await, tally),
            flood: noted("flood", flood.await, tally),
            comeback: noted("comeback", comeback.await, tally),
            ban: noted("ban", ban.await, tally),
            newcomer: noted("newcomer", newcomer.await, tally),
        }
    }
}

fn noted<T>(scene: &str, outcome: Result<Outcome<T>, JoinError>, tally: &Tally) -> Option<T> {
    outcome.unwrap_or_else(|error| Err(error.to_string())).unwrap_or_else(|error| {
        tally.error(format!("{scene}: {error}"));
        None
    })
}

/// When a scene begins and ends.
#[derive(Debug, Clone)]
struct Cue {
    start: Instant,
    end: Instant,
    stopped: watch::Receiver<bool>,
}

impl Cue {
    /// Half-time.
    fn middle(&self) -> Instant {
        self.quarter(2)
    }

    /// When so many quarters are over.
    fn quarter(&self, number: u32) -> Instant {
        self.start + (self.end - self.start) * number / 4
    }

    /// Waits until then; `false` when the scene is to end at once.
    async fn wait_until(&mut self, time: Instant) -> bool {
        tokio::select! {
            biased;
            _ = self.stopped.wait_for(|stopped| *stopped) => false,
            () = sleep_until(time) => true,
        }
    }

    /// Waits for something that is to happen before the scene ends, or soon after it; `false` when the scene is to end
    /// at once.
    async fn wait_for(&mut self, what: &str, mut has_happened: impl FnMut() -> bool) -> Result<bool, String> {
        let limit = self.end.max(Instant::now()) + PATIENCE;
        while !has_happened() {
            if Instant::now() > limit {
                return Err(format!("{what}: not within {:?}", limit - self.start));
            }
            if !self.wait_until(Instant::now() + LOOK).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }
}

/// A line for each scene, for the live view.
#[derive(Debug, Default)]
pub(super) struct Board {
    lines: Arc<Mutex<[String; SCENES]>>,
}

impl Board {
    pub(super) fn read(&self) -> [String; SCENES] {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn line(&self, number: usize) -> Line {
        Line { lines: self.lines.clone(), number }
    }
}

/// One line of the board.
struct Line {
    lines: Arc<Mutex<[String; SCENES]>>,
    number: usize,
}

impl Line {
    fn write(&self, text: String) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)[self.number] = text;
    }
}

/// A node that listens.
async fn node(name: &str, protocols: impl IntoIterator<Item = Protocol>) -> Result<Server, String> {
    start(name, 0, protocols.into_iter().fold(Server::builder(NodeKey::random()), ServerBuilder::protocol)).await
}

/// A node that listens on this port, or on any if it is 0.
async fn start(name: &str, port: u16, builder: ServerBuilder) -> Result<Server, String> {
    let started = builder.client_id(name).listen(([127, 0, 0, 1], port).into()).start().await;
    started.map_err(|error| format!("cannot start the node {name}: {error}"))
}

/// Connects two nodes, and waits until both are peers.
async fn connect(from: &Server, to: &Server) -> Result<Peer, String> {
    let enode = to.enode().ok_or("a node does not listen")?;
    let peer = from.dial(&enode).await.map_err(|ending| format!("cannot connect: {ending}"))?;
    let is_mutual = async {
        while to.peer(&from.id()).is_none() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, is_mutual).await.map_err(|_| "a node has a peer that does not have it".to_owned())?;
    Ok(peer)
}

/// Notices a connection that has ended by itself.
fn check(peer: &Peer) -> Result<(), String> {
    peer.ending().map_or(Ok(()), |ending| Err(format!("the connection ended: {ending}")))
}
