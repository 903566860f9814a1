//! A configuration that is read again while its node runs.

use capmux::{ByteRates, Enode, InvalidLimits, Peer, Server};

use super::Args;
use crate::config::{self, Change, Config, Limits, Plan};
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
        Ok((new, plan, limits)) => {
            let changes = current.changes(&new);
            let has = |wanted| changes.iter().any(|(_, _, change)| *change == wanted);
            let before = args.plan(current);
            let reloaded = apply(has, &before, &plan, server);
            let mut notes = vec![format!("{name} is read again: {} settings have changed", changes.len())];
            notes.extend(changes.iter().map(|(key, value, change)| line(args, key, value, *change)));
            match restrict(has, &before, &plan, limits, server) {
                Ok(dropped) if dropped.is_empty() => {}
                Ok(dropped) => notes.push(format!("  {} peers are disconnected by it", dropped.len())),
                Err(error) => notes.push(format!("error: the limits are not applied: {error}")),
            }
            *current = new;
            Reloaded { notes, ..reloaded }
        }
    }
}

async fn read(args: &Args) -> Result<(Config, Plan, Limits), Failure> {
    let config = args.read_config()?;
    let plan = args.plan(&config);
    let limits = config::check(&config, &plan, |key| args.overrides(key)).await?;
    Ok((config, plan, limits))
}

fn apply(has: impl Fn(Change) -> bool, before: &Plan, plan: &Plan, server: &Server) -> Reloaded {
    let mut reloaded = Reloaded::default();
    if has(Change::Rates) {
        server.set_byte_rates(plan.rates);
        server.peers().iter().for_each(|peer| peer.set_byte_rates(plan.peer_rates));
        reloaded.peer_rates = Some(plan.peer_rates);
    }
    if has(Change::Dial) {
        reloaded.dial = plan.dial.iter().filter(|enode| !before.dial.contains(enode)).cloned().collect();
    }
    reloaded
}

/// Applies who may be a peer and how many, and returns the peers that are disconnected by it.
fn restrict(
    has: impl Fn(Change) -> bool,
    before: &Plan,
    plan: &Plan,
    limits: Limits,
    server: &Server,
) -> Result<Vec<Peer>, InvalidLimits> {
    let mut dropped = Vec::new();
    if has(Change::Access) {
        for gone in before.trusted.iter().filter(|enode| !plan.trusted.contains(enode)) {
            server.remove_trusted(&gone.node_id());
        }
        // One that was removed at another address is put back; for all others nothing changes.
        plan.trusted.iter().for_each(|enode| server.add_trusted(enode));
        dropped.extend(server.set_trust(plan.trust()));
    }
    if has(Change::Limits) {
        server.set_accept_limits(limits.accept)?;
        dropped.extend(server.set_limits(limits.peers)?);
    }
    Ok(dropped)
}

fn line(args: &Args, key: &str, value: &str, change: Change) -> String {
    let when = match change {
        _ if args.overrides(key) => "the command line decides",
        Change::Restart => "takes effect with the next start",
        Change::Rates | Change::Dial | Change::Limits | Change::Access => "applied",
    };
    format!("  {key}: {value}: {when}")
}
