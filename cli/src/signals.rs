//! The user's wish to stop.

use std::io;

use tokio::sync::oneshot;

use crate::exit::{Exit, Failure};
use crate::output;

/// Becomes ready at the first Ctrl-C, or SIGTERM on Unix. The second ends the process, whatever it is doing.
///
/// From the return of this function on no signal is missed.
pub(crate) fn stop() -> Result<oneshot::Receiver<()>, Failure> {
    let mut signals = Signals::new()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot wait for signals to stop: {error}")))?;
    let (sender, stop) = oneshot::channel();
    tokio::spawn(async move {
        signals.next().await;
        // Whoever waited for it may have ended.
        let _ = sender.send(());
        signals.next().await;
        output::note("aborted");
        std::process::exit(Exit::Failed as i32);
    });
    Ok(stop)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn new() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}
