//! Evaluates operations on constants, by the reference evaluator.
//!
//! Not everything that could be folded is: data that a few instructions make from nothing or from little stays
//! computed when it would swell the object ([`MAX_GROWTH`]), and the evaluator, which is slow and obvious, is not
//! asked for more than [`MAX_WORK`] multiplications.

use super::size::estimate;
use mcc_ir::Result;
use mcc_ir::{Graph, Op, Tensor, TensorType, Value, eval, infer};

/// Bytes that a result which is larger than its operands may have.
const MAX_GROWTH: i64 = 16 << 10;
/// Bytes that any result may have, whatever it is made of.
const MAX_RESULT: i64 = 512 << 20;
/// Multiplications that folding a matrix product or convolution may cost.
const MAX_WORK: i64 = 1 << 24;

/// The results of an operation whose operands are all constants, if it is worth having them in the object.
pub(crate) fn fold(graph: &Graph, op: &Op, operands: &[Value]) -> Result<Option<Vec<Tensor>>> {
    evaluate(graph, op, operands, false)
}

/// The same, also where it is not worth it when `forced`.
pub(crate) fn evaluate(graph: &Graph, op: &Op, operands: &[Value], forced: bool) -> Result<Option<Vec<Tensor>>> {
    let Some(tensors) = operands.iter().map(|&v| graph.as_constant(v).cloned()).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let types: Vec<TensorType> = tensors.iter().map(Tensor::ty).collect();
    let results = infer(op, &types.iter().collect::<Vec<_>>())?;
    let fixed = results.types.iter().all(|t| t.fixed_shape().is_some());
    let bytes = results.types.iter().map(|t| estimate(t).saturating_mul(t.dtype.size() as i64));
    let large = bytes.fold(0i64, i64::saturating_add) > MAX_RESULT;
    if !fixed || large || !results.requires.is_empty() || !(forced || worth(op, &types, &results.types)) {
        return Ok(None);
    }
    eval::eval_op(op, &tensors, &results.types).map(Some)
}

fn worth(op: &Op, operands: &[TensorType], results: &[TensorType]) -> bool {
    let bytes = |types: &[TensorType]| types.iter().map(|t| estimate(t).saturating_mul(t.dtype.size() as i64)).sum();
    let (from, to): (i64, i64) = (bytes(operands), bytes(results));
    let small = to <= MAX_GROWTH;
    let work = |per_element: i64| estimate(&results[0]).saturating_mul(per_element) <= MAX_WORK;
    match op {
        // Of a branch that is known, the operations themselves are folded.
        Op::Input(..) | Op::Constant(_) | Op::If(_) => false,
        Op::Dims(dims) => dims.iter().all(|d| d.as_const().is_some()),
        Op::Iota { .. } | Op::Broadcast { .. } => small,
        // A random-access pattern that weights do not come in, or a count that folding would make static.
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
