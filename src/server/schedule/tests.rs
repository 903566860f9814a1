mod day;
mod random;
mod sequences;

use super::super::backoff::ExponentialBackoff;
use super::*;
use crate::NodeKey;

const SECOND: Duration = Duration::from_secs(1);

/// The longest time of the default backoff.
const CAP: Duration = Duration::from_secs(600);

fn schedule(limits: DialLimits, seed: u64) -> Schedule {
    Schedule::new(limits, Arc::new(ExponentialBackoff::default()), fastrand::Rng::with_seed(seed))
}

fn address(port: u16) -> Address {
    Address::Ip(([10, 0, 0, 1], port).into())
}

fn nodes(count: u8) -> Vec<NodeAddr> {
    let node = |byte| {
        let key = NodeKey::from_bytes(&[byte; 32]).expect("no small number is zero or past the order");
        NodeAddr::new(key.public_key(), [address(byte.into())])
    };
    (1..=count).map(node).collect()
}

impl Schedule {
    /// All dials that begin within a time, and what the wakes come to.
    fn dials_within(&mut self, now: &mut Instant, time: Duration) -> Vec<Dial> {
        let end = *now + time;
        let mut dials = Vec::new();
        loop {
            let due = self.poll(*now);
            dials.extend(due.dials);
            match due.wake {
                Some(wake) if wake <= end => {
                    assert!(wake > *now, "R51: never asked to wake in the past");
                    *now = wake;
                }
                _ => break,
            }
        }
        *now = end;
        dials
    }

    /// The only dial that begins within a time, and after how long.
    fn next_dial(&mut self, now: &mut Instant) -> (Dial, Duration) {
        let start = *now;
        loop {
            let due = self.poll(*now);
            if let Some(dial) = due.dials.first() {
                return (dial.clone(), *now - start);
            }
            *now = due.wake.expect("something waits to be dialled");
        }
    }

    fn check(&self) {
        let waiting = self.nodes.iter().filter(|(_, node)| node.due.is_some() && node.purpose().is_some());
        assert_eq!(waiting.count(), self.queues.iter().map(BTreeSet::len).sum::<usize>(), "R51: no duplicates");
        for (purpose, queue) in Purpose::ALL.into_iter().zip(&self.queues) {
            for (due, _, id) in queue {
                let node = &self.nodes[id];
                assert_eq!((node.due, node.purpose()), (Some(*due), Some(purpose)), "R51");
                assert!(node.is_idle(), "R51: waiting, being dialled or a peer: one of them");
            }
            let dialling = self.nodes.values().filter(|node| node.dialling == Some(purpose)).count();
            assert_eq!(dialling, self.dialling[purpose as usize], "R51");
        }
        let places = self.nodes.values().filter(|node| node.has_place).count();
        assert_eq!(places, self.outbound, "R53");
        let persistent = self.nodes.values().filter(|node| node.is(Purpose::Persistent)).count();
        assert_eq!(persistent, self.persistent, "R46");
    }
}

#[test]
fn persistent_peers_pass_the_limit_and_are_redialled_until_removed() {
    let mut now = Instant::now();
    let mut schedule = schedule(DialLimits { outbound: 1, ..DialLimits::default() }, 1);
    let nodes = nodes(5);
    for node in &nodes[..3] {
        assert_eq!(schedule.add(node, Purpose::Persistent, now), Taken::Waiting, "R52");
    }
    for node in &nodes[3..] {
        assert_eq!(schedule.add(node, Purpose::Dynamic, now), Taken::Waiting, "R52");
    }
    assert!(schedule.is_persistent(&nodes[0].node_id()) && !schedule.is_persistent(&nodes[3].node_id()), "R53");
    let dials = schedule.dials_within(&mut now, SECOND);
    let count = |purpose| dials.iter().filter(|dial| dial.purpose == purpose).count();
    assert_eq!(
        [count(Purpose::Persistent), count(Purpose::Dynamic)],
        [3, 1],
        "R46, R53: only dynamic peers are limited"
    );
    assert_eq!(schedule.poll(now), Due::default(), "R51: nothing to wake for while there is no place");
    for dial in &dials {
        schedule.dial_connected(&dial.id, &dial.node.addresses[0], now);
    }
    assert_eq!(schedule.wanted(now), 0, "R51: no candidate is of use");
    schedule.set_limits(DialLimits { outbound: 3, ..DialLimits::default() }, now);
    assert_eq!(schedule.wanted(now), 3, "R67: two for each free place, and one is there");
    let id = nodes[0].node_id();
    for _ in 0..100 {
        now += 2 * STABLE;
        schedule.peer_dropped(&id, STABLE, Loss::Ended, now);
        let dials = schedule.dials_within(&mut now, 2 * SECOND);
        let dial = dials.iter().find(|dial| dial.id == id).expect("R46: it is redialled");
        schedule.dial_connected(&dial.id, &dial.node.addresses[0], now);
    }
    assert!(schedule.remove(&id, now) && !schedule.is_persistent(&id), "R46");
    schedule.peer_dropped(&id, STABLE, Loss::Ended, now);
    let dials = schedule.dials_within(&mut now, CAP);
    assert!(dials.iter().all(|dial| dial.id != id), "R46: until it is removed");
    schedule.check();
}

