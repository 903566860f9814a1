//! A model of two ends that dial at once, capmux or one that keeps what reaches its checks first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

/// How many schedules are tried with each kind of other end.
const SCHEDULES: u64 = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Capmux,
    /// It does at once what the rule says.
    Hasty,
    /// It refuses a connection after the encryption handshake or after Hello if there is another, and says so.
    FirstCome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Frame {
    Hello,
    Ping,
    Pong,
    Message,
    AlreadyConnected,
    /// The socket is closed without a word.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Dial,
    Encrypted,
    Arrives(Frame),
    Deadline,
    Lost,
}

/// A connection at one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    None,
    Setup,
    Active,
    Held,
    Over,
}

struct End {
    kind: Kind,
    id: NodeId,
    /// The connection with each number was dialled by the end with that number.
    places: [Place; 2],
    /// What has come before the encryption was ready here.
    early: [Vec<Frame>; 2],
    is_encrypted: [bool; 2],
    collision: Option<Collision>,
}

struct World {
    random: fastrand::Rng,
    start: Instant,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize, usize, Step)>>,
    sequence: u64,
    ends: [End; 2],
    /// When the last frame to each end arrives on each connection: the order is kept.
    last: [[u64; 2]; 2],
    said_connected: [bool; 2],
    longest_delay: u64,
}

impl World {
    fn new(kinds: [Kind; 2], seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let first_is_smaller = random.bool();
        let end = |place: usize| End {
            kind: kinds[place],
            id: NodeId::from_bytes([if (place == 0) == first_is_smaller { 1 } else { 2 }; 32]),
            places: [Place::None; 2],
            early: Default::default(),
            is_encrypted: [false; 2],
            collision: None,
        };
        let longest_delay = [3, 50, 300][random.usize(..3)];
        let mut world = Self {
            ends: [end(0), end(1)],
            random,
            start: Instant::now(),
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            last: [[0; 2]; 2],
            said_connected: [false; 2],
            longest_delay,
        };
        for end in 0..2 {
            let at = world.random.u64(..2 * longest_delay);
            world.schedule(at, end, end, Step::Dial);
        }
        world
    }

