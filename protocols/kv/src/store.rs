//! What a node stores.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::wire::{Key, Value};
use crate::{InvalidEntry, key, value};

/// The entries of this node, which all peers read and write. Clones are the same store.
///
/// It holds no more than [`Settings::max_entries`](crate::Settings::max_entries), each with a key of 1 to
/// [`MAX_KEY_SIZE`](crate::MAX_KEY_SIZE) bytes and a value of at most [`MAX_VALUE_SIZE`](crate::MAX_VALUE_SIZE).
#[derive(Debug, Clone)]
pub struct Store {
    max_entries: usize,
    entries: Arc<Mutex<BTreeMap<Bytes, Bytes>>>,
}

impl Store {
    pub(crate) fn new(max_entries: usize) -> Self {
        Self { max_entries, entries: Arc::default() }
    }

    /// The value under a key.
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.entries().get(key).cloned()
    }

    /// Stores a value, in place of the key's earlier one. `false` when the key is new and the store is full.
    ///
    /// # Errors
    /// When the key or the value is not within its limits.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<bool, InvalidEntry> {
        Ok(self.insert(self::key(key.into())?, self::value(value.into())?))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    pub(crate) fn insert(&self, Key(key): Key, Value(value): Value) -> bool {
        let mut entries = self.entries();
        let has_place = entries.len() < self.max_entries || entries.contains_key(&key);
        if has_place {
            entries.insert(key, value);
        }
        has_place
    }

    /// At most `count` keys behind this one, in order.
    pub(crate) fn keys(&self, after: &Bytes, count: usize) -> Vec<Key> {
        let entries = self.entries();
        let behind = entries.range::<Bytes, _>((Excluded(after), Unbounded));
        behind.take(count).map(|(key, _)| Key(key.clone())).collect()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Bytes, Bytes>> {
        self.entries.lock().expect("nothing panics under it")
    }

    /// Makes every later use panic, so that a test sees one.
    #[cfg(test)]
    pub(crate) fn poison(&self) {
        let entries = self.entries.clone();
        let poisoned = std::thread::spawn(move || {
            let _guard = entries.lock();
            panic!("on purpose");
        });
        assert!(poisoned.join().is_err());
    }
}
