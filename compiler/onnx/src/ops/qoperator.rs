//! `com.microsoft` operators on quantized tensors: dequantize the operands, compute, quantize the result.

use super::super::builder::{self, Builder};
use super::super::node::{Node, Results};
use super::conv;
use super::parameters::{self, Spread, named};
use super::quantize::{centred, dequantized, quantized};
use mcc_ir::{BinaryOp, DType, Dim, Error, Op, ReduceKind, Result, UnaryOp, Value};

/// Operand `n`, followed by its scale and zero point, dequantized.
fn operand(b: &mut Builder, n: &Node, first: usize) -> Result<Value> {
    let codes = b.dtype(n.input(first)?);
    let (scale, zero) = (named(first + 1, "scale"), named(first + 2, "zero_point"));
    parameters::factor(b, n, scale)?;
    parameters::spread(b, n, scale, Spread::Whole)?;
    parameters::zero_point(b, n, scale, zero, Some(codes))?;
    let scale = b.reshape(n.input(first + 1)?, Vec::new())?;
    let zero = n.optional(first + 2).map(|z| b.reshape(z, Vec::new())).transpose()?;
    dequantized(b, n.input(first)?, scale, zero)
}

/// Quantizes to the scale and zero point at `first`; without a zero point, to the type of `like`.
fn result(b: &mut Builder, n: &Node, y: Value, first: usize, like: usize) -> Result<Results> {
    let (scale, zero) = (named(first, "scale of the result"), named(first + 1, "zero_point of the result"));
    parameters::divisor(b, n, scale)?;
    parameters::spread(b, n, scale, Spread::Whole)?;
    parameters::zero_point(b, n, scale, zero, None)?;
    let scale = b.reshape(n.input(first)?, Vec::new())?;
    let zero = n.optional(first + 1).map(|z| b.reshape(z, Vec::new())).transpose()?;
    let to = match zero {
        Some(zero) => b.dtype(zero),
        None => b.dtype(n.input(like)?),
    };
    Ok(quantized(b, y, scale, zero, to, true)?.into())
}

fn binary(b: &mut Builder, n: &Node, f: BinaryOp) -> Result<Results> {
    let (x, y) = (operand(b, n, 0)?, operand(b, n, 3)?);
    let z = b.binary(f, x, y)?;
    result(b, n, z, 6, 0)
}

pub fn add(b: &mut Builder, n: &Node) -> Result<Results> {
    binary(b, n, BinaryOp::Add)
}

pub fn mul(b: &mut Builder, n: &Node) -> Result<Results> {
    binary(b, n, BinaryOp::Mul)
}

pub fn sigmoid(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = operand(b, n, 0)?;
    let y = b.unary(UnaryOp::Sigmoid, x)?;
    result(b, n, y, 3, 0)
}

pub fn leaky_relu(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = operand(b, n, 0)?;
    let y = super::elementwise::leaky_relu_of(b, x, n.float("alpha", 0.01)?)?;
    result(b, n, y, 3, 0)
}

pub fn softmax(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = operand(b, n, 0)?;
    let axis = builder::axis(n.int("axis", -1)?, b.rank(x))?;
    // Before opset 13 all axes from that one on count as one.
    let y = if n.int("opset", 13)? < 13 && axis + 1 != b.rank(x) {
        let shape = b.shape(x);
        let [outer, inner] = [&shape[..axis], &shape[axis..]].map(|part| part.iter().product::<Dim>());
        let rows = b.reshape(x, vec![outer, inner])?;
        let rows = b.add(Op::Softmax { axis: 1, log: false }, &[rows])?;
        b.reshape(rows, shape)?
    } else {
        b.add(Op::Softmax { axis, log: false }, &[x])?
    };
    result(b, n, y, 3, 0)
}

/// Transposes channels-last operands to channels-first; returns the permutation back.
fn channels_first(b: &mut Builder, n: &Node, x: Value) -> Result<(Value, Vec<usize>)> {
    if !n.flag("channels_last", false)? {
        return Ok((x, (0..b.rank(x)).collect()));
    }
    from_channels_last(b, x)
}

/// An image with its channels moved before its spatial axes, and the permutation back.
fn from_channels_last(b: &mut Builder, x: Value) -> Result<(Value, Vec<usize>)> {
    let rank = b.extents_from(x, 3, "an image with its channels last")?.len();
    let mut to: Vec<usize> = vec![0, rank - 1];
    to.extend(1..rank - 1);
    let mut back: Vec<usize> = vec![0];
    back.extend(2..rank);
    back.push(1);
    Ok((b.transpose(x, &to)?, back))
}

pub fn average_pool(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = operand(b, n, 0)?;
    let (x, back) = channels_first(b, n, x)?;
    let y = conv::average_pool_of(b, n, x)?;
    let y = b.transpose(y, &back)?;
    result(b, n, y, 3, 0)
}

