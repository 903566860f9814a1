//! The files of this repository, and the table in its documentation.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{env, fs, io};

use super::{Came, Recorded, table};
use crate::cases::cases;
use crate::outcome::Outcome;
use crate::suite::Suite;
use crate::turns::GONE;

/// The nodes whose results are kept, in the order of the table.
pub const FILES: [&str; 3] = ["capmux", "geth", "ethereumjs"];

/// What stands before and behind the table.
const MARKS: [&str; 2] = ["<!-- begin of the table -->\n", "<!-- end of the table -->\n"];

/// What rewrites the files.
const COMMAND: &str = "CAPMUX_BLESS=1 cargo test -p capmux -p capmux-cli -p capmux-conformance conformance";

/// How many cases run at once: they wait for most of the time, and what the machine is too busy for is run again.
const JOBS: usize = 16;

/// The secret keys B and A of EIP-8. With them a node can be told the vectors, which else are skipped.
const KEYS: [&str; 2] = [
    "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291",
    "49a7b37aa6f6645917e7b807e9d1c00d4fa71f18343b0d4122a4d2df64dd6fee",
];

/// Checks what the suite finds out about a node against the file that is kept of it. `run` starts a node with the secret
/// key that it is given, 64 hexadecimal digits, and runs the suite against it.
///
/// Cases that end in another way than recorded are run once more, one at a time, and what comes of them then counts.
/// With `CAPMUX_BLESS=1` the file is rewritten instead, and the table.
///
/// # Errors
/// All differences, and the command that rewrites the files.
pub async fn check(file: &str, node: &str, run: impl AsyncFn(Suite, &str) -> Vec<Came>) -> Result<(), String> {
    let mut came = with_both_keys(Suite::new().jobs(JOBS), &run).await;
    let recorded = read(file).unwrap_or_else(|_| Recorded::new(node));
    let differing = recorded.differences(&came).into_iter().filter(|difference| difference.recorded.is_some());
    let differing: Vec<_> = differing.map(|difference| difference.case).collect();
    if !differing.is_empty() {
        let again = Suite::new().retain(|case| differing.iter().any(|name| name == case.name)).jobs(1);
        replace(&mut came, &with_both_keys(again, &run).await);
    }
    if is_blessing() {
        return bless(file, Recorded { node: node.to_owned(), ..recorded }, &came);
    }
    let mut wrong: Vec<_> = recorded.differences(&came).iter().map(ToString::to_string).collect();
    if recorded.node != node {
        wrong.insert(0, format!("it is {node}, and recorded is {}", recorded.node));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let path = path(file);
    Err(format!("{} is not what {node} does:\n{}\nto accept that: {COMMAND}", path.display(), wrong.join("\n")))
}

/// Whether the files are to be rewritten.
fn is_blessing() -> bool {
    env::var_os("CAPMUX_BLESS").is_some_and(|value| value == "1")
}

/// Runs cases with one key, and those that were skipped with the other.
async fn with_both_keys(suite: Suite, run: &impl AsyncFn(Suite, &str) -> Vec<Came>) -> Vec<Came> {
    let [first, other] = KEYS;
    let mut came = to_the_end(suite.clone(), first, run).await;
    let is_skipped = |name: &str| came.iter().any(|came| came.name == name && came.outcome == Outcome::Skipped);
    let skipped = suite.retain(|case| is_skipped(case.name));
    if !skipped.cases().is_empty() {
        let later = to_the_end(skipped, other, run).await;
        replace(&mut came, &later);
    }
    came
}

/// Runs all cases, though some end the node: those that are left are run against a new one, as long as there are fewer
/// each time.
///
/// Another case may have ended it than the one that noticed. If that one is recorded with another outcome, it is run
/// again as any that differs; before a record is written, all such cases are run alone, each against a node of its own.
async fn to_the_end(suite: Suite, key: &str, run: &impl AsyncFn(Suite, &str) -> Vec<Came>) -> Vec<Came> {
    let mut came = run(suite.clone(), key).await;
    let mut left = usize::MAX;
    loop {
        let names = names(&came, |came| came.outcome == Outcome::NotRun);
        if names.is_empty() || names.len() >= left {
            break;
        }
        left = names.len();
        replace(&mut came, &run(suite.clone().retain(|case| names.iter().any(|name| name == case.name)), key).await);
    }
    if is_blessing() {
        for name in names(&came, |came| came.seen.contains(GONE)) {
            replace(&mut came, &run(suite.clone().retain(|case| case.name == name), key).await);
        }
    }
    came
}

fn names(came: &[Came], is_meant: impl Fn(&Came) -> bool) -> Vec<String> {
    came.iter().filter(|came| is_meant(came)).map(|came| came.name.clone()).collect()
}

/// Takes what came of cases that were run once more.
fn replace(came: &mut [Came], later: &[Came]) {
    for first in came {
        if let Some(second) = later.iter().find(|second| second.name == first.name) {
            first.clone_from(second);
        }
    }
}

/// Reads the file of a node.
///
/// # Errors
/// That it is not there, or not sound.
pub fn read(file: &str) -> Result<Recorded, String> {
    let path = path(file);
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Recorded::from_json(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The documentation with the table that the files make. With `CAPMUX_BLESS=1` it is rewritten first.
///
/// # Errors
/// What cannot be read.
pub fn document() -> Result<[String; 2], String> {
    if is_blessing() {
        rewrite()?;
    }
    let is = fs::read_to_string(docs()).map_err(failed)?;
    let should = with_table(&is)?;
    Ok([is, should])
}

fn bless(file: &str, mut recorded: Recorded, came: &[Came]) -> Result<(), String> {
    if let Some(left) = came.iter().find(|came| came.outcome == Outcome::NotRun) {
        return Err(format!("{}: {}; there is nothing to record", left.name, left.seen));
    }
    // Several nodes are tested at once.
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    recorded.update(came);
    fs::write(path(file), recorded.to_json()).map_err(failed)?;
    rewrite()
}

fn rewrite() -> Result<(), String> {
    let text = fs::read_to_string(docs()).map_err(failed)?;
    fs::write(docs(), with_table(&text)?).map_err(failed)
}

fn with_table(text: &str) -> Result<String, String> {
    let [begin, end] = MARKS;
    let (before, rest) = text.split_once(begin).ok_or("the documentation has no mark before the table")?;
    let (_, behind) = rest.split_once(end).ok_or("the documentation has no mark behind the table")?;
    let nodes: Vec<_> = FILES.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
    Ok(format!("{before}{begin}\n{}\n{end}{behind}", table(&cases(), &nodes)))
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("expected").join(file).with_extension("json")
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md")
}

fn failed(error: io::Error) -> String {
    format!("the documentation: {error}")
}
