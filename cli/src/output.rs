//! Data to stdout, notes to stderr, and no panic when nobody reads them.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use crate::exit::{Exit, Failure};

/// Writes data to stdout at once, and says whether somebody still reads it.
///
/// # Errors
/// Any other failure than a reader that is gone, such as a full disk.
pub(crate) fn print(data: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(data).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot write to standard output: {error}"))),
    }
}

/// Writes a line of data to stdout, as [`print`].
pub(crate) fn print_line(line: impl fmt::Display) -> Result<bool, Failure> {
    print(format!("{line}\n").as_bytes())
}

/// Writes a line to stderr. That nobody reads it is no reason to stop.
pub(crate) fn note(line: impl fmt::Display) {
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}
