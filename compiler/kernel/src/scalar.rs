//! Element-wise functions on registers: each primitive for each element type, with the operands' number of lanes.
//!
//! Results are in the range of the type again (narrow integers wrap); `Bool` results are `I32` 0 or 1. A `Bool` made by
//! a comparison is used as the comparison's mask.

use super::kir::{Bin, Builder, Cmp, Elem, Inst, Ty, Un, Val};
use super::math;
use super::numbers::{by_lanes, cast, wrap};
use mcc_ir::{BinaryOp, DType, DTypeClass, UnaryOp};

/// A function of one operand of type `dtype`.
pub fn unary(k: &mut Builder, op: UnaryOp, dtype: DType, x: Val) -> Val {
    if dtype.is_float() { float_unary(k, op, x) } else { int_unary(k, op, dtype, x) }
}

fn float_unary(k: &mut Builder, op: UnaryOp, x: Val) -> Val {
    let ty = k.ty(x);
    match op {
        UnaryOp::Neg => k.un(Un::Neg, x),
        UnaryOp::Abs => k.un(Un::Abs, x),
        UnaryOp::Floor => k.un(Un::Floor, x),
        UnaryOp::Ceil => k.un(Un::Ceil, x),
        UnaryOp::Round => k.un(Un::Nearest, x),
        UnaryOp::Sqrt => k.un(Un::Sqrt, x),
        UnaryOp::Reciprocal => {
            let one = k.float(1.0, ty);
            k.bin(Bin::Div, one, x)
        }
        UnaryOp::Sign => {
            // Zeros and NaN are unchanged.
            let (zero, one, minus) = (k.float(0.0, ty), k.float(1.0, ty), k.float(-1.0, ty));
            let negative = k.cmp(Cmp::Lt, x, zero);
            let sign = k.select(negative, minus, x);
            let positive = k.cmp(Cmp::Gt, x, zero);
            k.select(positive, one, sign)
        }
        UnaryOp::IsNan => {
            let mask = k.cmp(Cmp::Ne, x, x);
            truth(k, mask)
        }
        UnaryOp::IsInf => {
            let (abs, infinity) = (k.un(Un::Abs, x), k.float(f64::INFINITY, ty));
            let mask = k.cmp(Cmp::Eq, abs, infinity);
            truth(k, mask)
        }
        UnaryOp::Not | UnaryOp::BitNot => x,
        UnaryOp::Exp => math::exp(k, x),
        UnaryOp::Log => math::log(k, x),
        UnaryOp::Sin => math::sin(k, x),
        UnaryOp::Cos => math::cos(k, x),
        UnaryOp::Tan => math::tan(k, x),
        UnaryOp::Asin => math::asin(k, x),
        UnaryOp::Acos => math::acos(k, x),
        UnaryOp::Atan => math::atan(k, x),
        UnaryOp::Sinh => math::sinh(k, x),
        UnaryOp::Cosh => math::cosh(k, x),
        UnaryOp::Tanh => math::tanh(k, x),
        UnaryOp::Asinh => math::asinh(k, x),
        UnaryOp::Acosh => math::acosh(k, x),
        UnaryOp::Atanh => math::atanh(k, x),
        UnaryOp::Erf => math::erf(k, x),
        UnaryOp::Gelu => math::gelu(k, x),
        UnaryOp::Sigmoid => math::sigmoid(k, x),
        UnaryOp::Softplus => math::softplus(k, x),
    }
}

fn int_unary(k: &mut Builder, op: UnaryOp, dtype: DType, x: Val) -> Val {
    let ty = k.ty(x);
    let signed = dtype.class() == DTypeClass::Signed;
    match op {
        UnaryOp::Neg => {
            let v = k.un(Un::Neg, x);
            wrap(k, v, dtype)
        }
        UnaryOp::Abs if signed => {
            let v = k.un(Un::Abs, x);
            wrap(k, v, dtype)
        }
        UnaryOp::Sign if signed => {
            let (one, minus) = (k.int_of(1, ty), k.int_of(-1, ty));
            let v = k.bin(Bin::Min, x, one);
            k.bin(Bin::Max, v, minus)
        }
        UnaryOp::Sign => {
            let one = k.int_of(1, ty);
            k.bin(Bin::UMin, x, one)
        }
        UnaryOp::Abs | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => x,
        UnaryOp::Not => match as_mask(k, x) {
            Some(mask) => {
                let not = k.un(Un::Not, mask);
                truth(k, not)
            }
            None => {
                let one = k.int_of(1, ty);
                k.bin(Bin::Xor, x, one)
            }
        },
        UnaryOp::BitNot => {
            let v = k.un(Un::Not, x);
            wrap(k, v, dtype)
        }
        UnaryOp::IsNan | UnaryOp::IsInf => k.zero(ty.with(Elem::I32)),
        UnaryOp::Reciprocal => {
            let one = k.int_of(1, ty);
            divide(k, dtype, one, x)
        }
        // No ONNX operator uses these on integers; they are computed in floating point and truncated.
        UnaryOp::Sqrt
        | UnaryOp::Exp
        | UnaryOp::Log
        | UnaryOp::Sin
        | UnaryOp::Cos
        | UnaryOp::Tan
        | UnaryOp::Asin
        | UnaryOp::Acos
        | UnaryOp::Atan
        | UnaryOp::Sinh
        | UnaryOp::Cosh
        | UnaryOp::Tanh
        | UnaryOp::Asinh
        | UnaryOp::Acosh
        | UnaryOp::Atanh
        | UnaryOp::Erf
        | UnaryOp::Gelu
        | UnaryOp::Sigmoid
        | UnaryOp::Softplus => {
            let float = if ty.elem == Elem::I64 { DType::F64 } else { DType::F32 };
            let v = cast(k, x, dtype, float, false);
            let v = float_unary(k, op, v);
            cast(k, v, float, dtype, false)
        }
    }
}

