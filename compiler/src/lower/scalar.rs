//! Element-wise functions on registers: each primitive for each element type, in as many lanes as the operands have.
//!
//! Results are in the range of the type again (narrow integers wrap); `Bool` results are `I32` 0 or 1.

use super::kir::{Builder, Val};
use crate::ir::{BinaryOp, DType, UnaryOp};

/// A function of one operand of type `dtype`.
pub fn unary(k: &mut Builder, op: UnaryOp, dtype: DType, x: Val) -> Val {
    let _ = (k, op, dtype, x);
    todo!()
}

/// A function of two operands of type `dtype`.
pub fn binary(k: &mut Builder, op: BinaryOp, dtype: DType, a: Val, b: Val) -> Val {
    let _ = (k, op, dtype, a, b);
    todo!()
}

/// `condition ? a : b`, the condition a `Bool` in registers.
pub fn select(k: &mut Builder, condition: Val, a: Val, b: Val) -> Val {
    let _ = (k, condition, a, b);
    todo!()
}
