//! The table of the settings of a protocol.

use capmux::p2p::MAX_MESSAGE_SIZE;

use super::plan::ProtocolPlan;
use super::setting::{Change, Rule, Setting};
use super::table::{MOST_MEMORY, default, nothing, row};
use Change::{MessageRates, Restart};
use Rule::{Count, MessageRate, Protocol, Size, Time};

/// What may wait in one inbox or queue.
const MOST_MESSAGES: usize = 1 << 20;

/// The settings of a protocol.
pub(super) static PROTOCOL: &[Setting<ProtocolPlan>] = &[
    row(
        "name",
        nothing("it has to be given", "\"echo\""),
        Restart,
        "Which protocol: echo sends every message back, gossip passes messages on to all, and kv keeps\nentries that peers write and read.",
        Protocol(|plan, name| plan.name = name),
    ),
    row(
        "weight",
        default("1"),
        Restart,
        "The share of a connection while other protocols have something to send, too.",
        Count(1, u16::MAX as usize, |plan, weight| {
            plan.set(move |protocol| protocol.weight(weight.try_into().unwrap_or(u16::MAX)))
        }),
    ),
    row(
        "max_message_size",
        nothing("the protocol's own", "\"64KiB\""),
        Restart,
        "The largest message in either direction, before compression.",
        Size(1, MAX_MESSAGE_SIZE, |plan, bytes| plan.set(move |protocol| protocol.max_message_size(bytes))),
    ),
    row(
        "inbox_messages",
        default("256"),
        Restart,
        "How many messages from one peer wait for its handler before reading from it pauses.",
        Count(1, MOST_MESSAGES, |plan, count| plan.set(move |protocol| protocol.inbox_messages(count))),
    ),
    row(
        "inbox_bytes",
        nothing("1MiB, or max_message_size if that is more", "\"1MiB\""),
        Restart,
        "The same in bytes; at least max_message_size.",
        Size(1, MOST_MEMORY, |plan, bytes| plan.set(move |protocol| protocol.inbox_bytes(bytes))),
    ),
    row(
        "queue_messages",
        default("256"),
        Restart,
        "How many messages to one peer wait to be written before sending waits.",
        Count(1, MOST_MESSAGES, |plan, count| plan.set(move |protocol| protocol.queue_messages(count))),
    ),
    row(
        "queue_bytes",
        nothing("1MiB, or max_message_size if that is more", "\"1MiB\""),
        Restart,
        "The same in bytes; at least max_message_size.",
        Size(1, MOST_MEMORY, |plan, bytes| plan.set(move |protocol| protocol.queue_bytes(bytes))),
    ),
    row(
        "send_timeout",
        default("\"10s\""),
        Restart,
        "How long sending waits for a place in the queue.",
        Time(|plan, time| plan.set(move |protocol| protocol.send_timeout(time))),
    ),
    row(
        "rate_limit",
        nothing("no limit", "{ per_second = 100, burst = 200 }"),
        MessageRates,
        "How many messages a second a peer may send, and how many at once.",
        MessageRate(|plan, rate| plan.rate_limit = Some(rate)),
    ),
];
