//! `capmux node`: runs a node until it is told to stop.

mod book;
mod data_dir;
mod record;
mod reload;
mod view;
mod watch;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use capmux::{Enode, EventFilter, NodeKey, Server, StartError};
use capmux_pex::Pex;

use crate::config::{Config, Plan, PlanError, ProtocolName, explain};
use crate::exit::{Exit, Failure};
use crate::{key, output, signals};
use book::Book;
use data_dir::DataDir;
use record::Record;
use watch::{Orders, Watch};

/// Runs a node; the first line on stdout is its enode URL
///
/// What happens to its peers follows there, one line for each event. Ctrl-C, or SIGTERM on Unix, ends it in order: its
/// peers are told, within three seconds everything is over, and a summary goes to stderr. A second one aborts at once,
/// with exit code 1. SIGHUP, on Unix, reads the file of --config again: what can change at once does, and of the rest
/// it tells on stderr that it waits for the next start. A file with something wrong in it changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// A configuration, of which `capmux config` prints one with all settings. What is given here comes before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen. The default can be reached from this machine alone; 0.0.0.0 stands for all addresses, and port
    /// 0 for any that is free [default: 127.0.0.1:30303]
    #[arg(long, value_name = "IP:PORT", value_parser = socket_address)]
    listen: Option<SocketAddr>,
    /// The folder of what the node keeps: its key, as nodekey, and its address book, as peers.json. It is made if there
    /// is none, and one process at a time uses it
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The file with the node's key. It is made if there is none. The default is nodekey in the data folder, and
    /// without one the identity lasts for the run
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A protocol to run, several times for several. Peers that share none are disconnected
    #[arg(long = "protocol", value_name = "NAME")]
    protocols: Vec<ProtocolName>,
    /// A node to dial until it is a peer, and again whenever it is lost, as its enode URL; several times for several
    #[arg(long = "peer", value_name = "ENODE")]
    peers: Vec<Enode>,
    /// A node that passes the limits of inbound connections, as its enode URL; several times for several
    #[arg(long, value_name = "ENODE")]
    trusted: Vec<Enode>,
    /// The most peers at a time, inbound and outbound together [default: 50]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_peers: Option<usize>,
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
  event        added, dropped, handler_ended, dial_failed, refused (inbound, and no peer),
               closed_unread (inbound, for a limit or a ban: the last of count), banned,
               book_problem (at the start, what is wrong with the address book), book_not_saved,
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
  count        how many connections were closed unread since that was last told
  path         of the address book
  lost         how many events were lost

Exit codes: 0 ended in order; 1 it could not start, or was aborted; 2 the command line or the
configuration is wrong.";

impl Args {
    /// What the file says, or nothing where none is given.
    fn read_config(&self) -> Result<Config, Failure> {
        self.config.as_deref().map_or_else(|| Ok(Config::default()), |file| Ok(Config::read(file)?))
    }

    /// What the configuration wants, and then the command line.
    fn plan(&self, config: &Config) -> Plan {
        let mut plan = config.plan();
        plan.listen = self.listen.or(plan.listen);
        plan.data_dir = self.data_dir.clone().or(plan.data_dir);
        plan.key = self.key.clone().or(plan.key);
        plan.persistent.extend(self.peers.iter().cloned());
        plan.trusted.extend(self.trusted.iter().cloned());
        if let Some(peers) = self.max_peers {
            plan.server(move |server| server.max_peers(peers));
        }
        if let Some(name) = self.name.clone() {
            plan.server(move |server| server.client_id(name.as_str()));
        }
        self.protocols.iter().for_each(|name| plan.protocol(*name));
        plan
    }

