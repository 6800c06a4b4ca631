//! Products of dequantized operands become products of their integers, scaled afterwards.
//!
//! What quantizing tools write is `(x - zx) * sx` and `(w - zw) * sw` in `f32` before each product or convolution. With
//! one scale for the data, and one, or one a column, for the weights, the scales come out of the sum:
//! `sx * sw * sum((x - zx) * (w - zw))`, where the sum is one of integers and exact. The result differs from that of
//! `f32` arithmetic by rounding only.

use mcc_targets::Target;
use mcc_targets::dot_schedule::has_dot;

use super::edit::{Edit, rewrite};
use crate::Result;
use crate::ir::{BinaryOp, DType, Dim, Graph, Op, Value};

/// Channels of a group, and columns, below which products of floats are as good.
const LEAST: i64 = 4;

/// Takes scales out of sums, where the target has products of bytes.
///
/// # Errors
/// When the graph contradicts itself.
pub(super) fn run(graph: &mut Graph, target: &Target) -> Result<bool> {
    if !has_dot(target) {
        return Ok(false);
    }
    rewrite(graph, |edit, node| {
        let op = edit.graph.op(node).clone();
        let operands = edit.graph.operands(node);
        let (rank, axis) = match &op {
            Op::MatMul => (edit.graph.ty(node.into()).rank(), None),
            Op::Conv(spec) => {
                let shape = edit.shape(operands[1]);
                let narrow = |extent: &Dim| extent.as_const().is_none_or(|c| c < LEAST);
                let columns = shape[0].floor_div(&Dim::from(spec.group));
                if spec.group > 1 && (narrow(&shape[1]) || narrow(&columns)) {
                    return Ok(None);
                }
                (edit.graph.ty(node.into()).rank(), Some(0))
            }
            _ => return Ok(None),
        };
        let (Some(x), Some(w)) = (Dequantized::of(edit.graph, operands[0]), Dequantized::of(edit.graph, operands[1]))
        else {
            return Ok(None);
        };
        let one = |v: Value| edit.graph.ty(v).numel().is(1);
        let fits = one(x.scale) && x.zero.is_none_or(one) && edit.graph.as_constant(w.codes).is_some();
        // Where the columns are in the weights, and in the result.
        let columns = axis.unwrap_or(edit.graph.ty(operands[1]).rank() - 1);
        if !fits || edit.graph.ty(operands[1]).rank() < 2 || !along(&edit.shape(w.scale), w.rank, columns, &w.moves) {
            return Ok(None);
        }
        let (left, right) = (x.centred(edit)?, w.centred(edit)?);
        let mut sum = edit.add(op.clone(), &[left, right])?;
        sum = edit.add(Op::Cast { to: DType::F32, saturate: true }, &[sum])?;
        let w_scale = per_column(edit, w.scale, rank, axis.is_some())?;
        let x_scale = edit.reshape(x.scale, Vec::new())?;
        let scale = edit.add(Op::Binary(BinaryOp::Mul), &[w_scale, x_scale])?;
        let mut result = edit.add(Op::Binary(BinaryOp::Mul), &[sum, scale])?;
        if let Some(&bias) = operands.get(2) {
            let bias = per_column(edit, bias, rank, true)?;
            result = edit.add(Op::Binary(BinaryOp::Add), &[result, bias])?;
        }
        Ok(Some(result))
    })
}

/// Eight-bit codes, what is subtracted from them and what the difference is multiplied by.
struct Dequantized {
    codes: Value,
    zero: Option<Value>,
    scale: Value,
    rank: usize,
    /// Transposes behind the multiplication, the last one first.
    moves: Vec<Vec<usize>>,
}

impl Dequantized {
    fn of(graph: &Graph, v: Value) -> Option<Dequantized> {
        let operands = graph.operands(v.node);
        match graph.op(v.node) {
            Op::Transpose { perm } => {
                let mut inner = Self::of(graph, operands[0])?;
                inner.moves.insert(0, perm.clone());
                Some(inner)
            }
            Op::Binary(BinaryOp::Mul) if graph.ty(v).dtype == DType::F32 => {
                let (difference, scale) = (operands[0], operands[1]);
                let (codes, zero) = match graph.op(difference.node) {
                    Op::Binary(BinaryOp::Sub) => {
                        let parts = graph.operands(difference.node);
                        (parts[0], Some(cast_from_byte(graph, parts[1])?))
                    }
                    _ => (difference, None),
                };
                let codes = cast_from_byte(graph, codes)?;
                let same = graph.ty(codes).shape == graph.ty(v).shape;
                let rank = graph.ty(v).rank();
                same.then_some(Dequantized { codes, zero, scale, rank, moves: Vec::new() })
            }
            _ => None,
        }
    }

    /// The codes minus the zero point, as `i32`.
    fn centred(&self, edit: &mut Edit) -> Result<Value> {
        let wide = |edit: &mut Edit, v: Value| edit.add(Op::Cast { to: DType::I32, saturate: true }, &[v]);
        let mut v = wide(edit, self.codes)?;
        if let Some(zero) = self.zero {
            let zero = wide(edit, zero)?;
            v = edit.add(Op::Binary(BinaryOp::Sub), &[v, zero])?;
        }
        for perm in self.moves.iter().rev() {
            v = edit.transpose(v, perm.clone())?;
        }
        Ok(v)
    }
}

/// What a value is a cast of, when that is a byte; shapes may be around it.
fn cast_from_byte(graph: &Graph, v: Value) -> Option<Value> {
    let inner = graph.operand(v.node, 0)?;
    let byte = matches!(graph.ty(inner).dtype, DType::U8 | DType::I8);
    (matches!(graph.op(v.node), Op::Cast { .. }) && byte).then_some(inner)
}

/// Whether a scale of this shape is one number, or one an element of an axis, where that axis of the product's operand
/// comes from, by transposes, an axis of the scaled tensor of `rank` axes.
fn along(scale: &[Dim], rank: usize, columns: usize, moves: &[Vec<usize>]) -> bool {
    let from = moves.iter().fold(columns, |axis, perm| perm[axis]);
    // Missing axes are in front.
    let missing = rank - scale.len().min(rank);
    scale.iter().enumerate().all(|(axis, extent)| extent.is(1) || axis + missing == from)
}

/// Numbers a column, or one, for a result of `rank` axes: behind the first axis of a convolution's, else last.
fn per_column(edit: &mut Edit, v: Value, rank: usize, conv: bool) -> Result<Value> {
    let count = edit.graph.ty(v).numel();
    if count.is(1) {
        return edit.reshape(v, Vec::new());
    }
    let behind = if conv { rank - 2 } else { 0 };
    edit.reshape(v, std::iter::once(count).chain(vec![Dim::ONE; behind]).collect())
}
