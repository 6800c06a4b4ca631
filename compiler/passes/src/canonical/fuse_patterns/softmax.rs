//! `exp(x) / sum(exp(x))` and `x - log(sum(exp(x)))`, with or without subtracting the maximum first.

use super::{binary, quotient, reduction, unary};
use crate::support::edit::Edit;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, Op, ReduceKind, UnaryOp, Value};

pub(crate) fn match_at(edit: &mut Edit, value: Value) -> Result<Option<Value>> {
    let Some((taken, axis, log)) = find(edit, value) else { return Ok(None) };
    // Softmax subtracts the maximum itself, so an explicit subtraction is dropped.
    let x = match binary(edit, taken, BinaryOp::Sub) {
        Some((source, most)) if reduction(edit, most, ReduceKind::Max) == Some((source, vec![axis])) => source,
        _ => taken,
    };
    let already = matches!(edit.graph.op(value.node), Op::Softmax { .. }) && x == taken;
    if already || edit.graph.ty(x) != edit.graph.ty(value) {
        return Ok(None);
    }
    edit.add(Op::Softmax { axis, log }, &[x]).map(Some)
}

fn find(edit: &Edit, value: Value) -> Option<(Value, usize, bool)> {
    if let Op::Softmax { axis, log } = edit.graph.op(value.node) {
        return Some((edit.graph.operand(value.node, 0)?, *axis, *log));
    }
    let axis_of_sum = |sum: Value, terms: Value| match reduction(edit, sum, ReduceKind::Sum) {
        Some((summed, axes)) if summed == terms && axes.len() == 1 => Some(axes[0]),
        _ => None,
    };
    if let Some((e, sum)) = quotient(edit, value)
        && let Some(axis) = axis_of_sum(sum, e)
        && let Some(x) = unary(edit, e, UnaryOp::Exp)
    {
        return Some((x, axis, false));
    }
    let (x, log) = binary(edit, value, BinaryOp::Sub)?;
    let sum = unary(edit, log, UnaryOp::Log)?;
    let (e, axes) = reduction(edit, sum, ReduceKind::Sum)?;
    (unary(edit, e, UnaryOp::Exp)? == x && axes.len() == 1).then(|| (x, axes[0], true))
}
