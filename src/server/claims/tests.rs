//! A model of two ends that dial at once, capmux or one that keeps what reaches its checks first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fastrand::Rng;

use super::*;

/// How many schedules are tried with each kind of other end.
const SCHEDULES: u64 = 100_000;

/// Milliseconds that Hellos may take.
const HELLO: u64 = 5_000;

/// After a dial that failed, or a peer that is gone: so long, and up to as long again.
const BACKOFF: u64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Capmux,
    /// It sends Hello at once, refuses a connection after the encryption handshake or after Hello if there is a peer,
    /// and says so.
    FirstCome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Frame {
    Hello,
    AlreadyConnected,
    /// The socket is closed without a word.
    Closed,
}

/// When, what is due before at the same time, at which end, on which connection, what.
type Due = (u64, u64, usize, usize, Step);

/// What happens, at one end and on the connection with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Dial,
    Forge,
    Encrypted,
    Arrives(Frame),
    Impatient,
    TimedOut,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Setup,
    Peer,
    Over,
}

/// A connection at one end.
#[derive(Debug, Default)]
struct Line {
    place: Place,
    ticket: Option<Ticket>,
    has_sent: bool,
    has_heard: bool,
    was_refused: bool,
    /// When the last frame arrives that is under way to this end.
    last: u64,
}

struct End {
    kind: Kind,
    id: NodeId,
    claims: Claims,
    lines: Vec<Line>,
    /// The connection that is being dialled, until it is known what came of it.
    dial: Option<usize>,
}

struct World {
    ends: [End; 2],
    /// Who has dialled each connection; nobody if it is forged.
    diallers: Vec<Option<usize>>,
    random: Rng,
    now: u64,
    queue: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    longest_delay: u64,
    said_connected: Vec<bool>,
    dials_failed: usize,
    peers_lost: usize,
    settled_at: u64,
}

impl World {
    fn new(kinds: [Kind; 2], seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut ids = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
        if random.bool() {
            ids.reverse();
        }
        let end = |number: usize| End {
            kind: kinds[number],
            id: ids[number],
            claims: Claims::new(ids[number]),
            lines: Vec::new(),
            dial: None,
        };
        let longest_delay = [3, 50, 300][random.usize(..3)];
        let mut world = Self {
            ends: [end(0), end(1)],
            diallers: Vec::new(),
            random,
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            longest_delay,
            said_connected: Vec::new(),
            dials_failed: 0,
            peers_lost: 0,
            settled_at: 0,
        };
        for end in 0..2 {
            let at = world.random.u64(..3 * longest_delay);
            world.schedule(at, end, 0, Step::Dial);
        }
        world
    }

