//! `capmux book`: shows address books, fills them from lists of nodes, and makes lists of them.

use std::fmt::Display;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use capmux::book::{AddressBook, Known, NodeList, Parsed, State};
use clap::Subcommand;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::output;

/// No book and no list is longer.
const MAX_SIZE: u64 = 64 << 20;

/// So many refused nodes are told of.
const MOST_REFUSED: usize = 10;

/// Shows address books, fills them from lists of nodes, and makes lists of them
///
/// A node with a data folder has its book there, as peers.json.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the nodes of a book, one a line: how it stands with each, its score, and where it is
    Show {
        /// The book
        file: PathBuf,
        /// Prints one JSON document instead
        #[arg(long)]
        json: bool,
    },
    /// Adds the nodes of a list to a book, which is made if there is none
    ///
    /// A list is a nodes.json of geth's devp2p tool, a static-nodes.json, or one enode URL or record a line. Exit code
    /// 6 tells that some of its nodes are refused. The node that uses the book must not run.
    Import {
        /// The book
        file: PathBuf,
        /// The list
        list: PathBuf,
        /// The most nodes that the book has room for: book.capacity of the node that uses it
        #[arg(long, value_name = "N", default_value_t = AddressBook::DEFAULT_CAPACITY)]
        capacity: usize,
    },
    /// Writes the nodes of a book to stdout as enode URLs, one a line. Private and banned ones are left out
    Export {
        /// The book
        file: PathBuf,
        /// Writes a nodes.json of geth's devp2p tool instead, with the nodes whose signed records are known
        #[arg(long)]
        nodes_json: bool,
    },
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Show { file, json } => show(&read(&file, AddressBook::MAX_CAPACITY)?, json),
        Command::Import { file, list, capacity } => import(&file, &list, capacity),
        Command::Export { file, nodes_json } => {
            let (book, now) = (read(&file, AddressBook::MAX_CAPACITY)?, SystemTime::now());
            let list = if nodes_json { book.to_nodes_json(now) } else { book.to_enode_list(now).into_bytes() };
            output::print(&list).map(drop)
        }
    }
}

/// Reads a book, and leaves the file as it is.
fn read(file: &Path, capacity: usize) -> Result<AddressBook, Failure> {
    let failed = |error: &dyn Display| failed("read the address book", file, error);
    let bytes = content(file).map_err(|error| failed(&error))?;
    let Parsed { book, skipped, .. } = AddressBook::from_json(&bytes, capacity).map_err(|error| failed(&error))?;
    if skipped > 0 {
        output::note(format_args!("{skipped} entries of the address book {} are left out", file.display()));
    }
    Ok(book)
}

fn content(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_SIZE {
        true => Err(io::Error::other(format!("it is longer than {MAX_SIZE} bytes"))),
        false => Ok(bytes),
    }
}

fn failed(what: &str, file: &Path, error: &dyn Display) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {what} {}: {error}", file.display()))
}

fn import(file: &Path, list: &Path, capacity: usize) -> Result<(), Failure> {
    let bytes = content(list).map_err(|error| failed("read the list", list, &error))?;
    let list = NodeList::parse(&bytes).map_err(|error| failed("use the list", list, &error))?;
    let _lock = lock(file)?;
    let mut book = match file.try_exists() {
        Ok(false) => empty(capacity)?,
        _ => read(file, capacity)?,
    };
    let refused = book.import(&list, SystemTime::now());
    book.save(file).map_err(|error| failed("write the address book", file, &error))?;
    for (id, refusal) in refused.iter().take(MOST_REFUSED) {
        output::note(format_args!("{id}: {refusal}"));
    }
    let taken = list.nodes.len() - refused.len();
    output::note(format_args!(
        "nodes taken on: {taken}, refused: {}, without an address: {}; the book has {}",
        refused.len(),
        list.skipped,
        book.len()
    ));
    match refused.len() {
        0 => Ok(()),
        count => Err(Failure::new(Exit::Partly, format!("refused nodes of the list: {count}"))),
    }
}

/// A book without nodes.
pub(crate) fn empty(capacity: usize) -> Result<AddressBook, Failure> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)
        .map_err(|error| Failure::new(Exit::Failed, format!("the operating system has no random numbers: {error}")))?;
    Ok(AddressBook::new(capacity, salt))
}

/// Keeps nodes away from the book of a data folder, if it is one: the node would write over what is added.
fn lock(file: &Path) -> Result<Option<File>, Failure> {
    let lock = match OpenOptions::new().write(true).open(file.with_file_name("lock")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened,
    };
    let locked = lock.map_err(TryLockError::Error).and_then(|lock| lock.try_lock().map(|()| lock));
    locked.map(Some).map_err(|error| {
        let text = match error {
            TryLockError::WouldBlock => format!("a node uses the address book {}; stop it first", file.display()),
            TryLockError::Error(error) => format!("cannot lock the address book {}: {error}", file.display()),
        };
        Failure::new(Exit::Failed, text)
    })
}

/// A node as `--json` tells of it: its field names are promised.
#[derive(Serialize)]
struct Shown {
    node_id: String,
    node: String,
    state: &'static str,
    score: i32,
    persistent: bool,
    private: bool,
    source: String,
    attempts: u32,
    connections: u32,
    failures: u32,
    /// In seconds since 1970.
    last_connected: Option<u64>,
}

impl Shown {
    fn of(known: &Known) -> Self {
        let since_1970 = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Self {
            node_id: known.node.node_id().to_string(),
            node: known.node.to_string(),
            state: match known.state {
                State::New => "new",
                State::Tried => "tried",
                State::Connected => "connected",
                State::Failed => "failed",
                State::Banned => "banned",
                _ => "other",
            },
            score: known.score,
            persistent: known.flags.is_persistent,
            private: known.flags.is_private,
            source: known.source.to_string(),
            attempts: known.attempts,
            connections: known.connections,
            failures: known.failures,
            last_connected: known.last_connected.map(since_1970),
        }
    }
}

fn show(book: &AddressBook, json: bool) -> Result<(), Failure> {
    let nodes: Vec<_> = book.iter(SystemTime::now()).map(|known| Shown::of(&known)).collect();
    if json {
        #[derive(Serialize)]
        struct Document {
            nodes: Vec<Shown>,
        }
        let text = serde_json::to_string_pretty(&Document { nodes });
        let text =
            text.map_err(|error| Failure::new(Exit::Failed, format!("cannot write the book as JSON: {error}")))?;
        return output::print_line(text).map(drop);
    }
    let lines = nodes.iter().map(|node| {
        let flag = |is_set, name| if is_set { name } else { "" };
        let flags = [flag(node.persistent, " persistent"), flag(node.private, " private")].concat();
        format!("{:<9} {:>4} {}{flags}\n", node.state, node.score, node.node)
    });
    output::print(lines.collect::<String>().as_bytes()).map(drop)
}
