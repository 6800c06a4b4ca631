//! Shared by rewriting passes: a walk that applies a rule to every node, and an editor that tracks nodes made dead by
//! rewrites and folds constants as it adds operations.

use std::collections::HashSet;

use super::fold::fold;
use mcc_ir::Result;
use mcc_ir::{DType, Dim, Graph, NodeId, Op, Range, Tensor, Value};

/// A graph being rewritten.
pub(crate) struct Edit<'g> {
    pub(crate) graph: &'g mut Graph,
    /// Replaced nodes and nodes that only they used: they stay in the graph until the pass ends, but do not count as
    /// users.
    dead: HashSet<NodeId>,
    /// New operations get the label of the node that the rule is applied to.
    label: String,
}

/// Applies `rule` to every node, operands before users, and again to its result until it returns `None`. The rule
/// returns a replacement for the node's first result. Returns whether anything changed.
pub(crate) fn rewrite(
    graph: &mut Graph,
    mut rule: impl FnMut(&mut Edit, NodeId) -> Result<Option<Value>>,
) -> Result<bool> {
    /// Maximum repetitions for one node. Rules shrink what they match; the bound only stops a faulty rule.
    const MAX_REWRITES: usize = 16;
    let order = graph.topological();
    let mut edit = Edit { graph, dead: HashSet::new(), label: String::new() };
    let mut changed = false;
    for mut node in order {
        for _ in 0..MAX_REWRITES {
            if edit.dead.contains(&node) {
                break;
            }
            edit.label = edit.graph.label(node).to_string();
            let result = rule(&mut edit, node).map_err(|e| e.within(edit.label.clone()))?;
            let Some(new) = result.filter(|new| *new != Value::from(node)) else { break };
            edit.replace(node.into(), new);
            changed = true;
            node = new.node;
        }
    }
    Ok(changed)
}

impl Edit<'_> {
    /// Adds an operation, or its result if that is constant.
    pub(crate) fn add(&mut self, op: Op, operands: &[Value]) -> Result<Value> {
        if let Some(mut folded) = fold(self.graph, &op, operands)?
            && folded.len() == 1
        {
            return Ok(self.graph.constant(folded.remove(0)));
        }
        Ok(self.graph.add_labelled(op, operands, &self.label)?.into())
    }

    /// Replaces `old` by `new`.
    pub(crate) fn replace(&mut self, old: Value, new: Value) {
        self.graph.replace(old, new);
        self.bury(old.node);
    }

    /// Marks a node dead if nothing live uses it, and then its operands likewise.
    fn bury(&mut self, node: NodeId) {
        let mut stack = vec![node];
        while let Some(node) = stack.pop() {
            let used = (0..self.graph.types(node).len()).any(|result| {
                let value = Value { node, result };
                self.graph.is_output(value) || self.graph.users(value).iter().any(|(u, _)| !self.dead.contains(u))
            });
            if !used && self.dead.insert(node) {
                stack.extend(self.graph.operands(node).iter().map(|v| v.node));
            }
        }
    }

    /// Live users of a value.
    pub(crate) fn users(&self, value: Value) -> Vec<(NodeId, usize)> {
        let mut users = self.graph.users(value);
        users.retain(|(u, _)| !self.dead.contains(u));
        users
    }

    /// Whether a value has exactly one live use and is not an output.
    pub(crate) fn used_once(&self, value: Value) -> bool {
        self.users(value).len() == 1 && !self.graph.is_output(value)
    }

    /// A value's shape.
    pub(crate) fn shape(&self, value: Value) -> Vec<Dim> {
        self.graph.ty(value).shape.clone()
    }

    /// A value's element type.
    pub(crate) fn dtype(&self, value: Value) -> DType {
        self.graph.ty(value).dtype
    }

    /// Reshapes; returns the value itself if it has that shape. Reshapes of reshapes become one.
    pub(crate) fn reshape(&mut self, mut value: Value, shape: Vec<Dim>) -> Result<Value> {
        while let Op::Reshape { .. } = self.graph.op(value.node) {
            value = self.graph.operands(value.node)[0];
        }
        if self.graph.ty(value).shape == shape {
            return Ok(value);
        }
        self.add(Op::Reshape { shape }, &[value])
    }

    /// Casts; returns the value itself if it has that type.
    pub(crate) fn cast(&mut self, value: Value, to: DType) -> Result<Value> {
        if self.dtype(value) == to { Ok(value) } else { self.add(Op::Cast { to, saturate: true }, &[value]) }
    }

    /// Transposes; returns the value itself if nothing moves.
    pub(crate) fn transpose(&mut self, value: Value, perm: Vec<usize>) -> Result<Value> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return Ok(value);
        }
        self.add(Op::Transpose { perm }, &[value])
    }

    /// Broadcasts; returns the value itself if it has that shape.
    pub(crate) fn broadcast(&mut self, value: Value, shape: Vec<Dim>) -> Result<Value> {
        if self.graph.ty(value).shape == shape {
            return Ok(value);
        }
        self.add(Op::Broadcast { shape }, &[value])
    }

    /// Slices; returns the value itself if all of it is taken.
    pub(crate) fn slice(&mut self, value: Value, ranges: Vec<Range>) -> Result<Value> {
        let full = self.graph.ty(value).shape.iter().zip(&ranges).all(|(d, r)| *r == Range::full(d));
        if full { Ok(value) } else { self.add(Op::Slice { ranges }, &[value]) }
    }

    /// A rank-0 constant.
    pub(crate) fn scalar(&mut self, dtype: DType, value: f64) -> Value {
        self.graph.constant(Tensor::scalar_f64(dtype, value))
    }

    /// The number that all elements of a constant are equal to, if they are.
    pub(crate) fn splat(&self, value: Value) -> Option<f64> {
        splat(self.graph, value).map(|t| t.f64_at(0))
    }
}

/// The element that all elements of a constant are equal to, possibly after broadcasts and reshapes.
pub(crate) fn splat(graph: &Graph, mut value: Value) -> Option<Tensor> {
    loop {
        match graph.op(value.node) {
            Op::Constant(t) => return t.splat_value(),
            Op::Broadcast { .. } | Op::Reshape { .. } => value = graph.operand(value.node, 0)?,
            _ => return None,
        }
    }
}

/// A shape with leading axes of extent 1 added up to `rank` axes.
pub(crate) fn pad_rank(shape: &[Dim], rank: usize) -> Vec<Dim> {
    let mut padded = vec![Dim::ONE; rank.saturating_sub(shape.len())];
    padded.extend_from_slice(shape);
    padded
}
