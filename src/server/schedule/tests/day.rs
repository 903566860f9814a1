//! A day of a thousand nodes whose peers come and go.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

const DAY: u64 = 24 * 3600 * 1000;

/// The first ones are persistent.
const PERSISTENT: usize = 3;

/// How long a dial takes at most, in milliseconds.
const DIAL: u64 = 15_000;

/// How long a persistent peer waits at most: it may have to wait until the dials before it have ended.
const LONGEST: u64 = CAP.as_secs() * 1000 + 2 * DIAL;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The other end starts or stops.
    Turns,
    DialEnds,
    /// The connection with this number ends, unless it has ended.
    Drops(u64),
    Wake,
}

struct Other {
    node: NodeAddr,
    id: NodeId,
    is_up: bool,
    /// The number of its connection, and since when it is.
    connection: Option<(u64, u64)>,
    /// Since when it waits to be dialled.
    idle: Option<u64>,
    answered: Option<u64>,
}

struct Day {
    others: Vec<Other>,
    schedule: Schedule,
    random: fastrand::Rng,
    start: Instant,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, usize, Step)>>,
    wake: Option<u64>,
    under_way: usize,
    dials: u64,
    connections: u64,
}

impl Day {
    fn new(nodes: &[(NodeAddr, NodeId)], seed: u64) -> Self {
        let start = Instant::now();
        let mut schedule = schedule(DialLimits { dials: 3, outbound: 4, waiting: 8 }, seed);
        let mut queue = BinaryHeap::new();
        let mut others = Vec::new();
        for (place, (node, id)) in nodes.iter().cloned().enumerate() {
            let purpose = if place < PERSISTENT { Purpose::Persistent } else { Purpose::Dynamic };
            schedule.add(&node, purpose, start);
            others.push(Other { node, id, is_up: false, connection: None, idle: Some(0), answered: None });
            queue.push(Reverse((0, place, Step::Turns)));
        }
        let random = fastrand::Rng::with_seed(seed);
        Self { others, schedule, random, start, now: 0, queue, wake: None, under_way: 0, dials: 0, connections: 0 }
    }

    fn time(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    fn after(&mut self, delay: u64, place: usize, step: Step) {
        self.queue.push(Reverse((self.now + delay, place, step)));
    }

    fn run(mut self) -> (u64, u64) {
        self.poll();
        while let Some(Reverse((now, place, step))) = self.queue.pop().filter(|Reverse((now, ..))| *now < DAY) {
            self.now = now;
            match step {
                Step::Turns => self.turns(place),
                Step::DialEnds => self.dial_ends(place),
                Step::Drops(number) => self.drops(place, Some(number)),
                Step::Wake => self.wake = None,
            }
            self.poll();
        }
        for other in &self.others[..PERSISTENT] {
            assert!(other.idle.is_none_or(|since| self.now - since <= LONGEST), "R46: none is forgotten");
        }
        (self.dials, self.connections)
    }

    fn turns(&mut self, place: usize) {
        self.others[place].is_up = !self.others[place].is_up;
        let lasts = self.random.u64(60_000..3 * 3_600_000);
        self.after(lasts, place, Step::Turns);
        if !self.others[place].is_up {
            self.drops(place, None);
        }
    }

    fn drops(&mut self, place: usize, number: Option<u64>) {
        let (now, other) = (self.time(), &mut self.others[place]);
        let Some((_, since)) = other.connection.filter(|(own, _)| number.is_none_or(|number| number == *own)) else {
            return;
        };
        other.connection = None;
        other.idle = Some(self.now);
        self.schedule.peer_dropped(&other.id, Duration::from_millis(self.now - since), Loss::Ended, now);
    }

    fn dial_ends(&mut self, place: usize) {
        let (now, other) = (self.time(), &mut self.others[place]);
        self.under_way -= 1;
        if other.is_up {
            other.answered = Some(self.now);
        }
        if !other.is_up || self.random.u8(..10) == 0 {
            other.idle = Some(self.now);
            return self.schedule.dial_failed(&other.id, other.is_up, &other.node.addresses, now);
        }
        self.connections += 1;
        other.connection = Some((self.connections, self.now));
        self.schedule.dial_connected(&other.id, &other.node.addresses[0], now);
        let lasts = if self.random.bool() { self.random.u64(..30_000) } else { self.random.u64(..4 * 3_600_000) };
        self.after(lasts, place, Step::Drops(self.connections));
    }

    fn poll(&mut self) {
        let due = self.schedule.poll(self.time());
        for dial in due.dials {
            self.begins(&dial);
        }
        if let Some(wake) = due.wake {
            // The next full millisecond.
            let wake = u64::try_from((wake - self.start).as_millis()).expect("a day is short") + 1;
            if self.wake.is_none_or(|known| known > wake) {
                self.wake = Some(wake);
                self.queue.push(Reverse((wake, 0, Step::Wake)));
            }
        }
    }

    fn begins(&mut self, dial: &Dial) {
        self.under_way += 1;
        self.dials += 1;
        assert!(self.under_way <= 3, "R51: dials at once");
        let place = self.others.iter().position(|other| other.id == dial.id).expect("only these were added");
        let other = &mut self.others[place];
        let idle = other.idle.take().expect("R51: what is no peer and not being dialled waits");
        let waited = self.now - idle;
        assert!(other.answered.is_none_or(|at| self.now - at >= 35_000), "R50: not for 35 s after it has answered");
        assert!(idle == 0 || waited >= 100, "R51: no node is dialled without a pause");
        assert!(place >= PERSISTENT || waited <= LONGEST, "R46, H67: redialled within the cap, after {waited} ms");
        let takes = if other.is_up { self.random.u64(10..1000) } else { self.random.u64(1000..DIAL) };
        self.after(takes, place, Step::DialEnds);
    }
}

#[test]
fn a_day_of_a_thousand_schedules_keeps_all_bounds() {
    let nodes: Vec<_> = nodes(10).into_iter().map(|node| (node.clone(), node.node_id())).collect();
    let (mut dials, mut connections) = (0, 0);
    for seed in 0..1000 {
        let day = Day::new(&nodes, seed).run();
        dials += day.0;
        connections += day.1;
    }
    assert!(
        dials > 200_000 && connections > 50_000,
        "R51: much has happened: {dials} dials, {connections} connections"
    );
}
