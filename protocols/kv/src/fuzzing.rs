//! The bodies of fuzz targets, for `fuzz/`.

use std::collections::BTreeMap;
use std::fmt::Debug;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use capmux::rlp::{self, Decodable, Encodable, Rlp};
use capmux::typed::{Asked, MessageSet, Request};

use crate::store::Store;
use crate::wire::{Get, Key, Keys, KvMessage, List, Put, Value};
use crate::{MAX_COUNT, MAX_KEY_SIZE, MAX_VALUE_SIZE};

/// What is run on an input. It returns how often the input got through the check that guards the deepest code.
pub type Target = fn(&[u8]) -> usize;

/// What there is to run, by name.
pub const TARGETS: &[(&str, Target)] = &[("kv_messages", kv_messages), ("kv_store", kv_store)];

/// A body: what is read as a message or an answer is within the limits, and reads as the same when it is written.
/// Returns how many kinds of message or answer it is.
///
/// The input: the body.
pub fn kv_messages(data: &[u8]) -> usize {
    let body = Rlp::new(data);
    let mut read = 0;
    for code in 0..=KvMessage::LENGTH {
        let Ok(message) = KvMessage::from_parts(code, &body) else { continue };
        assert!(!KvMessage::ANSWER_CODES.contains(&code) && code < KvMessage::LENGTH, "an answer is no message");
        let (again, parts) = message.parts();
        let written = parts.rlp_bytes();
        assert_eq!(again, code);
        let reread = KvMessage::from_parts(code, &Rlp::new(&written));
        assert_eq!(reread.as_ref(), Ok(&message), "a message does not read as it was written");
        check_limits(&message);
        read += 1;
    }
    read + reads_back::<Option<Value>>(data) + reads_back::<Keys>(data) + check_answer(data)
}

fn check_limits(message: &KvMessage) {
    match message {
        KvMessage::Get(Asked { request: Get(Key(key)), .. }) => check_key(key),
        KvMessage::Put(Asked { request: Put { key: Key(key), value: Value(value) }, .. }) => {
            check_key(key);
            assert!(value.len() <= MAX_VALUE_SIZE);
        }
        KvMessage::List(Asked { request: list, .. }) => {
            assert!(list.after.len() <= MAX_KEY_SIZE);
            assert_eq!(list.checked_count().is_ok(), (1..=MAX_COUNT as u64).contains(&list.count));
        }
    }
}

fn check_key(key: &Bytes) {
    assert!((1..=MAX_KEY_SIZE).contains(&key.len()));
}

fn reads_back<T: Decodable + Encodable + PartialEq + Debug>(data: &[u8]) -> usize {
    let Ok(value) = rlp::decode::<T>(data) else { return 0 };
    assert_eq!(rlp::decode::<T>(&value.rlp_bytes()).as_ref(), Ok(&value), "an answer does not read as it was written");
    1
}

/// Keys answer a request only when they are behind what was asked for, in order, and no more.
fn check_answer(data: &[u8]) -> usize {
    let Ok(keys) = rlp::decode::<Keys>(data) else { return 0 };
    for after in [&b""[..], b"k", &[0xff; 64]] {
        for count in [1, 3, 256] {
            let list = List { after: Bytes::from_static(after), count };
            let all: Vec<&[u8]> = keys.0.iter().map(|Key(key)| &key[..]).collect();
            let mut sorted = all.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let are_right = sorted == all && all.len() as u64 <= count && all.iter().all(|key| *key > after);
            assert_eq!(list.check(&keys).is_ok(), are_right, "{list:?} is answered with {keys:?}");
        }
    }
    1
}

/// Entries that are put, read and listed: the store has what a map has that is full at the same number. Returns how
/// many entries there are in the end.
///
/// The input: how many entries there may be (1 byte), and operations of a byte, a key and what belongs to it.
pub fn kv_store(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let max_entries = usize::from(input.arbitrary::<u8>()? % 16);
    let store = Store::new(max_entries);
    let mut model: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    while !input.is_empty() {
        let (operation, length) = (input.arbitrary::<u8>()? % 3, usize::from(input.arbitrary::<u8>()? % 4));
        let key = Bytes::copy_from_slice(input.bytes(length.min(input.len()))?);
        let argument = input.arbitrary::<u8>()?;
        match operation {
            0 => {
                let size = if argument == 255 { MAX_VALUE_SIZE + 1 } else { argument.into() };
                let value = Bytes::from(vec![argument; size]);
                let has_place = model.len() < max_entries || model.contains_key(&key);
                let is_valid = !key.is_empty() && size <= MAX_VALUE_SIZE;
                let expected = is_valid.then_some(has_place);
                assert_eq!(store.put(key.clone(), value.clone()).ok(), expected);
                if expected == Some(true) {
                    model.insert(key, value);
                }
            }
            1 => assert_eq!(store.get(&key).as_ref(), model.get(&key)),
            _ => {
                let count = usize::from(argument % 8);
                let behind = model.keys().filter(|other| **other > key).take(count);
                let listed = store.keys(&key, count);
                assert!(listed.iter().map(|Key(key)| key).eq(behind), "{listed:?} are behind {key:?}");
            }
        }
        assert!(store.len() == model.len() && store.is_empty() == model.is_empty() && store.len() <= max_entries);
    }
    Ok(store.len())
}
