//! The folder of what a node keeps.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// A folder that this process alone uses as long as this lives: after its end, however it came, others can.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes a folder, which is made with mode 0700 on Unix if there is none.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |what: &str, error: io::Error| {
            let text =
                format!("cannot {what} the data folder {}: {error}; choose another with --data-dir", path.display());
            Failure::new(Exit::Failed, text)
        };
        make(path).map_err(|error| failed("make", error))?;
        let lock = open_private(&path.join("lock")).map_err(|error| failed("use", error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), _lock: lock }),
            Err(TryLockError::Error(error)) => Err(failed("lock", error)),
            Err(TryLockError::WouldBlock) => {
                let hint = "stop that one, or choose another folder with --data-dir";
                let text = format!("another process uses the data folder {}: {hint}", path.display());
                Err(Failure::new(Exit::Failed, text))
            }
        }
    }

    /// The file with the node's key.
    pub(super) fn key_file(&self) -> PathBuf {
        self.path.join("nodekey")
    }

    /// The file with its address book.
    pub(super) fn book_file(&self) -> PathBuf {
        self.path.join("peers.json")
    }
}

fn make(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.write(true).create(true).truncate(false).open(path)
}
