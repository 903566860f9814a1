//! The dial schedule, driven by a list of operations in virtual time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};

use super::{KEYS, choice};
use crate::node::{Address, NodeAddr, NodeId};
use crate::server::Backoff;
use crate::server::schedule::{Dial, DialLimits, Loss, Purpose, REST, Schedule, Taken};

/// How many nodes there are.
const NODES: usize = 16;

/// The most addresses that are kept of a node, and dialled.
const MAX_ADDRESSES: usize = 8;

/// How long a connection must have lasted for the backoff to begin anew, told a second time.
const STABLE: Duration = Duration::from_secs(60);

/// A dial schedule: no more dials at once than allowed, each of a node that is neither dialled nor a peer, at addresses
/// that somebody told, not before the backoff and the rest are over, and never is the time to wake in the past. In the
/// end every persistent node is dialled that is no peer. Returns how many dials began.
///
/// The input: a seed (1 byte), and operations of a byte, a node and what belongs to it.
pub fn dial_schedule(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let mut driver = Driver::new(input.arbitrary::<u8>()?.into());
    while !input.is_empty() {
        driver.step(input)?;
        driver.poll();
        driver.check();
    }
    driver.drain();
    Ok(driver.dials)
}

/// A second more with each failure, and an hour without an end.
#[derive(Debug)]
struct Growing;

impl Backoff for Growing {
    fn delay(&self, attempt: u64, random: f64) -> Duration {
        Duration::from_secs(1 + attempt.min(3600)).mul_f64(1.0 + random / 10.0)
    }

    fn give_up_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(3600))
    }
}

/// A node as the model knows it.
struct Known {
    id: NodeId,
    addresses: BTreeSet<Address>,
    dialling: Option<Purpose>,
    is_peer: bool,
    is_persistent: bool,
    /// How many times it has failed since it is persistent, and before when it is not dialled again.
    failures: u64,
    not_before: Instant,
    /// The same, because it has answered.
    rests_until: Instant,
}

struct Driver {
    schedule: Schedule,
    limits: DialLimits,
    nodes: Vec<Known>,
    keys: Vec<NodeAddr>,
    now: Instant,
    /// Times mean nothing any more.
    has_gone_back: bool,
    dials: usize,
}

impl Driver {
    fn new(seed: u64) -> Self {
        let limits = DialLimits { dials: 4, outbound: 3, waiting: 8 };
        let now = Instant::now() + 100 * STABLE;
        let keys: Vec<NodeAddr> = KEYS[..NODES].iter().map(|key| NodeAddr::new(key.public_key(), [])).collect();
        let known = |node: &NodeAddr| Known {
            id: node.node_id(),
            addresses: BTreeSet::new(),
            dialling: None,
            is_peer: false,
            is_persistent: false,
            failures: 0,
            not_before: now,
            rests_until: now,
        };
        Self {
            schedule: Schedule::new(limits, Arc::new(Growing), fastrand::Rng::with_seed(seed)),
            limits,
            nodes: keys.iter().map(known).collect(),
            keys,
            now,
            has_gone_back: false,
            dials: 0,
        }
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (operation, node) = (choice(input, 14)?, usize::from(choice(input, NODES as u8)?));
        match operation {
            0..4 => self.add(node, Purpose::ALL[usize::from(operation)], input)?,
            4 => self.remove(node),
            5 => self.schedule.useless(&self.nodes[node].id, self.now),
            6 | 7 => self.connected(node),
            8 => {
                let has_answered = choice(input, 2)? == 1;
                self.failed(node, has_answered);
            }
            9 => {
                let peer = self.offer(node, input)?;
                self.schedule.peer_accepted(&peer, self.now);
                self.nodes[node].is_peer = true;
            }
            10 => self.dropped(node, Duration::from_secs(choice(input, 200)?.into()), choice(input, 3)?),
            11 => {
                let [dials, outbound, waiting] = [choice(input, 6)?, choice(input, 6)?, choice(input, 12)?];
                self.limits = DialLimits { dials: dials.into(), outbound: outbound.into(), waiting: waiting.into() };
                self.schedule.set_limits(self.limits, self.now);
            }
            12 => self.now += Duration::from_millis(11) * u16::from_be_bytes(input.arbitrary()?).into(),
            _ if node == 0 => {
                let time = Duration::from_millis(50) * u16::from_be_bytes(input.arbitrary()?).into();
                self.now = self.now.checked_sub(time).unwrap_or(self.now);
                self.has_gone_back = true;
            }
            _ => self.schedule.rotate(),
        }
        Ok(())
    }

