//! Evaluates operations on constants with the reference evaluator.
//!
//! Not everything is folded: data that a few instructions can compute from little or nothing is computed at run time if
//! folding would enlarge the object ([`MAX_GROWN_BYTES`]), and the evaluator, which is slow, does at most [`MAX_MULTIPLICATIONS`]
//! multiplications.

use super::size::estimate;
use mcc_ir::Result;
use mcc_ir::{Graph, Op, Tensor, TensorType, Value, eval, infer};

/// Maximum bytes of a result that is larger than its operands.
const MAX_GROWN_BYTES: i64 = 16 << 10;
/// Maximum bytes of any result.
const MAX_RESULT_BYTES: i64 = 512 << 20;
/// Maximum multiplications for folding a matrix product or convolution.
const MAX_MULTIPLICATIONS: i64 = 1 << 24;

/// The results of an operation whose operands are all constant, if folding pays.
pub(crate) fn fold(graph: &Graph, op: &Op, operands: &[Value]) -> Result<Option<Vec<Tensor>>> {
    evaluate(graph, op, operands, false)
}

/// The same; with `forced` even if it does not pay.
pub(crate) fn evaluate(graph: &Graph, op: &Op, operands: &[Value], forced: bool) -> Result<Option<Vec<Tensor>>> {
    let Some(tensors) = operands.iter().map(|&v| graph.as_constant(v).cloned()).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let types: Vec<TensorType> = tensors.iter().map(Tensor::ty).collect();
    let results = infer(op, &types.iter().collect::<Vec<_>>())?;
    let fixed = results.types.iter().all(|t| t.fixed_shape().is_some());
    let bytes = results.types.iter().map(|t| estimate(t).saturating_mul(t.dtype.size() as i64));
    let large = bytes.fold(0i64, i64::saturating_add) > MAX_RESULT_BYTES;
    if !fixed || large || !results.requires.is_empty() || !(forced || worth(op, &types, &results.types)) {
        return Ok(None);
    }
    eval::eval_op(op, &tensors, &results.types).map(Some)
}

fn worth(op: &Op, operands: &[TensorType], results: &[TensorType]) -> bool {
    let bytes = |types: &[TensorType]| types.iter().map(|t| estimate(t).saturating_mul(t.dtype.size() as i64)).sum();
    let (from, to): (i64, i64) = (bytes(operands), bytes(results));
    let small = to <= MAX_GROWN_BYTES;
    let work = |per_element: i64| estimate(&results[0]).saturating_mul(per_element) <= MAX_MULTIPLICATIONS;
    match op {
        // Of a branch that is known, the operations themselves are folded.
        Op::Input(..) | Op::Constant(_) | Op::If(_) => false,
        Op::Dims(dims) => dims.iter().all(|d| d.as_const().is_some()),
        Op::Iota { .. } | Op::Broadcast { .. } => small,
        // Weights are not computed with random access, or from a count that folding would fix.
        Op::NonZero { .. } | Op::NonMaxSuppression | Op::TreeEnsemble(_) | Op::Recurrent(_) | Op::GridSample { .. } => {
            false
        }
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Select
        | Op::Cast { .. }
        | Op::Gather { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::Resize { .. } => small || to <= from.saturating_mul(8),
        Op::Bitcast { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Concat { .. }
        | Op::Pad { .. }
        | Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::ReverseSequence { .. }
        | Op::Reduce { .. }
        | Op::ArgReduce { .. }
        | Op::Cumulative { .. }
        | Op::Softmax { .. }
        | Op::Normalize { .. }
        | Op::TopK { .. } => true,
        Op::Pool(spec) | Op::MaxPoolWithIndices { spec, .. } => {
            work(spec.kernel.iter().fold(1i64, |n, &k| n.saturating_mul(k)))
        }
        Op::Attention { .. } => work(estimate(&operands[1])),
        Op::MatMul | Op::PackedMatMul { .. } => {
            let depth = operands[0].shape.last().and_then(|d| d.as_const()).unwrap_or(1);
            to <= from && work(depth)
        }
        Op::Conv(_) | Op::Packed(_) | Op::ConvTranspose { .. } => to <= from && work(estimate(&operands[1])),
        Op::Col2Im { .. } => to <= from && work(1),
    }
}
