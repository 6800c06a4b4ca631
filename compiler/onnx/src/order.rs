//! The nodes that a graph's outputs need, and an order in which they can run.
//!
//! Contract: files may list nodes in any order, and contain nodes that nothing needs; the needed nodes keep the file's
//! order wherever possible. A name has one producer in its graph; a graph's own names shadow those around it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use mcc_proto::{GraphProto, NodeProto};

use super::node::place;
use mcc_ir::{Error, Result};

/// Maximum nodes of a cycle that an error names.
const MAX_NAMED_NODES: usize = 8;

/// The nodes that a graph's outputs need.
pub struct NodeOrder<'a> {
    /// Their numbers, each after the nodes whose results it uses.
    pub order: Vec<usize>,
    /// Names that these nodes use, and the outputs.
    pub needs: HashSet<&'a str>,
}

impl<'a> NodeOrder<'a> {
    /// The plan for nodes, if the names `given` have values without them.
    ///
    /// # Errors
    /// When a name has two producers, or the needed nodes form a cycle.
    pub fn new(
        nodes: &'a [NodeProto],
        given: impl IntoIterator<Item = &'a str>,
        outputs: impl IntoIterator<Item = &'a str>,
    ) -> Result<NodeOrder<'a>> {
        let givers = givers(nodes, &given.into_iter().collect())?;
        let mut needs: HashSet<&str> = outputs.into_iter().filter(|o| !o.is_empty()).collect();
        let mut waiting: Vec<&str> = needs.iter().copied().collect();
        // For each needed node, the number of needed nodes that it waits for.
        let mut missing: HashMap<usize, usize> = HashMap::new();
        let mut users: HashMap<usize, Vec<usize>> = HashMap::new();
        while let Some(name) = waiting.pop() {
            let Some(&n) = givers.get(name) else { continue };
            if missing.contains_key(&n) {
                continue;
            }
            let uses = uses(&nodes[n]);
            let before: HashSet<usize> = uses.iter().filter_map(|u| givers.get(u).copied()).collect();
            missing.insert(n, before.len());
            before.iter().for_each(|&b| users.entry(b).or_default().push(n));
            waiting.extend(uses.into_iter().filter(|u| needs.insert(u)));
        }
        let mut ready: BinaryHeap<Reverse<usize>> =
            missing.iter().filter(|m| *m.1 == 0).map(|(&n, _)| Reverse(n)).collect();
        let mut order = Vec::with_capacity(missing.len());
        while let Some(Reverse(n)) = ready.pop() {
            order.push(n);
            for &user in users.get(&n).into_iter().flatten() {
                if let Some(count) = missing.get_mut(&user) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(Reverse(user));
                    }
                }
            }
        }
        if order.len() < missing.len() {
            missing.retain(|_, count| *count > 0);
            return Err(cycle(nodes, &missing.into_keys().collect(), &givers));
        }
        Ok(NodeOrder { order, needs })
    }

    /// The plan of a graph.
    ///
    /// # Errors
    /// As [`NodeOrder::new`].
    pub fn of(graph: &'a GraphProto) -> Result<NodeOrder<'a>> {
        let inputs = graph.input.iter().map(|i| i.name.as_str());
        NodeOrder::new(&graph.node, inputs.chain(initialized(graph)), graph.output.iter().map(|o| o.name.as_str()))
    }
}

/// Names of a graph's initializers.
pub fn initialized(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let sparse = graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref());
    graph.initializer.iter().chain(sparse).map(|t| t.name.as_str())
}

/// Every name that a node uses, including those that its subgraphs use from outside.
pub fn uses(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).filter(|i| !i.is_empty()).collect();
    for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
        let own: HashSet<&str> = graph
            .input
            .iter()
            .map(|i| i.name.as_str())
            .chain(initialized(graph))
            .chain(graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str)))
            .collect();
        let inner = graph.node.iter().flat_map(uses).chain(graph.output.iter().map(|o| o.name.as_str()));
        names.extend(inner.filter(|name| !own.contains(name)));
    }
    names
}

/// The producer of each name.
fn givers<'a>(nodes: &'a [NodeProto], given: &HashSet<&str>) -> Result<HashMap<&'a str, usize>> {
    let mut givers = HashMap::new();
    for (n, node) in nodes.iter().enumerate() {
        for name in node.output.iter().map(String::as_str).filter(|o| !o.is_empty()) {
            let twice =
                |other: &str| Error::invalid(format!("it gives \"{name}\", as {other} does")).within(place(node));
            if given.contains(name) {
                return Err(twice("an input or initializer"));
            }
            if let Some(first) = givers.insert(name, n) {
                return Err(twice(&place(&nodes[first])));
            }
        }
    }
    Ok(givers)
}

