//! What is known of a node.

use std::time::SystemTime;

use super::source::Source;
use super::time::system_time;
use crate::node::Enr;
use crate::{Address, NodeAddr};

/// The best and, with the opposite sign, the worst score.
pub(super) const MAX_SCORE: i32 = 100;

/// How it stands with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Somebody has told of it, and it was not dialled yet.
    New,
    /// It has worked, and is not connected now.
    Tried,
    /// It is connected.
    Connected,
    /// The last dial failed.
    Failed,
    /// It is banned.
    Banned,
}

/// What the user wants of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Flags {
    /// It stays in the book whatever happens.
    pub is_persistent: bool,
    /// Nobody else is told of it.
    pub is_private: bool,
}

impl Flags {
    /// It stays in the book whatever happens.
    pub const PERSISTENT: Self = Self { is_persistent: true, is_private: false };
    /// Nobody else is told of it.
    pub const PRIVATE: Self = Self { is_persistent: false, is_private: true };

    /// These flags but for the others.
    pub fn without(self, other: Self) -> Self {
        Self {
            is_persistent: self.is_persistent && !other.is_persistent,
            is_private: self.is_private && !other.is_private,
        }
    }

    /// These flags and the others.
    pub fn and(self, other: Self) -> Self {
        Self {
            is_persistent: self.is_persistent || other.is_persistent,
            is_private: self.is_private || other.is_private,
        }
    }
}

/// What is known of a node, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Known {
    /// The node, the address that has worked last first.
    pub node: NodeAddr,
    /// How it stands with it.
    pub state: State,
    /// What the user wants of it.
    pub flags: Flags,
    /// How good it is, from -100 to 100.
    pub score: i32,
    /// Who told of it first.
    pub source: Source,
    /// When it came into the book.
    pub added: SystemTime,
    /// When it was dialled last.
    pub last_tried: Option<SystemTime>,
    /// When it was last known to be connected.
    pub last_connected: Option<SystemTime>,
    /// When a dial last failed.
    pub last_failed: Option<SystemTime>,
    /// How often it was dialled.
    pub attempts: u32,
    /// How often a dial has led to a connection.
    pub connections: u32,
    /// How many dials have failed since the last one that did.
    pub failures: u32,
    /// What it says about itself, signed, if that came with it.
    pub record: Option<Enr>,
}

/// The same with times in milliseconds, and with what is the book's own business.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) node: NodeAddr,
    pub(super) source: Source,
    pub(super) is_persistent: bool,
    pub(super) is_private: bool,
    pub(super) is_connected: bool,
    /// It was connected when the last run ended, and has not been dialled in vain since.
    pub(super) was_connected: bool,
    pub(super) score: i32,
    pub(super) added: u64,
    pub(super) last_tried: Option<u64>,
    pub(super) last_connected: Option<u64>,
    pub(super) last_failed: Option<u64>,
    pub(super) attempts: u32,
    pub(super) connections: u32,
    pub(super) failures: u32,
    pub(super) record: Option<Enr>,
    /// None for persistent and private nodes.
    pub(super) bucket: Option<u8>,
}

impl Entry {
    pub(super) fn new(node: NodeAddr, source: Source, now: u64) -> Self {
        Self {
            node,
            source,
            is_persistent: false,
            is_private: false,
            is_connected: false,
            was_connected: false,
            score: 0,
            added: now,
            last_tried: None,
            last_connected: None,
            last_failed: None,
            attempts: 0,
            connections: 0,
            failures: 0,
            record: None,
            bucket: None,
        }
    }

    pub(super) fn set_flags(&mut self, flags: Flags) {
        self.is_persistent = flags.is_persistent;
        self.is_private = flags.is_private;
        self.bucket = None;
    }

    pub(super) fn flags(&self) -> Flags {
        Flags { is_persistent: self.is_persistent, is_private: self.is_private }
    }

    /// Whether a dial has led to a connection.
    pub(super) fn has_worked(&self) -> bool {
        self.connections > 0
    }

    /// Whether the user wants it in the book.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_persistent || self.is_private
    }

    pub(super) fn rate(&mut self, change: i32) {
        self.score = self.score.saturating_add(change).clamp(-MAX_SCORE, MAX_SCORE);
    }

    /// Moves an address to the front.
    pub(super) fn prefer(&mut self, address: &Address) {
        if let Some(place) = self.node.addresses.iter().position(|other| other == address) {
            self.node.addresses[..=place].rotate_right(1);
        }
    }

    /// Leaves no time later than `now`.
    pub(super) fn clamp(&mut self, now: u64) {
        self.added = self.added.min(now);
        for time in [&mut self.last_tried, &mut self.last_connected, &mut self.last_failed].into_iter().flatten() {
            *time = now.min(*time);
        }
    }

    pub(super) fn state(&self, is_banned: bool) -> State {
        match self {
            _ if is_banned => State::Banned,
            _ if self.is_connected => State::Connected,
            _ if self.failures > 0 => State::Failed,
            _ if self.has_worked() => State::Tried,
            _ => State::New,
        }
    }

    pub(super) fn known(&self, is_banned: bool) -> Known {
        Known {
            node: self.node.clone(),
            state: self.state(is_banned),
            flags: self.flags(),
            score: self.score,
            source: self.source.clone(),
            added: system_time(self.added),
            last_tried: self.last_tried.map(system_time),
            last_connected: self.last_connected.map(system_time),
            last_failed: self.last_failed.map(system_time),
            attempts: self.attempts,
            connections: self.connections,
            failures: self.failures,
            record: self.record.clone(),
        }
    }
}
