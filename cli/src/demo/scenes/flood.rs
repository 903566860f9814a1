//! A peer that floods its node with Pings is disconnected, and the node's other peers do not notice.

use std::time::Duration;

use capmux::{DisconnectReason, Ending, Event, EventStream, NodeId, NodeKey, Party, Server};
use tokio::time::timeout;

use super::others::Others;
use super::{Cue, Line, Outcome, PATIENCE, node};
use crate::flooder::{self, Flooded};

/// How many other peers the node has.
pub(in crate::demo) const OTHERS: usize = 2;

/// How the flooder ended.
#[derive(Debug)]
pub(in crate::demo) struct Flood {
    /// What it was told.
    pub(in crate::demo) reason: DisconnectReason,
    /// Who ended it, as the node sees it.
    pub(in crate::demo) by: Party,
    /// How many Pings it got rid of, and in what time, until it was told.
    pub(in crate::demo) pings: u64,
    pub(in crate::demo) took: Duration,
    /// How many requests of the others the node has answered since the flood began.
    pub(in crate::demo) others_answered: u64,
}

pub(super) async fn play(mut cue: Cue, line: Line) -> Outcome<Flood> {
    let target = node("target", [capmux_echo::protocol()]).await?;
    let mut others = Others::start(OTHERS, &target, &cue).await?;
    line.write("not yet".to_owned());
    let mut flooded = None;
    if cue.wait_until(cue.middle()).await {
        let before = others.answered();
        let flood = timeout(PATIENCE, flood_and_watch(&target)).await;
        let flood = flood.map_err(|_| format!("the flooder was not disconnected within {PATIENCE:?}"))??;
        line.write(flood.line());
        flooded = Some((before, flood));
    }
    cue.wait_until(cue.end).await;
    others.finish().await?;
    target.shutdown().await;
    let Some((before, mut flood)) = flooded else { return Ok(None) };
    flood.others_answered = others.answered_since(&before, &cue)?;
    if (flood.reason, flood.by) != (DisconnectReason::ProtocolError, Party::Local) {
        return Err(format!("the flooder was disconnected by {}: {}", flood.by, flood.reason));
    }
    Ok(Some(flood))
}

impl Flood {
    fn line(&self) -> String {
        format!("disconnected after {} Pings: {} ({:#04x})", self.pings, self.reason, self.reason.code())
    }
}

/// Floods the node until it disconnects the flooder, which must then know why.
async fn flood_and_watch(target: &Server) -> Result<Flood, String> {
    let events = target.events();
    let key = NodeKey::random();
    let enode = target.enode().ok_or("the node does not listen")?;
    let Flooded { told, pings, took } = flooder::flood(&key, &enode).await?;
    let ending = dropped(events, key.public_key().node_id()).await?;
    let reason = told.filter(|told| ending.reason() == Some(*told));
    let reason = reason.ok_or_else(|| format!("the flooder was told {told:?}, and its node says: {ending}"))?;
    Ok(Flood { reason, by: ending.by(), pings, took, others_answered: 0 })
}

/// How the node says that this peer has ended.
async fn dropped(mut events: EventStream, id: NodeId) -> Result<Ending, String> {
    while let Some(event) = events.recv().await {
        match event {
            Event::Dropped { peer, ending, .. } if peer.id() == id => return Ok(ending),
            _ => {}
        }
    }
    Err("the node is gone".to_owned())
}
