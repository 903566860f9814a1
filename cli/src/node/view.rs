//! What a node is doing, in a line on a terminal below its events.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use capmux::Server;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::time::sleep;

use crate::output::Live;

/// Four pictures a second.
const REFRESH: Duration = Duration::from_millis(250);

/// The line; nothing where stderr is no terminal, with NO_COLOR, or with `--jsonl`.
pub(super) struct View {
    line: Option<Live>,
    start: Instant,
}

impl View {
    pub(super) fn new(jsonl: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let wanted = !jsonl && !plain && std::io::stderr().is_terminal();
        let line = wanted.then(|| {
            let style = ProgressStyle::with_template("{spinner:.cyan} {msg}").expect("the template is valid");
            Live::new(ProgressBar::new_spinner().with_style(style))
        });
        Self { line, start: Instant::now() }
    }

    /// Becomes ready when it is time for the next picture: never, where there is none.
    pub(super) async fn due(&self) {
        match self.line {
            Some(_) => sleep(REFRESH).await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn draw(&self, server: &Server) {
        let Some(bar) = self.line.as_ref().map(Live::bar) else { return };
        let status = server.status();
        let time = Duration::from_secs(self.start.elapsed().as_secs());
        bar.set_message(format!(
            "peers: {} ({} in, {} out); pending: {}; dialling: {}; sent {}, received {}; {}",
            status.peers.len(),
            status.inbound,
            status.outbound,
            status.pending,
            status.dialling,
            HumanBytes(status.traffic.bytes_sent),
            HumanBytes(status.traffic.bytes_received),
            humantime::format_duration(time),
        ));
        bar.tick();
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        self.line = None;
    }
}
