//! A TCP proxy that is a bad network: it delays, stalls, crumbles, cuts, resets and flips bits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::count;

/// How much is passed on at a time.
const CHUNK: usize = 16 * 1024;

/// The bytes after which something happens: some are within the handshake.
const AFTER: (f64, f64) = (100.0, 2_000_000.0);

/// How often something has happened.
#[derive(Debug, Default)]
pub(super) struct Mishaps {
    pub(super) stalls: AtomicU64,
    pub(super) cuts: AtomicU64,
    pub(super) resets: AtomicU64,
    pub(super) flips: AtomicU64,
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mishap {
    /// Nothing, but for delays.
    None,
    /// Nothing passes for so long, and then everything goes on.
    Stall(Duration),
    /// It is closed, wherever the bytes stand.
    Cut,
    /// It is reset.
    Reset,
    /// A bit is changed.
    Flip,
}

/// How a connection is treated.
#[derive(Debug, Clone, Copy)]
struct Plan {
    mishap: Mishap,
    /// After so many bytes in one direction.
    after: usize,
    /// To the node that is dialled, or back.
    is_forth: bool,
    /// Before each chunk, at most.
    delay: Duration,
    /// Smaller pieces than [`CHUNK`].
    crumbs: usize,
}

impl Plan {
    fn random(random: &mut fastrand::Rng) -> Self {
        let mishap = match random.u8(..10) {
            0 => Mishap::None,
            1 | 2 => Mishap::Stall(Duration::from_millis(random.u64(200..8_000))),
            // Longer than the library puts up with.
            3 => Mishap::Stall(Duration::from_secs(45)),
            4 | 5 => Mishap::Cut,
            6 | 7 => Mishap::Reset,
            _ => Mishap::Flip,
        };
        let (least, most) = AFTER;
        Self {
            mishap,
            after: (least * (most / least).powf(random.f64())) as usize,
            is_forth: random.bool(),
            delay: Duration::from_millis([0, 0, 2, 20][random.usize(..4)]),
            crumbs: [1, 100, CHUNK, CHUNK][random.usize(..4)],
        }
    }
}

/// Passes connections on to `target`, as the seed will have it, until it is dropped.
pub(super) async fn run(listener: TcpListener, target: SocketAddr, mishaps: Arc<Mishaps>, mut random: fastrand::Rng) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    drop(connections.spawn(pass(stream, target, Plan::random(&mut random), mishaps.clone(), random.fork())));
                }
                // No descriptors: they come back.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Passes a connection on. Both are closed when one direction has ended.
async fn pass(from: TcpStream, target: SocketAddr, plan: Plan, mishaps: Arc<Mishaps>, mut random: fastrand::Rng) {
    let Ok(to) = TcpStream::connect(target).await else { return };
    let mut ends = [from, to];
    let is_reset = {
        let [from, to] = &mut ends;
        // What is small must not wait.
        let _ = (from.set_nodelay(true), to.set_nodelay(true));
        let ((from_reader, from_writer), (to_reader, to_writer)) = (from.split(), to.split());
        let fate = |is_forth| Some(plan).filter(|plan| plan.is_forth == is_forth);
        let mut forth = Way { plan, fate: fate(true), passed: 0, random: random.fork(), mishaps: &mishaps };
        let mut back = Way { plan, fate: fate(false), passed: 0, random: random.fork(), mishaps: &mishaps };
        tokio::select! {
            is_reset = forth.pump(from_reader, to_writer) => is_reset,
            is_reset = back.pump(to_reader, from_writer) => is_reset,
        }
    };
    if is_reset {
        // What cannot be reset is closed.
        ends.iter().for_each(|end| drop(end.set_zero_linger()));
    }
}

/// One direction of a connection.
struct Way<'a> {
    plan: Plan,
    /// The plan, if something is to happen in this direction.
    fate: Option<Plan>,
    passed: usize,
    random: fastrand::Rng,
    mishaps: &'a Mishaps,
}

impl Way<'_> {
    /// Passes bytes on until an end closes or something happens; whether that is a reset.
    async fn pump(&mut self, mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) -> bool {
        let mut buffer = vec![0; CHUNK];
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer[..self.plan.crumbs.max(self.least())]).await else {
                return false;
            };
            if !self.plan.delay.is_zero() {
                sleep(self.plan.delay.mul_f64(self.random.f64())).await;
            }
            let bytes = &mut buffer[..read];
            let place = self.fate.map(|fate| fate.after.saturating_sub(self.passed)).filter(|place| *place < read);
            self.passed += read;
            let Some(place) = place else {
                if to.write_all(bytes).await.is_err() {
                    return false;
                }
                continue;
            };
            let mishap = self.fate.take().map_or(Mishap::None, |fate| fate.mishap);
            match mishap {
                Mishap::None => {}
                Mishap::Stall(time) => {
                    count(&self.mishaps.stalls);
                    sleep(time).await;
                }
                Mishap::Flip => {
                    count(&self.mishaps.flips);
                    bytes[place] ^= 1 << self.random.u8(..8);
                }
                Mishap::Cut | Mishap::Reset => {
                    let is_reset = mishap == Mishap::Reset;
                    count(if is_reset { &self.mishaps.resets } else { &self.mishaps.cuts });
                    // Nobody may be there to read the rest.
                    let _ = to.write_all(&bytes[..place]).await;
                    return is_reset;
                }
            }
            if to.write_all(bytes).await.is_err() {
                return false;
            }
        }
    }

    /// Crumbs are for the first of the bytes: what follows would take for ever.
    fn least(&self) -> usize {
        if self.passed < CHUNK { 1 } else { CHUNK }
    }
}
