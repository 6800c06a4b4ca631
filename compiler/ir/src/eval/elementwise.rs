//! Element-wise operations.

use super::number::{int_range, wide};
use super::{math, movement};
use crate::tensor::{decode_f64, decode_i64, encode_f64, encode_i64, encode_saturating};
use crate::{BinaryOp, DType, DTypeClass, Tensor, UnaryOp};
use crate::{Error, Result};

pub(super) fn unary(f: UnaryOp, x: &Tensor) -> Result<Tensor> {
    let dtype = x.dtype();
    if let Some(float) = math::float_function(f).filter(|_| dtype.is_float()) {
        return map_floats(x, dtype, float);
    }
    match f {
        UnaryOp::IsNan => map_floats(x, DType::Bool, |v| f64::from(v.is_nan())),
        UnaryOp::IsInf => map_floats(x, DType::Bool, |v| f64::from(v.is_infinite())),
        UnaryOp::Neg => map_ints(x, |v| -v),
        UnaryOp::Abs => map_ints(x, i128::abs),
        UnaryOp::Sign => map_ints(x, i128::signum),
        UnaryOp::Not => map_ints(x, |v| i128::from(v == 0)),
        UnaryOp::BitNot => map_ints(x, |v| !v),
        other => Err(Error::internal(format!("{other:?} of {dtype}"))),
    }
}

fn map_floats(x: &Tensor, to: DType, f: impl Fn(f64) -> f64) -> Result<Tensor> {
    let mut data = Vec::with_capacity(x.numel() * to.size());
    if (x.dtype(), to) == (DType::F32, DType::F32) {
        let (elements, _) = x.data().as_chunks::<4>();
        data.extend(elements.iter().flat_map(|&b| (f(f64::from(f32::from_le_bytes(b))) as f32).to_le_bytes()));
    } else {
        for b in x.data().chunks_exact(x.dtype().size()) {
            encode_f64(to, f(decode_f64(x.dtype(), b)), &mut data);
        }
    }
    Tensor::new(to, x.shape().to_vec(), data.into())
}

fn map_ints(x: &Tensor, f: impl Fn(i128) -> i128) -> Result<Tensor> {
    let dtype = x.dtype();
    let mut data = Vec::with_capacity(x.data().len());
    for b in x.data().chunks_exact(dtype.size()) {
        encode_i64(dtype, f(wide(dtype, decode_i64(dtype, b))) as i64, &mut data);
    }
    Tensor::new(dtype, x.shape().to_vec(), data.into())
}

pub(super) fn binary(f: BinaryOp, a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let (a, b) = (movement::broadcast(a, shape)?, movement::broadcast(b, shape)?);
    let dtype = a.dtype();
    let to = if f.is_comparison() { DType::Bool } else { dtype };
    let mut data = Vec::with_capacity(a.numel() * to.size());
    match float_binary(f).filter(|_| (dtype, to) == (DType::F32, DType::F32)) {
        Some(f) => {
            let f32_at = |b: [u8; 4]| f64::from(f32::from_le_bytes(b));
            let pairs = a.data().as_chunks::<4>().0.iter().zip(b.data().as_chunks::<4>().0);
            data.extend(pairs.flat_map(|(&x, &y)| (f(f32_at(x), f32_at(y)) as f32).to_le_bytes()));
        }
        None => {
            let size = dtype.size();
            for (x, y) in a.data().chunks_exact(size).zip(b.data().chunks_exact(size)) {
                binary_element(f, dtype, x, y, &mut data);
            }
        }
    }
    Tensor::new(to, shape.to_vec(), data.into())
}

/// Appends the result for a pair of elements.
pub(super) fn binary_element(f: BinaryOp, dtype: DType, a: &[u8], b: &[u8], out: &mut Vec<u8>) {
    if dtype.is_float() {
        let (x, y) = (decode_f64(dtype, a), decode_f64(dtype, b));
        match (float_binary(f), compare(f, x.partial_cmp(&y))) {
            (_, Some(truth)) => out.push(u8::from(truth)),
            (Some(f), None) => encode_f64(dtype, f(x, y), out),
            // Inference rejects bitwise operations on floats.
            (None, None) => encode_f64(dtype, f64::NAN, out),
        }
        return;
    }
    let (x, y) = (wide(dtype, decode_i64(dtype, a)), wide(dtype, decode_i64(dtype, b)));
    match compare(f, Some(x.cmp(&y))) {
        Some(truth) => out.push(u8::from(truth)),
        None => encode_i64(dtype, int_binary(f, dtype, x, y) as i64, out),
    }
}

/// The result of a comparison, given the order of the operands (`None` with NaN); `None` for other operations.
fn compare(f: BinaryOp, order: Option<std::cmp::Ordering>) -> Option<bool> {
    use BinaryOp::*;
    match f {
        Equal => Some(order.is_some_and(|o| o.is_eq())),
        Less => Some(order.is_some_and(|o| o.is_lt())),
        LessOrEqual => Some(order.is_some_and(|o| o.is_le())),
        Greater => Some(order.is_some_and(|o| o.is_gt())),
        GreaterOrEqual => Some(order.is_some_and(|o| o.is_ge())),
        Add | Sub | Mul | Div | Pow | Min | Max | Mod | Rem | And | Or | Xor | ShiftLeft | ShiftRight => None,
    }
}

