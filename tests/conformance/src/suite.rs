//! Running cases.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use capmux::Enode;
use tokio::time::{Instant, timeout};

use crate::case::{Case, Level};
use crate::cases::cases;
use crate::listen::{Dial, Listener};
use crate::node::{Node, ProbeError};
use crate::outcome::{CaseResult, Outcome, Stop};
use crate::report::counted;
use crate::turns::Turns;
use crate::visit::Visit;

/// Which cases are run, and how.
#[derive(Debug, Clone)]
pub struct Suite {
    cases: Vec<Case>,
    jobs: usize,
    listen: Option<(SocketAddr, Dial)>,
}

/// Why no case was run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// There is nothing to test.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The address at which the node should dial the suite cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: String,
    },
    /// It was told to stop before the node had answered.
    #[error("it was interrupted before the node had answered")]
    Stopped,
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
        Self { cases: cases(), jobs: 6, listen: None }
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

    /// How many cases will run at once.
    pub fn at_once(&self) -> usize {
        self.jobs
    }

    /// Runs the cases in which the node dials, too, which are skipped otherwise: the suite listens on this address, and
    /// the node comes to dial it in this way. Port 0 is a free one. An unspecified address is told to the node as the
    /// one by which this machine reaches it.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr, dial: Dial) -> Self {
        self.listen = Some((address, dial));
        self
    }

    /// The cases that will be run, in order.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// Runs the cases.
    ///
    /// # Errors
    /// [`SuiteError::Probe`] when there is nothing to test, and [`SuiteError::Listen`].
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
    /// [`SuiteError::Probe`] when there is nothing to test, [`SuiteError::Listen`], and [`SuiteError::Stopped`] when the
    /// node has not answered by then.
    pub async fn run_until(
        &self,
        enode: &Enode,
        stop: impl Future<Output = ()>,
        mut on_result: impl FnMut(&CaseResult),
    ) -> Result<Report, SuiteError> {
        let mut stop = std::pin::pin!(stop);
        let node = tokio::select! {
            () = &mut stop => return Err(SuiteError::Stopped),
            node = Node::probe(enode) => Arc::new(node?),
        };
        let listener = self.listener(enode).await?;
        let results = self.cases.iter().map(|case| not_run(*case)).collect();
        let mut report = Report { node: node.clone(), results, is_gone: false };
        let mut turns = Turns::new(&self.cases, self.jobs, node, listener);
        while !report.is_gone {
            let done = tokio::select! {
                () = &mut stop => None,
                done = turns.next() => done,
            };
            let Some(done) = done else { break };
            on_result(&done.result);
            report.results[done.index] = done.result;
            report.is_gone = !done.is_alive;
        }
        Ok(report)
    }

    async fn listener(&self, enode: &Enode) -> Result<Option<Arc<Listener>>, SuiteError> {
        let Some((address, dial)) = &self.listen else { return Ok(None) };
        let bound = Listener::bind(*address, dial.clone(), enode).await;
        bound.map(Some).map_err(|error| SuiteError::Listen { address: *address, error: error.to_string() })
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

    /// Whether the node is there still, all cases were run, and those up to this level have
    /// [passed](crate::report::Count::is_passed).
    pub fn is_passed(&self, level: Level) -> bool {
        !self.is_gone && self.is_complete() && counted(&self.results, level).is_passed()
    }
}

impl Case {
    /// Runs it against a node, until its deadline at most, without an honest connection afterwards. Cases in which the
    /// node dials are skipped.
    pub async fn visit(&self, node: Arc<Node>) -> CaseResult {
        self.attempt(Visit::new(node)).await
    }

    pub(crate) async fn attempt(&self, visit: Visit) -> CaseResult {
        let start = Instant::now();
        let ended = timeout(self.deadline, (self.run)(&visit)).await;
        let ended = ended.unwrap_or_else(|_| Err(Stop::unclear(format!("it was not over after {:?}", self.deadline))));
        CaseResult::new(*self, ended, &visit.transcript, start.elapsed())
    }
}

pub(crate) fn not_run(case: Case) -> CaseResult {
    CaseResult {
        case,
        outcome: Outcome::NotRun,
        seen: "the suite ended before".to_owned(),
        last: Vec::new(),
        duration: Duration::ZERO,
    }
}
