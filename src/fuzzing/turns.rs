//! Whose turn it is to write.

use arbitrary::{Result, Unstructured};

use super::choice;
use crate::peer::drr::RoundRobin;

/// What one turn adds for each unit of weight, told a second time.
const QUANTUM: i64 = 1024;

/// The queues of protocols that share one connection: a turn goes to one that has a message, none that has waits for
/// ever, and two that have had messages all along have sent bytes by their weights, but for a turn and the largest
/// message of each. Returns how many turns were granted.
///
/// The input: how many queues (1 byte), their weights (1 byte each), and operations: messages come for a queue (their
/// number and their size), or some are sent.
pub fn round_robin(data: &[u8]) -> usize {
    run(&mut Unstructured::new(data)).unwrap_or(0)
}

/// More queues there are none.
const QUEUES: usize = 5;

#[derive(Clone, Default)]
struct Queue {
    weight: i64,
    messages: Vec<i64>,
    /// After how many turns this one and some other had messages, and have had them since then.
    busy_since: Option<usize>,
    largest: i64,
}

fn run(input: &mut Unstructured<'_>) -> Result<usize> {
    let mut queues = vec![Queue::default(); 1 + usize::from(choice(input, QUEUES as u8)?)];
    for queue in &mut queues {
        queue.weight = 1 + i64::from(input.arbitrary::<u8>()?);
    }
    let mut turns = RoundRobin::new(queues.iter().map(|queue| queue.weight as u16));
    // What each has sent after so many turns.
    let mut history = vec![[0; QUEUES]];
    while !input.is_empty() && history.len() < 20_000 {
        let (operation, count) = (choice(input, 8)?, 1 + choice(input, 64)?);
        if operation < 5 {
            let queue = usize::from(operation) % queues.len();
            let size = 1 + (i64::from(u16::from_be_bytes(input.arbitrary()?)) << choice(input, 8)?);
            let queue = &mut queues[queue];
            queue.messages.extend(std::iter::repeat_n(size, count.into()));
            queue.largest = queue.largest.max(size);
        } else {
            for _ in 0..count {
                let Some((turn, size)) = send(&mut turns, &mut queues, history.len() - 1) else { break };
                let mut sent = history[history.len() - 1];
                sent[turn] += size;
                history.push(sent);
                check_shares(&queues, &history);
            }
        }
    }
    Ok(history.len() - 1)
}

/// Sends a message of the queue whose turn it is: which queue that was, and how large the message.
fn send(turns: &mut RoundRobin, queues: &mut [Queue], time: usize) -> Option<(usize, i64)> {
    let busy = queues.iter().filter(|queue| !queue.messages.is_empty()).count();
    for queue in queues.iter_mut() {
        let has_rival = busy > 1 && !queue.messages.is_empty();
        queue.busy_since = has_rival.then(|| queue.busy_since.unwrap_or(time));
    }
    let Some(turn) = turns.next(|queue| !queues[queue].messages.is_empty()) else {
        assert_eq!(busy, 0, "nobody is sent though there are messages");
        return None;
    };
    let size = queues[turn].messages.pop().expect("a turn goes to a queue that has messages");
    // As what a message takes on the wire is known only later.
    turns.charge(turn, size + 7);
    turns.charge(turn, -7);
    Some((turn, size))
}

/// What two queues have sent while both had messages.
fn check_shares(queues: &[Queue], history: &[[i64; QUEUES]]) {
    let now = history[history.len() - 1];
    for (one, first) in queues.iter().enumerate() {
        for (other, second) in queues.iter().enumerate().skip(one + 1) {
            let (Some(since), Some(too)) = (first.busy_since, second.busy_since) else { continue };
            let then = history[since.max(too)];
            // In turns: what each has sent for every unit of its weight.
            let [left, right] = [(one, first), (other, second)].map(|(at, queue)| (now[at] - then[at]) / queue.weight);
            let slack = |queue: &Queue| 2 * (QUANTUM + queue.largest / queue.weight + 1);
            assert!((left - right).abs() <= slack(first) + slack(second), "R17: {left} and {right}");
        }
    }
}
