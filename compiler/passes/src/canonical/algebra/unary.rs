//! Identities of element-wise functions of one operand, and of conversions.

use crate::support::edit::Edit;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, DTypeClass, Graph, NodeId, Op, Tensor, UnaryOp, Value};

pub(crate) fn simplify(edit: &mut Edit, node: NodeId, op: UnaryOp) -> Result<Option<Value>> {
    use UnaryOp::{Abs, Ceil, Floor, Log, Neg, Not, Round};
    let x = edit.graph.operands(node)[0];
    let integral = edit.dtype(x).is_int();
    let inner = edit.graph.op(x.node).clone();
    let inner_operands = edit.graph.operands(x.node);
    match (op, inner) {
        (Floor | Ceil | Round, _) if integral => Ok(Some(x)),
        (Floor | Ceil | Round, Op::Unary(Floor | Ceil | Round)) => Ok(Some(x)),
        (Floor | Ceil | Round, _) if is_whole(edit.graph, x) => Ok(Some(x)),
        (Neg, Op::Unary(Neg)) | (Not, Op::Unary(Not)) | (UnaryOp::BitNot, Op::Unary(UnaryOp::BitNot)) => {
            Ok(Some(inner_operands[0]))
        }
        (Abs, Op::Unary(Abs | UnaryOp::Sigmoid | UnaryOp::Softplus | UnaryOp::Exp | UnaryOp::Sqrt)) => Ok(Some(x)),
        (Abs, Op::Unary(Neg)) => edit.add(Op::Unary(Abs), &[inner_operands[0]]).map(Some),
        (Neg, Op::Binary(BinaryOp::Sub)) if edit.used_once(x) => {
            edit.add(Op::Binary(BinaryOp::Sub), &[inner_operands[1], inner_operands[0]]).map(Some)
        }
        // The sign is folded into the constant.
        (Neg, Op::Binary(BinaryOp::Mul))
            if edit.used_once(x) && edit.graph.as_constant(inner_operands[1]).is_some() =>
        {
            let negated = edit.add(Op::Unary(Neg), &[inner_operands[1]])?;
            edit.add(Op::Binary(BinaryOp::Mul), &[inner_operands[0], negated]).map(Some)
        }
        (Log, Op::Softmax { axis, log: false }) if edit.used_once(x) => {
            edit.add(Op::Softmax { axis, log: true }, &[inner_operands[0]]).map(Some)
        }
        _ => Ok(None),
    }
}

/// Whether a float holds a byte, or a byte plus a small integer.
fn is_whole(graph: &Graph, v: Value) -> bool {
    let of = |n: usize| graph.operand(v.node, n);
    match graph.op(v.node) {
        Op::Cast { .. } => of(0).is_some_and(|x| matches!(graph.ty(x).dtype, DType::U8 | DType::I8)),
        Op::Binary(BinaryOp::Add | BinaryOp::Sub) => {
            let small = |t: &Tensor| t.to_f64s().iter().all(|c| c.fract() == 0.0 && c.abs() <= 1024.0);
            let byte = |x: Value| matches!(graph.op(x.node), Op::Cast { .. }) && is_whole(graph, x);
            of(0).is_some_and(byte) && of(1).and_then(|c| graph.as_constant(c)).is_some_and(small)
        }
        _ => false,
    }
}

pub(crate) fn cast(edit: &mut Edit, node: NodeId, to: DType) -> Result<Option<Value>> {
    let x = edit.graph.operands(node)[0];
    if edit.dtype(x) == to {
        return Ok(Some(x));
    }
    let Op::Cast { to: middle, .. } = *edit.graph.op(x.node) else { return Ok(None) };
    let source = edit.graph.operands(x.node)[0];
    if !lossless(edit.dtype(source), middle) {
        return Ok(None);
    }
    let op = edit.graph.op(node).clone();
    if edit.dtype(source) == to { Ok(Some(source)) } else { edit.add(op, &[source]).map(Some) }
}

pub(crate) fn bitcast(edit: &mut Edit, node: NodeId, to: DType) -> Result<Option<Value>> {
    let x = edit.graph.operands(node)[0];
    if edit.dtype(x) == to {
        return Ok(Some(x));
    }
    let Op::Bitcast { .. } = edit.graph.op(x.node) else { return Ok(None) };
    let source = edit.graph.operands(x.node)[0];
    if edit.dtype(source) == to { Ok(Some(source)) } else { edit.add(Op::Bitcast { to }, &[source]).map(Some) }
}

/// Whether `to` represents every value of `from`.
fn lossless(from: DType, to: DType) -> bool {
    use DTypeClass::{Bool, Float, Signed, Unsigned};
    let mantissa = |t: DType| match t {
        DType::F64 => 53,
        DType::F32 => 24,
        DType::F16 => 11,
        DType::BF16 => 8,
        _ => 0,
    };
    match (from.class(), to.class()) {
        _ if from == to => true,
        (Bool, Bool) => true,
        (Bool, Signed | Unsigned) => true,
        (Bool, Float) => mantissa(to) > 0,
        (Signed, Signed) | (Unsigned, Unsigned) => from.bits() <= to.bits(),
        (Unsigned, Signed) => from.bits() < to.bits(),
        (Signed | Unsigned, Float) => from.bits() <= mantissa(to),
        (Float, Float) => {
            matches!((from, to), (DType::F32, DType::F64) | (DType::F16 | DType::BF16, DType::F32 | DType::F64))
        }
        (Signed, Unsigned) | (_, Bool) | (Float, Signed | Unsigned) => false,
    }
}
