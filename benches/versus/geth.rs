//! The other side: the Go program of the interoperability tests, in its bench mode.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Failure;
use crate::process::Program;

/// Builds it with go-ethereum as `go.sum` pins it; `None` where that is not possible.
pub(crate) fn build() -> Result<Option<Program>, Failure> {
    let executable = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop").join("geth-peer");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/geth");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&executable).arg(".").current_dir(folder).stdin(Stdio::null());
    let why = match build.output() {
        Ok(output) if output.status.success() => return Ok(Some(Program { executable, mode: "bench" })),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            // What does not compile is a defect; what cannot be fetched is only missing.
            if said.contains(".go:") {
                return Err(format!("`go build` failed:\n{said}"));
            }
            format!("`go build` failed: {said}")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => "go is not installed".to_owned(),
        Err(error) => format!("`go build` cannot be run: {error}"),
    };
    if std::env::var_os("CAPMUX_REQUIRE_INTEROP").is_some_and(|value| value == "1") {
        return Err(format!("go-ethereum has to be measured, but {why}"));
    }
    eprintln!("SKIPPED: go-ethereum: {why}. What follows is capmux alone.");
    Ok(None)
}
