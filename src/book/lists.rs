//! Lists of nodes of other programs: geth's `nodes.json` and `static-nodes.json`, and `enode` URLs line by line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::entry::MAX_SCORE;
use super::{AddressBook, Known, Refusal, Source, State};
use crate::node::{Enode, EnodeError, Enr, EnrError};
use crate::text::escaped;
use crate::{Address, NodeAddr, NodeId};

/// How many nodes a list has at most.
const MAX_NODES: usize = 100_000;

/// A node of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// The node.
    pub node: NodeAddr,
    /// Its signed record, if the list has it.
    pub record: Option<Enr>,
    /// How good whoever made the list found it, from 0 to 100.
    pub score: i32,
}

/// A list of nodes that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeList {
    /// The nodes, in the order of the list, and in that of the ids for a `nodes.json`.
    pub nodes: Vec<Listed>,
    /// How many have a right record that names no address to dial.
    pub skipped: usize,
}

/// What is wrong with a list, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It is not UTF-8.
    #[error("the list of nodes is not text")]
    NotText,
    /// It begins like JSON, but is not JSON of a known shape.
    #[error("the list of nodes is neither an object of records nor an array of enode URLs: {0}")]
    Json(#[from] serde_json::Error),
    /// A line is wrong; the first one is 1.
    #[error("line {line} of the list of nodes: {source}")]
    Line {
        /// Which one.
        line: usize,
        /// What is wrong.
        source: NodeTextError,
    },
    /// An element of an array is wrong; the first one is 0.
    #[error("element {index} of the list of nodes: {source}")]
    Element {
        /// Which one.
        index: usize,
        /// What is wrong.
        source: NodeTextError,
    },
    /// The record of an entry is wrong.
    #[error("the entry {id} of the list of nodes: {source}")]
    Entry {
        /// The key of the entry, fit to be shown: cut at 80 characters, and control characters escaped.
        id: String,
        /// What is wrong.
        source: NodeTextError,
    },
    /// It has this many nodes.
    #[error("the list has {0} nodes; {MAX_NODES} are allowed")]
    TooMany(usize),
}

/// What is wrong with the text of one node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeTextError {
    /// It is no `enode` URL.
    #[error(transparent)]
    Enode(#[from] EnodeError),
    /// It is no node record.
    #[error(transparent)]
    Record(#[from] EnrError),
    /// The record is of another node.
    #[error("the record is of the node {0}")]
    OtherNode(NodeId),
    /// The sequence number beside the record is another one.
    #[error("seq is {given}, but the record has {signed}")]
    Sequence {
        /// The one beside the record.
        given: u64,
        /// The one in the record.
        signed: u64,
    },
}

/// An entry of a `nodes.json`.
#[derive(Serialize, Deserialize)]
struct Item {
    seq: u64,
    record: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    score: i64,
}

fn is_zero(score: &i64) -> bool {
    *score == 0
}

impl NodeList {
    /// Reads any of these: a `nodes.json` of geth's `devp2p` tool (an object with records by id), a `static-nodes.json`
    /// or `trusted-nodes.json` (an array of `enode` URLs or records), or a text with one `enode` URL or record a line,
    /// where `#` begins a comment.
    ///
    /// # Errors
    /// [`ImportError`], with the first place that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImportError> {
        let text = str::from_utf8(bytes).map_err(|_| ImportError::NotText)?;
        match text.trim_start().as_bytes().first() {
            Some(b'{') => Self::parse_records(text),
            Some(b'[') => Self::parse_array(text),
            _ => Self::parse_lines(text),
        }
    }

    fn parse_records(text: &str) -> Result<Self, ImportError> {
        let items: BTreeMap<String, Item> = serde_json::from_str(text)?;
        let mut list = Self::of_length(items.len())?;
        for (id, item) in items {
            let failed = |source| ImportError::Entry { id: escaped(&id, 80), source };
            list.push(&item.record, |found, record| match record {
                _ if found.to_string() != id.trim_start_matches("0x").to_ascii_lowercase() => {
                    Err(NodeTextError::OtherNode(found))
                }
                Some(record) if record.sequence() != item.seq => {
                    Err(NodeTextError::Sequence { given: item.seq, signed: record.sequence() })
                }
                _ => Ok(i32::try_from(item.score.clamp(0, i64::from(MAX_SCORE))).unwrap_or(0)),
            })
            .map_err(failed)?;
        }
        Ok(list)
    }

    fn parse_array(text: &str) -> Result<Self, ImportError> {
        let items: Vec<String> = serde_json::from_str(text)?;
        let mut list = Self::of_length(items.len())?;
        for (index, item) in items.iter().enumerate() {
            list.push(item, |_, _| Ok(0)).map_err(|source| ImportError::Element { index, source })?;
        }
        Ok(list)
    }

    fn parse_lines(text: &str) -> Result<Self, ImportError> {
        let contents = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let lines = contents.zip(1..).filter(|(content, _)| !content.is_empty());
        let mut list = Self::of_length(lines.clone().count())?;
        for (content, line) in lines {
            list.push(content, |_, _| Ok(0)).map_err(|source| ImportError::Line { line, source })?;
        }
        Ok(list)
    }

    fn of_length(length: usize) -> Result<Self, ImportError> {
        if length > MAX_NODES { Err(ImportError::TooMany(length)) } else { Ok(Self::default()) }
    }

    /// Adds a node, unless `check` finds something wrong; it tells the score.
    fn push(
        &mut self,
        text: &str,
        check: impl FnOnce(NodeId, Option<&Enr>) -> Result<i32, NodeTextError>,
    ) -> Result<(), NodeTextError> {
        if text.starts_with("enr:") {
            let record: Enr = text.parse()?;
            let score = check(record.node_id(), Some(&record))?;
            match record.node_addr() {
                Some(node) => self.nodes.push(Listed { node, record: Some(record), score }),
                None => self.skipped += 1,
            }
        } else {
            // Several addresses are this library's own way of writing.
            let node: NodeAddr = if text.contains(',') { text.parse()? } else { text.parse::<Enode>()?.into() };
            let score = check(node.node_id(), None)?;
            self.nodes.push(Listed { node, record: None, score });
        }
        Ok(())
    }
}

