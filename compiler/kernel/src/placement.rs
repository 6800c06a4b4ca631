//! Placements: values that are computed directly within another value's buffer, so that concatenations and padding copy
//! nothing.
//!
//! A value has a placement when it is an operand of a concatenation or padding, its kernel can store into a part of a
//! buffer, and all its readers can read from there. Placements nest: all concatenations of a dense block are stored in
//! the last one.

use std::collections::{HashMap, HashSet};

use super::kernels;
use super::plan::{Group, Grouping, Placement, Placements};
use super::view::View;
use mcc_ir::{Dim, Graph, Op, PadMode, Traits, Value};

/// Finds placements, later values first, because their buffers may hold the earlier ones.
pub fn find(graph: &Graph, grouping: &Grouping) -> Placements {
    let mut readers: HashMap<Value, Vec<usize>> = HashMap::new();
    let mut group_of: HashMap<Value, usize> = HashMap::new();
    for (n, group) in grouping.groups.iter().enumerate() {
        for value in grouping.reads(graph, group) {
            readers.entry(value).or_default().push(n);
        }
        group_of.insert(group.root.into(), n);
    }
    let outputs: HashSet<Value> = graph.outputs.iter().map(|o| grouping.buffer_of(o.value)).collect();
    let mut placements = Placements::new();
    for group in grouping.groups.iter().rev() {
        let Some(anchor) = group.anchor.filter(|&a| a == group.root) else { continue };
        for (operand, place) in parts(graph, group, &placements) {
            let value = graph.operands(anchor)[operand];
            let base = grouping.buffer_of(value);
            let (from, to) = (&graph.ty(value).shape, &graph.ty(base).shape);
            let uses = graph.operands(anchor).iter().filter(|&&v| grouping.buffer_of(v) == base).count();
            let Some(&producer) = group_of.get(&base).filter(|_| uses == 1) else { continue };
            if outputs.contains(&base) || placements.contains_key(&base) {
                continue;
            }
            let Some(view) = place.view.reshape(from, to).filter(|v| v.has_columns(to)) else { continue };
            if !stores_apart(graph, &grouping.groups[producer], &view, to) {
                continue;
            }
            placements.insert(base, Placement { view, ..place });
            let readable = |&n: &usize| grouping.reads_from(graph, &grouping.groups[n], base, &placements);
            if !readers.get(&base).is_some_and(|all| all.iter().all(readable)) {
                placements.remove(&base);
            }
        }
    }
    placements
}

/// The operands of a concatenation or padding, and the place of each one in a buffer.
fn parts(graph: &Graph, group: &Group, placements: &Placements) -> Vec<(usize, Placement)> {
    let Some(anchor) = group.anchor else { return Vec::new() };
    let value = Value::from(anchor);
    let whole = placements.get(&value).cloned().unwrap_or_else(|| Placement {
        root: value,
        within: value,
        view: View::contiguous(&graph.ty(value).shape),
    });
    let at = |offset: Dim| {
        let view = View { offset: &whole.view.offset + &offset, strides: whole.view.strides.clone() };
        Placement { root: whole.root, within: value, view }
    };
    let operands = graph.operands(anchor);
    match graph.op(anchor) {
        Op::Concat { axis } => {
            let mut start = Dim::ZERO;
            let places = operands.iter().enumerate().map(|(n, &v)| {
                let place = at(&start * &whole.view.strides[*axis]);
                start = &start + &graph.ty(v).shape[*axis];
                (n, place)
            });
            places.collect()
        }
        Op::Pad { before, mode: PadMode::Constant, .. } => {
            vec![(0, at(before.iter().zip(&whole.view.strides).map(|(b, s)| b * s).sum()))]
        }
        _ => Vec::new(),
    }
}

/// Whether a group's kernel can store its result 0 into a part of a buffer.
fn stores_apart(graph: &Graph, group: &Group, view: &View, shape: &[Dim]) -> bool {
    group.anchor.is_none_or(|anchor| {
        let op = graph.op(anchor);
        let rows = view.merged(shape, kernels::column_axes(op, shape.len())).is_some();
        rows && op.is(Traits::EPILOGUE) && graph.types(anchor).len() == 1
    })
}
