//! A node bans one of its peers, which is disconnected and then refused, while its other peers do not notice.

use std::time::Duration;

use capmux::{DisconnectReason, Event, EventFilter, EventKind, NodeKey, Party, PeerError, Server};
use tokio::time::{Instant, timeout};

use super::others::Others;
use super::{Cue, Line, Outcome, PATIENCE, connect, node};

/// How many other peers the node has.
pub(in crate::demo) const OTHERS: usize = 2;

/// Listeners, and both ends of connections.
pub(super) const FILES: usize = 2 + OTHERS + 2 * (OTHERS + 1);

/// How long the ban is: longer than the scene.
const BAN: Duration = Duration::from_secs(3600);

/// How often the banned node dials again, and the pause between two dials.
const REDIALS: usize = 3;
const PAUSE: Duration = Duration::from_millis(50);

/// How the ban went.
#[derive(Debug)]
pub(in crate::demo) struct Ban {
    /// What the peer was told at its end, and who ended it, as the node sees it.
    pub(in crate::demo) reason: DisconnectReason,
    pub(in crate::demo) by: Party,
    /// How long it took from the ban until the peer knew.
    pub(in crate::demo) took: Duration,
    /// What it was told when it dialled again, and how often.
    pub(in crate::demo) refusal: DisconnectReason,
    pub(in crate::demo) refused: usize,
    /// How many requests of the others the node has answered since the ban.
    pub(in crate::demo) others_answered: u64,
}

pub(super) async fn play(mut cue: Cue, line: Line) -> Outcome<Ban> {
    let target = node("banning", [capmux_echo::protocol()]).await?;
    let banned = Server::builder(NodeKey::random()).protocol(capmux_echo::protocol()).client_id("banned");
    let banned = banned.start().await.map_err(|error| format!("cannot start the node banned: {error}"))?;
    let mut others = Others::start(OTHERS, &target, &cue).await?;
    line.write("not yet".to_owned());
    let mut done = None;
    if cue.wait_until(cue.quarter(3)).await {
        let before = others.answered();
        let ban = timeout(PATIENCE, ban_and_redial(&target, &banned)).await;
        let ban = ban.map_err(|_| format!("the banned peer was not got rid of within {PATIENCE:?}"))??;
        line.write(ban.line());
        done = Some((before, ban));
    }
    cue.wait_until(cue.end).await;
    others.finish().await?;
    tokio::join!(target.shutdown(), banned.shutdown());
    let Some((before, mut ban)) = done else { return Ok(None) };
    ban.others_answered = others.answered_since(&before, &cue)?;
    ban.judge()
}

impl Ban {
    fn line(&self) -> String {
        format!("disconnected: {} ({:#04x}), then refused {} times", self.reason, self.reason.code(), self.refused)
    }

    fn judge(self) -> Outcome<Self> {
        let Self { reason, by, refusal, refused, .. } = self;
        let useless = DisconnectReason::UselessPeer;
        if (reason, by, refusal, refused) == (useless, Party::Local, useless, REDIALS) {
            return Ok(Some(self));
        }
        Err(format!("the banned peer was disconnected by {by}: {reason}, and then refused {refused} times: {refusal}"))
    }
}

async fn ban_and_redial(target: &Server, banned: &Server) -> Result<Ban, String> {
    let peer = connect(banned, target).await?;
    let start = Instant::now();
    let had = target.ban(banned.id(), BAN).ok_or("the peer to be banned was none")?;
    let told = peer.closed().await;
    let (took, ending) = (start.elapsed(), had.closed().await);
    let reason = told.reason().filter(|reason| ending.reason() == Some(*reason));
    let reason = reason.ok_or_else(|| format!("the banned peer was told: {told}; its node says: {ending}"))?;
    let mut ban = Ban { reason, by: ending.by(), took, refusal: reason, refused: 0, others_answered: 0 };
    for _ in 0..REDIALS {
        tokio::time::sleep(PAUSE).await;
        ban.refusal = refusal(target, banned).await?;
        ban.refused += 1;
    }
    Ok(ban)
}

/// Has the banned node dial again, and returns what it is told. It has said Hello by then: for a moment it may take the
/// node for a peer.
async fn refusal(target: &Server, banned: &Server) -> Result<DisconnectReason, String> {
    let mut refused = target.events_with(EventFilter::new().kinds([EventKind::Refused]).peer(banned.id()));
    let enode = target.enode().ok_or("the node does not listen")?;
    let told = match banned.dial(&enode).await {
        Ok(peer) => peer.closed().await,
        Err(ending) => ending,
    };
    match refused.recv().await {
        Some(Event::Refused { ending, .. }) if matches!(ending.error(), PeerError::Banned) => {}
        other => return Err(format!("the node has not refused the banned one: {other:?}")),
    }
    match (told.by(), told.reason()) {
        (Party::Remote, Some(reason)) => Ok(reason),
        _ => Err(format!("the banned peer could not dial again: {told}")),
    }
}
