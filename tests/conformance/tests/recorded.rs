//! The results that are kept of three nodes, without running any.

use capmux_conformance::recorded::{FILES, Recorded, document, read};
use capmux_conformance::{Outcome, cases};

#[test]
fn the_table_of_conformance_is_what_the_files_say() {
    let [is, should] = document().unwrap();
    assert!(is == should, "docs/conformance.md: run CAPMUX_BLESS=1 cargo test -p capmux-conformance conformance");
}

#[test]
fn each_file_has_exactly_the_cases_that_exist() {
    let names: Vec<_> = cases().iter().map(|case| case.name).collect();
    for file in FILES {
        let recorded = read(file).unwrap();
        let kept: Vec<_> = recorded.cases.iter().map(|case| case.case.as_str()).collect();
        assert_eq!(kept, names, "{file}");
    }
}

#[test]
fn each_deviation_is_told_in_words_and_nothing_else() {
    for file in FILES {
        for case in read(file).unwrap().cases {
            assert_ne!(case.outcome, Outcome::NotRun, "{file}: {}", case.case);
            assert_eq!(case.does.is_empty(), case.outcome == Outcome::Passed, "{file}: {}", case.case);
        }
    }
}

#[test]
fn a_file_is_read_as_it_is_written() {
    for file in FILES {
        let recorded = read(file).unwrap();
        assert_eq!(Recorded::from_json(&recorded.to_json()).unwrap(), recorded, "{file}");
    }
}
