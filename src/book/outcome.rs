//! What the book learns from how it goes with nodes. Of nodes that are not in the book it learns nothing.

use std::time::SystemTime;

use super::AddressBook;
use super::entry::Entry;
use crate::{Address, NodeId};

/// How often in a row one that has never worked is dialled before it is forgotten.
const NEVER_WORKED: u32 = 6;

/// The same of one that has worked, but not for thirty days.
const LOST: u32 = 12;
const LOST_AFTER: u64 = 30 * 24 * 3600 * 1000;

/// The longest wait after a dial that failed, and the shortest, in milliseconds.
const MAX_WAIT: u64 = 12 * 3600 * 1000;
const MIN_WAIT: u64 = 60 * 1000;

impl AddressBook {
    /// The node is being dialled.
    pub fn tried(&mut self, id: &NodeId, now: SystemTime) {
        self.learn(id, now, |entry, now| {
            entry.last_tried = Some(now);
            entry.attempts = entry.attempts.saturating_add(1);
        });
    }

    /// The node is connected, at `address` if it was dialled, which is then the first to be dialled again. Who has
    /// dialled this node may be anywhere: that shows nothing of the addresses that are known of it, and counts for no
    /// score.
    pub fn connected(&mut self, id: &NodeId, address: Option<&Address>, now: SystemTime) {
        self.learn(id, now, |entry, now| {
            entry.last_connected = Some(now);
            entry.is_connected = true;
            if let Some(address) = address {
                entry.connections = entry.connections.saturating_add(1);
                entry.failures = 0;
                entry.rate(1);
                entry.prefer(address);
            }
        });
        if let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.has_worked()) {
            self.table.promote(id, entry);
        }
    }

    /// The node is connected no longer.
    pub fn disconnected(&mut self, id: &NodeId, now: SystemTime) {
        self.learn(id, now, |entry, now| {
            if entry.is_connected {
                entry.last_connected = Some(now);
            }
            entry.is_connected = false;
            entry.was_connected = false;
        });
    }

    /// A dial failed at all addresses of the node. One that has never worked is forgotten after six failures, one that
    /// has worked after twelve in a row and thirty days; a persistent or private one is not.
    pub fn failed(&mut self, id: &NodeId, now: SystemTime) {
        let mut is_hopeless = false;
        self.learn(id, now, |entry, now| {
            entry.last_failed = Some(now);
            entry.failures = entry.failures.saturating_add(1);
            entry.was_connected = false;
            entry.rate(-1);
            let is_long_ago = entry.last_connected.is_none_or(|time| now.saturating_sub(time) > LOST_AFTER);
            let is_lost = match entry.has_worked() {
                true => entry.failures >= LOST && is_long_ago,
                false => entry.failures >= NEVER_WORKED,
            };
            is_hopeless = is_lost && !entry.is_wanted() && !entry.is_connected;
        });
        if is_hopeless {
            self.remove(id);
        }
    }

    /// The application finds the node better, or worse, by as much; scores go from -100 to 100. A dial that leads
    /// to a connection counts 1, one that fails -1.
    pub fn rate(&mut self, id: &NodeId, change: i32, now: SystemTime) {
        self.learn(id, now, |entry, _| entry.rate(change));
    }

    fn learn(&mut self, id: &NodeId, now: SystemTime, lesson: impl FnOnce(&mut Entry, u64)) {
        let now = self.settle(now);
        if let Some(entry) = self.entries.get_mut(id) {
            lesson(entry, now);
            self.changes += 1;
        }
    }
}

/// When an entry may be dialled again: at once, or after a minute, four, sixteen and so on up to twelve hours.
pub(super) fn due(entry: &Entry) -> u64 {
    match (entry.last_failed, entry.failures) {
        (Some(failed), 1..) => {
            let factor = 4u64.saturating_pow(entry.failures - 1);
            failed.saturating_add(MIN_WAIT.saturating_mul(factor).min(MAX_WAIT))
        }
        _ => 0,
    }
}
