//! A node key in a file: 64 hexadecimal digits, readable by its owner alone.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{NodeKey, private_file};

/// What is wrong with a key file. A file that exists is never changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be opened or read.
    #[error("cannot read the key file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Others than the owner may read or write the file.
    #[error("the key file {} is open to others (mode {mode:04o}); make it private with chmod 600", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else than a key.
    #[error("the key file {} does not hold a node key (64 hexadecimal digits)", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
    /// A file of that name exists.
    #[error("the file {} exists and is not overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write the key file {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

impl NodeKey {
    /// Reads the key in the file `path`: 64 hexadecimal digits, with white space around them allowed.
    ///
    /// # Errors
    /// [`KeyFileError`], when the file cannot be read, others than its owner may read or write it (on Unix), or it
    /// does not hold a key.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        let failed = |source| KeyFileError::Read { path: path.into(), source };
        let file = File::open(path).map_err(failed)?;
        refuse_if_open_to_others(&file, path)?;
        // A key is 64 digits; a longer file is not read to its end.
        let mut text = Zeroizing::new(String::with_capacity(256));
        match file.take(256).read_to_string(&mut text) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(KeyFileError::Corrupt { path: path.into() })
            }
            Err(error) => Err(failed(error)),
            Ok(_) => Self::from_hex(text.trim()).map_err(|_| KeyFileError::Corrupt { path: path.into() }),
        }
    }

    /// Writes the key into the new file `path`, with mode 0600 on Unix.
    ///
    /// The file appears whole or not at all: it is written under another name in the same folder, then linked.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] when there is a file of that name, [`KeyFileError::Write`] when it cannot be written.
    pub fn save_new(&self, path: impl AsRef<Path>) -> Result<(), KeyFileError> {
        let path = path.as_ref();
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.into() },
            _ => KeyFileError::Write { path: path.into(), source },
        };
        let content = Zeroizing::new(format!("{}\n", *self.to_hex()));
        private_file::write(path, content.as_bytes(), |temporary, path| fs::hard_link(temporary, path)).map_err(failed)
    }
}

#[cfg(unix)]
fn refuse_if_open_to_others(file: &File, path: &Path) -> Result<(), KeyFileError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata().map_err(|source| KeyFileError::Read { path: path.into(), source })?;
    let mode = metadata.mode() & 0o7777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(KeyFileError::TooOpen { path: path.into(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_if_open_to_others(_: &File, _: &Path) -> Result<(), KeyFileError> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn a_saved_key_is_private_and_loads_again() {
        let folder = folder();
        let path = folder.path().join("key");
        let key = NodeKey::random();
        key.save_new(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600, "H80");
        assert_eq!(NodeKey::load(&path).unwrap(), key);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn an_existing_file_is_never_replaced() {
        let folder = folder();
        let path = folder.path().join("key");
        fs::write(&path, "precious").unwrap();
        let error = NodeKey::random().save_new(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Exists { .. }), "H80: {error:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_file_open_to_others_is_refused() {
        let folder = folder();
        let path = folder.path().join("key");
        NodeKey::random().save_new(&path).unwrap();
        for mode in [0o644, 0o640, 0o620, 0o604] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = NodeKey::load(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::TooOpen { mode: seen, .. } if seen == mode), "H80: {error:?}");
        }
    }

    #[test]
    fn a_corrupt_file_is_an_error_and_stays_as_it_is() {
        let folder = folder();
        let path = folder.path().join("key");
        for content in [&b""[..], b"not a key", &[0xff; 64], &[b'0'; 64], &[b'a'; 4096]] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = NodeKey::load(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Corrupt { .. }), "H80: {error:?}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }
}
