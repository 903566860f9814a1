mod decoding;
mod exchange;
mod network;
mod violations;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use capmux::book::{AddressBook, Flags, Source};
use capmux::rlp::{Encodable, RlpStream};
use capmux::testing::{Driven, Wire};
use capmux::{Address, NodeAddr, NodeKey};
use tokio::time::timeout;

use super::*;
use crate::wire::{ANNOUNCE, Announce, GetNodes, Nodes, Record};

const GET_NODES: u64 = 0;
const NODES: u64 = 1;
const LENGTH: u64 = 3;
const LONG: Duration = Duration::from_secs(10);

/// Some moment in which bans and experience begin.
fn epoch() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A book that goes by the clock of the runtime.
fn book_of(capacity: usize) -> SharedBook {
    let start = tokio::time::Instant::now();
    SharedBook::with_clock(AddressBook::new(capacity, [7; 16]), move || epoch() + start.elapsed())
}

fn key(number: u64) -> NodeKey {
    let mut bytes = [1; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    NodeKey::from_bytes(&bytes).expect("far below the order of the curve")
}

/// A public address, each in a network of its own.
fn public(number: u64) -> SocketAddr {
    let [.., high, middle, low] = number.to_be_bytes();
    ([64 + high, middle, low, 9], 30_303).into()
}

fn at(number: u64, address: SocketAddr) -> NodeAddr {
    NodeAddr::new(key(number).public_key(), [Address::Ip(address)])
}

fn plain(number: u64, address: SocketAddr) -> Record {
    Record::Plain { public_key: key(number).public_key(), address }
}

fn add(book: &SharedBook, node: &NodeAddr) {
    book.with(|book, now| book.offer(node, &Source::Local, now)).expect("there is room");
}

fn knows(book: &SharedBook, number: u64) -> bool {
    book.with(|book, now| book.find(&key(number).node_id(), now)).is_some()
}

/// A request in its documented form.
fn get_nodes(id: u64, count: u64) -> Vec<u8> {
    let mut list = RlpStream::new_list(2);
    list.append(&id).append(&count);
    list.out().into()
}

/// An answer in its documented form.
fn nodes(id: u64, records: &[Record]) -> Vec<u8> {
    let mut list = RlpStream::new_list(2);
    list.append(&id).append(&Nodes(records.to_vec()));
    list.out().into()
}

/// A node whose peer's end is in the hands of the test.
struct Driver {
    pex: Pex,
    book: SharedBook,
    driven: Driven,
}

impl Driver {
    async fn start(wire: Wire, settings: PexSettings) -> Self {
        Self::with(wire, settings, book_of(1_000)).await
    }

    async fn with(wire: Wire, settings: PexSettings, book: SharedBook) -> Self {
        let (protocol, pex) = Pex::new(book.clone(), PexSettings { seed: Some(1), ..settings });
        Self { pex, book, driven: wire.drive(NAME, 1, LENGTH, protocol).await }
    }

    /// Where the test is the peer that nobody asks.
    async fn silent(wire: Wire) -> Self {
        Self::start(wire, PexSettings { few: 0, ..PexSettings::default() }).await
    }

    async fn send(&self, code: u64, body: impl Into<Vec<u8>>) {
        self.driven.channel.send(code, body.into()).await.expect("it is sent");
    }

    /// The id of the request that the node makes next.
    async fn asked(&mut self) -> u64 {
        let message = timeout(Duration::from_secs(3_600), self.driven.channel.recv()).await;
        let message = message.expect("it asks").expect("it is there");
        let body = capmux::rlp::Rlp::new(&message.payload);
        assert_eq!((message.code, body.val_at::<u64>(1)), (GET_NODES, Ok(30)));
        body.val_at(0).expect("a request id")
    }

    /// What the answer to a request tells of.
    async fn told(&mut self, id: u64, count: u64) -> Vec<Record> {
        self.send(GET_NODES, get_nodes(id, count)).await;
        let message = capmux::testing::expect_message(&mut self.driven.channel, NODES).await;
        let body = capmux::rlp::Rlp::new(&message.payload);
        assert_eq!(body.val_at::<u64>(0), Ok(id));
        let Nodes(records) = body.val_at(1).expect("it is well-formed");
        records
    }

    /// Waits until the node has taken everything that the test has sent: of the same peer nothing overtakes.
    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, waiting).await.expect("it comes soon");
    }
}
