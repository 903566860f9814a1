//! What the command says of itself: completions for shells, and manual pages.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::exit::{Exit, Failure};
use crate::output;

/// Writes a completion script to stdout
///
/// For bash, `source <(capmux completions bash)` puts it to use.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to write it for
    shell: Shell,
}

pub(crate) fn completions(args: CompletionsArgs, mut command: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "capmux", &mut script);
    output::print(&script).map(drop)
}

pub(crate) fn man(command: Command) -> Result<(), Failure> {
    let mut command = without_help(command);
    command.build();
    let mut pages = Vec::new();
    render(&command, &mut pages)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot render the manual: {error}")))?;
    output::print(&pages).map(drop)
}

/// The commands without the `help` that each has to offer: a page is help.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// The page of a command, then those of the commands below it.
fn render(command: &Command, pages: &mut Vec<u8>) -> std::io::Result<()> {
    Man::new(command.clone()).render(pages)?;
    command.get_subcommands().try_for_each(|below| render(below, pages))
}
