//! `capmux bench`: what this machine does, with nothing else installed.

mod report;
mod work;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::exit::{Exit, Failure};
use crate::{output, signals};
use report::Report;
use work::Work;

/// Shows what this machine does: sealing and opening, throughput by size, round trips, handshakes, idle peers
///
/// Everything runs in this process, over loopback TCP, with the default settings of the library. Other work on the
/// machine shows in the figures; compare those that were taken one right after the other.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Measures only what has this in its name: idle_peers, codec_32, stream_16384, round_trip, handshake and so on
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// How long each measurement takes, from 0.1 to 60 seconds. Idle peers always take 15 s, the time between two Pings
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// Prints one JSON document instead of the table
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
The JSON document has the fields codec, streams, round_trip, handshake and idle_peers; what was not measured is null, or \
missing in the arrays codec and streams, which have an object for each size. cli/README.md tells what is in them.

Ctrl-C ends it early, with what was measured so far and exit code 6.

Exit codes: 0 done; 1 something could not be measured; 2 the command line is wrong; 6 ended early.";

pub(crate) async fn run(args: Args) -> ExitCode {
    let exit = bench(&args).await.unwrap_or_else(|failure| {
        output::note(format_args!("error: {failure}"));
        failure.exit()
    });
    exit.into()
}

async fn bench(args: &Args) -> Result<Exit, Failure> {
    let pattern = args.only.as_deref().unwrap_or_default();
    let works: Vec<_> = work::all().into_iter().filter(|work| work.name().contains(pattern)).collect();
    if works.is_empty() {
        let names: Vec<_> = work::all().iter().map(Work::name).collect();
        return Err(Failure::new(Exit::Failed, format!("nothing has {pattern:?} in its name: {}", names.join(", "))));
    }
    let mut stop = signals::stop()?;
    let (mut report, mut exit) = (Report::default(), Exit::Done);
    let progress = output::Live::new(progress(args, works.len()));
    for work in works {
        progress.bar().set_message(work.name());
        tokio::select! {
            biased;
            _ = &mut stop => {
                exit = Exit::Partly;
                break;
            }
            done = work.measure(args.seconds, &mut report) => done.map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot measure {}: {error}", work.name()))
            })?,
        }
        progress.bar().inc(1);
    }
    drop(progress);
    let text = if args.json { report.to_json()? } else { report.table() };
    output::print(text.as_bytes())?;
    Ok(exit)
}

/// On a terminal only, and not with NO_COLOR or `--json`.
fn progress(args: &Args, works: usize) -> ProgressBar {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if args.json || plain || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{spinner:.cyan} {bar:44.cyan/dim} {pos} of {len}  {msg}";
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let bar = ProgressBar::new(works as u64).with_style(style.progress_chars("━╸─"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "give a number of seconds from 0.1 to 60".to_owned())
}