pub fn global_average_pool(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = operand(b, n, 0)?;
    let (x, back) = channels_first(b, n, x)?;
    let axes: Vec<usize> = (2..b.rank(x)).collect();
    let y = b.reduce(ReduceKind::Mean, x, &axes, true)?;
    let y = b.transpose(y, &back)?;
    result(b, n, y, 3, 0)
}

pub fn nhwc_max_pool(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, back) = from_channels_last(b, n.input(0)?)?;
    let y = conv::max_pool_of(b, n, x)?;
    Ok(b.transpose(y, &back)?.into())
}

pub fn reduce_mean(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = operand(b, n, 0)?;
    let rank = b.rank(x);
    let axes = n.ints("axes")?.unwrap_or_else(|| (0..rank as i64).collect());
    let y = b.reduce(ReduceKind::Mean, x, &builder::axes(&axes, rank)?, n.flag("keepdims", true)?)?;
    result(b, n, y, 3, 0)
}

/// The result's scale and zero point come first, then three inputs per operand.
pub fn concat(b: &mut Builder, n: &Node) -> Result<Results> {
    if n.arity() < 5 || !(n.arity() - 2).is_multiple_of(3) {
        return Err(Error::invalid(format!("{} inputs", n.arity()))
            .help("give the result's scale and zero point, then each operand with its own"));
    }
    let mut parts = Vec::new();
    for first in (2..n.arity()).step_by(3) {
        parts.push(operand(b, n, first)?);
    }
    let axis = builder::axis(n.need("axis", n.try_int("axis")?)?, b.rank(parts[0]))?;
    let y = b.concat(&parts, axis)?;
    result(b, n, y, 0, 2)
}

pub fn where_(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, y) = (operand(b, n, 1)?, operand(b, n, 4)?);
    let z = b.select(n.input(0)?, x, y)?;
    result(b, n, z, 7, 1)
}

/// Returns floats if no result scale is given.
pub fn gemm(b: &mut Builder, n: &Node) -> Result<Results> {
    let (scale, zero) = (n.input(4)?, n.optional(5));
    let transposed = n.flag("transB", false)?;
    let (weights, columns) = (n.input(3)?, usize::from(!transposed));
    let (data, codes) = (b.dtype(n.input(0)?), b.dtype(weights));
    parameters::factor(b, n, named(1, "a_scale"))?;
    parameters::spread(b, n, named(1, "a_scale"), Spread::Whole)?;
    parameters::zero_point(b, n, named(1, "a_scale"), named(2, "a_zero_point"), Some(data))?;
    parameters::factor(b, n, named(4, "b_scale"))?;
    parameters::spread(b, n, named(4, "b_scale"), Spread::Axis(weights, columns as i64))?;
    parameters::zero_point(b, n, named(4, "b_scale"), named(5, "b_zero_point"), Some(codes))?;
    let out = b.shape(weights).get(columns).cloned().unwrap_or(Dim::ONE);
    parameters::bias(b, n, named(6, "C"), &out)?;
    // Parameters with several elements have one per column of the product.
    let one = |b: &mut Builder, p: Value| if b.ty(p).numel().is(1) { b.reshape(p, Vec::new()) } else { Ok(p) };
    let x_zero = n.optional(2).map(|z| one(b, z)).transpose()?;
    let w_zero = match zero {
        Some(zero) if b.ty(zero).numel().is(1) => Some(one(b, zero)?),
        Some(zero) => Some(b.along(zero, columns, 2)?),
        None => None,
    };
    let mut x = centred(b, n.input(0)?, x_zero)?;
    let mut w = centred(b, weights, w_zero)?;
    if n.flag("transA", false)? {
        x = b.transpose_last(x)?;
    }
    if transposed {
        w = b.transpose_last(w)?;
    }
    let mut y = b.matmul(x, w)?;
    let alpha = n.float("alpha", 1.0)?;
    let unit = {
        let (x_scale, w_scale) = (one(b, n.input(1)?)?, one(b, scale)?);
        b.times(x_scale, w_scale)?
    };
    // The bias is in units of the product of both scales, which alpha does not scale.
    if let Some(bias) = n.optional(6).filter(|_| alpha == 1.0) {
        y = b.plus(y, bias)?;
    }
    y = b.cast(y, DType::F32)?;
    y = b.times(y, unit)?;
    if alpha != 1.0 {
        y = b.with(BinaryOp::Mul, y, alpha)?;
        if let Some(bias) = n.optional(6) {
            let bias = b.cast(bias, DType::F32)?;
            let bias = b.times(bias, unit)?;
            y = b.plus(y, bias)?;
        }
    }
    match n.optional(7) {
        Some(_) => result(b, n, y, 7, 0),
        None => Ok(y.into()),
    }
}
