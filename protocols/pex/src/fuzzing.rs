//! The bodies of fuzz targets, for `fuzz/`.

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use capmux::book::Source;
use capmux::node::Enr;
use capmux::rlp::{self, Decodable, Encodable, Rlp};
use capmux::typed::{Asked, MessageSet};
use capmux::{NodeAddr, NodeId, NodeKey};
use fastrand::Rng;
use tokio::time::Instant;

use crate::answers::Answers;
use crate::pace::{Gate, Outcome, Pace};
use crate::wire::{Announce, Announcement, Nodes, PexMessage, Record};
use crate::{MAX_INTERVAL, MAX_RECORDS, MIN_INTERVAL, PexSettings};

/// What is run on an input. It returns how often the input got through the check that guards the deepest code.
pub type Target = fn(&[u8]) -> usize;

/// What there is to run, by name.
pub const TARGETS: &[(&str, Target)] = &[("pex_messages", pex_messages), ("pex_pace", pex_pace)];

/// A body: what is read as a message or an answer tells of no more nodes than may be, and reads as the same when it is
/// written. And nodes as they are told: read as they were written, and when they are damaged, none that has signed its
/// record says anything else. Returns how many nodes, messages and announcements were read.
///
/// The input: the kind (1 byte), and a body; or how many nodes (1 byte), the nodes, and what damages them: place and
/// mask (3 bytes).
pub fn pex_messages(data: &[u8]) -> usize {
    let mut input = Unstructured::new(data);
    let read = match input.arbitrary::<u8>() {
        Ok(kind) if kind % 2 == 0 => Ok(raw(input.take_rest())),
        _ => told(&mut input),
    };
    read.unwrap_or(0)
}

fn raw(body: &[u8]) -> usize {
    let mut read = 0;
    for code in 0..=PexMessage::LENGTH {
        let Ok(message) = PexMessage::from_parts(code, &Rlp::new(body)) else { continue };
        assert!(!PexMessage::ANSWER_CODES.contains(&code) && code < PexMessage::LENGTH, "an answer is no message");
        let (again, parts) = message.parts();
        assert_eq!(again, code);
        assert_eq!(PexMessage::from_parts(code, &Rlp::new(&parts.rlp_bytes())).as_ref(), Ok(&message));
        if let PexMessage::GetNodes(Asked { request, .. }) = &message {
            let expected = (1..=MAX_RECORDS as u64).contains(&request.count);
            assert_eq!(request.checked_count().is_ok(), expected, "R56");
        }
        read += 1;
    }
    let nodes = rlp::decode::<Nodes>(body);
    read += nodes.as_ref().map_or(0, |Nodes(records)| check_told(records));
    read + usize::from(reads_back::<Announce>(body))
}

fn reads_back<T: Decodable + Encodable + PartialEq + Debug>(body: &[u8]) -> bool {
    let Ok(value) = rlp::decode::<T>(body) else { return false };
    assert_eq!(rlp::decode::<T>(&value.rlp_bytes()).as_ref(), Ok(&value));
    true
}

/// Nodes that were read are written and read as the same, in the only form of their addresses.
fn check_told(records: &[Record]) -> usize {
    assert!(records.len() <= MAX_RECORDS, "R56");
    let again = rlp::decode::<Nodes>(&Nodes(records.to_vec()).rlp_bytes());
    let Nodes(again) = again.expect("it was read, and written as it was");
    let nodes = |records: &[Record]| records.iter().map(canonical).collect::<Vec<_>>();
    assert_eq!(nodes(&again), nodes(records));
    records.len()
}

/// An IPv4 address inside an IPv6 one is told as the IPv4 address.
fn canonical(record: &Record) -> Record {
    match record {
        Record::Plain { public_key, address } => {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            Record::Plain { public_key: *public_key, address }
        }
        signed => signed.clone(),
    }
}

fn told(input: &mut Unstructured<'_>) -> Result<usize> {
    let count = input.arbitrary::<u8>()? % 33;
    let records: Vec<Record> = (0..count).map(|_| record(input)).collect::<Result<_>>()?;
    let mut body = Nodes(records.clone()).rlp_bytes().to_vec();
    let (place, mask) = (usize::from(u16::from_le_bytes(input.arbitrary()?)) % body.len(), input.arbitrary::<u8>()?);
    body[place] ^= mask;
    let announced = records.first().and_then(|record| match record {
        Record::Signed(record) => Some(Announce(Announcement::Signed(record.clone()))),
        Record::Plain { .. } => None,
    });
    assert!(announced.is_none_or(|announce| reads_back::<Announce>(&announce.rlp_bytes())), "R56");
    let read = rlp::decode::<Nodes>(&body);
    if mask == 0 {
        let expected = (records.len() <= MAX_RECORDS).then(|| records.iter().map(canonical).collect::<Vec<_>>());
        assert_eq!(read.as_ref().ok().map(|Nodes(read)| read), expected.as_ref(), "R56");
    }
    let Ok(Nodes(read)) = read else { return Ok(0) };
    let are_signed = |record: &&Record| matches!(record, Record::Signed(_));
    assert!(read.iter().filter(are_signed).all(|record| records.contains(record)), "R56: what was signed was changed");
    Ok(check_told(&read))
}

fn record(input: &mut Unstructured<'_>) -> Result<Record> {
    let (kind, number, port) = (input.arbitrary::<u8>()? % 4, input.arbitrary::<u8>()?, input.arbitrary()?);
    let key = key(number);
    let ip = match kind % 2 {
        0 => IpAddr::from(input.arbitrary::<[u8; 4]>()?),
        _ => IpAddr::from(input.arbitrary::<[u8; 16]>()?),
    };
    let address = SocketAddr::new(ip, port);
    Ok(match kind {
        0 | 1 => Record::Plain { public_key: key.public_key(), address },
        _ => Record::Signed(Enr::sign(&key, number.into(), Some(address))),
    })
}

