//! What a server is to do, from its documentation: peers and places, nothing of tasks, bytes or turns.

use std::collections::{BTreeMap, BTreeSet};

use capmux::{Direction, DisconnectReason};
use proptest::prelude::{TestCaseError, prop_assert, prop_assert_eq};
use proptest::test_runner::TestCaseResult;

use crate::operation::{Answer, By, Contact, Dialled, End, NODES, Node, Observed, Operation, Told};
use crate::world::{LIMITS, STEP};

/// The state of a server, as far as it decides who is a peer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    /// In seconds.
    now: u64,
    max_peers: usize,
    max_inbound: usize,
    /// Everybody, or these.
    allowed: Option<BTreeSet<Node>>,
    trusted: BTreeSet<Node>,
    persistent: BTreeSet<Node>,
    /// Until when.
    banned: BTreeMap<Node, u64>,
    answers: [Answer; NODES],
    /// The oldest first.
    peers: Vec<(Node, Direction)>,
    expected: Observed,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            now: 0,
            max_peers: LIMITS.max_peers,
            max_inbound: LIMITS.max_inbound,
            allowed: None,
            trusted: BTreeSet::new(),
            persistent: BTreeSet::new(),
            banned: BTreeMap::new(),
            answers: [Answer::Welcome; NODES],
            peers: Vec::new(),
            expected: Observed::default(),
        }
    }

    /// The states after the operation that explain what was observed: connections that are begun at the same time can
    /// come about in any order, and which of several peers is the youngest may show only later.
    pub(crate) fn explain(mut self, operation: &Operation, observed: &Observed) -> Result<Vec<Self>, TestCaseError> {
        self.expected = Observed::default();
        let Operation::Meet(contacts) = operation else {
            self.perform(operation);
            self.settle();
            self.check(observed, &[], operation)?;
            return Ok(vec![self]);
        };
        let (mut states, mut first) = (Vec::new(), None);
        for order in orders(contacts.len()) {
            let mut after = self.clone();
            after.expected.dialled = vec![Dialled::Nobody; contacts.len()];
            for place in order {
                let dialled = after.meet(contacts[place]);
                after.expected.dialled[place] = dialled.unwrap_or(Dialled::Nobody);
            }
            let is_dial = |place: &usize| matches!(contacts[*place], Contact::Dial(_));
            after.expected.dialled =
                (0..contacts.len()).filter(is_dial).map(|place| after.expected.dialled[place]).collect();
            after.settle();
            match after.check(observed, contacts, operation) {
                Ok(()) => states.push(after),
                Err(error) => _ = first.get_or_insert(error),
            }
        }
        first.filter(|_| states.is_empty()).map_or(Ok(states), Err)
    }

    /// Whether the end of the server explains what was observed.
    pub(crate) fn explain_end(mut self, end: End, observed: &Observed) -> TestCaseResult {
        self.expected = Observed { is_over: true, ..Observed::default() };
        let reason = Some(DisconnectReason::ClientQuitting);
        let (told, heard) = match end {
            End::Shutdown => (Told::Dropped(By::Local, reason), reason),
            End::Abort => (Told::Dropped(By::Abort, None), None),
            // There is nobody left who could say goodbye.
            End::Drop => (Told::Dropped(By::Local, reason), None),
        };
        for (node, _) in std::mem::take(&mut self.peers) {
            self.expected.told[node].push(told);
            self.expected.heard[node].push(heard);
        }
        self.check(observed, &[], &end)
    }

    fn check(&mut self, observed: &Observed, contacts: &[Contact], operation: &dyn std::fmt::Debug) -> TestCaseResult {
        let expected = std::mem::take(&mut self.expected);
        for node in 0..NODES {
            let doubt = Doubt::about(node, contacts);
            let (told, due) = (doubt.told(&observed.told[node]), doubt.told(&expected.told[node]));
            let (heard, due_there) = (doubt.heard(&observed.heard[node]), doubt.heard(&expected.heard[node]));
            prop_assert_eq!(told, due, "R66 R68: what is told of node {} after {:?}", node, operation);
            prop_assert_eq!(heard, due_there, "R62: what node {} hears after {:?}", node, operation);
        }
        prop_assert_eq!(&observed.dialled, &expected.dialled, "R52: dials of {:?}", operation);
        let sorted = |nodes: &[Node]| nodes.iter().copied().collect::<BTreeSet<_>>();
        prop_assert_eq!(sorted(&observed.returned), sorted(&expected.returned), "R67: returned by {:?}", operation);
        prop_assert_eq!(observed.is_error, expected.is_error, "R77: {:?}", operation);
        let mut peers = self.peers.clone();
        peers.sort_by_key(|(node, _)| *node);
        prop_assert_eq!(&observed.peers, &peers, "R44: peers after {:?}", operation);
        prop_assert_eq!(observed.pending, [0, 0], "R44: no place is kept after {:?}", operation);
        prop_assert!(observed.is_over == expected.is_over, "R69: {:?}", operation);
        Ok(())
    }

    fn perform(&mut self, operation: &Operation) {
        match operation {
            Operation::Meet(_) | Operation::Private(..) | Operation::Wait => {}
            Operation::Disconnect(node, reason) => self.drop(*node, *reason),
            Operation::Leave(node, reason) => {
                if self.take(*node) {
                    self.expected.told[*node].push(Told::Dropped(By::Remote, *reason));
                }
            }
            Operation::Add(node) => _ = self.persistent.insert(*node),
            Operation::Remove(node) => {
                let was_persistent = self.persistent.remove(node);
                self.expected.is_error = !was_persistent && !self.is_peer(*node);
                self.drop_and_return(*node, DisconnectReason::Requested);
            }
            Operation::Trust(node, true) => _ = self.trusted.insert(*node),
            Operation::Trust(node, false) => self.expected.is_error = !self.trusted.remove(node),
            Operation::Open => self.allow(None),
            Operation::Only(nodes) => self.allow(Some(nodes.clone())),
            Operation::Allow(node) => {
                if let Some(allowed) = &mut self.allowed {
                    allowed.insert(*node);
                }
            }
            Operation::Disallow(node) => {
                let mut allowed = self.allowed.clone();
                if let Some(allowed) = &mut allowed {
                    allowed.remove(node);
                }
                self.allow(allowed);
            }
            Operation::Ban(node, time) => {
                self.expected.told[*node].push(Told::Banned);
                self.banned.insert(*node, self.now + time);
                self.drop_and_return(*node, DisconnectReason::UselessPeer);
            }
            Operation::Unban(node) => _ = self.banned.remove(node),
            Operation::Limit(peers, inbound) => self.limit(*peers, *inbound),
            Operation::Answer(node, answer) => self.answers[*node] = *answer,
        }
    }

    fn allow(&mut self, allowed: Option<BTreeSet<Node>>) {
        self.allowed = allowed;
        for (node, _) in self.peers.clone() {
            if !self.is_allowed(node) {
                self.drop_and_return(node, DisconnectReason::UselessPeer);
            }
        }
    }

    fn limit(&mut self, peers: usize, inbound: usize) {
        self.expected.is_error = peers == 0 || inbound > peers;
        if self.expected.is_error {
            return;
        }
        (self.max_peers, self.max_inbound) = (peers, inbound);
        let is_special = |model: &Self, node| model.trusted.contains(&node) || model.persistent.contains(&node);
        for (node, direction) in self.peers.clone().into_iter().rev() {
            if direction == Direction::Inbound && self.inbound() > inbound && !is_special(self, node) {
                self.drop_and_return(node, DisconnectReason::TooManyPeers);
            }
        }
        for (node, _) in self.peers.clone().into_iter().rev() {
            if self.total() > peers && !is_special(self, node) {
                self.drop_and_return(node, DisconnectReason::TooManyPeers);
            }
        }
    }

    /// A connection comes about, or not. The result is what becomes of a dial.
    fn meet(&mut self, contact: Contact) -> Option<Dialled> {
        match contact {
            Contact::Inbound(node) => {
                let refused = self.refuse_inbound(node);
                match refused {
                    Some(reason) => {
                        self.expected.told[node].push(Told::Refused(reason));
                        self.expected.heard[node].push(Some(reason));
                    }
                    None => self.add(node, Direction::Inbound),
                }
                None
            }
            Contact::Dial(node) if self.is_peer(node) => Some(Dialled::Peer),
            Contact::Dial(node) => Some(match (self.refuse(node, Direction::Outbound), self.answers[node]) {
                (Some(reason), _) => Dialled::RefusedHere(reason),
                (None, Answer::Nothing) => Dialled::Nobody,
                (None, Answer::Refuse) => Dialled::RefusedThere,
                (None, Answer::Welcome) => {
                    self.add(node, Direction::Outbound);
                    Dialled::Peer
                }
            }),
        }
    }

    fn refuse_inbound(&self, node: Node) -> Option<DisconnectReason> {
        // Before anything is proved, all are alike, unless there are nodes that the limits do not hold for.
        let is_full = self.total() >= self.max_peers || self.inbound() >= self.max_inbound;
        if is_full && self.trusted.is_empty() && self.persistent.is_empty() {
            return Some(DisconnectReason::TooManyPeers);
        }
        if self.is_peer(node) {
            return Some(DisconnectReason::AlreadyConnected);
        }
        self.refuse(node, Direction::Inbound)
    }

    /// Why a node that is no peer may not become one.
    fn refuse(&self, node: Node, direction: Direction) -> Option<DisconnectReason> {
        if self.is_banned(node) || !self.is_allowed(node) {
            return Some(DisconnectReason::UselessPeer);
        }
        let is_full = self.total() >= self.max_peers;
        let is_full_of_inbound =
            direction == Direction::Inbound && self.inbound() >= self.max_inbound && !self.trusted.contains(&node);
        let is_limited = !self.persistent.contains(&node);
        (is_limited && (is_full || is_full_of_inbound)).then_some(DisconnectReason::TooManyPeers)
    }

    /// Time passes, until every persistent node is a peer that can be.
    fn settle(&mut self) {
        self.now += STEP.as_secs();
        for node in self.persistent.clone() {
            let comes = self.answers[node] == Answer::Welcome && !self.is_banned(node) && self.is_allowed(node);
            if comes && !self.is_peer(node) {
                self.add(node, Direction::Outbound);
            }
        }
    }

    /// Peers that take one of all places.
    fn total(&self) -> usize {
        self.peers.iter().filter(|(node, _)| !self.persistent.contains(node)).count()
    }

    /// Peers that take a place of inbound ones.
    fn inbound(&self) -> usize {
        let limited = |node| !self.persistent.contains(node) && !self.trusted.contains(node);
        self.peers.iter().filter(|(node, direction)| *direction == Direction::Inbound && limited(node)).count()
    }

    fn is_peer(&self, node: Node) -> bool {
        self.peers.iter().any(|(peer, _)| *peer == node)
    }

    fn is_banned(&self, node: Node) -> bool {
        self.banned.get(&node).is_some_and(|until| *until > self.now)
    }

    fn is_allowed(&self, node: Node) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(&node))
    }

    fn add(&mut self, node: Node, direction: Direction) {
        self.expected.told[node].push(Told::Added(direction));
        self.peers.push((node, direction));
    }

    fn take(&mut self, node: Node) -> bool {
        let was_peer = self.is_peer(node);
        self.peers.retain(|(peer, _)| *peer != node);
        was_peer
    }

    fn drop(&mut self, node: Node, reason: DisconnectReason) {
        if self.take(node) {
            self.expected.told[node].push(Told::Dropped(By::Local, Some(reason)));
            self.expected.heard[node].push(Some(reason));
        }
    }

    fn drop_and_return(&mut self, node: Node, reason: DisconnectReason) {
        if self.is_peer(node) {
            self.expected.returned.push(node);
            self.drop(node, reason);
        }
    }
}

