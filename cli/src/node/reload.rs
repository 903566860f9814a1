//! A configuration that is read again while its node runs.

use capmux::{Address, ByteRates, Enode, InvalidLimits, Peer, Server, StartError};
use capmux_pex::Pex;

use super::{Args, announce};
use crate::config::{self, Change, Config, Limits, Plan, ProtocolName};
use crate::exit::Failure;

/// What a reload puts into force.
#[derive(Debug, Default)]
pub(super) struct Reloaded {
    /// What to tell the user, line by line.
    pub(super) notes: Vec<String>,
    /// The byte rates of each peer, if they have changed.
    pub(super) peer_rates: Option<ByteRates>,
}

/// Reads the file again and applies what can be. `current` becomes what it says, or stays as it is when something is
/// wrong with it: then nothing changes.
pub(super) async fn reload(args: &Args, current: &mut Config, server: &Server, pex: Option<&Pex>) -> Reloaded {
    let Some(file) = &args.config else { return Reloaded::default() };
    let before = args.plan(current);
    let read = match read(args).await {
        Ok((new, plan, limits)) => match listen(&before, &plan, server, pex).await {
            Ok(moved) => Ok((new, plan, limits, moved)),
            Err(error) => Err(format!("error: {error}")),
        },
        Err(failure) => Err(format!("error: {failure}")),
    };
    let (new, plan, limits, moved) = match read {
        Ok(read) => read,
        Err(error) => {
            let notes = vec![error, format!("{} is not applied: nothing has changed", file.display())];
            return Reloaded { notes, ..Reloaded::default() };
        }
    };
    let changes = current.changes(&new);
    let has = |wanted| changes.iter().any(|(_, _, change)| *change == wanted);
    let mut notes = vec![format!("{} is read again; settings changed: {}", file.display(), changes.len())];
    notes.extend(changes.iter().map(|(key, value, change)| {
        let is_live = !args.overrides(key) && is_live(key, *change, &plan, server);
        line(args, key, value, is_live)
    }));
    notes.extend(moved);
    let peer_rates = rates(has, &plan, server);
    let mut dropped = meet(&before, &plan, server, &mut notes);
    match restrict(has, &before, &plan, limits, server) {
        Ok(others) => dropped.extend(others),
        Err(error) => notes.push(format!("error: the limits are not applied: {error}")),
    }
    // Several changes may concern the same peer.
    dropped.sort_unstable_by_key(Peer::id);
    dropped.dedup();
    if !dropped.is_empty() {
        notes.push(format!("  peers disconnected by it: {}", dropped.len()));
    }
    *current = new;
    Reloaded { notes, peer_rates }
}

async fn read(args: &Args) -> Result<(Config, Plan, Limits), Failure> {
    let config = args.read_config()?;
    let plan = args.plan(&config);
    let limits = config::check(&config, &plan, |key| args.overrides(key)).await?;
    Ok((config, plan, limits))
}

/// Listens where the new plan says, if it says something else. Returns what to tell of it.
async fn listen(before: &Plan, plan: &Plan, server: &Server, pex: Option<&Pex>) -> Result<Option<String>, StartError> {
    if plan.listen == before.listen {
        return Ok(None);
    }
    server.set_listen(plan.listen.map(Address::Ip)).await?;
    announce(server, pex);
    Ok(server.enode().map(|enode| format!("  the node is now {enode}")))
}

/// Applies the rates of bytes and messages. Returns the byte rates of each peer, if they have changed.
fn rates(has: impl Fn(Change) -> bool, plan: &Plan, server: &Server) -> Option<ByteRates> {
    if has(Change::MessageRates) {
        for protocol in &plan.protocols {
            // One that does not run waits for the next start.
            let _ = server.set_rate_limit(&protocol.name.to_string(), ProtocolName::VERSION, protocol.rate_limit);
        }
    }
    has(Change::Rates).then(|| {
        server.set_byte_rates(plan.rates);
        server.peers().iter().for_each(|peer| peer.set_byte_rates(plan.peer_rates));
        plan.peer_rates
    })
}

/// Applies which nodes are kept, and which are private. Returns the peers that are disconnected by it.
fn meet(before: &Plan, plan: &Plan, server: &Server, notes: &mut Vec<String>) -> Vec<Peer> {
    let dropped = gone(&before.persistent, &plan.persistent).filter_map(|node| {
        // What is not known any more is as it should be.
        server.remove_peer(&node.node_id()).ok().flatten()
    });
    let dropped = dropped.collect();
    for node in plan.persistent.iter().filter(|node| !before.persistent.contains(node)) {
        if let Err(error) = server.add_peer(node) {
            notes.push(format!("error: {node} is not kept: {error}"));
        }
    }
    let public = gone(&before.private, &plan.private).map(|node| (node, false));
    let private = plan.private.iter().filter(|node| !before.private.contains(node)).map(|node| (node, true));
    for (node, is_private) in public.chain(private) {
        if let Err(refusal) = server.set_private(node, is_private) {
            notes.push(format!("error: {node} cannot be kept private: {refusal}"));
        }
    }
    dropped
}

/// The nodes of one list that are not in another, at whatever address.
fn gone<'a>(before: &'a [Enode], now: &'a [Enode]) -> impl Iterator<Item = &'a Enode> {
    before.iter().filter(|node| now.iter().all(|other| other.public_key != node.public_key))
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

/// Whether a change of the setting is in force now.
fn is_live(key: &str, change: Change, plan: &Plan, server: &Server) -> bool {
    match change {
        Change::Restart => false,
        // The protocol has to run, and to be wanted still.
        Change::MessageRates => plan.protocols.iter().map(|protocol| protocol.name.to_string()).any(|name| {
            let is_of_it = key.strip_prefix("protocol.").and_then(|key| key.strip_prefix(&name));
            is_of_it.is_some_and(|key| key.starts_with('.')) && server.protocol(&name, ProtocolName::VERSION).is_some()
        }),
        _ => true,
    }
}

fn line(args: &Args, key: &str, value: &str, is_live: bool) -> String {
    let when = match is_live {
        _ if args.overrides(key) => "the command line decides",
        true => "applied",
        false => "takes effect with the next start",
    };
    format!("  {key}: {value}: {when}")
}