/// A function of two operands of type `dtype`.
pub fn binary(k: &mut Builder, op: BinaryOp, dtype: DType, a: Val, b: Val) -> Val {
    if op.is_comparison() {
        let mask = comparison(k, op, dtype, a, b);
        return truth(k, mask);
    }
    match dtype.class() {
        DTypeClass::Float => float_binary(k, op, a, b),
        DTypeClass::Bool => bool_binary(k, op, a, b),
        DTypeClass::Signed | DTypeClass::Unsigned => int_binary(k, op, dtype, a, b),
    }
}

/// The mask of a comparison.
fn comparison(k: &mut Builder, op: BinaryOp, dtype: DType, a: Val, b: Val) -> Val {
    let unsigned = matches!(dtype, DType::U32 | DType::U64);
    let cmp = match (op, unsigned) {
        (BinaryOp::Less, false) => Cmp::Lt,
        (BinaryOp::Less, true) => Cmp::ULt,
        (BinaryOp::LessOrEqual, false) => Cmp::Le,
        (BinaryOp::LessOrEqual, true) => Cmp::ULe,
        (BinaryOp::Greater, false) => Cmp::Gt,
        (BinaryOp::Greater, true) => Cmp::UGt,
        (BinaryOp::GreaterOrEqual, false) => Cmp::Ge,
        (BinaryOp::GreaterOrEqual, true) => Cmp::UGe,
        _ => Cmp::Eq,
    };
    k.cmp(cmp, a, b)
}

fn float_binary(k: &mut Builder, op: BinaryOp, a: Val, b: Val) -> Val {
    match op {
        BinaryOp::Add => k.add(a, b),
        BinaryOp::Sub => k.sub(a, b),
        BinaryOp::Mul => k.mul(a, b),
        BinaryOp::Div => k.bin(Bin::Div, a, b),
        BinaryOp::Pow => math::pow(k, a, b),
        BinaryOp::Min => k.bin(Bin::Min, a, b),
        BinaryOp::Max => k.bin(Bin::Max, a, b),
        BinaryOp::Rem => math::rem(k, a, b),
        BinaryOp::Mod => {
            let zero = k.zero_like(a);
            let r = math::rem(k, a, b);
            let (r_negative, b_negative) = (k.cmp(Cmp::Lt, r, zero), k.cmp(Cmp::Lt, b, zero));
            let differ = k.bin(Bin::Xor, r_negative, b_negative);
            let inexact = k.cmp(Cmp::Ne, r, zero);
            let differ = k.bin(Bin::And, differ, inexact);
            let moved = k.add(r, b);
            k.select(differ, moved, r)
        }
        // Bit operations are undefined on floats; the importer never makes them.
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::ShiftLeft | BinaryOp::ShiftRight => a,
        BinaryOp::Equal | BinaryOp::Less | BinaryOp::LessOrEqual | BinaryOp::Greater | BinaryOp::GreaterOrEqual => {
            let mask = comparison(k, op, DType::F32, a, b);
            truth(k, mask)
        }
    }
}

/// On 0 and 1, sums and products are `or` and `and`, as in NumPy.
fn bool_binary(k: &mut Builder, op: BinaryOp, a: Val, b: Val) -> Val {
    let bin = match op {
        BinaryOp::And | BinaryOp::Mul | BinaryOp::Min => Bin::And,
        BinaryOp::Or | BinaryOp::Add | BinaryOp::Max => Bin::Or,
        BinaryOp::Xor | BinaryOp::Sub => Bin::Xor,
        _ => return int_binary(k, op, DType::U8, a, b),
    };
    match (as_mask(k, a), as_mask(k, b)) {
        (Some(x), Some(y)) if k.ty(x) == k.ty(y) => {
            let mask = k.bin(bin, x, y);
            truth(k, mask)
        }
        _ => k.bin(bin, a, b),
    }
}

