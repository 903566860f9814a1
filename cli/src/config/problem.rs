//! What is wrong with a configuration, each with its line.

use std::path::Path;

use capmux::p2p::LivenessSettingsError;
use capmux::{BackoffError, ProtocolError, StartError};

use super::file::Config;
use super::plan::PlanError;
use crate::exit::{Exit, Failure};

/// All that is wrong with a file.
#[derive(Debug)]
pub(crate) struct Problems(Vec<(usize, String)>);

impl Problems {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// A file that cannot be read at all.
    pub(super) fn unreadable(file: &Path, cause: impl std::fmt::Display) -> Self {
        Self(vec![(0, format!("cannot read the configuration file {}: {cause}", file.display()))])
    }

    pub(super) fn add(&mut self, file: &Path, line: usize, text: impl std::fmt::Display) {
        self.0.push((line, format!("{}:{line}: {text}", file.display())));
    }

    /// Whether there are none.
    pub(super) fn none(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// One line for each, in the order of the file.
    pub(crate) fn lines(mut self) -> Vec<String> {
        self.0.sort();
        self.0.into_iter().map(|(_, text)| text).collect()
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::new(Exit::Usage, problems.lines().join("\nerror: "))
    }
}

/// The keys that an error at the start is about, and what is allowed; `None` for one that no setting is to blame for.
fn blame(error: &PlanError) -> Option<(Vec<String>, String)> {
    match error {
        PlanError::Start(error) => blame_start(error),
        PlanError::Backoff(BackoffError::FirstPastMax { .. }) => {
            let keys = ["first", "max"].map(|name| format!("dialling.backoff_{name}"));
            Some((keys.into(), "backoff_first at most backoff_max".into()))
        }
        PlanError::Backoff(_) => None,
    }
}

fn blame_start(error: &StartError) -> Option<(Vec<String>, String)> {
    let protocol = |name: &str, settings: &[&str]| {
        settings.iter().map(|setting| format!("protocol.{name}.{setting}")).collect::<Vec<_>>()
    };
    Some(match error {
        StartError::Liveness(LivenessSettingsError::PingPastIdle { .. }) => {
            let keys = ["liveness.idle_timeout", "liveness.ping_after", "liveness.pong_timeout"];
            (keys.map(String::from).to_vec(), "ping_after and pong_timeout together below idle_timeout".into())
        }
        StartError::ReceiveBudget { max_message_size, .. } => {
            let allowed = format!("at least the largest max_message_size, which is {max_message_size}");
            (vec!["limits.receive_budget".into()], allowed)
        }
        StartError::Protocol(ProtocolError::BelowMessageSize { capability, setting, max_message_size, .. }) => {
            let allowed = format!("at least the protocol's max_message_size, which is {max_message_size}");
            (protocol(capability.name(), &[setting, "max_message_size"]), allowed)
        }
        StartError::OutOfRange { setting: setting @ ("max_inbound" | "max_outbound") } => {
            let keys = [format!("limits.{setting}"), "limits.max_peers".into()];
            (keys.to_vec(), "at most max_peers".into())
        }
        StartError::HelloTooLarge { .. } => (vec!["node.client_id".into()], "a shorter text".into()),
        _ => return None,
    })
}

/// What an error at the start means for the settings of a file; `None` when it is not about one that is given there and
/// in force: the command line may override it.
pub(crate) fn explain(config: &Config, error: &PlanError, overridden: impl Fn(&str) -> bool) -> Option<Problems> {
    let (keys, allowed) = blame(error)?;
    let mut problems = Problems::new();
    let given: Vec<_> = keys.iter().filter(|key| !overridden(key)).filter_map(|key| config.find(key)).collect();
    let ((line, key, value), others) = given.split_first()?;
    let also: String = others.iter().map(|(line, key, value)| format!(", {key} is {value} in line {line}")).collect();
    problems.add(config.file()?, *line, format_args!("{key} is {value}{also}; allowed: {allowed} ({error})"));
    Some(problems)
}