    fn schedule(&mut self, at: u64, end: usize, number: usize, step: Step) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, end, number, step)));
    }

    fn delay(&mut self) -> u64 {
        1 + self.random.u64(..self.longest_delay)
    }

    fn send(&mut self, from: usize, number: usize, frame: Frame) {
        self.said_connected[number] |= frame == Frame::AlreadyConnected;
        if self.diallers[number].is_some() {
            let at = (self.now + self.delay()).max(self.ends[1 - from].lines[number].last);
            self.ends[1 - from].lines[number].last = at;
            self.schedule(at, 1 - from, number, Step::Arrives(frame));
        }
    }

    fn run(&mut self) {
        while let Some(Reverse((now, _, end, number, step))) = self.queue.pop() {
            self.now = now;
            let line = self.ends[end].lines.get(number);
            let is_setup = line.is_some_and(|line| line.place == Place::Setup);
            match step {
                Step::Dial => self.dial(end),
                Step::Forge => self.forge(end),
                Step::Encrypted if is_setup => self.encrypted(end, number),
                Step::Arrives(Frame::Hello) if is_setup => self.hello(end, number),
                Step::Arrives(Frame::AlreadyConnected) => self.over(end, number, true),
                Step::Arrives(Frame::Closed) => self.over(end, number, false),
                Step::Impatient if is_setup => {
                    let ticket = self.ends[end].lines[number].ticket.expect("it is encrypted");
                    self.ends[end].claims.lose_patience(&ticket);
                }
                Step::TimedOut | Step::Lost if is_setup => {
                    self.send(end, number, Frame::Closed);
                    self.over(end, number, false);
                }
                _ => {}
            }
            self.follow(end);
        }
    }

    /// A connection of which there is nothing yet.
    fn connection(&mut self, dialler: Option<usize>) -> usize {
        for end in &mut self.ends {
            end.lines.push(Line::default());
        }
        self.said_connected.push(false);
        self.diallers.push(dialler);
        self.diallers.len() - 1
    }

    fn dial(&mut self, end: usize) {
        let other = self.ends[1 - end].id;
        if self.find_peer(end).is_some() || self.ends[end].dial.is_some() {
            return;
        }
        assert!(self.ends[end].claims.begin_dial(other), "it is not being dialled");
        let number = self.connection(Some(end));
        self.ends[end].dial = Some(number);
        // The transport's handshake, then auth and ack.
        let auth = self.now + self.delay() + self.delay() + self.delay();
        let ack = auth + self.delay();
        self.ends[end].lines[number].last = ack;
        self.schedule(auth, 1 - end, number, Step::Encrypted);
        self.schedule(ack, end, number, Step::Encrypted);
    }

    /// Somebody claims to be the other end, and is silent.
    fn forge(&mut self, end: usize) {
        let number = self.connection(None);
        self.ends[1 - end].lines[number].place = Place::Over;
        self.encrypted(end, number);
    }

    fn encrypted(&mut self, end: usize, number: usize) {
        self.schedule(self.now + HELLO, end, number, Step::TimedOut);
        let other = self.ends[1 - end].id;
        if self.ends[end].kind == Kind::FirstCome {
            if self.find_peer(end).is_some() {
                return self.refuse(end, number);
            }
            self.ends[end].lines[number].has_sent = true;
            return self.send(end, number, Frame::Hello);
        }
        let direction = if self.diallers[number] == Some(end) { Direction::Outbound } else { Direction::Inbound };
        let ticket = self.ends[end].claims.connected(other, direction);
        self.ends[end].lines[number].ticket = Some(ticket);
        if direction == Direction::Outbound {
            self.schedule(self.now + HELLO / 2, end, number, Step::Impatient);
        }
    }

    fn hello(&mut self, end: usize, number: usize) {
        self.ends[end].lines[number].has_heard = true;
        match self.ends[end].lines[number].ticket {
            Some(ticket) => {
                self.ends[end].claims.proved(&ticket);
                self.schedule(self.now + HELLO / 2, end, number, Step::Impatient);
            }
            None if self.find_peer(end).is_some() => self.refuse(end, number),
            None => self.admitted(end, number),
        }
    }

    fn admitted(&mut self, end: usize, number: usize) {
        assert!(self.find_peer(end).is_none(), "R45: one connection with a node");
        self.ends[end].lines[number].place = Place::Peer;
        self.settled_at = self.now;
    }

    fn refuse(&mut self, end: usize, number: usize) {
        self.send(end, number, Frame::AlreadyConnected);
        self.over(end, number, true);
    }

    fn over(&mut self, end: usize, number: usize, was_refused: bool) {
        let place = std::mem::replace(&mut self.ends[end].lines[number].place, Place::Over);
        if place == Place::Over {
            return;
        }
        self.settled_at = self.now;
        let End { claims, lines, .. } = &mut self.ends[end];
        lines[number].was_refused = was_refused;
        if let Some(ticket) = &lines[number].ticket {
            claims.end(ticket);
        }
        if place == Place::Peer {
            self.peers_lost += 1;
            self.redial(end);
        }
    }

    fn redial(&mut self, end: usize) {
        let at = self.now + BACKOFF + self.random.u64(..BACKOFF);
        self.schedule(at, end, 0, Step::Dial);
    }

    /// Does what may be done now on all connections of an end, and tells what came of its dial.
    fn follow(&mut self, end: usize) {
        for number in 0..self.ends[end].lines.len() {
            let line = &self.ends[end].lines[number];
            let (has_sent, has_heard) = (line.has_sent, line.has_heard);
            let is_done = line.place != Place::Setup || has_sent && !has_heard;
            let Some(ticket) = line.ticket.filter(|_| !is_done) else { continue };
            match self.ends[end].claims.verdict(&ticket) {
                Verdict::Turn => {
                    if !std::mem::replace(&mut self.ends[end].lines[number].has_sent, true) {
                        self.send(end, number, Frame::Hello);
                    }
                    if has_heard {
                        assert!(self.ends[end].claims.admit(&ticket), "it has its turn");
                        self.admitted(end, number);
                        // The others are refused.
                        return self.follow(end);
                    }
                }
                Verdict::Wait => {}
                Verdict::Refuse => self.refuse(end, number),
            }
        }
        let Some(line) = self.ends[end].dial.map(|number| &self.ends[end].lines[number]) else { return };
        let (other, is_alone) = (self.ends[1 - end].id, self.find_peer(end).is_none());
        let may_join = line.was_refused && self.ends[end].kind == Kind::Capmux;
        if line.place == Place::Setup || may_join && is_alone && self.ends[end].claims.is_coming(&other) {
            return;
        }
        self.ends[end].dial = None;
        self.ends[end].claims.end_dial(&other);
        if is_alone {
            self.dials_failed += usize::from(self.ends[end].kind == Kind::Capmux);
            self.redial(end);
        }
    }

    fn find_peer(&self, end: usize) -> Option<usize> {
        self.ends[end].lines.iter().position(|line| line.place == Place::Peer)
    }

    /// Exactly one connection is left, which is the peer at both ends, and nothing else is remembered.
    #[track_caller]
    fn assert_one(&self, seed: u64) -> usize {
        let [one, other] = [0, 1].map(|end| self.find_peer(end));
        assert_eq!(one, other, "H63: both ends keep the same, seed {seed}");
        let kept = one.unwrap_or_else(|| panic!("H63: one connection survives, seed {seed}"));
        for end in &self.ends {
            let left = end.lines.iter().filter(|line| line.place != Place::Over).count();
            assert_eq!(left, 1, "H63: exactly one survives, seed {seed}");
            let claims = end.claims.nodes.values().map(Vec::len).sum::<usize>();
            assert_eq!((claims, end.claims.dials()), (usize::from(end.kind == Kind::Capmux), 0), "seed {seed}");
        }
        assert!(!self.said_connected[kept], "H63: it is not refused, seed {seed}");
        kept
    }
}

