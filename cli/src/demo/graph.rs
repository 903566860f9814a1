//! Which node is connected to which.

use std::collections::VecDeque;

/// A connected graph. Nodes are numbered from 0.
#[derive(Debug)]
pub(super) struct Graph {
    neighbours: Vec<Vec<usize>>,
    /// Who dials, and who is dialled.
    edges: Vec<(usize, usize)>,
}

impl Graph {
    /// A tree that connects all nodes, and half as many edges again.
    pub(super) fn random(nodes: usize, random: &mut fastrand::Rng) -> Self {
        let mut graph = Self { neighbours: vec![Vec::new(); nodes], edges: Vec::new() };
        for node in 1..nodes {
            graph.connect(node, random.usize(..node));
        }
        let complete = nodes * (nodes - 1) / 2;
        let wanted = (nodes + nodes / 2).min(complete);
        while graph.edges.len() < wanted {
            let (from, to) = (random.usize(..nodes), random.usize(..nodes));
            if from != to && !graph.neighbours[from].contains(&to) {
                graph.connect(from, to);
            }
        }
        graph
    }

    fn connect(&mut self, from: usize, to: usize) {
        self.neighbours[from].push(to);
        self.neighbours[to].push(from);
        self.edges.push((from, to));
    }

    pub(super) fn nodes(&self) -> usize {
        self.neighbours.len()
    }

    pub(super) fn edges(&self) -> &[(usize, usize)] {
        &self.edges
    }

    /// The fewest and the most connections of a node.
    pub(super) fn degrees(&self) -> (usize, usize) {
        let degrees = || self.neighbours.iter().map(Vec::len);
        (degrees().min().unwrap_or(0), degrees().max().unwrap_or(0))
    }

    /// How many connections a message crosses between the two nodes that are farthest apart.
    pub(super) fn diameter(&self) -> usize {
        (0..self.nodes()).map(|node| self.eccentricity(node)).max().unwrap_or(0)
    }

    fn eccentricity(&self, start: usize) -> usize {
        let mut distances = vec![None; self.nodes()];
        let mut queue = VecDeque::from([(start, 0)]);
        let mut farthest = 0;
        while let Some((node, distance)) = queue.pop_front() {
            if distances[node].is_none() {
                distances[node] = Some(distance);
                farthest = distance;
                queue.extend(self.neighbours[node].iter().map(|neighbour| (*neighbour, distance + 1)));
            }
        }
        farthest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_connected_simple_and_the_same_for_a_seed() {
        for nodes in [2, 3, 4, 8, 57, 200] {
            let graph = |seed| Graph::random(nodes, &mut fastrand::Rng::with_seed(seed));
            let (first, same) = (graph(7), graph(7));
            assert_eq!(first.edges, same.edges);
            let mut pairs: Vec<_> = first.edges.iter().map(|(from, to)| (from.min(to), from.max(to))).collect();
            pairs.sort();
            pairs.dedup();
            assert_eq!(pairs.len(), first.edges.len(), "no two connections between the same nodes");
            assert!(pairs.iter().all(|(from, to)| from < to));
            let mut reached = vec![0];
            for step in 0..nodes {
                let near = first.neighbours[*reached.get(step).expect("connected")].iter();
                let new: Vec<_> = near.filter(|node| !reached.contains(node)).copied().collect();
                reached.extend(new);
            }
            assert_eq!(reached.len(), nodes);
        }
    }

    #[test]
    fn the_diameter_of_a_line_is_its_length() {
        let mut line = Graph { neighbours: vec![Vec::new(); 4], edges: Vec::new() };
        (0..3).for_each(|node| line.connect(node, node + 1));
        assert_eq!((line.diameter(), line.degrees()), (3, (1, 2)));
    }
}
