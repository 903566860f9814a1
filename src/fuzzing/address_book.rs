//! The address book, driven by a list of operations and compared with what must be known of each node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arbitrary::{Result, Unstructured};

use super::{KEYS, choice};
use crate::book::{AddressBook, Flags, Known, Refusal, Source, State};
use crate::node::{Enr, Subnet};
use crate::{Address, NodeAddr, NodeId, NodeKey};

/// How many nodes there are, and how many of them the book holds at most.
const NODES: u8 = 24;
const CAPACITY: u8 = 16;

/// A book in which nodes are told of, kept, tried, banned and forgotten, while the clock goes on and sometimes back:
/// what is known of each is what has happened to it, what the user wants stays, who is banned is told to nobody and
/// dialled by nobody, and it is never more than the capacity, nor more of one network than may be. Returns how many
/// nodes were taken on.
///
/// The input: the capacity less 1 (1 byte), and operations of a byte, a node and what belongs to it.
pub fn address_book(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let capacity = 1 + usize::from(choice(input, CAPACITY)?);
    let mut driver = Driver::new(capacity);
    while !input.is_empty() {
        driver.step(input)?;
        driver.check();
    }
    driver.check_file();
    Ok(driver.taken)
}

/// What has happened to a node since it is in the book.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Past {
    flags: Flags,
    score: i32,
    attempts: u32,
    connections: u32,
    failures: u32,
    is_connected: bool,
    sequence: Option<u64>,
}

struct Driver {
    book: AddressBook,
    capacity: usize,
    keys: &'static [NodeKey],
    past: BTreeMap<NodeId, Past>,
    /// Until when, if the clock does not go back.
    bans: BTreeMap<NodeId, SystemTime>,
    has_gone_back: bool,
    now: SystemTime,
    random: fastrand::Rng,
    taken: usize,
}

impl Driver {
    fn new(capacity: usize) -> Self {
        let keys = &KEYS[..usize::from(NODES)];
        let mut book = AddressBook::new(capacity, [9; 16]);
        book.set_own(keys[0].node_id(), vec![([8, 8, 0, 1], 30303).into()]);
        Self {
            book,
            capacity,
            keys,
            past: BTreeMap::new(),
            bans: BTreeMap::new(),
            has_gone_back: false,
            now: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            random: fastrand::Rng::with_seed(7),
            taken: 0,
        }
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (operation, node) = (choice(input, 16)?, usize::from(choice(input, NODES)?));
        let id = self.keys[node].node_id();
        match operation {
            0..3 => self.offer(node, input)?,
            3 => self.keep(node, input)?,
            4 => {
                let flags = flags(input)?;
                let is_known = self.past.contains_key(&id);
                assert_eq!(self.book.set_flags(&id, flags, self.now), is_known);
                self.past.entry(id).and_modify(|past| past.flags = flags);
            }
            5 => assert_eq!(self.book.remove(&id), self.past.remove(&id).is_some()),
            6..11 => self.learn(operation, id, input)?,
            11 => self.ban(node, input)?,
            12 => self.pick(input)?,
            13 => self.share(input)?,
            14 => self.now += Duration::from_secs(97) * u16::from_be_bytes(input.arbitrary()?).into(),
            _ => {
                self.now -= Duration::from_secs(11) * choice(input, 100)?.into();
                self.has_gone_back = true;
            }
        }
        Ok(())
    }

    fn offer(&mut self, node: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let (offered, source) = (self.addr(node, input)?, self.source(input)?);
        let id = offered.node_id();
        // With the clock a ban may come back, which hides whether it is connected.
        let past = |known: &Known| Past { is_connected: false, ..past_of(known) };
        let content = |book: &AddressBook, now| book.find(&id, now).map(|known| (past(&known), known.node));
        let before = content(&self.book, self.now);
        let outcome = self.book.offer(&offered, &source, self.now);
        if let Err(refusal) = &outcome {
            assert!(!refusal.to_string().contains(char::is_control));
            assert!(*refusal != Refusal::OwnId || node == 0);
            assert_eq!(content(&self.book, self.now), before, "R54: what is refused changes nothing");
            return Ok(());
        }
        assert!(node != 0 && !self.book.is_banned(&id, self.now), "R54, H77: {offered:?}");
        self.taken_on(id);
        Ok(())
    }

    /// The node is in the book, perhaps anew.
    fn taken_on(&mut self, id: NodeId) {
        self.taken += 1;
        self.past.entry(id).or_insert(Past {
            flags: Flags::default(),
            score: 0,
            attempts: 0,
            connections: 0,
            failures: 0,
            is_connected: false,
            sequence: None,
        });
    }