fn exactly_one_survives(kinds: [Kind; 2]) {
    let (mut met, mut crossed) = (0, 0);
    for seed in 0..SCHEDULES {
        let mut world = World::new(kinds, seed);
        world.run();
        let kept = world.assert_one(seed);
        assert_eq!((world.dials_failed, world.peers_lost), (0, 0), "R45: each dial leads to the peer, seed {seed}");
        assert!(world.settled_at <= 12 * world.longest_delay, "R45: nobody waits for a deadline, seed {seed}");
        if world.diallers.len() == 1 {
            continue;
        }
        met += 1;
        let loser = 1 - kept;
        assert!(world.said_connected[loser], "H63: the other is ended with 0x05, seed {seed}");
        let smaller = usize::from(world.ends[1].id < world.ends[0].id);
        if (0..2).all(|number| world.ends[world.diallers[number].expect("a dial")].lines[number].has_sent) {
            crossed += 1;
            let by_rule = kinds != [Kind::Capmux; 2] || world.diallers[kept] == Some(smaller);
            assert!(by_rule, "R45: of two dials that are both sent Hello, the one of the smaller id, seed {seed}");
        }
    }
    assert!(met > SCHEDULES / 4 && crossed > SCHEDULES / 10, "H63: most schedules have two: {met} {crossed}");
}