/// What is left open when several connections are begun at the same time.
struct Doubt {
    /// The node has several of them: what is refused may be told that another is there, or that there is no place.
    has_several: bool,
    /// Both ends dial: whether the other connection came so far that it was refused depends on who was faster.
    both_dial: bool,
    /// The place that was free when a dial began may be taken when it is through.
    is_dialled: bool,
}

impl Doubt {
    fn about(node: Node, contacts: &[Contact]) -> Self {
        let is_dialled = contacts.contains(&Contact::Dial(node));
        Self {
            has_several: contacts.iter().filter(|contact| contact.node() == node).count() > 1,
            both_dial: is_dialled && contacts.contains(&Contact::Inbound(node)),
            is_dialled: is_dialled && contacts.len() > 1,
        }
    }

    fn reason(&self, reason: DisconnectReason) -> DisconnectReason {
        match reason {
            DisconnectReason::AlreadyConnected if self.has_several => DisconnectReason::TooManyPeers,
            reason => reason,
        }
    }

    fn told(&self, told: &[Told]) -> Vec<Told> {
        let plain = told.iter().map(|told| match told {
            Told::Refused(reason) => Told::Refused(self.reason(*reason)),
            told => *told,
        });
        plain.filter(|told| !self.both_dial || *told != Told::Refused(DisconnectReason::TooManyPeers)).collect()
    }

    /// In no order: connections end when they like.
    fn heard(&self, heard: &[Option<DisconnectReason>]) -> Vec<Option<DisconnectReason>> {
        let plain = heard.iter().map(|reason| reason.map(|reason| self.reason(reason)));
        let is_open = self.both_dial || self.is_dialled;
        let mut heard: Vec<_> =
            plain.filter(|reason| !is_open || *reason != Some(DisconnectReason::TooManyPeers)).collect();
        heard.sort_by_key(|reason| format!("{reason:?}"));
        heard
    }
}

/// All orders of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![Vec::new()], |shorter, next| {
        let with = |order: &Vec<usize>| {
            let order = order.clone();
            (0..=order.len()).map(move |place| {
                let mut longer = order.clone();
                longer.insert(place, next);
                longer
            })
        };
        shorter.iter().flat_map(with).collect()
    })
}
