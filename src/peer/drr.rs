//! Deficit round robin: whose turn it is to write, so that bytes are shared by weight.

/// What one turn adds to the credit of a queue, in bytes for each unit of its weight.
const QUANTUM: i64 = 1024;

/// The turns of a fixed number of queues.
///
/// A queue sends while it has credit. The last message of its turn may be larger than what is left, and the debt is
/// carried over: sizes need not be known beforehand, and are corrected when they were only estimated. A queue without
/// rivals is not charged, and a debt lasts only while there are rivals.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    queues: Box<[Account]>,
    turn: usize,
    /// Whether the queue whose turn it is has been given its quantum.
    is_credited: bool,
}

#[derive(Debug)]
struct Account {
    quantum: i64,
    credit: i64,
}

impl RoundRobin {
    pub(crate) fn new(weights: impl Iterator<Item = u16>) -> Self {
        let queues = weights.map(|weight| Account { quantum: QUANTUM * i64::from(weight), credit: 0 }).collect();
        Self { queues, turn: 0, is_credited: false }
    }

    /// The queue that may send a message now; `None` when none has any.
    pub(crate) fn next(&mut self, has_messages: impl Fn(usize) -> bool) -> Option<usize> {
        let mut busy = (0..self.queues.len()).filter(|queue| has_messages(*queue));
        let first = busy.next()?;
        if busy.next().is_none() {
            self.queues.iter_mut().for_each(|account| account.credit = 0);
            (self.turn, self.is_credited) = (first, false);
            return Some(first);
        }
        loop {
            let account = &mut self.queues[self.turn];
            if has_messages(self.turn) {
                if !std::mem::replace(&mut self.is_credited, true) {
                    account.credit += account.quantum;
                }
                if account.credit > 0 {
                    return Some(self.turn);
                }
            } else {
                account.credit = account.credit.min(0);
            }
            self.turn = (self.turn + 1) % self.queues.len();
            self.is_credited = false;
        }
    }

    /// Charges a queue for what it has sent. A correction of an earlier charge can be negative.
    pub(crate) fn charge(&mut self, queue: usize, bytes: i64) {
        self.queues[queue].credit -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that each queue has sent when `total` are, all of them always having messages of these sizes.
    fn shares(weights: &[u16], sizes: &[i64], total: i64) -> Vec<i64> {
        let mut turns = RoundRobin::new(weights.iter().copied());
        let mut sent = vec![0; weights.len()];
        while sent.iter().sum::<i64>() < total {
            let queue = turns.next(|_| true).unwrap();
            turns.charge(queue, sizes[queue]);
            sent[queue] += sizes[queue];
        }
        sent
    }

    #[test]
    fn bytes_are_shared_by_weight_whatever_the_sizes() {
        for sizes in [[1000, 1000, 1000], [32, 65_536, 1 << 20], [1 << 20, 300, 32], [16 << 20, 1 << 10, 1 << 20]] {
            let total = 16_000_000_000;
            let sent = shares(&[10, 5, 1], &sizes, total);
            for (sent, weight) in sent.iter().zip([10, 5, 1]) {
                let share = *sent as f64 / total as f64 * 16.0 / f64::from(weight);
                assert!((0.95..=1.05).contains(&share), "R17: {share} of its share with {sizes:?}");
            }
        }
    }

    #[test]
    fn a_queue_without_rivals_runs_up_no_debt() {
        let mut turns = RoundRobin::new([1, 1].into_iter());
        for _ in 0..1000 {
            assert_eq!(turns.next(|queue| queue == 0), Some(0));
            turns.charge(0, 1 << 20);
        }
        assert_eq!(turns.next(|_| false), None);
        let mut waited = 0;
        while turns.next(|_| true) == Some(1) {
            turns.charge(1, 1000);
            waited += 1000;
        }
        assert!(waited <= 2 << 20, "R17: at most its last message is held against it, not {waited}");
    }

    #[test]
    fn none_starves() {
        let mut turns = RoundRobin::new([1000, 1].into_iter());
        let mut before = 0;
        while turns.next(|_| true) == Some(0) {
            turns.charge(0, 1000);
            before += 1000;
        }
        assert!(before <= 1001 * QUANTUM, "R17: after a round at the latest, not {before}");
    }
}
