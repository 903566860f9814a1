//! Programs that measure one workload and print its figures as a line of JSON.

use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::{CHILD, Failure};

/// An executable and the arguments that make it measure.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) executable: PathBuf,
    pub(crate) mode: &'static str,
}

/// A child that does not outlive its handle.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    /// This program, for capmux.
    pub(crate) fn this() -> Result<Self, Failure> {
        let executable = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        Ok(Self { executable, mode: CHILD })
    }

    /// Runs a workload to its end and returns the figures.
    pub(crate) fn measure(&self, name: &str, args: &[String]) -> Result<Value, Failure> {
        let (mut child, mut lines) = self.start(args)?;
        let mut figures = next(&mut lines).map_err(|error| self.failed(name, &error))?;
        // A broadcast first says where, and waits for its peers.
        let _drain = match figures.get("enode").and_then(Value::as_str) {
            Some(enode) => {
                let peers = args.iter().skip_while(|arg| *arg != "--peers").nth(1).map_or("0", String::as_str);
                let drain = ["drain", "--enode", enode, "--peers", peers].map(str::to_owned);
                let drain = Self::this()?.start(&drain)?;
                figures = next(&mut lines).map_err(|error| self.failed(name, &error))?;
                Some(drain)
            }
            None => None,
        };
        let status = child.0.wait().map_err(|error| self.failed(name, &error.to_string()))?;
        if status.success() { Ok(figures) } else { Err(self.failed(name, &status.to_string())) }
    }

    fn start(&self, args: &[String]) -> Result<(Running, Lines<BufReader<ChildStdout>>), Failure> {
        let mut command = Command::new(&self.executable);
        command.arg(self.mode).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("cannot run {}: {error}", self.executable.display()))?;
        let stdout = child.stdout.take().ok_or("a child has no stdout")?;
        Ok((Running(child), BufReader::new(stdout).lines()))
    }

    fn failed(&self, name: &str, why: &str) -> Failure {
        format!("{name} gave no figures with {}: {why}", self.executable.display())
    }
}

fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<Value, String> {
    let line = lines.next().ok_or("it printed nothing more")?.map_err(|error| error.to_string())?;
    serde_json::from_str(&line).map_err(|error| format!("{line:?} is no JSON: {error}"))
}
