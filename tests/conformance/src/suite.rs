//! Running cases.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use capmux::Enode;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::case::{Case, Level};
use crate::cases::cases;
use crate::node::{Node, ProbeError};
use crate::outcome::{CaseResult, Outcome, Stop};
use crate::visit::Visit;

/// How long the honest connection after a case may take in all.
const ALIVE: Duration = Duration::from_secs(20);

/// The pause before the node is given a second chance to answer.
const SECOND_CHANCE: Duration = Duration::from_secs(1);

/// Which cases are run, and how.
#[derive(Debug, Clone)]
pub struct Suite {
    cases: Vec<Case>,
    jobs: usize,
}

/// Why no case was run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// There is nothing to test.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

/// What came of all cases, in the order of the list.
#[derive(Debug, Clone)]
pub struct Report {
    node: Arc<Node>,
    results: Vec<CaseResult>,
    is_gone: bool,
}

impl Default for Suite {
    fn default() -> Self {
        Self::new()
    }
}

impl Suite {
    /// All cases, six at once.
    pub fn new() -> Self {
        Self { cases: cases(), jobs: 6 }
    }

    /// Only the cases for which this holds.
    #[must_use]
    pub fn retain(mut self, wanted: impl FnMut(&Case) -> bool) -> Self {
        self.cases.retain(wanted);
        self
    }

    /// How many cases run at once, at least one. Each takes a connection or a few.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// The cases that will be run, in order.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// Runs the cases.
    ///
    /// # Errors
    /// [`SuiteError::Probe`] when there is nothing to test.
    ///
    /// # Cancel safety
    /// Dropping the future ends all cases.
    pub async fn run(&self, enode: &Enode) -> Result<Report, SuiteError> {
        self.run_until(enode, std::future::pending(), |_| ()).await
    }

    /// Runs the cases until `stop` resolves, and tells each result as it comes. Those that are not done then are
    /// [`Outcome::NotRun`].
    ///
    /// # Errors
    /// [`SuiteError::Probe`] when there is nothing to test.
    pub async fn run_until(
        &self,
        enode: &Enode,
        stop: impl Future<Output = ()>,
        mut on_result: impl FnMut(&CaseResult),
    ) -> Result<Report, SuiteError> {
        let node = Arc::new(Node::probe(enode).await?);
        let mut results: Vec<_> = self.cases.iter().map(|case| not_run(*case)).collect();
        let mut is_gone = false;
        let mut stop = std::pin::pin!(stop);
        let (alone, together): (Vec<usize>, Vec<usize>) =
            (0..self.cases.len()).partition(|index| self.cases[*index].alone);
        for (mut waiting, jobs) in [(VecDeque::from(together), self.jobs), (VecDeque::from(alone), 1)] {
            let mut running = JoinSet::new();
            while !is_gone {
                while running.len() < jobs
                    && let Some(index) = waiting.pop_front()
                {
                    let (case, node) = (self.cases[index], node.clone());
                    running.spawn(async move { (index, run(case, node).await) });
                }
                let done = tokio::select! {
                    () = &mut stop => return Ok(Report { node, results, is_gone }),
                    done = running.join_next() => done,
                };
                let Some(done) = done else { break };
                let (index, (result, is_alive)) = done.expect("a case is run by a task that catches its panics");
                on_result(&result);
                results[index] = result;
                is_gone = !is_alive;
            }
        }
        Ok(Report { node, results, is_gone })
    }
}

impl Report {
    /// The node as it showed itself at first.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What came of each case, in the order of the list.
    pub fn results(&self) -> &[CaseResult] {
        &self.results
    }

    /// Whether the node stopped answering, so that the suite ended early.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether every case was run.
    pub fn is_complete(&self) -> bool {
        self.results.iter().all(|result| result.outcome != Outcome::NotRun)
    }

    /// Whether no case of this level or one that matters more has failed or is left.
    pub fn is_passed(&self, level: Level) -> bool {
        let bad = |outcome| matches!(outcome, Outcome::Failed | Outcome::NotRun);
        !self.results.iter().any(|result| result.case.level <= level && bad(result.outcome))
    }
}

impl Case {
    /// Runs it against a node, until its deadline at most, without an honest connection afterwards.
    pub async fn visit(&self, node: Arc<Node>) -> CaseResult {
        let visit = Visit::new(node);
        let start = Instant::now();
        let ended = timeout(self.deadline, (self.run)(&visit)).await;
        let duration = start.elapsed();
        let ended = ended.unwrap_or_else(|_| Err(Stop::unclear(format!("it was not over after {:?}", self.deadline))));
        let (outcome, seen) = match ended {
            Ok(()) => (Outcome::Passed, self.expects.to_owned()),
            Err(stop) => (stop.outcome(), stop.to_string()),
        };
        CaseResult { case: *self, outcome, seen, last: visit.transcript.records(), duration }
    }
}

/// Runs a case, and an honest connection after it. The node is not alive if two of those fail.
async fn run(case: Case, node: Arc<Node>) -> (CaseResult, bool) {
    let mut result = case.visit(node.clone()).await;
    let alive = alive(&node).await;
    if let Err(error) = &alive {
        result.outcome = Outcome::Failed;
        result.seen = format!("{}; afterwards the node is gone: {error}", result.seen);
    }
    (result, alive.is_ok())
}

async fn alive(node: &Node) -> Result<(), String> {
    let ask = || async {
        let asked = timeout(ALIVE, node.is_alive()).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {ALIVE:?}")))
    };
    if ask().await.is_ok() {
        return Ok(());
    }
    sleep(SECOND_CHANCE).await;
    ask().await
}

fn not_run(case: Case) -> CaseResult {
    CaseResult {
        case,
        outcome: Outcome::NotRun,
        seen: "the suite ended before".to_owned(),
        last: Vec::new(),
        duration: Duration::ZERO,
    }
}
