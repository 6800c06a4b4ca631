//! Identities of operations that move or gather elements.

use crate::support::edit::Edit;
use mcc_ir::Result;
use mcc_ir::{
    CoordinateMode, Dim, Layout, NodeId, Op, PadMode, PoolKind, PoolSpec, ReduceKind, ResizeRule, UnaryOp, Value,
};

pub(crate) fn reshape(edit: &mut Edit, node: NodeId, shape: &[Dim]) -> Result<Option<Value>> {
    let x = edit.graph.operands(node)[0];
    if edit.shape(x) == shape {
        return Ok(Some(x));
    }
    match edit.graph.op(x.node) {
        Op::Reshape { .. } => {
            let source = edit.graph.operands(x.node)[0];
            edit.reshape(source, shape.to_vec()).map(Some)
        }
        // Reduced axes that a reshape restores with extent 1 could have been kept.
        Op::Reduce { kind, axes, keep: false } => {
            let (kind, axes) = (*kind, axes.clone());
            let source = edit.graph.operands(x.node)[0];
            let mut kept = edit.shape(source);
            axes.iter().for_each(|&a| kept[a] = Dim::ONE);
            if kept != shape || !edit.used_once(x) {
                return Ok(None);
            }
            edit.add(Op::Reduce { kind, axes, keep: true }, &[source]).map(Some)
        }
        _ => Ok(None),
    }
}

pub(crate) fn broadcast(edit: &mut Edit, node: NodeId, shape: &[Dim]) -> Result<Option<Value>> {
    let x = edit.graph.operands(node)[0];
    if edit.shape(x) == shape {
        return Ok(Some(x));
    }
    match edit.graph.op(x.node) {
        Op::Broadcast { .. } => {
            let source = edit.graph.operands(x.node)[0];
            edit.broadcast(source, shape.to_vec()).map(Some)
        }
        _ => Ok(None),
    }
}

pub(crate) fn pad(
    edit: &mut Edit,
    node: NodeId,
    before: &[Dim],
    after: &[Dim],
    mode: PadMode,
) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let x = operands[0];
    if before.iter().chain(after).all(|d| d.is(0)) {
        return Ok(Some(x));
    }
    let Op::Pad { before: b0, after: a0, mode: PadMode::Constant } = edit.graph.op(x.node).clone() else {
        return Ok(None);
    };
    let inner = edit.graph.operands(x.node);
    let value = |edit: &Edit, v: Option<&Value>| v.and_then(|&v| edit.splat(v)).map(f64::to_bits);
    let same = value(edit, operands.get(1)).is_some() && value(edit, operands.get(1)) == value(edit, inner.get(1));
    if mode != PadMode::Constant || !same || !edit.used_once(x) {
        return Ok(None);
    }
    let sum = |a: &[Dim], b: &[Dim]| a.iter().zip(b).map(|(a, b)| a + b).collect();
    let op = Op::Pad { before: sum(&b0, before), after: sum(&a0, after), mode };
    edit.add(op, &inner).map(Some)
}

pub(crate) fn reduce(
    edit: &mut Edit,
    node: NodeId,
    kind: ReduceKind,
    axes: &[usize],
    keep: bool,
) -> Result<Option<Value>> {
    let x = edit.graph.operands(node)[0];
    let shape = edit.shape(x);
    let result = edit.shape(node.into());
    // A reduction of a single element is that element, in the result's type.
    if axes.iter().all(|&a| shape[a].is(1)) {
        let one = edit.reshape(x, result)?;
        let dtype = edit.dtype(node.into());
        return edit.cast(one, dtype).map(Some);
    }
    // A reduction of everything is independent of the arrangement.
    if axes.len() == shape.len()
        && let Op::Reshape { .. } | Op::Transpose { .. } = edit.graph.op(x.node)
    {
        let source = edit.graph.operands(x.node)[0];
        let axes = (0..edit.shape(source).len()).collect();
        let reduced = edit.add(Op::Reduce { kind, axes, keep: false }, &[source])?;
        return edit.reshape(reduced, result).map(Some);
    }
    let Op::Reduce { kind: inner_kind, axes: inner_axes, keep: inner_keep } = edit.graph.op(x.node).clone() else {
        return Ok(None);
    };
    if inner_kind != kind || !edit.used_once(x) {
        return Ok(None);
    }
    let source = edit.graph.operands(x.node)[0];
    let rank = edit.shape(source).len();
    // The source's axes that correspond to the outer reduction's axes.
    let left: Vec<usize> =
        if inner_keep { (0..rank).collect() } else { (0..rank).filter(|a| !inner_axes.contains(a)).collect() };
    let mut all: Vec<usize> = inner_axes.iter().copied().chain(axes.iter().map(|&a| left[a])).collect();
    all.sort_unstable();
    all.dedup();
    // Axes that are not adjacent are better reduced in two steps, the outer ones first.
    if all.windows(2).any(|w| w[1] != w[0] + 1) {
        return Ok(None);
    }
    let reduced = edit.add(Op::Reduce { kind, axes: all, keep }, &[source])?;
    edit.reshape(reduced, result).map(Some)
}

pub(crate) fn resize(edit: &mut Edit, node: NodeId, sizes: &[Dim], rule: &ResizeRule) -> Result<Option<Value>> {
    let x = edit.graph.operands(node)[0];
    let same = edit.shape(x) == sizes
        && rule.scales.iter().all(|s| s.get() == 1.0)
        && rule.coordinates != CoordinateMode::TfCropAndResize;
    Ok(same.then_some(x))
}

pub(crate) fn pool(edit: &mut Edit, node: NodeId, spec: &PoolSpec) -> Result<Option<Value>> {
    let x = edit.graph.operands(node)[0];
    let shape = edit.shape(x);
    let unpadded = spec.pads.iter().all(|&p| p == (0, 0));
    let plain = matches!(spec.kind, PoolKind::Max | PoolKind::Average { .. });
    if plain && unpadded && spec.kernel.iter().chain(&spec.strides).all(|&k| k == 1) {
        return Ok(Some(x));
    }
    let first = match spec.layout {
        Layout::ChannelsFirst => 2,
        Layout::ChannelsLast => 1,
    };
    let axes: Vec<usize> = (first..first + spec.kernel.len()).collect();
    let whole = unpadded
        && spec.dilations.iter().all(|&d| d == 1)
        && axes.iter().zip(&spec.kernel).all(|(&a, &k)| shape[a].is(k));
    let kind = match spec.kind {
        PoolKind::Max => ReduceKind::Max,
        PoolKind::Average { .. } => ReduceKind::Mean,
        PoolKind::Lp { p: 1 } if whole => {
            let magnitude = edit.add(Op::Unary(UnaryOp::Abs), &[x])?;
            return edit.add(Op::Reduce { kind: ReduceKind::Sum, axes, keep: true }, &[magnitude]).map(Some);
        }
        PoolKind::Lp { .. } => return Ok(None),
    };
    if !whole {
        return Ok(None);
    }
    edit.add(Op::Reduce { kind, axes, keep: true }, &[x]).map(Some)
}
