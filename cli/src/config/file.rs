//! Reads a configuration file: all that is wrong with it at once, or what it says.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::cut;
use super::plan::{Plan, ProtocolPlan};
use super::problem::Problems;
use super::protocol_table::PROTOCOL;
use super::setting::{Change, Setting, Unset, Value};
use super::table::{NODE, SECTIONS};

/// No configuration is longer.
const MAX_SIZE: u64 = 1024 * 1024;

/// How much of a value an error shows, in characters.
const SHOWN_VALUE: usize = 64;

/// So many errors of syntax are told.
const MOST_SYNTAX_ERRORS: usize = 10;

/// How alike a key must be to be what was meant.
const ALIKE: f64 = 0.8;

/// What a file says, or nothing.
#[derive(Default)]
pub(crate) struct Config {
    file: Option<PathBuf>,
    node: Vec<Entry<Plan>>,
    protocols: Vec<Vec<Entry<ProtocolPlan>>>,
}

/// A setting that is given.
struct Entry<T: 'static> {
    setting: &'static Setting<T>,
    line: usize,
    value: Value<T>,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// All that is wrong with it, as far as one setting at a time can tell.
    pub(crate) fn read(file: &Path) -> Result<Self, Problems> {
        let mut bytes = Vec::new();
        let read = File::open(file).and_then(|opened| opened.take(MAX_SIZE + 1).read_to_end(&mut bytes));
        read.map_err(|error| Problems::unreadable(file, error))?;
        if bytes.len() as u64 > MAX_SIZE {
            return Err(Problems::unreadable(file, format_args!("it is longer than {MAX_SIZE} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            let mut problems = Problems::new();
            problems.add(file, line, "this is not UTF-8, which a configuration has to be");
            problems
        })?;
        Self::parse(file, &text)
    }

    pub(super) fn parse(file: &Path, text: &str) -> Result<Self, Problems> {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader { file, text, problems: Problems::new() };
        // What follows the first is mostly its echo.
        for error in errors.iter().take(MOST_SYNTAX_ERRORS) {
            let start = error.span().map_or(0, |span| span.start);
            let message = error.message().replace('\n', ", ");
            reader.problem(start, format_args!("not TOML: {message}: {}", reader.line_at(start)));
        }
        let config = if errors.is_empty() { reader.document(document.get_ref()) } else { Self::default() };
        reader.problems.none()?;
        Ok(Self { file: Some(file.into()), ..config })
    }

    /// The file that it was read from.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The node that it describes; what it does not give is as the table of settings says.
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        for setting in NODE {
            if let Unset::Default(text) = setting.unset {
                let default = DeValue::parse(text).ok().and_then(|value| setting.rule.read(value.get_ref()));
                (default.expect("a test reads all defaults").step)(&mut plan);
            }
        }
        self.node.iter().for_each(|entry| (entry.value.step)(&mut plan));
        plan.protocols = self.protocols.iter().map(|entries| protocol_plan(entries)).collect();
        plan
    }

    /// The line, the key and the value of a setting that is given; protocols have theirs as `protocol.echo.weight`.
    pub(super) fn find(&self, key: &str) -> Option<(usize, String, &str)> {
        let mut given = self.given();
        given.find(|(_, name, _, _)| name == key).map(|(line, name, value, _)| (line, name, value))
    }

    /// What differs in `new`: the key, the value there, and when that takes effect.
    pub(crate) fn changes(&self, new: &Self) -> Vec<(String, String, Change)> {
        let text = |config: &Self, key: &str| match config.find(key) {
            Some((_, _, value)) => Some(value.to_owned()),
            None => default(key).map(str::to_owned),
        };
        let gone = self.given().filter(|(_, key, ..)| new.find(key).is_none());
        let differ = new.given().chain(gone).filter(|(_, key, ..)| text(self, key) != text(new, key));
        let shown = |key: &str| text(new, key).unwrap_or_else(|| "no longer given".to_owned());
        differ.map(|(_, key, _, change)| (key.clone(), shown(&key), change)).collect()
    }

    fn given(&self) -> impl Iterator<Item = (usize, String, &str, Change)> {
        let node = self.node.iter().map(|entry| given(entry, ""));
        let protocols = self.protocols.iter().flat_map(|entries| {
            let prefix = format!("protocol.{}.", protocol_plan(entries).name);
            entries.iter().map(move |entry| given(entry, &prefix))
        });
        node.chain(protocols)
    }
}

fn given<'a, T>(entry: &'a Entry<T>, prefix: &str) -> (usize, String, &'a str, Change) {
    (entry.line, format!("{prefix}{}", entry.setting.key), &entry.value.text, entry.setting.change)
}

/// The value of a setting that is not given; `None` when there is none, or the protocol it is of is not given.
fn default(key: &str) -> Option<&'static str> {
    match NODE.iter().find(|setting| setting.key == key)?.unset {
        Unset::Default(value) => Some(value),
        Unset::Nothing { .. } => None,
    }
}

fn protocol_plan(entries: &[Entry<ProtocolPlan>]) -> ProtocolPlan {
    let mut plan = ProtocolPlan::default();
    entries.iter().for_each(|entry| (entry.value.step)(&mut plan));
    plan
}

/// A file that is being read.
struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    problems: Problems,
}

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;

