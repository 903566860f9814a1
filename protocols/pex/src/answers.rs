//! Who was told of which nodes. Asking often does not bring the whole book to light.

use std::collections::BTreeMap;
use std::time::Duration;

use capmux::book::Source;
use capmux::node::{Reach, Subnet};
use capmux::{NodeAddr, NodeId};
use tokio::time::Instant;

use crate::MAX_RECORDS;

/// How many askers are remembered.
const MAX_ASKERS: usize = 1_000;

/// Who counts as the same asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asker {
    /// Ids cost nothing, addresses do.
    Network(Subnet),
    /// Where addresses say nothing.
    Node(NodeId),
}

/// What one asker was told of.
#[derive(Debug)]
struct Told {
    since: Instant,
    nodes: Vec<NodeId>,
}

/// What all askers were told of lately.
#[derive(Debug)]
pub(crate) struct Answers {
    lifetime: Duration,
    askers: BTreeMap<Asker, Told>,
}

impl Answers {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self { lifetime, askers: BTreeMap::new() }
    }

    /// Up to `count` of the nodes that may be told of now, which are in the order of preference: those that this asker
    /// was told of before, and then others until it has been told of [`MAX_RECORDS`].
    pub(crate) fn choose(
        &mut self,
        asker: &Source,
        mut nodes: Vec<NodeAddr>,
        count: usize,
        now: Instant,
    ) -> Vec<NodeAddr> {
        let lifetime = self.lifetime;
        let told = self.told(asker, now);
        if now.saturating_duration_since(told.since) >= lifetime {
            *told = Told { since: now, nodes: Vec::new() };
        }
        let place = |node: &NodeAddr| told.nodes.iter().position(|id| *id == node.node_id()).unwrap_or(usize::MAX);
        // Stable: the others keep their order.
        nodes.sort_by_cached_key(place);
        let mut room = MAX_RECORDS.saturating_sub(told.nodes.len());
        let mut chosen = Vec::new();
        for node in nodes {
            let id = node.node_id();
            let is_old = told.nodes.contains(&id);
            if chosen.len() == count || !is_old && room == 0 {
                break;
            }
            if !is_old {
                room -= 1;
                told.nodes.push(id);
            }
            chosen.push(node);
        }
        chosen
    }

    fn told(&mut self, asker: &Source, now: Instant) -> &mut Told {
        let asker = match asker {
            Source::Peer { ip: Some(ip), .. } if Reach::of(*ip) == Reach::Public => Asker::Network(Subnet::narrow(*ip)),
            Source::Peer { id, .. } => Asker::Node(*id),
            _ => Asker::Node(NodeId::from_bytes([0; 32])),
        };
        if self.askers.len() >= MAX_ASKERS && !self.askers.contains_key(&asker) {
            let oldest = self.askers.iter().min_by_key(|(_, told)| told.since).map(|(asker, _)| *asker);
            oldest.and_then(|oldest| self.askers.remove(&oldest));
        }
        self.askers.entry(asker).or_insert(Told { since: now, nodes: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use capmux::{Address, NodeKey};

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(600);

    fn nodes(count: u8) -> Vec<NodeAddr> {
        let node = |n: u8| {
            let key = NodeKey::from_bytes(&[n + 1; 32]).expect("a key");
            NodeAddr::new(key.public_key(), [Address::Ip(([8, 8, n, 8], 30_303).into())])
        };
        (0..count).map(node).collect()
    }

    fn asker(id: u8, ip: Option<&str>) -> Source {
        let ip = ip.map(|ip| ip.parse::<IpAddr>().expect("an address"));
        Source::Peer { id: NodeId::from_bytes([id; 32]), ip }
    }

    #[test]
    fn one_asker_is_told_of_thirty_nodes_until_its_time_is_over() {
        let (mut answers, start, asker) = (Answers::new(LIFETIME), Instant::now(), asker(1, None));
        let all = nodes(90);
        let first = answers.choose(&asker, all.clone(), 30, start);
        assert_eq!(first, all[..30], "R56: in the order of preference");
        let mut turned = all.clone();
        turned.reverse();
        let again = answers.choose(&asker, turned.clone(), 30, start + LIFETIME - Duration::from_secs(1));
        assert_eq!(again, first, "R56: the same whatever is preferred now");
        assert_eq!(answers.choose(&asker, turned.clone(), 7, start), first[..7], "R56: or fewer");
        assert_eq!(answers.choose(&asker, turned.clone(), 30, start + LIFETIME), turned[..30], "R56: then others");
    }

    #[test]
    fn what_may_not_be_told_any_more_is_left_out_and_not_made_up_for() {
        let (mut answers, start, asker) = (Answers::new(LIFETIME), Instant::now(), asker(1, None));
        let all = nodes(60);
        answers.choose(&asker, all[..10].to_vec(), 30, start);
        assert_eq!(answers.choose(&asker, all[..35].to_vec(), 30, start), all[..30], "R56: there was room for 20 more");
        assert_eq!(answers.choose(&asker, all[10..].to_vec(), 30, start), all[10..30], "R48: ten have become private");
    }

    #[test]
    fn a_public_network_is_one_asker_and_a_private_one_is_not() {
        let (mut answers, start, all) = (Answers::new(LIFETIME), Instant::now(), nodes(90));
        let [one, other] = [1, 2].map(|id| asker(id, Some(["", "9.9.9.1", "9.9.9.2"][usize::from(id)])));
        let first = answers.choose(&one, all[..30].to_vec(), 30, start);
        assert_eq!(first.len(), 30);
        assert!(answers.choose(&other, all[30..].to_vec(), 30, start).is_empty(), "R56: ids cost nothing");
        let near = asker(3, Some("192.168.1.1"));
        assert_eq!(answers.choose(&near, all[30..].to_vec(), 30, start).len(), 30);
        assert_eq!(answers.choose(&asker(4, Some("192.168.1.1")), all[60..].to_vec(), 30, start).len(), 30);
    }

    #[test]
    fn the_askers_that_are_remembered_are_bounded() {
        let (mut answers, start) = (Answers::new(LIFETIME), Instant::now());
        for n in 0..2 * MAX_ASKERS as u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            let asker = Source::Peer { id: NodeId::from_bytes(id), ip: None };
            answers.choose(&asker, nodes(1), 30, start + Duration::from_millis(n));
        }
        assert_eq!(answers.askers.len(), MAX_ASKERS, "R56");
    }
}
