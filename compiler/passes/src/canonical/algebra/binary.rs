//! Identities of element-wise functions of two operands.

use super::{bounds, implicit_broadcast, quotient};
use crate::support::edit::{Edit, splat};
use crate::support::fold;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, DTypeClass, NodeId, Op, ReduceKind, Tensor, UnaryOp, Value};

/// Chained additions of constants are joined if neither constant is larger; larger ones may be used to round by adding.
const MAX_REASSOCIATED_ADDEND: f64 = 1e6;

pub(crate) fn simplify(edit: &mut Edit, node: NodeId, op: BinaryOp) -> Result<Option<Value>> {
    let operands = edit.graph.operands(node);
    let (a, b) = (operands[0], operands[1]);
    if let Some(mirrored) = mirrored(op)
        && is_constant(edit, a)
        && !is_constant(edit, b)
    {
        return edit.add(Op::Binary(mirrored), &[b, a]).map(Some);
    }
    if let Some(new) = with_constant(edit, node, op, a, b)? {
        return Ok(Some(new));
    }
    if let Some(new) = same_operands(edit, op, a, b)? {
        return Ok(Some(new));
    }
    if let Some(new) = with_negation(edit, op, a, b)? {
        return Ok(Some(new));
    }
    if let Some(new) = chain(edit, op, a, b)? {
        return Ok(Some(new));
    }
    if let Some(new) = outwards(edit, node, op, a, b)? {
        return Ok(Some(new));
    }
    implicit_broadcast(edit, node)
}

/// The operation with its operands swapped, if there is one.
fn mirrored(op: BinaryOp) -> Option<BinaryOp> {
    use BinaryOp::*;
    match op {
        Add | Mul | Min | Max | And | Or | Xor | Equal => Some(op),
        Less => Some(Greater),
        LessOrEqual => Some(GreaterOrEqual),
        Greater => Some(Less),
        GreaterOrEqual => Some(LessOrEqual),
        Sub | Div | Pow | Mod | Rem | ShiftLeft | ShiftRight => None,
    }
}

/// Whether a value is a constant, possibly after a broadcast or reshape that folding does not evaluate.
fn is_constant(edit: &Edit, value: Value) -> bool {
    edit.graph.as_constant(value).is_some() || splat(edit.graph, value).is_some()
}

/// Rules for `x op c` and `c op x` where `c` is a constant, or all its elements are equal.
fn with_constant(edit: &mut Edit, node: NodeId, op: BinaryOp, a: Value, b: Value) -> Result<Option<Value>> {
    use BinaryOp::*;
    let shape = edit.shape(node.into());
    let dtype = edit.dtype(a);
    let float = dtype.is_float();
    let left = edit.splat(a);
    let right = edit.splat(b);
    let unary = |edit: &mut Edit, op: UnaryOp, x: Value| -> Result<Option<Value>> {
        let y = edit.add(Op::Unary(op), &[x])?;
        edit.broadcast(y, shape.clone()).map(Some)
    };
    let same = |edit: &mut Edit, x: Value| edit.broadcast(x, shape.clone()).map(Some);
    match (op, left, right) {
        (Add | Sub | Or | Xor | ShiftLeft | ShiftRight, _, Some(0.0)) => same(edit, a),
        (Mul | Div | Pow, _, Some(1.0)) => same(edit, a),
        (And, _, Some(0.0)) => same(edit, b),
        (And, _, Some(1.0)) if dtype == DType::Bool => same(edit, a),
        (Or, _, Some(1.0)) if dtype == DType::Bool => same(edit, b),
        (Xor, _, Some(1.0)) if dtype == DType::Bool => unary(edit, UnaryOp::Not, a),
        (Mul, _, Some(0.0)) if !float => same(edit, b),
        (Mul, _, Some(-1.0)) => unary(edit, UnaryOp::Neg, a),
        (Sub, Some(0.0), _) if float || dtype.class() == DTypeClass::Signed => unary(edit, UnaryOp::Neg, b),
        (Div, Some(1.0), _) if float => unary(edit, UnaryOp::Reciprocal, b),
        (Pow, _, Some(exponent)) => power(edit, a, b, exponent),
        (Max, _, Some(f64::NEG_INFINITY)) | (Min, _, Some(f64::INFINITY)) => same(edit, a),
        (Mul, _, Some(c)) if edit.shape(a) == shape && mean_of_sum(edit, a, c) => {
            mean_instead_of_sum(edit, a).map(Some)
        }
        (Max, _, Some(c)) if bounds::at_least(edit.graph, a).is_some_and(|l| l >= c) => same(edit, a),
        (Min, _, Some(c)) if bounds::at_most(edit.graph, a).is_some_and(|u| u <= c) => same(edit, a),
        (Sub, _, _) if float && edit.graph.as_constant(b).is_some() && !is_constant(edit, a) => {
            let negated = edit.add(Op::Unary(UnaryOp::Neg), &[b])?;
            edit.add(Op::Binary(Add), &[a, negated]).map(Some)
        }
        (Div, _, _) if float && !is_constant(edit, a) => quotient::as_product(edit, node, a, b),
        _ => Ok(None),
    }
}

