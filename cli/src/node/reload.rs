//! A configuration that is read again while its node runs.

use capmux::{ByteRates, Enode, Server};

use super::Args;
use crate::config::{self, Change, Config, Plan};
use crate::exit::Failure;

/// What a reload puts into force.
#[derive(Debug, Default)]
pub(super) struct Reloaded {
    /// What to tell the user, line by line.
    pub(super) notes: Vec<String>,
    /// The byte rates of each peer, if they have changed.
    pub(super) peer_rates: Option<ByteRates>,
    /// The nodes that are new in the list of those to dial.
    pub(super) dial: Vec<Enode>,
}

/// Reads the file again and applies what can be. `current` becomes what it says, or stays as it is when something is wrong
/// with it: then nothing changes.
pub(super) async fn reload(args: &Args, current: &mut Config, server: &Server) -> Reloaded {
    let Some(file) = &args.config else { return Reloaded::default() };
    let name = file.display();
    match read(args).await {
        Err(failure) => {
            let notes = vec![format!("error: {failure}"), format!("{name} is not applied: nothing has changed")];
            Reloaded { notes, ..Reloaded::default() }
        }
        Ok((new, plan)) => {
            let changes = current.changes(&new);
            let reloaded = apply(&changes, current, &plan, server);
            let mut notes = vec![format!("{name} is read again: {} settings have changed", changes.len())];
            notes.extend(changes.iter().map(|(key, value, change)| line(args, key, value, *change)));
            *current = new;
            Reloaded { notes, ..reloaded }
        }
    }
}

async fn read(args: &Args) -> Result<(Config, Plan), Failure> {
    let config = args.read_config()?;
    let plan = args.plan(&config);
    config::check(&config, &plan, |key| args.overrides(key)).await?;
    Ok((config, plan))
}

fn apply(changes: &[(String, String, Change)], current: &Config, plan: &Plan, server: &Server) -> Reloaded {
    let mut reloaded = Reloaded::default();
    let has = |wanted| changes.iter().any(|(_, _, change)| *change == wanted);
    if has(Change::Rates) {
        server.set_byte_rates(plan.rates);
        server.peers().iter().for_each(|peer| peer.set_byte_rates(plan.peer_rates));
        reloaded.peer_rates = Some(plan.peer_rates);
    }
    if has(Change::Dial) {
        let known = current.plan().dial;
        reloaded.dial = plan.dial.iter().filter(|enode| !known.contains(enode)).cloned().collect();
    }
    reloaded
}

fn line(args: &Args, key: &str, value: &str, change: Change) -> String {
    let when = match change {
        _ if args.overrides(key) => "the command line decides",
        Change::Restart => "takes effect with the next start",
        Change::Rates | Change::Dial => "applied",
    };
    format!("  {key}: {value}: {when}")
}
