//! Turns a transpose of operands into a transpose of the result.

use super::demand::Demands;
use super::{inverse, is_identity, moves_nothing, permuted};
use crate::support::edit::{Edit, pad_rank};
use crate::support::size::estimate;
use mcc_ir::Result;
use mcc_ir::{Layout, NodeId, Op, PoolSpec, ResizeRule, Value};

/// An operation whose operands are not transposed by `perm`, and the transpose of its result.
struct Sunk {
    op: Op,
    /// The transpose of the new result that gives the old one.
    after: Vec<usize>,
    /// The number of leading operands that are transposed; the others stay as they are.
    operands: usize,
    /// Whether to do it even if the result is larger than the operand.
    always: bool,
}

pub(crate) fn sink(edit: &mut Edit, node: NodeId, demands: &Demands) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let mut tried: Vec<Vec<usize>> = Vec::new();
    for &v in &operands {
        let Op::Transpose { perm } = edit.graph.op(v.node).clone() else { continue };
        if tried.contains(&perm) {
            continue;
        }
        if let Some(sunk) = sunk(edit, node, &perm)
            && pays(edit, node, &operands[..sunk.operands], &perm, &sunk, demands)
        {
            let mut new = Vec::with_capacity(operands.len());
            for (i, &v) in operands.iter().enumerate() {
                new.push(if i < sunk.operands { undone(edit, v, &perm)? } else { v });
            }
            let result = edit.add(sunk.op, &new)?;
            return edit.transpose(result, sunk.after).map(Some);
        }
        tried.push(perm);
    }
    Ok(None)
}

/// Whether no more elements are moved than before.
fn pays(edit: &Edit, node: NodeId, operands: &[Value], perm: &[usize], sunk: &Sunk, demands: &Demands) -> bool {
    let back = inverse(perm);
    let result = edit.graph.ty(node.into());
    let new_shape = permuted(&result.shape, &inverse(&sunk.after));
    let result_cost = if moves_nothing(&sunk.after, &new_shape) { 0 } else { estimate(result) };
    let awaited = demands.wants(node.into(), &inverse(&sunk.after));
    let (mut before, mut others) = (0i64, 0i64);
    let mut seen: Vec<Value> = Vec::new();
    for &v in operands {
        if seen.contains(&v) {
            continue;
        }
        seen.push(v);
        let ty = edit.graph.ty(v);
        let padded = pad_rank(&ty.shape, perm.len());
        match edit.graph.op(v.node) {
            Op::Transpose { perm: p } if p == perm => {
                before += if moves_nothing(&back, &padded) { 0 } else { estimate(ty) };
            }
            _ if moves_nothing(&back, &padded) || movable_constant(edit, v) => {}
            _ if edit.users(v).iter().any(|(u, _)| *u != node && is_transpose(edit, *u, &back)) => {}
            _ => others += estimate(ty),
        }
    }
    if awaited {
        before += result_cost;
    }
    let after = others + if awaited { 0 } else { result_cost };
    match (sunk.always, others) {
        (true, 0) => true,
        (_, 0) => after <= before,
        (_, _) => after < before,
    }
}

fn is_transpose(edit: &Edit, node: NodeId, perm: &[usize]) -> bool {
    matches!(edit.graph.op(node), Op::Transpose { perm: p } if p == perm)
}

/// Whether a value can be transposed at compile time, or is a broadcast of a smaller value that can.
fn movable_constant(edit: &Edit, value: Value) -> bool {
    match edit.graph.op(value.node) {
        Op::Constant(_) => true,
        Op::Broadcast { .. } => edit.graph.operand(value.node, 0).is_some_and(|v| movable_constant(edit, v)),
        _ => false,
    }
}

