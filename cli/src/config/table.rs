//! The tables of all settings: of the node, and of each protocol.

use capmux::p2p::{Chunking, MAX_MESSAGE_SIZE};

use super::plan::{Plan, ProtocolPlan};
use super::setting::{Change, Rule, Setting, Unset};
use Change::{Access, Dial, Limits, Rates, Restart};
use Rule::{ByteRate, Count, Enodes, Flag, MessageRate, NodeIds, Path, Protocol, Size, Socket, Text, Time};

/// More connections than any machine holds.
const MOST_CONNECTIONS: usize = 1 << 20;

/// What may wait in one inbox or queue.
const MOST_MESSAGES: usize = 1 << 20;

/// As much memory as any machine has.
const MOST_MEMORY: usize = if usize::BITS > 40 { 1 << 40 } else { 1 << 30 };

/// What each section of the file is about, in the order in which they are printed.
pub(super) const SECTIONS: [(&str, &str); 8] = [
    ("node", "Who the node is, and where it listens."),
    ("peers", "Which nodes it meets."),
    ("limits", "How much there may be at a time."),
    ("timeouts", "How long the stages of a connection may take."),
    ("liveness", "When a silent peer is asked for a sign of life, and when it is given up."),
    ("rates", "Bytes a second on the wire; 0 is no limit, and from 1 to 1023 count as 1024."),
    ("chunking", "Large messages in pieces, so that they do not hold up other protocols."),
    ("events", "What is told of the node."),
];

