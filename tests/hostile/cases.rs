//! The cases of the conformance suite, by the rows that they are about, in memory and in virtual time.

use std::ops::RangeInclusive;

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

/// Runs the cases of these rows.
fn repeat_all(numbers: RangeInclusive<u32>) {
    let rows = numbers.map(|number| format!("H{number}"));
    let rows: Vec<_> = rows.filter(|row| !of(row).is_empty()).collect();
    assert!(!rows.is_empty());
    rows.iter().for_each(|row| repeat(row));
}

#[test]
fn the_cases_of_the_handshake_pass() {
    repeat_all(1..=20);
}

#[test]
fn the_cases_of_frames_pass() {
    repeat_all(21..=31);
}

#[test]
fn the_cases_of_messages_pass() {
    repeat_all(32..=37);
}

#[test]
fn the_cases_of_the_base_protocol_pass() {
    repeat_all(38..=49);
}

#[test]
fn the_cases_of_what_follows_pass() {
    repeat_all(50..=83);
}
