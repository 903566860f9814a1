//! What a setting is, and the kinds of values that settings have.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use capmux::{Enode, NodeId, RateLimit};
use clap::ValueEnum;
use toml::de::DeValue;

use super::plan::ProtocolName;
use super::value;

/// A setting of a `T`: the one place that its name, default, limits, documentation and effect come from.
pub(super) struct Setting<T: 'static> {
    /// The section and the name, as `limits.max_peers`; of a protocol the name alone.
    pub(super) key: &'static str,
    /// The value without it.
    pub(super) unset: Unset,
    /// When a change of it takes effect.
    pub(super) change: Change,
    /// What it means, with its unit.
    pub(super) about: &'static str,
    /// Which values it takes, and what they do.
    pub(super) rule: Rule<T>,
}

/// What holds where a setting is not given.
pub(super) enum Unset {
    /// This value, as TOML.
    Default(&'static str),
    /// There is none, as the text says; and a value, as TOML, that could be given.
    Nothing { means: &'static str, example: &'static str },
}

/// When a change of a setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// With the next start.
    Restart,
    /// With a reload: the byte rates of all peers together, and of each.
    Rates,
    /// With a reload: which nodes are kept as peers, and which are told of to nobody.
    Nodes,
    /// With a reload: where the node listens.
    Listen,
    /// With a reload: how many messages peers may send for a protocol that runs.
    MessageRates,
    /// With a reload: how many connections there may be, and where they come from.
    Limits,
    /// With a reload: who passes the limits, and who may be a peer at all.
    Access,
}

/// Which values a setting takes, from the least to the most, and what they do to a `T`.
pub(super) enum Rule<T: 'static> {
    /// A whole number.
    Count(usize, usize, fn(&mut T, usize)),
    /// Yes or no.
    Flag(fn(&mut T, bool)),
    /// A number of bytes.
    Size(usize, usize, fn(&mut T, usize)),
    /// Bytes a second, 0 for no limit.
    ByteRate(fn(&mut T, u64)),
    /// Messages a second, and at once.
    MessageRate(fn(&mut T, RateLimit)),
    /// A time above 0, and at most a year.
    Time(fn(&mut T, Duration)),
    /// A time between these.
    TimeWithin(Duration, Duration, fn(&mut T, Duration)),
    /// A number from 0 to 1.
    Part(fn(&mut T, f64)),
    /// One of these words.
    Word(&'static [&'static str], fn(&mut T, &'static str)),
    /// A text of so many bytes.
    Text(usize, usize, fn(&mut T, String)),
    /// The name of a file or a folder.
    Path(fn(&mut T, PathBuf)),
    /// An IP address and a port.
    Socket(fn(&mut T, SocketAddr)),
    /// Nodes, at most so many.
    Enodes(usize, fn(&mut T, Vec<Enode>)),
    /// The ids of nodes, at most so many.
    NodeIds(usize, fn(&mut T, Vec<NodeId>)),
    /// The name of a protocol.
    Protocol(fn(&mut T, ProtocolName)),
}

/// What a value does.
pub(super) type Step<T> = Box<dyn Fn(&mut T) + Send + Sync>;

/// A value that is allowed.
pub(super) struct Value<T> {
    /// In the same form however it was written: equal texts are equal values.
    pub(super) text: String,
    pub(super) step: Step<T>,
}