    /// Whether the command line decides about this setting.
    fn overrides(&self, key: &str) -> bool {
        match key {
            "node.listen" => self.listen.is_some(),
            "node.data_dir" => self.data_dir.is_some(),
            "node.key" => self.key.is_some(),
            "node.client_id" => self.name.is_some(),
            "limits.max_peers" => self.max_peers.is_some(),
            _ => false,
        }
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut stop = signals::stop()?;
    let reloads = signals::reloads(args.config.is_some())?;
    let config = args.read_config()?;
    let plan = args.plan(&config);
    let data_dir = plan.data_dir.as_deref().map(DataDir::open).transpose()?;
    let book = plan.wants_book().then(|| Book::open(&plan, data_dir.as_ref())).transpose()?;
    let (server, pex) = start(&args, &config, &plan, data_dir.as_ref(), book.as_ref()).await?;
    let wanted = if args.messages { EventFilter::new().messages() } else { EventFilter::new() };
    let mut watch = Watch::new(&server, wanted, args.jsonl);
    let problem = book.and_then(|book| book.problem).map(|problem| Record::book_problem(&problem));
    let orders = Orders { args: &args, config, reloads, pex };
    let ended = match greet(&server, problem.filter(|_| args.jsonl)) {
        Ok(true) => watch.until_stopped(&server, orders, &mut stop).await,
        done => done.map(drop),
    };
    let shut_down = watch.shut_down(&server).await;
    let traffic = server.traffic();
    drop(server);
    let drained = watch.drain().await;
    output::note(watch.summary(traffic));
    ended.and(shut_down).and(drained)
}

/// Prints who the node is, and what was found at the start. Says whether somebody reads it.
fn greet(server: &Server, found: Option<Record>) -> Result<bool, Failure> {
    let enode = server.enode().ok_or_else(|| Failure::new(Exit::Failed, "the node does not listen"))?;
    let lines = [Ok(enode.to_string())].into_iter().chain(found.map(|record| record.to_json()));
    lines.map(|line| output::print_line(line?)).try_fold(true, |reads, line| Ok(reads && line?))
}

async fn start(
    args: &Args,
    config: &Config,
    plan: &Plan,
    data_dir: Option<&DataDir>,
    book: Option<&Book>,
) -> Result<(Server, Option<Pex>), Failure> {
    let key = match plan.key.clone().or_else(|| data_dir.map(DataDir::key_file)) {
        Some(file) => key::load_or_generate(&file)?,
        None => NodeKey::random(),
    };
    if plan.protocols.is_empty() && !plan.has_pex {
        output::note("no protocol is given: name one with --protocol, or in a section [[protocol]] of the file");
    }
    let mut builder = plan.meet(plan.builder(key));
    builder = plan.listen.into_iter().fold(builder, |builder, address| builder.listen(address));
    builder = book.into_iter().fold(builder, |builder, book| book.give(plan, builder));
    let (protocol, pex) = book.and_then(|book| plan.exchange(&book.shared)).unzip();
    builder = protocol.into_iter().fold(builder, |builder, protocol| builder.protocol(protocol));
    let server = plan.start(builder).await.map_err(|error| {
        let explained = explain(config, &error, |key| args.overrides(key));
        explained.map_or_else(|| not_started(&error), Failure::from)
    })?;
    announce(&server, pex.as_ref());
    Ok((server, pex))
}

/// Tells peers where the node listens.
fn announce(server: &Server, pex: Option<&Pex>) {
    if let (Some(address), Some(pex)) = (server.local_addr(), pex) {
        pex.announce_port(address.port());
    }
}

fn not_started(error: &PlanError) -> Failure {
    let hint = match error {
        PlanError::Start(StartError::Listen { source, .. }) => match source.kind() {
            ErrorKind::AddrInUse => "; stop what listens there, or choose another port with --listen",
            ErrorKind::PermissionDenied => "; choose a port above 1023 with --listen",
            ErrorKind::AddrNotAvailable => "; choose an address of this machine with --listen",
            _ => "",
        },
        PlanError::Start(StartError::HelloTooLarge { .. }) => "; choose a shorter --name",
        _ => "",
    };
    Failure::new(Exit::Failed, format!("cannot start the node: {error}{hint}"))
}

fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:30303 or [::1]:0")
}

fn at_least_one(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|number| *number > 0).ok_or("give a number above 0")
}
