//! Any operations in any order.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Operation {
    Add(usize, usize),
    Remove(usize),
    Useless(usize),
    Connected(usize),
    Failed(usize, bool),
    Accepted(usize),
    Dropped(usize, u64, usize),
    Limits(usize, usize, usize),
    Pass(u64),
    Back(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    let node = 0..24usize;
    prop_oneof![
        8 => (node.clone(), 0..4usize).prop_map(|(node, purpose)| Operation::Add(node, purpose)),
        1 => node.clone().prop_map(Operation::Remove),
        1 => node.clone().prop_map(Operation::Useless),
        6 => node.clone().prop_map(Operation::Connected),
        6 => (node.clone(), any::<bool>()).prop_map(|(node, has_answered)| Operation::Failed(node, has_answered)),
        2 => node.clone().prop_map(Operation::Accepted),
        4 => (node, 0..200u64, 0..3usize).prop_map(|(node, lived, loss)| Operation::Dropped(node, lived, loss)),
        1 => (0..6usize, 0..6usize, 0..12usize).prop_map(|(dials, outbound, waiting)| {
            Operation::Limits(dials, outbound, waiting)
        }),
        8 => (0..700_000u64).prop_map(Operation::Pass),
        1 => (0..10_000_000u64).prop_map(Operation::Back),
    ]
}

fn apply(schedule: &mut Schedule, operation: Operation, nodes: &[NodeAddr], now: &mut Instant) {
    match operation {
        Operation::Add(node, purpose) => {
            schedule.add(&nodes[node], Purpose::ALL[purpose], *now);
        }
        Operation::Remove(node) => {
            schedule.remove(&nodes[node].node_id(), *now);
        }
        Operation::Useless(node) => schedule.useless(&nodes[node].node_id(), *now),
        Operation::Connected(node) => schedule.dial_connected(&nodes[node].node_id(), &address(9), *now),
        Operation::Failed(node, has_answered) => {
            schedule.dial_failed(&nodes[node].node_id(), has_answered, &nodes[node].addresses, *now);
        }
        Operation::Accepted(node) => schedule.peer_accepted(&nodes[node], *now),
        Operation::Dropped(node, lived, loss) => {
            let loss = [Loss::Refused, Loss::Useless, Loss::Ended][loss];
            schedule.peer_dropped(&nodes[node].node_id(), Duration::from_secs(lived), loss, *now);
        }
        Operation::Limits(dials, outbound, waiting) => {
            schedule.set_limits(DialLimits { dials, outbound, waiting }, *now);
        }
        Operation::Pass(millis) => *now += Duration::from_millis(millis),
        Operation::Back(millis) => *now -= Duration::from_millis(millis),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_operations_break_the_bounds(operations in proptest::collection::vec(operation(), 0..200), seed: u64) {
        let nodes = nodes(24);
        let mut now = Instant::now() + 4000 * CAP;
        let mut schedule = schedule(DialLimits { dials: 4, outbound: 3, waiting: 8 }, seed);
        for operation in operations {
            apply(&mut schedule, operation, &nodes, &mut now);
            schedule.check();
            let under_way = schedule.dialling.iter().sum::<usize>();
            let due = schedule.poll(now);
            prop_assert!(due.dials.is_empty() || under_way + due.dials.len() <= schedule.limits.dials, "R51");
            prop_assert!(due.wake.is_none_or(|wake| wake > now), "R51: never in the past");
            prop_assert!(schedule.queues[Purpose::Dynamic as usize].len() <= schedule.limits.waiting, "R51: bounded");
            let begins_dynamic = due.dials.iter().any(|dial| dial.purpose == Purpose::Dynamic);
            prop_assert!(!begins_dynamic || schedule.outbound <= schedule.limits.outbound, "R53");
            for dial in &due.dials {
                prop_assert!(schedule.is_dialling(&dial.id), "R51");
            }
            schedule.check();
        }
        let (waiting, dialled) = drain(&mut schedule, &nodes, now);
        prop_assert_eq!(waiting, dialled, "R46, R51: every persistent node that is no peer is dialled");
    }
}

/// Ends all dials, and lets time pass: how many persistent nodes wait, and how many of them are dialled.
fn drain(schedule: &mut Schedule, nodes: &[NodeAddr], mut now: Instant) -> (usize, usize) {
    schedule.set_limits(DialLimits { dials: 100, ..DialLimits::default() }, now);
    for node in nodes {
        schedule.dial_failed(&node.node_id(), false, &[], now);
    }
    let is_waiting = |node: &&Node| node.is(Purpose::Persistent) && node.peer.is_none();
    let waiting = schedule.nodes.values().filter(is_waiting).count();
    // The clock may have gone back by days since their times were set.
    let dials = schedule.dials_within(&mut now, 4000 * CAP);
    (waiting, dials.iter().filter(|dial| schedule.is_persistent(&dial.id)).count())
}