fn key(number: u8) -> NodeKey {
    NodeKey::from_bytes(&[1 + number % 64; 32]).expect("a small number is a key")
}

/// Requests that come and answers to them, in virtual time: none gets above the rate, none is refused who waits as long
/// as is asked of it, and whoever asks is told of thirty nodes at most until its time is over, however often it asks
/// and by what ids. Returns how many requests were let in.
///
/// The input: the seed (1 byte), and operations of a byte, a peer (1 byte) and a number (2 bytes).
pub fn pex_pace(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

/// How long an asker is told of the same nodes.
const LIFETIME: Duration = Duration::from_secs(600);

/// By how much a request may come too early.
const TOLERANCE: Duration = Duration::from_secs(1);

/// More than one asker is told of, with their ids. Making the keys takes longer than all the rest.
static NODES: LazyLock<Vec<(NodeId, NodeAddr)>> = LazyLock::new(|| {
    let node = |number| NodeAddr::new(key(number).public_key(), []);
    (0..50).map(|number| (node(number).node_id(), node(number))).collect()
});

/// What the model knows of an asker.
struct Asker {
    source: Source,
    since: Option<Instant>,
    told: Vec<NodeId>,
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let mut random = Rng::with_seed(input.arbitrary::<u8>()?.into());
    let settings = PexSettings { interval: Duration::from_secs(random.u64(0..100)), ..PexSettings::default() };
    let mut pace = Pace::new(&settings, random.fork());
    let (mut gate, mut answers) = (Gate::default(), Answers::new(LIFETIME));
    let (start, mut passed) = (Instant::now(), Duration::ZERO);
    let (mut let_in, mut latest) = (0u32, None::<Duration>);
    let mut askers = askers();
    while !input.is_empty() {
        let (operation, peer) = (input.arbitrary::<u8>()? % 4, usize::from(input.arbitrary::<u8>()?));
        let number = u16::from_le_bytes(input.arbitrary()?);
        match operation {
            0 => passed += Duration::from_millis(7) * number.into(),
            1 => {
                let has_waited = latest.is_none_or(|latest| passed >= latest + MIN_INTERVAL);
                match gate.enter(start + passed) {
                    Ok(()) => (let_in, latest) = (let_in + 1, Some(passed)),
                    Err(error) => assert!(!has_waited, "R56: {error}"),
                }
                let earned = (passed + TOLERANCE).as_secs() / MIN_INTERVAL.as_secs();
                assert!(u64::from(let_in) <= 1 + earned, "R56: {let_in} requests in {passed:?}");
            }
            2 => {
                let outcome = [Outcome::News, Outcome::NoNews, Outcome::Unanswered][usize::from(number % 3)];
                let wait = pace.after(outcome, number % 2 == 0);
                assert!(wait >= MIN_INTERVAL && wait <= 11 * MAX_INTERVAL, "R56: {wait:?}");
                assert!(outcome == Outcome::Unanswered || wait <= settings.interval.max(MIN_INTERVAL).mul_f64(1.11));
                assert!(pace.first() < Duration::from_secs(1), "R56");
            }
            _ => {
                let mut offered = NODES.clone();
                random.shuffle(&mut offered);
                offered.truncate(usize::from(number % 64));
                let count = usize::from(number / 64 % 32);
                askers[peer % 4].check(&mut answers, peer / 4, offered, count, start + passed);
            }
        }
    }
    Ok(let_in as usize)
}

/// Two of a public network are one asker.
fn askers() -> [Asker; 4] {
    let ips = [None, Some([10, 0, 0, 1]), Some([10, 0, 0, 1]), Some([9, 9, 9, 9])];
    let mut number = 0;
    ips.map(|ip| {
        number += 1;
        let source = Source::Peer { id: NodeId::from_bytes([number; 32]), ip: ip.map(IpAddr::from) };
        Asker { source, since: None, told: Vec::new() }
    })
}

impl Asker {
    fn check(
        &mut self,
        answers: &mut Answers,
        id: usize,
        offered: Vec<(NodeId, NodeAddr)>,
        count: usize,
        now: Instant,
    ) {
        let source = match &self.source {
            // Ids cost nothing where addresses say something.
            Source::Peer { ip: Some(ip), .. } if ip.to_string() == "9.9.9.9" => {
                Source::Peer { id: NodeId::from_bytes([id as u8; 32]), ip: Some(*ip) }
            }
            other => other.clone(),
        };
        if self.since.is_none_or(|since| now >= since + LIFETIME) {
            (self.since, self.told) = (Some(now), Vec::new());
        }
        let nodes = offered.iter().map(|(_, node)| node.clone()).collect();
        let chosen = answers.choose(&source, nodes, count, now);
        // Those that were told before come first, and in the order in which they were.
        let before = self.told.iter().filter_map(|id| offered.iter().find(|(other, _)| other == id));
        let others = offered.iter().filter(|(id, _)| !self.told.contains(id));
        let room = MAX_RECORDS - self.told.len();
        let expected: Vec<&(NodeId, NodeAddr)> = before.chain(others.take(room)).take(count).collect();
        assert!(chosen.iter().eq(expected.iter().map(|(_, node)| node)), "R56: {chosen:?}");
        let new: Vec<NodeId> = expected.iter().map(|(id, _)| *id).filter(|id| !self.told.contains(id)).collect();
        self.told.extend(new);
        assert!(self.told.len() <= MAX_RECORDS, "R56");
    }
}
