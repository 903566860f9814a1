//! The CPU time of a message with more and more peers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capmux_perf::{Hub, process};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::Failure;
use crate::raw::Sockets;

const PEERS: [usize; 4] = [1, 10, 100, 1000];
pub(crate) const SIZE: usize = 256;
/// Messages each millisecond. With ten peers or more, all of them go to different ones.
const BURST: usize = 10;
/// How many times as many messages there are when they go as fast as they can.
const FLAT_OUT: usize = 10;
/// How long what was sent may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Microseconds of CPU time at both ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) peers: usize,
    pub(crate) paced_us: f64,
    pub(crate) flat_out_us: f64,
    /// What plain TCP takes of `paced_us`.
    pub(crate) tcp_us: f64,
}

/// What sends to many.
#[derive(Debug, Clone)]
enum Sender {
    Hub(Arc<Hub>, Bytes),
    Tcp(Arc<Sockets>),
}

impl Sender {
    async fn send(&self, to: usize) -> Result<(), Failure> {
        match self {
            Self::Hub(hub, payload) => Ok(hub.send(to, payload.clone()).await?),
            Self::Tcp(sockets) => sockets.send(to).await,
        }
    }

    fn received(&self) -> u64 {
        match self {
            Self::Hub(hub, _) => hub.received(),
            Self::Tcp(sockets) => sockets.received(),
        }
    }
}

/// Measures each number of peers in each round; tells of one when its last round is done.
pub(crate) fn costs(quick: bool, tell: impl Fn(&Cost)) -> Result<Vec<Cost>, Failure> {
    let (rounds, milliseconds) = if quick { (1, 200) } else { (5, 2000) };
    let mut measured: Vec<Vec<Cost>> = vec![Vec::new(); PEERS.len()];
    for _ in 0..rounds {
        for (place, peers) in PEERS.into_iter().enumerate() {
            // A runtime of its own, so that nothing of the one before is left.
            let runtime = Runtime::new()?;
            measured[place].push(runtime.block_on(cost(peers, milliseconds))?);
        }
    }
    let costs: Vec<_> = measured.iter().map(|rounds| median(rounds)).collect();
    costs.iter().for_each(tell);
    Ok(costs)
}

async fn cost(peers: usize, milliseconds: usize) -> Result<Cost, Failure> {
    let each = |cpu: Duration, count: usize| cpu.as_secs_f64() * 1e6 / count as f64;
    let total = milliseconds * BURST;
    let tcp = Sender::Tcp(Arc::new(Sockets::connect(peers).await?));
    flat_out(&tcp, peers, total.min(20 * peers)).await?;
    let tcp_us = each(paced(&tcp, milliseconds).await?, total);
    drop(tcp);

    let hub = Sender::Hub(Arc::new(Hub::start(peers).await?), Bytes::from(vec![7; SIZE]));
    // Everyone has had a message, and buffers have their sizes.
    flat_out(&hub, peers, total.min(20 * peers)).await?;
    sleep(Duration::from_millis(200)).await;
    let paced_us = each(paced(&hub, milliseconds).await?, total);
    let flat_out_us = each(flat_out(&hub, peers, FLAT_OUT * total).await?, FLAT_OUT * total);
    Ok(Cost { peers, paced_us, flat_out_us, tcp_us })
}

/// A few messages each millisecond, to one peer after the other.
async fn paced(to: &Sender, milliseconds: usize) -> Result<Duration, Failure> {
    let (begin, sending) = (Begin::new(to)?, to.clone());
    let sent = async move {
        let mut tick = interval(Duration::from_millis(1));
        for millisecond in 0..milliseconds {
            tick.tick().await;
            for peer in millisecond * BURST..(millisecond + 1) * BURST {
                sending.send(peer).await?;
            }
        }
        Ok(())
    };
    begin.arrived(to, milliseconds * BURST, JoinSet::from_iter([sent])).await
}

/// To each peer from a task of its own.
async fn flat_out(to: &Sender, peers: usize, total: usize) -> Result<Duration, Failure> {
    let begin = Begin::new(to)?;
    let share = |peer: usize| total / peers + usize::from(peer < total % peers);
    let to_one = |peer: usize| {
        let (to, count) = (to.clone(), share(peer));
        async move {
            for _ in 0..count {
                to.send(peer).await?;
            }
            Ok(())
        }
    };
    begin.arrived(to, total, (0..peers).map(to_one).collect()).await
}

/// The state before a load.
struct Begin {
    cpu: Duration,
    received: u64,
}

impl Begin {
    fn new(to: &Sender) -> Result<Self, Failure> {
        Ok(Self { cpu: process::cpu_time()?, received: to.received() })
    }

    /// Waits until everything was sent and has arrived, and returns the CPU time that this took.
    async fn arrived(
        self,
        to: &Sender,
        count: usize,
        mut sending: JoinSet<Result<(), Failure>>,
    ) -> Result<Duration, Failure> {
        let wanted = self.received + count as u64;
        let all = async {
            while let Some(ended) = sending.join_next().await {
                ended??;
            }
            while to.received() < wanted {
                sleep(Duration::from_millis(1)).await;
            }
            Ok::<_, Failure>(())
        };
        let late = |_| format!("{} of {wanted} messages have arrived after {PATIENCE:?}", to.received());
        timeout(PATIENCE, all).await.map_err(late)??;
        Ok(process::cpu_time()?.saturating_sub(self.cpu))
    }
}

fn median(rounds: &[Cost]) -> Cost {
    let of = |value: fn(&Cost) -> f64| {
        let mut values: Vec<_> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Cost {
        peers: rounds[0].peers,
        paced_us: of(|cost| cost.paced_us),
        flat_out_us: of(|cost| cost.flat_out_us),
        tcp_us: of(|cost| cost.tcp_us),
    }
}
