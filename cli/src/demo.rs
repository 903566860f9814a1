//! `capmux demo`: a network in one process, shown at work, and a summary that says whether it did what it should.

mod graph;
mod live;
mod load;
mod network;
mod report;
mod tally;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::exit::{Exit, Failure};
use crate::{output, signals};
use graph::Graph;
use live::View;
use network::Network;
use report::{Outcome, Report};
use tally::Tally;

/// Open files of the process that are neither listeners nor connections.
const OTHER_FILES: usize = 40;

/// Starts a network of nodes in this process, over loopback TCP, and shows it at work
///
/// Every node runs two protocols, echo and gossip, over each of its connections. The summary tells how long handshakes
/// and round trips took, and whether every message reached every node exactly once: if not, the exit code is 1.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// How many nodes, from 2 to 200
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=200))]
    nodes: u16,
    /// How long they talk, from 1 to 3600 seconds
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Which network: the same seed makes the same connections. Without it, another network each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Prints one JSON document instead of the table
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
The JSON document has the fields nodes, seconds (how long they talked), connections, handshake_ms, echo (messages, \
rtt_us), gossip (messages, deliveries, expected_deliveries, spread_ms), bytes_sent, bytes_received and errors (an array \
of strings). Times have the fields p50 and p99, which are null where nothing was measured. A message is expected at \
every node but the one that published it; its spread ends when the last of them has it.

Ctrl-C ends the talk early: what is under way still arrives, and the summary is that of what was done.

Exit codes: 0 every message reached every node exactly once, and nothing failed; 1 otherwise; 2 the command line is \
wrong.";

pub(crate) async fn run(args: Args) -> ExitCode {
    let done = async {
        let outcome = demo(&args).await?;
        let report = Report::new(&outcome);
        let text = if args.json { report.to_json()? } else { report::table(&report, &outcome) };
        output::print(text.as_bytes())?;
        Ok::<_, Failure>(if report.errors.is_empty() { Exit::Done } else { Exit::Failed })
    };
    let exit = done.await.unwrap_or_else(|failure| {
        output::note(format_args!("error: {failure}"));
        failure.exit()
    });
    exit.into()
}

async fn demo(args: &Args) -> Result<Outcome, Failure> {
    let mut stop = signals::stop()?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u32(..).into());
    let mut random = fastrand::Rng::with_seed(seed);
    let graph = Graph::random(args.nodes.into(), &mut random);
    check_file_limit(&graph)?;

    let tally = Arc::new(Tally::new(args.nodes.into()));
    let network = Network::start(graph.nodes(), &tally).await?;
    let view = View::new(args, seed, graph.edges().len());
    let talked = tokio::select! {
        talked = talk(args, &graph, &network, &tally, &mut random, &mut stop) => talked,
        never = view.show(&network, &tally) => match never {},
    };
    let traffic = network.shutdown(&tally).await;
    view.clear();
    Ok(Outcome { seed, graph, asked: Duration::from_secs(args.seconds), talked, traffic, counts: tally.finish() })
}

/// Connects the nodes, lets them talk, and waits for what is under way. Returns how long they talked.
async fn talk(
    args: &Args,
    graph: &Graph,
    network: &Network,
    tally: &Arc<Tally>,
    random: &mut fastrand::Rng,
    stop: &mut oneshot::Receiver<()>,
) -> Duration {
    let links = tokio::select! {
        links = network.connect(graph, tally) => links,
        _ = &mut *stop => return Duration::ZERO,
    };
    if links.len() < graph.edges().len() {
        return Duration::ZERO;
    }
    let start = Instant::now();
    let load = load::Load::start(network, &links, tally, random);
    tally.begin(start);
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(args.seconds)) => {}
        _ = stop => {}
    }
    let talked = start.elapsed();
    load.finish(tally).await;
    network.check(&links, tally);
    talked
}

/// Raises the process's limit of open files if it has to be, and can.
fn check_file_limit(graph: &Graph) -> Result<(), Failure> {
    let needed = graph.nodes() + 2 * graph.edges().len() + OTHER_FILES;
    match rlimit::increase_nofile_limit(needed as u64) {
        Ok(limit) if limit < needed as u64 => Err(Failure::new(
            Exit::Failed,
            format!(
                "{} nodes need {needed} open files, and this process may open {limit}: raise the limit (`ulimit -n \
                 {needed}`), or ask for fewer --nodes",
                graph.nodes()
            ),
        )),
        // Where the limit is not known, starting the nodes will show it.
        _ => Ok(()),
    }
}