fn power(edit: &mut Edit, x: Value, exponent: Value, value: f64) -> Result<Option<Value>> {
    use UnaryOp::{Reciprocal, Sqrt};
    // The forms below only give results of the base's shape.
    let scalar = edit.shape(exponent).iter().all(|d| d.is(1)) && edit.shape(exponent).len() <= edit.shape(x).len();
    if !scalar {
        return Ok(None);
    }
    let float = edit.dtype(x).is_float();
    let square = |edit: &mut Edit, x: Value| edit.add(Op::Binary(BinaryOp::Mul), &[x, x]);
    let y = if value == 2.0 {
        square(edit, x)?
    } else if value == 3.0 {
        let squared = square(edit, x)?;
        edit.add(Op::Binary(BinaryOp::Mul), &[squared, x])?
    } else if value == 4.0 {
        let squared = square(edit, x)?;
        square(edit, squared)?
    } else if value == 0.5 && float {
        edit.add(Op::Unary(Sqrt), &[x])?
    } else if value == -1.0 && float {
        edit.add(Op::Unary(Reciprocal), &[x])?
    } else if value == -0.5 && float {
        let root = edit.add(Op::Unary(Sqrt), &[x])?;
        edit.add(Op::Unary(Reciprocal), &[root])?
    } else {
        return Ok(None);
    };
    Ok(Some(y))
}

fn same_operands(edit: &mut Edit, op: BinaryOp, a: Value, b: Value) -> Result<Option<Value>> {
    use BinaryOp::*;
    if a != b {
        return Ok(None);
    }
    match op {
        Min | Max | And | Or => Ok(Some(a)),
        Sub | Xor if !edit.dtype(a).is_float() => {
            let zero = edit.scalar(edit.dtype(a), 0.0);
            let shape = edit.shape(a);
            edit.broadcast(zero, shape).map(Some)
        }
        Equal if !edit.dtype(a).is_float() => {
            let truth = edit.scalar(DType::Bool, 1.0);
            let shape = edit.shape(a);
            edit.broadcast(truth, shape).map(Some)
        }
        _ => Ok(None),
    }
}

/// Merges negations and reciprocals of an operand into the operation.
fn with_negation(edit: &mut Edit, op: BinaryOp, a: Value, b: Value) -> Result<Option<Value>> {
    use BinaryOp::{Add, Div, Mul, Sub};
    let inner = |edit: &Edit, v: Value, wanted: UnaryOp| match edit.graph.op(v.node) {
        Op::Unary(u) if *u == wanted => edit.graph.operand(v.node, 0),
        _ => None,
    };
    let (na, nb) = (inner(edit, a, UnaryOp::Neg), inner(edit, b, UnaryOp::Neg));
    let rewritten = match (op, na, nb) {
        (Add, _, Some(y)) => Some((Sub, a, y)),
        (Add, Some(x), None) => Some((Sub, b, x)),
        (Sub, _, Some(y)) => Some((Add, a, y)),
        (Mul | Div, Some(x), Some(y)) => Some((op, x, y)),
        _ => None,
    };
    match rewritten {
        Some((op, a, b)) => edit.add(Op::Binary(op), &[a, b]).map(Some),
        None => Ok(None),
    }
}

