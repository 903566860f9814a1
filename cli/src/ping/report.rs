//! What a ping has learned, as text and as JSON.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use capmux::p2p::{Hello, SessionError};
use capmux::{DisconnectReason, Enode, Party, PeerError, Stage};
use serde::Serialize;

use super::probe::Stopped;
use crate::exit::{Exit, Failure};
use crate::output;

/// The document that `--json` prints: its field names are promised. What is not known is null.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    node_id: String,
    remote_addr: Option<SocketAddr>,
    client: Option<String>,
    p2p_version: Option<u64>,
    capabilities: Option<Vec<String>>,
    dial_ms: Option<f64>,
    encryption_ms: Option<f64>,
    hello_ms: Option<f64>,
    rtt_ms: Vec<f64>,
    disconnect: Option<Disconnect>,
}

#[derive(Debug, Serialize)]
struct Disconnect {
    code: Option<u64>,
    name: Option<String>,
    by: String,
}

impl Report {
    pub(super) fn new(enode: &Enode) -> Self {
        Self {
            node_id: enode.node_id().to_string(),
            remote_addr: None,
            client: None,
            p2p_version: None,
            capabilities: None,
            dial_ms: None,
            encryption_ms: None,
            hello_ms: None,
            rtt_ms: Vec::new(),
            disconnect: None,
        }
    }

    pub(super) fn dialled(&mut self, address: SocketAddr, time: Duration) {
        self.remote_addr = Some(address);
        self.dial_ms = Some(ms(time));
    }

    pub(super) fn encrypted(&mut self, time: Duration) {
        self.encryption_ms = Some(ms(time));
    }

    pub(super) fn hello(&mut self, hello: &Hello) {
        self.client = Some(hello.client_id.to_string());
        self.p2p_version = Some(hello.version);
        self.capabilities = Some(hello.capabilities.iter().map(ToString::to_string).collect());
    }

    pub(super) fn greeted(&mut self, time: Duration) {
        self.hello_ms = Some(ms(time));
    }

    pub(super) fn round_trip(&mut self, time: Duration) {
        self.rtt_ms.push(ms(time));
    }

    /// Notes how the connection ended, if something else than the time ended it.
    pub(super) fn stopped(&mut self, stopped: &Stopped) {
        if stopped.stage < Stage::Hello {
            return;
        }
        let (reason, by) = match &stopped.error {
            PeerError::Timeout { .. } => return,
            PeerError::Session(SessionError::Disconnected(reason)) => (*reason, Party::Remote),
            PeerError::Closed { .. } => (None, Party::Remote),
            PeerError::Io(_) => (None, Party::Network),
            error => (error.disconnect_reason(), Party::Local),
        };
        let code = reason.map(DisconnectReason::code);
        self.disconnect = Some(Disconnect { code, name: reason.map(|reason| reason.to_string()), by: by.to_string() });
    }

    /// Where the node is, as far as the messages need it.
    pub(super) fn remote_addr(&self) -> Option<SocketAddr> {
        self.remote_addr
    }

    pub(super) fn round_trips(&self) -> usize {
        self.rtt_ms.len()
    }

    /// Prints the document, or as text what a node with a Hello has said.
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            let document = serde_json::to_string(self)
                .map_err(|error| Failure::new(Exit::Failed, format!("cannot write the report as JSON: {error}")))?;
            output::print_line(document)?;
        } else if self.client.is_some() {
            output::print(self.to_string().as_bytes())?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    /// A line for each thing that is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: Option<String>| match value {
            Some(value) => writeln!(f, "{name:<12}{value}"),
            None => Ok(()),
        };
        line("node id", Some(self.node_id.clone()))?;
        line("address", self.remote_addr.map(|address| address.to_string()))?;
        line("client", self.client.clone())?;
        line("p2p", self.p2p_version.map(|version| format!("version {version}")))?;
        line("offers", self.capabilities.as_deref().map(|offers| list(offers, "nothing")))?;
        line("dial", self.dial_ms.map(in_ms))?;
        line("encryption", self.encryption_ms.map(in_ms))?;
        line("hello", self.hello_ms.map(in_ms))?;
        let round_trips: Vec<_> = self.rtt_ms.iter().copied().map(in_ms).collect();
        line("round trips", Some(list(&round_trips, "none")))?;
        line("ended", self.disconnect.as_ref().map(ToString::to_string))
    }
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by.as_str() {
            "remote" => "the node",
            "local" => "this end",
            _ => "the network",
        };
        match (&self.name, self.code) {
            (Some(name), Some(code)) => write!(f, "by {by}: {name} ({code:#04x})"),
            _ => write!(f, "by {by}, without a reason"),
        }
    }
}

fn list(items: &[String], none: &str) -> String {
    if items.is_empty() { none.to_owned() } else { items.join(", ") }
}

fn in_ms(ms: f64) -> String {
    format!("{ms:.3} ms")
}

/// In milliseconds, to the microsecond.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
