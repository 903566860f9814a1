//! A key-value store that peers read and write: requests with ids, answers, and a client. What a protocol with requests
//! looks like on [`capmux::typed`].
//!
//! ```
//! use capmux::{NodeKey, Server};
//! use capmux_kv::{Kv, Settings};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (protocol, kv) = Kv::new(Settings::default());
//! let server = Server::builder(NodeKey::random()).listen("127.0.0.1:0".parse()?).protocol(protocol).start().await?;
//! kv.store().put("colour", "green")?;
//!
//! let (protocol, kv) = Kv::new(Settings::default());
//! let client = Server::builder(NodeKey::random()).protocol(protocol).start().await?;
//! let peer = client.dial(&server.enode().expect("it listens")).await?;
//! assert_eq!(kv.get(&peer, "colour").await?.expect("it is stored"), "green");
//! kv.put(&peer, "shape", "round").await?;
//! assert_eq!(kv.list(&peer, "", 10).await?, ["colour", "shape"]);
//! # Ok(())
//! # }
//! ```
//!
//! # On the wire
//! Name `kv`, version 1, six codes. Either end may ask the other. All bodies are RLP; `P` is an integer of at most 64
//! bits without leading zeros, `B` a string of bytes.
//!
//! **Get (0x00)** `[request-id: P, key: B]` asks for the value under a key.
//!
//! **Value (0x01)** `[request-id: P, [value: B]]` is the answer; `[request-id: P, []]` when there is none.
//!
//! **Put (0x02)** `[request-id: P, [key: B, value: B]]` asks to store a value, in place of the key's earlier one.
//!
//! **Stored (0x03)** `[request-id: P, stored: {0, 1}]` is the answer: 0 when the key is new and there is no place.
//!
//! **List (0x04)** `[request-id: P, [after: B, count: P]]` asks for at most `count` keys, 1 to 256, that sort behind
//! `after` byte by byte. An empty `after` is before all keys, another need not be stored.
//!
//! **Keys (0x05)** `[request-id: P, [key₁: B, key₂: B, ...]]` is the answer, in ascending order. Fewer than `count` are
//! all there are.
//!
//! A key has 1 to 64 bytes, a value at most 16,384, a body at most 32 KiB. Request ids are the asker's choice; it does
//! not use one again that is unanswered. Answers may come in any order.
//!
//! A body above 32 KiB, or a message id that belongs to no protocol, ends the connection with `ProtocolError` (0x02).
//! Anything else ends it with `SubprotocolError` (0x10): a body of another form, a count of 0 or above 256,
//! an answer to no request or to one of another kind, keys that were not asked for. Nothing is looked up before.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod store;
mod wire;

use std::time::Duration;

use bytes::Bytes;
use capmux::typed::{self, Asked, Request, RequestError, RequestPool, TypedChannel};
use capmux::{BoxError, Peer, Protocol};

pub use store::Store;
use wire::{Get, Key, Keys, KvMessage, List, Put, Value};

const NAME: &str = "kv";

/// The largest key, in bytes. The smallest has one.
pub const MAX_KEY_SIZE: usize = 64;

/// The largest value, in bytes.
pub const MAX_VALUE_SIZE: usize = 16 * 1024;

/// The most keys that one [`Kv::list`] asks for.
pub const MAX_COUNT: usize = 256;

/// How many requests to one peer may be unanswered; more wait for a place.
pub const MAX_OUTSTANDING: usize = 64;

/// The largest body, in bytes: above both a Put and the longest list of keys.
const MAX_BODY_SIZE: usize = 32 * 1024;

/// The settings of a node.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many entries the store holds. Default 1,024, which is 16 MiB at most.
    pub max_entries: usize,
    /// How long a request may take, the wait for a place included. Default 10 s.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_entries: 1024, timeout: Duration::from_secs(10) }
    }
}

/// The client: asks the peers of the one server at which its [`Protocol`] is registered. Clones are the same client.
///
/// Every request can be dropped before it is ready. A [`Kv::put`] may then have been carried out, or not.
#[derive(Debug, Clone)]
pub struct Kv {
    timeout: Duration,
    store: Store,
    pool: RequestPool<KvMessage>,
}

impl Kv {
    /// A protocol to be registered at one server, and the client to use there, which has the store that peers are
    /// answered from.
    pub fn new(settings: Settings) -> (Protocol, Self) {
        let (pool, store) = (RequestPool::new(), Store::new(settings.max_entries));
        let kv = Self { timeout: settings.timeout, store: store.clone(), pool: pool.clone() };
        let run = move |peer, channel| serve(pool.clone(), store.clone(), peer, channel);
        (typed::protocol(NAME, 1, run).max_message_size(MAX_BODY_SIZE), kv)
    }

