//! A file that is there in one piece, or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::exit::{Exit, Failure};

/// A file to be written at the end. What stands in its place stays until then.
#[derive(Debug)]
pub(super) struct OutputFile {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl OutputFile {
    /// Checks that it can be written before there is anything to write.
    ///
    /// # Errors
    /// A folder that is not there or not writable, or a folder in place of the file.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::new(Exit::Usage, format!("cannot write {}: {what}", path.display()));
        if path.is_dir() {
            return Err(wrong("it is a folder; give the name of a file".to_owned()));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = readable(Builder::new().prefix(".junit-")).tempfile_in(folder);
        let temporary = temporary.map_err(|error| wrong(format!("{error}; check the folder")))?;
        Ok(Self { temporary, path: path.to_owned() })
    }

    /// Writes it, and puts it in its place.
    pub(super) fn write(mut self, text: &str) -> Result<(), Failure> {
        let written = self.temporary.write_all(text.as_bytes()).and_then(|()| self.temporary.as_file().sync_all());
        let placed = written.and_then(|()| self.temporary.persist(&self.path).map_err(|error| error.error));
        let failed = |error| Failure::new(Exit::Failed, format!("cannot write {}: {error}", self.path.display()));
        placed.map(drop).map_err(failed)
    }
}

/// Others may read it, as any file: what reads the results of a CI is often another user.
#[cfg(unix)]
fn readable<'a, 'b>(builder: &'a mut Builder<'b, 'b>) -> &'a mut Builder<'b, 'b> {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable<'a, 'b>(builder: &'a mut Builder<'b, 'b>) -> &'a mut Builder<'b, 'b> {
    builder
}
