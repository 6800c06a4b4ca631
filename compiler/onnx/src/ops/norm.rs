//! Normalisations.

use super::super::builder::{self, Builder};
use super::super::node::{Node, Results};
use super::conv::lp_norm;
use mcc_ir::{BinaryOp, DType, Dim, Error, Op, ReduceKind, Result, UnaryOp, Value};

/// `(x - mean) / sqrt(var + epsilon) * scale + bias`, with one parameter each per channel.
pub fn batch_norm(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let [scale, bias, mean, variance] = [n.input(1)?, n.input(2)?, n.input(3)?, n.input(4)?];
    if n.version >= 14 && n.flag("training_mode", false)? {
        return training_batch_norm(b, n, [x, scale, bias, mean, variance]);
    }
    if n.version < 9 && !n.flag("spatial", true)? {
        return Err(Error::unsupported("BatchNormalization that is not spatial"));
    }
    let y = scaled_and_shifted(b, n, x, [scale, bias, mean, variance])?;
    Ok(y.into())
}

fn scaled_and_shifted(b: &mut Builder, n: &Node, x: Value, parameters: [Value; 4]) -> Result<Value> {
    let [scale, bias, mean, variance] = parameters;
    let (rank, dtype) = (b.rank(x), b.dtype(x));
    let wide = b.dtype(variance);
    let v = b.with(BinaryOp::Add, variance, n.float("epsilon", 1e-5)?)?;
    let deviation = b.unary(UnaryOp::Sqrt, v)?;
    let scale = b.cast(scale, wide)?;
    let factor = b.over(scale, deviation)?;
    let mean = b.times(mean, factor)?;
    let bias = b.cast(bias, wide)?;
    let shift = b.minus(bias, mean)?;
    let axis = 1.min(rank.saturating_sub(1));
    let (factor, shift) = (b.along(factor, axis, rank)?, b.along(shift, axis, rank)?);
    let x = b.cast(x, wide)?;
    let y = b.times(x, factor)?;
    let y = b.plus(y, shift)?;
    b.cast(y, dtype)
}

fn training_batch_norm(b: &mut Builder, n: &Node, operands: [Value; 5]) -> Result<Results> {
    let [x, scale, bias, mean, variance] = operands;
    let axes: Vec<usize> = (0..b.rank(x)).filter(|&a| a != 1).collect();
    let momentum = n.float("momentum", 0.9)?;
    let current_mean = b.reduce(ReduceKind::Mean, x, &axes, true)?;
    let centred = b.minus(x, current_mean)?;
    let squares = b.times(centred, centred)?;
    let current_variance = b.reduce(ReduceKind::Mean, squares, &axes, false)?;
    let current_mean = b.squeeze(current_mean, &axes)?;
    let y = scaled_and_shifted(b, n, x, [scale, bias, current_mean, current_variance])?;
    let mut running = |old: Value, new: Value| -> Result<Value> {
        let old = b.with(BinaryOp::Mul, old, momentum)?;
        let new = b.with(BinaryOp::Mul, new, 1.0 - momentum)?;
        b.plus(old, new)
    };
    let (mean, variance) = (running(mean, current_mean)?, running(variance, current_variance)?);
    Ok([y, mean, variance].into())
}

/// Normalises over the trailing axes, at least in `f32`.
fn normalized(b: &mut Builder, x: Value, axis: usize, epsilon: f64, center: bool) -> Result<Value> {
    let dtype = b.dtype(x);
    let wide = if dtype == DType::F64 { dtype } else { DType::F32 };
    let x = b.cast(x, wide)?;
    b.add(Op::Normalize { axis, epsilon: epsilon.into(), center }, &[x])
}

/// `y * scale + bias` in the type of the normalised value, converted to the requested type.
fn affine(b: &mut Builder, y: Value, scale: Option<Value>, bias: Option<Value>, to: DType) -> Result<Value> {
    let wide = b.dtype(y);
    let mut y = y;
    if let Some(scale) = scale {
        let scale = b.cast(scale, wide)?;
        y = b.times(y, scale)?;
    }
    if let Some(bias) = bias {
        let bias = b.cast(bias, wide)?;
        y = b.plus(y, bias)?;
    }
    b.cast(y, to)
}

