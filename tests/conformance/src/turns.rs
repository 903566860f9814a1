//! The order in which cases are run.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::case::{Case, Role};
use crate::listen::{Expected, Listener};
use crate::node::Node;
use crate::outcome::{CaseResult, Outcome, Stop};
use crate::visit::Visit;

/// How long the honest connection after a case may take in all.
const ALIVE: Duration = Duration::from_secs(20);

/// What is said of a case behind which no honest connection came about.
pub(crate) const GONE: &str = "afterwards the node is gone";

/// The pauses before the node is given further chances to answer. It may be slow rather than gone.
const FURTHER_CHANCES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// The cases that are left, and those that are running. Dropping it ends them.
pub(crate) struct Turns {
    node: Arc<Node>,
    listener: Option<Arc<Listener>>,
    jobs: usize,
    together: VecDeque<(usize, Case)>,
    alone: VecDeque<(usize, Case)>,
    running: JoinSet<Done>,
    /// How many of those that run wait for a node that dials by itself. They take no place.
    announced: usize,
}

/// A case that is done.
pub(crate) struct Done {
    /// Its place in the list.
    pub(crate) index: usize,
    /// What came of it.
    pub(crate) result: CaseResult,
    /// Whether an honest connection came about afterwards.
    pub(crate) is_alive: bool,
    is_announced: bool,
}

impl Turns {
    /// The turns of these cases, `jobs` at once.
    pub(crate) fn new(cases: &[Case], jobs: usize, node: Arc<Node>, listener: Option<Arc<Listener>>) -> Self {
        let waits = listener.as_ref().is_some_and(|listener| listener.is_announced());
        let cases = cases.iter().copied().enumerate();
        let (announced, cases): (Vec<_>, Vec<_>) = cases.partition(|(_, case)| waits && case.role == Role::Listens);
        let (alone, mut together): (Vec<_>, Vec<_>) = cases.into_iter().partition(|(_, case)| case.alone);
        // Those that take long run beside all others.
        together.sort_by_key(|(_, case)| Reverse(case.deadline));
        let running = JoinSet::new();
        let mut turns = Self {
            node,
            listener,
            jobs,
            together: together.into(),
            alone: alone.into(),
            running,
            announced: announced.len(),
        };
        turns.announce(announced);
        turns
    }

    /// The next case that is done, and `None` when all are.
    ///
    /// # Cancel safety
    /// When the future is dropped, no case is lost.
    pub(crate) async fn next(&mut self) -> Option<Done> {
        while let Some((index, case)) = self.next_turn() {
            let visit = Visit::new(self.node.clone());
            let expected = match (&self.listener, case.role) {
                (Some(listener), Role::Listens) => Some(listener.expect(visit.transcript.clone())),
                _ => None,
            };
            self.running.spawn(run(index, case, visit, expected, false));
        }
        let done = self.running.join_next().await?.expect("what panics is a task of its own");
        self.announced -= usize::from(done.is_announced);
        Some(done)
    }

    fn next_turn(&mut self) -> Option<(usize, Case)> {
        if !self.together.is_empty() {
            return if self.running.len() < self.jobs + self.announced { self.together.pop_front() } else { None };
        }
        if self.running.is_empty() { self.alone.pop_front() } else { None }
    }

    /// Begins the cases that wait for a node that dials by itself.
    fn announce(&mut self, cases: Vec<(usize, Case)>) {
        let Some(listener) = &self.listener else { return };
        let mut enodes = Vec::new();
        for (index, case) in cases {
            let visit = Visit::new(self.node.clone());
            let expected = listener.expect(visit.transcript.clone());
            enodes.extend(expected.as_ref().ok().map(|expected| expected.enode.clone()));
            self.running.spawn(run(index, case, visit, Some(expected), true));
        }
        listener.announce(&enodes);
    }
}

/// Runs a case, and an honest connection after it. The node is not alive if three of those fail.
async fn run(
    index: usize,
    case: Case,
    visit: Visit,
    expected: Option<Result<Expected, Stop>>,
    is_announced: bool,
) -> Done {
    let node = visit.node.clone();
    let transcript = visit.transcript.clone();
    let attempt = async move {
        match expected {
            None => case.attempt(visit).await,
            Some(expected) => dialled(case, visit, expected).await,
        }
    };
    // A case that panics is a defect of the suite, which takes no other's results with it.
    let mut attempts = JoinSet::new();
    attempts.spawn(attempt);
    let mut result = match attempts.join_next().await {
        Some(Ok(result)) => result,
        _ => CaseResult::new(case, Err(Stop::unclear("the case panicked")), &transcript, Duration::ZERO),
    };
    let is_untouched = result.outcome == Outcome::Skipped && result.last.is_empty();
    let alive = if is_untouched { Ok(()) } else { alive(&node).await };
    if let Err(error) = &alive {
        result.outcome = Outcome::Failed;
        result.seen = format!("{}; {GONE}: {error}", result.seen);
    }
    Done { index, result, is_alive: alive.is_ok(), is_announced }
}

/// Runs a case from the dial on.
async fn dialled(case: Case, visit: Visit, expected: Result<Expected, Stop>) -> CaseResult {
    let dialled = match expected {
        Ok(expected) => expected.dialled().await,
        Err(stop) => Err(stop),
    };
    match dialled {
        // What tells the node to dial may last as long as the case.
        Ok((dialled, _telling)) => case.attempt(visit.with_dialled(dialled)).await,
        Err(stop) => CaseResult::new(case, Err(stop), &visit.transcript, Duration::ZERO),
    }
}

async fn alive(node: &Node) -> Result<(), String> {
    let ask = || async {
        let asked = timeout(ALIVE, node.is_alive()).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {ALIVE:?}")))
    };
    let mut alive = ask().await;
    for pause in FURTHER_CHANCES {
        if alive.is_err() {
            sleep(pause).await;
            alive = ask().await;
        }
    }
    alive
}
