//! What is done to a server, and what can be seen of it.

use std::collections::BTreeSet;

use capmux::{Direction, DisconnectReason};
use proptest::prelude::{Just, Strategy, any as arbitrary, prop, prop_oneof};

/// How many other nodes there are.
pub(crate) const NODES: usize = 5;

/// A node, by its number.
pub(crate) type Node = usize;

/// What is done. None of it needs a certain state of the server.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    /// These connections are begun at the same time.
    Meet(Vec<Contact>),
    /// This end disconnects, with this reason.
    Disconnect(Node, DisconnectReason),
    /// The other end disconnects with this reason, or closes the connection.
    Leave(Node, Option<DisconnectReason>),
    /// A node becomes persistent.
    Add(Node),
    /// It is removed.
    Remove(Node),
    /// Whether it is trusted.
    Trust(Node, bool),
    /// Whether it is private.
    Private(Node, bool),
    /// Everybody may be a peer.
    Open,
    /// These may.
    Only(BTreeSet<Node>),
    /// So may this one.
    Allow(Node),
    /// So may this one no longer.
    Disallow(Node),
    /// A node is banned for so many seconds.
    Ban(Node, u64),
    /// A ban ends.
    Unban(Node),
    /// Peers, and inbound ones among them.
    Limit(usize, usize),
    /// How a node answers dials from now on.
    Answer(Node, Answer),
    /// Nothing.
    Wait,
}

/// A connection, by who dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contact {
    /// The other node.
    Inbound(Node),
    /// The server.
    Dial(Node),
}

impl Contact {
    pub(crate) fn node(self) -> Node {
        let (Self::Inbound(node) | Self::Dial(node)) = self;
        node
    }
}

/// How a node answers dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It becomes a peer.
    Welcome,
    /// It says that it has too many peers, in place of Hello.
    Refuse,
    /// It is not there.
    Nothing,
}

/// How the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Shutdown,
    Abort,
    Drop,
}

/// What a subscriber learns of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Added(Direction),
    /// By which end, and with which reason.
    Dropped(By, Option<DisconnectReason>),
    /// An inbound connection was refused.
    Refused(DisconnectReason),
    Banned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Local,
    Remote,
    Abort,
}

/// What becomes of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialled {
    /// The node is a peer.
    Peer,
    /// Nobody answers.
    Nobody,
    /// The other end has refused it.
    RefusedThere,
    /// This end does not want it, for the reason that an inbound connection would be told.
    RefusedHere(DisconnectReason),
}

/// What can be seen of an operation, from its beginning until nothing more happens.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Observed {
    /// What was told of each node, in order.
    pub(crate) told: [Vec<Told>; NODES],
    /// What each node was told at the end of its connections, by this end.
    pub(crate) heard: [Vec<Option<DisconnectReason>>; NODES],
    /// What became of the dials, in the order in which they were begun.
    pub(crate) dialled: Vec<Dialled>,
    /// The peers that the operation has returned.
    pub(crate) returned: Vec<Node>,
    /// Whether it was refused.
    pub(crate) is_error: bool,
    /// Those that are there afterwards.
    pub(crate) peers: Vec<(Node, Direction)>,
    /// Inbound connections and dials under way.
    pub(crate) pending: [usize; 2],
    /// The subscriber has been told that there will be no more.
    pub(crate) is_over: bool,
}

pub(crate) fn any() -> impl Strategy<Value = Operation> {
    use Operation as Do;
    let node = 0..NODES;
    let contact = (node.clone(), arbitrary::<bool>())
        .prop_map(|(node, dials)| if dials { Contact::Dial(node) } else { Contact::Inbound(node) });
    let reason = prop::sample::select(vec![DisconnectReason::Requested, DisconnectReason::TooManyPeers]);
    let answer = prop::sample::select(vec![Answer::Welcome, Answer::Welcome, Answer::Refuse, Answer::Nothing]);
    prop_oneof![
        8 => contact.clone().prop_map(|contact| Do::Meet(vec![contact])),
        4 => prop::collection::vec(contact, 2..=3).prop_map(Do::Meet),
        2 => (node.clone(), reason.clone()).prop_map(|(node, reason)| Do::Disconnect(node, reason)),
        2 => (node.clone(), prop::option::of(reason)).prop_map(|(node, reason)| Do::Leave(node, reason)),
        2 => node.clone().prop_map(Do::Add),
        2 => node.clone().prop_map(Do::Remove),
        2 => (node.clone(), arbitrary::<bool>()).prop_map(|(node, is)| Do::Trust(node, is)),
        1 => (node.clone(), arbitrary::<bool>()).prop_map(|(node, is)| Do::Private(node, is)),
        1 => Just(Do::Open),
        1 => prop::collection::btree_set(node.clone(), 0..=NODES).prop_map(Do::Only),
        1 => node.clone().prop_map(Do::Allow),
        1 => node.clone().prop_map(Do::Disallow),
        2 => (node.clone(), prop::sample::select(vec![20, 65, 110])).prop_map(|(node, time)| Do::Ban(node, time)),
        1 => node.clone().prop_map(Do::Unban),
        2 => (0..=4_usize, 0..=4_usize).prop_map(|(peers, inbound)| Do::Limit(peers, inbound)),
        2 => (node, answer).prop_map(|(node, answer)| Do::Answer(node, answer)),
        1 => Just(Do::Wait),
    ]
}

pub(crate) fn any_end() -> impl Strategy<Value = End> {
    prop::sample::select(vec![End::Shutdown, End::Abort, End::Drop])
}
