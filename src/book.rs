//! The address book: the nodes that are known, and how it went with them.
//!
//! It asks neither clock nor operating system: the time is an argument, and so is chance. Times are those of the wall
//! clock, since bans and experience outlive a restart; a clock that jumps makes waits and bans end early or late, but
//! neither is then longer than it was to be when it began.
//!
//! Who fills the book with addresses of its own gets little for it: what one source tells goes to few of the buckets
//! that the book is divided into, at most two nodes of a bucket and ten of the book are of one network (/24, or /64 of
//! IPv6), and what has worked or is persistent does not make way for what was merely told. All operations but
//! [`AddressBook::pick`], [`AddressBook::share`] and those on all entries take time that does not depend on the number
//! of entries, unless the book is full.
//!
//! ```
//! use std::time::SystemTime;
//!
//! use capmux::book::{AddressBook, Source};
//! use capmux::{NodeAddr, NodeKey};
//!
//! let mut book = AddressBook::random()?;
//! let node = NodeAddr::new(NodeKey::random().public_key(), ["8.8.8.8:30303".parse()?]);
//! let now = SystemTime::now();
//! book.offer(&node, &Source::Local, now)?;
//! let picked = book.pick(10, |_| false, now, &mut fastrand::Rng::with_seed(7));
//! assert_eq!(picked, [node]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bans;
mod choice;
mod entry;
#[cfg(feature = "book-file")]
mod file;
#[cfg(feature = "book-file")]
mod json;
#[cfg(feature = "book-file")]
mod lists;
mod outcome;
mod shared;
mod source;
mod table;
mod time;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

pub use self::entry::{Flags, Known, State};
#[cfg(feature = "book-file")]
pub use self::file::{BookProblem, Loaded};
#[cfg(feature = "book-file")]
pub use self::json::{FormatError, Parsed};
#[cfg(feature = "book-file")]
pub use self::lists::{ImportError, Listed, NodeList, NodeTextError};
pub use self::shared::SharedBook;
pub use self::source::{InvalidSource, Refusal, Source};

use self::bans::{Bans, Target};
use self::entry::Entry;
use self::table::{MAX_ADDRESSES, Table};
use self::time::millis;
use crate::node::{Enr, Subnet};
use crate::{Address, NodeAddr, NodeId};

/// How many places an entry has for addresses that others than the user and the node itself have told.
const TOLD_ADDRESSES: usize = 4;

/// The nodes that are known. A clone is a snapshot, which can be written while the book goes on.
#[derive(Debug, Clone)]
pub struct AddressBook {
    capacity: usize,
    own_id: Option<NodeId>,
    own_addresses: Vec<SocketAddr>,
    entries: BTreeMap<NodeId, Entry>,
    table: Table,
    bans: Bans,
    changes: u64,
    /// The latest time that was ever passed, in milliseconds; 0 before the first.
    latest: u64,
}

impl AddressBook {
    /// How many nodes a book has room for, unless told otherwise.
    pub const DEFAULT_CAPACITY: usize = 1_000;

    /// How many nodes a book has room for at most.
    pub const MAX_CAPACITY: usize = 10_000;

    /// An empty book for `capacity` nodes, from 1 to [`MAX_CAPACITY`](Self::MAX_CAPACITY). Who knows the `salt` can
    /// tell which nodes compete for a place: it comes from the operating system's random numbers.
    pub fn new(capacity: usize, salt: [u8; 16]) -> Self {
        let capacity = capacity.clamp(1, Self::MAX_CAPACITY);
        Self {
            capacity,
            own_id: None,
            own_addresses: Vec::new(),
            entries: BTreeMap::new(),
            table: Table::new(salt, capacity),
            bans: Bans::default(),
            changes: 0,
            latest: 0,
        }
    }