impl Reader<'_> {
    fn document(&mut self, document: &DeTable<'_>) -> Config {
        let mut config = Config::default();
        for (key, value) in document {
            let name = key.get_ref();
            if name == "protocol" {
                config.protocols = self.protocols(value);
            } else if !SECTIONS.iter().any(|(section, _)| section == name) {
                let sections = SECTIONS.iter().map(|(section, _)| *section);
                self.unknown("", key, value, &sections.chain(["protocol"]).collect::<Vec<_>>());
            } else if let Some(section) = value.get_ref().as_table() {
                config.node.extend(self.section(&format!("{name}."), section, NODE));
            } else {
                let shown = self.shown(value);
                self.problem(key.span().start, format_args!("{name} is {shown}; allowed: a section, [{name}]"));
            }
        }
        config
    }

    fn protocols(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Vec<Entry<ProtocolPlan>>> {
        let items = value.get_ref().as_array();
        let sections: Option<Vec<_>> = items.and_then(|items| items.iter().map(table).collect());
        let Some(sections) = sections else {
            let shown = self.shown(value);
            self.problem(value.span().start, format_args!("protocol is {shown}; allowed: sections, [[protocol]]"));
            return Vec::new();
        };
        let mut lines = Vec::new();
        let mut protocols = Vec::new();
        for (start, section) in sections {
            let entries = self.section("protocol.", section, PROTOCOL);
            match entries.iter().find(|entry| entry.setting.key == "name") {
                None if section.contains_key("name") => {}
                None => {
                    let allowed = PROTOCOL[0].rule.allowed();
                    self.problem(start, format_args!("protocol.name is not given; allowed: {allowed}"));
                }
                Some(Entry { value: Value { text, .. }, line, .. }) => {
                    if let Some((_, first)) = lines.iter().find(|(name, _)| name == text) {
                        let problem = format!("protocol.name is {text} again, after line {first}; allowed: each once");
                        self.problems.add(self.file, *line, problem);
                    }
                    lines.push((text.clone(), *line));
                }
            }
            protocols.push(entries);
        }
        protocols
    }

    fn section<T>(&mut self, prefix: &str, section: &DeTable<'_>, all: &'static [Setting<T>]) -> Vec<Entry<T>> {
        let in_table = prefix == "protocol.";
        let own = |setting: &'static Setting<T>| setting.key.strip_prefix(if in_table { "" } else { prefix });
        let mut entries = Vec::new();
        for (key, value) in section {
            let Some(setting) = all.iter().find(|setting| own(setting) == Some(key.get_ref().as_ref())) else {
                self.unknown(prefix, key, value, &all.iter().filter_map(own).collect::<Vec<_>>());
                continue;
            };
            let line = self.line(key.span().start);
            match setting.rule.read(value.get_ref()) {
                Some(value) => entries.push(Entry { setting, line, value }),
                None => {
                    let (shown, allowed) = (self.shown(value), setting.rule.allowed());
                    let cause = setting.rule.cause(value.get_ref()).map(|cause| format!(" ({cause})"));
                    let cause = cause.unwrap_or_default();
                    let problem = format!("{prefix}{} is {shown}; allowed: {allowed}{cause}", key.get_ref());
                    self.problems.add(self.file, line, problem);
                }
            }
        }
        entries
    }

    fn unknown(&mut self, prefix: &str, key: &Key<'_>, value: &Spanned<DeValue<'_>>, names: &[&str]) {
        let name = key.get_ref().as_ref();
        let elsewhere = NODE.iter().map(|setting| setting.key);
        let alike = |known: &str| strsim::jaro_winkler(name, known.rsplit('.').next().unwrap_or(known));
        let here = names.iter().map(|known| (format!("{prefix}{known}"), alike(known) + f64::EPSILON));
        let best = here.chain(elsewhere.map(|known| (known.to_owned(), alike(known) - f64::EPSILON)));
        let best = best.max_by(|one, other| one.1.total_cmp(&other.1)).filter(|(_, alike)| *alike > ALIKE);
        let hint = best.map(|(known, _)| format!("; did you mean {known}?")).unwrap_or_default();
        let (shown, allowed) = (self.shown(value), names.join(", "));
        let name = cut(name, SHOWN_VALUE);
        let what = if value.get_ref().is_table() { String::new() } else { format!(" = {shown}") };
        self.problem(key.span().start, format_args!("{prefix}{name}{what} is no setting{hint}; allowed: {allowed}"));
    }

    fn problem(&mut self, start: usize, text: impl std::fmt::Display) {
        self.problems.add(self.file, self.line(start), text);
    }

    fn line(&self, start: usize) -> usize {
        1 + self.text.bytes().take(start).filter(|byte| *byte == b'\n').count()
    }

    /// The line of the file, for an error.
    fn line_at(&self, start: usize) -> String {
        let line = self.text.lines().nth(self.line(start) - 1).unwrap_or_default();
        cut(line.trim(), SHOWN_VALUE)
    }

    /// A value as it is written in the file.
    fn shown(&self, value: &Spanned<DeValue<'_>>) -> String {
        let text = self.text.get(value.span()).unwrap_or_default();
        cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), SHOWN_VALUE)
    }
}

fn table<'a, 'i>(item: &'a Spanned<DeValue<'i>>) -> Option<(usize, &'a DeTable<'i>)> {
    Some((item.span().start, item.get_ref().as_table()?))
}