#[test]
fn of_two_connections_between_capmux_nodes_exactly_one_survives() {
    exactly_one_survives([Kind::Capmux; 2]);
}

#[test]
fn whatever_an_end_without_the_rule_keeps_is_kept() {
    exactly_one_survives([Kind::Capmux, Kind::FirstCome]);
}

#[test]
fn when_one_connection_is_lost_meanwhile_they_are_connected_within_a_backoff() {
    for seed in 0..SCHEDULES {
        let mut world = World::new([Kind::Capmux, [Kind::Capmux, Kind::FirstCome][(seed % 2) as usize]], seed);
        let (at, number) = (world.random.u64(..6 * world.longest_delay), world.random.usize(..2));
        let end = world.random.usize(..2);
        world.schedule(at, end, number, Step::Lost);
        world.run();
        world.assert_one(seed);
        let limit = 2 * BACKOFF + 24 * world.longest_delay;
        assert!(world.settled_at <= limit, "R45: after {} ms, seed {seed}", world.settled_at);
    }
}

#[test]
fn forged_claims_delay_a_dial_by_half_a_deadline_and_fail_none() {
    let mut delayed = 0;
    for seed in 0..SCHEDULES {
        let other = [Kind::Capmux, Kind::FirstCome][(seed % 2) as usize];
        let mut world = World::new([Kind::Capmux, other], seed);
        for _ in 0..3 {
            let at = world.random.u64(..6 * world.longest_delay);
            let end = if other == Kind::Capmux { world.random.usize(..2) } else { 0 };
            world.schedule(at, end, 0, Step::Forge);
        }
        world.run();
        world.assert_one(seed);
        assert_eq!((world.dials_failed, world.peers_lost), (0, 0), "R45: each dial leads to the peer, seed {seed}");
        delayed += u64::from(world.settled_at > 12 * world.longest_delay);
    }
    assert!(delayed > 100, "H63: some claims come first: {delayed}");
}

#[test]
fn a_peer_is_not_given_away() {
    let [own, other] = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
    let mut claims = Claims::new(own);
    let peer = claims.connected(other, Direction::Inbound);
    assert!(claims.admit(&peer) && !claims.admit(&peer));
    let (inbound, dial) = (claims.connected(other, Direction::Inbound), claims.connected(other, Direction::Outbound));
    assert_eq!(claims.verdict(&dial), Verdict::Refuse, "R45");
    assert_eq!(claims.verdict(&inbound), Verdict::Wait, "R45: who has proved nothing is told nothing");
    claims.lose_patience(&inbound);
    claims.proved(&inbound);
    assert_eq!((claims.verdict(&inbound), claims.verdict(&peer)), (Verdict::Refuse, Verdict::Turn), "R45");
    for ticket in [inbound, dial, peer] {
        claims.end(&ticket);
    }
    assert!(claims.nodes.is_empty(), "nothing is left");
}

#[test]
fn a_turn_is_not_taken_from_who_has_proved_its_key_while_it_had_it() {
    let [own, other] = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
    let mut claims = Claims::new(own);
    let [first, second] = [(); 2].map(|()| claims.connected(other, Direction::Inbound));
    claims.proved(&second);
    assert_eq!([&first, &second].map(|ticket| claims.verdict(ticket)), [Verdict::Turn, Verdict::Wait], "R45");
    claims.proved(&first);
    claims.lose_patience(&second);
    assert_eq!(claims.verdict(&first), Verdict::Turn, "R45: it would wait for another Hello, which never comes");
    assert!(claims.admit(&first), "R45");
}
