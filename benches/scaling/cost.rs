//! The CPU time of a message with more and more peers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capmux_perf::{Hub, PerfError, process};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::Failure;

const PEERS: [usize; 4] = [1, 10, 100, 1000];
const SIZE: usize = 256;
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
    let hub = Arc::new(Hub::start(peers).await?);
    let (payload, total) = (Bytes::from(vec![7; SIZE]), milliseconds * BURST);
    // Everyone has had a message, and buffers have their sizes.
    flat_out(&hub, &payload, total.min(20 * peers)).await?;
    sleep(Duration::from_millis(200)).await;
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / total as f64;
    let paced_us = each(paced(&hub, &payload, milliseconds).await?);
    let flat_out_us = each(flat_out(&hub, &payload, FLAT_OUT * total).await?) / FLAT_OUT as f64;
    Ok(Cost { peers, paced_us, flat_out_us })
}

/// A few messages each millisecond, to one peer after the other.
async fn paced(hub: &Arc<Hub>, payload: &Bytes, milliseconds: usize) -> Result<Duration, Failure> {
    let (begin, sending, payload) = (Begin::new(hub)?, hub.clone(), payload.clone());
    let sent = async move {
        let mut tick = interval(Duration::from_millis(1));
        for millisecond in 0..milliseconds {
            tick.tick().await;
            for peer in millisecond * BURST..(millisecond + 1) * BURST {
                sending.send(peer, payload.clone()).await?;
            }
        }
        Ok(())
    };
    begin.arrived(hub, milliseconds * BURST, JoinSet::from_iter([sent])).await
}

/// To each peer from a task of its own.
async fn flat_out(hub: &Arc<Hub>, payload: &Bytes, total: usize) -> Result<Duration, Failure> {
    let begin = Begin::new(hub)?;
    let share = |peer: usize| total / hub.peers() + usize::from(peer < total % hub.peers());
    let to_one = |peer: usize| {
        let (hub, payload, count) = (hub.clone(), payload.clone(), share(peer));
        async move {
            for _ in 0..count {
                hub.send(peer, payload.clone()).await?;
            }
            Ok(())
        }
    };
    begin.arrived(hub, total, (0..hub.peers()).map(to_one).collect()).await
}

/// The state before a load.
struct Begin {
    cpu: Duration,
    received: u64,
}

impl Begin {
    fn new(hub: &Hub) -> Result<Self, Failure> {
        Ok(Self { cpu: process::cpu_time()?, received: hub.received() })
    }

    /// Waits until everything was sent and has arrived, and returns the CPU time that this took.
    async fn arrived(
        self,
        hub: &Hub,
        count: usize,
        mut sending: JoinSet<Result<(), PerfError>>,
    ) -> Result<Duration, Failure> {
        let wanted = self.received + count as u64;
        let all = async {
            while let Some(ended) = sending.join_next().await {
                ended??;
            }
            while hub.received() < wanted {
                sleep(Duration::from_millis(1)).await;
            }
            Ok::<_, Failure>(())
        };
        let late = |_| format!("{} of {wanted} messages have arrived after {PATIENCE:?}", hub.received());
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
    Cost { peers: rounds[0].peers, paced_us: of(|cost| cost.paced_us), flat_out_us: of(|cost| cost.flat_out_us) }
}
