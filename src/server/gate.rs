//! Which inbound connections are let in, before any cryptography: by how many there are, and by where they come from.
//!
//! It is pure: the time is passed in, and addresses are all it sees. What it remembers is bounded by the connections
//! that it has let in, and by [`REMEMBERED`].

mod history;
mod prefix;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use history::{History, Tally};
use prefix::{Prefix, is_local};

/// The same public address is let in once in so long.
pub(crate) const THROTTLE: Duration = Duration::from_secs(30);

/// Of so many addresses at the most it is known when they came; more make it forget the oldest.
pub(crate) const REMEMBERED: usize = 4096;

/// How often refusals are told of, at the most.
const TELL: Duration = Duration::from_secs(1);

/// Why an inbound connection was closed before a byte of it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// As many connections as may be are being set up ([`max_pending`](crate::ServerBuilder::max_pending)).
    Pending,
    /// The address, or its /64 for IPv6, came less than 30 s ago.
    TooSoon,
    /// The address has as many connections as it may ([`max_per_address`](crate::ServerBuilder::max_per_address)).
    Address,
    /// The /24 or /64 has as many connections as it may ([`max_per_subnet`](crate::ServerBuilder::max_per_subnet)), or
    /// half of the places for those that are being set up.
    Subnet,
    /// The address is banned.
    Banned,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "too many connections are being set up",
            Self::TooSoon => "the address came less than 30 s ago",
            Self::Address => "too many connections from the address",
            Self::Subnet => "too many connections from the subnet of the address",
            Self::Banned => "the address is banned",
        })
    }
}

/// How many inbound connections are let in, for [`Server::set_accept_limits`](crate::Server::set_accept_limits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptLimits {
    /// That are not peers yet, in all; see [`ServerBuilder::max_pending`](crate::ServerBuilder::max_pending).
    pub max_pending: usize,
    /// From one address; see [`ServerBuilder::max_per_address`](crate::ServerBuilder::max_per_address).
    pub max_per_address: usize,
    /// From one /24 or /64; see [`ServerBuilder::max_per_subnet`](crate::ServerBuilder::max_per_subnet).
    pub max_per_subnet: usize,
    /// Whether addresses that are not public are limited, too; see
    /// [`ServerBuilder::limit_local_addresses`](crate::ServerBuilder::limit_local_addresses).
    pub limit_local_addresses: bool,
}

impl AcceptLimits {
    /// The name of a setting that will not do.
    pub(crate) fn out_of_range(&self) -> Option<&'static str> {
        let counts = [
            ("max_pending", self.max_pending),
            ("max_per_address", self.max_per_address),
            ("max_per_subnet", self.max_per_subnet),
        ];
        counts.into_iter().find(|(_, count)| *count == 0).map(|(setting, _)| setting)
    }
}

/// Lets connections in, and knows how many there are.
#[derive(Debug)]
pub(crate) struct Gate(Mutex<State>);

#[derive(Debug)]
struct State {
    limits: AcceptLimits,
    pending: usize,
    /// By address and by subnet, while there are any.
    counts: BTreeMap<Prefix, Count>,
    history: History,
    /// The addresses of nodes that are trusted.
    exempt: BTreeSet<IpAddr>,
    tally: Tally,
}

/// How many connections share an address or a subnet.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    pending: usize,
    peers: usize,
}

impl Gate {
    pub(crate) fn new(limits: AcceptLimits) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            limits,
            pending: 0,
            counts: BTreeMap::new(),
            history: History::default(),
            exempt: BTreeSet::new(),
            tally: Tally::default(),
        })))
    }

    /// Lets a connection in, or tells why not. `ip` is `None` where the transport has none: then only the limit of all
    /// pending ones is asked.
    pub(crate) fn admit(self: &Arc<Self>, ip: Option<IpAddr>, now: Instant) -> Result<Ticket, Refusal> {
        let mut state = self.lock();
        if state.pending >= state.limits.max_pending {
            return Err(Refusal::Pending);
        }
        let ip = ip.map(|ip| ip.to_canonical()).filter(|ip| state.limits(ip));
        if let Some(ip) = ip {
            state.check(ip, now)?;
            state.history.note(Prefix::throttled(ip), now);
            for prefix in Prefix::counted(ip) {
                state.counts.entry(prefix).or_default().pending += 1;
            }
        }
        state.pending += 1;
        Ok(Ticket { gate: self.clone(), ip, is_peer: false })
    }

    /// Notes that a connection was closed unread. The result is how many were since this last returned a number, which
    /// it does once a second at the most.
    pub(crate) fn tell(&self, now: Instant) -> Option<u64> {
        self.lock().tally.count(now)
    }

    /// How many connections are being set up.
    pub(crate) fn pending(&self) -> usize {
        self.lock().pending
    }

    /// From now on these limits hold. What has been let in stays.
    pub(crate) fn set_limits(&self, limits: AcceptLimits) {
        self.lock().limits = limits;
    }

    pub(crate) fn limits(&self) -> AcceptLimits {
        self.lock().limits
    }

    /// From now on these addresses have no limits of their own. Those before them have.
    pub(crate) fn set_exempt(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.lock().exempt = addresses.into_iter().map(|ip| ip.to_canonical()).collect();
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether this address has limits of its own.
    fn limits(&self, ip: &IpAddr) -> bool {
        !self.exempt.contains(ip) && (self.limits.limit_local_addresses || !is_local(ip))
    }

    fn check(&mut self, ip: IpAddr, now: Instant) -> Result<(), Refusal> {
        if self.history.contains(Prefix::throttled(ip), now) {
            return Err(Refusal::TooSoon);
        }
        let [address, subnet] = Prefix::counted(ip).map(|prefix| self.counts.get(&prefix).copied().unwrap_or_default());
        // One subnet leaves places to the others.
        let half = self.limits.max_pending.div_ceil(2);
        if address.pending + address.peers >= self.limits.max_per_address {
            return Err(Refusal::Address);
        }
        if subnet.pending + subnet.peers >= self.limits.max_per_subnet || subnet.pending >= half {
            return Err(Refusal::Subnet);
        }
        Ok(())
    }
}

/// A place for one connection, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    /// Where it is limited.
    ip: Option<IpAddr>,
    is_peer: bool,
}

impl Ticket {
    /// The connection is set up: it is no longer pending, and still counts for its address.
    pub(crate) fn settle(&mut self) {
        if !std::mem::replace(&mut self.is_peer, true) {
            let mut state = self.gate.lock();
            state.pending -= 1;
            for prefix in self.ip.into_iter().flat_map(Prefix::counted) {
                if let Some(count) = state.counts.get_mut(&prefix) {
                    count.pending -= 1;
                    count.peers += 1;
                }
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        if !self.is_peer {
            state.pending -= 1;
        }
        for prefix in self.ip.into_iter().flat_map(Prefix::counted) {
            let Some(count) = state.counts.get_mut(&prefix) else { continue };
            if self.is_peer {
                count.peers -= 1
            } else {
                count.pending -= 1
            }
            if count.pending + count.peers == 0 {
                state.counts.remove(&prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests;
