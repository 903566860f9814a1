//! A few nodes, and what they promise each other.

use std::time::Duration;

use capmux::book::Source;
use capmux::{Backoff, EventKind, Protocol};
use tokio::time::sleep;

use crate::world::{Line, MINUTE, World, node_addr, seed_or};

fn at(node: usize, kind: EventKind, other: usize) -> impl Fn(&Line) -> bool {
    move |line| (line.node, line.kind, line.other) == (node, kind, Some(other))
}

#[tokio::test(start_paused = true)]
async fn a_persistent_peer_that_is_down_for_an_hour_is_back_within_the_cap() {
    let mut world = World::new(seed_or(1), 2);
    world.start(0, |builder| builder).await;
    world.start(1, |builder| builder.persistent(node_addr(0))).await;
    let together = |world: &World| world.peers(0) == [1] && world.peers(1) == [0];
    world.until("R46: they connect", MINUTE, together).await;
    sleep(2 * MINUTE).await;
    world.crash(0);
    let down = world.time();
    sleep(60 * MINUTE).await;
    let dials = world.count(down, at(1, EventKind::DialFailed, 0));
    assert!((10..=20).contains(&dials), "R49: {dials} dials in an hour");
    world.start(0, |builder| builder).await;
    world.until("H67: back within the cap and its jitter", Duration::from_secs(661), together).await;
}

#[tokio::test(start_paused = true)]
async fn who_says_too_many_peers_is_left_alone_for_35_seconds() {
    let mut world = World::new(seed_or(2), 3);
    world.start(0, |builder| builder.max_peers(1).max_inbound(1)).await;
    world.start(1, |builder| builder.persistent(node_addr(0))).await;
    world.until("the place is taken", MINUTE, |world| world.peers(0) == [1]).await;
    world.start(2, |builder| builder.persistent(node_addr(0))).await;
    let begin = world.time();
    sleep(30 * MINUTE).await;
    let is_dial = at(2, EventKind::DialFailed, 0);
    let dials: Vec<Duration> = world.trace().iter().filter(|line| is_dial(line)).map(|line| line.time).collect();
    assert!((4..=30).contains(&dials.len()), "H68: it is tried again now and then since {begin:?}: {dials:?}");
    let shortest = dials.windows(2).map(|pair| pair[1] - pair[0]).min();
    assert!(shortest >= Some(Duration::from_secs(35)), "H68: {dials:?}");
}

