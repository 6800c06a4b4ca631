//! `1 / (1 + exp(-x))` and `log(1 + exp(x))`: as primitives they neither overflow nor need a division.

use super::super::edit::Edit;
use super::{binary, unary};
use crate::Result;
use crate::ir::{BinaryOp, Op, UnaryOp, Value};

pub(super) fn match_at(edit: &mut Edit, value: Value) -> Result<Option<Value>> {
    if let Some(sum) = unary(edit, value, UnaryOp::Log) {
        return match one_plus_exp(edit, sum) {
            Some(x) => edit.add(Op::Unary(UnaryOp::Softplus), &[x]).map(Some),
            None => Ok(None),
        };
    }
    if let Some(sum) = unary(edit, value, UnaryOp::Reciprocal) {
        return match one_plus_exp(edit, sum) {
            Some(x) => sigmoid_of_negated(edit, x).map(Some),
            None => Ok(None),
        };
    }
    let Some((n, d)) = binary(edit, value, BinaryOp::Div) else { return Ok(None) };
    let Some(x) = one_plus_exp(edit, d) else { return Ok(None) };
    let sigmoid = sigmoid_of_negated(edit, x)?;
    edit.add(Op::Binary(BinaryOp::Mul), &[n, sigmoid]).map(Some)
}

/// `x` when a value is `exp(x) + 1`.
fn one_plus_exp(edit: &Edit, value: Value) -> Option<Value> {
    let (e, one) = binary(edit, value, BinaryOp::Add)?;
    let same = edit.splat(one) == Some(1.0) && edit.graph.ty(e) == edit.graph.ty(value);
    unary(edit, e, UnaryOp::Exp).filter(|_| same)
}

fn sigmoid_of_negated(edit: &mut Edit, x: Value) -> Result<Value> {
    let argument = match unary(edit, x, UnaryOp::Neg) {
        Some(positive) => positive,
        None => match binary(edit, x, BinaryOp::Mul) {
            Some((y, c)) if edit.graph.as_constant(c).is_some() => {
                let c = edit.add(Op::Unary(UnaryOp::Neg), &[c])?;
                edit.add(Op::Binary(BinaryOp::Mul), &[y, c])?
            }
            _ => edit.add(Op::Unary(UnaryOp::Neg), &[x])?,
        },
    };
    edit.add(Op::Unary(UnaryOp::Sigmoid), &[argument])
}