fn int_binary(k: &mut Builder, op: BinaryOp, dtype: DType, a: Val, b: Val) -> Val {
    let unsigned = matches!(dtype, DType::U32 | DType::U64);
    match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => {
            let bin = match op {
                BinaryOp::Add => Bin::Add,
                BinaryOp::Sub => Bin::Sub,
                _ => Bin::Mul,
            };
            let v = k.bin(bin, a, b);
            wrap(k, v, dtype)
        }
        BinaryOp::Div => divide(k, dtype, a, b),
        BinaryOp::Rem | BinaryOp::Mod => {
            let r = remainder(k, dtype, a, b);
            if op == BinaryOp::Rem || dtype.class() == DTypeClass::Unsigned {
                return r;
            }
            let zero = k.zero_like(r);
            let inexact = k.cmp(Cmp::Ne, r, zero);
            let signs = k.bin(Bin::Xor, r, b);
            let differ = k.cmp(Cmp::Lt, signs, zero);
            let down = k.bin(Bin::And, inexact, differ);
            let moved = k.add(r, b);
            k.select(down, moved, r)
        }
        BinaryOp::Pow => power(k, dtype, a, b),
        BinaryOp::Min => k.bin(if unsigned { Bin::UMin } else { Bin::Min }, a, b),
        BinaryOp::Max => k.bin(if unsigned { Bin::UMax } else { Bin::Max }, a, b),
        BinaryOp::And => k.bin(Bin::And, a, b),
        BinaryOp::Or => k.bin(Bin::Or, a, b),
        BinaryOp::Xor => k.bin(Bin::Xor, a, b),
        BinaryOp::ShiftLeft => shift(k, Bin::Shl, dtype, a, b),
        BinaryOp::ShiftRight => shift(k, Bin::Shr, dtype, a, b),
        BinaryOp::Equal | BinaryOp::Less | BinaryOp::LessOrEqual | BinaryOp::Greater | BinaryOp::GreaterOrEqual => {
            let mask = comparison(k, op, dtype, a, b);
            truth(k, mask)
        }
    }
}

/// Truncating division; zero if the divisor is zero.
fn divide(k: &mut Builder, dtype: DType, a: Val, b: Val) -> Val {
    let ty = k.ty(a);
    if dtype.bits() <= 16 && k.as_int(b) != Some(0) {
        // Both operands are exact in `F32`, and the rounded quotient never reaches the next integer.
        let (x, y) = (k.convert(a, Elem::F32), k.convert(b, Elem::F32));
        let quotient = k.bin(Bin::Div, x, y);
        let quotient = k.convert(quotient, Elem::I32);
        let quotient = wrap(k, quotient, dtype);
        let zero = k.zero(ty);
        let by_zero = k.cmp(Cmp::Eq, b, zero);
        return k.select(by_zero, zero, quotient);
    }
    let unsigned = dtype.class() == DTypeClass::Unsigned;
    let constant = k.as_int(b);
    by_lanes(k, ty, |k, lane| {
        let x = k.lane(a, lane as u8);
        let y = lane_of(k, b, constant, lane);
        let (safe, by_zero, by_minus) = guard(k, y, constant, unsigned);
        let mut q = k.bin(if unsigned { Bin::UDiv } else { Bin::Div }, x, safe);
        if let Some(mask) = by_minus {
            let negated = k.un(Un::Neg, x);
            q = k.select(mask, negated, q);
        }
        if let Some(mask) = by_zero {
            let zero = k.zero_like(q);
            q = k.select(mask, zero, q);
        }
        q
    })
}

/// The remainder with the dividend's sign; zero if the divisor is zero.
fn remainder(k: &mut Builder, dtype: DType, a: Val, b: Val) -> Val {
    let ty = k.ty(a);
    let unsigned = dtype.class() == DTypeClass::Unsigned;
    let constant = k.as_int(b);
    by_lanes(k, ty, |k, lane| {
        let x = k.lane(a, lane as u8);
        let y = lane_of(k, b, constant, lane);
        // With a divisor of one instead of zero or minus one, the remainder is zero as required.
        let (safe, ..) = guard(k, y, constant, unsigned);
        k.bin(if unsigned { Bin::URem } else { Bin::Rem }, x, safe)
    })
}

fn lane_of(k: &mut Builder, v: Val, constant: Option<i64>, lane: u32) -> Val {
    let ty = k.ty(v).with_lanes(1);
    match constant {
        Some(c) => k.int_of(c, ty),
        None => k.lane(v, lane as u8),
    }
}

