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
    pub fn pick(&self, pick: Pick, mut filter: impl FnMut(&Peer) -> bool) -> Option<Peer> {
        let members = self.registry.members();
        let fit = members.iter().map(|member| &member.peer).filter(|peer| filter(peer));
        match pick {
            Pick::Fastest => fit.min_by_key(|peer| pace(peer)).cloned(),
            Pick::Random => {
                let fit: Vec<_> = fit.collect();
                let place = (!fit.is_empty()).then(|| self.registry.lock().random.usize(..fit.len()))?;
                Some(fit[place].clone())
            }
        }
    }
}

fn pace(peer: &Peer) -> Duration {
    peer.round_trip().map_or(Duration::MAX, |times| times.smoothed)
}
