//! Several nodes side by side, in Markdown.

use std::fmt::Write;

use super::Recorded;
use crate::case::Case;
use crate::outcome::Outcome;
use crate::report::{Count, LEVELS};

/// What nodes do in these cases: how many pass by level, each case, and every deviation in words.
pub fn table(cases: &[Case], nodes: &[Recorded]) -> String {
    let mut text = String::new();
    summary(&mut text, cases, nodes);
    text.push('\n');
    each(&mut text, cases, nodes);
    for node in nodes {
        deviations(&mut text, cases, node);
    }
    text
}

fn summary(text: &mut String, cases: &[Case], nodes: &[Recorded]) {
    let names: Vec<_> = nodes.iter().map(|node| node.node.as_str()).collect();
    let _ = writeln!(text, "| Level | Cases | {} |\n|---|---|{}", names.join(" | "), "---|".repeat(nodes.len()));
    for level in LEVELS {
        let of_level: Vec<_> = cases.iter().filter(|case| case.level == level).collect();
        let _ = write!(text, "| {level} | {} |", of_level.len());
        for node in nodes {
            let count: Count =
                of_level.iter().filter_map(|case| node.case(case.name)).map(|case| case.outcome).collect();
            let _ = write!(text, " {count} |");
        }
        text.push('\n');
    }
}

fn each(text: &mut String, cases: &[Case], nodes: &[Recorded]) {
    let names: Vec<_> = nodes.iter().map(|node| node.node.as_str()).collect();
    let head = "| Case | Level | Text |";
    let _ = writeln!(text, "{head} {} |\n|---|---|---|{}", names.join(" | "), "---|".repeat(nodes.len()));
    for case in cases {
        let _ = write!(text, "| `{}` | {} | {} |", case.name, case.level, case.section);
        for node in nodes {
            let _ = match node.case(case.name).map(|case| case.outcome) {
                Some(Outcome::Failed) => write!(text, " **failed** |"),
                Some(outcome) => write!(text, " {outcome} |"),
                None => write!(text, " |"),
            };
        }
        text.push('\n');
    }
}

fn deviations(text: &mut String, cases: &[Case], node: &Recorded) {
    let _ = writeln!(text, "\n### Where {} deviates\n", node.node);
    let mut none = true;
    for case in cases {
        let Some(recorded) = node.case(case.name).filter(|recorded| recorded.outcome != Outcome::Passed) else {
            continue;
        };
        none = false;
        let outcome = recorded.outcome;
        let _ = writeln!(text, "- `{}` ({}, {outcome}): the suite {}.", case.name, case.level, case.does);
        let _ = writeln!(text, "  Expected: the node {}.", case.expects);
        let _ = writeln!(text, "  It does: {}", recorded.does);
    }
    if none {
        text.push_str("Nowhere.\n");
    }
}
