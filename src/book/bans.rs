//! Who is banned, and until when.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::NodeId;
use crate::node::Subnet;

/// How many bans there are at most.
pub(super) const MAX_BANS: usize = 1_000;

/// The longest ban: ten years, in milliseconds.
const MAX_LENGTH: u64 = 10 * 365 * 24 * 3600 * 1000;

/// Whom a ban is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Id(NodeId),
    Subnet(Subnet),
}

/// A ban, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ban {
    pub(super) until: u64,
    /// How long it was to last when it began, which it never exceeds, wherever the clock jumps to.
    pub(super) length: u64,
}

/// The bans of a book.
#[derive(Debug, Clone, Default)]
pub(super) struct Bans {
    bans: BTreeMap<Target, Ban>,
    /// When the first of them ends, or earlier.
    first_end: u64,
}

impl Bans {
    pub(super) fn add(&mut self, target: Target, until: u64, now: u64) {
        let length = until.saturating_sub(now).min(MAX_LENGTH);
        self.restore(target, Ban { until: now + length, length });
    }

    /// Adds a ban that was read from a file.
    pub(super) fn restore(&mut self, target: Target, ban: Ban) {
        let length = ban.length.min(MAX_LENGTH);
        self.bans.insert(target, Ban { until: ban.until, length });
        if self.bans.len() > MAX_BANS {
            let first = self.bans.iter().min_by_key(|(_, ban)| ban.until).map(|(target, _)| *target);
            first.map(|target| self.bans.remove(&target));
        }
        self.first_end = self.first_end.min(ban.until);
    }

    pub(super) fn remove(&mut self, target: &Target) -> bool {
        self.bans.remove(target).is_some()
    }

    pub(super) fn has_id(&self, id: &NodeId, now: u64) -> bool {
        self.bans.get(&Target::Id(*id)).is_some_and(|ban| ban.until > now)
    }

    pub(super) fn has_ip(&self, ip: IpAddr, now: u64) -> bool {
        // Networks come after ids.
        let from = Target::Subnet(Subnet::new(IpAddr::from([0; 4]), 0));
        let mut networks = self.bans.range(from..);
        networks.any(|(target, ban)| matches!(target, Target::Subnet(net) if net.contains(ip)) && ban.until > now)
    }

    pub(super) fn clamp(&mut self, now: u64) {
        for ban in self.bans.values_mut() {
            ban.until = ban.until.min(now.saturating_add(ban.length));
        }
        self.first_end = 0;
    }

    /// Forgets what is over, and says whether there was anything.
    pub(super) fn expire(&mut self, now: u64) -> bool {
        if self.first_end > now {
            return false;
        }
        let before = self.bans.len();
        self.bans.retain(|_, ban| ban.until > now);
        self.first_end = self.bans.values().map(|ban| ban.until).min().unwrap_or(u64::MAX);
        self.bans.len() < before
    }

    #[cfg(feature = "book-file")]
    pub(super) fn len(&self) -> usize {
        self.bans.len()
    }

    #[cfg(feature = "book-file")]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Target, &Ban)> {
        self.bans.iter()
    }
}
