//! The book as a server, its protocols and its application have it in common.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::AddressBook;

/// An address book that several parts of a program use. Clones are the same book.
///
/// It is given to [`ServerBuilder::address_book`](crate::ServerBuilder::address_book), and to protocols that tell of
/// nodes.
#[derive(Clone)]
pub struct SharedBook {
    book: Arc<Mutex<AddressBook>>,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    changed: Arc<Notify>,
}

impl SharedBook {
    /// Shares a book.
    pub fn new(book: AddressBook) -> Self {
        Self::with_clock(book, SystemTime::now)
    }

    /// Shares a book that goes by another clock than that of the system: in simulations. The clock is
    /// asked while others wait.
    pub fn with_clock(book: AddressBook, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { book: Arc::new(Mutex::new(book)), clock: Arc::new(clock), changed: Arc::default() }
    }

    /// Calls a function with the book and the time. Everybody else waits for it: it must be short, and must not use
    /// this book by another handle.
    pub fn with<T>(&self, function: impl FnOnce(&mut AddressBook, SystemTime) -> T) -> T {
        let mut book = self.lock();
        // Who waits for the book must not come with an earlier time than who had it before.
        let now = (self.clock)();
        let before = book.changes();
        let returned = function(&mut book, now);
        if book.changes() != before {
            self.changed.notify_one();
        }
        returned
    }

    /// Waits until the book has changed since this was last waited for. One at a time can wait.
    ///
    /// # Cancel safety
    /// No change is overlooked.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A copy of this moment, to be saved or searched without holding up anybody.
    pub fn snapshot(&self) -> AddressBook {
        self.lock().clone()
    }

    /// A function that panics under the lock leaves the book as it was between two of its operations.
    fn lock(&self) -> MutexGuard<'_, AddressBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBook").field("nodes", &self.lock().len()).finish_non_exhaustive()
    }
}