    /// The node at up to ten of the addresses that it may have.
    fn offer(&mut self, node: usize, input: &mut Unstructured<'_>) -> Result<NodeAddr> {
        let (first, count) = (choice(input, 20)?, 1 + choice(input, 10)?);
        let addresses: Vec<Address> =
            (first..first + count).map(|port| Address::Ip(([10, 0, 0, 1], port.into()).into())).collect();
        self.nodes[node].addresses.extend(addresses.iter().cloned());
        Ok(NodeAddr::new(self.keys[node].public_key, addresses))
    }

    fn add(&mut self, node: usize, purpose: Purpose, input: &mut Unstructured<'_>) -> Result<()> {
        let offer = self.offer(node, input)?;
        let persistent = self.nodes.iter().filter(|known| known.is_persistent).count();
        let taken = self.schedule.add(&offer, purpose, self.now);
        let known = &mut self.nodes[node];
        if purpose == Purpose::Persistent {
            let is_full = !known.is_persistent && persistent >= self.limits.waiting;
            assert_eq!(taken == Taken::Full, is_full, "R46, R51: as many as may be");
            known.is_persistent |= !is_full;
        }
        let is_right = match taken {
            Taken::Connected => known.is_peer,
            Taken::Dialling => !known.is_peer && known.dialling.is_some_and(|dialling| dialling != Purpose::Feeler),
            Taken::Waiting => !known.is_peer && known.dialling.is_none_or(|dialling| dialling == Purpose::Feeler),
            Taken::Resting => matches!(purpose, Purpose::Dynamic | Purpose::Feeler),
            Taken::Full => true,
        };
        assert!(is_right, "R52: {taken:?}");
        Ok(())
    }

    fn remove(&mut self, node: usize) {
        let known = &mut self.nodes[node];
        assert_eq!(self.schedule.remove(&known.id, self.now), known.is_persistent, "R46");
        (known.is_persistent, known.failures, known.not_before) = (false, 0, self.now);
    }

    fn connected(&mut self, node: usize) {
        let known = &mut self.nodes[node];
        let address = known.addresses.first().cloned().unwrap_or(Address::Ip(([10, 0, 0, 1], 1).into()));
        self.schedule.dial_connected(&known.id, &address, self.now);
        let Some(purpose) = known.dialling.take() else { return };
        known.is_peer |= purpose != Purpose::Feeler;
        known.rests_until = self.now + REST;
        if purpose == Purpose::Feeler && !known.is_peer {
            self.wait(node);
        }
    }

    fn failed(&mut self, node: usize, has_answered: bool) {
        let known = &mut self.nodes[node];
        let failed: Vec<Address> = known.addresses.iter().take(2).cloned().collect();
        self.schedule.dial_failed(&known.id, has_answered, &failed, self.now);
        if known.dialling.take().is_none() {
            return;
        }
        if has_answered {
            known.rests_until = self.now + REST;
        }
        if !known.is_peer {
            self.wait(node);
            self.nodes[node].failures += u64::from(self.nodes[node].is_persistent);
        }
    }

    fn dropped(&mut self, node: usize, lived: Duration, loss: u8) {
        let known = &mut self.nodes[node];
        let loss = [Loss::Refused, Loss::Useless, Loss::Ended][usize::from(loss)];
        self.schedule.peer_dropped(&known.id, lived, loss, self.now);
        if !std::mem::take(&mut known.is_peer) {
            return;
        }
        if loss == Loss::Refused {
            known.rests_until = self.now + REST;
        }
        if lived >= STABLE {
            known.failures = 0;
        }
        if known.dialling.is_none() {
            self.wait(node);
            self.nodes[node].failures += u64::from(lived < STABLE && self.nodes[node].is_persistent);
        }
    }

    /// A persistent node is not dialled again before the backoff has passed, for as often as it has failed at least.
    fn wait(&mut self, node: usize) {
        let known = &mut self.nodes[node];
        if known.is_persistent {
            known.not_before = self.now + Growing.delay(known.failures, 0.0);
        }
    }

