//! `capmux node`: runs a node until it is told to stop.

mod record;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use capmux::{Enode, Event, EventFilter, EventStream, NodeKey, Server, StartError};
use clap::ValueEnum;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::exit::{Exit, Failure};
use crate::{key, output, signals};
use record::Record;

/// How long the last events may take to be read after the end of the server.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// Runs a node; the first line on stdout is its enode URL
///
/// What happens to its peers follows there, one line for each event. Ctrl-C, or SIGTERM on Unix, ends it in order: its
/// peers are told, within three seconds everything is over, and a summary goes to stderr. A second one aborts at once,
/// with exit code 1.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Where to listen. The default can be reached from this machine alone; 0.0.0.0 stands for all addresses, and port
    /// 0 for any that is free
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:30303", value_parser = socket_address)]
    listen: SocketAddr,
    /// The file with the node's key. It is made if there is none; without this the identity lasts for the run
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A protocol to run, several times for several. Peers that share none are disconnected
    #[arg(long = "protocol", value_name = "NAME")]
    protocols: Vec<ProtocolName>,
    /// A node to dial once at the start, as its enode URL; several times for several
    #[arg(long = "peer", value_name = "ENODE")]
    peers: Vec<Enode>,
    /// The most peers at a time, inbound and outbound together
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    max_peers: usize,
    /// What the node calls itself; by default capmux and its version
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Prints each event as a JSON object on a line of its own instead of text
    #[arg(long)]
    jsonl: bool,
    /// Prints an event for each message, too. If the output is read too slowly, events of all kinds are lost
    #[arg(long)]
    messages: bool,
}

const AFTER_HELP: &str = "\
With --jsonl every event has these fields, null where they do not apply:
  event        added, dropped, handler_ended, dial_failed, refused (inbound, and no peer), banned,
               message_sent and message_received (with --messages), or lagged (lost events, for this
               output was not read: the field lost says how many)
  peer         the node id
  remote_addr  IP and port; of a failed dial the host and port that were dialled, or several
  direction    inbound or outbound
  client       what the peer calls itself, escaped and cut at 64 characters
  stage        how far it had come: dial, encryption handshake, Hello exchange or session
  reason       of a Disconnect, by whichever end, such as too many peers
  by           who ended it: local, remote or network
  error        what happened, in one line
and only where they apply:
  capability   the protocol of a message or of a handler that ended, such as echo/1
  code, bytes  of a message; bytes is the size before compression
  until        when a ban ends, in seconds since 1970
  lost         how many events were lost

Exit codes: 0 ended in order; 1 it could not start, or was aborted; 2 the command line is wrong.";

/// The protocols that a node can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum ProtocolName {
    /// Sends every message back
    Echo,
}

impl ProtocolName {
    fn protocol(self) -> capmux::Protocol {
        match self {
            Self::Echo => capmux_echo::protocol(),
        }
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut stop = signals::stop()?;
    let server = start(&args).await?;
    let wanted = if args.messages { EventFilter::new().messages() } else { EventFilter::new() };
    let events = server.events_with(wanted);
    let mut watch = Watch { events, jsonl: args.jsonl, tally: Tally::default(), start: Instant::now() };
    let enode = server.enode().ok_or_else(|| Failure::new(Exit::Failed, "the node does not listen"))?;
    let ended = match output::print_line(enode) {
        Ok(true) => watch.until_stopped(&server, &args, &mut stop).await,
        done => done.map(drop),
    };
    let shut_down = watch.shut_down(&server).await;
    let traffic = server.traffic();
    drop(server);
    let drained = watch.drain().await;
    output::note(watch.summary(traffic));
    ended.and(shut_down).and(drained)
}

async fn start(args: &Args) -> Result<Server, Failure> {
    let key = match &args.key {
        Some(file) => key::load_or_generate(file)?,
        None => NodeKey::random(),
    };
    let mut builder = Server::builder(key).listen(args.listen).max_peers(args.max_peers);
    if let Some(name) = &args.name {
        builder = builder.client_id(name.as_str());
    }
    for protocol in args.protocols.iter().collect::<BTreeSet<_>>() {
        builder = builder.protocol(protocol.protocol());
    }
    if args.protocols.is_empty() {
        output::note("no --protocol is given: every peer will be disconnected as useless");
    }
    builder.start().await.map_err(not_started)
}

fn not_started(error: StartError) -> Failure {
    let hint = match &error {
        StartError::Listen { source, .. } => match source.kind() {
            ErrorKind::AddrInUse => "; stop what listens there, or choose another port with --listen",
            ErrorKind::PermissionDenied => "; choose a port above 1023 with --listen",
            ErrorKind::AddrNotAvailable => "; choose an address of this machine with --listen",
            _ => "",
        },
        StartError::HelloTooLarge { .. } => "; choose a shorter --name",
        _ => "",
    };
    Failure::new(Exit::Failed, format!("cannot start the node: {error}{hint}"))
}

/// What is seen of a server's events.
struct Watch {
    events: EventStream,
    jsonl: bool,
    tally: Tally,
    start: Instant,
}

/// How many events of each kind there were.
#[derive(Debug, Default)]
struct Tally {
    added: u64,
    dropped: u64,
    dials_failed: u64,
    refused: u64,
}

impl Watch {
    /// Shows events until the user has had enough, or nobody reads them any longer.
    async fn until_stopped(
        &mut self,
        server: &Server,
        args: &Args,
        stop: &mut oneshot::Receiver<()>,
    ) -> Result<(), Failure> {
        let dial = async {
            for enode in &args.peers {
                // It fails in a shutdown only.
                let _ = server.add_peer(enode).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::pin!(dial);
        loop {
            tokio::select! {
                _ = &mut *stop => return Ok(()),
                () = &mut dial => {}
                Some(event) = self.events.recv() => {
                    if !self.show(&event)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Ends the server and shows how its peers go.
    async fn shut_down(&mut self, server: &Server) -> Result<(), Failure> {
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
    async fn drain(&mut self) -> Result<(), Failure> {
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

    fn summary(&self, traffic: capmux::Traffic) -> String {
        let Tally { added, dropped, dials_failed, refused } = self.tally;
        let time = self.start.elapsed().as_secs_f64();
        format!(
            "ended after {time:.1} s; peers added: {added}, dropped: {dropped}; dials failed: {dials_failed}; \
             connections refused: {refused}; sent: {} messages, {} bytes; received: {} messages, {} bytes",
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
            _ => {}
        }
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:30303 or [::1]:0")
}

fn at_least_one(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|number| *number > 0).ok_or("give a number above 0")
}
