//! How a case ends.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::transcript::{Record, Transcript, cut};

/// What a case has found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The node does what is expected.
    Passed,
    /// It does something else.
    Failed,
    /// Nobody can tell: the node ended the connection for another reason, for example.
    Inconclusive,
    /// The case does not concern this node, or something that it needs was not given.
    Skipped,
    /// The suite ended before.
    NotRun,
}

/// Why a case ends before it has passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stop {
    /// What the node did instead of what is expected.
    #[error("{0}")]
    Failed(String),
    /// Why nobody can tell.
    #[error("{0}")]
    Unclear(String),
    /// Why it does not concern this node.
    #[error("{0}")]
    Skipped(String),
}

/// What came of a case.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// The case.
    pub case: Case,
    /// What it has found out.
    pub outcome: Outcome,
    /// What was seen, in a sentence.
    pub seen: String,
    /// The last that went over the wire, oldest first; at most [`Transcript::KEPT`](crate::Transcript::KEPT).
    pub last: Vec<Record>,
    /// How long it took, without the honest connection afterwards.
    pub duration: Duration,
}

impl CaseResult {
    /// What came of a case that has ended so.
    pub(crate) fn new(case: Case, ended: Result<(), Stop>, transcript: &Transcript, duration: Duration) -> Self {
        let (outcome, seen) = match ended {
            Ok(()) => (Outcome::Passed, case.expects.to_owned()),
            Err(stop) => (stop.outcome(), cut(stop.to_string())),
        };
        Self { case, outcome, seen, last: transcript.records(), duration }
    }
}

impl Stop {
    /// What the node did instead of what is expected.
    pub fn failed(seen: impl Into<String>) -> Self {
        Self::Failed(seen.into())
    }

    /// Why nobody can tell.
    pub fn unclear(why: impl Into<String>) -> Self {
        Self::Unclear(why.into())
    }

    /// Why it does not concern this node.
    pub fn skipped(why: impl Into<String>) -> Self {
        Self::Skipped(why.into())
    }

    /// The outcome of a case that ends so.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Failed(_) => Outcome::Failed,
            Self::Unclear(_) => Outcome::Inconclusive,
            Self::Skipped(_) => Outcome::Skipped,
        }
    }

    /// The same, with what was being done before the words: `in the 3rd of 10: ...`.
    #[must_use]
    pub fn within(self, what: impl fmt::Display) -> Self {
        match self {
            Self::Failed(seen) => Self::Failed(format!("{what}: {seen}")),
            Self::Unclear(why) => Self::Unclear(format!("{what}: {why}")),
            Self::Skipped(why) => Self::Skipped(format!("{what}: {why}")),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::Skipped => "skipped",
            Self::NotRun => "not run",
        })
    }
}
