//! Evaluates operations on constants, by the reference evaluator.
//!
//! Not everything that could be folded is: data that a few instructions make from nothing or from little stays
//! computed when it would swell the object ([`MAX_GROWTH`]), and the evaluator, which is slow and obvious, is not
//! asked for more than [`MAX_WORK`] multiplications.

use mcc_targets::Target;

use crate::Result;
use crate::ir::{Graph, NodeId, Op, Tensor, TensorType, Value, eval, infer};
use crate::passes::support::edit::estimate;

/// Bytes that a result which is larger than its operands may have.
const MAX_GROWTH: i64 = 16 << 10;
/// Bytes that any result may have, whatever it is made of.
const MAX_RESULT: i64 = 512 << 20;
/// Multiplications that folding a matrix product or convolution may cost.
const MAX_WORK: i64 = 1 << 24;
/// Operations that may lie between data and the product whose weights they are.
const WEIGHT_DEPTH: usize = 8;

/// Replaces operations on constants by their results.
pub(crate) fn run(graph: &mut Graph, _target: &Target) -> Result<bool> {
    let mut changed = false;
    for node in graph.topological() {
        let operands = graph.operands(node);
        if matches!(graph.op(node), Op::Constant(_)) || !operands.iter().all(|&v| graph.as_constant(v).is_some()) {
            continue;
        }
        let op = graph.op(node).clone();
        let place = |graph: &Graph| format!("{} {}", op.name(), graph.label(node));
        let forced =
            matches!(op, Op::Broadcast { .. } | Op::Gather { .. }) && is_weight(graph, node.into(), WEIGHT_DEPTH);
        let Some(results) = evaluate(graph, &op, &operands, forced).map_err(|e| e.within(place(graph)))? else {
            continue;
        };
        replace_all(graph, node, results);
        changed = true;
    }
    Ok(changed)
}

fn replace_all(graph: &mut Graph, node: NodeId, results: Vec<Tensor>) {
    let label = graph.label(node).to_string();
    for (result, tensor) in results.into_iter().enumerate() {
        let new = graph.constant(tensor);
        graph.set_label(new.node, &label);
        graph.replace(Value { node, result }, new);
    }
}

/// The results of an operation whose operands are all constants, if it is worth having them in the object.
pub(crate) fn fold(graph: &Graph, op: &Op, operands: &[Value]) -> Result<Option<Vec<Tensor>>> {
    evaluate(graph, op, operands, false)
}

/// The same, also where it is not worth it when `forced`.
fn evaluate(graph: &Graph, op: &Op, operands: &[Value], forced: bool) -> Result<Option<Vec<Tensor>>> {
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

/// Whether a value becomes the weights of a product or convolution: these have to be constants to be packed.
fn is_weight(graph: &Graph, value: Value, depth: usize) -> bool {
    graph.users(value).iter().any(|&(user, operand)| match graph.op(user) {
        Op::Conv(_) | Op::ConvTranspose { .. } | Op::MatMul | Op::Recurrent(_) => operand > 0,
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } | Op::Pad { .. } | Op::Cast { .. } => {
            depth > 0 && is_weight(graph, user.into(), depth - 1)
        }
        // Scales of blocks, for the codes that they multiply.
        Op::Binary(_) => {
            let known = graph.operands(user).iter().all(|&v| v == value || is_known(graph, v, WEIGHT_DEPTH));
            depth > 0 && known && is_weight(graph, user.into(), depth - 1)
        }
        _ => false,
    })
}

/// Whether a value is computed from constants alone.
fn is_known(graph: &Graph, value: Value, depth: usize) -> bool {
    let operands = graph.operands(value.node);
    graph.as_constant(value).is_some()
        || depth > 0 && !operands.is_empty() && operands.iter().all(|&v| is_known(graph, v, depth - 1))
}

fn worth(op: &Op, operands: &[TensorType], results: &[TensorType]) -> bool {
    let bytes = |types: &[TensorType]| types.iter().map(|t| estimate(t).saturating_mul(t.dtype.size() as i64)).sum();
    let (from, to): (i64, i64) = (bytes(operands), bytes(results));
    let small = to <= MAX_GROWTH;
    let work = |per_element: i64| estimate(&results[0]).saturating_mul(per_element) <= MAX_WORK;
    match op {
        Op::Input(..) | Op::Constant(_) => false,
        Op::Dims(dims) => dims.iter().all(|d| d.as_const().is_some()),
        Op::Iota { .. } | Op::Broadcast { .. } => small,
        // A random-access pattern that weights do not come in, or a count that folding would make static.
        Op::NonZero { .. } | Op::Suppress | Op::TreeEnsemble(_) | Op::Recurrent(_) | Op::GridSample { .. } => false,
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