#[tokio::test(start_paused = true)]
async fn one_connection_for_each_pair_when_all_dial_all_at_once() {
    const NODES: usize = 12;
    let mut world = World::new(seed_or(3), NODES);
    for number in 0..NODES {
        world.start(number, |builder| builder.max_outbound(0)).await;
    }
    for from in 0..NODES {
        for to in (0..NODES).filter(|to| *to != from) {
            world.server(from).add_peer(node_addr(to)).expect("there is room");
        }
    }
    let all = |world: &World| (0..NODES).all(|number| world.peers(number).len() == NODES - 1);
    world.until("R45: all pairs are connected", 5 * MINUTE, all).await;
    sleep(5 * MINUTE).await;
    assert!(all(&world), "R45: and stay so");
    assert_eq!(world.network.connections(), NODES * (NODES - 1) / 2, "R45: by one connection each");
    for number in 0..NODES {
        for peer in world.server(number).peers() {
            let other = (0..NODES).find(|other| world.server(*other).id() == peer.id()).expect("one of them");
            let back = world.server(other).peer(&world.server(number).id()).expect("it has the other end");
            assert_ne!(peer.direction(), back.direction(), "R45: it is the same at both ends");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bootnodes_are_dialled_only_while_there_are_no_peers() {
    let mut world = World::new(seed_or(4), 3);
    world.start(0, |builder| builder).await;
    world.start(1, |builder| builder).await;
    world.book(2).with(|book, now| book.offer(&node_addr(1), &Source::Local, now)).expect("there is room");
    world.start(2, |builder| builder.bootnodes([node_addr(0)])).await;
    sleep(30 * MINUTE).await;
    assert_eq!(world.peers(2), [1], "R57: it has a peer");
    assert_eq!(world.count(Duration::ZERO, at(2, EventKind::Added, 0)), 0, "R57: nobody asks a bootnode then");
    world.crash(1);
    world.until("R57: without peers it asks the bootnode", 2 * MINUTE, |world| world.peers(2) == [0]).await;
}

/// Every hundred milliseconds: who does nothing in between is found out.
#[derive(Debug)]
struct Eager;

impl Backoff for Eager {
    fn delay(&self, _attempt: u64, _random: f64) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_finds_nobody_computes_next_to_nothing() {
    let mut world = World::new(seed_or(5), 2);
    world.start(1, |builder| builder.bootnodes([node_addr(0)])).await;
    sleep(MINUTE).await;
    let before = world.looks(1);
    sleep(60 * MINUTE).await;
    let looks = world.looks(1) - before;
    assert!(looks < 2_000, "R51: the book was looked at {looks} times in an hour");
}

#[tokio::test(start_paused = true)]
async fn whatever_the_backoff_says_dials_are_a_moment_apart() {
    let mut world = World::new(seed_or(6), 2);
    world.start(1, |builder| builder.persistent(node_addr(0)).backoff(Eager)).await;
    let begin = world.time();
    sleep(MINUTE).await;
    let dials = world.count(begin, at(1, EventKind::DialFailed, 0));
    assert!((100..=600).contains(&dials), "R49: {dials} dials in a minute");
}

/// Answers requests for nodes with nodes that are not there, thirty at a time, as `docs/pex.md` says.
fn liar() -> Protocol {
    Protocol::from_fn("pex", 1, 3, |_peer, mut channel| async move {
        let mut told = 0;
        while let Some(message) = channel.recv().await {
            if message.code != 0 {
                continue;
            }
            let id: u64 = capmux::rlp::Rlp::new(&message.payload).val_at(0)?;
            let mut answer = capmux::rlp::RlpStream::new_list(2);
            answer.append(&id).begin_list(30);
            for number in told..told + 30 {
                let [.., high, low] = usize::to_be_bytes(number);
                let key = crate::world::key(100_000 + number).public_key().to_bytes();
                answer.begin_list(3).append(&&[150, high, low, 1][..]).append(&30_303_u16).append(&&key[..]);
            }
            told += 30;
            channel.send(1, answer.out().to_vec()).await?;
        }
        Ok(())
    })
}

#[tokio::test(start_paused = true)]
async fn liars_who_tell_of_thousands_of_nodes_do_not_part_the_others() {
    const HONEST: usize = 30;
    let mut world = World::new(seed_or(7), HONEST + 5);
    world.start(0, |builder| builder.max_peers(64).max_inbound(60).max_outbound(4)).await;
    for liar_number in HONEST..HONEST + 5 {
        world.start_with(liar_number, liar(), |builder| builder.bootnodes([node_addr(0)])).await;
    }
    for number in 1..HONEST {
        world.start(number, |builder| builder.max_peers(12).max_outbound(4).bootnodes([node_addr(0)])).await;
    }
    sleep(60 * MINUTE).await;
    let components = world.components((HONEST..HONEST + 5).chain([0]));
    assert_eq!(components, [HONEST - 1], "H75, H78: the honest hold together without the liars and the bootnode");
    for number in 1..HONEST {
        let known = world.book(number).with(|book, now| {
            book.iter(now).filter(|known| (0..HONEST).any(|other| known.node == node_addr(other))).count()
        });
        assert!(known > HONEST / 2, "H75: node {number} still knows {known} honest ones");
    }
    // With what is left in its book, and the bootnode, a node finds its way back.
    world.crash(5);
    world.start(5, |builder| builder.max_peers(12).max_outbound(4).bootnodes([node_addr(0)])).await;
    let is_back = |world: &World| world.peers(5).iter().any(|peer| *peer < HONEST);
    world.until("H78: a poisoned book at restart", 2 * MINUTE, is_back).await;
}
