//! What peers cost that say nothing.

use std::time::Duration;

use capmux::{Protocol, Server};
use tokio::time::{Instant, sleep};

use crate::node::{CODES, NAME, VERSION, enode, listening};
use crate::{PerfError, Window, process};

/// How long the dialled ends of the last connections may take to become peers.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long everything rests before its memory is measured.
const SETTLE: Duration = Duration::from_secs(1);

/// Nodes that are all connected to one another, so that few nodes have many connections: `n` of them have
/// `n * (n - 1)` ends.
#[derive(Debug)]
pub struct Mesh {
    nodes: Vec<Server>,
    /// How many of them are connected to all of the others among these.
    connected: usize,
}

impl Mesh {
    /// Starts so many nodes, unconnected.
    ///
    /// # Errors
    /// [`PerfError`].
    pub async fn start(nodes: usize) -> Result<Self, PerfError> {
        process::allow_sockets((nodes * nodes) as u64)?;
        let mut mesh = Self { nodes: Vec::with_capacity(nodes), connected: 0 };
        for _ in 0..nodes {
            let idle = Protocol::from_fn(NAME, VERSION, CODES, |_peer, mut channel| async move {
                while channel.recv().await.is_some() {}
                Ok(())
            });
            mesh.nodes.push(listening(nodes, idle).start().await?);
        }
        Ok(mesh)
    }

    /// Connects the first so many nodes, where they are not yet, one connection after another.
    ///
    /// # Errors
    /// [`PerfError`].
    pub async fn connect(&mut self, nodes: usize) -> Result<(), PerfError> {
        let nodes = nodes.min(self.nodes.len());
        for to in self.connected..nodes {
            let enode = enode(&self.nodes[to]);
            for from in &self.nodes[..to] {
                from.dial(&enode).await?;
            }
        }
        self.connected = nodes.max(self.connected);
        let (needed, deadline) = (self.connected * self.connected.saturating_sub(1), Instant::now() + PATIENCE);
        while self.ends() < needed {
            if Instant::now() > deadline {
                return Err(PerfError::Missing { have: self.ends(), needed });
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// How many ends of connections there are: two for each.
    pub fn ends(&self) -> usize {
        self.nodes.iter().map(|node| node.peers().len()).sum()
    }
}

/// The memory of idle peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleMemory {
    /// How many ends of connections were measured.
    pub ends: usize,
    /// How much they have made the process grow, in bytes.
    pub resident_bytes: u64,
}

impl IdleMemory {
    /// Bytes for each end.
    pub fn bytes_per_end(&self) -> f64 {
        self.resident_bytes as f64 / self.ends as f64
    }
}

/// How much the process's resident memory grows with the peers of a [`Mesh`] of so many nodes. Run it in a fresh process:
/// what was used before can be used again without growing. The nodes themselves, and the first connection with all that
/// is made only once, do not count; what the handshakes have used and the allocator keeps does.
///
/// # Errors
/// [`PerfError`]; where the platform does not tell, it is [`PerfError::Io`].
pub async fn idle_memory(nodes: usize) -> Result<IdleMemory, PerfError> {
    let resident = || process::resident_bytes().map_err(PerfError::io("read /proc/self/smaps_rollup"));
    let mut mesh = Mesh::start(nodes).await?;
    mesh.connect(2).await?;
    sleep(SETTLE).await;
    let (before, few) = (resident()?, mesh.ends());
    mesh.connect(nodes).await?;
    sleep(SETTLE).await;
    let (after, all) = (resident()?, mesh.ends());
    if all <= few {
        return Err(PerfError::Missing { have: all, needed: few + 1 });
    }
    Ok(IdleMemory { ends: all - few, resident_bytes: after.saturating_sub(before) })
}

/// The CPU time of idle peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleCpu {
    /// How many ends of connections there were.
    pub ends: usize,
    /// The CPU time that the process has used.
    pub cpu: Duration,
    /// In how long.
    pub wall: Duration,
}

impl IdleCpu {
    /// The share of a core that a thousand ends would use, in percent.
    pub fn percent_for_1000(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.wall.as_secs_f64() / self.ends as f64 * 1000.0
    }
}

/// What the peers of a [`Mesh`] of so many nodes cost while they say nothing. A silent peer is pinged every 15 s: a window
/// that is not a multiple of that measures more or less than its share.
///
/// # Errors
/// [`PerfError`]; where the platform does not tell CPU times, it is [`PerfError::Io`].
pub async fn idle_cpu(nodes: usize, window: Window) -> Result<IdleCpu, PerfError> {
    let cpu_time = || process::cpu_time().map_err(PerfError::io("read the CPU time of this process"));
    let mut mesh = Mesh::start(nodes).await?;
    mesh.connect(nodes).await?;
    let ends = mesh.ends();
    sleep(window.warm_up).await;
    let (begin, before) = (Instant::now(), cpu_time()?);
    sleep(window.measured).await;
    let (cpu, wall) = (cpu_time()?.saturating_sub(before), begin.elapsed());
    match mesh.ends() {
        have if have < ends => Err(PerfError::Missing { have, needed: ends }),
        _ => Ok(IdleCpu { ends, cpu, wall }),
    }
}
