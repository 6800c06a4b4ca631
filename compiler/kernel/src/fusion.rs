//! Fusion: which operations share a kernel.
//!
//! A group is an optional anchor (an operation with a kernel of its own) followed by a tree of element-wise operations
//! of one shape. The rules:
//! - an element-wise node joins its users' group when they are all in one group and have its shape; so only one value
//!   leaves a group, its root;
//! - a group has at most [`MOST_OPERATIONS`] nodes; a node beyond that is the root of a new group;
//! - an anchor takes the group that holds all users of its result as epilogue, when its kernel can apply one and every
//!   other tensor of the group can be read along the anchor's rows; of several candidates, the last computed one;
//! - a group whose only reader can compute it a block at a time may become [part of that reader](super::chain);
//! - transposes, slices and broadcasts that only element-wise operations read become views of their operand, and so do
//!   slices that convolutions read; reshapes alias a buffer.

mod bytes;

use std::collections::{HashMap, HashSet};

use mcc_targets::Config;

use super::chain;
use super::expr::{Expr, ExprKind};
use super::kernels;
use super::plan::{Group, Grouping, Leaf, Placements, Shown, Views, by_rows};
use super::view::View;
use mcc_ir::{DType, Error, Graph, NodeId, Op, Result, Tensor, Traits, Value, WeightFormat};

/// Whether a view is a part of a buffer that a convolution can read as an operand.
fn shows_part(graph: &Graph, view: NodeId, user: NodeId, operand: usize) -> bool {
    let (Op::Slice { ranges }, Some(x)) = (graph.op(view), graph.operand(view, 0)) else { return false };
    let user = graph.op(user);
    use WeightFormat::{Dense, Depthwise, Int8Depthwise};
    if !matches!(user.weights(), Some(Dense | Depthwise | Int8Depthwise)) || graph.op(x.node).is(Traits::VIEW) {
        return false;
    }
    let strides = View::contiguous(&graph.ty(x).shape).strides;
    ranges.iter().all(|r| r.step == 1) && kernels::reads_spaced(user, operand, &strides)
}

/// Finds the groups of a graph's nodes.
///
/// # Errors
/// When an invariant is broken.
pub fn fuse(graph: &Graph, config: &Config) -> Result<Grouping> {
    let order = graph.topological();
    let fast_lookups = config.target.has_fast_lookups();
    let (group_of, sizes, stored, alias) = (HashMap::new(), HashMap::new(), HashSet::new(), HashMap::new());
    let mut fusion = Fusion { graph, fast_lookups, group_of, sizes, stored, alias };
    for &node in order.iter().rev() {
        fusion.place(node);
    }
    fusion.separate_bytes(&order);
    // A reshape aliases its operand's buffer; operands come first, so chains resolve to the buffer itself.
    for &node in &order {
        if let Op::Reshape { .. } = graph.op(node)
            && let Some(x) = graph.operand(node, 0)
        {
            let base = fusion.alias.get(&x).copied().unwrap_or(x);
            fusion.alias.insert(node.into(), base);
        }
    }
    let epilogues = fusion.epilogues(&order)?;
    let mut groups = Vec::new();
    for &node in &order {
        if epilogues.taken.contains(&node) || !fusion.starts_group(node) {
            continue;
        }
        match epilogues.by_root.get(&node) {
            Some(group) => groups.push(group.clone()),
            None if graph.op(node).is(Traits::ELEMENTWISE) || graph.op(node).is(Traits::VIEW) => {
                let (expr, leaves) = fusion.expression(node, None)?;
                groups.push(Group { anchor: None, root: node, expr, leaves, feeding: None });
            }
            None => {
                let (expr, leaves) = (Expr::default(), Vec::new());
                groups.push(Group { anchor: Some(node), root: node, expr, leaves, feeding: None });
            }
        }
    }
    let (groups, decisions) = chain::chain(graph, config, groups);
    Ok(Grouping { groups, decisions, stored: fusion.stored, alias: fusion.alias })
}

struct Fusion<'a> {
    graph: &'a Graph,
    /// Whether the target looks up a whole vector of bytes at a time.
    fast_lookups: bool,
    /// Root of the group of each element-wise node.
    group_of: HashMap<NodeId, NodeId>,
    /// Number of nodes of each group, by its root.
    sizes: HashMap<NodeId, usize>,
    /// Views that are stored to a buffer.
    stored: HashSet<NodeId>,
    alias: HashMap<Value, Value>,
}

/// The most element-wise operations in one kernel: limits spills and compile time.
const MOST_OPERATIONS: usize = 256;