/// The divisor with 0 and (signed) -1 replaced, and masks of the replaced lanes.
fn guard(k: &mut Builder, y: Val, constant: Option<i64>, unsigned: bool) -> (Val, Option<Val>, Option<Val>) {
    if constant.is_some_and(|c| c != 0 && c != -1) {
        return (y, None, None);
    }
    let ty = k.ty(y);
    let (zero, one) = (k.int_of(0, ty), k.int_of(1, ty));
    let by_zero = k.cmp(Cmp::Eq, y, zero);
    if unsigned {
        let safe = k.select(by_zero, one, y);
        return (safe, Some(by_zero), None);
    }
    let minus = k.int_of(-1, ty);
    let by_minus = k.cmp(Cmp::Eq, y, minus);
    let either = k.bin(Bin::Or, by_zero, by_minus);
    let safe = k.select(either, one, y);
    (safe, Some(by_zero), Some(by_minus))
}

/// Integer power by squaring, wrapping; negative exponents truncate.
fn power(k: &mut Builder, dtype: DType, a: Val, b: Val) -> Val {
    let ty = k.ty(a);
    let (zero, one) = (k.int_of(0, ty), k.int_of(1, ty));
    let count = k.int(1);
    let (start, rounds) = (k.int(0), k.int(i64::from(dtype.bits())));
    let product = k.fold_loop(start, rounds, 1, &[one, a, b], |k, _, state| {
        let &[result, base, rest] = state else { return state.to_vec() };
        let bit = k.bin(Bin::And, rest, one);
        let odd = k.cmp(Cmp::Ne, bit, zero);
        let times = k.mul(result, base);
        let result = k.select(odd, times, result);
        let base = k.mul(base, base);
        let rest = k.bin(Bin::Shr, rest, count);
        vec![result, base, rest]
    });
    let result = wrap(k, product[0], dtype);
    if dtype.class() == DTypeClass::Unsigned {
        return result;
    }
    // For negative exponents, only the powers of 1 and -1 are not 0; the loop computes those correctly.
    let negative = k.cmp(Cmp::Lt, b, zero);
    let magnitude = k.un(Un::Abs, a);
    let unit = k.cmp(Cmp::Eq, magnitude, one);
    let other = k.select(unit, result, zero);
    k.select(negative, other, result)
}

/// Shifts by a per-lane amount; zero if the amount exceeds the width.
fn shift(k: &mut Builder, op: Bin, dtype: DType, a: Val, b: Val) -> Val {
    let ty = k.ty(a);
    let bits = i64::from(dtype.bits());
    let a = if op == Bin::Shr && dtype.bits() < 32 {
        let mask = k.int_of((1 << dtype.bits()) - 1, ty);
        k.bin(Bin::And, a, mask)
    } else {
        a
    };
    let v = match k.as_int(b) {
        Some(c) if (0..bits).contains(&c) => {
            let count = k.int(c);
            k.bin(op, a, count)
        }
        Some(_) => k.zero(ty),
        None => by_lanes(k, ty, |k, lane| {
            let (x, count) = (k.lane(a, lane as u8), k.lane(b, lane as u8));
            let one = ty.with_lanes(1);
            let (zero, limit) = (k.int_of(0, one), k.int_of(bits, one));
            let inside = k.cmp(Cmp::ULt, count, limit);
            let safe = k.select(inside, count, zero);
            let shifted = k.bin(op, x, safe);
            k.select(inside, shifted, zero)
        }),
    };
    wrap(k, v, dtype)
}

/// `condition ? a : b`, with a `Bool` in registers as condition.
pub fn select(k: &mut Builder, condition: Val, a: Val, b: Val) -> Val {
    let mask = mask_for(k, condition, k.ty(a));
    k.select(mask, a, b)
}

/// The mask of a `Bool` in registers, for values of a given type.
fn mask_for(k: &mut Builder, condition: Val, ty: Ty) -> Val {
    if let Some(mask) = as_mask(k, condition)
        && (ty.lanes == 1 || k.ty(mask).elem.bytes() == ty.elem.bytes())
    {
        return mask;
    }
    let as_wide = if ty.lanes == 1 { condition } else { k.convert(condition, ty.elem.int()) };
    let zero = k.zero_like(as_wide);
    k.cmp(Cmp::Ne, as_wide, zero)
}

/// A mask as a `Bool`.
fn truth(k: &mut Builder, mask: Val) -> Val {
    let int = k.mask_to_int(mask);
    k.convert(int, Elem::I32)
}

/// The mask that a `Bool` was made from, if any.
fn as_mask(k: &Builder, v: Val) -> Option<Val> {
    match *k.inst_of(v) {
        Inst::MaskToInt(mask) => Some(mask),
        Inst::Convert(int) => match *k.inst_of(int) {
            Inst::MaskToInt(mask) => Some(mask),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
#[path = "scalar_tests.rs"]
mod tests;
