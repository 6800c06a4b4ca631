//! Folds scales and shifts per channel (batch normalisation at inference) into the weights and biases of the
//! convolution or matrix product before or after them.
//!
//! Weights are rounded once more than in the model, so results differ in the last bit.

use mcc_targets::Config;

use crate::support::edit::{Edit, rewrite};
use crate::support::weights::{Weighted, per_channel, scale_axis, shift_through};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, Graph, NodeId, Op, Value};

/// Folds scales and shifts into weights.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    rewrite(graph, |edit, node| match edit.graph.op(node) {
        Op::Binary(BinaryOp::Mul) => scale_after(edit, node),
        Op::Binary(BinaryOp::Add) => shift_after(edit, node),
        Op::Conv(_) | Op::ConvTranspose { .. } | Op::MatMul => before(edit, node),
        _ => Ok(None),
    })
}

/// `conv(x, w, b) * s` and `(matmul(x, w) [+ b]) * s`.
fn scale_after(edit: &mut Edit, node: NodeId) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let (y, Some(s)) = (operands[0], edit.graph.as_constant(operands[1]).cloned()) else { return Ok(None) };
    if edit.graph.ty(y) != edit.graph.ty(node.into()) || !edit.used_once(y) {
        return Ok(None);
    }
    // A bias that is a separate addition, as after matrix products.
    if let Op::Binary(BinaryOp::Add) = edit.graph.op(y.node) {
        let sum = edit.graph.operands(y.node);
        let (product, Some(bias)) = (sum[0], edit.graph.as_constant(sum[1])) else { return Ok(None) };
        let grows = edit.graph.ty(product) != edit.graph.ty(y) || s.numel() > bias.numel().max(1);
        if grows && s.splat_value().is_none() || !edit.used_once(product) {
            return Ok(None);
        }
        let Some(scaled) = Weighted::of(edit, product).map(|w| w.scaled(edit, &s)).transpose()?.flatten() else {
            return Ok(None);
        };
        let bias = edit.add(Op::Binary(BinaryOp::Mul), &[sum[1], operands[1]])?;
        return edit.add(Op::Binary(BinaryOp::Add), &[scaled, bias]).map(Some);
    }
    match Weighted::of(edit, y) {
        Some(weighted) => weighted.scaled(edit, &s),
        None => Ok(None),
    }
}

/// `conv(x, w, b) + t`.
fn shift_after(edit: &mut Edit, node: NodeId) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let (y, Some(t)) = (operands[0], edit.graph.as_constant(operands[1]).cloned()) else { return Ok(None) };
    if edit.graph.ty(y) != edit.graph.ty(node.into()) || !edit.used_once(y) {
        return Ok(None);
    }
    let Some(weighted) = Weighted::of(edit, y).filter(|w| w.takes_bias()) else { return Ok(None) };
    let Some(shift) = per_channel(&t, weighted.rank, weighted.out_axis, weighted.out) else { return Ok(None) };
    let shift = edit.graph.constant(shift);
    let bias = match weighted.bias {
        Some(bias) => edit.add(Op::Binary(BinaryOp::Add), &[bias, shift])?,
        None => shift,
    };
    weighted.rebuilt(edit, weighted.x, weighted.weights, Some(bias)).map(Some)
}

/// `conv(x * s, w)` and, without padding, `conv(x + t, w)`.
fn before(edit: &mut Edit, node: NodeId) -> Result<Option<Value>> {
    let Some(weighted) = Weighted::of(edit, node.into()) else { return Ok(None) };
    let x = weighted.x;
    let (Op::Binary(op), true) = (edit.graph.op(x.node).clone(), edit.used_once(x)) else { return Ok(None) };
    let operands = edit.graph.operands(x.node);
    let (source, Some(c)) = (operands[0], edit.graph.as_constant(operands[1]).cloned()) else { return Ok(None) };
    if edit.graph.ty(source) != edit.graph.ty(x) {
        return Ok(None);
    }
    let Some(c) = per_channel(&c, weighted.in_rank, weighted.in_axis, weighted.inner) else { return Ok(None) };
    let Some(w) = edit.graph.as_constant(weighted.weights).cloned() else { return Ok(None) };
    match op {
        BinaryOp::Mul => {
            let Some(w) = weighted.scale_inputs(&w, &c) else { return Ok(None) };
            let w = edit.graph.constant(w);
            weighted.rebuilt(edit, source, w, weighted.bias).map(Some)
        }
        BinaryOp::Add if weighted.unpadded_conv() => {
            let Some(shift) = shift_through(&w, &c, weighted.group) else { return Ok(None) };
            let shift = edit.graph.constant(shift);
            let bias = match weighted.bias {
                Some(bias) => edit.add(Op::Binary(BinaryOp::Add), &[bias, shift])?,
                None => shift,
            };
            weighted.rebuilt(edit, source, weighted.weights, Some(bias)).map(Some)
        }
        _ => Ok(None),
    }
}

impl Weighted {
    /// The operation with its results multiplied by a constant of at most their rank.
    fn scaled(&self, edit: &mut Edit, s: &mcc_ir::Tensor) -> Result<Option<Value>> {
        let Some(s) = per_channel(s, self.rank, self.out_axis, self.out) else { return Ok(None) };
        let Some(w) = edit.graph.as_constant(self.weights).cloned() else { return Ok(None) };
        let Some(w) = self.scale_outputs(&w, &s) else { return Ok(None) };
        let bias = match self.bias {
            Some(bias) => {
                let Some(b) = edit.graph.as_constant(bias).and_then(|b| scale_axis(b, 0, 1, &s)) else {
                    return Ok(None);
                };
                Some(edit.graph.constant(b))
            }
            None => None,
        };
        let w = edit.graph.constant(w);
        self.rebuilt(edit, self.x, w, bias).map(Some)
    }
}