#[test]
fn each_kind_is_dialled_in_its_own_way() {
    let mut now = Instant::now();
    let mut schedule = schedule(DialLimits { outbound: 0, ..DialLimits::default() }, 2);
    let nodes = nodes(3);
    let id = nodes[0].node_id();
    assert_eq!(schedule.add(&nodes[0], Purpose::Feeler, now), Taken::Waiting, "R53");
    assert_eq!(schedule.add(&nodes[1], Purpose::Feeler, now + SECOND / 2), Taken::Waiting, "R53");
    let dials = schedule.dials_within(&mut now, SECOND);
    assert_eq!(dials.len(), 1, "R53: one feeler at once");
    assert_eq!((dials[0].id, dials[0].purpose), (id, Purpose::Feeler), "R53: though there is no place for a peer");
    assert_eq!(schedule.add(&nodes[0], Purpose::Asked, now), Taken::Waiting, "R53: a feeler leads to no peer");
    schedule.dial_connected(&id, &address(1), now);
    let dial = schedule.poll(now).dials.remove(0);
    assert_eq!((dial.id, dial.purpose), (id, Purpose::Asked), "R52: what is asked for does not rest");
    assert_eq!(schedule.add(&nodes[0], Purpose::Asked, now), Taken::Dialling, "R52: a second dial joins the first");
    schedule.dial_connected(&id, &address(1), now);
    assert_eq!(schedule.add(&nodes[0], Purpose::Asked, now), Taken::Connected, "R52");
    schedule.peer_dropped(&id, SECOND, Loss::Ended, now);
    assert_eq!(schedule.add(&nodes[0], Purpose::Dynamic, now), Taken::Resting, "R50: it has answered a moment ago");
    now += REST;
    assert_eq!(schedule.add(&nodes[0], Purpose::Dynamic, now), Taken::Waiting, "R50: 35 s later it may be dialled");
    assert!(schedule.knows(&id, now), "R51");
    schedule.useless(&id, now);
    assert_eq!(schedule.add(&nodes[0], Purpose::Dynamic, now), Taken::Resting, "R51: it shares nothing");
    schedule.peer_accepted(&nodes[2], now);
    assert_eq!(schedule.add(&nodes[2], Purpose::Persistent, now), Taken::Connected, "R51: one connection for an id");
    schedule.check();
}

#[test]
fn the_backoff_begins_anew_only_after_a_minute_of_connection() {
    let mut now = Instant::now();
    let mut schedule = schedule(DialLimits::default(), 3);
    let node = &nodes(1)[0];
    let id = node.node_id();
    schedule.add(node, Purpose::Persistent, now);
    for expected in [0u32, 1, 2, 4, 8, 16, 32, 64] {
        let (_, waited) = schedule.next_dial(&mut now);
        let range = expected * SECOND..=expected * SECOND.mul_f64(1.11);
        assert!(range.contains(&waited), "R49, R50: {waited:?}, and not {expected} s");
        schedule.dial_failed(&id, false, &[address(1)], now);
    }
    schedule.next_dial(&mut now);
    schedule.dial_connected(&id, &address(1), now);
    now += STABLE - SECOND;
    schedule.peer_dropped(&id, STABLE - SECOND, Loss::Ended, now);
    let (_, waited) = schedule.next_dial(&mut now);
    assert!(waited >= 256 * SECOND, "R50: not after less than a minute, {waited:?}");
    schedule.dial_connected(&id, &address(1), now);
    now += STABLE;
    schedule.peer_dropped(&id, STABLE, Loss::Ended, now);
    let (_, waited) = schedule.next_dial(&mut now);
    assert!(waited < 2 * SECOND, "R50: after a minute, {waited:?}");
}

#[test]
fn a_node_that_answers_is_left_alone_for_35_seconds() {
    let node = &nodes(1)[0];
    let id = node.node_id();
    for purpose in [Purpose::Persistent, Purpose::Dynamic] {
        let mut now = Instant::now();
        let mut schedule = schedule(DialLimits::default(), 4);
        schedule.add(node, purpose, now);
        for round in 0..20 {
            let (dial, waited) = schedule.next_dial(&mut now);
            assert_eq!(dial.purpose, purpose, "R53");
            assert!(round == 0 || waited >= REST, "H68, R50: {waited:?}");
            assert!(waited <= CAP, "H68: but not for ever, {waited:?}");
            if round % 2 == 0 {
                schedule.dial_connected(&id, &address(1), now);
                schedule.peer_dropped(&id, Duration::ZERO, Loss::Refused, now);
            } else {
                schedule.dial_failed(&id, true, &[address(1)], now);
            }
        }
    }
}

