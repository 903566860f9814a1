//! An event of a node as a line of text, and as one of JSON.

use std::fmt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use capmux::book::BookProblem;
use capmux::{Capability, Direction, Ending, Event, Peer};
use serde::Serialize;

use crate::exit::{Exit, Failure};

/// How much of a node id a line of text shows.
const SHOWN_ID: usize = 16;

/// An event: its field names in JSON are promised.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    event: &'static str,
    peer: Option<String>,
    remote_addr: Option<String>,
    direction: Option<String>,
    client: Option<String>,
    stage: Option<String>,
    reason: Option<String>,
    by: Option<String>,
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    /// In seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl Record {
    /// The record of an event; `None` for a kind of event that this version does not know.
    pub(super) fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Added { peer, .. } => Self::named("added").peer(peer),
            Event::Dropped { peer, ending, .. } => Self::named("dropped").peer(peer).ending(ending),
            Event::HandlerEnded { peer, capability, ending, .. } => {
                let capability = Some(capability.to_string());
                Self { capability, ..Self::named("handler_ended").peer(peer).ending(ending) }
            }
            Event::DialFailed { node, ending, .. } => Self {
                peer: Some(node.node_id().to_string()),
                remote_addr: Some(node.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
                direction: Some(Direction::Outbound.to_string()),
                ..Self::named("dial_failed").ending(ending)
            },
            Event::Refused { remote_addr, id, ending, .. } => Self {
                peer: id.map(|id| id.to_string()),
                remote_addr: remote_addr.map(|address| address.to_string()),
                direction: Some(Direction::Inbound.to_string()),
                ..Self::named("refused").ending(ending)
            },
            Event::ClosedUnread { remote_addr, refusal, count, .. } => Self {
                remote_addr: remote_addr.map(|address| address.to_string()),
                direction: Some(Direction::Inbound.to_string()),
                error: Some(refusal.to_string()),
                count: Some(*count),
                ..Self::named("closed_unread")
            },
            Event::BookNotSaved { path, error, .. } => {
                Self { error: Some(error.to_string()), ..Self::named("book_not_saved").path(path) }
            }
            Event::Banned { id, until, .. } => Self {
                peer: Some(id.to_string()),
                until: Some(until.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())),
                ..Self::named("banned")
            },
            Event::MessageSent { peer, capability, code, bytes, .. } => {
                Self::named("message_sent").peer(peer).message(capability, *code, *bytes)
            }
            Event::MessageReceived { peer, capability, code, bytes, .. } => {
                Self::named("message_received").peer(peer).message(capability, *code, *bytes)
            }
            Event::Lagged(lost) => {
                let error = format!("{lost} events are lost: this output is not read fast enough");
                Self { error: Some(error), lost: Some(*lost), ..Self::named("lagged") }
            }
            _ => return None,
        })
    }

    /// What was wrong with the address book at the start.
    pub(super) fn book_problem(problem: &BookProblem) -> Self {
        let record = Self { error: Some(problem.to_string()), ..Self::named("book_problem") };
        match problem {
            BookProblem::Read { path, .. }
            | BookProblem::TooLarge { path, .. }
            | BookProblem::Corrupt { path, .. }
            | BookProblem::Skipped { path, .. } => record.path(path),
            _ => record,
        }
    }

    pub(super) fn to_json(&self) -> Result<String, Failure> {
        serde_json::to_string(self)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot write an event as JSON: {error}")))
    }

    fn named(event: &'static str) -> Self {
        Self {
            event,
            peer: None,
            remote_addr: None,
            direction: None,
            client: None,
            stage: None,
            reason: None,
            by: None,
            error: None,
            lost: None,
            capability: None,
            code: None,
            bytes: None,
            until: None,
            count: None,
            path: None,
        }
    }

    fn peer(self, peer: &Peer) -> Self {
        Self {
            peer: Some(peer.id().to_string()),
            remote_addr: peer.remote_addr().map(|address| address.to_string()),
            direction: Some(peer.direction().to_string()),
            client: Some(peer.client_id().to_string()),
            ..self
        }
    }

    fn path(self, path: &Path) -> Self {
        Self { path: Some(path.display().to_string()), ..self }
    }

    fn message(self, capability: &Capability, code: u64, bytes: usize) -> Self {
        Self { capability: Some(capability.to_string()), code: Some(code), bytes: Some(bytes), ..self }
    }

    fn ending(self, ending: &Ending) -> Self {
        Self {
            stage: Some(ending.stage().to_string()),
            reason: ending.reason().map(|reason| reason.to_string()),
            by: Some(ending.by().to_string()),
            error: Some(ending.to_string()),
            ..self
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<11}", self.event)?;
        if let Some(peer) = &self.peer {
            write!(f, " {peer:.SHOWN_ID$}")?;
        }
        for part in [&self.direction, &self.remote_addr, &self.client].into_iter().flatten() {
            write!(f, " {part}")?;
        }
        if let Some(capability) = &self.capability {
            write!(f, " {capability}")?;
        }
        if let (Some(code), Some(bytes)) = (self.code, self.bytes) {
            write!(f, ", code {code}, {bytes} bytes")?;
        }
        if let Some(until) = self.until {
            write!(f, " until {until} s after 1970")?;
        }
        if let Some(path) = &self.path {
            write!(f, " {path}")?;
        }
        if let Some(count) = self.count {
            write!(f, ", the last of {count}")?;
        }
        if let Some(by) = &self.by {
            write!(f, ", ended by {by}")?;
        }
        if let Some(stage) = &self.stage {
            write!(f, " in the {stage}")?;
        }
        if let Some(reason) = self.reason.as_ref().filter(|_| self.by.as_deref() == Some("local")) {
            write!(f, ", telling it {reason:?}")?;
        }
        self.error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}