/// The settings of the node, those of a section one after the other.
pub(super) static NODE: &[Setting<Plan>] = &[
    row(
        "node.client_id",
        default(concat!("\"capmux/", env!("CARGO_PKG_VERSION"), "\"")),
        Restart,
        "What the node calls itself.",
        Text(0, 1024, |plan, name| plan.server(move |server| server.client_id(name.as_str()))),
    ),
    row(
        "node.listen",
        default("\"127.0.0.1:30303\""),
        Restart,
        "Where to listen. The default can be reached from this machine alone; 0.0.0.0 stands for all addresses, and port 0\nfor any that is free.",
        Socket(|plan, address| plan.listen = Some(address)),
    ),
    row(
        "node.data_dir",
        nothing("nothing is kept", "\"capmux-data\""),
        Restart,
        "The folder of what the node keeps: its key, as nodekey. It is made if there is none, and one process at a time uses\nit. A relative name starts where the command is run.",
        Path(|plan, path| plan.data_dir = Some(path)),
    ),
    row(
        "node.key",
        nothing("nodekey in data_dir, and without that one the identity lasts for the run", "\"node.key\""),
        Restart,
        "The file with the node's key. It is made if there is none.",
        Path(|plan, path| plan.key = Some(path)),
    ),
    row(
        "peers.dial",
        default("[]"),
        Dial,
        "Nodes to dial once at the start, and when a reload finds them new in the list.",
        Enodes(1024, |plan, nodes| plan.dial = nodes),
    ),
    row(
        "peers.trusted",
        default("[]"),
        Access,
        "Nodes that pass max_inbound; connections from their IP addresses are not limited by address or subnet, either.",
        Enodes(1024, |plan, nodes| plan.trusted = nodes),
    ),
    row(
        "peers.allow_only",
        nothing("all nodes may be peers", "[\"0000000000000000000000000000000000000000000000000000000000000001\"]"),
        Access,
        "The nodes that alone may be peers, whoever dials: with an empty list nobody may. Trusted nodes have to be listed,\ntoo.",
        NodeIds(1 << 14, |plan, ids| plan.allow_only = Some(ids)),
    ),
    row(
        "limits.max_peers",
        default("50"),
        Limits,
        "The most peers at a time, in both directions together. A reload that lowers it disconnects the youngest.",
        Count(1, MOST_CONNECTIONS, |plan, count| plan.server(move |server| server.max_peers(count))),
    ),
    row(
        "limits.max_inbound",
        nothing("max_peers less a third of it", "34"),
        Limits,
        "The most peers at a time that have dialled this node: at most max_peers, and with 0 trusted nodes alone.",
        Count(0, MOST_CONNECTIONS, |plan, count| plan.server(move |server| server.max_inbound(count))),
    ),
    row(
        "limits.max_outbound",
        nothing("a third of max_peers, and 1 at least", "16"),
        Limits,
        "The most peers at a time that this node has dialled of its own accord: at most max_peers. peers.dial is not limited\nby it.",
        Count(0, MOST_CONNECTIONS, |plan, count| plan.server(move |server| server.max_outbound(count))),
    ),
    row(
        "limits.max_per_address",
        default("8"),
        Limits,
        "The most inbound connections at a time from one public IP address, peers included. Those above it are closed unread,\nand so are those that come within 30 s of another.",
        Count(1, MOST_CONNECTIONS, |plan, count| plan.server(move |server| server.max_per_address(count))),
    ),
    row(
        "limits.max_per_subnet",
        default("16"),
        Limits,
        "The most inbound connections at a time from one /24 of IPv4 or /64 of IPv6, peers included.",
        Count(1, MOST_CONNECTIONS, |plan, count| plan.server(move |server| server.max_per_subnet(count))),
    ),
    row(
        "limits.limit_local_addresses",
        default("false"),
        Limits,
        "Whether loopback, link-local and private addresses are limited like public ones.",
        Flag(|plan, limit| plan.server(move |server| server.limit_local_addresses(limit))),
    ),
    row(
        "limits.max_pending",
        default("50"),
        Limits,
        "The most inbound connections at a time that are not peers yet. Those above it are closed unread.",
        Count(1, MOST_CONNECTIONS, |plan, count| plan.server(move |server| server.max_pending(count))),
    ),
    row(
        "limits.max_dials",
        default("16"),
        Restart,
        "The most dials at a time. Further ones wait.",
        Count(1, MOST_CONNECTIONS, |plan, count| plan.server(move |server| server.max_dials(count))),
    ),
    row(
        "limits.receive_budget",
        default("\"256MiB\""),
        Restart,
        "How many bytes of messages from all peers together may wait for their handlers: at least the largest\nmax_message_size.",
        Size(1, MOST_MEMORY, |plan, bytes| plan.server(move |server| server.receive_budget(bytes))),
    ),
    row(
        "timeouts.dial",
        default("\"15s\""),
        Restart,
        "Resolving a name and making the TCP connection.",
        Time(|plan, time| plan.server(move |server| server.dial_timeout(time))),
    ),
    row(
        "timeouts.encryption",
        default("\"5s\""),
        Restart,
        "The encryption handshake, from the first byte to the last.",
        Time(|plan, time| plan.server(move |server| server.encryption_timeout(time))),
    ),
    row(
        "timeouts.hello",
        default("\"5s\""),
        Restart,
        "The exchange of Hellos, from the first byte to the last.",
        Time(|plan, time| plan.server(move |server| server.hello_timeout(time))),
    ),
    row(
        "timeouts.write_stall",
        default("\"20s\""),
        Restart,
        "How long the other end may take no byte of what is written.",
        Time(|plan, time| plan.server(move |server| server.write_stall_timeout(time))),
    ),
    row(
        "timeouts.inbox_stall",
        default("\"20s\""),
        Restart,
        "How long a handler may take no message while its inbox is full.",
        Time(|plan, time| plan.server(move |server| server.inbox_stall_timeout(time))),
    ),
    row(
        "liveness.ping_after",
        default("\"15s\""),
        Restart,
        "A Ping is sent after this long without inbound traffic.",
        Time(|plan, time| plan.liveness = plan.liveness.ping_after(time)),
    ),
    row(
        "liveness.pong_timeout",
        default("\"20s\""),
        Restart,
        "How long a Pong may take. Together with ping_after it is below idle_timeout.",
        Time(|plan, time| plan.liveness = plan.liveness.pong_timeout(time)),
    ),
    row(
        "liveness.idle_timeout",
        default("\"1m\""),
        Restart,
        "How long a connection may stay without an inbound byte.",
        Time(|plan, time| plan.liveness = plan.liveness.idle_timeout(time)),
    ),
    row(
        "liveness.frame_timeout",
        default("\"30s\""),
        Restart,
        "How long a frame may take from its first byte to its last.",
        Time(|plan, time| plan.liveness = plan.liveness.frame_timeout(time)),
    ),
    row(
        "rates.inbound",
        default("0"),
        Rates,
        "What is read, of all peers together.",
        ByteRate(|plan, rate| plan.rates.inbound = rate),
    ),
    row(
        "rates.outbound",
        default("0"),
        Rates,
        "What is written, to all peers together.",
        ByteRate(|plan, rate| plan.rates.outbound = rate),
    ),
    row(
        "rates.peer_inbound",
        default("0"),
        Rates,
        "What is read of each peer.",
        ByteRate(|plan, rate| plan.peer_rates.inbound = rate),
    ),
    row(
        "rates.peer_outbound",
        default("0"),
        Rates,
        "What is written to each peer.",
        ByteRate(|plan, rate| plan.peer_rates.outbound = rate),
    ),
    row(
        "chunking.chunk_size",
        nothing("messages are sent whole", "\"16KiB\""),
        Restart,
        "Messages above this size go in pieces of it, to peers that know how.",
        Size(1024, Chunking::MAX_PIECE, |plan, bytes| plan.server(move |server| server.chunk_size(bytes))),
    ),
    row(
        "events.capacity",
        default("1024"),
        Restart,
        "How many events the output may be behind before it loses the oldest.",
        Count(1, 1 << 20, |plan, count| plan.server(move |server| server.event_capacity(count))),
    ),
];

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
        Restart,
        "How many messages a second a peer may send, and how many at once.",
        MessageRate(|plan, rate| plan.set(move |protocol| protocol.rate_limit(rate))),
    ),
];

const fn row<T>(key: &'static str, unset: Unset, change: Change, about: &'static str, rule: Rule<T>) -> Setting<T> {
    Setting { key, unset, change, about, rule }
}

const fn default(toml: &'static str) -> Unset {
    Unset::Default(toml)
}

const fn nothing(means: &'static str, example: &'static str) -> Unset {
    Unset::Nothing { means, example }
}