#[test]
fn a_node_is_given_up_after_the_deadline_unless_it_is_persistent() {
    let backoff = Arc::new(ExponentialBackoff::default().give_up(100 * SECOND));
    let mut schedule = Schedule::new(DialLimits::default(), backoff, fastrand::Rng::with_seed(5));
    let (mut now, nodes) = (Instant::now(), nodes(2));
    schedule.add(&nodes[0], Purpose::Persistent, now);
    schedule.add(&nodes[1], Purpose::Dynamic, now);
    let mut counts = [0; 2];
    for _ in 0..20 {
        for dial in schedule.dials_within(&mut now, CAP / 4) {
            counts[usize::from(dial.purpose == Purpose::Dynamic)] += 1;
            schedule.dial_failed(&dial.id, false, &[], now);
        }
    }
    assert!(counts[0] >= 10 && counts[1] == 2, "R50: only the persistent one is dialled on: {counts:?}");
    assert_eq!(schedule.nodes.len(), 1, "R50: the other one is forgotten");
    assert_eq!(schedule.wanted(now), 32, "R51: another one would be of use");
    assert_eq!(schedule.add(&nodes[1], Purpose::Dynamic, now), Taken::Waiting, "R50: it may be offered again");
    let (_, _) = schedule.next_dial(&mut now);
    schedule.dial_connected(&nodes[1].node_id(), &address(2), now);
    schedule.peer_dropped(&nodes[1].node_id(), SECOND, Loss::Useless, now);
    now += USELESS_REST - SECOND;
    assert_eq!(schedule.add(&nodes[1], Purpose::Dynamic, now), Taken::Resting, "R50: it is useless");
}

#[test]
fn who_was_of_no_use_is_dialled_soon_when_made_persistent() {
    let (mut now, nodes) = (Instant::now(), nodes(1));
    let mut schedule = schedule(DialLimits::default(), 9);
    schedule.peer_accepted(&nodes[0], now);
    schedule.peer_dropped(&nodes[0].node_id(), SECOND, Loss::Useless, now);
    assert_eq!(schedule.add(&nodes[0], Purpose::Persistent, now), Taken::Waiting, "R46");
    let (dial, after) = schedule.next_dial(&mut now);
    assert_eq!(dial.purpose, Purpose::Persistent, "R46");
    assert!(after <= REST + PACE, "R46 R50: not in an hour, as one of many: {after:?}");
}

#[test]
fn what_the_application_asks_for_begins_before_what_is_overdue() {
    let (mut now, nodes) = (Instant::now(), nodes(30));
    let mut schedule = schedule(DialLimits { dials: 2, ..DialLimits::default() }, 9);
    for (place, node) in nodes[..28].iter().enumerate() {
        schedule.add(node, [Purpose::Persistent, Purpose::Dynamic][place % 2], now);
    }
    now += SECOND;
    for node in &nodes[28..] {
        schedule.add(node, Purpose::Asked, now);
    }
    let dials = schedule.poll(now).dials;
    assert_eq!(
        dials.iter().map(|dial| dial.purpose).collect::<Vec<_>>(),
        [Purpose::Asked; 2],
        "R51, R52: without a pause"
    );
    for dial in &dials {
        schedule.dial_failed(&dial.id, false, &[], now);
    }
    let dials = schedule.dials_within(&mut now, SECOND);
    assert!(dials.iter().all(|dial| dial.purpose == Purpose::Persistent), "R46, R51: then persistent peers");
}

#[test]
fn all_addresses_are_handed_out_the_one_that_has_worked_first() {
    let (mut now, mut node) = (Instant::now(), nodes(1).remove(0));
    let mut schedule = schedule(DialLimits::default(), 6);
    schedule.add(&node, Purpose::Persistent, now);
    node.addresses = vec![address(7), address(1)];
    schedule.add(&node, Purpose::Persistent, now);
    let (dial, _) = schedule.next_dial(&mut now);
    assert_eq!(dial.node.addresses, [1, 7].map(address), "R59: one attempt for both");
    schedule.dial_connected(&dial.id, &address(7), now);
    schedule.peer_dropped(&dial.id, STABLE, Loss::Ended, now);
    assert_eq!(schedule.next_dial(&mut now).0.node.addresses, [7, 1].map(address), "R59");
}

