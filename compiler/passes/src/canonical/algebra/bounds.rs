//! Bounds on the range of a value's elements, from the operation that makes it.

use mcc_ir::{BinaryOp, DType, Graph, Op, UnaryOp, Value};

use crate::support::edit::splat;

/// Maximum number of operations that bounds are followed through.
const MAX_SEARCH_DEPTH: usize = 4;

/// A lower bound on the elements of a value, NaN apart.
pub(crate) fn at_least(graph: &Graph, value: Value) -> Option<f64> {
    bound(graph, value, false, MAX_SEARCH_DEPTH)
}

/// An upper bound on the elements of a value, NaN apart.
pub(crate) fn at_most(graph: &Graph, value: Value) -> Option<f64> {
    bound(graph, value, true, MAX_SEARCH_DEPTH)
}

fn bound(graph: &Graph, value: Value, upper: bool, depth: usize) -> Option<f64> {
    if let Some(t) = splat(graph, value) {
        return Some(t.f64_at(0)).filter(|v| !v.is_nan());
    }
    let depth = depth.checked_sub(1)?;
    let operands = graph.operands(value.node);
    let of = |n: usize| bound(graph, *operands.get(n)?, upper, depth);
    // Min is at most the lesser of the known upper bounds, and at least the lesser of both lower bounds; Max likewise.
    let either = |known: fn(f64, f64) -> f64| match (of(0), of(1)) {
        (Some(a), Some(b)) => Some(known(a, b)),
        (a, b) => a.or(b),
    };
    let both = |known: fn(f64, f64) -> f64| Some(known(of(0)?, of(1)?));
    match graph.op(value.node) {
        Op::Binary(BinaryOp::Min) if upper => either(f64::min),
        Op::Binary(BinaryOp::Min) => both(f64::min),
        Op::Binary(BinaryOp::Max) if upper => both(f64::max),
        Op::Binary(BinaryOp::Max) => either(f64::max),
        Op::Unary(UnaryOp::Sigmoid) => Some(if upper { 1.0 } else { 0.0 }),
        Op::Softmax { log: false, .. } => Some(if upper { 1.0 } else { 0.0 }),
        Op::Unary(UnaryOp::Tanh | UnaryOp::Erf | UnaryOp::Sin | UnaryOp::Cos) => Some(if upper { 1.0 } else { -1.0 }),
        // The magnitude of the most negative integer is itself.
        Op::Unary(UnaryOp::Abs) if !upper && graph.ty(value).dtype.is_float() => Some(0.0),
        Op::Unary(UnaryOp::Exp | UnaryOp::Softplus | UnaryOp::Sqrt) if !upper => Some(0.0),
        Op::Cast { .. } => match graph.ty(*operands.first()?).dtype {
            DType::U8 => Some(if upper { 255.0 } else { 0.0 }),
            DType::I8 => Some(if upper { 127.0 } else { -128.0 }),
            _ => None,
        }
        .filter(|_| !matches!(graph.ty(value).dtype, DType::U8 | DType::I8 | DType::Bool)),
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. } => of(0),
        _ => None,
    }
}
