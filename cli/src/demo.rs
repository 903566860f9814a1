//! `capmux demo`: a network in one process, shown at work, and a summary that says whether it did what it should.

mod graph;
mod live;
mod load;
mod network;
mod report;
mod scenes;
mod sections;
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
use scenes::{Board, Played, Scenes};
use tally::Tally;

/// Open files of the process that are neither listeners nor connections.
const OTHER_FILES: usize = 40;

/// Starts a network of nodes in this process, over loopback TCP, and shows it at work
///
/// Every node runs two protocols, echo and gossip, over each of its connections. The summary tells how long handshakes
/// and round trips took, and whether every message reached every node exactly once: if not, the exit code is 1.
///
/// Beside them six scenes are played, on connections of their own: three protocols share a link by their weights, a
/// handler sleeps while another of the same peer answers, a peer that floods its node is disconnected, a node is killed
/// and its persistent peers dial it until it is back, a node bans a peer, and a newcomer that knows one node finds the
/// others by peer exchange.
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
rtt_us), gossip (messages, deliveries, expected_deliveries, spread_ms), bytes_sent, bytes_received, shares (weights, \
bytes, percent), isolation (before_us, during_us, sleep_ms, waiting), flood (reason, by, pings, others_answered), \
comeback (peers, gone_ms, dials, delays_ms, back_ms), ban (reason, by, refusal, refused, others_answered), newcomer \
(nodes, known, found, connected, asked, found_ms, connected_ms) and errors (an array of strings). Times have the fields p50 and p99, which are null where nothing was measured. A message \
is expected at every node but the one that published it; its spread ends when the last of them has it. A scene that \
was cut short, or that failed, is null.

Ctrl-C ends the talk early: what is under way still arrives, and the summary is that of what was done.

Exit codes: 0 every message reached every node exactly once, each protocol had its share of the link within 15 %, the \
flooding peer alone was disconnected, the killed node had all its peers again, the banned one was refused, the \
newcomer is connected to all nodes, and nothing failed; 1 otherwise; 2 the command line is wrong.";

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
    let (view, board) = (View::new(args, seed, graph.edges().len()), Board::default());
    let time = Duration::from_secs(args.seconds);
    let talk = Talk { time, graph: &graph, network: &network, tally: &tally, board: &board };
    let (talked, played) = tokio::select! {
        done = talk.run(&mut random, &mut stop) => done,
        never = view.show(&network, &tally, &board) => match never {},
    };
    let traffic = network.shutdown(&tally).await;
    view.clear();
    Ok(Outcome { seed, graph, asked: time, talked, traffic, played, counts: tally.finish() })
}

/// What the nodes do once they are started.
struct Talk<'a> {
    /// How long they are to talk.
    time: Duration,
    graph: &'a Graph,
    network: &'a Network,
    tally: &'a Arc<Tally>,
    board: &'a Board,
}

impl Talk<'_> {
    /// Connects the nodes, lets them talk while the scenes are played, and waits for what is under way. Returns how
    /// long they talked, and what came of the scenes.
    async fn run(&self, random: &mut fastrand::Rng, stop: &mut oneshot::Receiver<()>) -> (Duration, Played) {
        let Self { time, graph, network, tally, board } = *self;
        let links = tokio::select! {
            links = network.connect(graph, tally) => links,
            _ = &mut *stop => return Default::default(),
        };
        if links.len() < graph.edges().len() {
            return Default::default();
        }
        let start = Instant::now();
        let load = load::Load::start(network, &links, tally, random);
        let scenes = Scenes::start(time, board);
        tally.begin(start);
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = stop => scenes.stop(),
        }
        let talked = start.elapsed();
        let ((), played) = tokio::join!(load.finish(tally), scenes.finish(tally));
        network.check(&links, tally);
        (talked, played)
    }
}

/// Raises the process's limit of open files if it has to be, and can.
fn check_file_limit(graph: &Graph) -> Result<(), Failure> {
    let needed = graph.nodes() + 2 * graph.edges().len() + scenes::FILES + OTHER_FILES;
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
