//! `capmux conformance`: whether a node does what RLPx and `p2p` demand.

mod dial;
mod output_file;
mod select;
mod show;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use capmux::Enode;
use capmux_conformance::report::{self, Count, Document};
use capmux_conformance::{Level, ProbeError, Report, Suite, SuiteError};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Notify;

use crate::exit::{Exit, Failure};
use crate::{output, signals};
use output_file::OutputFile;
use show::Show;

/// Tests whether a node does what RLPx and the p2p protocol demand, and how it takes what it should never see
///
/// The node is a black box: all that is needed is its enode, and TCP. The cases send it forged handshakes, broken frames,
/// floods and messages of 16 MiB, from many keys and one address; run them against a node of your own, on the same
/// machine or network, with room for 50 peers. After each case an honest connection proves that the node is still there.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The node: enode://<128 hexadecimal digits>@HOST:PORT
    #[arg(required_unless_present = "list")]
    enode: Option<Enode>,
    /// Prints the cases and runs none
    #[arg(long, conflicts_with_all = ["enode", "tap", "junit"])]
    list: bool,
    /// Runs only the cases that have this in their name or, with *, ? or [..] in it, whose whole name matches: ping,
    /// 'rlpx/auth/*'. Repeat it for more
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Which cases count: a failure of one that matters less is shown, and changes neither the verdict nor the exit code
    #[arg(long, value_name = "LEVEL", default_value = "should", value_parser = level)]
    level: Level,
    /// How many cases run at once, from 1 to 32. Some always run alone
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=32))]
    jobs: u8,
    /// Runs the cases in which the node dials, too: the suite listens at this address, such as 127.0.0.1:0
    ///
    /// Without --dial-with their enodes are printed to stderr at the start, for you to add to the node.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Has the shell run this command for each enode that the node should dial. {} stands for the enode, and so does the
    /// variable CAPMUX_ENODE
    ///
    /// The command may end at once, as one does that tells a running node to dial, or stay, as a node does that dials: it
    /// and what it has started are sent SIGTERM when the case is over, and SIGKILL two seconds later if the suite still
    /// runs. Where there are no signals the shell is ended at once.
    #[arg(long, value_name = "COMMAND", requires = "listen")]
    dial_with: Option<String>,
    /// Prints TAP, version 14, a point for each case as it ends
    #[arg(long)]
    tap: bool,
    /// Prints one JSON document
    #[arg(long, conflicts_with = "tap")]
    json: bool,
    /// Writes JUnit's XML to this file as well, in one piece at the end
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
MUST is what the text of the specification demands, or what nodes need to talk to each other. SHOULD keeps a node from \
harm, and others from guessing. MAY is what some nodes do. A case that cannot tell is inconclusive; it is counted, and \
fails nothing, unless it is so with all that count: then nothing is known, and the exit code is 6.

In TAP and JUnit's XML, whose readers know of no third outcome, inconclusive cases are skipped, with the reason. Failures \
that do not count are marked TODO in TAP, and skipped in the XML. cli/README.md lists the fields of the JSON document.

Ctrl-C ends it early, with what was found out so far and exit code 6.

Exit codes: 0 no case that counts failed; 1 one did, or the results cannot be written; 2 the command line is wrong, or \
the address of --listen cannot be had; 3 the node cannot be reached; 4 it is no \
devp2p node, has another key, or sends no Hello; 6 not all cases were run, since the node stopped answering or Ctrl-C was \
pressed, or none that counts could tell.";

pub(crate) async fn run(args: Args) -> ExitCode {
    let exit = conformance(&args).await.unwrap_or_else(|failure| {
        output::note(format_args!("error: {failure}"));
        failure.exit()
    });
    exit.into()
}

async fn conformance(args: &Args) -> Result<Exit, Failure> {
    let mut suite = select::only(Suite::new(), &args.only)?.jobs(args.jobs.into());
    let Some(enode) = &args.enode else {
        let text = if args.json { report::catalogue(suite.cases()) + "\n" } else { show::list(suite.cases()) };
        output::print(text.as_bytes())?;
        return Ok(Exit::Done);
    };
    if let Some(address) = args.listen {
        suite = suite.listen(address, dial::dial(args.dial_with.as_deref()));
    }
    let junit = args.junit.as_deref().map(OutputFile::create).transpose()?;
    let mut show = Show::new(args, suite.cases())?;
    let (ran, shown) = examine(args, &suite, enode, &mut show).await?;
    let document = match &ran {
        Ok(report) => Document::new(enode, report, args.level),
        Err(error) => Document::without_results(enode, suite.cases(), error, args.level),
    };
    // What can be written is, and the first that cannot is the error.
    let shown = shown.and_then(|()| show.end(&document));
    let written = junit.map(|file| file.write(&document.to_junit())).transpose();
    shown?;
    written?;
    match &ran {
        Ok(_) => verdict(&document),
        Err(error) => Err(Failure::new(exit(error), format!("cannot test the node: {}", advice(error)))),
    }
}