#[test]
fn a_persistent_peer_that_is_down_for_an_hour_is_found_within_the_cap() {
    let node = &nodes(1)[0];
    let mut times = Vec::new();
    for seed in 0..200 {
        let mut now = Instant::now();
        let (mut schedule, start) = (schedule(DialLimits::default(), seed), now);
        schedule.add(node, Purpose::Persistent, now);
        while now - start < Duration::from_secs(3600) {
            let (dial, waited) = schedule.next_dial(&mut now);
            assert!(waited <= CAP, "H67: {waited:?}");
            schedule.dial_failed(&dial.id, false, &[], now);
        }
        let back = now;
        schedule.next_dial(&mut now);
        assert!(now - back <= CAP, "H67: it is reconnected within the cap");
        times.push((now - start).as_millis());
    }
    times.sort_unstable();
    assert!(times[199] - times[0] > 60_000, "H67: two hundred nodes do not come back together");
    times.dedup();
    assert!(times.len() > 190, "H67: with jitter");
}

#[test]
fn a_clock_that_jumps_makes_neither_a_burst_nor_a_panic() {
    let mut now = Instant::now() + 24 * 6 * CAP;
    let mut schedule = schedule(DialLimits { dials: 16, outbound: 100, waiting: 200 }, 7);
    for (place, node) in nodes(200).iter().enumerate() {
        schedule.add(node, [Purpose::Persistent, Purpose::Dynamic][place % 2], now);
    }
    for (jump, is_ahead) in [(6 * CAP, true), (24 * 6 * CAP, false), (24 * 6 * CAP, true)] {
        now = if is_ahead { now + jump } else { now - jump };
        let at_once = schedule.poll(now).dials;
        assert!(at_once.len() <= 1, "R51: what is overdue does not begin at once");
        let dials = schedule.dials_within(&mut now, PACE);
        assert!(dials.len() <= 16, "R51: {}", dials.len());
        let later = schedule.dials_within(&mut now, CAP);
        assert!(at_once.len() + dials.len() + later.len() <= 16, "R51: parallel dials are capped");
        for dial in at_once.iter().chain(&dials).chain(&later) {
            schedule.dial_failed(&dial.id, false, &[], now);
        }
        schedule.check();
    }
    let far = now + 365 * 24 * 6 * CAP;
    assert!(schedule.poll(far).dials.len() <= 1, "R51: a machine suspended for a year");
    schedule.peer_dropped(&nodes(1)[0].node_id(), SECOND, Loss::Ended, now - 6 * CAP);
}

#[test]
fn candidates_are_bounded_and_those_that_answer_least_make_room() {
    let mut now = Instant::now();
    let mut schedule = schedule(DialLimits { waiting: 8, ..DialLimits::default() }, 8);
    let nodes = nodes(20);
    let taken: Vec<_> = nodes.iter().map(|node| schedule.add(node, Purpose::Dynamic, now)).collect();
    assert_eq!(taken.iter().filter(|taken| **taken == Taken::Waiting).count(), 8, "R51: bounded");
    assert_eq!(taken[8], Taken::Full, "R51");
    for dial in schedule.dials_within(&mut now, SECOND) {
        schedule.dial_failed(&dial.id, false, &[], now);
    }
    assert_eq!(schedule.add(&nodes[8], Purpose::Dynamic, now), Taken::Waiting, "R51: a fresh one takes the place");
    assert_eq!(schedule.nodes.len(), 8, "R51: of one that has failed");
    schedule.check();
}

#[test]
fn one_node_more_than_there_are_places_is_dialled_when_they_go_round() {
    let (mut schedule, mut now) = (schedule(DialLimits { outbound: 2, ..DialLimits::default() }, 1), Instant::now());
    let nodes = nodes(5);
    for node in &nodes {
        schedule.add(node, Purpose::Dynamic, now);
    }
    let connect = |schedule: &mut Schedule, dials: &[Dial], now| {
        for dial in dials {
            schedule.dial_connected(&dial.id, &dial.node.addresses[0], now);
        }
    };
    let dials = schedule.dials_within(&mut now, SECOND);
    assert_eq!(dials.len(), 2, "the limit");
    connect(&mut schedule, &dials, now);
    assert!(schedule.surplus().is_empty() && schedule.wanted(now) == 0);
    schedule.rotate();
    let more = schedule.dials_within(&mut now, SECOND);
    assert_eq!(more.len(), 1, "one above the limit, and not another");
    connect(&mut schedule, &more, now);
    assert_eq!(schedule.surplus().len(), 3, "one of these has to leave");
    schedule.peer_dropped(&dials[0].id, 2 * STABLE, Loss::Ended, now);
    assert!(schedule.surplus().is_empty());
    assert!(schedule.dials_within(&mut now, SECOND).is_empty(), "there is no place for another");
    schedule.check();
}