impl AddressBook {
    /// Takes on the nodes of a list as told by the user, and returns those that were refused.
    pub fn import(&mut self, list: &NodeList, now: SystemTime) -> Vec<(NodeId, Refusal)> {
        let mut refused = Vec::new();
        for Listed { node, record, score } in &list.nodes {
            let id = node.node_id();
            let is_new = !self.entries.contains_key(&id);
            match self.offer(node, &Source::Local, now) {
                Err(refusal) => refused.push((id, refusal)),
                Ok(()) if is_new => self.rate(&id, *score, now),
                Ok(()) => {}
            }
            if let Some(record) = record {
                self.set_record(record.clone());
            }
        }
        refused
    }

    /// The nodes as `enode` URLs, one a line, each with its first address. Private and banned ones are left out, and so
    /// are those whose addresses are neither numeric nor domain names, or of one link of this machine.
    pub fn to_enode_list(&self, now: SystemTime) -> String {
        let lines = self.exported(now).filter_map(|known| {
            let address = known.node.addresses.into_iter().find(fits_a_url)?;
            Some(format!("{}\n", NodeAddr::new(known.node.public_key, [address])))
        });
        lines.collect()
    }

    /// The nodes whose signed records are known, in the shape of geth's `nodes.json`. Private and banned ones are left
    /// out; [`to_enode_list`](Self::to_enode_list) has those without a record, too.
    pub fn to_nodes_json(&self, now: SystemTime) -> Vec<u8> {
        let items: BTreeMap<String, Item> = self
            .exported(now)
            .filter_map(|known| {
                let record = known.record?;
                let score = i64::from(known.score.max(0));
                let item = Item { seq: record.sequence(), record: record.to_string(), score };
                Some((record.node_id().to_string(), item))
            })
            .collect();
        serde_json::to_vec_pretty(&items).expect("keys are strings and no value refuses to be written")
    }

    /// What others may see, without addresses of banned networks.
    fn exported(&self, now: SystemTime) -> impl Iterator<Item = Known> {
        let known = self.iter(now).filter(|known| known.state != State::Banned && !known.flags.is_private);
        known.filter_map(move |mut known| {
            known.node.addresses.retain(|address| !address.ip().is_some_and(|ip| self.is_banned_ip(ip, now)));
            (!known.node.addresses.is_empty()).then_some(known)
        })
    }
}

/// Whether an `enode` URL can have the address. One of a link has a scope, which means something on this machine alone.
fn fits_a_url(address: &Address) -> bool {
    match address {
        Address::Ip(SocketAddr::V6(address)) => address.scope_id() == 0,
        Address::Ip(_) | Address::Domain(..) => true,
        Address::Other(..) => false,
    }
}