/// `v` transposed by the inverse of `perm`.
fn undone(edit: &mut Edit, v: Value, perm: &[usize]) -> Result<Value> {
    if is_transpose(edit, v.node, perm) {
        return Ok(edit.graph.operands(v.node)[0]);
    }
    if edit.graph.ty(v).rank() == 0 {
        return Ok(v);
    }
    let padded = pad_rank(&edit.shape(v), perm.len());
    if let Op::Broadcast { .. } = edit.graph.op(v.node) {
        let source = edit.graph.operands(v.node)[0];
        let source = undone(edit, source, perm)?;
        return edit.broadcast(source, permuted(&padded, &inverse(perm)));
    }
    let v = edit.reshape(v, padded)?;
    edit.transpose(v, inverse(perm))
}

fn sunk(edit: &Edit, node: NodeId, perm: &[usize]) -> Option<Sunk> {
    let op = edit.graph.op(node);
    let operands = edit.graph.operands(node);
    let rank = edit.graph.types(node)[0].rank();
    let first = matches!(edit.graph.op(operands.first()?.node), Op::Transpose { perm: p } if p == perm);
    let last = perm.len() - 1;
    let plain = |op: Op, operands: usize| Some(Sunk { op, after: perm.to_vec(), operands, always: false });
    match op {
        // All operands are transposed; their rank is at most the result's.
        Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Cast { .. } | Op::Bitcast { .. } if rank == perm.len() => {
            plain(op.clone(), operands.len())
        }
        Op::Concat { axis } => plain(Op::Concat { axis: perm[*axis] }, operands.len()),
        Op::MatMul => matmul(edit, &operands, perm, rank),
        // Below, the transposed operand is the first one.
        _ if !first => None,
        Op::Slice { ranges } => plain(Op::Slice { ranges: permuted(ranges, &inverse(perm)) }, 1),
        Op::Pad { before, after, mode } => {
            let back = inverse(perm);
            let op = Op::Pad { before: permuted(before, &back), after: permuted(after, &back), mode: *mode };
            Some(Sunk { op, after: perm.to_vec(), operands: 1, always: true })
        }
        Op::Broadcast { shape } if shape.len() == perm.len() => {
            plain(Op::Broadcast { shape: permuted(shape, &inverse(perm)) }, 1)
        }
        Op::Resize { sizes, rule } => Some(Sunk {
            op: resize(sizes, rule, &inverse(perm)),
            after: perm.to_vec(),
            operands: 1,
            // Interpolation is vectorized over channels only if they are last.
            always: true,
        }),
        Op::Pool(spec) if spec.layout == Layout::ChannelsFirst && is_to_channels_first(perm) => {
            let op = Op::Pool(PoolSpec { layout: Layout::ChannelsLast, ..spec.clone() });
            Some(Sunk { op, after: perm.to_vec(), operands: 1, always: true })
        }
        Op::Reduce { kind, axes, keep } => {
            let mut moved: Vec<usize> = axes.iter().map(|&a| perm[a]).collect();
            moved.sort_unstable();
            let after = if *keep { perm.to_vec() } else { without(perm, axes) };
            Some(Sunk { op: Op::Reduce { kind: *kind, axes: moved, keep: *keep }, after, operands: 1, always: true })
        }
        Op::ArgReduce { largest, axis, keep, last } => {
            let after = if *keep { perm.to_vec() } else { without(perm, &[*axis]) };
            let op = Op::ArgReduce { largest: *largest, axis: perm[*axis], keep: *keep, last: *last };
            Some(Sunk { op, after, operands: 1, always: true })
        }
        Op::Cumulative { kind, axis, exclusive, reverse } => {
            let op = Op::Cumulative { kind: *kind, axis: perm[*axis], exclusive: *exclusive, reverse: *reverse };
            plain(op, 1)
        }
        // Kernels run along the last axis, so a last axis must stay last.
        Op::Softmax { axis, log } if perm[*axis] == last || *axis != last => {
            plain(Op::Softmax { axis: perm[*axis], log: *log }, 1)
        }
        Op::Normalize { axis, .. } if perm[*axis..].iter().all(|p| p >= axis) => plain(op.clone(), 1),
        Op::Gather { axis } => {
            let indices = edit.graph.ty(operands[1]).rank();
            let after = gather(perm, *axis, indices);
            Some(Sunk { op: Op::Gather { axis: perm[*axis] }, after, operands: 1, always: false })
        }
        Op::ReverseSequence { batch_axis, time_axis } => {
            plain(Op::ReverseSequence { batch_axis: perm[*batch_axis], time_axis: perm[*time_axis] }, 1)
        }
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Select
        | Op::Cast { .. }
        | Op::Bitcast { .. }
        | Op::Broadcast { .. }
        | Op::Pool(_)
        | Op::Softmax { .. }
        | Op::Attention { .. }
        | Op::Normalize { .. }
        | Op::Input(..)
        | Op::Constant(_)
        | Op::Dims(_)
        | Op::Iota { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::GridSample { .. }
        | Op::PackedMatMul { .. }
        | Op::Packed(_)
        | Op::Conv(_)
        | Op::ConvTranspose { .. }
        | Op::Col2Im { .. }
        | Op::MaxPoolWithIndices { .. }
        | Op::TopK { .. }
        | Op::Recurrent(_)
        | Op::NonZero { .. }
        | Op::NonMaxSuppression
        | Op::TreeEnsemble(_)
        | Op::If(_) => None,
    }
}

/// The remaining permutation between operand and result when the result's axes `gone` are removed.
fn without(perm: &[usize], gone: &[usize]) -> Vec<usize> {
    let sources: Vec<usize> = (0..perm.len()).filter(|i| !gone.contains(i)).map(|i| perm[i]).collect();
    let mut sorted = sources.clone();
    sorted.sort_unstable();
    // Every source is in the sorted list of sources.
    sources.iter().map(|s| sorted.partition_point(|x| x < s)).collect()
}

/// A gather puts the indices' axes at the position of the gathered axis.
fn gather(perm: &[usize], axis: usize, indices: usize) -> Vec<usize> {
    let source = perm[axis];
    let mut after = Vec::new();
    for (i, &p) in perm.iter().enumerate() {
        match i == axis {
            true => after.extend(source..source + indices),
            false if p < source => after.push(p),
            false => after.push(p + indices - 1),
        }
    }
    after
}

/// A product with one matrix for all rows is independent of the rows' order.
fn matmul(edit: &Edit, operands: &[Value], perm: &[usize], rank: usize) -> Option<Sunk> {
    let n = perm.len();
    let is = |v: Value| matches!(edit.graph.op(v.node), Op::Transpose { perm: p } if p == perm);
    if rank != n || !is(operands[0]) || perm[n - 1] != n - 1 {
        return None;
    }
    let same_for_all = edit.graph.ty(operands[1]).rank() == 2 && n > 2;
    let batches = is(operands[1]) && perm[n - 2] == n - 2;
    let operands = match (same_for_all, batches) {
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => return None,
    };
    Some(Sunk { op: Op::MatMul, after: perm.to_vec(), operands, always: false })
}

fn resize(sizes: &[mcc_ir::Dim], rule: &ResizeRule, back: &[usize]) -> Op {
    let mut moved = rule.clone();
    moved.scales = permuted(&rule.scales, back);
    if rule.roi.len() == back.len() {
        moved.roi = permuted(&rule.roi, back);
    }
    Op::Resize { sizes: permuted(sizes, back), rule: moved }
}

/// Whether a transpose takes `[batch, d..., channels]` to `[batch, channels, d...]`.
fn is_to_channels_first(perm: &[usize]) -> bool {
    let n = perm.len();
    !is_identity(perm)
        && n > 2
        && perm[0] == 0
        && perm[1] == n - 1
        && perm[2..].iter().enumerate().all(|(i, &p)| p == i + 1)
}
