//! Saves the address book while the server runs.

#[cfg(feature = "book-file")]
mod file {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::task::{JoinHandle, spawn_blocking};
    use tokio::time::{Instant, sleep_until};

    use crate::server::events::Event;
    use crate::server::shared::Shared;

    /// Where the book is saved, and how often.
    #[derive(Debug, Clone)]
    pub(in crate::server) struct BookFile {
        pub(in crate::server) path: PathBuf,
        pub(in crate::server) interval: Duration,
    }

    #[derive(Debug)]
    pub(in crate::server) struct Saver {
        file: Option<BookFile>,
        next: Instant,
        /// How many changes the file has.
        saved: u64,
        /// One at a time writes.
        writing: Option<JoinHandle<std::io::Result<()>>>,
    }

    impl Saver {
        pub(in crate::server) fn new(file: Option<BookFile>, shared: &Shared) -> Self {
            let next = Instant::now() + file.as_ref().map_or(Duration::ZERO, |file| file.interval);
            Self { file, next, saved: shared.book.with(|book, _| book.changes()), writing: None }
        }

        /// Does one step: waits until it is time to save, or until it is saved. Without a file it waits for ever.
        ///
        /// # Cancel safety
        /// It can be dropped and called again.
        pub(in crate::server) async fn run(&mut self, shared: &Arc<Shared>) {
            let Some(file) = &self.file else { return std::future::pending().await };
            if let Some(writing) = &mut self.writing {
                let written = writing.await;
                self.writing = None;
                self.next = Instant::now() + file.interval;
                self.tell(shared, written.unwrap_or_else(|error| Err(error.into())));
                return;
            }
            sleep_until(self.next).await;
            self.next = Instant::now() + file.interval;
            self.begin(shared);
        }

        /// Saves what has changed since it was saved last, if anything has.
        pub(in crate::server) async fn last(&mut self, shared: &Arc<Shared>) {
            if self.writing.is_some() {
                self.run(shared).await;
            }
            self.begin(shared);
            if self.writing.is_some() {
                self.run(shared).await;
            }
        }

        fn begin(&mut self, shared: &Shared) {
            let Some(file) = &self.file else { return };
            let changes = shared.book.with(|book, _| book.changes());
            if changes == self.saved {
                return;
            }
            let (book, path) = (shared.book.snapshot(), file.path.clone());
            self.saved = book.changes();
            self.writing = Some(spawn_blocking(move || book.save(&path)));
        }

        fn tell(&mut self, shared: &Shared, written: std::io::Result<()>) {
            let (Err(error), Some(file)) = (written, &self.file) else { return };
            // What was not saved is tried again, whether it changes or not.
            self.saved = u64::MAX;
            tracing::warn!(path = %file.path.display(), "the address book was not saved: {error}");
            shared.emit(Event::BookNotSaved { path: file.path.clone(), error: Arc::new(error) });
        }
    }
}

#[cfg(not(feature = "book-file"))]
mod file {
    use std::sync::Arc;

    use crate::server::shared::Shared;

    /// Without files there is nothing to save to.
    #[derive(Debug)]
    pub(in crate::server) struct Saver;

    impl Saver {
        pub(in crate::server) async fn run(&mut self, _shared: &Arc<Shared>) {
            std::future::pending().await
        }

        pub(in crate::server) async fn last(&mut self, _shared: &Arc<Shared>) {}
    }
}

pub(super) use file::*;
