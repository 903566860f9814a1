//! Files that only their owner may read, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The end of the name of what is being written.
const TEMPORARY: &str = ".tmp";

/// How many bytes tell one temporary file from another.
const SUFFIX: usize = 8;

/// Writes `content` into a new file in the folder of `path`, with mode 0600 on Unix, and waits until the disk has it.
/// Then `finish` gives it the name `path`. The temporary name is gone afterwards, whatever happens.
pub(crate) fn write(
    path: &Path,
    content: &[u8],
    finish: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary_name(path)?;
    let written = write_new(&temporary, content).and_then(|()| finish(&temporary, path));
    let removed = match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    written.and(removed)
}

/// Puts `content` in the place of the file `path`: until the call returns the file is the old one or the new one, even
/// if the machine loses power, and then it is the new one.
#[cfg(feature = "book-file")]
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, |temporary, path| {
        fs::rename(temporary, path)?;
        sync_folder(path)
    })
}

/// Removes what writers of the file `path` left behind that were killed. Nobody else may be writing it meanwhile.
#[cfg(feature = "book-file")]
pub(crate) fn remove_leftovers(path: &Path) {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
    let Ok(folder) = fs::read_dir(folder(path)) else { return };
    for file in folder.flatten() {
        let is_leftover = file.file_name().to_str().is_some_and(|other| {
            let suffix = other.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
            let suffix = suffix.and_then(|rest| rest.strip_suffix(TEMPORARY));
            suffix.is_some_and(|suffix| suffix.len() == 2 * SUFFIX && suffix.bytes().all(|b| b.is_ascii_hexdigit()))
        });
        if is_leftover {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_file(file.path());
        }
    }
}

fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let mut suffix = [0; SUFFIX];
    getrandom::fill(&mut suffix).map_err(io::Error::other)?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}{TEMPORARY}", hex::encode(suffix)));
    Ok(path.with_file_name(name))
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A new name is on the disk once its folder is.
#[cfg(all(feature = "book-file", unix))]
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

#[cfg(all(feature = "book-file", not(unix)))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(feature = "book-file")]
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