/// The error that describes a cycle: every `stuck` node waits for another one.
fn cycle(nodes: &[NodeProto], stuck: &HashSet<usize>, givers: &HashMap<&str, usize>) -> Error {
    let mut path: Vec<usize> = stuck.iter().min().copied().into_iter().collect();
    let mut seen: HashMap<usize, usize> = HashMap::new();
    while let Some(&at) = path.last() {
        if let Some(&begin) = seen.get(&at) {
            path.drain(..begin);
            break;
        }
        seen.insert(at, path.len() - 1);
        path.extend(uses(&nodes[at]).iter().filter_map(|u| givers.get(u).copied()).find(|n| stuck.contains(n)));
    }
    let mut names: Vec<String> = path.iter().map(|&n| place(&nodes[n])).collect();
    if names.len() > MAX_NAMED_NODES {
        let others = names.len() - MAX_NAMED_NODES;
        names.splice(MAX_NAMED_NODES - 1..names.len() - 1, [format!("{others} more")]);
    }
    Error::invalid(format!("nodes form a cycle, each uses what the next one gives: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(output: &str, inputs: &[&str]) -> NodeProto {
        let input = inputs.iter().map(|i| (*i).to_string()).collect();
        NodeProto { op_type: "Op".to_string(), input, output: vec![output.to_string()], ..Default::default() }
    }

    fn order(nodes: &[NodeProto], outputs: &[&'static str]) -> Result<Vec<usize>, String> {
        let plan = NodeOrder::new(nodes, ["x"], outputs.iter().copied());
        plan.map(|p| p.order).map_err(|e| e.report().to_string())
    }

    #[test]
    fn order_is_the_files_where_it_can_run() {
        let nodes = [node("c", &["b", "x"]), node("a", &["x"]), node("dead", &["a"]), node("b", &["a", "a"])];
        assert_eq!(order(&nodes, &["c"]).unwrap(), [1, 3, 0]);
        assert_eq!(order(&nodes, &["c", "dead"]).unwrap(), [1, 2, 3, 0]);
        assert_eq!(order(&nodes, &["x"]).unwrap(), [] as [usize; 0]);
    }

    #[test]
    fn cycles_name_their_nodes_and_only_those() {
        let nodes = [node("y", &["a"]), node("a", &["b"]), node("b", &["c"]), node("c", &["a", "x"])];
        let text = order(&nodes, &["y"]).unwrap_err();
        assert!(["\"a\"", "\"b\"", "\"c\""].iter().all(|n| text.contains(n)) && !text.contains("\"y\""), "{text}");
        assert!(order(&[node("a", &["a"])], &["a"]).unwrap_err().contains("\"a\" (Op), node \"a\" (Op)"));
        // A cycle that nothing needs is ignored.
        assert_eq!(order(&[node("a", &["a"]), node("y", &["x"])], &["y"]).unwrap(), [1]);
        let ring: Vec<NodeProto> = (0..50).map(|n| node(&format!("n{n}"), &[&format!("n{}", (n + 1) % 50)])).collect();
        assert!(order(&ring, &["n7"]).unwrap_err().contains("43 more"));
    }

    #[test]
    fn names_have_one_giver() {
        let text = order(&[node("a", &["x"]), node("a", &["x"])], &["a"]).unwrap_err();
        assert!(text.contains("gives \"a\", as node \"a\" (Op) does"), "{text}");
        assert!(order(&[node("x", &[])], &["x"]).is_err());
    }

    #[test]
    fn subgraphs_use_names_around_them() {
        let mut branch = node("r", &["x"]);
        let graph = GraphProto {
            node: vec![node("in", &["late"]), node("out", &["in"])],
            output: vec![mcc_proto::ValueInfoProto { name: "out".to_string(), ..Default::default() }],
            ..Default::default()
        };
        branch.attribute.push(mcc_proto::AttributeProto { g: Some(graph), ..Default::default() });
        assert_eq!(uses(&branch), ["x", "late"]);
        assert_eq!(order(&[branch, node("late", &["x"])], &["r"]).unwrap(), [1, 0]);
    }
}