    fn poll(&mut self) {
        let under_way = self.nodes.iter().filter(|known| known.dialling.is_some()).count();
        let due = self.schedule.poll(self.now);
        assert!(due.wake.is_none_or(|wake| wake > self.now), "R51: never in the past");
        let all = under_way + due.dials.len();
        assert!(due.dials.is_empty() || all <= self.limits.dials, "R51: parallel dials are capped");
        for dial in &due.dials {
            self.begin(dial);
        }
        self.dials += due.dials.len();
        let by_themselves = due.dials.iter().filter(|dial| dial.purpose != Purpose::Asked).count();
        assert!(by_themselves <= 2, "R51: what is overdue does not begin at once");
    }

    fn begin(&mut self, dial: &Dial) {
        let feelers = self.nodes.iter().filter(|known| known.dialling == Some(Purpose::Feeler)).count();
        assert!(dial.purpose != Purpose::Feeler || feelers == 0, "R53: one feeler at once");
        let Some(known) = self.nodes.iter_mut().find(|known| known.id == dial.id) else { panic!("R51: {dial:?}") };
        assert!(known.dialling.is_none() && !known.is_peer, "R51: a node is dialled once: {dial:?}");
        let count = dial.node.addresses.len();
        assert!((1..=MAX_ADDRESSES).contains(&count), "R59: {dial:?}");
        let distinct: BTreeSet<&Address> = dial.node.addresses.iter().collect();
        let are_told = dial.node.addresses.iter().all(|address| known.addresses.contains(address));
        assert!(distinct.len() == count && are_told, "R59: {dial:?}");
        if dial.purpose != Purpose::Asked && !self.has_gone_back {
            assert!(self.now >= known.rests_until, "R50: it has answered a moment ago: {dial:?}");
        }
        if dial.purpose == Purpose::Persistent && !self.has_gone_back {
            assert!(self.now >= known.not_before, "R49: before the backoff is over: {dial:?}");
        }
        known.dialling = Some(dial.purpose);
        let is_dynamic = |known: &&Known| known.dialling == Some(Purpose::Dynamic) && !known.is_persistent;
        let dynamic = self.nodes.iter().filter(is_dynamic).count();
        assert!(
            dial.purpose != Purpose::Dynamic || dynamic <= self.limits.outbound + 1,
            "R53: {dynamic} dynamic dials"
        );
    }

    fn check(&self) {
        for known in &self.nodes {
            assert_eq!(self.schedule.is_dialling(&known.id), known.dialling.is_some(), "R51");
            assert_eq!(self.schedule.is_persistent(&known.id), known.is_persistent, "R46");
            let is_needed = known.dialling.is_some() || known.is_peer || known.is_persistent;
            assert!(!is_needed || self.schedule.knows(&known.id, self.now), "R51");
        }
        assert_eq!(self.schedule.limits(), self.limits);
        let wanted = self.schedule.wanted(self.now);
        assert!(wanted <= self.limits.waiting && wanted <= 2 * (self.limits.outbound + 1), "R67: {wanted}");
        let surplus = self.schedule.surplus();
        assert!(surplus.is_empty() || surplus.len() > self.limits.outbound, "R53");
        let is_peer = |id: &NodeId| self.nodes.iter().any(|known| known.id == *id && known.is_peer);
        assert!(surplus.iter().all(is_peer), "R53: only a peer can leave");
    }

    /// Ends all dials and lets time pass: who is persistent and no peer is dialled.
    fn drain(&mut self) {
        self.limits = DialLimits { dials: 100, ..DialLimits::default() };
        self.schedule.set_limits(self.limits, self.now);
        (0..NODES).for_each(|node| self.failed(node, false));
        for _ in 0..1000 {
            let due = self.schedule.poll(self.now);
            due.dials.iter().for_each(|dial| self.begin(dial));
            let Some(wake) = due.wake else { break };
            assert!(wake > self.now, "R51: never in the past");
            self.now = wake;
        }
        assert_eq!(self.schedule.poll(self.now).wake, None, "R51: it wakes for nothing");
        for known in self.nodes.iter().filter(|known| known.is_persistent) {
            assert!(known.is_peer || known.dialling.is_some(), "R46: a persistent node is dialled");
        }
    }
}
