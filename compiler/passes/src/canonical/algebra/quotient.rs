//! Turns division of floats by a constant into multiplication by the reciprocal.
//!
//! The product equals the quotient if the reciprocal is exact. Otherwise it may be off by one unit in the last place,
//! which a following rounding can turn into a whole step of a code. So the quotient is kept unless the last place of
//! the dividend is not defined: sums of products, whose order no standard defines, and functions that are approximated.
//! Requantizing counts as such a sum (`passes/quantize/requantize_affine.rs`). A quotient that is rounded next is kept
//! even then, if others use the dividend.

use crate::support::edit::Edit;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, NodeId, Op, PoolKind, ReduceKind, Tensor, Traits, UnaryOp, Value};

/// Maximum number of values that the search for a sum visits.
const MAX_SEARCHED_VALUES: usize = 32;

/// `a * (1 / b)` for the quotient `a / b` of a node, if that is as exact and `b` is constant.
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

/// The reciprocals of a constant, unless one overflows or loses bits as a subnormal.
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

/// Whether a normal number is a power of two.
fn is_power_of_two(v: f64) -> bool {
    v.to_bits() & ((1 << 52) - 1) == 0
}

/// Whether a quotient becomes a code: an integer, or a float of at most eight bits.
fn is_rounded(edit: &Edit, node: NodeId) -> bool {
    edit.users(node.into()).iter().any(|&(user, _)| match edit.graph.op(user) {
        Op::Unary(UnaryOp::Round) => true,
        Op::Cast { to, .. } => to.bits() <= 8,
        _ => false,
    })
}

/// Whether the last place of a node's dividend is undefined; `alone`: only values that lead nowhere else but to the
/// quotient count.
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
        if cone.len() > MAX_SEARCHED_VALUES {
            return false;
        }
        cone.push(v.node);
        match edit.graph.op(v.node) {
            Op::Input(..) | Op::Constant(_) | Op::Dims(_) | Op::Iota { .. } => {}
            // The range by which data is quantized: a scale that others compute too.
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

/// Whether the result's elements are those of the operands, or rounded only once.
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