pub fn layer_norm(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let axis = builder::axis(n.int("axis", -1)?, b.rank(x))?;
    let epsilon = n.float("epsilon", 1e-5)?;
    let dtype = b.dtype(x);
    let y = normalized(b, x, axis, epsilon, true)?;
    let y = affine(b, y, Some(n.input(1)?), n.optional(2), dtype)?;
    let mut results = vec![y];
    if n.wants(1) || n.wants(2) {
        let (mean, deviation) = moments(b, x, axis, epsilon)?;
        results.extend([mean, deviation]);
    }
    Ok(results.into())
}

/// The mean, and the reciprocal of the standard deviation.
fn moments(b: &mut Builder, x: Value, axis: usize, epsilon: f64) -> Result<(Value, Value)> {
    let x = b.cast(x, DType::F32)?;
    let axes: Vec<usize> = (axis..b.rank(x)).collect();
    let mean = b.reduce(ReduceKind::Mean, x, &axes, true)?;
    let centred = b.minus(x, mean)?;
    let squares = b.times(centred, centred)?;
    let variance = b.reduce(ReduceKind::Mean, squares, &axes, true)?;
    let variance = b.with(BinaryOp::Add, variance, epsilon)?;
    let deviation = b.unary(UnaryOp::Sqrt, variance)?;
    Ok((mean, b.unary(UnaryOp::Reciprocal, deviation)?))
}

pub fn rms_norm(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let axis = builder::axis(n.int("axis", -1)?, b.rank(x))?;
    let dtype = b.dtype(n.input(1)?);
    let y = normalized(b, x, axis, n.float("epsilon", 1e-5)?, false)?;
    Ok(affine(b, y, Some(n.input(1)?), None, dtype)?.into())
}

/// com.microsoft: normalises a sum; the sum is the fourth result.
pub fn skip_layer_norm(b: &mut Builder, n: &Node) -> Result<Results> {
    let sum = b.plus(n.input(0)?, n.input(1)?)?;
    let sum = match n.optional(4) {
        Some(bias) => b.plus(sum, bias)?,
        None => sum,
    };
    let rank = b.extents_from(sum, 1, "input")?.len();
    let (axis, epsilon, dtype) = (rank - 1, n.float("epsilon", 1e-12)?, b.dtype(sum));
    let y = normalized(b, sum, axis, epsilon, true)?;
    let y = affine(b, y, Some(n.input(2)?), n.optional(3), dtype)?;
    let mut results = vec![y];
    if n.wants(1) || n.wants(2) || n.wants(3) {
        let (mean, deviation) = moments(b, sum, axis, epsilon)?;
        results.extend([mean, deviation, sum]);
    }
    Ok(results.into())
}

/// com.microsoft: the same without mean and bias.
pub fn skip_simplified_layer_norm(b: &mut Builder, n: &Node) -> Result<Results> {
    let sum = b.plus(n.input(0)?, n.input(1)?)?;
    let sum = match n.optional(3) {
        Some(bias) => b.plus(sum, bias)?,
        None => sum,
    };
    let (axis, dtype) = (b.extents_from(sum, 1, "input")?.len() - 1, b.dtype(sum));
    let y = normalized(b, sum, axis, n.float("epsilon", 1e-12)?, false)?;
    let y = affine(b, y, Some(n.input(2)?), None, dtype)?;
    let item = super::super::node::Item::Tensor;
    let absent = super::super::node::Item::Absent;
    Ok(Results(vec![item(y), absent.clone(), absent, item(sum)]))
}

pub fn instance_norm(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let shape = b.extents_from(x, 2, "input")?;
    let (rank, dtype) = (shape.len(), b.dtype(x));
    let inner: Dim = shape[2..].iter().product();
    let flat = b.reshape(x, vec![shape[0].clone(), shape[1].clone(), inner])?;
    let y = normalized(b, flat, 2, n.float("epsilon", 1e-5)?, true)?;
    let y = b.reshape(y, shape)?;
    let (scale, bias) = (b.along(n.input(1)?, 1, rank)?, b.along(n.input(2)?, 1, rank)?);
    Ok(affine(b, y, Some(scale), Some(bias), dtype)?.into())
}

