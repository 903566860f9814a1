//! What is seen of a node's events, until it ends.

use std::time::{Duration, Instant};

use capmux::{ByteRates, Event, EventFilter, EventStream, Server};
use capmux_pex::Pex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Args;
use super::record::Record;
use super::reload::{Reloaded, reload};
use super::view::View;
use crate::config::Config;
use crate::exit::Failure;
use crate::{output, signals};

/// How long the last events may take to be read after the end of the server.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// What is seen of a server's events.
pub(super) struct Watch {
    events: EventStream,
    jsonl: bool,
    view: View,
    tally: Tally,
    start: Instant,
    /// The byte rates of each peer, if a reload has changed them.
    peer_rates: Option<ByteRates>,
}

/// How many events of each kind there were.
#[derive(Debug, Default)]
struct Tally {
    added: u64,
    dropped: u64,
    dials_failed: u64,
    refused: u64,
    closed_unread: u64,
}

/// What a node that runs goes by.
pub(super) struct Orders<'a> {
    pub(super) args: &'a Args,
    pub(super) config: Config,
    pub(super) reloads: signals::Reloads,
    /// The peer exchange, if there is one.
    pub(super) pex: Option<Pex>,
}

impl Watch {
    pub(super) fn new(server: &Server, filter: EventFilter, jsonl: bool) -> Self {
        let (view, tally, start) = (View::new(jsonl), Tally::default(), Instant::now());
        Self { events: server.events_with(filter), jsonl, view, tally, start, peer_rates: None }
    }

    /// Shows events until the user has had enough, or nobody reads them any longer.
    pub(super) async fn until_stopped(
        &mut self,
        server: &Server,
        mut orders: Orders<'_>,
        stop: &mut oneshot::Receiver<()>,
    ) -> Result<(), Failure> {
        loop {
            tokio::select! {
                _ = &mut *stop => return Ok(()),
                () = orders.reloads.next() => {
                    let reloaded = reload(orders.args, &mut orders.config, server, orders.pex.as_ref()).await;
                    self.reloaded(reloaded);
                }
                () = self.view.due() => self.view.draw(server),
                Some(event) = self.events.recv() => {
                    self.limit(&event, server);
                    if !self.show(&event)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn reloaded(&mut self, reloaded: Reloaded) {
        output::note(reloaded.notes.join("\n"));
        self.peer_rates = reloaded.peer_rates.or(self.peer_rates);
    }

    /// Gives new peers the byte rates of the last reload: the server still has those of the start.
    fn limit(&self, event: &Event, server: &Server) {
        let Some(rates) = self.peer_rates else { return };
        match event {
            Event::Added { peer, .. } => peer.set_byte_rates(rates),
            Event::Lagged(_) => server.peers().iter().for_each(|peer| peer.set_byte_rates(rates)),
            _ => {}
        }
    }

    /// Ends the server and shows how its peers go.
    pub(super) async fn shut_down(&mut self, server: &Server) -> Result<(), Failure> {
        self.view.clear();
        let shutdown = server.shutdown();
        tokio::pin!(shutdown);
        let mut shown = Ok(());
        loop {
            tokio::select! {
                () = &mut shutdown => return shown,
                Some(event) = self.events.recv() => shown = shown.and(self.show(&event).map(drop)),
            }
        }
    }

    /// Shows what a server that is gone has left behind.
    pub(super) async fn drain(&mut self) -> Result<(), Failure> {
        let mut shown = Ok(());
        while let Ok(Some(event)) = timeout(LAST_EVENTS, self.events.recv()).await {
            shown = shown.and(self.show(&event).map(drop));
        }
        shown
    }

    /// Counts an event and prints it. Says whether somebody still reads.
    fn show(&mut self, event: &Event) -> Result<bool, Failure> {
        self.tally.count(event);
        match Record::of(event) {
            Some(record) if self.jsonl => output::print_line(record.to_json()?),
            Some(record) => output::print_line(record),
            None => Ok(true),
        }
    }

    pub(super) fn summary(&self, traffic: capmux::Traffic) -> String {
        let Tally { added, dropped, dials_failed, refused, closed_unread } = self.tally;
        let time = self.start.elapsed().as_secs_f64();
        format!(
            "ended after {time:.1} s; peers added: {added}, dropped: {dropped}; dials failed: {dials_failed}; \
             connections refused: {refused}, closed unread: {closed_unread}; sent: {} messages, {} bytes; received: \
             {} messages, {} bytes",
            traffic.messages_sent, traffic.bytes_sent, traffic.messages_received, traffic.bytes_received,
        )
    }
}

impl Tally {
    fn count(&mut self, event: &Event) {
        match event {
            Event::Added { .. } => self.added += 1,
            Event::Dropped { .. } => self.dropped += 1,
            Event::DialFailed { .. } => self.dials_failed += 1,
            Event::Refused { .. } => self.refused += 1,
            Event::ClosedUnread { count, .. } => self.closed_unread += count,
            _ => {}
        }
    }
}
