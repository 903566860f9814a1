//! Where in the book a node has its place, and who makes way for whom.
//!
//! There are 64 buckets for nodes that somebody told of, and 64 for those that have worked. What one source group tells
//! goes to four of the first, what is of one address group to four of the second. Which ones, nobody can tell without
//! the salt.

use std::collections::{BTreeMap, BTreeSet};

use sha3::{Digest, Keccak256};

use super::entry::Entry;
use super::source::{Refusal, Source};
use crate::node::{Reach, Subnet};
use crate::{Address, NodeId};

/// How many addresses a node has at most.
pub(super) const MAX_ADDRESSES: usize = 8;

/// How many nodes of one network (/24, /64) are in the book, and in a bucket, at most.
const MAX_OF_SUBNET: usize = 10;
const MAX_OF_SUBNET_IN_BUCKET: usize = 2;

/// How many buckets there are of each of the two kinds.
const BUCKETS: u8 = 64;

/// To how many of them one group's nodes go.
const BUCKETS_OF_GROUP: u8 = 4;

/// After how many milliseconds one that was never dialled makes way for others, and one that has worked but does so no
/// longer.
const STALE_AFTER: u64 = 7 * 24 * 3600 * 1000;
const LOST_AFTER: u64 = 30 * 24 * 3600 * 1000;

/// The places in a book.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) salt: [u8; 16],
    bucket_size: usize,
    buckets: Vec<Vec<NodeId>>,
    /// How many nodes there are of a network, in the book and in a bucket.
    subnets: BTreeMap<Subnet, usize>,
    bucket_subnets: BTreeMap<(u8, Subnet), usize>,
}

impl Table {
    pub(super) fn new(salt: [u8; 16], capacity: usize) -> Self {
        Self {
            salt,
            // Twice the average, since chance fills some more than others.
            bucket_size: (2 * capacity).div_ceil(usize::from(BUCKETS)).max(4),
            buckets: vec![Vec::new(); 2 * usize::from(BUCKETS)],
            subnets: BTreeMap::new(),
            bucket_subnets: BTreeMap::new(),
        }
    }

    pub(super) fn ids(&self, bucket: u8) -> &[NodeId] {
        &self.buckets[usize::from(bucket)]
    }

    pub(super) fn has_room(&self, bucket: u8) -> bool {
        self.ids(bucket).len() < self.bucket_size
    }

    /// The bucket for a node that is told of. Addresses of networks that have enough nodes are left out.
    pub(super) fn admit(&self, id: &NodeId, entry: &mut Entry) -> Result<u8, Refusal> {
        self.retain_admitted(entry, |subnet| self.is_admitted(None, subnet))?;
        let bucket = self.new_bucket(id, entry);
        self.retain_admitted(entry, |subnet| self.is_admitted(Some(bucket), subnet))?;
        Ok(bucket)
    }

    fn retain_admitted(&self, entry: &mut Entry, is_admitted: impl Fn(&Subnet) -> bool) -> Result<(), Refusal> {
        let mut refused = None;
        entry.node.addresses.retain(|address| {
            let full = subnet(address).filter(|subnet| !is_admitted(subnet));
            refused = refused.or(full);
            full.is_none()
        });
        match refused {
            Some(subnet) if entry.node.addresses.is_empty() => Err(Refusal::SubnetFull(subnet)),
            _ => Ok(()),
        }
    }

    fn is_admitted(&self, bucket: Option<u8>, subnet: &Subnet) -> bool {
        let count = |count: Option<&usize>| count.copied().unwrap_or(0);
        count(self.subnets.get(subnet)) < MAX_OF_SUBNET
            && bucket.is_none_or(|bucket| count(self.bucket_subnets.get(&(bucket, *subnet))) < MAX_OF_SUBNET_IN_BUCKET)
    }

    /// Adds addresses to an entry of the book, in front or behind, as far as `limit` and the networks allow. Says
    /// whether there were any.
    pub(super) fn merge(&mut self, entry: &mut Entry, addresses: Vec<Address>, in_front: bool, limit: usize) -> bool {
        let own = subnets(entry);
        let is_fresh = |address: &Address| {
            let is_full = |subnet: Subnet| {
                entry.bucket.is_some() && !own.contains(&subnet) && !self.is_admitted(entry.bucket, &subnet)
            };
            !entry.node.addresses.contains(address) && !subnet(address).is_some_and(is_full)
        };
        let mut fresh: Vec<Address> = addresses.into_iter().filter(is_fresh).collect();
        if !in_front {
            fresh.truncate(limit.saturating_sub(entry.node.addresses.len()));
        }
        if fresh.is_empty() {
            return false;
        }
        self.count(entry, false);
        let place = if in_front { 0 } else { entry.node.addresses.len() };
        entry.node.addresses.splice(place..place, fresh);
        entry.node.addresses.truncate(MAX_ADDRESSES);
        self.count(entry, true);
        true
    }

