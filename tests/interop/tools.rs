//! The programs that the tests run, built once, and what to do where they cannot be built.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use std::{env, fs, io};

use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// How long a build may take, with a cold cache and everything to be fetched.
const BUILD_LIMIT: Duration = Duration::from_secs(600);

/// The oldest Node.js that runs the ethereumjs peer.
const NODE_JS: u32 = 20;

/// What build tools say when they miss the network or a newer version of themselves, in lower case.
const SIGNS_OF_MISSING: [&str; 11] = [
    "dial tcp",
    "no such host",
    "i/o timeout",
    "tls handshake timeout",
    "enotfound",
    "eai_again",
    "econnrefused",
    "etimedout",
    "disabled by goproxy",
    "toolchain not available",
    "go.mod requires go",
];

/// Whose node it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Implementation {
    Geth,
    EthereumJs,
}

impl Implementation {
    /// How to start it, or why that is not possible here.
    pub(crate) async fn program(self) -> Result<Program, String> {
        static GETH: OnceCell<Result<Program, String>> = OnceCell::const_new();
        static ETHEREUM_JS: OnceCell<Result<Program, String>> = OnceCell::const_new();
        match self {
            Self::Geth => GETH.get_or_init(|| go_build("geth-peer", ".")).await.clone(),
            Self::EthereumJs => ETHEREUM_JS.get_or_init(ethereum_js).await.clone(),
        }
    }
}

/// A command line without the arguments of the single run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    executable: OsString,
    script: Option<OsString>,
}

impl Program {
    /// A child process that is killed when its handle is dropped.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(&self.script).kill_on_drop(true);
        command
    }
}

/// go-ethereum's own client, or why it is not to be had here.
pub(crate) async fn devp2p() -> Result<Program, String> {
    go_build("devp2p", "github.com/ethereum/go-ethereum/cmd/devp2p").await
}

/// Says loudly that a test does not run, or fails if it has to.
pub(crate) fn skipped(test: &str, why: &str) {
    if env::var_os("CAPMUX_REQUIRE_INTEROP").is_some_and(|value| value == "1") {
        panic!("{test} has to run, but {why}");
    }
    // Not `eprintln`, which the test runner swallows; and in one piece, as other tests write too.
    let _ = io::stderr().write_all(format!("SKIPPED: {test}: {why}\n").as_bytes());
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(name)
}

/// Builds a package of the Go module in `geth/`, which `go.sum` pins. An executable that is up to date is left alone.
async fn go_build(name: &str, package: &str) -> Result<Program, String> {
    let executable = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop").join(name);
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&executable).arg(package).current_dir(folder("geth"));
    run("go build", build).await?;
    Ok(Program { executable: executable.into(), script: None })
}

/// Installs the libraries of the peer unless they are newer than the lockfile.
async fn ethereum_js() -> Result<Program, String> {
    let mut version = Command::new("node");
    version.arg("--version");
    let version = run("node --version", version).await?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    if major.is_none_or(|major: u32| major < NODE_JS) {
        return Err(format!("node is {version}, and {NODE_JS} is needed"));
    }
    let folder = folder("ethereumjs");
    let modified = |file: &str| fs::metadata(folder.join(file)).and_then(|metadata| metadata.modified()).ok();
    if modified("node_modules/.package-lock.json") < modified("package-lock.json") {
        let mut install = Command::new("npm");
        install.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder);
        run("npm ci", install).await?;
    }
    Ok(Program { executable: "node".into(), script: Some(folder.join("peer.mjs").into()) })
}

/// Runs a build tool. The error is why this machine cannot do it; any other failure is a defect.
async fn run(what: &str, mut command: Command) -> Result<Output, String> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let Ok(output) = timeout(BUILD_LIMIT, output).await else {
        return Err(format!("`{what}` was not done after {BUILD_LIMIT:?}"));
    };
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let program = what.split(' ').next().unwrap_or(what);
            return Err(format!("{program} is not installed"));
        }
        output => output.unwrap_or_else(|error| panic!("`{what}` cannot be run: {error}")),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(output);
    }
    let missing = said.lines().find(|line| SIGNS_OF_MISSING.iter().any(|sign| line.to_lowercase().contains(sign)));
    match missing {
        Some(line) => Err(format!("`{what}` failed: {line}")),
        None => panic!("`{what}` failed:\n{said}"),
    }
}
