//! `capmux ping`: what a node says of itself, and how fast it answers.

mod probe;
mod report;
mod verdict;

use std::path::PathBuf;
use std::time::Duration;

use capmux::{Enode, NodeKey};

use crate::exit::Failure;
use crate::key;
use probe::Deadline;
use report::Report;

/// The longest `--timeout`, in seconds.
const LONGEST: f64 = 86400.0;

/// Connects to a node, tells what it says of itself, and measures round trips
///
/// Nodes disconnect a client that shares no subprotocol with them. Therefore the node's Hello is awaited first, and
/// answered with one that claims the same subprotocols, although none of them is spoken: what comes for them is thrown
/// away. A node that sends no Hello for a second gets one that claims none, as do all with --no-mirror.
///
/// Round trips are those of Ping and Pong, one at a time, with a pause of 100 ms between them. A node that shares
/// nothing has a second to say so before it is pinged.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The node: enode://<128 hexadecimal digits>@HOST:PORT
    enode: Enode,
    /// How many round trips to measure; with 0 the Hellos alone are exchanged
    #[arg(long, default_value_t = 3, value_name = "N")]
    count: u32,
    /// How many seconds everything together may take, fractions allowed
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = seconds)]
    timeout: Duration,
    /// Prints one JSON document instead of text
    #[arg(long)]
    json: bool,
    /// Connects with the key in this file instead of a new one
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Claims no subprotocol: most nodes then disconnect as soon as they have said their Hello
    #[arg(long)]
    no_mirror: bool,
}

const AFTER_HELP: &str = "\
The JSON document has the fields node_id, remote_addr, client, p2p_version, capabilities (such as [\"eth/69\"]), \
dial_ms, encryption_ms, hello_ms, rtt_ms (an array) and disconnect, which is null unless the connection ended early: \
then it has the fields code (null if no reason was given), name, and by (remote, network or local). It is printed also \
when the ping fails; what is not known is null. What the node says of itself is escaped and cut as it is in the text.

Exit codes: 0 done, also when the node disconnects after its Hello as from a useless peer; 1 another failure; 2 the \
command line is wrong; 3 the node cannot be reached; 4 the handshake failed; 5 the node disconnected before a round \
trip was measured; 6 fewer round trips were measured than asked for.";

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let key = match &args.key {
        Some(file) => key::load(file)?,
        None => NodeKey::random(),
    };
    let deadline = Deadline::after(args.timeout);
    let mut report = Report::new(&args.enode);
    let (connection, stopped) = probe::probe(&args, &key, &deadline, &mut report).await;
    if let Some(stopped) = &stopped {
        report.stopped(stopped);
    }
    let printed = report.print(args.json);
    if let Some(connection) = connection {
        probe::farewell(connection, stopped.as_ref(), &deadline).await;
    }
    printed?;
    stopped.map_or(Ok(()), |stopped| verdict::judge(&args, &report, &stopped))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0 && *seconds <= LONGEST);
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("give a number of seconds above 0, at most {LONGEST}"))
}