/// Turns `(x op c1) op c2` into `x op (c1 op c2)`, and `(x + c1) * c2` into `x * c2 + c1 * c2` where `x` is itself a
/// product with a constant, so that affine chains become one multiplication and one addition.
fn chain(edit: &mut Edit, op: BinaryOp, a: Value, b: Value) -> Result<Option<Value>> {
    use BinaryOp::{Add, And, Max, Min, Mul, Or, Xor};
    let (Op::Binary(inner), Some(outer)) = (edit.graph.op(a.node).clone(), edit.graph.as_constant(b).cloned()) else {
        return Ok(None);
    };
    let operands = edit.graph.operands(a.node);
    let (x, c) = (operands[0], operands[1]);
    let Some(first) = edit.graph.as_constant(c).cloned() else { return Ok(None) };
    if !edit.used_once(a) || edit.graph.as_constant(x).is_some() {
        return Ok(None);
    }
    let small = |t: &Tensor| t.to_f64s().iter().all(|v| v.abs() < MAX_REASSOCIATED_ADDEND);
    let float = edit.dtype(a).is_float();
    let joins = match (inner, op) {
        (Mul, Mul) | (Min, Min) | (Max, Max) | (And, And) | (Or, Or) | (Xor, Xor) => true,
        (Add, Add) => !float || (small(&first) && small(&outer)),
        _ => false,
    };
    if joins {
        // Two vectors must not become a matrix.
        let Some(joined) = fold(edit, op, c, b)?.filter(|t| t.numel() <= first.numel().max(outer.numel())) else {
            return Ok(None);
        };
        let joined = edit.graph.constant(joined);
        return edit.add(Op::Binary(op), &[x, joined]).map(Some);
    }
    if (inner, op) != (Add, Mul) || !float || !edit.used_once(x) || !small(&first) || !small(&outer) {
        return Ok(None);
    }
    let Op::Binary(Mul) = edit.graph.op(x.node) else { return Ok(None) };
    let factors = edit.graph.operands(x.node);
    let scale = edit.graph.as_constant(factors[1]).map_or(0, Tensor::numel);
    let joined = |t: &Tensor, a: usize, b: usize| t.numel() <= a.max(b);
    let Some(shift) = fold(edit, Mul, c, b)?.filter(|t| joined(t, first.numel(), outer.numel())) else {
        return Ok(None);
    };
    let Some(scale) = fold(edit, Mul, factors[1], b)?.filter(|t| joined(t, scale, outer.numel())) else {
        return Ok(None);
    };
    let (scale, shift) = (edit.graph.constant(scale), edit.graph.constant(shift));
    let product = edit.add(Op::Binary(Mul), &[factors[0], scale])?;
    edit.add(Op::Binary(Add), &[product, shift]).map(Some)
}

/// Turns `a * (b * c)` into `(a * b) * c` for a number `c`, which may then be folded into weights further on.
fn outwards(edit: &mut Edit, node: NodeId, op: BinaryOp, a: Value, b: Value) -> Result<Option<Value>> {
    /// For factors outside of this range, products may overflow in one order only.
    const REORDERED_FACTORS: std::ops::RangeInclusive<f64> = 1e-3..=1e3;
    if op != BinaryOp::Mul || !edit.dtype(a).is_float() || edit.graph.as_constant(b).is_some() {
        return Ok(None);
    }
    for (product, other) in [(b, a), (a, b)] {
        let Op::Binary(BinaryOp::Mul) = edit.graph.op(product.node) else { continue };
        let factors = edit.graph.operands(product.node);
        let number = edit.graph.as_constant(factors[1]).and_then(Tensor::splat_value);
        let moderate = number.is_some_and(|n| REORDERED_FACTORS.contains(&n.f64_at(0).abs()));
        let same = edit.graph.ty(product) == edit.graph.ty(node.into())
            && edit.graph.ty(other) == edit.graph.ty(node.into())
            && edit.graph.ty(factors[0]) == edit.graph.ty(product);
        if moderate && same && edit.used_once(product) {
            let inner = edit.add(Op::Binary(BinaryOp::Mul), &[other, factors[0]])?;
            return edit.add(Op::Binary(BinaryOp::Mul), &[inner, factors[1]]).map(Some);
        }
    }
    Ok(None)
}

/// Whether multiplying a sum by `c` makes it a mean.
fn mean_of_sum(edit: &Edit, value: Value, c: f64) -> bool {
    let Op::Reduce { kind: ReduceKind::Sum, axes, .. } = edit.graph.op(value.node) else { return false };
    let Some(x) = edit.graph.operand(value.node, 0).filter(|_| edit.used_once(value)) else { return false };
    let ty = edit.graph.ty(x);
    let count = axes.iter().try_fold(1.0, |n, &a| Some(n * ty.shape[a].as_const()? as f64));
    let exact = |n: f64| Tensor::scalar_f64(ty.dtype, 1.0 / n).f64_at(0) == c;
    ty.dtype.is_float() && count.is_some_and(exact)
}

fn mean_instead_of_sum(edit: &mut Edit, sum: Value) -> Result<Value> {
    let op = match edit.graph.op(sum.node).clone() {
        Op::Reduce { axes, keep, .. } => Op::Reduce { kind: ReduceKind::Mean, axes, keep },
        other => other,
    };
    let x = edit.graph.operands(sum.node);
    edit.add(op, &x)
}

fn fold(edit: &Edit, op: BinaryOp, a: Value, b: Value) -> Result<Option<Tensor>> {
    Ok(fold::fold(edit.graph, &Op::Binary(op), &[a, b])?.and_then(|mut results| results.pop()))
}