    fn keep(&mut self, node: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let (node, flags) = (self.addr(node, input)?, flags(input)?);
        if self.book.keep(&node, flags, self.now).is_ok() {
            let id = node.node_id();
            self.taken_on(id);
            self.past.entry(id).and_modify(|past| past.flags = flags);
        }
        Ok(())
    }

    fn learn(&mut self, operation: u8, id: NodeId, input: &mut Unstructured<'_>) -> Result<()> {
        let argument = input.arbitrary::<u8>()?;
        let first = self.book.find(&id, self.now).and_then(|known| known.node.addresses.first().cloned());
        let dialled = first.filter(|_| argument % 2 == 0);
        let change = i32::from(argument) - 128;
        let record = self.keys.iter().find(|key| key.node_id() == id).map(|key| Enr::sign(key, argument.into(), None));
        match operation {
            6 => self.book.tried(&id, self.now),
            7 => self.book.connected(&id, dialled.as_ref(), self.now),
            8 if argument % 4 == 0 => self.book.disconnected(&id, self.now),
            8 | 9 => self.book.failed(&id, self.now),
            _ if argument % 2 == 0 => self.book.rate(&id, change, self.now),
            _ => record.into_iter().for_each(|record| {
                self.book.set_record(record);
            }),
        }
        let Some(past) = self.past.get_mut(&id) else { return Ok(()) };
        match operation {
            6 => past.attempts += 1,
            7 if dialled.is_some() => {
                (past.is_connected, past.failures) = (true, 0);
                past.connections += 1;
                past.score = (past.score + 1).min(100);
            }
            7 => past.is_connected = true,
            8 if argument % 4 == 0 => past.is_connected = false,
            8 | 9 => {
                past.failures += 1;
                past.score = (past.score - 1).max(-100);
            }
            _ if argument % 2 == 0 => past.score = (past.score + change).clamp(-100, 100),
            _ => past.sequence = past.sequence.max(Some(argument.into())),
        }
        Ok(())
    }

    fn ban(&mut self, node: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let (id, kind) = (self.keys[node].node_id(), choice(input, 4)?);
        let until = self.now + Duration::from_secs(60) * u16::from_be_bytes(input.arbitrary()?).into();
        let network = Subnet::new(IpAddr::from([8, 8, choice(input, 4)?, 0]), 22 + choice(input, 8)?);
        match kind {
            0 => {
                self.book.ban(id, until, self.now);
                self.bans.insert(id, until);
            }
            1 => {
                self.book.unban(&id);
                self.bans.remove(&id);
            }
            2 => self.book.ban_subnet(network, until, self.now),
            _ => drop(self.book.unban_subnet(&network)),
        }
        Ok(())
    }

    fn pick(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (count, excluded) =
            (usize::from(choice(input, 32)?), self.keys[usize::from(choice(input, NODES)?)].node_id());
        let picked = self.book.pick(count, |id| *id == excluded, self.now, &mut self.random);
        assert!(picked.len() <= count && is_distinct(&picked), "R54");
        for node in &picked {
            let known = self.book.find(&node.node_id(), self.now).expect("it is in the book");
            let is_out = matches!(known.state, State::Banned | State::Connected) || node.node_id() == excluded;
            assert!(!is_out, "R54: {known:?} is picked");
            let just_failed = known.last_failed.filter(|_| known.failures > 0);
            let is_due = just_failed.is_none_or(|failed| failed + Duration::from_secs(60) <= self.now);
            assert!(is_due, "R54: {known:?} has failed a moment ago");
            self.check_addresses(node);
        }
        Ok(())
    }

    fn share(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (count, asker) = (usize::from(choice(input, 32)?), self.source(input)?);
        let shared = self.book.share(count, &asker, self.now, &mut self.random);
        assert!(shared.len() <= count && is_distinct(&shared), "R48");
        for node in &shared {
            let known = self.book.find(&node.node_id(), self.now).expect("it is in the book");
            let is_hidden = known.flags.is_private || known.state == State::Banned || known.failures > 0;
            assert!(!is_hidden, "R48: {known:?} is told to {asker}");
            assert!(!matches!(&asker, Source::Peer { id, .. } if *id == node.node_id()), "R48: to itself");
            assert!(node.addresses.iter().all(|address| address.ip().is_some()), "R48: {node}");
            self.check_addresses(node);
        }
        Ok(())
    }

    fn check_addresses(&self, node: &NodeAddr) {
        let is_banned = |address: &Address| address.ip().is_some_and(|ip| self.book.is_banned_ip(ip, self.now));
        assert!(!node.addresses.is_empty() && !node.addresses.iter().any(is_banned), "R54: {node}");
    }

