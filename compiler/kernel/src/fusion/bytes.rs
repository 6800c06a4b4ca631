//! Kernels whose results are rounded to bytes before they are combined.

use std::collections::HashMap;

use super::Fusion;
use mcc_ir::{NodeId, Traits, Value};

impl Fusion<'_> {
    /// If one group reads the bytes of several kernels, only the last kernel can have that group as epilogue: the
    /// operations that make the others' bytes become groups of their own, so that no wider values are stored.
    pub(super) fn separate_bytes(&mut self, order: &[NodeId]) {
        let graph = self.graph;
        let mut last: HashMap<NodeId, NodeId> = HashMap::new();
        let behind = |fusion: &Self, anchor: NodeId| {
            let op = graph.op(anchor);
            let computes = op.is(Traits::EPILOGUE) && !op.is(Traits::JOINS);
            let [(user, _)] = graph.users(anchor.into())[..] else { return None };
            fusion.group_of.get(&user).filter(|_| computes).map(|&root| (user, root))
        };
        for &anchor in order {
            if let Some((_, root)) = behind(self, anchor) {
                last.insert(root, anchor);
            }
        }
        for &anchor in order {
            let Some((mut node, root)) = behind(self, anchor).filter(|b| last.get(&b.1).is_some_and(|&l| l != anchor))
            else {
                continue;
            };
            let wide = graph.ty(anchor.into());
            let mut chain = Vec::new();
            // Follow operations with one computed operand, up to a byte.
            while node != root {
                let computed = |v: &Value| self.group_of.get(&v.node) == Some(&root);
                let operands = graph.operands(node);
                if operands.iter().filter(|v| computed(v)).count() > usize::from(!chain.is_empty()) {
                    break;
                }
                chain.push(node);
                let ty = graph.ty(node.into());
                if ty.dtype.size() < wide.dtype.size() && ty.dtype.size() == 1 && ty.shape == wide.shape {
                    self.group_of.extend(chain.iter().map(|&n| (n, node)));
                    break;
                }
                let [(user, _)] = graph.users(node.into())[..] else { break };
                node = user;
            }
        }
    }
}
