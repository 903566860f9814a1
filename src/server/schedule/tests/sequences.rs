//! Events in an odd order.

use super::*;

#[test]
fn who_is_removed_while_being_dialled_takes_a_place() {
    let (mut now, nodes) = (Instant::now(), nodes(2));
    let mut schedule = schedule(DialLimits { outbound: 1, ..DialLimits::default() }, 1);
    schedule.add(&nodes[0], Purpose::Persistent, now);
    let (dial, _) = schedule.next_dial(&mut now);
    assert!(schedule.remove(&dial.id, now), "R46");
    schedule.check();
    assert_eq!(schedule.wanted(now), 0, "R53: it is dialled like any other");
    schedule.peer_accepted(&nodes[0], now);
    assert_eq!(schedule.wanted(now), 0, "R53: while it is dialled");
    schedule.dial_connected(&dial.id, &address(1), now);
    assert_eq!(schedule.wanted(now), 0, "R53: and is a peer like any other");
    schedule.add(&nodes[1], Purpose::Dynamic, now);
    assert_eq!(schedule.dials_within(&mut now, CAP), [], "R53: there is one place");
    schedule.peer_dropped(&dial.id, STABLE, Loss::Ended, now);
    assert_eq!(schedule.dials_within(&mut now, SECOND).len(), 1, "R53: it is free again");
    schedule.check();
}

#[test]
fn who_is_persistent_takes_no_place_whatever_happens_while_being_dialled() {
    let (mut now, nodes) = (Instant::now(), nodes(1));
    let mut schedule = schedule(DialLimits { outbound: 1, ..DialLimits::default() }, 2);
    schedule.add(&nodes[0], Purpose::Dynamic, now);
    let (dial, _) = schedule.next_dial(&mut now);
    schedule.add(&nodes[0], Purpose::Persistent, now);
    schedule.peer_accepted(&nodes[0], now);
    assert_eq!(schedule.outbound, 0, "R46: past the limit");
    schedule.peer_dropped(&dial.id, SECOND, Loss::Ended, now);
    assert_eq!(schedule.outbound, 0, "R46: past the limit");
    schedule.dial_failed(&dial.id, false, &[], now);
    schedule.check();
    schedule.next_dial(&mut now);
}

#[test]
fn who_has_answered_rests_though_it_has_come_and_gone_since() {
    let (mut now, nodes) = (Instant::now(), nodes(1));
    let mut schedule = schedule(DialLimits::default(), 3);
    schedule.add(&nodes[0], Purpose::Dynamic, now);
    let (dial, _) = schedule.next_dial(&mut now);
    schedule.dial_failed(&dial.id, true, &[], now);
    // It is forgotten, and then dials this node.
    schedule.remove(&dial.id, now);
    schedule.peer_accepted(&nodes[0], now);
    schedule.add(&nodes[0], Purpose::Persistent, now);
    schedule.peer_dropped(&dial.id, SECOND, Loss::Ended, now);
    let (_, waited) = schedule.next_dial(&mut now);
    assert!(waited >= REST, "H68: {waited:?}");
}

#[test]
fn only_the_end_of_a_peer_counts() {
    let (mut now, nodes) = (Instant::now(), nodes(1));
    let mut schedule = schedule(DialLimits::default(), 4);
    schedule.add(&nodes[0], Purpose::Persistent, now);
    let (dial, _) = schedule.next_dial(&mut now);
    schedule.dial_connected(&dial.id, &address(1), now);
    now += 2 * REST;
    for _ in 0..9 {
        schedule.peer_dropped(&dial.id, STABLE, Loss::Ended, now);
    }
    let (_, waited) = schedule.next_dial(&mut now);
    assert!(waited < 2 * SECOND, "R50: told twice, it is no failure: {waited:?}");
    schedule.dial_failed(&dial.id, false, &[], now);
    for _ in 0..9 {
        schedule.peer_dropped(&dial.id, SECOND, Loss::Ended, now);
    }
    let (_, waited) = schedule.next_dial(&mut now);
    assert!(waited < 2 * SECOND, "R50: it was no peer: {waited:?}");
}

#[test]
fn among_those_that_are_due_the_first_to_come_is_dialled_first() {
    let (now, nodes) = (Instant::now(), nodes(16));
    let mut schedule = schedule(DialLimits::default(), 5);
    for node in &nodes {
        schedule.add(node, Purpose::Asked, now);
    }
    let dialled: Vec<_> = schedule.poll(now).dials.iter().map(|dial| dial.id).collect();
    assert_eq!(dialled, nodes.iter().map(NodeAddr::node_id).collect::<Vec<_>>(), "R51, R55: a queue");
}

#[test]
fn who_has_come_by_itself_is_not_asked_for_any_more() {
    let (mut now, nodes) = (Instant::now(), nodes(1));
    let mut schedule = schedule(DialLimits::default(), 6);
    let id = nodes[0].node_id();
    schedule.add(&nodes[0], Purpose::Feeler, now);
    schedule.next_dial(&mut now);
    schedule.add(&nodes[0], Purpose::Asked, now);
    schedule.peer_accepted(&nodes[0], now);
    schedule.dial_failed(&id, true, &[], now);
    schedule.peer_dropped(&id, SECOND, Loss::Ended, now);
    assert_eq!(schedule.dials_within(&mut now, CAP), [], "R52: it has been a peer, as was asked");
    schedule.check();
}

#[derive(Debug)]
struct Overflow;

impl Backoff for Overflow {
    fn delay(&self, attempt: u64, _random: f64) -> Duration {
        u32::try_from(attempt).map(|attempt| SECOND * 1000u32.pow(attempt)).expect("a defect")
    }
}

#[test]
fn a_backoff_that_panics_loses_no_node() {
    let (mut now, nodes) = (Instant::now(), nodes(1));
    let mut schedule = Schedule::new(DialLimits::default(), Arc::new(Overflow), fastrand::Rng::with_seed(7));
    schedule.add(&nodes[0], Purpose::Persistent, now);
    for _ in 0..10 {
        let (dial, _) = schedule.next_dial(&mut now);
        schedule.dial_failed(&dial.id, false, &[], now);
        schedule.check();
    }
    assert_eq!(schedule.next_dial(&mut now).1, FALLBACK, "R46: it is dialled for ever");
}
