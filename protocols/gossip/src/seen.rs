//! Which messages have been seen.

use std::collections::{HashSet, VecDeque};

/// The Keccak-256 of a message.
pub(crate) type Id = [u8; 32];

/// The ids of the latest messages, up to a limit.
#[derive(Debug)]
pub(crate) struct Seen {
    limit: usize,
    ids: HashSet<Id>,
    /// The same, oldest first.
    order: VecDeque<Id>,
}

impl Seen {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, ids: HashSet::new(), order: VecDeque::new() }
    }

    /// Remembers an id, forgetting the oldest above the limit. Returns whether it was not there.
    pub(crate) fn insert(&mut self, id: Id) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_and_nothing_else() {
        let mut seen = Seen::new(3);
        for number in 0..100 {
            assert!(seen.insert([number; 32]));
            for latest in number.saturating_sub(2)..=number {
                assert!(!seen.insert([latest; 32]), "{latest} is among the latest three of {number}");
            }
            assert!(seen.ids.len() <= 3 && seen.order.len() <= 3, "R23: bounded");
        }
        assert!(seen.insert([0; 32]), "forgotten long ago");
    }
}
