//! The list of mutations.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// One deliberate mistake.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutation {
    /// The mistake, in a sentence.
    pub(crate) what: String,
    /// The file, from the workspace's root.
    pub(crate) file: String,
    find: String,
    replace: String,
    /// The case of the suite that catches it.
    pub(crate) case: Option<String>,
    /// Or the arguments of `cargo test -p capmux`, the name of the test last.
    pub(crate) test: Option<String>,
}

#[derive(Deserialize)]
struct List {
    mutation: Vec<Mutation>,
}

/// All mutations.
pub(crate) fn mutations() -> Vec<Mutation> {
    let list: List = toml::from_str(include_str!("../../mutations/mutations.toml")).expect("the list can be read");
    list.mutation
}

/// The workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Mutation {
    /// The file with the mistake in it.
    ///
    /// The error is that the place is not there, or there twice.
    pub(crate) fn apply(&self, original: &str) -> Result<String, String> {
        match original.matches(&self.find).count() {
            1 => Ok(original.replace(&self.find, &self.replace)),
            count => Err(format!("what it replaces is {count} times in {}", self.file)),
        }
    }

    /// What catches it, in words.
    pub(crate) fn catcher(&self) -> String {
        match (&self.case, &self.test) {
            (Some(case), _) => format!("the case `{case}`"),
            (None, Some(test)) => format!("`cargo test -p capmux {test}`"),
            (None, None) => "nothing".to_owned(),
        }
    }
}
