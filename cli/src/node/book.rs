//! The address book of a node.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::SystemTime;

use capmux::book::{AddressBook, BookProblem, Flags, Loaded, SharedBook};
use capmux::{Enode, NodeId, ServerBuilder};

use super::data_dir::DataDir;
use crate::config::Plan;
use crate::exit::Failure;
use crate::{book, output};

/// A book, and where it is kept.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) shared: SharedBook,
    /// What was wrong with the file.
    pub(super) problem: Option<BookProblem>,
    file: Option<PathBuf>,
}

impl Book {
    /// Reads the book of the data folder; without a folder it is empty and lasts for the run. What is wrong with it is
    /// told on stderr, too.
    pub(super) fn open(plan: &Plan, data_dir: Option<&DataDir>) -> Result<Self, Failure> {
        let file = data_dir.map(DataDir::book_file);
        let (mut book, problem) = match &file {
            Some(file) => {
                let Loaded { book, problem, .. } = AddressBook::load(file, plan.book_capacity);
                (book, problem)
            }
            None => (book::empty(plan.book_capacity)?, None),
        };
        if let Some(problem) = &problem {
            output::note(problem);
        }
        follow(&mut book, plan);
        Ok(Self { shared: SharedBook::new(book), problem, file })
    }

    /// Has a server use it.
    pub(super) fn give(&self, plan: &Plan, builder: ServerBuilder) -> ServerBuilder {
        let builder = builder.address_book(self.shared.clone());
        self.file.iter().fold(builder, |builder, file| builder.save_book(file, plan.save_interval))
    }
}

/// Which nodes are persistent, and which private, the plan says, and not what an earlier one has left in the book.
fn follow(book: &mut AddressBook, plan: &Plan) {
    let now = SystemTime::now();
    let ids = |nodes: &[Enode]| nodes.iter().map(Enode::node_id).collect::<HashSet<NodeId>>();
    let (persistent, private) = (ids(&plan.persistent), ids(&plan.private));
    let marked = book.iter(now).filter(|known| known.flags != Flags::default());
    let gone = |known: capmux::book::Known| {
        let id = known.node.node_id();
        let unless = |is_listed: bool, flag| if is_listed { Flags::default() } else { flag };
        let flags = known.flags.without(unless(persistent.contains(&id), Flags::PERSISTENT));
        (id, flags.without(unless(private.contains(&id), Flags::PRIVATE)))
    };
    for (id, flags) in marked.map(gone).collect::<Vec<_>>() {
        book.set_flags(&id, flags, now);
    }
}
