//! The Test Anything Protocol, version 14, as results come.

use super::{does_not_count, milliseconds};
use crate::case::{Case, Level};
use crate::outcome::{CaseResult, Outcome};

/// Writes TAP: [`plan`](Self::plan) first, a point for each result, and [`bail_out`](Self::bail_out) if there will be no
/// more.
///
/// A case that could not tell is neither passed nor failed. TAP has no word for that; such a point is skipped, with the
/// reason, and so is a case that does not concern the node. A failure that does not count at this level is marked TODO,
/// which readers show and do not count either.
#[derive(Debug)]
pub struct Tap {
    level: Level,
    points: usize,
}

impl Tap {
    /// Cases up to this level count.
    pub fn new(level: Level) -> Self {
        Self { level, points: 0 }
    }

    /// The beginning, for these cases.
    pub fn plan(&self, cases: &[Case]) -> String {
        format!("TAP version 14\n1..{}\n", cases.len())
    }

    /// The next test point, with all that is known about it.
    pub fn point(&mut self, result: &CaseResult) -> String {
        self.points += 1;
        let (number, name) = (self.points, result.case.name);
        let verdict = if result.outcome == Outcome::Failed { "not ok" } else { "ok" };
        let directive = match result.outcome {
            Outcome::Passed => String::new(),
            Outcome::Failed => does_not_count(&result.case, self.level)
                .map_or_else(String::new, |why| format!(" # TODO {}", escaped(&why))),
            Outcome::Inconclusive | Outcome::Skipped | Outcome::NotRun => {
                format!(" # SKIP {}: {}", result.outcome, escaped(&result.seen))
            }
        };
        format!("{verdict} {number} - {}{directive}\n{}", escaped(name), diagnostics(result))
    }

    /// The end of a run that did not come to its end.
    pub fn bail_out(&self, why: &str) -> String {
        format!("Bail out! {}\n", escaped(why))
    }
}

/// A block of YAML. Texts are written as in JSON, which YAML reads alike.
fn diagnostics(result: &CaseResult) -> String {
    let case = &result.case;
    let mut block = String::from("  ---\n");
    let mut line = |indent: &str, name: &str, value: String| block.push_str(&format!("  {indent}{name}: {value}\n"));
    line("", "level", text(&case.level.to_string()));
    line("", "section", text(case.section));
    line("", "outcome", text(&result.outcome.to_string()));
    line("", "duration_ms", milliseconds(result.duration).to_string());
    if result.outcome != Outcome::Passed {
        line("", "does", text(case.does));
        line("", "expects", text(case.expects));
        line("", "seen", text(&result.seen));
        if !result.last.is_empty() {
            line("", "last", String::new());
        }
        for record in &result.last {
            line("  - ", "by", text(if record.sent { "suite" } else { "node" }));
            line("    ", "decoded", text(&record.decoded));
            line("    ", "hex", text(&record.hex));
            line("    ", "length_bytes", record.length.to_string());
        }
    }
    block + "  ...\n"
}

fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// One line, in which `#` begins no directive.
fn escaped(value: &str) -> String {
    let line: Vec<_> = value.lines().collect();
    line.join(" ").replace('\\', "\\\\").replace('#', "\\#")
}