    /// An empty book for [`DEFAULT_CAPACITY`](Self::DEFAULT_CAPACITY) nodes, with a salt from the operating system.
    ///
    /// # Errors
    /// When the operating system has no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)?;
        Ok(Self::new(Self::DEFAULT_CAPACITY, salt))
    }

    /// Says who and where this node is, so that it is never in its own book. Replaces what was said before.
    pub fn set_own(&mut self, id: NodeId, addresses: Vec<SocketAddr>) {
        self.remove(&id);
        self.own_id = Some(id);
        self.own_addresses = addresses.into_iter().map(source::canonical).collect();
    }

    /// How many nodes are in the book.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no node is in the book.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many nodes the book has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// A number that grows with every change that is worth saving.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// What is known of a node.
    pub fn find(&self, id: &NodeId, now: SystemTime) -> Option<Known> {
        self.entries.get(id).map(|entry| entry.known(self.is_banned(id, now)))
    }

    /// What is known, in the order of the ids.
    pub fn iter(&self, now: SystemTime) -> impl Iterator<Item = Known> {
        self.entries.iter().map(move |(id, entry)| entry.known(self.is_banned(id, now)))
    }

    /// Takes on a node that `source` tells of, or more addresses of one that is in the book. Addresses that are of no
    /// use are left out; a node with several is refused for the first only when none is left.
    ///
    /// Of a persistent node only the user and the node itself tell addresses.
    ///
    /// # Errors
    /// [`Refusal`], when the node or all of its addresses are of no use, or there is no room for them.
    pub fn offer(&mut self, node: &NodeAddr, source: &Source, now: SystemTime) -> Result<(), Refusal> {
        let now = self.settle(now);
        let id = node.node_id();
        let mut addresses = self.useful_addresses(&id, node, source, now)?;
        let is_trusted = source.is_trusted_about(&id);
        let limit = if is_trusted { MAX_ADDRESSES } else { TOLD_ADDRESSES };
        if let Some(entry) = self.entries.get_mut(&id) {
            if entry.is_persistent && !is_trusted {
                return Ok(());
            }
            self.changes += u64::from(self.table.merge(entry, addresses, is_trusted, limit));
            return Ok(());
        }
        addresses.truncate(limit);
        let node = NodeAddr::new(node.public_key, addresses);
        self.add(id, Entry::new(node, source.clone(), now), now)
    }

    /// Takes on a node that the user wants kept, whatever its addresses are, or sets them and the flags of one that is
    /// in the book. Persistent nodes make way for nobody, private ones for persistent ones alone and after all others;
    /// both count for no limit but the book's capacity.
    ///
    /// # Errors
    /// [`Refusal::OwnId`], [`Refusal::NoAddress`], [`Refusal::TooManyAddresses`], those of a useless address, or
    /// [`Refusal::Full`] when all places are taken by persistent nodes; without flags also those of limits, as for
    /// [`offer`](Self::offer). The book is then as it was. A ban does not matter here.
    pub fn keep(&mut self, node: &NodeAddr, flags: Flags, now: SystemTime) -> Result<(), Refusal> {
        let now = self.settle(now);
        let id = node.node_id();
        let addresses = source::count_checked(node, self.own_id.as_ref())?;
        for address in &addresses {
            source::check_address(address, &Source::Local, &self.own_addresses)?;
        }
        let node = NodeAddr::new(node.public_key, addresses);
        let known = self.detach(&id);
        let mut entry = match known.clone() {
            Some(known) => Entry { node, ..known },
            None => Entry::new(node, Source::Local, now),
        };
        entry.set_flags(flags);
        let added = self.add(id, entry, now);
        if let Some(known) = known.filter(|_| added.is_err()) {
            self.attach(id, known);
        }
        added
    }

    /// Sets the flags of a node in the book, and says whether there is one.
    pub fn set_flags(&mut self, id: &NodeId, flags: Flags, now: SystemTime) -> bool {
        let now = self.settle(now);
        let Some(known) = self.entries.get(id) else { return false };
        if known.flags() == flags {
            return true;
        }
        let Some(mut entry) = self.detach(id) else { return false };
        entry.set_flags(flags);
        // One that is nothing special any longer may find its bucket full, and is then forgotten.
        let _ = self.add(*id, entry, now);
        true
    }

    /// Keeps the signed record of a node that is in the book, to be passed on as it is; an older one does not replace a
    /// newer one. Says whether it was kept.
    pub fn set_record(&mut self, record: Enr) -> bool {
        let Some(entry) = self.entries.get_mut(&record.node_id()) else { return false };
        let is_newer = entry.record.as_ref().is_none_or(|known| known.sequence() < record.sequence());
        if is_newer {
            entry.record = Some(record);
            self.changes += 1;
        }
        is_newer
    }

    /// Forgets a node, and says whether it was in the book. A ban stays.
    pub fn remove(&mut self, id: &NodeId) -> bool {
        self.detach(id).is_some()
    }

    /// Bans a node, in the book or not, until then, at most for ten years.
    ///
    /// There are at most 1,000 bans of nodes and networks; when there are more, the one that would end first does.
    pub fn ban(&mut self, id: NodeId, until: SystemTime, now: SystemTime) {
        self.ban_target(Target::Id(id), until, now);
    }

    /// Bans all nodes at addresses of a network, like [`ban`](Self::ban).
    pub fn ban_subnet(&mut self, subnet: Subnet, until: SystemTime, now: SystemTime) {
        self.ban_target(Target::Subnet(subnet), until, now);
    }

    /// Ends the ban of a node, and says whether there was one.
    pub fn unban(&mut self, id: &NodeId) -> bool {
        self.unban_target(&Target::Id(*id))
    }

    /// Ends the ban of a network, and says whether there was one.
    pub fn unban_subnet(&mut self, subnet: &Subnet) -> bool {
        self.unban_target(&Target::Subnet(*subnet))
    }

    /// Whether the node is banned.
    pub fn is_banned(&self, id: &NodeId, now: SystemTime) -> bool {
        self.bans.has_id(id, millis(now))
    }

    /// Whether the address is of a banned network.
    pub fn is_banned_ip(&self, ip: std::net::IpAddr, now: SystemTime) -> bool {
        self.bans.has_ip(ip, millis(now))
    }

    fn ban_target(&mut self, target: Target, until: SystemTime, now: SystemTime) {
        let now = self.settle(now);
        self.bans.add(target, millis(until), now);
        self.changes += 1;
    }

    fn unban_target(&mut self, target: &Target) -> bool {
        let was_banned = self.bans.remove(target);
        self.changes += u64::from(was_banned);
        was_banned
    }

    /// The addresses that may be dialled, without repetitions.
    fn useful_addresses(
        &self,
        id: &NodeId,
        node: &NodeAddr,
        source: &Source,
        now: u64,
    ) -> Result<Vec<Address>, Refusal> {
        let mut addresses = source::count_checked(node, self.own_id.as_ref())?;
        if self.bans.has_id(id, now) {
            return Err(Refusal::Banned);
        }
        let mut first = None;
        addresses.retain(|address| {
            let is_banned = address.ip().is_some_and(|ip| self.bans.has_ip(ip, now));
            let banned = if is_banned { Err(Refusal::Banned) } else { Ok(()) };
            let checked = source::check_address(address, source, &self.own_addresses).and(banned);
            checked.map_err(|refusal| first.get_or_insert(refusal).clone()).is_ok()
        });
        match first {
            Some(refusal) if addresses.is_empty() => Err(refusal),
            _ => Ok(addresses),
        }
    }

    /// Finds a place for an entry that is not in the book.
    fn add(&mut self, id: NodeId, mut entry: Entry, now: u64) -> Result<(), Refusal> {
        if !entry.is_wanted() {
            let bucket = self.table.admit(&id, &mut entry)?;
            if !self.table.has_room(bucket) {
                let ids = self.table.ids(bucket);
                let victim = table::stalest(ids.iter().filter_map(|id| self.entries.get_key_value(id)), now);
                self.remove(&victim.ok_or(Refusal::BucketFull)?);
            }
            entry.bucket = Some(bucket);
        }
        if self.entries.len() >= self.capacity {
            let victim = table::stalest(self.entries.iter(), now);
            let victim = victim.or_else(|| entry.is_wanted().then(|| table::least(self.entries.iter())).flatten());
            self.remove(&victim.ok_or(Refusal::Full)?);
        }
        self.attach(id, entry);
        Ok(())
    }

    fn attach(&mut self, id: NodeId, entry: Entry) {
        self.table.insert(id, &entry);
        self.entries.insert(id, entry);
        self.changes += 1;
    }

    fn detach(&mut self, id: &NodeId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.table.remove(id, &entry);
        self.changes += 1;
        Some(entry)
    }

    /// The time in milliseconds. When the clock has gone back, nothing is left that lies in the future.
    fn settle(&mut self, now: SystemTime) -> u64 {
        let now = millis(now);
        if now < self.latest || self.latest == 0 {
            self.entries.values_mut().for_each(|entry| entry.clamp(now));
            self.bans.clamp(now);
        }
        self.changes += u64::from(self.bans.expire(now));
        self.latest = now;
        now
    }
}

#[cfg(test)]
mod tests;
