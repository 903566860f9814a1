//! The table of the node's settings.

use std::time::Duration;

use capmux::book::AddressBook;
use capmux::p2p::{Chunking, MAX_TIMEOUT};

use super::plan::Plan;
use super::setting::{Change, Rule, Setting, Unset};
use Change::{Access, Limits, Listen, Nodes, Rates, Restart};
use Rule::{ByteRate, Count, Enodes, Flag, NodeIds, Part, Path, Size, Socket, Text, Time, TimeWithin, Word};

/// More connections than any machine holds.
const MOST_CONNECTIONS: usize = 1 << 20;

/// As many nodes as a list has.
const MOST_NODES: usize = 1024;

/// The book is not looked at more often.
const SHORTEST_SAVE_INTERVAL: Duration = Duration::from_millis(100);

/// As much memory as any machine has.
pub(super) const MOST_MEMORY: usize = if usize::BITS > 40 { 1 << 40 } else { 1 << 30 };

/// What each section of the file is about, in the order in which they are printed.
pub(super) const SECTIONS: [(&str, &str); 11] = [
    ("node", "Who the node is, and where it listens."),
    ("peers", "Which nodes it meets."),
    ("limits", "How much there may be at a time."),
    ("dialling", "When a node is dialled again that could not be reached, or was lost at once."),
    ("book", "The nodes that are known, and dialled where there is place: with data_dir, bootnodes or pex."),
    ("pex", "Peer exchange: peers tell each other of nodes."),
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
        Listen,
        "Where to listen. The default can be reached from this machine alone; 0.0.0.0 stands for all addresses, and port 0\nfor any that is free.",
        Socket(|plan, address| plan.listen = Some(address)),
    ),
    row(
        "node.data_dir",
        nothing("nothing is kept", "\"capmux-data\""),
        Restart,
        "The folder of what the node keeps: its key, as nodekey, and its address book, as peers.json. It is made if there is\nnone, and one process at a time uses it. A relative name starts where the command is run.",
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
        "peers.persistent",
        default("[]"),
        Nodes,
        "Nodes that are dialled until they are peers, and again whenever they are lost; they pass all limits. One that a\nreload no longer finds in the list is disconnected.",
        Enodes(MOST_NODES, |plan, nodes| plan.persistent = nodes),
    ),
    row(
        "peers.trusted",
        default("[]"),
        Access,
        "Nodes that pass max_inbound; connections from their IP addresses are not limited by address or subnet, either.",
        Enodes(MOST_NODES, |plan, nodes| plan.trusted = nodes),
    ),
    row(
        "peers.allow_only",
        nothing("all nodes may be peers", "[\"0000000000000000000000000000000000000000000000000000000000000001\"]"),
        Access,
        "The nodes that alone may be peers, whoever dials: with an empty list nobody may. Trusted nodes have to be listed,\ntoo.",
        NodeIds(1 << 14, |plan, ids| plan.allow_only = Some(ids)),
    ),
    row(
        "peers.private",
        default("[]"),
        Nodes,
        "Nodes that nobody else is told of.",
        Enodes(MOST_NODES, |plan, nodes| plan.private = nodes),
    ),
    row(
        "peers.bootnodes",
        default("[]"),
        Restart,
        "Nodes to ask for others: dialled while no peer is there that was dialled; what they tell needs pex.enabled.",
        Enodes(MOST_NODES, |plan, nodes| plan.bootnodes = nodes),
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
        "The most peers at a time that this node has dialled of its own accord: at most max_peers. peers.persistent is\nnot limited by it.",
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
        "dialling.backoff",
        default("\"exponential\""),
        Restart,
        "How the time between two dials grows: exponential, twice the one before, or fibonacci, the sum of the two before.",
        Word(&["exponential", "fibonacci"], |plan, kind| plan.backoff.is_fibonacci = kind == "fibonacci"),
    ),
    row(
        "dialling.backoff_first",
        nothing("1s, with fibonacci 100ms", "\"2s\""),
        Restart,
        "The time after the first failure: at most backoff_max, and what is shorter than 100ms counts as that.",
        Time(|plan, time| plan.backoff.first = Some(time)),
    ),
    row(
        "dialling.backoff_max",
        nothing("10m, with fibonacci 1h", "\"5m\""),
        Restart,
        "The longest time: so long may it take until a node is found again that was gone for long.",
        Time(|plan, time| plan.backoff.max = Some(time)),
    ),
    row(
        "dialling.backoff_jitter",
        default("0.1"),
        Restart,
        "By which part of it a time may be longer by chance.",
        Part(|plan, part| plan.backoff.jitter = part),
    ),
    row(
        "dialling.backoff_give_up",
        nothing("they are never given up", "\"1day\""),
        Restart,
        "After how long without a stable connection nodes that are not persistent are given up.",
        Time(|plan, time| plan.backoff.give_up = Some(time)),
    ),
    row(
        "book.capacity",
        default("1000"),
        Restart,
        "The most nodes that it has room for.",
        Count(1, AddressBook::MAX_CAPACITY, |plan, count| plan.book_capacity = count),
    ),
    row(
        "book.save_interval",
        default("\"30s\""),
        Restart,
        "How often it is saved to peers.json in data_dir, if it has changed; at a shutdown it is saved, too.",
        TimeWithin(SHORTEST_SAVE_INTERVAL, MAX_TIMEOUT, |plan, time| plan.save_interval = time),
    ),
    row(
        "pex.enabled",
        default("false"),
        Restart,
        "Whether peers are asked for nodes, and told of those in the book that are not private.",
        Flag(|plan, is_enabled| plan.has_pex = is_enabled),
    ),
    row(
        "pex.interval",
        default("\"30s\""),
        Restart,
        "How often each peer is asked, give or take a tenth.",
        TimeWithin(capmux_pex::MIN_INTERVAL, Duration::from_secs(24 * 3600), |plan, time| plan.pex.interval = time),
    ),
    row(
        "pex.few",
        default("16"),
        Restart,
        "With fewer nodes than this in the book, peers are asked more often, and those that have dialled, too.",
        Count(0, AddressBook::MAX_CAPACITY, |plan, count| plan.pex.few = count),
    ),
    row(
        "pex.timeout",
        default("\"10s\""),
        Restart,
        "How long an answer may take.",
        Time(|plan, time| plan.pex.timeout = time),
    ),
    row(
        "pex.same_answer",
        default("\"10m\""),
        Restart,
        "How long one that asks, and all in its public network, is told of the same nodes.",
        Time(|plan, time| plan.pex.same_answer = time),
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

pub(super) const fn row<T>(
    key: &'static str,
    unset: Unset,
    change: Change,
    about: &'static str,
    rule: Rule<T>,
) -> Setting<T> {
    Setting { key, unset, change, about, rule }
}

pub(super) const fn default(toml: &'static str) -> Unset {
    Unset::Default(toml)
}

pub(super) const fn nothing(means: &'static str, example: &'static str) -> Unset {
    Unset::Nothing { means, example }
}
