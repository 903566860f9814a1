//! Which nodes to dial next, and which to tell others of.

use std::collections::BTreeSet;
use std::time::SystemTime;

use fastrand::Rng;

use super::entry::Entry;
use super::outcome::due;
use super::source::Source;
use super::table::subnet;
use super::{AddressBook, millis};
use crate::node::{Reach, Subnet};
use crate::{Address, NodeAddr, NodeId};

/// By how much chance lets a worse score come before a better one.
const SPREAD: i32 = 20;

/// Of so many picked nodes one is, on average, one that has never worked.
const NEWCOMERS: u32 = 3;

/// For how many milliseconds one that has worked is told of before others.
const LATELY: u64 = 24 * 3600 * 1000;

impl AddressBook {
    /// Up to `count` nodes to dial, the best first: persistent ones and those that were connected when the last run
    /// ended and have worked, then those that have worked, by score, mixed with those that were never dialled. Chance
    /// has a say in all of it.
    ///
    /// Not among them are nodes that are connected or banned, those that failed a short time ago (a minute the first
    /// time, then four times as long each time, up to twelve hours), and those that `exclude` says are not wanted.
    /// Nodes of networks that are there already (/24, /64) come only when there are no others.
    pub fn pick(
        &mut self,
        count: usize,
        exclude: impl Fn(&NodeId) -> bool,
        now: SystemTime,
        rng: &mut Rng,
    ) -> Vec<NodeAddr> {
        let now = self.settle(now);
        let is_candidate = |id: &NodeId, entry: &Entry| {
            !entry.is_connected && due(entry) <= now && !self.bans.has_id(id, now) && !exclude(id)
        };
        let mut last_run = Vec::new();
        let mut worked = Vec::new();
        let mut newcomers = Vec::new();
        for (_, entry) in self.entries.iter().filter(|(id, entry)| is_candidate(id, entry)) {
            let Some(node) = self.dialable(entry, now) else { continue };
            match entry {
                _ if entry.is_persistent || entry.was_connected && entry.has_worked() => last_run.push((0, node)),
                _ if entry.has_worked() => worked.push((entry.score + rng.i32(0..=SPREAD), node)),
                _ => newcomers.push((entry.score, node)),
            }
        }
        rng.shuffle(&mut last_run);
        rng.shuffle(&mut newcomers);
        // Stable, so that chance decides among equals.
        worked.sort_by_key(|(score, _)| -score);
        newcomers.sort_by_key(|(score, _)| -score);
        let mut order: Vec<NodeAddr> = last_run.into_iter().map(|(_, node)| node).collect();
        order.extend(mix(worked, newcomers, rng));
        diverse(order, count)
    }

    /// Up to `count` nodes to tell `asker` of, those that have worked in the last day first. Private, banned and failed
    /// ones are never among them, nor is the asker itself; addresses are numeric, and of the kinds that it can reach.
    pub fn share(&self, count: usize, asker: &Source, now: SystemTime, rng: &mut Rng) -> Vec<NodeAddr> {
        let now = millis(now);
        let is_asker = |node: &NodeId| matches!(asker, Source::Peer { id, .. } if id == node);
        let is_known = |(id, entry): &(&NodeId, &Entry)| {
            !entry.is_private && entry.failures == 0 && !self.bans.has_id(id, now) && !is_asker(id)
        };
        let is_told = |address: &Address| {
            let is_routable = |ip| Reach::of(ip) != Reach::Nowhere && asker.sees(Reach::of(ip));
            address.ip().is_some_and(is_routable)
        };
        let mut order: Vec<(u8, NodeAddr)> = Vec::new();
        for (_, entry) in self.entries.iter().filter(is_known) {
            let addresses = self.dialable(entry, now).map(|node| node.addresses).unwrap_or_default();
            let node = NodeAddr::new(entry.node.public_key, addresses.into_iter().filter(is_told));
            if !node.addresses.is_empty() {
                order.push((rank(entry, now), node));
            }
        }
        rng.shuffle(&mut order);
        order.sort_by_key(|(rank, _)| *rank);
        diverse(order.into_iter().map(|(_, node)| node).collect(), count)
    }

    /// The node without addresses of banned networks, unless none is left.
    fn dialable(&self, entry: &Entry, now: u64) -> Option<NodeAddr> {
        let mut node = entry.node.clone();
        node.addresses.retain(|address| !address.ip().is_some_and(|ip| self.bans.has_ip(ip, now)));
        (!node.addresses.is_empty()).then_some(node)
    }
}

/// Who is told of first.
fn rank(entry: &Entry, now: u64) -> u8 {
    match entry.last_connected {
        _ if entry.is_connected => 0,
        Some(time) if now.saturating_sub(time) < LATELY => 0,
        Some(_) => 1,
        None => 2,
    }
}

/// Takes from the front of both lists, by chance.
fn mix(worked: Vec<(i32, NodeAddr)>, newcomers: Vec<(i32, NodeAddr)>, rng: &mut Rng) -> Vec<NodeAddr> {
    let mut order = Vec::with_capacity(worked.len() + newcomers.len());
    let (mut worked, mut newcomers) = (worked.into_iter().peekable(), newcomers.into_iter().peekable());
    while worked.peek().is_some() || newcomers.peek().is_some() {
        let is_newcomer = worked.peek().is_none() || rng.u32(0..NEWCOMERS) == 0;
        let next = if is_newcomer { newcomers.next().or_else(|| worked.next()) } else { worked.next() };
        order.extend(next.map(|(_, node)| node));
    }
    order
}

/// The first `count` of different networks, and then the first of the others.
fn diverse(nodes: Vec<NodeAddr>, count: usize) -> Vec<NodeAddr> {
    let mut seen: BTreeSet<Subnet> = BTreeSet::new();
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for node in nodes {
        let subnet = node.addresses.first().and_then(subnet);
        let is_new = subnet.is_none_or(|subnet| seen.insert(subnet));
        if is_new { first.push(node) } else { others.push(node) }
    }
    first.append(&mut others);
    first.truncate(count);
    first
}
