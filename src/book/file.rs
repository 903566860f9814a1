//! The book in a file, readable by its owner alone.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{AddressBook, FormatError, Parsed};
use crate::node::private_file;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// How many unusable files are kept.
const MAX_SET_ASIDE: u32 = 5;

/// A book, and what was wrong with its file.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The book; an empty one when the file is missing or unusable.
    pub book: AddressBook,
    /// What was wrong, if anything. None of it keeps a node from starting.
    pub problem: Option<BookProblem>,
}

/// What is wrong with the file of an address book. An unusable one is renamed, to be looked at; `moved` is its new
/// name, or `None` when it could not be renamed or is no file at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BookProblem {
    /// The file cannot be read.
    #[error("cannot read the address book {}{}: {source}", path.display(), set_aside_as(moved))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
        /// Where it is now.
        moved: Option<PathBuf>,
    },
    /// The file is larger than 16 MiB.
    #[error("the address book {}{} has {size} bytes; {MAX_FILE} are allowed", path.display(), set_aside_as(moved))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// Where it is now.
        moved: Option<PathBuf>,
    },
    /// The file is not an address book, or one of a later version.
    #[error("the address book {}{} cannot be used: {source}", path.display(), set_aside_as(moved))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
        /// Where it is now.
        moved: Option<PathBuf>,
    },
    /// Some nodes or bans are malformed, or there is no room for them. The others are in the book.
    #[error("{count} entries of the address book {} are left out", path.display())]
    Skipped {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
}

fn set_aside_as(moved: &Option<PathBuf>) -> String {
    moved.as_ref().map(|path| format!(" (now {})", path.display())).unwrap_or_default()
}

impl AddressBook {
    /// Reads the book in the file `path`, with room for `capacity` nodes. A missing file is an empty book; an unusable
    /// one is too, and is renamed to `<name>.corrupt-1` and so on, of which five are kept. What a killed
    /// [`save`](Self::save) left behind is removed.
    ///
    /// The call blocks while it reads.
    ///
    /// # Panics
    /// When the operating system has no random numbers to give, after which no cryptography is possible.
    pub fn load(path: impl AsRef<Path>, capacity: usize) -> Loaded {
        let path = path.as_ref();
        private_file::remove_leftovers(path);
        let problem = match read(path).map(|bytes| Self::from_json(&bytes, capacity)) {
            Ok(Ok(Parsed { book, skipped: 0 })) => return Loaded { book, problem: None },
            Ok(Ok(Parsed { book, skipped: count })) => {
                return Loaded { book, problem: Some(BookProblem::Skipped { path: path.into(), count }) };
            }
            Ok(Err(source)) => Some(BookProblem::Corrupt { path: path.into(), source, moved: set_aside(path) }),
            Err(Unread::Missing) => None,
            Err(Unread::TooLarge(size)) => {
                Some(BookProblem::TooLarge { path: path.into(), size, moved: set_aside(path) })
            }
            Err(Unread::Failed(source)) => {
                Some(BookProblem::Read { path: path.into(), source, moved: set_aside(path) })
            }
        };
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).expect("the operating system gives random numbers");
        Loaded { book: Self::new(capacity, salt), problem }
    }

    /// Writes the book into the file `path`, with mode 0600 on Unix: whenever the writer is killed, the file is the old
    /// one or the new one. Nodes that are connected now are the first to be dialled by who loads it, so that a node
    /// which stops saves before its peers go.
    ///
    /// The call blocks while it writes and the disk takes it.
    ///
    /// # Errors
    /// What the operating system says; the file is then the old one, or the new one that may not survive a power cut.
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        private_file::replace(path.as_ref(), &self.to_json())
    }
}

enum Unread {
    Missing,
    TooLarge(u64),
    Failed(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Missing } else { Self::Failed(error) }
    }
}

/// Looks at what it is before it opens it, since a pipe would be waited for.
fn read(path: &Path) -> Result<Vec<u8>, Unread> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(Unread::Failed(io::Error::other("it is not a file")));
    }
    if metadata.len() > MAX_FILE {
        return Err(Unread::TooLarge(metadata.len()));
    }
    let mut bytes = Vec::new();
    // It may have grown since.
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE { Err(Unread::TooLarge(bytes.len() as u64)) } else { Ok(bytes) }
}

/// Renames the file; when all names are taken, the last of them is used again. What is no file, such as a folder or a
/// device, is not for this library to move.
fn set_aside(path: &Path) -> Option<PathBuf> {
    if !path.is_file() {
        return None;
    }
    let name = |number: u32| {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".corrupt-{number}"));
        path.with_file_name(name)
    };
    let is_free = |number: &u32| name(*number).symlink_metadata().is_err();
    let moved = name((1..MAX_SET_ASIDE).find(is_free).unwrap_or(MAX_SET_ASIDE));
    fs::rename(path, &moved).is_ok().then_some(moved)
}