struct Epilogues {
    by_root: HashMap<NodeId, Group>,
    taken: HashSet<NodeId>,
}

impl Fusion<'_> {
    /// Assigns a node; its users are assigned already.
    fn place(&mut self, node: NodeId) {
        let graph = self.graph;
        let op = graph.op(node);
        if op.is(Traits::ELEMENTWISE) {
            let root = self.joins(node).unwrap_or(node);
            self.group_of.insert(node, root);
            *self.sizes.entry(root).or_default() += 1;
        } else if op.is(Traits::VIEW) {
            let users = graph.users(node.into());
            let read_in_place = |&(user, n): &(NodeId, usize)| {
                graph.op(user).is(Traits::ELEMENTWISE)
                    || graph.op(user).is(Traits::VIEW)
                    || shows_part(graph, node, user, n)
            };
            if graph.is_output(node.into()) || !users.iter().all(read_in_place) {
                self.stored.insert(node);
            }
        }
    }

    /// The group that an element-wise node can join.
    fn joins(&self, node: NodeId) -> Option<NodeId> {
        let graph = self.graph;
        let value = Value::from(node);
        if graph.is_output(value) {
            return None;
        }
        let mut root = None;
        for (user, _) in graph.users(value) {
            let group = *self.group_of.get(&user)?;
            if root.is_some_and(|r| r != group) || graph.ty(user.into()).shape != graph.ty(value).shape {
                return None;
            }
            root = Some(group);
        }
        root.filter(|r| self.sizes.get(r).is_none_or(|&n| n < MOST_OPERATIONS))
    }

    /// Whether a kernel stores a node's result to a buffer.
    fn starts_group(&self, node: NodeId) -> bool {
        match self.graph.op(node) {
            Op::Input(..) | Op::Constant(_) | Op::Reshape { .. } => false,
            op if op.is(Traits::ELEMENTWISE) => self.group_of.get(&node) == Some(&node),
            op if op.is(Traits::VIEW) => self.stored.contains(&node),
            _ => true,
        }
    }

    /// Finds anchors that can take a group as epilogue.
    fn epilogues(&self, order: &[NodeId]) -> Result<Epilogues> {
        let mut found = Epilogues { by_root: HashMap::new(), taken: HashSet::new() };
        // Operations that only move data come last: with an epilogue they copy data that a placement could have avoided
        // copying.
        let (movers, others): (Vec<&NodeId>, Vec<&NodeId>) =
            order.iter().rev().partition(|&&node| self.graph.op(node).is(Traits::JOINS));
        for &node in others.into_iter().chain(movers) {
            if let Some(group) = self.epilogue_of(node)?
                && !found.by_root.contains_key(&group.root)
            {
                found.taken.insert(node);
                found.by_root.insert(group.root, group);
            }
        }
        Ok(found)
    }

    /// The group that can be an anchor's epilogue.
    fn epilogue_of(&self, anchor: NodeId) -> Result<Option<Group>> {
        let graph = self.graph;
        let value = Value::from(anchor);
        if !graph.op(anchor).is(Traits::EPILOGUE) || graph.types(anchor).len() != 1 || graph.is_output(value) {
            return Ok(None);
        }
        let shape = &graph.ty(value).shape;
        let mut root = None;
        for (user, _) in graph.users(value) {
            let Some(&group) = self.group_of.get(&user) else { return Ok(None) };
            if root.is_some_and(|r| r != group) || graph.ty(user.into()).shape != *shape {
                return Ok(None);
            }
            root = Some(group);
        }
        let Some(root) = root else { return Ok(None) };
        let (expr, leaves) = self.expression(root, Some(value))?;
        let readable = leaves.iter().all(|leaf| by_rows(graph.op(anchor), &leaf.view, shape));
        Ok(readable.then_some(Group { anchor: Some(anchor), root, expr, leaves, feeding: None }))
    }

    /// The expression of a group; `anchor` is in the kernel's registers.
    fn expression(&self, root: NodeId, anchor: Option<Value>) -> Result<(Expr, Vec<Leaf>)> {
        let mut building = Building {
            fusion: self,
            root,
            anchor,
            expr: Expr::default(),
            leaves: Vec::new(),
            done: HashMap::new(),
            scalars: Vec::new(),
        };
        if self.graph.op(root).is(Traits::VIEW) {
            building.leaf(root.into(), true)?;
        } else {
            building.node(root)?;
        }
        building.expr = building.expr.with_quantize();
        if building.expr.quantizes() {
            let bounds: Vec<Option<f64>> = building.leaves.iter().map(|l| self.magnitude(l.value)).collect();
            building.expr = building.expr.with_bounds(&bounds).with_lookups(self.fast_lookups);
        }
        use WeightFormat::{Blocks, Int8, Int8Depthwise};
        let weights = anchor.and_then(|a| self.graph.op(a.node).weights());
        if matches!(weights, Some(Int8 { .. } | Int8Depthwise | Blocks)) {
            building.share()?;
        }
        Ok((building.expr, building.leaves))
    }

    /// The largest magnitude of a constant's elements.
    fn magnitude(&self, v: Value) -> Option<f64> {
        let constant = self.graph.as_constant(v)?;
        let magnitudes = constant.to_f64s().into_iter().map(f64::abs);
        magnitudes.map(|m| m.is_finite().then_some(m)).try_fold(0.0, |most: f64, m| Some(most.max(m?)))
    }
}

