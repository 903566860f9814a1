//! Builds capmux with one deliberate mistake after the other, and checks that each is caught by what
//! `mutations/mutations.toml` says: a case of the suite against a node of that build, or a test.
//!
//! The suite and its model of RLPx are those of this build. Arguments: a part of the names of those to try.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::{env, fs};

use capmux_conformance::{Outcome, Suite};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

mod list;

use list::Mutation;

/// Where the broken builds are made.
struct Workshop {
    tree: PathBuf,
    target: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let pattern = env::args().nth(1).unwrap_or_default().to_lowercase();
    let workshop = Workshop::new().await;
    let (mut caught, mut missed) = (0, 0);
    for mutation in list::mutations().into_iter().filter(|one| one.what.to_lowercase().contains(&pattern)) {
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

    /// What was seen of the mistake, or why it was not caught.
    async fn try_mutation(&self, mutation: &Mutation) -> Result<String, String> {
        let file = self.tree.join(&mutation.file);
        let original = fs::read_to_string(&file).map_err(|error| error.to_string())?;
        fs::write(&file, mutation.apply(&original)?).map_err(|error| error.to_string())?;
        let tried = match (&mutation.case, &mutation.test) {
            (Some(case), _) => self.case(case).await,
            (None, Some(test)) => self.test(test).await,
            (None, None) => Err("it names neither a case nor a test".to_owned()),
        };
        fs::write(&file, original).map_err(|error| error.to_string())?;
        tried
    }

    async fn case(&self, name: &str) -> Result<String, String> {
        let build = self.cargo(&["build", "--quiet", "-p", "capmux-conformance", "--example", "node"]).await;
        build.map_err(|said| format!("it does not build: {said}"))?;
        let (mut node, enode) = self.node().await?;
        let suite = Suite::new().retain(|case| case.name == name);
        if suite.cases().is_empty() {
            return Err("there is no such case".to_owned());
        }
        let report = suite.run(&enode).await;
        let _ = node.kill().await;
        match report {
            // It does not even come to the first Hello.
            Err(error) => Ok(error.to_string()),
            Ok(report) => match &report.results()[0] {
                result if result.outcome == Outcome::Failed => Ok(result.seen.clone()),
                result => Err(format!("the case {}: {}", result.outcome, result.seen)),
            },
        }
    }

    async fn test(&self, test: &str) -> Result<String, String> {
        let mut arguments = vec!["test", "--quiet", "-p", "capmux", "--no-run"];
        let (target, filter) = test.rsplit_once(' ').unwrap_or((test, ""));
        arguments.extend(target.split(' '));
        self.cargo(&arguments).await.map_err(|said| format!("it does not build: {said}"))?;
        arguments.retain(|argument| *argument != "--no-run");
        arguments.push(filter);
        match self.cargo(&arguments).await {
            Ok(()) => Err("the test passes".to_owned()),
            Err(said) => Ok(said),
        }
    }

    /// The error is the last line that tells something.
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
        let line = lines.next_line().await.ok().flatten().ok_or("the node says nothing")?;
        let enode = line.parse().map_err(|error| format!("the node says {line:?}: {error}"))?;
        Ok((node, enode))
    }
}