    /// The same nodes, with the same past, unless the book had to let go of one that nobody wants.
    fn check(&mut self) {
        assert!(self.book.len() <= self.capacity, "R55");
        let (book, now) = (&self.book, self.now);
        self.past.retain(|id, past| {
            let is_there = book.find(id, now).is_some();
            assert!(is_there || !past.flags.is_persistent, "R54: a persistent node is forgotten");
            is_there
        });
        assert_eq!(self.book.len(), self.past.len(), "R54: a node that nobody told of");
        let mut of_network: BTreeMap<Subnet, usize> = BTreeMap::new();
        for known in self.book.iter(self.now) {
            let id = known.node.node_id();
            let expected = &self.past[&id];
            // Of one that is banned it is not said whether it is connected.
            let is_connected = expected.is_connected && known.state == State::Banned || past_of(&known).is_connected;
            assert_eq!(Past { is_connected, ..past_of(&known) }, *expected, "R54: {known:?}");
            assert!((1..=8).contains(&known.node.addresses.len()) && is_distinct(&known.node.addresses), "{known:?}");
            if known.flags == Flags::default() {
                let public = known.node.addresses.iter().filter_map(Address::ip).filter(|ip| is_public(*ip));
                let mut networks: Vec<Subnet> = public.map(Subnet::narrow).collect();
                networks.sort();
                networks.dedup();
                networks.into_iter().for_each(|network| *of_network.entry(network).or_default() += 1);
            }
        }
        assert!(of_network.values().all(|count| *count <= 10), "R54: {of_network:?}");
        for (id, until) in self.bans.iter().filter(|_| !self.has_gone_back) {
            assert_eq!(self.book.is_banned(id, self.now), *until > self.now, "R54: a ban expires on time");
        }
    }

    /// What is written and read again is the same, but for who competes for a place.
    fn check_file(&self) {
        let again = AddressBook::from_json(&self.book.to_json(), self.capacity).expect("it was written just now").book;
        for known in self.book.iter(self.now) {
            let id = known.node.node_id();
            let read = again.find(&id, self.now);
            let is_wanted = known.flags != Flags::default();
            assert!(read.is_some() || !is_wanted, "R55: {known:?} is lost");
            // A connection does not outlive the program.
            let expected = Past { is_connected: false, ..past_of(&known) };
            assert!(read.is_none_or(|read| past_of(&read) == expected), "R55: {known:?}");
            assert_eq!(again.is_banned(&id, self.now), self.book.is_banned(&id, self.now), "R54: a ban survives");
        }
    }

    /// The node at one to nine addresses of a few networks.
    fn addr(&self, node: usize, input: &mut Unstructured<'_>) -> Result<NodeAddr> {
        let mut addresses = Vec::new();
        for _ in 0..=choice(input, 9)? {
            let (network, host) = (choice(input, 8)?, choice(input, 8)?);
            let port = u16::from(host) + 30_300;
            addresses.push(match network {
                0..4 => Address::Ip(([8, 8, network, host], port).into()),
                4 => Address::Ip(([0x2a00, 0, 0, 1, 0, 0, 0, host.into()], port).into()),
                5 => Address::Ip(([10, 0, 0, host], port).into()),
                6 if host == 0 => Address::Ip(([0, 0, 0, 0], port).into()),
                6 => Address::Ip(([8, 8, 4, host], 0).into()),
                _ => Address::Domain("example.org".into(), port),
            });
        }
        Ok(NodeAddr::new(self.keys[node].public_key(), addresses))
    }

    fn source(&self, input: &mut Unstructured<'_>) -> Result<Source> {
        let id = self.keys[usize::from(choice(input, NODES)?)].node_id();
        Ok(match choice(input, 5)? {
            0 | 1 => Source::Local,
            2 => Source::Service("list".into()),
            3 => Source::Peer { id, ip: None },
            _ => Source::Peer {
                id,
                ip: Some(IpAddr::from([[9, 9, 9, 9], [10, 0, 0, 7]][usize::from(choice(input, 2)?)])),
            },
        })
    }
}

fn flags(input: &mut Unstructured<'_>) -> Result<Flags> {
    Ok([Flags::default(), Flags::PERSISTENT, Flags::PRIVATE, Flags::PERSISTENT.and(Flags::PRIVATE)]
        [usize::from(choice(input, 4)?)])
}

fn past_of(known: &Known) -> Past {
    Past {
        flags: known.flags,
        score: known.score,
        attempts: known.attempts,
        connections: known.connections,
        failures: known.failures,
        is_connected: known.state == State::Connected,
        sequence: known.record.as_ref().map(Enr::sequence),
    }
}

fn is_public(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 8) || ip.is_ipv6()
}

fn is_distinct<T: PartialEq>(items: &[T]) -> bool {
    items.iter().enumerate().all(|(place, item)| !items[..place].contains(item))
}