fn float_binary(f: BinaryOp) -> Option<fn(f64, f64) -> f64> {
    use BinaryOp::*;
    Some(match f {
        Add => |a, b| a + b,
        Sub => |a, b| a - b,
        Mul => |a, b| a * b,
        Div => |a, b| a / b,
        Pow => f64::powf,
        Min => |a, b| if a.is_nan() || a < b { a } else { b },
        Max => |a, b| if a.is_nan() || a > b { a } else { b },
        Mod => |a, b| {
            let rest = a % b;
            if rest == 0.0 {
                0f64.copysign(b)
            } else if (rest < 0.0) != (b < 0.0) {
                rest + b
            } else {
                rest
            }
        },
        Rem => |a, b| a % b,
        And | Or | Xor | ShiftLeft | ShiftRight | Equal | Less | LessOrEqual | Greater | GreaterOrEqual => return None,
    })
}

/// The exact result, to be wrapped to the type; not for comparisons.
fn int_binary(f: BinaryOp, dtype: DType, a: i128, b: i128) -> i128 {
    use BinaryOp::*;
    let bits = i128::from(dtype.bits());
    match f {
        Add => a + b,
        Sub => a - b,
        Mul => a.wrapping_mul(b),
        Div => a.checked_div(b).unwrap_or(0),
        Pow => int_pow(a, b),
        Min => a.min(b),
        Max => a.max(b),
        Mod if b == 0 => 0,
        Mod => a - b * (a.div_euclid(b) - i128::from(b < 0 && a.rem_euclid(b) != 0)),
        Rem => a.checked_rem(b).unwrap_or(0),
        And => a & b,
        Or => a | b,
        Xor => a ^ b,
        ShiftLeft if (0..bits).contains(&b) => a << b,
        // Logical: only the bits of the type, without the copies of the sign above them.
        ShiftRight if (0..bits).contains(&b) => (a & ((1 << bits) - 1)) >> b,
        ShiftLeft | ShiftRight => 0,
        Equal | Less | LessOrEqual | Greater | GreaterOrEqual => 0,
    }
}

/// Negative exponents truncate the reciprocal power.
fn int_pow(base: i128, exponent: i128) -> i128 {
    match (base, exponent) {
        (1, _) => 1,
        (-1, e) => {
            if e % 2 == 0 {
                1
            } else {
                -1
            }
        }
        (_, e) if e < 0 => 0,
        // Square and multiply, wrapping.
        (b, e) => (0..128).rev().fold(1i128, |acc, bit| {
            let squared = acc.wrapping_mul(acc);
            if e >> bit & 1 == 1 { squared.wrapping_mul(b) } else { squared }
        }),
    }
}

pub(super) fn select(condition: &Tensor, a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let condition = movement::broadcast(condition, shape)?;
    let (a, b) = (movement::broadcast(a, shape)?, movement::broadcast(b, shape)?);
    let size = a.dtype().size();
    let mut data = Vec::with_capacity(a.data().len());
    for (i, &c) in condition.data().iter().enumerate() {
        let from = if c != 0 { &a } else { &b };
        data.extend_from_slice(&from.data()[i * size..(i + 1) * size]);
    }
    Tensor::new(a.dtype(), shape.to_vec(), data.into())
}

pub(super) fn cast(x: &Tensor, to: DType, saturate: bool) -> Result<Tensor> {
    let from = x.dtype();
    if from == to {
        return Ok(x.clone());
    }
    let mut data = Vec::with_capacity(x.numel() * to.size());
    let elements = x.data().chunks_exact(from.size());
    match (from.class(), to.class()) {
        (DTypeClass::Float, DTypeClass::Float) => {
            elements.for_each(|b| encode_saturating(to, decode_f64(from, b), saturate, &mut data));
        }
        (DTypeClass::Float, DTypeClass::Bool) => data.extend(elements.map(|b| u8::from(decode_f64(from, b) != 0.0))),
        (DTypeClass::Float, _) => {
            elements.for_each(|b| encode_i64(to, float_to_int(decode_f64(from, b), to), &mut data));
        }
        (_, DTypeClass::Float) if to == DType::F32 => {
            // Directly to f32: through f64 large integers would be rounded twice.
            let single = |b: &[u8]| wide(from, decode_i64(from, b)) as f32;
            data.extend(elements.flat_map(|b| single(b).to_le_bytes()));
        }
        (_, DTypeClass::Float) => {
            let double = |b: &[u8]| wide(from, decode_i64(from, b)) as f64;
            elements.for_each(|b| encode_saturating(to, double(b), saturate, &mut data));
        }
        (_, _) => elements.for_each(|b| encode_i64(to, decode_i64(from, b), &mut data)),
    }
    Tensor::new(to, x.shape().to_vec(), data.into())
}

/// Truncates; whole-byte types saturate (NaN is 0), smaller ones wrap as in ONNX.
fn float_to_int(v: f64, to: DType) -> i64 {
    if to.bits() < 8 {
        return v as i64;
    }
    let (least, most) = int_range(to);
    (v as i128).clamp(least, most) as i64
}
