//! What the process uses while the soak runs, and whether it grows.

use std::time::Duration;

use serde::Serialize;

/// How long a run must be for growth to be told from chance.
const SHORTEST: Duration = Duration::from_secs(30);

/// What is used at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// Bytes of the heap; only where they are counted.
    pub(super) heap: Option<u64>,
    /// Bytes of memory, with what the allocator keeps; only where the platform tells.
    pub(super) resident: Option<u64>,
    /// Open files and sockets, likewise.
    pub(super) descriptors: Option<u64>,
    /// Tasks of the runtime.
    pub(super) tasks: Option<u64>,
}

impl Sample {
    /// Of this process, now.
    pub(super) fn take() -> Self {
        Self {
            heap: heap(),
            resident: capmux_perf::process::resident_bytes().ok(),
            descriptors: descriptors(),
            tasks: u64::try_from(tokio::runtime::Handle::current().metrics().num_alive_tasks()).ok(),
        }
    }
}

#[cfg(feature = "heap")]
fn heap() -> Option<u64> {
    u64::try_from(crate::HEAP.allocated()).ok()
}

#[cfg(not(feature = "heap"))]
fn heap() -> Option<u64> {
    None
}

fn descriptors() -> Option<u64> {
    let listed = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // The folder itself is one of them.
    u64::try_from(listed).ok()?.checked_sub(1)
}

/// The samples of a run.
#[derive(Debug, Clone)]
pub(super) struct Samples {
    before: Sample,
    during: Vec<(Duration, Sample)>,
}

/// How one resource was used: medians, so that chance does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Use {
    /// Before the first node was started.
    pub(super) before: u64,
    /// In the first third of the run, the warm-up aside, and in the last.
    pub(super) early: Option<u64>,
    pub(super) late: Option<u64>,
    /// When everything was shut down.
    pub(super) after: u64,
}

/// All of them; `None` where it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Uses {
    pub(super) heap_bytes: Option<Use>,
    pub(super) resident_bytes: Option<Use>,
    pub(super) descriptors: Option<Use>,
    pub(super) tasks: Option<Use>,
}

/// By how much something may differ.
#[derive(Debug, Clone, Copy)]
struct Slack {
    name: &'static str,
    /// Of the earlier figure, in percent, and beside that: from early to late.
    percent: u64,
    flat: u64,
    /// From before to after, for each thread, and [`MOST_LEFT`] for all; `None` where the allocator decides.
    after: Option<u64>,
}

const MIB: u64 = 1024 * 1024;
/// So much may be left in the end at most, however many threads there are: 50 peers keep no more of them than this busy
/// at a time, and on a machine with many cores a slack without bound would hide what is a leak on a small one.
const MOST_LEFT: u64 = 16 * MIB;
/// Of the heap, each thread keeps the buffers of its last read and its last write.
const HEAP: Slack = Slack { name: "the heap", percent: 10, flat: 2 * MIB, after: Some(2 * MIB) };
const RESIDENT: Slack = Slack { name: "resident memory", percent: 20, flat: 16 * MIB, after: None };
const DESCRIPTORS: Slack = Slack { name: "descriptors", percent: 10, flat: 8, after: Some(0) };
const TASKS: Slack = Slack { name: "tasks", percent: 10, flat: 24, after: Some(0) };

impl Samples {
    pub(super) fn new(before: Sample) -> Self {
        Self { before, during: Vec::new() }
    }

    pub(super) fn before(&self) -> Sample {
        self.before
    }

    /// Adds a sample that was taken so long after the beginning.
    pub(super) fn add(&mut self, at: Duration, sample: Sample) {
        self.during.push((at, sample));
    }

    /// What was used, when nothing is left that uses it.
    pub(super) fn uses(&self, ran: Duration, after: Sample) -> Uses {
        let thirds = self.thirds(ran);
        let of = |field: fn(&Sample) -> Option<u64>| {
            let median = |samples: &[Sample]| median(samples.iter().filter_map(field).collect());
            let (early, late) = thirds.as_ref().map(|[early, late]| (median(early), median(late))).unwrap_or_default();
            Some(Use { before: field(&self.before)?, early, late, after: field(&after)? })
        };
        Uses {
            heap_bytes: of(|sample| sample.heap),
            resident_bytes: of(|sample| sample.resident),
            descriptors: of(|sample| sample.descriptors),
            tasks: of(|sample| sample.tasks),
        }
    }

    /// The first and the last third of what follows the warm-up: a minute, or a fifth of a run that is short.
    fn thirds(&self, ran: Duration) -> Option<[Vec<Sample>; 2]> {
        if ran < SHORTEST {
            return None;
        }
        let warm_up = (ran / 5).min(Duration::from_secs(60));
        let third = (ran - warm_up) / 3;
        let between = |from, to| {
            let inside = self.during.iter().filter(|(at, _)| (from..to).contains(at));
            inside.map(|(_, sample)| *sample).collect()
        };
        Some([between(warm_up, warm_up + third), between(ran - third, Duration::MAX)])
    }
}

impl Uses {
    /// What was not given back, or grows, in a process with so many threads.
    pub(super) fn leaks(&self, threads: u64) -> Vec<String> {
        let Self { heap_bytes, resident_bytes, descriptors, tasks } = self;
        let all = [(heap_bytes, HEAP), (resident_bytes, RESIDENT), (descriptors, DESCRIPTORS), (tasks, TASKS)];
        all.into_iter().filter_map(|(used, slack)| slack.broken_by(used.as_ref()?, threads)).collect()
    }