    /// Moves an entry that has worked to the bucket of its address group, if there is room.
    pub(super) fn promote(&mut self, id: &NodeId, entry: &mut Entry) {
        let Some(bucket) = entry.bucket.filter(|bucket| *bucket < BUCKETS) else { return };
        self.remove(id, entry);
        let tried = self.tried_bucket(id, entry);
        let is_admitted = subnets(entry).iter().all(|subnet| self.is_admitted(Some(tried), subnet));
        entry.bucket = Some(if self.has_room(tried) && is_admitted { tried } else { bucket });
        self.insert(*id, entry);
    }

    pub(super) fn insert(&mut self, id: NodeId, entry: &Entry) {
        if let Some(bucket) = entry.bucket {
            self.buckets[usize::from(bucket)].push(id);
            self.count(entry, true);
        }
    }

    pub(super) fn remove(&mut self, id: &NodeId, entry: &Entry) {
        if let Some(bucket) = entry.bucket {
            self.buckets[usize::from(bucket)].retain(|other| other != id);
            self.count(entry, false);
        }
    }

    fn count(&mut self, entry: &Entry, is_more: bool) {
        let Some(bucket) = entry.bucket else { return };
        for subnet in subnets(entry) {
            change(&mut self.subnets, subnet, is_more);
            change(&mut self.bucket_subnets, (bucket, subnet), is_more);
        }
    }

    fn new_bucket(&self, id: &NodeId, entry: &Entry) -> u8 {
        let source = entry.source.group();
        // The user may fill all of them.
        let slot = match entry.source {
            Source::Local => id.to_string(),
            _ => (self.hash(&["slot", &source, &address_group(entry)]) % BUCKETS_OF_GROUP).to_string(),
        };
        self.hash(&["new", &source, &slot]) % BUCKETS
    }

    fn tried_bucket(&self, id: &NodeId, entry: &Entry) -> u8 {
        let slot = self.hash(&["slot", &id.to_string()]) % BUCKETS_OF_GROUP;
        BUCKETS + self.hash(&["tried", &address_group(entry), &slot.to_string()]) % BUCKETS
    }

    fn hash(&self, parts: &[&str]) -> u8 {
        let digest = parts.iter().fold(Keccak256::new_with_prefix(self.salt), |digest, part| {
            // No part can pass for the beginning of the next.
            digest.chain_update((part.len() as u64).to_be_bytes()).chain_update(part)
        });
        digest.finalize()[0]
    }
}

fn change<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, is_more: bool) {
    let count = counts.entry(key);
    if is_more {
        *count.or_insert(0) += 1;
    } else if let std::collections::btree_map::Entry::Occupied(mut count) = count {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// The network that limits count by: in private ones there are none.
pub(super) fn subnet(address: &Address) -> Option<Subnet> {
    address.ip().filter(|ip| Reach::of(*ip) == Reach::Public).map(Subnet::narrow)
}

fn subnets(entry: &Entry) -> BTreeSet<Subnet> {
    entry.node.addresses.iter().filter_map(subnet).collect()
}

/// What one provider has; where that does not count, every address is a group of its own.
fn address_group(entry: &Entry) -> String {
    let address = entry.node.addresses.first();
    match address.and_then(Address::ip) {
        Some(ip) if Reach::of(ip) == Reach::Public => Subnet::wide(ip).to_string(),
        _ => address.map(ToString::to_string).unwrap_or_default(),
    }
}

/// Who of these makes way first for a node that somebody tells of; nobody where all may be good.
pub(super) fn stalest<'a>(entries: impl Iterator<Item = (&'a NodeId, &'a Entry)>, now: u64) -> Option<NodeId> {
    let rank = |entry: &Entry| {
        let known_for = now.saturating_sub(entry.last_connected.unwrap_or(entry.added));
        let is_stale = match (entry.has_worked(), entry.failures) {
            _ if entry.is_wanted() || entry.is_connected => false,
            (true, failures) => failures > 2 && known_for > LOST_AFTER,
            (false, 0) => known_for > STALE_AFTER,
            (false, _) => true,
        };
        is_stale.then_some((!entry.has_worked(), entry.failures, known_for))
    };
    let stale = entries.filter_map(|(id, entry)| Some((rank(entry)?, *id)));
    stale.max().map(|(_, id)| id)
}

/// Who of these makes way first for a node that the user wants.
pub(super) fn least<'a>(entries: impl Iterator<Item = (&'a NodeId, &'a Entry)>) -> Option<NodeId> {
    let rest = entries.filter(|(_, entry)| !entry.is_persistent);
    let rank = |entry: &Entry| (entry.is_private, entry.is_connected, entry.has_worked(), entry.score, entry.added);
    rest.min_by_key(|(id, entry)| (rank(entry), **id)).map(|(id, _)| *id)
}

#[cfg(test)]
impl Table {
    pub(super) fn subnet_counts(&self) -> usize {
        self.subnets.len() + self.bucket_subnets.len()
    }
}
