//! Which cases are run.

use capmux_conformance::{Suite, cases};
use glob::Pattern;

use crate::exit::{Exit, Failure};

/// How many near misses are named.
const NEAR: usize = 3;

/// The cases that at least one of these patterns picks, or all if there is none.
///
/// # Errors
/// A pattern that picks nothing, with the names that are nearest to it.
pub(super) fn only(suite: Suite, patterns: &[String]) -> Result<Suite, Failure> {
    let picks: Vec<_> = patterns.iter().map(|pattern| picked(pattern)).collect::<Result<_, _>>()?;
    Ok(suite.retain(|case| picks.is_empty() || picks.iter().flatten().any(|name| *name == case.name)))
}

/// The names that a pattern picks: those that contain it, or match all of it if there are wildcards in it.
fn picked(pattern: &str) -> Result<Vec<&'static str>, Failure> {
    let wrong = |what: String| Failure::new(Exit::Usage, format!("--only {pattern}: {what}"));
    let names = cases().into_iter().map(|case| case.name);
    let picked: Vec<_> = if pattern.contains(['*', '?', '[']) {
        let glob = Pattern::new(pattern).map_err(|error| wrong(error.msg.to_owned()))?;
        names.filter(|name| glob.matches(name)).collect()
    } else {
        names.filter(|name| name.contains(pattern)).collect()
    };
    match picked.is_empty() {
        true => Err(wrong(format!("no case is called so; near are {}. --list shows all", near(pattern).join(", ")))),
        false => Ok(picked),
    }
}

/// The names that are most like a pattern.
fn near(pattern: &str) -> Vec<&'static str> {
    let literal = pattern.replace(['*', '?', '[', ']'], "");
    let likeness = |name: &str| {
        let last = name.rsplit('/').next().unwrap_or(name);
        strsim::jaro_winkler(name, &literal).max(strsim::jaro_winkler(last, &literal))
    };
    let mut names: Vec<_> = cases().into_iter().map(|case| (likeness(case.name), case.name)).collect();
    names.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    names.into_iter().map(|(_, name)| name).take(NEAR).collect()
}
