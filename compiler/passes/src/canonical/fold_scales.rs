//! Moves a multiplication by a number up through linear operations and into constants; for example, the scale of
//! attention scores into the weights of the query's projection.

use mcc_targets::Config;

use crate::support::edit::{Edit, rewrite};
use crate::support::weights::{Weighted, scale_axis};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, Graph, Op, Tensor, UnaryOp, Value};

/// Maximum number of operations that a scale moves through.
const MAX_CLIMB: usize = 8;

/// Moves scales into constants.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    rewrite(graph, |edit, node| {
        let operands = edit.graph.operands(node);
        match edit.graph.op(node) {
            Op::Binary(BinaryOp::Mul) => {}
            Op::Unary(UnaryOp::Neg) if edit.dtype(operands[0]).is_float() => {
                return absorb(edit, operands[0], -1.0, MAX_CLIMB);
            }
            _ => return Ok(None),
        }
        let Some(factor) = edit.graph.as_constant(operands[1]).and_then(Tensor::splat_value) else { return Ok(None) };
        let same = edit.graph.ty(operands[0]) == edit.graph.ty(node.into());
        // This pays only across a product; otherwise the scale is an element-wise operation either way.
        if !same || !edit.dtype(operands[0]).is_float() {
            return Ok(None);
        }
        absorb(edit, operands[0], factor.f64_at(0), MAX_CLIMB)
    })
}

/// The value `factor * value`, computed without a multiplication at run time, if there is a way; else adds nothing.
fn absorb(edit: &mut Edit, value: Value, factor: f64, climb: usize) -> Result<Option<Value>> {
    if climb == 0 || !edit.used_once(value) {
        return Ok(None);
    }
    let op = edit.graph.op(value.node).clone();
    let operands = edit.graph.operands(value.node);
    match &op {
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } | Op::Broadcast { .. } => {
            match absorb(edit, operands[0], factor, climb - 1)? {
                Some(x) => edit.add(op, &[x]).map(Some),
                None => Ok(None),
            }
        }
        Op::Binary(BinaryOp::Add) => {
            let Some(shift) = edit.graph.as_constant(operands[1]).and_then(|t| scaled(t, factor)) else {
                return Ok(None);
            };
            let Some(x) = absorb(edit, operands[0], factor, climb - 1)? else { return Ok(None) };
            let shift = edit.graph.constant(shift);
            edit.add(op, &[x, shift]).map(Some)
        }
        Op::Binary(BinaryOp::Mul) => {
            let Some(c) = edit.graph.as_constant(operands[1]).and_then(|t| scaled(t, factor)) else { return Ok(None) };
            let c = edit.graph.constant(c);
            edit.add(op, &[operands[0], c]).map(Some)
        }
        Op::MatMul | Op::Conv(_) | Op::ConvTranspose { .. } => {
            if let Some(weighted) = Weighted::of(edit, value) {
                let Some(w) = edit.graph.as_constant(weighted.weights).and_then(|w| scaled(w, factor)) else {
                    return Ok(None);
                };
                let bias = match weighted.bias.map(|b| edit.graph.as_constant(b).and_then(|b| scaled(b, factor))) {
                    None => None,
                    Some(Some(bias)) => Some(edit.graph.constant(bias)),
                    Some(None) => return Ok(None),
                };
                let w = edit.graph.constant(w);
                return weighted.rebuilt(edit, weighted.x, w, bias).map(Some);
            }
            if !matches!(op, Op::MatMul) {
                return Ok(None);
            }
            if let Some(a) = absorb(edit, operands[0], factor, climb - 1)? {
                return edit.add(op, &[a, operands[1]]).map(Some);
            }
            match absorb(edit, operands[1], factor, climb - 1)? {
                Some(b) => edit.add(op, &[operands[0], b]).map(Some),
                None => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

fn scaled(t: &Tensor, factor: f64) -> Option<Tensor> {
    let flat = t.reshaped(vec![1, t.numel()]).ok()?;
    let factor = Tensor::from_f64s(t.dtype(), vec![1], &[factor]).ok()?;
    scale_axis(&flat, 0, 1, &factor)?.reshaped(t.shape().to_vec()).ok()
}
