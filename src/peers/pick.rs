//! One peer of several that would do.

use std::time::Duration;

use super::ProtocolPeers;
use crate::peer::Peer;

/// Which peer to pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Pick {
    /// The one with the shortest smoothed round-trip time; one whose time is not known yet only if there is no other.
    #[default]
    Fastest,
    /// Any, each as likely as the others.
    Random,
}

impl ProtocolPeers {
    /// A peer that `filter` says yes to, such as one with a certain [capability](Peer::capabilities); `None` when there
    /// is none. The filter is called on this task, without a lock.
    pub fn pick(&self, pick: Pick, filter: impl FnMut(&Peer) -> bool) -> Option<Peer> {
        let members = self.registry.members();
        let random = |count| self.registry.lock().random.usize(..count);
        let place = choose(pick, members.iter().map(|member| &member.peer), filter, random)?;
        Some(members[place].peer.clone())
    }
}

/// The place of the peer that is picked. `random` is a number below the one given, which is not 0.
pub(crate) fn choose<'a>(
    pick: Pick,
    peers: impl Iterator<Item = &'a Peer>,
    mut filter: impl FnMut(&Peer) -> bool,
    random: impl FnOnce(usize) -> usize,
) -> Option<usize> {
    let fit = peers.enumerate().filter(|(_, peer)| filter(peer));
    match pick {
        Pick::Fastest => fit.min_by_key(|(_, peer)| pace(peer)).map(|(place, _)| place),
        Pick::Random => {
            let places: Vec<_> = fit.map(|(place, _)| place).collect();
            let chosen = (!places.is_empty()).then(|| random(places.len()))?;
            Some(places[chosen])
        }
    }
}

fn pace(peer: &Peer) -> Duration {
    peer.round_trip().map_or(Duration::MAX, |times| times.smoothed)
}
