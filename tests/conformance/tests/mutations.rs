//! The list of mutations: that each can still be made, and that the documentation shows it.

#[path = "../examples/mutations/list.rs"]
mod list;

use std::collections::HashSet;
use std::{env, fs};

use capmux_conformance::cases;

const BEGIN: &str = "<!-- mutations: generated -->\n";
const END: &str = "<!-- mutations: end -->\n";

#[test]
fn each_mutation_can_be_made_and_names_what_catches_it() {
    let mutations = list::mutations();
    assert!(mutations.len() >= 20, "{}", mutations.len());
    let names: HashSet<_> = cases().iter().map(|case| case.name).collect();
    for mutation in &mutations {
        let source = fs::read_to_string(list::root().join(&mutation.file)).unwrap();
        let changed = mutation.apply(&source).unwrap_or_else(|error| panic!("{}: {error}", mutation.what));
        assert_ne!(changed, source, "{}", mutation.what);
        assert_ne!(mutation.case.is_some(), mutation.test.is_some(), "{}: one catches it", mutation.what);
        if let Some(case) = &mutation.case {
            assert!(names.contains(case.as_str()), "{}: there is no case {case}", mutation.what);
        }
    }
}

#[test]
fn the_documentation_shows_the_mutations() {
    let path = list::root().join("docs/conformance.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the table begins");
    let (_, after) = rest.split_once(END).expect("the table ends");
    let row = |one: &list::Mutation| format!("| {} | `{}` | {} |\n", one.what, one.file, one.catcher());
    let rows: String = list::mutations().iter().map(row).collect();
    let expected = format!("{before}{BEGIN}| Mistake | In | Caught by |\n|---|---|---|\n{rows}{END}{after}");
    if env::var_os("CAPMUX_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, expected).unwrap();
    } else {
        assert_eq!(document, expected, "CAPMUX_BLESS=1 cargo test -p capmux-conformance writes it anew");
    }
}
