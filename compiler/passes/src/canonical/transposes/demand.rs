//! Finds transposes that follow a value further on.

use std::collections::HashMap;

use mcc_ir::{Graph, NodeId, Op, Traits, Value};

/// The permutation of a later transpose of a node's first result, after operations that a transpose can move past.
pub(crate) struct Demands(HashMap<NodeId, Vec<usize>>);

impl Demands {
    pub(crate) fn of(graph: &Graph) -> Demands {
        let mut demands: HashMap<NodeId, Vec<usize>> = HashMap::new();
        for node in graph.topological().into_iter().rev() {
            let rank = graph.types(node)[0].rank();
            let wanted = graph.users(node.into()).into_iter().find_map(|(user, _)| match graph.op(user) {
                Op::Transpose { perm } => Some(perm.clone()),
                op if passes(op) => demands.get(&user).filter(|perm| perm.len() == rank).cloned(),
                _ => None,
            });
            if let Some(perm) = wanted {
                demands.insert(node, perm);
            }
        }
        Demands(demands)
    }

    /// Whether a later transpose applies `perm` to a value.
    pub(crate) fn wants(&self, value: Value, perm: &[usize]) -> bool {
        value.result == 0 && self.0.get(&value.node).is_some_and(|p| p == perm)
    }
}

/// Operations that compute the same along transposed axes: those that keep axes, and windows.
fn passes(op: &Op) -> bool {
    op.is(Traits::KEEPS_AXES) || matches!(op, Op::Resize { .. } | Op::Pool(_))
}
