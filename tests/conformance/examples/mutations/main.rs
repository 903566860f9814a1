//! Builds capmux with one deliberate mistake after the other, and checks that each is caught by what
//! `mutations/mutations.toml` says: a case of the suite against a node of that build, or a test.
//!
//! The suite and its model of RLPx are those of this build. Before any mistake is made, all that is to catch one has to
//! pass. Arguments: a part of the names of those to try.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use std::{env, fs};

use capmux_conformance::{Outcome, ProbeError, Report, Suite, SuiteError};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

mod list;

use list::Mutation;

/// How long a node may take to say where it is.
const FIRST_LINE: Duration = Duration::from_secs(30);

/// Where the broken builds are made.
struct Workshop {
    tree: PathBuf,
    target: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let pattern = env::args().nth(1).unwrap_or_default().to_lowercase();
    let workshop = Workshop::new().await;
    let mut mutations = list::mutations();
    mutations.retain(|one| one.what.to_lowercase().contains(&pattern));
    if let Err(error) = workshop.control(&mutations).await {
        println!("Without any mistake: {error}");
        return ExitCode::FAILURE;
    }
    let (mut caught, mut missed) = (0, 0);
    for mutation in mutations {
        match workshop.try_mutation(&mutation).await {
            Ok(seen) => {
                caught += 1;
                println!("caught: {}\n        by {}: {seen}", mutation.what, mutation.catcher());
            }
            Err(error) => {
                missed += 1;
                println!("MISSED: {}\n        by {}: {error}", mutation.what, mutation.catcher());
            }
        }
    }
    println!("{caught} of {} caught", caught + missed);
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Workshop {
    /// A copy of what Git has, and room for its builds.
    async fn new() -> Self {
        let root = list::root();
        let room = root.join("target/mutations");
        let (tree, target) = (room.join("tree"), room.join("target"));
        let _ = fs::remove_dir_all(&tree);
        let mut files = Command::new("git");
        files.args(["ls-files", "-z"]).current_dir(&root);
        let files = files.output().await.expect("git lists the files");
        for file in String::from_utf8_lossy(&files.stdout).split_terminator('\0') {
            let (from, to) = (root.join(file), tree.join(file));
            fs::create_dir_all(to.parent().expect("it is below the root")).expect("the folder can be made");
            fs::copy(from, to).expect("the file can be copied");
        }
        Self { tree, target }
    }

    /// Checks that the tree as it is passes all that is to catch mistakes.
    async fn control(&self, mutations: &[Mutation]) -> Result<(), String> {
        let cases: BTreeSet<_> = mutations.iter().filter_map(|one| one.case.as_deref()).collect();
        if !cases.is_empty() {
            let report = self.suite(&cases).await?.map_err(|error| error.to_string())?;
            if let Some(result) = report.results().iter().find(|result| result.outcome != Outcome::Passed) {
                return Err(format!("the case `{}` {}: {}", result.case.name, result.outcome, result.seen));
            }
        }
        let tests = mutations.iter().filter(|one| one.case.is_none()).filter_map(|one| one.test.as_deref());
        for test in tests.collect::<BTreeSet<_>>() {
            self.test(test).await?.map_err(|said| format!("`cargo test -p capmux {test}` fails: {said}"))?;
        }
        Ok(())
    }

    /// What was seen of the mistake, or why it was not caught.
    async fn try_mutation(&self, mutation: &Mutation) -> Result<String, String> {
        let file = self.tree.join(&mutation.file);
        let original = fs::read_to_string(&file).map_err(|error| error.to_string())?;
        fs::write(&file, mutation.apply(&original)?).map_err(|error| error.to_string())?;
        let tried = match (&mutation.case, &mutation.test) {
            (Some(case), _) => self.case(case).await,
            (None, Some(test)) => match self.test(test).await {
                Ok(Ok(())) => Err("the test passes".to_owned()),
                Ok(Err(said)) => Ok(said),
                Err(error) => Err(error),
            },
            (None, None) => Err("it names neither a case nor a test".to_owned()),
        };
        fs::write(&file, original).map_err(|error| error.to_string())?;
        tried
    }

    async fn case(&self, name: &str) -> Result<String, String> {
        match self.suite(&BTreeSet::from([name])).await? {
            // It does not even come to the first Hello.
            Err(SuiteError::Probe(error @ (ProbeError::Handshake { .. } | ProbeError::Hello { .. }))) => {
                Ok(error.to_string())
            }
            Err(error) => Err(error.to_string()),
            Ok(report) => match &report.results()[0] {
                result if result.outcome == Outcome::Failed => Ok(result.seen.clone()),
                result => Err(format!("the case {}: {}", result.outcome, result.seen)),
            },
        }
    }

    /// What comes of these cases against a node of the tree.
    async fn suite(&self, names: &BTreeSet<&str>) -> Result<Result<Report, SuiteError>, String> {
        let build = self.cargo(&["build", "--quiet", "-p", "capmux-conformance", "--example", "node"]).await;
        build.map_err(|said| format!("it does not build: {said}"))?;
        let suite = Suite::new().retain(|case| names.contains(case.name));
        if suite.cases().len() < names.len() {
            return Err(format!("not all of these are cases: {names:?}"));
        }
        let (mut node, enode) = self.node().await?;
        let report = suite.run(&enode).await;
        let _ = node.kill().await;
        Ok(report)
    }

    async fn test(&self, test: &str) -> Result<Result<(), String>, String> {
        let mut arguments = vec!["test", "--quiet", "-p", "capmux", "--no-run"];
        let (target, filter) = test.rsplit_once(' ').unwrap_or((test, ""));
        arguments.extend(target.split(' '));
        self.cargo(&arguments).await.map_err(|said| format!("it does not build: {said}"))?;
        arguments.retain(|argument| *argument != "--no-run");
        arguments.push(filter);
        Ok(self.cargo(&arguments).await)
    }

    /// The error is the first line that tells of a panic or an error.
    async fn cargo(&self, arguments: &[&str]) -> Result<(), String> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(arguments).current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        let output = cargo.output().await.map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let telling = |line: &&str| line.contains("panicked at") || line.starts_with("error");
        Err(said.lines().find(telling).unwrap_or("no word").to_owned())
    }

    async fn node(&self) -> Result<(Child, capmux::Enode), String> {
        let mut command = Command::new(self.target.join("debug/examples/node"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut node = command.spawn().map_err(|error| format!("the node does not start: {error}"))?;
        let mut lines = BufReader::new(node.stdout.take().expect("it is a pipe")).lines();
        let line = timeout(FIRST_LINE, lines.next_line()).await.map_err(|_| "the node says nothing in time")?;
        let line = line.ok().flatten().ok_or("the node says nothing")?;
        let enode = line.parse().map_err(|error| format!("the node says {line:?}: {error}"))?;
        Ok((node, enode))
    }
}
