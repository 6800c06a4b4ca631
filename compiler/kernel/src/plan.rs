//! The plan of a program: which operations share a kernel, and where their results are stored.
//!
//! It is built in stages that only add to it: [`fusion`](super::fusion) finds the groups, [`chain`](super::chain) joins
//! some of them, [`placement`](super::placement) places results in larger buffers, and [`Grouping::settle`] makes the
//! groups use these places. Lowering then only reads the plan.

use std::collections::{HashMap, HashSet};

use mcc_targets::schedule::loops::MIN_TABLE_COLUMNS;

use super::expr::Expr;
use super::kernels;
use super::view::View;
use mcc_ir::{Decision, Dim, Error, Graph, NodeId, Op, Result, Traits, Value};

/// Operations that one kernel computes.
#[derive(Debug, Clone)]
pub struct Group {
    /// The node that the kernel is built for, unless all operations are element-wise.
    pub anchor: Option<NodeId>,
    /// The node whose first result the kernel stores as its result 0.
    pub root: NodeId,
    /// Element-wise operations; empty when there are none.
    pub expr: Expr,
    /// The tensors that the expression reads besides the anchor.
    pub leaves: Vec<Leaf>,
    /// The group that computes the anchor's operand 0 within the same kernel.
    pub feeding: Option<Box<Group>>,
}

/// The value that a leaf reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    pub value: Value,
    /// Whether to look through the value's view even if it is stored.
    pub force: bool,
}

/// A tensor that an element-wise expression reads.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The value that it reads.
    pub(super) shown: Shown,
    /// The value whose buffer is read.
    pub value: Value,
    /// The view of that buffer, in the shape of the group's root.
    pub view: View,
}

/// How the values of a graph are computed and stored.
pub struct Grouping {
    /// Groups in execution order.
    pub groups: Vec<Group>,
    /// Decisions about layers that could share a kernel.
    pub decisions: Vec<Decision>,
    /// Views that are stored to a buffer.
    pub(super) stored: HashSet<NodeId>,
    /// Reshapes: values that alias another value's buffer.
    pub(super) alias: HashMap<Value, Value>,
}

impl Grouping {
    /// The value whose buffer holds `v`.
    pub fn buffer_of(&self, v: Value) -> Value {
        self.alias.get(&v).copied().unwrap_or(v)
    }

    /// The value whose buffer an anchor's operand is read from.
    fn base_of(&self, graph: &Graph, mut v: Value) -> Value {
        while !self.alias.contains_key(&v)
            && graph.op(v.node).is(Traits::VIEW)
            && !self.stored.contains(&v.node)
            && let Some(x) = graph.operand(v.node, 0)
        {
            v = x;
        }
        self.buffer_of(v)
    }

    /// Values whose buffers a group reads.
    pub fn reads(&self, graph: &Graph, group: &Group) -> Vec<Value> {
        let operands = group.anchor.map(|a| graph.operands(a)).unwrap_or_default();
        let operands = operands.into_iter().skip(group.feeding.iter().len()).map(|v| self.base_of(graph, v));
        let fed = group.feeding.iter().flat_map(|feeding| self.reads(graph, feeding));
        operands.chain(group.leaves.iter().map(|l| l.value)).chain(fed).collect()
    }

    /// The buffer that holds an anchor's operand, and the view of it.
    ///
    /// # Errors
    /// When no view can express it.
    pub fn operand(&self, graph: &Graph, value: Value, placements: &Placements) -> Result<(Value, View)> {
        Views { graph, stored: &self.stored, alias: &self.alias, placements }.view(value, false)
    }

    /// Whether a group can read `value` at its place in `placements`.
    pub fn reads_from(&self, graph: &Graph, group: &Group, value: Value, placements: &Placements) -> bool {
        let operand = |(n, &v): (usize, &Value), op: &Op| {
            self.base_of(graph, v) != value || {
                let shape = &graph.ty(v).shape;
                // Regions take whole buffers.
                let whole = matches!(op, Op::If(_));
                let near = |view: &View| if whole { view.is_contiguous(shape) } else { view.is_in_order(shape) };
                let apart = |view: &View| kernels::reads_spaced(op, n, &view.strides) && view.has_columns(shape);
                self.operand(graph, v, placements).is_ok_and(|(_, view)| near(&view) || apart(&view))
            }
        };
        let anchor_reads = group
            .anchor
            .is_none_or(|anchor| graph.operands(anchor).iter().enumerate().all(|o| operand(o, graph.op(anchor))));
        let views = Views { graph, stored: &self.stored, alias: &self.alias, placements };
        let shape = &graph.ty(group.root.into()).shape;
        let leaf = |leaf: &Leaf| {
            leaf.value != value
                || views
                    .leaf(leaf.shown, group.root)
                    .is_ok_and(|(_, view)| group.anchor.is_none_or(|anchor| by_rows(graph.op(anchor), &view, shape)))
        };
        let fed = group.feeding.as_ref().is_none_or(|feeding| self.reads_from(graph, feeding, value, placements));
        anchor_reads && group.leaves.iter().all(leaf) && fed
    }

