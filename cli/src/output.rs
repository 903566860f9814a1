//! Data to stdout, notes to stderr, and no panic when nobody reads them. A live line on a terminal stays below both.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

use crate::exit::{Exit, Failure};

/// What is drawn on the terminal below everything that is printed, if anything is.
static LIVE: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes data to stdout at once, and says whether somebody still reads it.
///
/// # Errors
/// Any other failure than a reader that is gone, such as a full disk.
pub(crate) fn print(data: &[u8]) -> Result<bool, Failure> {
    let write = || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(data).and_then(|()| stdout.flush())
    };
    match above(write) {
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
    let line = format!("{line}\n");
    let _ = above(|| io::stderr().lock().write_all(line.as_bytes()));
}

/// Writes logs to stderr, each event whole and above the live line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Logs;

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        above(|| io::stderr().lock().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A live line: everything that is printed while this lives comes out above it.
#[derive(Debug)]
pub(crate) struct Live {
    bar: ProgressBar,
}

impl Live {
    pub(crate) fn new(bar: ProgressBar) -> Self {
        *LIVE.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        Self { bar }
    }

    pub(crate) fn bar(&self) -> &ProgressBar {
        &self.bar
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        *LIVE.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.bar.finish_and_clear();
    }
}

/// Prints with the live line out of the way. `print` must print nothing through this module.
fn above<T>(print: impl FnOnce() -> T) -> T {
    // Cloned, so that nobody waits for more than the terminal.
    let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match live {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

#[cfg(test)]
mod tests {
    use indicatif::{ProgressDrawTarget, ProgressStyle, TermLike};
    use std::sync::Arc;

    use super::*;

    /// A terminal that remembers what is done to it.
    #[derive(Debug, Clone, Default)]
    struct Terminal(Arc<Mutex<Vec<String>>>);

    impl Terminal {
        fn done(&self, what: impl Into<String>) -> io::Result<()> {
            self.0.lock().expect("no test holds it and panics").push(what.into());
            Ok(())
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _lines: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _lines: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _columns: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _columns: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.done(text.trim())
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            if text.trim().is_empty() { Ok(()) } else { self.done(text.trim()) }
        }

        fn clear_line(&self) -> io::Result<()> {
            self.done("cleared")
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_printed_comes_out_above_the_live_line() {
        let terminal = Terminal::default();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        let live = Live::new(bar.with_style(ProgressStyle::with_template("{msg}").unwrap()));
        live.bar().set_message("peers: 3");
        live.bar().tick();
        terminal.0.lock().unwrap().clear();
        above(|| terminal.done("a log").unwrap());
        assert_eq!(*terminal.0.lock().unwrap(), ["cleared", "a log", "peers: 3"]);
        drop(live);
        terminal.0.lock().unwrap().clear();
        above(|| terminal.done("a log").unwrap());
        assert_eq!(*terminal.0.lock().unwrap(), ["a log"]);
    }
}
