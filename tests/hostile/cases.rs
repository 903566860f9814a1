//! The cases of the conformance suite, by the rows that they are about, in memory and in virtual time.

use capmux_conformance::{Case, Outcome, Role, cases};

use crate::arena::{Scene, TIMES};
use crate::support::sink;

/// The cases for which the suite dials, with this row.
pub(crate) fn of(row: &str) -> Vec<Case> {
    cases().into_iter().filter(|case| case.role == Role::Dials && case.rows.contains(&row)).collect()
}

/// Runs the cases of a row fifty times in all, each of them at least once.
fn repeat(row: &str) {
    let cases = of(row);
    assert!(!cases.is_empty(), "{row}: the suite has cases of it");
    let at_once = if cases.iter().any(|case| case.alone) { 1 } else { 10 };
    let rounds = cases.len().div_ceil(TIMES);
    let settings = |node: capmux::ServerBuilder| node.protocol(sink("bulk", 4));
    Scene::of(row).settings(settings).at_once(at_once).repeat(async |arena, number| {
        for round in 0..rounds {
            let case = cases[(number % TIMES * rounds + round) % cases.len()];
            let result = case.visit(arena.node.clone()).await;
            assert_eq!(result.outcome, Outcome::Passed, "{row}: {}: {}, {:#?}", case.name, result.seen, result.last);
        }
    });
}

/// The rows that are shown by cases of the suite alone.
pub(crate) const ROWS: [&[&str]; 4] = [
    &["H21", "H22", "H23", "H26", "H27", "H29"],
    &["H32", "H35", "H37"],
    &["H38", "H40", "H41", "H42", "H43", "H45", "H53", "H54"],
    &["H50", "H51", "H56"],
];

#[test]
fn the_cases_of_frames_pass() {
    ROWS[0].iter().for_each(|row| repeat(row));
}

#[test]
fn the_cases_of_messages_pass() {
    ROWS[1].iter().for_each(|row| repeat(row));
}

#[test]
fn the_cases_of_hello_pass() {
    ROWS[2].iter().for_each(|row| repeat(row));
}

#[test]
fn the_cases_of_the_base_protocol_pass() {
    ROWS[3].iter().for_each(|row| repeat(row));
}
