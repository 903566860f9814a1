//! Results that are known already, in files: what a node does today, so that a change in either direction shows.
//!
//! A file has the outcome of each case and, where that is not [`Outcome::Passed`], what the node does, in words. Those of
//! capmux, go-ethereum and ethereumjs are in `expected/` beside this crate's sources.
//!
//! ```
//! use capmux_conformance::recorded::{Came, Recorded};
//! use capmux_conformance::Outcome;
//!
//! let mut recorded = Recorded::new("my node 1.0");
//! let came = Came::new("p2p/ping/answered", Outcome::Failed, "open after 5000 ms, nothing was sent");
//! recorded.update(&[came.clone()]);
//! assert!(recorded.differences(&[came]).is_empty());
//! ```

mod files;
mod table;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::outcome::{CaseResult, Outcome};

pub use files::{FILES, check, document, read};
pub use table::table;

/// What a node does, case by case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// What node it is, with its version.
    pub node: String,
    /// Its cases, in the order of the list.
    pub cases: Vec<RecordedCase>,
}

/// What a node does in one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedCase {
    /// The name of the case.
    pub case: String,
    /// How it ends.
    pub outcome: Outcome,
    /// What the node does, in words; empty where the case passes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub does: String,
}

/// What came of a case in a new run. It reads what `capmux conformance --json` says of a case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Came {
    /// The name of the case.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen.
    pub seen: String,
}

/// A case that does not end as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The name of the case.
    pub case: String,
    /// How it is recorded; `None` if it is not.
    pub recorded: Option<Outcome>,
    /// What came of it; `None` if it was not run.
    pub came: Option<Came>,
}

impl Recorded {
    /// A record without cases.
    pub fn new(node: impl Into<String>) -> Self {
        Self { node: node.into(), cases: Vec::new() }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with the JSON.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// The text of the file, with a line for each field.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("its fields are texts") + "\n"
    }

    /// The cases that end in another way than recorded, were not recorded, or were not run, in the order of the run.
    pub fn differences(&self, came: &[Came]) -> Vec<Difference> {
        let differing = came.iter().filter_map(|came| {
            let recorded = self.case(&came.name).map(|case| case.outcome);
            let differs = recorded != Some(came.outcome);
            differs.then(|| Difference { case: came.name.clone(), recorded, came: Some(came.clone()) })
        });
        let left = self.cases.iter().filter(|case| came.iter().all(|came| came.name != case.case));
        let left = left.map(|case| Difference { case: case.case.clone(), recorded: Some(case.outcome), came: None });
        differing.chain(left).collect()
    }

    /// Takes over what came of a run of all cases. The words for a case that ends as before are kept; for others they
    /// are what was seen, to be put better by hand.
    pub fn update(&mut self, came: &[Came]) {
        let update = |came: &Came| {
            let does = match (came.outcome, self.case(&came.name)) {
                (Outcome::Passed, _) => String::new(),
                (outcome, Some(case)) if case.outcome == outcome => case.does.clone(),
                _ => came.seen.clone(),
            };
            RecordedCase { case: came.name.clone(), outcome: came.outcome, does }
        };
        self.cases = came.iter().map(update).collect();
    }

    /// What is recorded of the case with this name.
    pub fn case(&self, name: &str) -> Option<&RecordedCase> {
        self.cases.iter().find(|case| case.case == name)
    }
}

impl Came {
    /// What came of a case.
    pub fn new(name: impl Into<String>, outcome: Outcome, seen: impl Into<String>) -> Self {
        Self { name: name.into(), outcome, seen: seen.into() }
    }
}

impl From<&CaseResult> for Came {
    fn from(result: &CaseResult) -> Self {
        Self::new(result.case.name, result.outcome, result.seen.clone())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.recorded {
            Some(recorded) => write!(f, "{}: recorded as {recorded}, and ", self.case)?,
            None => write!(f, "{}: not recorded, and ", self.case)?,
        }
        match &self.came {
            Some(came) => write!(f, "{}: {}", came.outcome, came.seen),
            None => f.write_str("no case of the suite"),
        }
    }
}