    /// What this node stores.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The value that a peer has under a key.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn get(&self, peer: &Peer, key: impl Into<Bytes>) -> Result<Option<Bytes>, KvError> {
        let found = self.ask(peer, Get(self::key(key.into())?)).await?;
        Ok(found.map(|Value(value)| value))
    }

    /// Has a peer store a value, in place of the key's earlier one.
    ///
    /// # Errors
    /// [`KvError`], [`KvError::StoreFull`] among it.
    pub async fn put(&self, peer: &Peer, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<(), KvError> {
        let put = Put { key: self::key(key.into())?, value: self::value(value.into())? };
        if self.ask(peer, put).await? { Ok(()) } else { Err(KvError::StoreFull) }
    }

    /// The first `count` keys of a peer, 1 to [`MAX_COUNT`], that sort behind `after`; from the first when that is
    /// empty. Fewer than `count` are all there are.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn list(&self, peer: &Peer, after: impl Into<Bytes>, count: usize) -> Result<Vec<Bytes>, KvError> {
        let after = after.into();
        if !after.is_empty() {
            key(after.clone())?;
        }
        let list = List { after, count: u64::try_from(count).unwrap_or(u64::MAX) };
        list.checked_count().map_err(|_| KvError::Count { count })?;
        let Keys(keys) = self.ask(peer, list).await?;
        Ok(keys.into_iter().map(|Key(key)| key).collect())
    }

    async fn ask<R: Request<Messages = KvMessage>>(&self, peer: &Peer, request: R) -> Result<R::Answer, KvError> {
        if !peer.shared_capabilities().iter().any(|shared| shared.name() == NAME) {
            return Err(KvError::NotShared);
        }
        let asked = async {
            let sender = self.pool.sender(peer).await.ok_or(RequestError::Gone)?;
            sender.request(request, self.timeout).await
        };
        let answer = tokio::time::timeout(self.timeout, asked).await;
        Ok(answer.unwrap_or(Err(RequestError::Timeout { limit: self.timeout }))?)
    }
}

/// What runs with each peer.
async fn serve(
    pool: RequestPool<KvMessage>,
    store: Store,
    peer: Peer,
    mut channel: TypedChannel<KvMessage>,
) -> Result<(), BoxError> {
    let _membership = pool.join(&peer, channel.sender());
    while let Some(message) = channel.recv().await? {
        match message {
            KvMessage::Get(Asked { id, request: Get(Key(key)) }) => {
                channel.answer(id, &store.get(&key).map(Value)).await?;
            }
            KvMessage::Put(Asked { id, request: Put { key, value } }) => {
                channel.answer(id, &store.insert(key, value)).await?;
            }
            KvMessage::List(Asked { id, request: list }) => {
                let count = list.checked_count()?;
                channel.answer(id, &Keys(store.keys(&list.after, count))).await?;
            }
        }
    }
    Ok(())
}

fn key(key: Bytes) -> Result<Key, InvalidEntry> {
    let size = key.len();
    if (1..=MAX_KEY_SIZE).contains(&size) { Ok(Key(key)) } else { Err(InvalidEntry::Key { size }) }
}

fn value(value: Bytes) -> Result<Value, InvalidEntry> {
    let size = value.len();
    if size <= MAX_VALUE_SIZE { Ok(Value(value)) } else { Err(InvalidEntry::Value { size }) }
}

/// Why something cannot be stored by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEntry {
    /// The key is empty or too large.
    #[error("a key of {size} bytes, where 1 to {MAX_KEY_SIZE} are allowed")]
    Key {
        /// Its size, in bytes.
        size: usize,
    },
    /// The value is too large.
    #[error("a value of {size} bytes, where {MAX_VALUE_SIZE} are allowed")]
    Value {
        /// Its size, in bytes.
        size: usize,
    },
}

/// Why a peer did not do as it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// The peer does not speak `kv`, or this end does not.
    #[error("kv is not spoken with this peer")]
    NotShared,
    /// The key or the value is not within its limits. Nothing was sent.
    #[error(transparent)]
    Invalid(#[from] InvalidEntry),
    /// So many keys cannot be asked for. Nothing was sent.
    #[error("a count of {count}, where 1 to {MAX_COUNT} are allowed")]
    Count {
        /// The count.
        count: usize,
    },
    /// The peer has no place for another key.
    #[error("the peer's store is full")]
    StoreFull,
    /// No answer came.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// What a peer can do wrong, beside [`typed::Breach`]. It ends the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// It asks for no keys, or for too many.
    #[error("keys asked for with a count of {count}, where 1 to {MAX_COUNT} are allowed")]
    Count {
        /// The count.
        count: u64,
    },
    /// It lists more keys than were asked for.
    #[error("{listed} keys, where {count} were asked for")]
    TooMany {
        /// How many it lists.
        listed: usize,
        /// How many were asked for.
        count: u64,
    },
    /// It lists keys that were not asked for, or not in ascending order.
    #[error("keys out of their order")]
    Order,
}

#[cfg(test)]
mod tests;
