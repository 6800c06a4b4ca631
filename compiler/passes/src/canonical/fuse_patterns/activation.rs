//! `1 / (1 + exp(-x))` and `log(1 + exp(x))`: as primitives they neither overflow nor need a division. `x (1 + erf(x /
//! √2))`: as a primitive it takes half as many instructions.

use super::{binary, scaled, unary};
use crate::support::edit::Edit;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, Op, UnaryOp, Value};

pub(crate) fn match_at(edit: &mut Edit, value: Value) -> Result<Option<Value>> {
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
    if let Some((x, factor)) = gelu(edit, value) {
        let y = edit.add(Op::Unary(UnaryOp::Gelu), &[x])?;
        if factor == 1.0 {
            return Ok(Some(y));
        }
        let factor = edit.scalar(edit.dtype(y), factor);
        return edit.add(Op::Binary(BinaryOp::Mul), &[y, factor]).map(Some);
    }
    let Some((n, d)) = binary(edit, value, BinaryOp::Div) else { return Ok(None) };
    let Some(x) = one_plus_exp(edit, d) else { return Ok(None) };
    let sigmoid = sigmoid_of_negated(edit, x)?;
    edit.add(Op::Binary(BinaryOp::Mul), &[n, sigmoid]).map(Some)
}

/// `x` and a factor if a value is `factor * gelu(x)`: a product of `x`, possibly scaled, and `1 + erf(x / √2)`.
fn gelu(edit: &Edit, value: Value) -> Option<(Value, f64)> {
    let (a, b) = binary(edit, value, BinaryOp::Mul)?;
    [(a, b), (b, a)].into_iter().find_map(|(y, gate)| {
        let (e, one) = binary(edit, gate, BinaryOp::Add)?;
        let (x, c) = scaled(edit, unary(edit, e, UnaryOp::Erf)?)?;
        // As exact as the type permits.
        let rounding = if edit.dtype(value).size() < 4 { 4e-3 } else { 1e-6 };
        let near = |c: f64| (c - std::f64::consts::FRAC_1_SQRT_2).abs() < rounding;
        let same_type = edit.graph.ty(x) == edit.graph.ty(value);
        if !same_type || edit.splat(one) != Some(1.0) || !near(c) {
            return None;
        }
        if y == x {
            return Some((x, 2.0));
        }
        let (inner, scale) = scaled(edit, y)?;
        (inner == x).then_some((x, 2.0 * scale))
    })
}

/// `x` if a value is `exp(x) + 1`.
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
