//! JSON: one document. The names of its fields are promised.

use serde::Serialize;

use super::{Count, Document, milliseconds};
use crate::case::{Case, Level, Role};
use crate::outcome::{CaseResult, Outcome};
use crate::transcript::Record;

#[derive(Serialize)]
struct Whole<'a> {
    suite: &'static str,
    enode: String,
    node: Option<About>,
    level: Level,
    passed: bool,
    ended: Option<&'a str>,
    summary: Summary,
    cases: Vec<Result<'a>>,
}

/// What the node says of itself.
#[derive(Serialize)]
struct About {
    client: String,
    p2p_version: u64,
    capabilities: Vec<String>,
}

#[derive(Serialize)]
struct Summary {
    must: Count,
    should: Count,
    may: Count,
}

#[derive(Serialize)]
struct Described {
    name: &'static str,
    level: Level,
    role: Role,
    section: &'static str,
    rows: &'static [&'static str],
    does: &'static str,
    expects: &'static str,
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    case: Described,
    deadline_ms: f64,
    alone: bool,
}

#[derive(Serialize)]
struct Catalogue {
    cases: Vec<Listed>,
}

#[derive(Serialize)]
struct Result<'a> {
    #[serde(flatten)]
    case: Described,
    outcome: Outcome,
    seen: &'a str,
    duration_ms: f64,
    last: &'a [Record],
}

impl Document<'_> {
    /// The run as one JSON object in one line, as `capmux conformance --json` prints it.
    pub fn to_json(&self) -> String {
        let about = |node: &crate::Node| About {
            client: node.hello.client_name(),
            p2p_version: node.hello.version,
            capabilities: node.hello.capability_names(),
        };
        let [must, should, may] = super::LEVELS.map(|level| self.count(level));
        written(&Whole {
            suite: concat!("capmux-conformance/", env!("CARGO_PKG_VERSION")),
            enode: self.enode.to_string(),
            node: self.node.map(about),
            level: self.level,
            passed: self.is_passed(),
            ended: self.ended(),
            summary: Summary { must, should, may },
            cases: self.results.iter().map(Result::from).collect(),
        })
    }
}

/// Cases without results as one JSON object in one line, as `capmux conformance --list --json` prints it.
pub fn catalogue(cases: &[Case]) -> String {
    let listed =
        |case: &Case| Listed { case: case.into(), deadline_ms: milliseconds(case.deadline), alone: case.alone };
    written(&Catalogue { cases: cases.iter().map(listed).collect() })
}

impl From<&Case> for Described {
    fn from(case: &Case) -> Self {
        let Case { name, level, role, section, rows, does, expects, .. } = *case;
        Self { name, level, role, section, rows, does, expects }
    }
}

impl<'a> From<&'a CaseResult> for Result<'a> {
    fn from(result: &'a CaseResult) -> Self {
        Self {
            case: (&result.case).into(),
            outcome: result.outcome,
            seen: &result.seen,
            duration_ms: milliseconds(result.duration),
            last: &result.last,
        }
    }
}

fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("its maps have texts as keys, and no writer can fail")
}
