//! What is printed: for readers, as TAP, or as JSON.

use std::fmt::Write;

use capmux_conformance::report::{Document, LEVELS, Tap};
use capmux_conformance::{Case, CaseResult, Outcome, Role};
use console::Style;

use super::Args;
use crate::exit::Failure;
use crate::output;

/// Prints results as they come, and what they come to.
#[derive(Debug)]
pub(super) enum Show {
    /// A line for each case, more for those that have not passed, and a table.
    Text,
    /// Test points.
    Tap(Tap),
    /// One document at the end.
    Json,
}

impl Show {
    /// Prints the beginning.
    pub(super) fn new(args: &Args, cases: &[Case]) -> Result<Self, Failure> {
        match (args.tap, args.json) {
            (true, _) => {
                let tap = Tap::new(args.level);
                output::print(tap.plan(cases).as_bytes())?;
                Ok(Self::Tap(tap))
            }
            (_, true) => Ok(Self::Json),
            _ => Ok(Self::Text),
        }
    }

    /// Prints what came of a case.
    pub(super) fn result(&mut self, result: &CaseResult) -> Result<(), Failure> {
        let text = match self {
            Self::Text => described(result),
            Self::Tap(tap) => tap.point(result),
            Self::Json => return Ok(()),
        };
        output::print(text.as_bytes()).map(drop)
    }

    /// Prints what all came to.
    pub(super) fn end(&self, document: &Document<'_>) -> Result<(), Failure> {
        let text = match (self, document.ended()) {
            (Self::Text, _) => table(document),
            (Self::Tap(tap), Some(why)) => tap.bail_out(why),
            (Self::Tap(_), None) => return Ok(()),
            (Self::Json, _) => document.to_json() + "\n",
        };
        output::print(text.as_bytes()).map(drop)
    }
}

/// All cases, for readers.
pub(super) fn list(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let who = match case.role {
            Role::Dials => "the suite",
            Role::Listens => "the node dials; the suite",
        };
        let _ = writeln!(text, "{}  {} ({})", case.name, case.level, case.section);
        let _ = writeln!(text, "    {who} {}", case.does);
        let _ = writeln!(text, "    expected: the node {}", case.expects);
    }
    text
}

fn described(result: &CaseResult) -> String {
    let case = &result.case;
    let outcome = match result.outcome {
        Outcome::Passed => Style::new().green(),
        Outcome::Failed => Style::new().red().bold(),
        _ => Style::new().yellow(),
    };
    let outcome = outcome.apply_to(format!("{:<12}", result.outcome.to_string()));
    let (level, name) = (case.level.to_string(), case.name);
    let mut text = format!("{outcome} {level:<6} {name:<48} {:>6} ms\n", result.duration.as_millis());
    match result.outcome {
        Outcome::Passed => {}
        Outcome::Skipped => {
            let _ = writeln!(text, "    {}", result.seen);
        }
        _ => {
            let _ = writeln!(text, "    {}: the suite {}", case.section, case.does);
            let _ = writeln!(text, "    expected: the node {}", case.expects);
            let _ = writeln!(text, "    seen: {}", result.seen);
            for record in &result.last {
                let _ = writeln!(text, "    {record}");
            }
        }
    }
    text
}

/// The outcomes by level, and the verdict.
fn table(document: &Document<'_>) -> String {
    let mut text = String::from("\n        passed  failed  inconclusive  skipped  not run\n");
    for level in LEVELS {
        let count = document.count(level);
        let _ = writeln!(
            text,
            "{:<6} {:>7} {:>7} {:>13} {:>8} {:>8}",
            level.to_string(),
            count.passed,
            count.failed,
            count.inconclusive,
            count.skipped,
            count.not_run
        );
    }
    text
}
