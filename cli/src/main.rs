//! The `capmux` command: asks nodes what they are, makes node keys, runs nodes, one or a network of them, tests those of
//! others, and measures.

mod bench;
mod book;
mod config;
mod conformance;
mod demo;
mod exit;
mod flooder;
mod key;
mod logs;
mod manual;
mod node;
mod output;
mod ping;
mod signals;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use exit::{Exit, Failure};

/// Counts the bytes of the heap for the soak. It costs a little with every allocation, which other figures would show.
#[cfg(feature = "heap")]
#[global_allocator]
static HEAP: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

/// Talks devp2p, the way Ethereum's nodes do
///
/// It asks nodes what they are, makes node keys, runs a node, shows a network of nodes at work, tests nodes of
/// others, and measures.
#[derive(Debug, Parser)]
#[command(name = "capmux", version, max_term_width = 100, after_long_help = AFTER_HELP)]
struct Cli {
    /// Logs more to stderr: once for debug messages, twice for traces. RUST_LOG, where it is set, decides instead
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 900)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Data goes to stdout, everything else to stderr.

Exit codes:
  0  done
  1  failed in another way than those below
  2  the command line or the configuration is wrong
  3  the node cannot be reached
  4  the handshake failed: the encryption or the Hello
  5  the other end disconnected; the reason is printed
  6  done in part";

#[derive(Debug, Subcommand)]
enum Command {
    Ping(ping::Args),
    #[command(subcommand)]
    Key(key::Command),
    Node(node::Args),
    Demo(demo::Args),
    Conformance(conformance::Args),
    Bench(bench::Args),
    #[command(subcommand)]
    Book(book::Command),
    Config(config::Args),
    Completions(manual::CompletionsArgs),
    /// Writes the manual to stdout: one page for each command, for `man -l -`
    Man,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    logs::start(cli.verbose);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return report(Failure::new(Exit::Failed, format!("cannot start the runtime: {error}"))),
    };
    let code = runtime.block_on(run(cli.command));
    // A name that is still being resolved is not waited for.
    runtime.shutdown_background();
    code
}

async fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Ping(args) => ping::run(args).await,
        Command::Key(command) => key::run(command),
        Command::Node(args) => node::run(args).await,
        Command::Demo(args) => return demo::run(args).await,
        Command::Conformance(args) => return conformance::run(args).await,
        Command::Bench(args) => return bench::run(args).await,
        Command::Book(command) => book::run(command),
        Command::Config(args) => config::run(args).await,
        Command::Completions(args) => manual::completions(args, Cli::command()),
        Command::Man => manual::man(Cli::command()),
    };
    done.map_or_else(report, |()| Exit::Done.into())
}

fn report(failure: Failure) -> ExitCode {
    output::note(format_args!("error: {failure}"));
    failure.exit().into()
}