    fn schedule(&mut self, at: u64, end: usize, connection: usize, step: Step) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, end, connection, step)));
    }

    fn delay(&mut self) -> u64 {
        1 + self.random.u64(..self.longest_delay)
    }

    fn send(&mut self, from: usize, connection: usize, frame: Frame) {
        let to = 1 - from;
        let at = (self.now + self.delay()).max(self.last[to][connection]);
        self.last[to][connection] = at;
        self.said_connected[connection] |= frame == Frame::AlreadyConnected;
        self.schedule(at, to, connection, Step::Arrives(frame));
    }

    fn run(&mut self) {
        while let Some(Reverse((now, _, end, connection, step))) = self.queue.pop() {
            self.now = now;
            match step {
                Step::Dial => self.dial(end),
                Step::Encrypted => self.encrypted(end, connection),
                Step::Arrives(frame) => self.arrives(end, connection, frame),
                Step::Deadline => {
                    let now = self.start + Duration::from_millis(now);
                    let verdict = self.ends[end].collision.as_ref().and_then(|collision| collision.poll(now));
                    verdict.into_iter().for_each(|kept| self.decide(end, kept));
                }
                Step::Lost => {
                    for end in 0..2 {
                        self.over(end, connection);
                    }
                }
            }
        }
    }

    fn dial(&mut self, end: usize) {
        // Nobody dials a peer.
        if self.find(end, Place::Active).is_some() {
            return;
        }
        for each in 0..2 {
            self.ends[each].places[end] = Place::Setup;
            let at = self.now + self.delay() + self.delay();
            self.schedule(at, each, end, Step::Encrypted);
        }
    }

    fn encrypted(&mut self, end: usize, connection: usize) {
        if self.ends[end].places[connection] != Place::Setup {
            return;
        }
        self.ends[end].is_encrypted[connection] = true;
        if self.ends[end].kind == Kind::FirstCome && self.find(end, Place::Active).is_some() {
            return self.refuse(end, connection);
        }
        self.send(end, connection, Frame::Hello);
        for frame in std::mem::take(&mut self.ends[end].early[connection]) {
            self.arrives(end, connection, frame);
        }
    }

    fn arrives(&mut self, end: usize, connection: usize, frame: Frame) {
        if !self.ends[end].is_encrypted[connection] {
            self.ends[end].early[connection].push(frame);
            return;
        }
        match (self.ends[end].places[connection], frame) {
            (Place::Over | Place::None, _) => {}
            (_, Frame::AlreadyConnected | Frame::Reset) => self.over(end, connection),
            (Place::Setup, _) => self.admit(end, connection),
            (_, Frame::Ping) => {
                self.confirm(end, connection);
                if self.ends[end].places[connection] != Place::Over {
                    self.send(end, connection, Frame::Pong);
                }
            }
            _ => self.confirm(end, connection),
        }
    }

    /// Hello has come.
    fn admit(&mut self, end: usize, connection: usize) {
        let Some(active) = self.find(end, Place::Active) else {
            return self.activate(end, connection);
        };
        if self.ends[end].kind == Kind::FirstCome {
            return self.refuse(end, connection);
        }
        let direction = |number| if number == end { Direction::Outbound } else { Direction::Inbound };
        let now = self.start + Duration::from_millis(self.now);
        let (own, other) = (self.ends[end].id, self.ends[1 - end].id);
        let collision = Collision::new(&own, &other, direction(active), direction(connection), now);
        self.ends[end].places[connection] = Place::Held;
        if self.ends[end].kind == Kind::Hasty {
            return self.decide(end, collision.rule);
        }
        let deadline = (collision.deadline() - self.start).as_millis() as u64;
        self.ends[end].collision = Some(collision);
        self.schedule(deadline, end, connection, Step::Deadline);
        self.send(end, active, Frame::Ping);
        self.send(end, connection, Frame::Ping);
    }

    /// The protocols run: they may have something to say at once.
    fn activate(&mut self, end: usize, connection: usize) {
        self.ends[end].places[connection] = Place::Active;
        if self.random.bool() {
            self.send(end, connection, Frame::Message);
        }
    }

    fn confirm(&mut self, end: usize, connection: usize) {
        let which = if self.ends[end].places[connection] == Place::Held { Which::Held } else { Which::Active };
        let verdict = self.ends[end].collision.as_mut().and_then(|collision| collision.confirmed(which));
        verdict.into_iter().for_each(|kept| self.decide(end, kept));
    }

    fn decide(&mut self, end: usize, kept: Which) {
        self.ends[end].collision = None;
        let (active, held) = (self.find(end, Place::Active), self.find(end, Place::Held));
        let (kept, lost) = if kept == Which::Held { (held, active) } else { (active, held) };
        lost.into_iter().for_each(|lost| self.refuse(end, lost));
        if let Some(kept) = kept.filter(|kept| self.ends[end].places[*kept] == Place::Held) {
            self.activate(end, kept);
        }
    }

    fn refuse(&mut self, end: usize, connection: usize) {
        self.ends[end].places[connection] = Place::Over;
        self.send(end, connection, Frame::AlreadyConnected);
    }

    fn over(&mut self, end: usize, connection: usize) {
        let which = match std::mem::replace(&mut self.ends[end].places[connection], Place::Over) {
            Place::Active => Which::Active,
            Place::Held => Which::Held,
            _ => return,
        };
        if let Some(collision) = &self.ends[end].collision {
            let kept = collision.ended(which);
            self.decide(end, kept);
        }
    }

    fn find(&self, end: usize, place: Place) -> Option<usize> {
        self.ends[end].places.iter().position(|each| *each == place)
    }

    /// What is left at each end, by the numbers of the connections.
    fn left(&self) -> [Vec<usize>; 2] {
        let is_left = |place: Place| matches!(place, Place::Setup | Place::Active | Place::Held);
        [0, 1].map(|end: usize| (0..2).filter(|number| is_left(self.ends[end].places[*number])).collect())
    }
}

