//! Moves transposes past reshapes: where a reshape splits or merges axes that stay adjacent, the two can be swapped.

use super::demand::Demands;
use super::{inverse, is_identity};
use crate::support::edit::Edit;
use crate::support::regroup::blocks;
use mcc_ir::Result;
use mcc_ir::{Dim, NodeId, Op, Value};

/// The replacement of `reshape(transpose(x))` by a reshape followed by a transpose.
struct Swapped {
    /// The transpose of `x` within blocks, before the reshape.
    local: Vec<usize>,
    /// The shape of the reshape.
    shape: Vec<Dim>,
    /// The transpose of whole blocks after the reshape.
    after: Vec<usize>,
}

pub(crate) fn sink(edit: &mut Edit, node: NodeId, shape: &[Dim], demands: &Demands) -> Result<Option<Value>> {
    let x = edit.graph.operands(node)[0];
    let Op::Transpose { perm } = edit.graph.op(x.node).clone() else { return Ok(None) };
    let source = edit.graph.operands(x.node)[0];
    let Some(swapped) = swap(&edit.shape(source), &perm, shape) else { return Ok(None) };
    // Two transposes for one pay only if one of them cancels, as in a channel shuffle between convolutions.
    let splits = !is_identity(&swapped.local);
    if splits && (is_identity(&swapped.after) || !demands.wants(node.into(), &inverse(&swapped.after))) {
        return Ok(None);
    }
    let source = edit.transpose(source, swapped.local)?;
    let reshaped = edit.reshape(source, swapped.shape)?;
    edit.transpose(reshaped, swapped.after).map(Some)
}

fn swap(source: &[Dim], perm: &[usize], shape: &[Dim]) -> Option<Swapped> {
    let operand: Vec<Dim> = perm.iter().map(|&p| source[p].clone()).collect();
    let blocks = blocks(&operand, shape)?;
    // Axes of extent 1 may be anywhere; only the order of the others matters.
    let long: Vec<usize> = (0..source.len()).filter(|&a| !source[a].is(1)).collect();
    let place = |axis: usize| long.partition_point(|&a| a < axis);
    let mut order: Vec<(usize, usize)> = Vec::new();
    let mut local_free = true;
    let mut previous = 0;
    for (i, block) in blocks.iter().enumerate() {
        let axes: Vec<usize> = block.from.clone().map(|f| perm[f]).filter(|&a| !source[a].is(1)).collect();
        let places: Vec<usize> = axes.iter().map(|&a| place(a)).collect();
        local_free &= places.is_sorted();
        let (least, most) = match (places.iter().min(), places.iter().max()) {
            (Some(&least), Some(&most)) => (least, most),
            _ => (previous, previous),
        };
        if !places.is_empty() && most - least + 1 != places.len() {
            return None;
        }
        previous = least;
        order.push((least, i));
    }
    order.sort_unstable();
    let mut local = Vec::new();
    let mut new_shape = Vec::new();
    let mut after = vec![0; shape.len()];
    for &(_, i) in &order {
        local.extend(blocks[i].from.clone().map(|f| perm[f]));
        for to in blocks[i].to.clone() {
            after[to] = new_shape.len();
            new_shape.push(shape[to].clone());
        }
    }
    if local_free {
        local = (0..source.len()).collect();
    }
    Some(Swapped { local, shape: new_shape, after })
}

/// `matmul(reshape(transpose(x)), w)`, such as the flattening before a classifier: permutes the rows of `w` instead.
pub(crate) fn flatten_into_weights(edit: &mut Edit, node: NodeId) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let (flat, Some(w)) = (operands[0], edit.graph.as_constant(operands[1])) else { return Ok(None) };
    let (Op::Reshape { shape }, &[rows, columns]) = (edit.graph.op(flat.node).clone(), w.shape()) else {
        return Ok(None);
    };
    let x = edit.graph.operands(flat.node)[0];
    let Op::Transpose { perm } = edit.graph.op(x.node).clone() else { return Ok(None) };
    if edit.users(operands[1]).len() > 1 {
        return Ok(None);
    }
    let source = edit.graph.operands(x.node)[0];
    let operand = edit.shape(x);
    let Some(blocks) = blocks(&operand, &shape) else { return Ok(None) };
    let Some(last) = blocks.iter().rev().find(|b| !b.to.is_empty()) else { return Ok(None) };
    // Only the flattened axes may be permuted, and only if they form the last axis.
    let tail = last.from.clone();
    if !is_identity(&perm[..tail.start]) || tail.end != perm.len() || last.to.len() != 1 || last.to.end != shape.len() {
        return Ok(None);
    }
    let extents: Vec<Dim> = operand[tail.clone()].to_vec();
    if extents.iter().any(|d| d.as_const().is_none()) {
        return Ok(None);
    }
    let within: Vec<usize> = perm[tail.clone()].iter().map(|p| p - tail.start).collect();
    let mut back = inverse(&within);
    back.push(within.len());
    let unfolded = extents.into_iter().chain([Dim::from(columns)]).collect();
    let w = edit.reshape(operands[1], unfolded)?;
    let w = edit.transpose(w, back)?;
    let w = edit.reshape(w, vec![Dim::from(rows), Dim::from(columns)])?;
    let flat = edit.reshape(source, shape)?;
    edit.add(Op::MatMul, &[flat, w]).map(Some)
}