    /// Updates the groups' leaves for the given placements.
    ///
    /// # Errors
    /// When no view can express a leaf.
    pub fn settle(&mut self, graph: &Graph, placements: &Placements) -> Result<()> {
        let views = Views { graph, stored: &self.stored, alias: &self.alias, placements };
        let settle = |Group { root, leaves, .. }: &mut Group| -> Result<()> {
            for leaf in leaves {
                leaf.view = views.leaf(leaf.shown, *root)?.1;
            }
            Ok(())
        };
        for group in &mut self.groups {
            settle(group)?;
            group.feeding.as_deref_mut().map_or(Ok(()), settle)?;
        }
        Ok(())
    }
}

/// The place of a value: a view, in its own shape, of another value's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The value whose buffer it is.
    pub root: Value,
    /// The concatenation or padding that it is a part of, stored in the same buffer.
    pub within: Value,
    /// The view of the value in that buffer.
    pub view: View,
}

/// The values that have a placement.
pub type Placements = HashMap<Value, Placement>;

/// Resolves values to views of buffers.
#[derive(Clone, Copy)]
pub(super) struct Views<'a> {
    pub(super) graph: &'a Graph,
    pub(super) stored: &'a HashSet<NodeId>,
    pub(super) alias: &'a HashMap<Value, Value>,
    pub(super) placements: &'a Placements,
}

impl Views<'_> {
    /// The view of a stored value in its buffer.
    fn placement(&self, value: Value) -> View {
        match self.placements.get(&value) {
            Some(placement) => placement.view.clone(),
            None => View::contiguous(&self.graph.ty(value).shape),
        }
    }

    /// The buffer that holds `value`, and the view; `force` looks through `value` itself even if it is stored.
    fn view(&self, value: Value, force: bool) -> Result<(Value, View)> {
        let graph = self.graph;
        let ty = graph.ty(value);
        let op = graph.op(value.node);
        if let Some(&base) = self.alias.get(&value) {
            let view = self.placement(base).reshape(&graph.ty(base).shape, &ty.shape);
            // Without a placement, the memory is contiguous.
            let view = view.or_else(|| (!self.placements.contains_key(&base)).then(|| View::contiguous(&ty.shape)));
            return view.map(|view| (base, view)).ok_or_else(|| Error::internal("a reshape that is no view"));
        }
        if !op.is(Traits::VIEW) || self.stored.contains(&value.node) && !force {
            return Ok((value, self.placement(value)));
        }
        let x = graph.operand(value.node, 0).ok_or_else(|| Error::internal("a view without operand"))?;
        let (base, view) = self.view(x, false)?;
        let from = &graph.ty(x).shape;
        let view = match op {
            Op::Transpose { perm } => view.transpose(perm),
            Op::Slice { ranges } => view.slice(ranges),
            Op::Broadcast { shape } => view.broadcast(from, shape),
            _ => return Err(Error::internal(format!("{} is no view", op.name()))),
        };
        Ok((base, view))
    }

    /// A leaf in the shape of its group's root.
    pub(super) fn leaf(&self, shown: Shown, root: NodeId) -> Result<(Value, View)> {
        let Shown { value, force } = shown;
        let (base, view) = self.view(value, force)?;
        Ok((base, view.broadcast(&self.graph.ty(value).shape, &self.graph.ty(root.into()).shape)))
    }
}

/// Whether an epilogue can read a leaf row by row along the result.
pub(super) fn by_rows(op: &Op, view: &View, shape: &[Dim]) -> bool {
    let columns = kernels::column_axes(op, shape.len());
    let (rows, last) = shape.split_at(shape.len() - columns);
    let (Some(view), shape) = (view.merged(shape, columns), [rows, &[last.iter().product()]].concat()) else {
        return false;
    };
    let listed = || {
        let wide = shape.last().is_some_and(|d| d.as_const().is_none_or(|c| c >= MIN_TABLE_COLUMNS));
        wide && view.strides.last().is_some_and(|s| s.is(0) || s.is(1))
    };
    view.as_rows(&shape).is_some() || listed()
}
