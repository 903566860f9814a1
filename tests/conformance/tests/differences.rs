//! Runs that are compared with what is recorded.

use capmux_conformance::Outcome::{Failed, Passed, Skipped};
use capmux_conformance::recorded::{Came, Recorded};

fn came() -> Vec<Came> {
    vec![Came::new("a", Passed, "as it should be"), Came::new("b", Failed, "open"), Came::new("c", Skipped, "no echo")]
}

#[test]
fn a_difference_in_either_direction_is_told() {
    let mut recorded = Recorded::new("a node 1.0");
    recorded.update(&came());
    assert_eq!(recorded.differences(&came()), []);
    let now = [Came::new("a", Failed, "reset"), Came::new("b", Passed, "closes"), Came::new("d", Failed, "open")];
    let told: Vec<_> = recorded.differences(&now).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "a: recorded as passed, and failed: reset",
            "b: recorded as failed, and passed: closes",
            "d: not recorded, and failed: open",
            "c: recorded as skipped, and no case of the suite",
        ]
    );
}

#[test]
fn words_are_kept_while_the_outcome_is_the_same() {
    let mut recorded = Recorded::new("a node 1.0");
    recorded.update(&came());
    assert_eq!(recorded.case("b").unwrap().does, "open", "what was seen is a first draft");
    recorded.cases[1].does = "It waits for the rest of the frame.".to_owned();
    recorded.update(&[Came::new("b", Failed, "open again"), Came::new("c", Failed, "closed")]);
    assert_eq!(recorded.case("b").unwrap().does, "It waits for the rest of the frame.");
    assert_eq!(recorded.case("c").unwrap().does, "closed");
    assert!(recorded.case("a").is_none(), "a case that is no more is no more recorded");
    recorded.update(&[Came::new("b", Passed, "closes")]);
    assert_eq!(recorded.case("b").unwrap().does, "");
}
