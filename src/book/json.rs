//! The book as JSON. `docs/address-book.md` describes the format.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::bans::{Ban, Target};
use super::entry::{Entry, MAX_SCORE};
use super::source::{self, Source};
use super::{AddressBook, NodeAddr, NodeId};

/// What kind of file it is, and of which version.
const FORMAT: &str = "capmux address book";
const VERSION: u64 = 1;

/// How many nodes, and how many bans, are read at most.
const MAX_ITEMS: usize = 20_000;

/// A book that was read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Parsed {
    /// The book.
    pub book: AddressBook,
    /// How many nodes and bans were left out: malformed, there twice, or without room for them.
    pub skipped: usize,
}

/// Why bytes are no address book.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// It is not JSON of the right shape.
    #[error("it is not an address book: {0}")]
    Json(#[from] serde_json::Error),
    /// It is JSON of another kind.
    #[error("its format is not \"{FORMAT}\"")]
    Format,
    /// A later version of this library wrote it.
    #[error("its version is {0}, and this program reads version {VERSION}")]
    Version(u64),
    /// Its salt is not 32 hexadecimal digits.
    #[error("its salt is not 32 hexadecimal digits")]
    Salt,
}

#[derive(Deserialize)]
struct Header {
    format: String,
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Body<N, B> {
    salt: String,
    nodes: N,
    bans: B,
}

#[derive(Serialize)]
struct Whole<'a> {
    format: &'a str,
    version: u64,
    #[serde(flatten)]
    body: Body<Vec<NodeItem>, Vec<BanItem>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct NodeItem {
    node: String,
    source: String,
    #[serde(skip_serializing_if = "is_default")]
    persistent: bool,
    #[serde(skip_serializing_if = "is_default")]
    private: bool,
    #[serde(skip_serializing_if = "is_default")]
    connected: bool,
    #[serde(skip_serializing_if = "is_default")]
    score: i32,
    added: u64,
    #[serde(skip_serializing_if = "is_default")]
    last_tried: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    last_connected: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    last_failed: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    attempts: u32,
    #[serde(skip_serializing_if = "is_default")]
    connections: u32,
    #[serde(skip_serializing_if = "is_default")]
    failures: u32,
    #[serde(skip_serializing_if = "is_default")]
    record: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct BanItem {
    /// A node's id, or a network.
    on: String,
    until: u64,
    length: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl AddressBook {
    /// The book as JSON, for [`from_json`](Self::from_json). To write it without holding up others, write a clone.
    pub fn to_json(&self) -> Vec<u8> {
        let body = Body {
            salt: hex::encode(self.table.salt),
            nodes: self.entries.values().map(NodeItem::new).collect(),
            bans: self.bans.iter().map(|(target, ban)| BanItem::new(target, ban)).collect(),
        };
        let mut json = serde_json::to_vec_pretty(&Whole { format: FORMAT, version: VERSION, body })
            .expect("keys are strings and no value refuses to be written");
        json.push(b'\n');
        json
    }

    /// Reads what [`to_json`](Self::to_json) writes into a book with room for `capacity` nodes. Nodes and bans that are
    /// malformed are left out and counted; where there is not room for all, persistent nodes come first, then private
    /// ones, then those that have worked.
    ///
    /// # Errors
    /// [`FormatError`], when it is something else, or of a later version.
    pub fn from_json(bytes: &[u8], capacity: usize) -> Result<Parsed, FormatError> {
        let header: Header = serde_json::from_slice(bytes)?;
        match header {
            Header { format, .. } if format != FORMAT => return Err(FormatError::Format),
            Header { version, .. } if version != VERSION => return Err(FormatError::Version(version)),
            _ => {}
        }
        let body: Body<Items<NodeItem>, Items<BanItem>> = serde_json::from_slice(bytes)?;
        let mut salt = [0; 16];
        hex::decode_to_slice(&body.salt, &mut salt).map_err(|_| FormatError::Salt)?;
        let mut book = Self::new(capacity, salt);
        let read = body.nodes.items.len() + body.nodes.skipped + body.bans.items.len() + body.bans.skipped;
        for (target, ban) in body.bans.items.into_iter().filter_map(BanItem::parse) {
            book.bans.restore(target, ban);
        }
        let mut entries: Vec<_> = body.nodes.items.into_iter().filter_map(NodeItem::parse).collect();
        entries.sort_by_key(|(_, entry)| (!entry.is_persistent, !entry.is_private, !entry.has_worked()));
        for (id, entry) in entries {
            book.restore(id, entry);
        }
        let skipped = read - book.len() - book.bans.len();
        book.changes = 0;
        Ok(Parsed { book, skipped })
    }

    /// Gives an entry a place, if there is one.
    fn restore(&mut self, id: NodeId, entry: Entry) {
        let has_place = !self.entries.contains_key(&id) && self.add(id, entry, 0).is_ok();
        if let Some(entry) = self.entries.get_mut(&id).filter(|entry| has_place && entry.has_worked()) {
            self.table.promote(&id, entry);
        }
    }
}

impl NodeItem {
    fn new(entry: &Entry) -> Self {
        Self {
            node: entry.node.to_string(),
            source: entry.source.to_string(),
            persistent: entry.is_persistent,
            private: entry.is_private,
            connected: entry.is_connected || entry.was_connected,
            score: entry.score,
            added: entry.added,
            last_tried: entry.last_tried,
            last_connected: entry.last_connected,
            last_failed: entry.last_failed,
            attempts: entry.attempts,
            connections: entry.connections,
            failures: entry.failures,
            record: entry.record.as_ref().map(ToString::to_string),
        }
    }

    fn parse(self) -> Option<(NodeId, Entry)> {
        let node: NodeAddr = self.node.parse().ok()?;
        let source: Source = self.source.parse().ok()?;
        let id = node.node_id();
        // What the node itself or the user said later may be more than the first source could know.
        let addresses = source::count_checked(&node, None).ok()?;
        for address in &addresses {
            source::check_address(address, &Source::Local, &[]).ok()?;
        }
        let record = self.record.and_then(|record| record.parse::<crate::node::Enr>().ok());
        let entry = Entry {
            is_persistent: self.persistent,
            is_private: self.private,
            was_connected: self.connected,
            score: self.score.clamp(-MAX_SCORE, MAX_SCORE),
            last_tried: self.last_tried,
            last_connected: self.last_connected,
            last_failed: self.last_failed,
            attempts: self.attempts,
            connections: self.connections,
            failures: self.failures,
            record: record.filter(|record| record.node_id() == id),
            ..Entry::new(NodeAddr::new(node.public_key, addresses), source, self.added)
        };
        Some((id, entry))
    }
}

impl BanItem {
    fn new(target: &Target, ban: &Ban) -> Self {
        let on = match target {
            Target::Id(id) => id.to_string(),
            Target::Subnet(subnet) => subnet.to_string(),
        };
        Self { on, until: ban.until, length: ban.length }
    }

    fn parse(self) -> Option<(Target, Ban)> {
        let id = self.on.parse().map(Target::Id);
        let target = id.ok().or_else(|| self.on.parse().map(Target::Subnet).ok())?;
        Some((target, Ban { until: self.until, length: self.length }))
    }
}

/// The items of a list that could be read, and how many could not.
struct Items<T> {
    items: Vec<T>,
    skipped: usize,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor(PhantomData))
    }
}

struct ItemsVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for ItemsVisitor<T> {
    type Value = Items<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items<T>, A::Error> {
        let mut read = Items { items: Vec::new(), skipped: 0 };
        while let Some(item) = list.next_element::<&'de RawValue>()? {
            match serde_json::from_str(item.get()) {
                Ok(item) if read.items.len() < MAX_ITEMS => read.items.push(item),
                _ => read.skipped += 1,
            }
        }
        Ok(read)
    }
}