/// Scale and bias have an element per group before version 21, and one per channel from then on.
pub fn group_norm(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let shape = b.extents_from(x, 2, "input X")?;
    let (rank, dtype) = (shape.len(), b.dtype(x));
    let groups = Dim::from(n.need("num_groups", n.try_int("num_groups")?)?);
    let numel: Dim = shape[1..].iter().product();
    let size = numel.floor_div(&groups);
    let flat = b.reshape(x, vec![shape[0].clone(), groups.clone(), size])?;
    let y = normalized(b, flat, 2, n.float("epsilon", 1e-5)?, true)?;
    let (scale, bias) = (n.input(1)?, n.input(2)?);
    if n.version < 21 {
        let (scale, bias) = (b.along(scale, 1, 3)?, b.along(bias, 1, 3)?);
        let y = affine(b, y, Some(scale), Some(bias), dtype)?;
        return Ok(b.reshape(y, shape)?.into());
    }
    let y = b.reshape(y, shape)?;
    let (scale, bias) = (b.along(scale, 1, rank)?, b.along(bias, 1, rank)?);
    Ok(affine(b, y, Some(scale), Some(bias), dtype)?.into())
}

pub fn lp_normalization(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let axis = builder::axis(n.int("axis", -1)?, b.rank(x))?;
    let p = u32::try_from(n.int("p", 2)?).map_err(|_| Error::invalid("attribute p is negative"))?;
    let norm = lp_norm(b, x, p, &[axis])?;
    // All zeros stay zeros.
    let zero = b.scalar_like(x, 0.0);
    let one = b.scalar_like(x, 1.0);
    let empty = b.binary(BinaryOp::Equal, norm, zero)?;
    let norm = b.select(empty, one, norm)?;
    Ok(b.over(x, norm)?.into())
}

pub fn mean_variance_normalization(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let axes = n.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let axes = builder::axes(&axes, b.rank(x))?;
    let mean = b.reduce(ReduceKind::Mean, x, &axes, true)?;
    let centred = b.minus(x, mean)?;
    let squares = b.times(centred, centred)?;
    let variance = b.reduce(ReduceKind::Mean, squares, &axes, true)?;
    let deviation = b.unary(UnaryOp::Sqrt, variance)?;
    let deviation = b.with(BinaryOp::Add, deviation, 1e-9)?;
    Ok(b.over(centred, deviation)?.into())
}

/// `x / (bias + alpha / size * sum of squares of neighbouring channels)^beta`.
pub fn lrn(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let shape = b.extents_from(x, 2, "input X")?;
    let size = n.need("size", n.try_int("size")?)?;
    if size < 1 {
        return Err(
            Error::invalid(format!("attribute size is {size}")).help("it must be a positive number of channels")
        );
    }
    b.budget.nodes(size as u64)?;
    let before = (size - 1) / 2;
    let (mut low, mut high) = (vec![Dim::ZERO; shape.len()], vec![Dim::ZERO; shape.len()]);
    (low[1], high[1]) = (Dim::from(before), Dim::from(size - 1 - before));
    let squares = b.times(x, x)?;
    let padded = b.pad_zeros(squares, low, high)?;
    let mut sum = b.slice(padded, 1, Dim::ZERO, shape[1].clone())?;
    for i in 1..size {
        let shifted = b.slice(padded, 1, Dim::from(i), shape[1].clone())?;
        sum = b.plus(sum, shifted)?;
    }
    let sum = b.with(BinaryOp::Mul, sum, n.float("alpha", 0.0001)? / size as f64)?;
    let sum = b.with(BinaryOp::Add, sum, n.float("bias", 1.0)?)?;
    let divisor = b.with(BinaryOp::Pow, sum, n.float("beta", 0.75)?)?;
    Ok(b.over(x, divisor)?.into())
}