/// Runs the cases, and shows each as it ends, until one cannot be shown.
async fn examine(
    args: &Args,
    suite: &Suite,
    enode: &Enode,
    show: &mut Show,
) -> Result<(Result<Report, SuiteError>, Result<(), Failure>), Failure> {
    let stop = signals::stop()?;
    let progress = output::Live::new(progress(args, suite.cases().len()));
    let (mut shown, full) = (Ok(()), Notify::new());
    let on_result = |result: &capmux_conformance::CaseResult| {
        progress.bar().set_message(result.case.name);
        progress.bar().inc(1);
        if shown.is_ok() {
            shown = show.result(result).inspect_err(|_| full.notify_one());
        }
    };
    let stopped = async {
        tokio::select! {
            _ = stop => {}
            () = full.notified() => {}
        }
    };
    let ran = suite.run_until(enode, stopped, on_result).await;
    drop(progress);
    Ok((ran, shown))
}

fn verdict(document: &Document<'_>) -> Result<Exit, Failure> {
    let count = document.counted();
    let run = count.passed + count.failed + count.inconclusive;
    if let Some(why) = document.ended() {
        untold(count.inconclusive, run);
        let counts = report::LEVELS.map(|level| document.count(level));
        let left = counts.iter().map(|count| count.not_run).sum::<usize>();
        let all = counts.iter().map(Count::total).sum::<usize>();
        return Err(Failure::new(Exit::Partly, format!("{why}; {left} of {all} cases were not run")));
    }
    if count.tells_nothing() {
        let why = format!(
            "nothing could be told: {run} of {run} cases that count are inconclusive; see what was seen in each, and check \
             that the node has room for more peers"
        );
        return Err(Failure::new(Exit::Partly, why));
    }
    untold(count.inconclusive, run);
    Ok(if document.is_passed() { Exit::Done } else { Exit::Failed })
}

/// Says how many of the cases that count and were run could not tell, if any.
fn untold(inconclusive: usize, run: usize) {
    if inconclusive > 0 {
        output::note(format_args!("{inconclusive} of {run} cases that count could not tell"));
    }
}

fn exit(error: &SuiteError) -> Exit {
    match error {
        SuiteError::Probe(ProbeError::Unreachable { .. }) => Exit::Unreachable,
        SuiteError::Probe(ProbeError::Handshake { .. } | ProbeError::Hello { .. }) => Exit::Handshake,
        SuiteError::Listen { .. } => Exit::Usage,
        SuiteError::Stopped => Exit::Partly,
        _ => Exit::Failed,
    }
}

/// What happened, and what to do about it.
fn advice(error: &SuiteError) -> String {
    let hint = match error {
        SuiteError::Probe(ProbeError::Unreachable { .. }) => "check that the node runs and that this is its TCP port",
        SuiteError::Probe(ProbeError::Handshake { .. }) => {
            "check that a devp2p node listens there and that the key in the enode is its own; `capmux ping` tells more"
        }
        SuiteError::Probe(ProbeError::Hello { .. }) => {
            "check that it has room for more peers and lets this address in; `capmux ping` tells more"
        }
        _ => return error.to_string(),
    };
    format!("{error}; {hint}")
}

/// On a terminal only, and not with NO_COLOR or `--json`.
fn progress(args: &Args, cases: usize) -> ProgressBar {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if args.json || plain || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{spinner:.cyan} {bar:44.cyan/dim} {pos} of {len}, {elapsed}  {msg}";
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let bar = ProgressBar::new(cases as u64).with_style(style.progress_chars("━╸─"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn level(text: &str) -> Result<Level, String> {
    let level = report::LEVELS.into_iter().find(|level| level.to_string().eq_ignore_ascii_case(text));
    level.ok_or_else(|| "give must, should or may".to_owned())
}
