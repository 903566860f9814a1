//! The user's wishes: to stop, and to read the configuration again.

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

/// The user's wishes to read the configuration again: SIGHUP on Unix, and none elsewhere.
///
/// Without a configuration SIGHUP ends the process, as it does where nobody cares about it.
pub(crate) fn reloads(has_config: bool) -> Result<Reloads, Failure> {
    let reloads = has_config.then(hang_up).transpose();
    let reloads =
        reloads.map_err(|error| Failure::new(Exit::Failed, format!("cannot wait for signals to reload: {error}")))?;
    Ok(Reloads(reloads))
}

/// What [`reloads`] returns.
pub(crate) struct Reloads(
    #[cfg_attr(windows, allow(dead_code, reason = "nothing is waited for there"))] Option<HangUp>,
);

impl Reloads {
    /// Becomes ready with the next wish; several that come at once are one. Nothing is lost when it is dropped.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}

#[cfg(unix)]
type HangUp = tokio::signal::unix::Signal;

#[cfg(unix)]
fn hang_up() -> io::Result<HangUp> {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::hangup())
}

#[cfg(windows)]
type HangUp = ();

#[cfg(windows)]
fn hang_up() -> io::Result<HangUp> {
    Ok(())
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