impl<T: 'static> Rule<T> {
    /// Reads a value; `None` when it is none of those that are allowed.
    pub(super) fn read(&self, given: &DeValue<'_>) -> Option<Value<T>> {
        match *self {
            Self::Count(least, most, set) => {
                value::whole(given).and_then(|number| within(number, least, most)).map(|n| step(n.to_string(), n, set))
            }
            Self::Flag(set) => given.as_bool().map(|flag| step(flag.to_string(), flag, set)),
            Self::Size(least, most, set) => {
                value::size(given).and_then(|size| within(size, least, most)).map(|n| step(value::show_size(n), n, set))
            }
            Self::ByteRate(set) => value::size(given).map(|rate| step(value::show_size(rate), rate, set)),
            Self::MessageRate(set) => value::message_rate(given).map(|rate| {
                let text = format!("{{ per_second = {}, burst = {} }}", rate.per_second(), rate.burst());
                step(text, rate, set)
            }),
            Self::Time(set) => value::time(given).map(|time| step(value::show_time(time), time, set)),
            Self::TimeWithin(least, most, set) => {
                let time = value::time(given).filter(|time| (least..=most).contains(time))?;
                Some(step(value::show_time(time), time, set))
            }
            Self::Part(set) => value::part(given).map(|part| step(part.to_string(), part, set)),
            Self::Word(words, set) => {
                let word = *words.iter().find(|word| Some(**word) == given.as_str())?;
                Some(step(format!("\"{word}\""), word, set))
            }
            Self::Text(least, most, set) => {
                let text = given.as_str().filter(|text| (least..=most).contains(&text.len()))?.to_owned();
                Some(step(format!("{text:?}"), text, set))
            }
            Self::Path(set) => {
                let path = PathBuf::from(given.as_str().filter(|path| !path.is_empty())?);
                Some(step(format!("{path:?}"), path, set))
            }
            Self::Socket(set) => {
                let address = given.as_str()?.parse().ok()?;
                Some(step(format!("\"{address}\""), address, set))
            }
            Self::Enodes(most, set) => {
                let nodes = value::enodes(given).ok().filter(|nodes| nodes.len() <= most)?;
                let texts: Vec<_> = nodes.iter().map(ToString::to_string).collect();
                Some(step(format!("{texts:?}"), nodes, set))
            }
            Self::NodeIds(most, set) => {
                let ids = value::node_ids(given).ok().filter(|ids| ids.len() <= most)?;
                let texts: Vec<_> = ids.iter().map(ToString::to_string).collect();
                Some(step(format!("{texts:?}"), ids, set))
            }
            Self::Protocol(set) => {
                let name = ProtocolName::from_str(given.as_str()?, false).ok()?;
                Some(step(format!("\"{name}\""), name, set))
            }
        }
    }

    /// Which values are allowed, in words.
    pub(super) fn allowed(&self) -> String {
        match self {
            Self::Count(least, most, _) => format!("a whole number from {least} to {most}"),
            Self::Flag(_) => "true or false".into(),
            Self::Size(least, most, _) => {
                let [least, most] = [least, most].map(|bytes| value::show_size(*bytes).replace('"', ""));
                format!("a size from {least} to {most}, as a number of bytes or a text such as \"64KiB\"")
            }
            Self::ByteRate(_) => "bytes a second, as a number or a text such as \"64KiB\", or 0 for no limit".into(),
            Self::MessageRate(_) => "{ per_second = N, burst = N } with whole numbers from 1 to 4294967295".into(),
            Self::Time(_) => {
                "a time above 0 and at most 365 days, as a text such as \"500ms\", \"15s\" or \"2m\"".into()
            }
            Self::TimeWithin(least, most, _) => {
                let [least, most] = [least, most].map(|time| value::show_bound(*time));
                format!("a time from {least} to {most}, as a text such as \"15s\" or \"2m\"")
            }
            Self::Part(_) => "a number from 0 to 1".into(),
            Self::Word(words, _) => format!("one of {}", listed(words.iter())),
            Self::Text(least, most, _) => format!("a text of {least} to {most} bytes"),
            Self::Path(_) => "the name of a file or folder, as a text that is not empty".into(),
            Self::Socket(_) => "an IP address and a port as a text, such as \"127.0.0.1:30303\" or \"[::1]:0\"".into(),
            Self::Enodes(most, _) => format!("a list of at most {most} enode URLs, each a text"),
            Self::NodeIds(most, _) => {
                format!("a list of at most {most} node ids of 64 hexadecimal digits or enode URLs, each a text")
            }
            Self::Protocol(_) => {
                format!("one of {}", listed(ProtocolName::value_variants().iter()))
            }
        }
    }

    /// What is wrong with a value beyond its not being allowed, where there is more to say.
    pub(super) fn cause(&self, given: &DeValue<'_>) -> Option<String> {
        match self {
            Self::Enodes(..) => value::enodes(given).err().flatten(),
            Self::NodeIds(..) => value::node_ids(given).err().flatten(),
            _ => None,
        }
    }
}

fn listed(names: impl Iterator<Item: fmt::Display>) -> String {
    names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn within<N: TryInto<usize>>(number: N, least: usize, most: usize) -> Option<usize> {
    number.try_into().ok().filter(|number| (least..=most).contains(number))
}

fn step<T: 'static, V: Clone + Send + Sync + 'static>(text: String, value: V, set: fn(&mut T, V)) -> Value<T> {
    Value { text, step: Box::new(move |target| set(target, value.clone())) }
}
