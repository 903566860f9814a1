//! `capmux bench`: what this machine does, with nothing else installed.

mod duration;
mod report;
mod soak;
mod work;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::exit::{Exit, Failure};
use crate::{output, signals};
use duration::Seconds;
use report::Report;
use work::Work;

/// Shows what this machine does: sealing and opening, throughput by size, round trips, handshakes, idle peers
///
/// Everything runs in this process, over loopback TCP, with the default settings of the library. Other work on the
/// machine shows in the figures; compare those that were taken one right after the other.
///
/// With `--only soak` it measures nothing, and puts a node under load for long: fifty peers come and go, in order and
/// not, over a network that stalls, cuts, resets and flips bits, beside floods and garbage. In the end there is a
/// verdict: whether a message was lost or doubled that must not be, and whether memory, descriptors or tasks grow or are
/// left behind.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Measures only what has this in its name: idle_peers, codec_32, stream_16384, round_trip, handshake and so on.
    /// The soak runs only when its whole name is given: soak
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// How long each measurement takes, from 0.1 to 60 seconds, 1 by default; the soak from 1 to 86400, and 60 by
    /// default. Idle peers always take 15 s, the time between two Pings
    #[arg(long, value_name = "S")]
    seconds: Option<Seconds>,
    /// Of the soak: who does what, and when; the same seed makes the same choices, as far as the clock lets it. Without
    /// it, others each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Prints one JSON document instead of the table
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
The JSON document has the fields codec, streams, round_trip, handshake, idle_peers and soak; what was not measured is \
null, or missing in the arrays codec and streams, which have an object for each size. cli/README.md tells what is in \
them.

Ctrl-C ends it early, with what was measured so far and exit code 6; a soak then ends in order, with its verdict.

Exit codes: 0 done; 1 something could not be measured, or the verdict of the soak is bad; 2 the command line is wrong; 6 \
ended early.";

pub(crate) async fn run(args: Args) -> ExitCode {
    let exit = bench(&args).await.unwrap_or_else(|failure| {
        output::note(format_args!("error: {failure}"));
        failure.exit()
    });
    exit.into()
}

async fn bench(args: &Args) -> Result<Exit, Failure> {
    if args.only.as_deref() == Some(soak::NAME) {
        return soak(args).await;
    }
    if args.seed.is_some() {
        return Err(Failure::new(Exit::Usage, "--seed is for the soak alone: add --only soak"));
    }
    let time = duration::of_measurement(args.seconds)?;
    let pattern = args.only.as_deref().unwrap_or_default();
    let works: Vec<_> = work::all().into_iter().filter(|work| work.name().contains(pattern)).collect();
    if works.is_empty() {
        let names: Vec<_> = work::all().iter().map(Work::name).chain([soak::NAME.to_owned()]).collect();
        return Err(Failure::new(Exit::Failed, format!("nothing has {pattern:?} in its name: {}", names.join(", "))));
    }
    let mut stop = signals::stop()?;
    let (mut report, mut exit) = (Report::default(), Exit::Done);
    let progress =
        output::Live::new(progress(args, "{spinner:.cyan} {bar:44.cyan/dim} {pos} of {len}  {msg}", works.len()));
    for work in works {
        progress.bar().set_message(work.name());
        tokio::select! {
            biased;
            _ = &mut stop => {
                exit = Exit::Partly;
                break;
            }
            done = work.measure(time, &mut report) => done.map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot measure {}: {error}", work.name()))
            })?,
        }
        progress.bar().inc(1);
    }
    drop(progress);
    print(args, &report)?;
    Ok(exit)
}

async fn soak(args: &Args) -> Result<Exit, Failure> {
    let time = duration::of_soak(args.seconds)?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u32(..).into());
    let mut stop = signals::stop()?;
    if !args.json {
        output::note(format_args!("soak for {} s, seed {seed}", time.as_secs_f64()));
    }
    let progress = output::Live::new(progress(args, "{spinner:.cyan} {msg}", 1));
    let (soak, was_cut) = soak::run(time, seed, &mut stop, progress.bar()).await?;
    drop(progress);
    let is_good = soak.is_good();
    print(args, &Report { soak: Some(soak), ..Report::default() })?;
    Ok(match (was_cut, is_good) {
        (true, _) => Exit::Partly,
        (false, true) => Exit::Done,
        (false, false) => Exit::Failed,
    })
}

fn print(args: &Args, report: &Report) -> Result<(), Failure> {
    let text = if args.json { report.to_json()? } else { report.table() };
    output::print(text.as_bytes()).map(drop)
}

/// On a terminal only, and not with NO_COLOR or `--json`.
fn progress(args: &Args, template: &str, works: usize) -> ProgressBar {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if args.json || plain || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let bar = ProgressBar::new(works as u64).with_style(style.progress_chars("━╸─"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
