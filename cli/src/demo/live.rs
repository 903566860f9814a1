//! The demo on a terminal, while it runs.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use tokio::time::sleep;

use super::Args;
use super::network::Network;
use super::report::duration;
use super::scenes::Board;
use super::tally::{Counts, Tally, Times};
use crate::output::Live;

/// Ten pictures a second.
const REFRESH: Duration = Duration::from_millis(100);

/// The live view; nothing where stderr is no terminal, with NO_COLOR, or with `--json`.
pub(super) struct View {
    live: Option<Live>,
    nodes: u16,
    seconds: u64,
    connections: usize,
}

impl View {
    pub(super) fn new(args: &Args, seed: u64, connections: usize) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let wanted = !args.json && !plain && std::io::stderr().is_terminal();
        let live = wanted.then(|| {
            let template = "{spinner:.cyan} {prefix}\n  {bar:44.cyan/dim}\n{msg}";
            let style = ProgressStyle::with_template(template).expect("the template is valid");
            let bar = ProgressBar::new(args.seconds * 1000).with_style(style.progress_chars("━╸─"));
            Live::new(bar.with_prefix(format!("capmux demo, seed {seed}")))
        });
        Self { live, nodes: args.nodes, seconds: args.seconds, connections }
    }

    /// Draws until it is dropped.
    pub(super) async fn show(&self, network: &Network, tally: &Tally, board: &Board) -> Infallible {
        let Some(bar) = self.live.as_ref().map(Live::bar) else { return std::future::pending().await };
        loop {
            self.draw(bar, network, tally, board);
            sleep(REFRESH).await;
        }
    }

    fn draw(&self, bar: &ProgressBar, network: &Network, tally: &Tally, board: &Board) {
        let traffic = network.traffic();
        let [shares, isolation, flood, comeback, ban, newcomer] = board.read();
        let counts = tally.lock();
        let talked = counts.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        bar.set_position(u64::try_from(talked.as_millis()).unwrap_or(u64::MAX).min(self.seconds * 1000));
        let lines = [
            ("network", self.network(&counts, talked)),
            (
                "echo",
                format!("{} round trips, {}", HumanCount(counts.round_trips.count()), median(&counts.round_trips)),
            ),
            ("gossip", gossip(&counts)),
            ("traffic", format!("{} in {} frames", HumanBytes(traffic.bytes_sent), HumanCount(traffic.messages_sent))),
            ("shares", shares),
            ("isolation", isolation),
            ("flood", flood),
            ("comeback", comeback),
            ("ban", ban),
            ("newcomer", newcomer),
            ("errors", counts.errors.len().to_string()),
        ];
        drop(counts);
        let shown =
            lines.map(|(name, text)| format!("  {} {text}", console::style(format!("{name:<9}")).for_stderr().dim()));
        bar.set_message(shown.join("\n"));
        bar.tick();
    }

    fn network(&self, counts: &Counts, talked: Duration) -> String {
        let Self { nodes, seconds, .. } = *self;
        let made = counts.connections;
        if made < self.connections && counts.begun.is_none() {
            return format!("{nodes} nodes, {made} of {} connections", self.connections);
        }
        let peers = 2.0 * made as f64 / f64::from(nodes);
        let talked = talked.as_secs_f64().min(seconds as f64);
        format!("{nodes} nodes, {made} connections, {peers:.1} peers each, {talked:.1} of {seconds} s")
    }

    /// Takes the picture away.
    pub(super) fn clear(self) {
        drop(self.live);
    }
}

fn gossip(counts: &Counts) -> String {
    let under_way = counts.expected_deliveries().saturating_sub(counts.deliveries);
    format!(
        "{} messages, {} delivered, {under_way} under way, {}",
        HumanCount(counts.published),
        HumanCount(counts.deliveries),
        median(&counts.spreads)
    )
}

fn median(times: &Times) -> String {
    times.quantile_us(0.5).map_or("none yet".to_owned(), |time| format!("median {}", duration(time)))
}
