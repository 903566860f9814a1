//! capmux beside go-ethereum: the same workloads, in the same minute, on the same machine.
//!
//! ```text
//! cargo bench --bench versus
//! cargo bench --bench versus -- --only rtt --rounds 9
//! cargo bench --bench versus -- --json
//! ```
//!
//! Each measurement has a process of its own, ours and go-ethereum's in turn, and in another order each round. What is
//! printed are medians over the rounds, of the ratios too; a ratio above 1 always means that capmux is better. All of
//! it takes about ten minutes, most of them for idle peers.
//!
//! - `--only PATTERN`: the workloads with this in their name
//! - `--rounds N`: 5 unless said otherwise
//! - `--quick`: one round of moments, to see that everything runs; its figures mean little
//! - `--json`: one object a line, as `README.md` in this folder says
//!
//! Without Go it says SKIPPED and measures capmux alone; with `CAPMUX_REQUIRE_INTEROP=1` that is a failure.

mod capmux;
mod geth;
mod process;
mod report;
mod workloads;

use std::process::ExitCode;

use report::{Report, Round};
use workloads::{Workload, workloads};

/// The hidden argument with which this program measures one workload of capmux.
const CHILD: &str = "--child";

/// Why a measurement failed, for the reader.
type Failure = String;

#[derive(Debug, PartialEq, Eq)]
struct Args {
    only: String,
    rounds: Option<usize>,
    quick: bool,
    json: bool,
    /// cargo says so when it runs benchmarks, and does not when it runs them as tests.
    bench: bool,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let done = match args.next() {
        Some(first) if first == CHILD => capmux::run(args.collect()),
        first => parse(first.into_iter().chain(args)).and_then(run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, Failure> {
    let mut parsed = Args { only: String::new(), rounds: None, quick: false, json: false, bench: false };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--only" => parsed.only = value()?,
            "--rounds" => {
                let rounds = value()?.parse().ok().filter(|rounds| *rounds > 0);
                parsed.rounds = Some(rounds.ok_or("--rounds needs a number above 0")?);
            }
            "--quick" => parsed.quick = true,
            "--json" => parsed.json = true,
            "--bench" => parsed.bench = true,
            _ => return Err(format!("{arg} is none of --only PATTERN, --rounds N, --quick and --json")),
        }
    }
    Ok(parsed)
}

fn run(args: Args) -> Result<(), Failure> {
    if !args.bench {
        eprintln!("versus: nothing to test; `cargo bench --bench versus` measures");
        return Ok(());
    }
    let wanted: Vec<_> = workloads(args.quick).into_iter().filter(|workload| workload.matches(&args.only)).collect();
    if wanted.is_empty() {
        return Err(format!("no workload has {:?} in its name", args.only));
    }
    let geth = geth::build()?;
    let rounds = args.rounds.unwrap_or(if args.quick { 1 } else { 5 });
    let mut report = Report::new(args.json, rounds);
    for workload in &wanted {
        let measured: Vec<_> =
            (0..rounds).map(|round| measure(workload, geth.as_ref(), round)).collect::<Result<_, _>>()?;
        for row in workload.rows.iter().filter(|row| workload.shows(row, &args.only)) {
            report.row(row, &measured)?;
        }
    }
    Ok(())
}

/// One round of one workload: both sides, the one that begins in turn.
fn measure(workload: &Workload, geth: Option<&process::Program>, round: usize) -> Result<Round, Failure> {
    let ours = || process::Program::this()?.measure(workload.name, &workload.args);
    let theirs = || geth.map(|geth| geth.measure(workload.name, &workload.args)).transpose();
    let (capmux, geth) = if round.is_multiple_of(2) {
        let capmux = ours()?;
        (capmux, theirs()?)
    } else {
        let geth = theirs()?;
        (ours()?, geth)
    };
    let bare = workload.bare.as_ref().map(|args| process::Program::this()?.measure(workload.name, args)).transpose()?;
    Ok(Round { capmux, geth, bare })
}
