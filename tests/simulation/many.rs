//! Many nodes that know one: they find each other, and do so again after what parts them.

use std::time::Duration;

use capmux::{Direction, EventKind, ServerBuilder};
use tokio::time::sleep;

use crate::world::{Line, MINUTE, World, node_addr, seed_or};

/// How many peers a node looks for.
const OUTBOUND: usize = 4;

/// The longest wait of the backoff by default: ten minutes, and a tenth more.
const BACKOFF: Duration = Duration::from_secs(660);

const DAY: i64 = 24 * 3600;

/// A node like any other.
fn node(builder: ServerBuilder) -> ServerBuilder {
    builder.max_peers(12).max_outbound(OUTBOUND).bootnodes([node_addr(0)])
}

/// The one that all know, which has a place for everybody.
fn bootnode(builder: ServerBuilder) -> ServerBuilder {
    builder.max_peers(256).max_inbound(250).max_outbound(OUTBOUND)
}

async fn network(seed: u64, machines: usize) -> World {
    let mut world = World::new(seed, machines);
    world.start(0, bootnode).await;
    for number in 1..machines {
        world.start(number, node).await;
    }
    world
}

fn degree(world: &World, number: usize) -> usize {
    world.server(number).peers().iter().filter(|peer| peer.direction() == Direction::Outbound).count()
}

/// Whether all hold together, without the bootnode, and have as many peers as they look for. The bootnode is
/// everybody's peer already.
fn is_whole(world: &World) -> bool {
    let running = world.running();
    world.components([0]).len() == 1 && running.iter().all(|number| *number == 0 || degree(world, *number) >= OUTBOUND)
}

#[tokio::test(start_paused = true)]
async fn two_hundred_nodes_that_know_one_find_each_other_and_again_after_half_an_hour_of_partition() {
    let world = network(seed_or(1), 200).await;
    let found = world.until("R57: 200 nodes find each other", 15 * MINUTE, is_whole).await;
    world.part(100..200);
    sleep(30 * MINUTE).await;
    assert_eq!(world.components([]), [100, 100], "each side holds together, and nothing crosses");
    world.network.heal();
    let one = |world: &World| world.components([0]).len() == 1;
    let healed = world.until("R49: one component after a partition", 2 * BACKOFF, one).await;
    eprintln!("found after {found:?}, healed after {healed:?}, {} events", world.trace().len());
}

/// All that happens in a network that is parted for half an hour, in which nodes crash and clocks jump.
async fn story(seed: u64) -> Vec<Line> {
    let mut world = network(seed, 40).await;
    sleep(5 * MINUTE).await;
    world.part(20..40);
    world.set_clock(3, DAY);
    sleep(30 * MINUTE).await;
    world.network.heal();
    for number in 5..10 {
        world.crash(number);
    }
    sleep(5 * MINUTE).await;
    for number in 5..10 {
        world.start(number, node).await;
    }
    sleep(5 * MINUTE).await;
    world.trace()
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_trace() {
    let seed = seed_or(2);
    // Nonces, ephemeral keys and paddings differ. Nothing but the number of bytes depends on them, and delays do not
    // depend on that.
    let (one, other) = (story(seed).await, story(seed).await);
    let difference = one.iter().zip(&other).find(|(one, other)| one != other);
    assert!(difference.is_none(), "seed {seed}: {difference:?}");
    assert_eq!(one.len(), other.len(), "seed {seed}");
    assert_ne!(one, story(seed + 1).await, "another seed, another trace");
}

#[tokio::test(start_paused = true)]
async fn a_fifth_that_crashes_comes_back_by_its_saved_books() {
    let mut world = network(seed_or(3), 50).await;
    world.until("50 nodes find each other", 10 * MINUTE, is_whole).await;
    for number in 1..=10 {
        world.crash(number);
    }
    // The bootnode, too: nobody needs it who has a book.
    world.crash(0);
    sleep(10 * MINUTE).await;
    assert_eq!(world.components([]).len(), 1, "the others hold together");
    for number in 1..=10 {
        world.start(number, |builder| builder.max_peers(12).max_outbound(OUTBOUND)).await;
    }
    world.until("R55: they find others without a bootnode", BACKOFF, is_whole).await;
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_by_a_day_causes_no_burst_of_dials() {
    let world = network(seed_or(4), 40).await;
    world.until("40 nodes find each other", 10 * MINUTE, is_whole).await;
    let is_dial = |line: &Line| matches!(line.kind, EventKind::Added | EventKind::DialFailed);
    let quiet = world.time();
    sleep(10 * MINUTE).await;
    let usual = world.count(quiet, is_dial);
    for (number, offset) in [(1, DAY), (2, -DAY), (3, 30 * DAY), (4, -30 * DAY), (0, DAY)] {
        world.set_clock(number, offset);
    }
    let jumped = world.time();
    sleep(10 * MINUTE).await;
    let after = world.count(jumped, is_dial);
    assert!(after <= usual + usual / 2 + 20, "R49: {usual} dials in ten minutes before, {after} after");
    let first = world.count(jumped, |line| is_dial(line) && line.time < jumped + MINUTE && line.node < 5);
    assert!(first <= 25, "R49: {first} dials in the minute after the jump");
    assert!(is_whole(&world), "nobody is lost");
}