struct Building<'a> {
    fusion: &'a Fusion<'a>,
    root: NodeId,
    anchor: Option<Value>,
    expr: Expr,
    leaves: Vec<Leaf>,
    done: HashMap<Value, usize>,
    /// The values of the scalar constants.
    scalars: Vec<(Tensor, Value)>,
}

impl Building<'_> {
    fn node(&mut self, node: NodeId) -> Result<usize> {
        if let Some(&n) = self.done.get(&node.into()) {
            return Ok(n);
        }
        let graph = self.fusion.graph;
        let operands: Vec<usize> = graph.operands(node).into_iter().map(|v| self.value(v)).collect::<Result<_>>()?;
        let kind = match (graph.op(node), operands.as_slice()) {
            (Op::Unary(op), &[x]) => ExprKind::Unary(*op, x),
            (Op::Binary(op), &[a, b]) => ExprKind::Binary(*op, a, b),
            (Op::Select, &[c, a, b]) => ExprKind::Select(c, a, b),
            (Op::Cast { saturate, .. }, &[x]) => ExprKind::Cast(x, *saturate),
            (Op::Bitcast { .. }, &[x]) => ExprKind::Bitcast(x),
            (op, _) => return Err(Error::internal(format!("{} is not element-wise", op.name()))),
        };
        let n = self.expr.push(kind, graph.ty(node.into()).dtype);
        self.done.insert(node.into(), n);
        Ok(n)
    }

    fn value(&mut self, value: Value) -> Result<usize> {
        let graph = self.fusion.graph;
        if Some(value) == self.anchor {
            return Ok(self.expr.push(ExprKind::Anchor, graph.ty(value).dtype));
        }
        if graph.op(value.node).is(Traits::ELEMENTWISE) && self.fusion.group_of.get(&value.node) == Some(&self.root) {
            return self.node(value.node);
        }
        if let Some(scalar) = graph.as_constant(value).and_then(Tensor::splat_value) {
            let dtype = scalar.dtype();
            self.scalars.push((scalar.clone(), value));
            return Ok(self.expr.push(ExprKind::Constant(scalar), dtype));
        }
        self.leaf(value, false)
    }

    /// Turns scales and zero points into leaves, so that layers which differ only in these share their kernel.
    fn share(&mut self) -> Result<()> {
        for n in 0..self.expr.nodes.len() {
            let ExprKind::Constant(t) = &self.expr.nodes[n].kind else { continue };
            let known = self.scalars.iter().find(|(scalar, _)| scalar == t).map(|s| s.1);
            let Some(value) = known.filter(|_| t.dtype() == DType::F32 && t.f64_at(0) != 0.0) else { continue };
            let leaf = self.leaf_of(value, false)?;
            self.expr.nodes[n].kind = ExprKind::Leaf(leaf);
        }
        Ok(())
    }

    fn leaf(&mut self, value: Value, force: bool) -> Result<usize> {
        let n = self.leaf_of(value, force)?;
        Ok(self.expr.push(ExprKind::Leaf(n), self.fusion.graph.ty(value).dtype))
    }

    /// The leaf that reads a value.
    fn leaf_of(&mut self, value: Value, force: bool) -> Result<usize> {
        let graph = self.fusion.graph;
        let Fusion { stored, alias, .. } = self.fusion;
        let shown = Shown { value, force };
        let (base, view) = Views { graph, stored, alias, placements: &Placements::new() }.leaf(shown, self.root)?;
        let same = |l: &Leaf| l.value == base && l.view == view;
        let n = self.leaves.iter().position(same).unwrap_or_else(|| {
            self.leaves.push(Leaf { shown, value: base, view });
            self.leaves.len() - 1
        });
        Ok(n)
    }
}
