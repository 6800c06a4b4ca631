//! Division of floats by a constant as a product with the reciprocal.
//!
//! The product is the same number where the reciprocal is exact. Elsewhere it may be off by one unit in the last place, which
//! another rounding makes a whole step of a code. So a quotient stays one unless what is divided has no defined last place
//! itself: sums of products, whose order no standard tells, and functions that everyone approximates. Requantizing counts as
//! such a sum too (`passes/quantize/requantize_affine.rs`). What is rounded next stays a quotient even then, if someone else sees what is divided.

use crate::support::edit::Edit;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, NodeId, Op, PoolKind, ReduceKind, Tensor, Traits, UnaryOp, Value};

/// Values that the search for a sum looks at.
const LOOK: usize = 32;

/// `a * (1 / b)` for the quotient `a / b` of a node, where that is as good and `b` a constant.
pub(crate) fn as_product(edit: &mut Edit, node: NodeId, a: Value, b: Value) -> Result<Option<Value>> {
    let Some(divisor) = edit.graph.as_constant(b) else { return Ok(None) };
    let Some(reciprocal) = reciprocal(divisor) else { return Ok(None) };
    let exact = divisor.to_f64s().into_iter().all(is_power_of_two);
    if !exact && !is_open(edit, node, a, is_rounded(edit, node)) {
        return Ok(None);
    }
    let reciprocal = edit.graph.constant(reciprocal);
    edit.add(Op::Binary(BinaryOp::Mul), &[a, reciprocal]).map(Some)
}

/// The reciprocals of a constant, unless one overflows or loses bits to being subnormal.
fn reciprocal(t: &Tensor) -> Option<Tensor> {
    let (least, most) = match t.dtype() {
        DType::F32 | DType::BF16 => (1e-37, 1e37),
        DType::F64 => (1e-300, 1e300),
        DType::F16 => (1e-4, 1e4),
        _ => return None,
    };
    let inverse: Vec<f64> = t.to_f64s().into_iter().map(f64::recip).collect();
    let good = inverse.iter().all(|v| (least..most).contains(&v.abs()));
    if !good {
        return None;
    }
    Tensor::from_f64s(t.dtype(), t.shape().to_vec(), &inverse).ok()
}

/// Whether a normal number has no bits but the first.
fn is_power_of_two(v: f64) -> bool {
    v.to_bits() & ((1 << 52) - 1) == 0
}

/// Whether a quotient becomes a code: an integer, or a float of eight bits or fewer.
fn is_rounded(edit: &Edit, node: NodeId) -> bool {
    edit.users(node.into()).iter().any(|&(user, _)| match edit.graph.op(user) {
        Op::Unary(UnaryOp::Round) => true,
        Op::Cast { to, .. } => to.bits() <= 8,
        _ => false,
    })
}

/// Whether the last place of what a node divides is not defined; `alone`: by what only ways to the quotient lead to.
fn is_open(edit: &Edit, quotient: NodeId, dividend: Value, alone: bool) -> bool {
    let (mut edge, mut cone) = (vec![dividend], vec![quotient]);
    let hidden = |v: Value, cone: &[NodeId]| {
        !edit.graph.is_output(v) && edit.users(v).iter().all(|(user, _)| cone.contains(user))
    };
    while let Some(next) = edge.iter().position(|&v| !alone || hidden(v, &cone)) {
        let v = edge.swap_remove(next);
        if cone.contains(&v.node) {
            continue;
        }
        if cone.len() > LOOK {
            return false;
        }
        cone.push(v.node);
        match edit.graph.op(v.node) {
            Op::Input(..) | Op::Constant(_) | Op::Dims(_) | Op::Iota { .. } => {}
            // The data's range, by which it is quantized: a scale that others compute too.
            Op::Reduce { kind: ReduceKind::Min | ReduceKind::Max, .. } => {}
            Op::Cast { .. } if edit.graph.operand(v.node, 0).is_some_and(|x| is_code(edit.dtype(x))) => return true,
            op if is_exact(op) => edge.extend(edit.graph.operands(v.node)),
            _ => return true,
        }
    }
    false
}

fn is_code(dtype: DType) -> bool {
    dtype.is_int() && dtype.bits() <= 16
}

/// Whether the elements of an operation's result are what its operands are, or rounded once.
fn is_exact(op: &Op) -> bool {
    match op {
        Op::Unary(f) => {
            use UnaryOp::*;
            matches!(f, Neg | Abs | Sign | Floor | Ceil | Round | Sqrt | Reciprocal | Not | BitNot | IsNan | IsInf)
        }
        Op::Binary(f) => *f != BinaryOp::Pow,
        Op::Pool(spec) => spec.kind == PoolKind::Max,
        op => op.is(Traits::EXACT),
    }
}
