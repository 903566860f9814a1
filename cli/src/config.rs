//! `capmux config`, and the configuration of `capmux node`: one table of settings says what there is, what holds where
//! nothing is given, what is allowed and what it does.

mod file;
mod plan;
mod print;
mod problem;
mod protocol_table;
mod setting;
mod table;
mod value;

use std::path::PathBuf;

use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) use file::Config;
pub(crate) use plan::{Limits, Plan, PlanError, ProtocolName};
pub(crate) use problem::explain;
pub(crate) use setting::Change;

/// Prints a configuration for `capmux node --config`, with all settings and their defaults as comments
///
/// With --check it tells instead what is wrong with a file, all of it at once, and exits with code 2 if there is
/// something.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Checks this file, and prints nothing else
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let Some(file) = args.check else { return output::print(print::default_file().as_bytes()).map(drop) };
    let config = Config::read(&file)?;
    check(&config, &config.plan(), |_| false).await?;
    output::note(format_args!("{} is as it should be", file.display()));
    Ok(())
}

/// Checks that the settings of a plan, which was made of this configuration, hold together, and tells to which limits.
/// `overridden` tells of which keys it has something else.
pub(crate) async fn check(config: &Config, plan: &Plan, overridden: impl Fn(&str) -> bool) -> Result<Limits, Failure> {
    plan.check().await.map_err(|error| match explain(config, &error, overridden) {
        Some(problems) => problems.into(),
        None => Failure::new(Exit::Usage, format!("the settings do not hold together: {error}")),
    })
}

/// What is written in a file, for a line on a terminal: at most so many characters, those that are not shown as
/// escapes.
fn cut(text: &str, most: usize) -> String {
    let plain = |letter: &char| matches!(letter, '"' | '\'' | '\\');
    let escape = |letter: char| if plain(&letter) { letter.to_string() } else { letter.escape_debug().to_string() };
    let shown: String = text.chars().take(most).map(escape).collect();
    if text.chars().nth(most).is_some() { shown + "…" } else { shown }
}
