//! Fuses operations that exporters decomposed: normalisations, softmax, sigmoid, softplus.
//!
//! Patterns are matched in the canonical form of `algebra` (constants on the right, `x * x` for squares) and after
//! `cse` (equal expressions are one value). If an inner value has other uses, it is kept for them.

mod activation;
mod normalize;
mod softmax;

use mcc_targets::Config;

use crate::support::edit::{Edit, rewrite};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, Graph, Op, ReduceKind, UnaryOp, Value};

/// Fuses patterns.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    type Pattern = fn(&mut Edit, Value) -> Result<Option<Value>>;
    const PATTERNS: &[Pattern] = &[normalize::match_at, softmax::match_at, activation::match_at];
    rewrite(graph, |edit, node| {
        for pattern in PATTERNS {
            if let Some(new) = pattern(edit, node.into())? {
                return Ok(Some(new));
            }
        }
        Ok(None)
    })
}

/// `x` if a value is `op(x)`.
fn unary(edit: &Edit, value: Value, op: UnaryOp) -> Option<Value> {
    match edit.graph.op(value.node) {
        Op::Unary(u) if *u == op => edit.graph.operand(value.node, 0),
        _ => None,
    }
}

/// `(a, b)` if a value is `op(a, b)`.
fn binary(edit: &Edit, value: Value, op: BinaryOp) -> Option<(Value, Value)> {
    match edit.graph.op(value.node) {
        Op::Binary(b) if *b == op => Some((edit.graph.operand(value.node, 0)?, edit.graph.operand(value.node, 1)?)),
        _ => None,
    }
}

/// `(n, d)` if a value is `n / d`, in either form.
fn quotient(edit: &Edit, value: Value) -> Option<(Value, Value)> {
    if let Some(found) = binary(edit, value, BinaryOp::Div) {
        return Some(found);
    }
    let (a, b) = binary(edit, value, BinaryOp::Mul)?;
    match (unary(edit, b, UnaryOp::Reciprocal), unary(edit, a, UnaryOp::Reciprocal)) {
        (Some(d), _) => Some((a, d)),
        (None, Some(d)) => Some((b, d)),
        (None, None) => None,
    }
}

/// `(x, c)` if a value is `x * c` for a number `c`, or `x / (1 / c)`.
fn scaled(edit: &Edit, value: Value) -> Option<(Value, f64)> {
    if let Some((x, divisor)) = binary(edit, value, BinaryOp::Div) {
        return Some((x, 1.0 / edit.splat(divisor)?));
    }
    let (x, c) = binary(edit, value, BinaryOp::Mul)?;
    Some((x, edit.splat(c)?))
}

/// `(x, axes)` if a value is a reduction of `x` that keeps its axes.
fn reduction(edit: &Edit, value: Value, wanted: ReduceKind) -> Option<(Value, Vec<usize>)> {
    match edit.graph.op(value.node) {
        Op::Reduce { kind, axes, keep: true } if *kind == wanted => {
            Some((edit.graph.operand(value.node, 0)?, axes.clone()))
        }
        _ => None,
    }
}
