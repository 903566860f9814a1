//! What the handlers of all peers share: the book, what was told to whom, and what was counted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use capmux::book::{AddressBook, Refusal, SharedBook, Source};
use capmux::{Address, Direction, NodeAddr, Peer};
use fastrand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::answers::Answers;
use crate::pace::Outcome;
use crate::wire::{Announcement, Record};
use crate::{PexSettings, PexStatus, Violation};

/// What a peer loses whose answer is mostly of no use, and one that does not answer.
const USELESS: i32 = -5;
const SILENT: i32 = -2;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) settings: PexSettings,
    /// Where this node listens, once it is known.
    pub(crate) own: watch::Sender<Option<Announcement>>,
    book: SharedBook,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    answers: Answers,
    rng: Rng,
    status: PexStatus,
}

impl Node {
    pub(crate) fn new(book: SharedBook, settings: PexSettings) -> Self {
        let random = || getrandom::u64().expect("the operating system has randomness");
        let rng = Rng::with_seed(settings.seed.unwrap_or_else(random));
        let state = State { answers: Answers::new(settings.same_answer), rng, status: PexStatus::default() };
        Self { settings, own: watch::Sender::new(None), book, state: Mutex::new(state) }
    }

    pub(crate) fn status(&self) -> PexStatus {
        self.state().status
    }

    pub(crate) fn fork_rng(&self) -> Rng {
        self.state().rng.fork()
    }

    /// Whether so few nodes are known that anybody may tell of others.
    pub(crate) fn knows_few(&self) -> bool {
        self.book.with(|book, _| book.len()) < self.settings.few
    }

    /// What to tell a peer that asks for `count` nodes.
    pub(crate) fn answer(&self, asker: &Source, count: usize) -> Vec<Record> {
        let mut state = self.state();
        let State { answers, rng, status } = &mut *state;
        status.served += 1;
        self.book.with(|book, now| {
            let nodes = book.share(usize::MAX, asker, now, rng);
            let chosen = answers.choose(asker, nodes, count, Instant::now());
            chosen.iter().filter_map(|node| record_of(book, node, now)).collect()
        })
    }

    /// A request is made.
    pub(crate) fn asks(&self) {
        self.state().status.asked += 1;
    }

    /// A request was not answered in time.
    pub(crate) fn missed(&self, peer: &Peer) -> Outcome {
        self.state().status.unanswered += 1;
        self.book.with(|book, now| book.rate(&peer.id(), SILENT, now));
        Outcome::Unanswered
    }

    /// Puts what a peer has told into the book.
    pub(crate) fn learn(&self, source: &Source, peer: &Peer, records: Vec<Record>) -> Outcome {
        let told = records.len();
        let (mut new, mut useless) = (0, 0);
        self.book.with(|book, now| {
            for record in records {
                match offer(book, record, source, now) {
                    Taken::New => new += 1,
                    Taken::Useless => useless += 1,
                    Taken::Known | Taken::NoRoom => {}
                }
            }
            if 2 * useless > told {
                book.rate(&peer.id(), USELESS, now);
            }
        });
        let status = &mut self.state().status;
        status.records += told as u64;
        status.new += new;
        status.useless += useless as u64;
        if new > 0 { Outcome::News } else { Outcome::NoNews }
    }

    /// A peer says where it listens. That is believed of the address that it is connected from, and of no other.
    pub(crate) fn announced(&self, source: &Source, peer: &Peer, announcement: Announcement) -> Result<(), Violation> {
        let seen = peer.remote_addr().map(|address| address.ip().to_canonical());
        let (addresses, record) = match announcement {
            // Where a node listens that was dialled is known.
            Announcement::Port(_) if peer.direction() == Direction::Outbound => return Ok(()),
            Announcement::Port(port) => (seen.map(|ip| (ip, port).into()).into_iter().collect(), None),
            Announcement::Signed(record) if record.public_key() != *peer.public_key() => {
                return Err(Violation::ForeignRecord { id: record.node_id() });
            }
            Announcement::Signed(record) => (record.addresses(), Some(record)),
        };
        let believed = addresses.into_iter().filter(|address| Some(address.ip().to_canonical()) == seen);
        let node = NodeAddr::new(*peer.public_key(), believed.map(Address::Ip));
        let is_taken = self.book.with(|book, now| {
            let is_taken = book.offer(&node, source, now).is_ok();
            if let (true, Some(record)) = (is_taken, record) {
                book.set_record(record);
            }
            is_taken
        });
        self.state().status.announced += u64::from(is_taken);
        Ok(())
    }

    /// What is behind the lock is whole between two statements.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a record.
enum Taken {
    New,
    Known,
    Useless,
    /// It may be good, and the book does not want it.
    NoRoom,
}

fn offer(book: &mut AddressBook, record: Record, source: &Source, now: SystemTime) -> Taken {
    let Some(node) = record.node_addr() else { return Taken::Useless };
    let is_known = book.find(&node.node_id(), now).is_some();
    match book.offer(&node, source, now) {
        Ok(()) => {
            if let Record::Signed(record) = record {
                book.set_record(record);
            }
            if is_known { Taken::Known } else { Taken::New }
        }
        Err(Refusal::PortZero(_) | Refusal::NotRoutable(_) | Refusal::NotNumeric(_)) => Taken::Useless,
        Err(Refusal::NoAddress | Refusal::TooManyAddresses(_)) => Taken::Useless,
        // It cannot know who this node is, whom it has banned, and what else it knows.
        Err(_) => Taken::NoRoom,
    }
}

/// The record that the node has signed, if that says nothing else; `None` when the address is not numeric.
fn record_of(book: &AddressBook, node: &NodeAddr, now: SystemTime) -> Option<Record> {
    let address = node.addresses.first()?.socket_addr()?;
    let signed = book.find(&node.node_id(), now).and_then(|known| known.record);
    let signed = signed.filter(|record| {
        let addresses = record.addresses();
        let is_shared = |address| node.addresses.contains(&Address::Ip(address));
        // One that is not whole is not among the addresses, and still told.
        let written = ["ip", "ip6"].iter().filter(|key| record.value(key).is_some()).count();
        addresses.contains(&address) && addresses.len() == written && addresses.into_iter().all(is_shared)
    });
    Some(signed.map_or(Record::Plain { public_key: node.public_key, address }, Record::Signed))
}
