//! The cheapest assignment of two labels to many variables, as a minimum cut.
//!
//! The cost of a variable's label, or of two variables having different labels, is an edge of a network between two
//! terminals. The edges that a cut between the terminals removes are the costs of a labelling, in which the variables
//! on the source's side have the first label. A minimum cut, which equals the maximum flow, is therefore the best of
//! all labellings, not an approximation (V. Kolmogorov, R. Zabih: What Energy Functions Can Be Minimized via Graph
//! Cuts?, IEEE TPAMI 26(2), 2004).

use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

/// A cost that no labelling pays; sums of all other costs stay below.
pub(super) const FORBIDDEN: u64 = 1 << 52;

/// A variable to label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variable(NodeIndex);

/// Variables and the costs of their labels.
pub(super) struct Network {
    net: DiGraph<(), u64>,
    source: NodeIndex,
    sink: NodeIndex,
}

impl Network {
    pub(super) fn new() -> Network {
        let mut net = DiGraph::new();
        let (source, sink) = (net.add_node(()), net.add_node(()));
        Network { net, source, sink }
    }

    pub(super) fn variable(&mut self) -> Variable {
        Variable(self.net.add_node(()))
    }

    /// Adds the costs of a variable's labels.
    pub(super) fn alone(&mut self, v: Variable, [first, second]: [u64; 2]) {
        // A common cost does not affect the choice.
        let common = first.min(second);
        self.edge(v.0, self.sink, first - common);
        self.edge(self.source, v.0, second - common);
    }

    /// Adds a cost if `a` has the first label and `b` the second.
    pub(super) fn apart(&mut self, a: Variable, b: Variable, cost: u64) {
        self.edge(a.0, b.0, cost);
    }

    /// Adds the costs of two variables' labels, `costs[a][b]`. The costs of the two ways to disagree must be at least
    /// those of the two ways to agree.
    pub(super) fn together(&mut self, a: Variable, b: Variable, costs: [[u64; 2]; 2]) {
        let [[same, apart], [other, last]] = costs;
        // `a`'s label costs as if `b` had the first one, `b`'s as if `a` had the second.
        self.alone(a, [same, other]);
        self.alone(b, [other, last]);
        self.apart(a, b, (apart + other).saturating_sub(same + last));
    }

    /// Adds a cost if `a` has the first label and any of the others the second.
    pub(super) fn any_second(&mut self, a: Variable, others: &[Variable], cost: u64) {
        let any = self.variable();
        self.apart(a, any, cost);
        others.iter().for_each(|&other| self.apart(any, other, FORBIDDEN));
    }

    /// Adds a cost if `a` has the second label and any of the others the first.
    pub(super) fn any_first(&mut self, a: Variable, others: &[Variable], cost: u64) {
        let any = self.variable();
        self.apart(any, a, cost);
        others.iter().for_each(|&other| self.apart(other, any, FORBIDDEN));
    }

    fn edge(&mut self, from: NodeIndex, to: NodeIndex, cost: u64) {
        if cost > 0 && from != to {
            self.net.add_edge(from, to, cost);
        }
    }

    /// Whether each variable has the first label, in the best labelling with the fewest first labels.
    pub(super) fn solve(&self) -> impl Fn(Variable) -> bool {
        let (_, flows) = dinics(&self.net, self.source, self.sink);
        // The source's side is what can be reached through edges with residual capacity.
        let mut reached = vec![false; self.net.node_count()];
        reached[self.source.index()] = true;
        let mut pending = vec![self.source];
        while let Some(node) = pending.pop() {
            let onwards = self.net.edges(node).filter(|e| flows[e.id().index()] < *e.weight()).map(|e| e.target());
            let back = self.net.edges_directed(node, petgraph::Incoming);
            let back = back.filter(|e| flows[e.id().index()] > 0).map(|e| e.source());
            for next in onwards.chain(back) {
                if !std::mem::replace(&mut reached[next.index()], true) {
                    pending.push(next);
                }
            }
        }
        move |v: Variable| reached[v.0.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcc_ir::Random;

    /// The costs of a labelling, term by term.
    struct Terms {
        alone: Vec<[u64; 2]>,
        together: Vec<(usize, usize, [[u64; 2]; 2])>,
        spread: Vec<(usize, Vec<usize>, u64, u64)>,
    }

    impl Terms {
        fn cost(&self, second: &dyn Fn(usize) -> bool) -> u64 {
            let label = |v: usize| usize::from(second(v));
            let alone = self.alone.iter().enumerate().map(|(v, costs)| costs[label(v)]);
            let together = self.together.iter().map(|&(a, b, costs)| costs[label(a)][label(b)]);
            let spread = self.spread.iter().map(|(a, others, to_second, to_first)| match second(*a) {
                false if others.iter().any(|&o| second(o)) => *to_second,
                true if others.iter().any(|&o| !second(o)) => *to_first,
                _ => 0,
            });
            alone.chain(together).chain(spread).sum()
        }
    }

    #[test]
    fn the_best_of_all_labellings() {
        const N: usize = 9;
        let mut random = Random::new(7);
        let mut random = |below: usize| random.below(below) as u64;
        for _ in 0..50 {
            let mut terms = Terms { alone: Vec::new(), together: Vec::new(), spread: Vec::new() };
            let mut network = Network::new();
            let v: Vec<Variable> = (0..N).map(|_| network.variable()).collect();
            for &v in &v {
                let costs = [random(20), random(20)];
                network.alone(v, costs);
                terms.alone.push(costs);
            }
            for _ in 0..N {
                let (a, b) = (random(N) as usize, random(N) as usize);
                let (same, last, extra) = (random(20), random(20), random(10));
                let apart = random((same + last + 1) as usize);
                let costs = [[same, apart + extra], [same + last - apart, last]];
                if a != b {
                    network.together(v[a], v[b], costs);
                    terms.together.push((a, b, costs));
                }
                let others: Vec<usize> = (0..N).filter(|&o| o != a && random(3) == 0).collect();
                let users: Vec<Variable> = others.iter().map(|&o| v[o]).collect();
                let (to_second, to_first) = (random(12), random(12));
                network.any_second(v[a], &users, to_second);
                network.any_first(v[a], &users, to_first);
                terms.spread.push((a, others, to_second, to_first));
            }
            let is_first = network.solve();
            let found = terms.cost(&|n| !is_first(v[n]));
            let best = (0..1usize << N).map(|labels| terms.cost(&|n| labels >> n & 1 == 1)).min();
            assert_eq!(Some(found), best);
        }
    }

    #[test]
    fn ties_go_to_the_second_label() {
        let mut network = Network::new();
        let [a, b, c] = [0; 3].map(|_| network.variable());
        network.alone(a, [0, FORBIDDEN]);
        network.apart(a, b, 3);
        network.alone(b, [3, 0]);
        network.alone(c, [5, 5]);
        let is_first = network.solve();
        assert_eq!([a, b, c].map(is_first), [true, false, false]);
    }
}