fn exactly_one_survives(kinds: [Kind; 2]) {
    let (mut collisions, mut kept_by_rule) = (0, 0);
    for seed in 0..SCHEDULES {
        let mut world = World::new(kinds, seed);
        world.run();
        let [one, other] = world.left();
        assert_eq!(one, other, "H63: both ends keep the same, seed {seed} {kinds:?}");
        assert_eq!(one.len(), 1, "H63: exactly one connection survives, seed {seed} {kinds:?}");
        assert_eq!(world.find(0, Place::Active), world.find(1, Place::Active), "R45: it is a peer, seed {seed}");
        assert!(world.now < 25_000, "R45: it is decided in time, seed {seed}");
        let loser = 1 - one[0];
        if world.ends[0].places[loser] == Place::Over {
            collisions += 1;
            assert!(world.said_connected[loser], "H63: the other is ended with 0x05, seed {seed}");
            assert!(!world.said_connected[one[0]], "H63: the one that is kept is not, seed {seed}");
            let smaller = usize::from(world.ends[1].id < world.ends[0].id);
            kept_by_rule += u64::from(one[0] == smaller);
        }
    }
    assert!(collisions > SCHEDULES / 4, "H63: most schedules have two connections: {collisions}");
    if kinds == [Kind::Capmux; 2] {
        assert_eq!(kept_by_rule, collisions, "R45: the smaller id has dialled it");
    }
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
fn the_rule_alone_is_not_enough_for_an_end_without_it() {
    let survivors = |kinds, seed| {
        let mut world = World::new(kinds, seed);
        world.run();
        world.left().map(|left| left.len())
    };
    let both_lost = (0..1000).filter(|seed| survivors([Kind::Hasty, Kind::FirstCome], *seed) == [0, 0]).count();
    assert!(both_lost > 10, "H63: the model finds what the rule alone loses: {both_lost}");
}

#[test]
fn when_one_connection_is_lost_meanwhile_the_ends_agree_all_the_same() {
    for seed in 0..SCHEDULES / 4 {
        let other = [Kind::Capmux, Kind::FirstCome][usize::from(seed % 2 == 0)];
        let mut world = World::new([Kind::Capmux, other], seed);
        let (at, connection) = (world.random.u64(..5 * world.longest_delay), world.random.usize(..2));
        world.schedule(at, 0, connection, Step::Lost);
        world.run();
        let [one, other] = world.left();
        assert_eq!(one, other, "H63: both ends keep the same, seed {seed}");
        assert!(one.len() <= 1, "H63: at most one survives, seed {seed}");
        if world.said_connected == [false; 2] && world.ends[0].places[1 - connection] != Place::None {
            assert_eq!(one, [1 - connection], "R45: the one that was not lost is kept, seed {seed}");
        }
    }
}

#[test]
fn a_connection_that_is_dead_makes_room_for_one_that_answers() {
    let (small, large) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
    let now = Instant::now();
    for (own, other) in [(small, large), (large, small)] {
        for active in [Direction::Inbound, Direction::Outbound] {
            for held in [Direction::Inbound, Direction::Outbound] {
                let mut collision = Collision::new(&own, &other, active, held, now);
                if collision.confirmed(Which::Held).is_none() {
                    assert_eq!(collision.poll(now), None, "R45: the active one is given time to answer");
                    assert_eq!(collision.poll(collision.deadline()), Some(Which::Held), "R45: it has not");
                }
                let silent = Collision::new(&own, &other, active, active, now);
                assert_eq!(silent.poll(silent.deadline()), Some(Which::Active), "R45: of equals the older is kept");
            }
        }
    }
}
