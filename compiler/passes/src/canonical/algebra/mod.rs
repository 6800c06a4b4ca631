//! Algebraic identities: brings equivalent expressions to their cheapest form.
//!
//! Canonical form, on which later passes rely: a constant is the right operand of a commutative operation; subtracting
//! a constant is adding one; dividing by one is multiplying, where `quotient.rs` permits it; operands are not broadcast
//! explicitly if the operation broadcasts them; chained element-wise constants are one constant; pooling over
//! everything is a reduction.
//!
//! Rounding: `x / c` becomes `x * (1/c)` where the last place of `x` is not defined itself, chained constants are
//! evaluated first (`(x * a) * b` likewise), `x ^ 0.5` is `sqrt(x)`. Signs of zero are not preserved. NaN and
//! infinities are, so `x * 0` is kept for floats.

mod binary;
mod bounds;
mod quotient;
mod shape;
mod unary;

use mcc_targets::Config;

use crate::support::edit::{Edit, rewrite};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, Graph, NodeId, Op, UnaryOp, Value};

/// Applies the identities.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    rewrite(graph, |edit, node| match edit.graph.op(node).clone() {
        Op::Unary(op) => unary::simplify(edit, node, op),
        Op::Binary(op) => binary::simplify(edit, node, op),
        Op::Select => select(edit, node),
        Op::Cast { to, .. } => unary::cast(edit, node, to),
        Op::Bitcast { to } => unary::bitcast(edit, node, to),
        Op::Reshape { shape } => shape::reshape(edit, node, &shape),
        Op::Broadcast { shape } => shape::broadcast(edit, node, &shape),
        Op::Pad { before, after, mode } => shape::pad(edit, node, &before, &after, mode),
        Op::Reduce { kind, axes, keep } => shape::reduce(edit, node, kind, &axes, keep),
        Op::Resize { sizes, rule } => shape::resize(edit, node, &sizes, &rule),
        Op::Pool(spec) => shape::pool(edit, node, &spec),
        // No identity for a single node; patterns of several nodes are left to other passes.
        Op::Input(..)
        | Op::Constant(_)
        | Op::Dims(_)
        | Op::Iota { .. }
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Concat { .. }
        | Op::Gather { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::ReverseSequence { .. }
        | Op::GridSample { .. }
        | Op::MatMul
        | Op::PackedMatMul { .. }
        | Op::Packed(_)
        | Op::Conv(_)
        | Op::ConvTranspose { .. }
        | Op::Col2Im { .. }
        | Op::MaxPoolWithIndices { .. }
        | Op::ArgReduce { .. }
        | Op::Cumulative { .. }
        | Op::Softmax { .. }
        | Op::Attention { .. }
        | Op::Normalize { .. }
        | Op::TopK { .. }
        | Op::Recurrent(_)
        | Op::NonZero { .. }
        | Op::NonMaxSuppression
        | Op::TreeEnsemble(_)
        | Op::If(_) => Ok(None),
    })
}

fn select(edit: &mut Edit, node: NodeId) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let (condition, a, b) = (operands[0], operands[1], operands[2]);
    let shape = edit.shape(node.into());
    if let Some(c) = edit.splat(condition) {
        return edit.broadcast(if c != 0.0 { a } else { b }, shape).map(Some);
    }
    if a == b {
        return edit.broadcast(a, shape).map(Some);
    }
    if let Op::Unary(UnaryOp::Not) = edit.graph.op(condition.node) {
        let inverse = edit.graph.operands(condition.node)[0];
        return edit.add(Op::Select, &[inverse, b, a]).map(Some);
    }
    if let Some(y) = leaky(edit, condition, a, b) {
        return edit.add(Op::Binary(BinaryOp::Max), &[b, y]).map(Some);
    }
    implicit_broadcast(edit, node)
}

/// `x * a` if the operands are those of a leaky rectifier: `x < 0`, `x * a` and `x`, with `a` from 0 to 1.
fn leaky(edit: &Edit, condition: Value, slope: Value, x: Value) -> Option<Value> {
    let operands = |v: Value, op: BinaryOp| match edit.graph.op(v.node) {
        Op::Binary(b) if *b == op => Some((edit.graph.operand(v.node, 0)?, edit.graph.operand(v.node, 1)?)),
        _ => None,
    };
    let (compared, zero) = operands(condition, BinaryOp::Less)?;
    let (scaled, a) = operands(slope, BinaryOp::Mul)?;
    let same = compared == x && scaled == x && edit.graph.ty(slope) == edit.graph.ty(x);
    // With a slope of 0, infinity would give NaN.
    let factor = edit.splat(a).is_some_and(|a| a > 0.0 && a <= 1.0);
    (same && factor && edit.splat(zero) == Some(0.0) && edit.dtype(x).is_float()).then_some(slope)
}

/// Drops explicit broadcasts of operands that the result's shape does not need.
fn implicit_broadcast(edit: &mut Edit, node: NodeId) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    for (i, &v) in operands.iter().enumerate() {
        let Op::Broadcast { .. } = edit.graph.op(v.node) else { continue };
        let mut thinner = operands.clone();
        thinner[i] = edit.graph.operands(v.node)[0];
        let types: Vec<_> = thinner.iter().map(|&v| edit.graph.ty(v)).collect();
        let op = edit.graph.op(node).clone();
        let Ok(inferred) = mcc_ir::infer(&op, &types) else { continue };
        if !inferred.equates() && inferred.types[0] == *edit.graph.ty(node.into()) {
            return edit.add(op, &thinner).map(Some);
        }
    }
    Ok(None)
}