    /// What could not be judged, for people.
    pub(super) fn unjudged(&self) -> Vec<String> {
        let Self { heap_bytes, resident_bytes, descriptors, tasks } = self;
        let all = [
            (heap_bytes, "the heap, whose bytes a build with the feature \"heap\" counts"),
            (resident_bytes, "resident memory, of which the platform tells nothing"),
            (descriptors, "descriptors, of which the platform tells nothing"),
            (tasks, "tasks, of which the runtime tells nothing"),
        ];
        let unknown = all.into_iter().filter(|(used, _)| used.is_none()).map(|(_, what)| what.to_owned());
        let growth = format!("growth, which takes a run of {} s", SHORTEST.as_secs());
        unknown.chain((!self.show_growth()).then_some(growth)).collect()
    }

    /// Whether growth could be judged.
    pub(super) fn show_growth(&self) -> bool {
        self.tasks.is_some_and(|used| used.early.is_some())
    }
}

impl Slack {
    fn broken_by(&self, used: &Use, threads: u64) -> Option<String> {
        let Self { name, percent, flat, after } = *self;
        let Use { before, early, late, after: left } = *used;
        if let (Some(early), Some(late)) = (early, late)
            && late > early + early * percent / 100 + flat
        {
            return Some(format!("{name}: {late} late in the run, {early} early"));
        }
        let is_left = after.is_some_and(|slack| left > before + threads.saturating_mul(slack).min(MOST_LEFT));
        is_left.then(|| format!("{name}: {left} after the end, {before} before the start"))
    }
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of ten minutes with samples that `heap` and `descriptors` make of the second, and what is left of both.
    fn leaks(heap: impl Fn(u64) -> u64, descriptors: impl Fn(u64) -> u64, left: [u64; 2]) -> Vec<String> {
        let sample = |heap, descriptors| Sample {
            heap: Some(heap),
            resident: None,
            descriptors: Some(descriptors),
            tasks: Some(1),
        };
        let mut samples = Samples::new(sample(MIB, 10));
        for second in 0..600 {
            samples.add(Duration::from_secs(second), sample(heap(second), descriptors(second)));
        }
        let uses = samples.uses(Duration::from_secs(600), sample(left[0], left[1]));
        assert!(uses.resident_bytes.is_none() && uses.show_growth());
        uses.leaks(2)
    }

    #[test]
    fn what_grows_is_a_leak_and_what_sways_is_none() {
        let sways = |second: u64| 40 * MIB + second % 7 * 5 * MIB;
        let grows_at_first = |second: u64| sways(second) + second.min(60) * MIB;
        assert_eq!(leaks(grows_at_first, |second| 100 + second % 20, [2 * MIB, 10]), Vec::<String>::new());
        let heap = leaks(|second| sways(second) + second * 32 * 1024, |_| 100, [MIB, 10]);
        assert!(heap.len() == 1 && heap[0].starts_with("the heap: "), "{heap:?}");
        let descriptors = leaks(sways, |second| 100 + second / 10, [MIB, 10]);
        assert_eq!(descriptors, ["descriptors: 151 late in the run, 115 early"]);
    }

    #[test]
    fn what_is_left_at_the_end_is_a_leak() {
        assert_eq!(leaks(|_| MIB, |_| 10, [MIB, 11]), ["descriptors: 11 after the end, 10 before the start"]);
        assert_eq!(leaks(|_| MIB, |_| 10, [5 * MIB, 9]), Vec::<String>::new(), "what the threads keep");
        assert_eq!(leaks(|_| MIB, |_| 10, [6 * MIB, 9]).len(), 1);
    }

    #[test]
    fn what_threads_keep_is_bounded() {
        let left = |threads, after| HEAP.broken_by(&Use { before: MIB, early: None, late: None, after }, threads);
        assert_eq!(left(8, 17 * MIB), None);
        for threads in [8, 256, u64::MAX] {
            assert!(left(threads, 17 * MIB + 1).is_some(), "{threads} threads");
        }
    }

    #[test]
    fn a_short_run_tells_of_what_is_left_alone() {
        let sample = |tasks| Sample { tasks: Some(tasks), ..Sample::default() };
        let mut samples = Samples::new(sample(1));
        (0..10).for_each(|second| samples.add(Duration::from_secs(second), sample(1000 * second)));
        let uses = samples.uses(Duration::from_secs(10), sample(1));
        assert_eq!(uses.tasks, Some(Use { before: 1, early: None, late: None, after: 1 }));
        assert_eq!((uses.leaks(2), uses.show_growth()), (vec![], false));
        let unjudged = uses.unjudged();
        for (what, begin) in unjudged.iter().zip(["the heap, ", "resident memory, ", "descriptors, ", "growth, "]) {
            assert!(what.starts_with(begin), "{unjudged:?}");
        }
        assert_eq!(unjudged.len(), 4, "{unjudged:?}");
        let uses = samples.uses(Duration::from_secs(10), sample(2));
        assert_eq!(uses.leaks(2), ["tasks: 2 after the end, 1 before the start"]);
    }
}
