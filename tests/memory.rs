//! What large messages leave behind. The counter replaces the allocator of this test alone, and counts by thread: all
//! tasks of a test run on its thread.

mod support;

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use capmux::p2p::MAX_MESSAGE_SIZE;
use capmux::testing::{manual, node, pair};
use capmux::{Channel, Protocol};
use support::{noise, settle, soon};

const MIB: u64 = 1 << 20;

/// Of both ends: twice the largest message and 2 MiB at each.
const PROMISED: u64 = 2 * (2 * MAX_MESSAGE_SIZE as u64 + 2 * MIB);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

/// Sends the message so many times, one at a time, and reads it at the other end.
async fn exchange(from: &Channel, to: &mut Channel, count: usize, payload: Bytes) {
    let size = payload.len();
    for _ in 0..count {
        let receive = async { soon(to.recv()).await.expect("a message").payload.len() };
        let (sent, received) = tokio::join!(from.send(0, payload.clone()), receive);
        assert_eq!((sent, received), (Ok(()), size), "H34");
    }
    settle().await;
    // What is kept for the next message is given back after a silence.
    tokio::time::sleep(Duration::from_secs(20)).await;
}

/// What it takes, and what is left of it while the peers live.
fn cost(count: usize, payload: Bytes) -> AllocationInfo {
    let runtime = runtime();
    let large = |own: Protocol| own.max_message_size(MAX_MESSAGE_SIZE);
    let ((own, mut opened), (other, mut received)) = (manual("aaa", 1, 1), manual("aaa", 1, 1));
    let (pair, from, mut to) = runtime.block_on(async {
        let pair = pair(node().protocol(large(own)), node().protocol(large(other))).await;
        let ((_, from), (_, mut to)) = (opened.next().await, received.next().await);
        exchange(&from, &mut to, 3, noise(1, 1000)).await;
        (pair, from, to)
    });
    let used = measure(|| runtime.block_on(exchange(&from, &mut to, count, payload)));
    assert!(pair.at_first.ending().is_none() && pair.at_second.ending().is_none(), "H34");
    used
}

#[test]
fn a_hundred_times_16_mib_of_zeros_stay_within_the_budget_and_leave_nothing() {
    let size = MAX_MESSAGE_SIZE;
    let used = cost(100, vec![0; size].into());
    assert!(used.bytes_max <= PROMISED, "H34: {used:?} where {PROMISED} are promised");
    assert!(used.bytes_current + size as i64 <= 6 * MIB as i64, "H34: buffers have shrunk: {used:?}");
}

#[test]
fn large_messages_that_do_not_compress_leave_nothing_either() {
    let size = 14_000_000;
    let used = cost(5, noise(1, size));
    assert!(used.bytes_max <= PROMISED, "H34: {used:?} where {PROMISED} are promised");
    assert!(used.bytes_current + size as i64 <= 6 * MIB as i64, "H34: buffers have shrunk: {used:?}");
}

#[test]
fn messages_of_1_mib_leave_no_more_than_the_buffers_of_a_thread() {
    let used = cost(50, vec![0; 1 << 20].into());
    assert!(used.bytes_max <= 8 * MIB, "R43: {used:?}");
    assert!(used.bytes_current <= 4 * MIB as i64, "R43: {used:?}");
}

#[test]
fn small_messages_take_hardly_any_memory() {
    const COUNT: usize = 1000;
    let used = cost(COUNT, vec![0; 200].into());
    assert!(used.bytes_max <= 600 * 1024, "R43: {used:?}");
    assert!(used.count_total <= 12 * COUNT as u64, "R43: both ends and the test: {used:?}");
}
