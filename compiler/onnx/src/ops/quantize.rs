//! Quantization in all its forms, decomposed into conversions and arithmetic.

use super::super::builder::{self, Builder};
use super::super::node::{Node, Results};
use super::super::tensor;
use super::conv::conv_of;
use super::parameters::{self, Named, Spread, named};
use super::reduce::product;
use mcc_ir::{BinaryOp, DType, DTypeClass, Dim, Error, ReduceKind, Result, UnaryOp, Value};

/// The range of an integer type; for 32 bits, the range that an `f32` represents.
fn limits(dtype: DType) -> (f64, f64) {
    let bits = dtype.bits() as i32;
    match dtype.class() {
        DTypeClass::Signed if bits == 32 => (-(2f64.powi(31)), 2f64.powi(31) - 128.0),
        DTypeClass::Signed => (-(2f64.powi(bits - 1)), 2f64.powi(bits - 1) - 1.0),
        _ => (0.0, 2f64.powi(bits) - 1.0),
    }
}

/// A scale or zero point as a factor of `x`: one number, one per element of `axis`, or one per block along it.
fn parameter(b: &mut Builder, n: &Node, x: Value, p: Value, axis: i64) -> Result<Value> {
    let (rank, parts) = (b.rank(x), b.rank(p));
    if b.ty(p).numel().is(1) {
        return b.reshape(p, Vec::new());
    }
    let axis = builder::axis(axis, rank)?;
    if parts == 1 && n.int("block_size", 0)? == 0 {
        return b.along(p, axis, rank);
    }
    if parts != rank {
        return Err(Error::invalid(format!("a scale {} for {}", b.ty(p), b.ty(x))).help(
            "a scale must be one number, one per element of attribute axis, or one per block of attribute block_size",
        ));
    }
    let block = n.int("block_size", 0)?;
    if block <= 0 {
        return Ok(p);
    }
    per_block(b, p, axis, block, &b.shape(x)[axis].clone())
}

/// One element per block along an axis, repeated for each of the `extent` elements.
pub fn per_block(b: &mut Builder, p: Value, axis: usize, block: i64, extent: &Dim) -> Result<Value> {
    let mut wide = b.shape(p);
    let blocks = wide[axis].clone();
    let p = b.unsqueeze(p, &[axis + 1])?;
    wide.insert(axis + 1, Dim::from(block));
    let p = b.broadcast(p, wide.clone())?;
    wide.remove(axis + 1);
    wide[axis] = &blocks * &Dim::from(block);
    let p = b.reshape(p, wide)?;
    b.slice(p, axis, Dim::ZERO, extent.clone())
}

/// `saturate(round(x / scale) + zero)`; `saturate` decides the result for values outside the range of 8-bit floats.
pub fn quantized(
    b: &mut Builder,
    x: Value,
    scale: Value,
    zero: Option<Value>,
    to: DType,
    saturate: bool,
) -> Result<Value> {
    let y = b.over(x, scale)?;
    if to.is_float() {
        return b.add(mcc_ir::Op::Cast { to, saturate }, &[y]);
    }
    // Shorter floats cannot represent all codes.
    let wide = if b.dtype(y) == DType::F64 { DType::F64 } else { DType::F32 };
    let y = b.cast(y, wide)?;
    let mut y = b.unary(UnaryOp::Round, y)?;
    if let Some(zero) = zero {
        let zero = b.cast(zero, wide)?;
        y = b.plus(y, zero)?;
    }
    let (low, high) = limits(to);
    let y = b.clamp(y, low, high)?;
    b.cast(y, to)
}

/// `(x - zero) * scale`.
pub fn dequantized(b: &mut Builder, x: Value, scale: Value, zero: Option<Value>) -> Result<Value> {
    let wide = b.dtype(scale);
    let mut y = b.cast(x, wide)?;
    if let Some(zero) = zero
        && b.known_floats(zero).is_none_or(|z| z.iter().any(|&z| z != 0.0))
    {
        let zero = b.cast(zero, wide)?;
        y = b.minus(y, zero)?;
    }
    b.times(y, scale)
}

/// Checks the scales and zero points of [`quantize_linear`] and [`dequantize_linear`].
fn given(b: &mut Builder, n: &Node, x: Value, names: [&'static str; 2], axis: i64, codes: DType) -> Result<()> {
    let [scale, zero] = names;
    parameters::zero_point(b, n, named(1, scale), named(2, zero), Some(codes))?;
    let block = n.int("block_size", 0)?;
    if block != 0 {
        return parameters::blocks(b, x, n.input(1)?, scale, axis, block);
    }
    let given = b.ty(n.input(1)?);
    // With a single scale, the axis does not matter.
    if given.rank() > 1 && !given.numel().is(1) {
        return Err(Error::invalid(format!("input {scale} is {given} without a block_size"))
            .help("scales per axis must have rank 1; scales with more axes are blocks and need attribute block_size"));
    }
    parameters::spread(b, n, named(1, scale), Spread::Axis(x, axis))
}

pub fn quantize_linear(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, scale) = (n.input(0)?, n.input(1)?);
    let to = match (n.optional(2), n.int("output_dtype", 0)?) {
        (Some(zero), _) => b.dtype(zero),
        (None, 0) => DType::U8,
        (None, t) => tensor::dtype(t)?,
    };
    if let t @ 1.. = n.int("output_dtype", 0)?
        && tensor::dtype(t)? != to
    {
        return Err(Error::invalid(format!(
            "attribute output_dtype is {}, input y_zero_point {to}",
            tensor::dtype(t)?
        ))
        .help("both give the type of the result: leave one out"));
    }
    // Exporters quantize biases, though the operator is not defined for them.
    if !parameters::is_code(to) && to != DType::I32 {
        return Err(parameters::not_codes(&format!("a result of {to}")));
    }
    let from = b.dtype(x);
    if !(from.is_float() && from.bits() > 8 || from == DType::I32) {
        return Err(
            Error::invalid(format!("input x is {}", b.ty(x))).help("it must be of floats of 16 bits or more, or i32")
        );
    }
    let axis = n.int("axis", 1)?;
    parameters::divisor(b, n, named(1, "y_scale"))?;
    given(b, n, x, ["y_scale", "y_zero_point"], axis, to)?;
    // Division uses attribute precision's type, else the wider one of both, at least 32 bits.
    let wide = match n.int("precision", 0)? {
        0 if from == b.dtype(scale) && from.bits() > 32 => from,
        0 => DType::F32,
        t => tensor::dtype(t as i32)?,
    };
    if !wide.is_float() || wide.bits() < 16 {
        return Err(
            Error::invalid(format!("attribute precision is {wide}")).help("it must be a float type of 16 bits or more")
        );
    }
    let x = b.cast(x, wide)?;
    let scale = b.cast(scale, wide)?;
    let scale = parameter(b, n, x, scale, axis)?;
    let zero = n.optional(2).map(|z| parameter(b, n, x, z, axis)).transpose()?;
    let saturate = n.flag("saturate", true)?;
    Ok(quantized(b, x, scale, zero, to, saturate)?.into())
}

pub fn dequantize_linear(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, scale) = (n.input(0)?, n.input(1)?);
    let axis = n.int("axis", 1)?;
    let codes = b.dtype(x);
    if !parameters::is_code(codes) && codes != DType::I32 {
        return Err(parameters::not_codes(&format!("input x is {}", b.ty(x))));
    }
    parameters::factor(b, n, named(1, "x_scale"))?;
    given(b, n, x, ["x_scale", "x_zero_point"], axis, codes)?;
    let to = match n.int("output_dtype", 0)? {
        0 => b.dtype(scale),
        t => tensor::dtype(t)?,
    };
    if !to.is_float() {
        return Err(Error::invalid(format!("attribute output_dtype is {to}")).help("it must be a float type"));
    }
    let wide = b.cast(scale, if to == DType::F64 { DType::F64 } else { DType::F32 })?;
    let scale = parameter(b, n, x, wide, axis)?;
    let zero = n.optional(2).map(|z| parameter(b, n, x, z, axis)).transpose()?;
    let y = dequantized(b, x, scale, zero)?;
    Ok(b.cast(y, to)?.into())
}

/// Quantizes to eight bits over the range of the data and zero.
pub fn dynamic_quantize_linear(b: &mut Builder, n: &Node) -> Result<Results> {
    Ok(dynamically_quantized(b, n.input(0)?)?.into())
}

/// The codes, their scale and their zero point.
pub fn dynamically_quantized(b: &mut Builder, x: Value) -> Result<[Value; 3]> {
    let axes: Vec<usize> = (0..b.rank(x)).collect();
    let (low, high) = (b.reduce(ReduceKind::Min, x, &axes, false)?, b.reduce(ReduceKind::Max, x, &axes, false)?);
    let (low, high) = (b.with(BinaryOp::Min, low, 0.0)?, b.with(BinaryOp::Max, high, 0.0)?);
    let range = b.minus(high, low)?;
    let scale = b.with(BinaryOp::Div, range, 255.0)?;
    // All zeros define no scale: it is 1, as in ONNX Runtime.
    let (flat, one) = (b.with(BinaryOp::Equal, range, 0.0)?, b.scalar(DType::F32, 1.0));
    let scale = b.select(flat, one, scale)?;
    let ratio = b.over(low, scale)?;
    let zero = b.unary(UnaryOp::Neg, ratio)?;
    let zero = b.clamp(zero, 0.0, 255.0)?;
    let zero = b.unary(UnaryOp::Round, zero)?;
    let zero = b.cast(zero, DType::U8)?;
    let y = quantized(b, x, scale, Some(zero), DType::U8, true)?;
    Ok([y, scale, zero])
}

/// The codes minus their zero point, as `i32`.
pub fn centred(b: &mut Builder, x: Value, zero: Option<Value>) -> Result<Value> {
    let wide = b.cast(x, DType::I32)?;
    let Some(zero) = zero else { return Ok(wide) };
    if b.known_floats(zero).is_some_and(|z| z.iter().all(|&z| z == 0.0)) {
        return Ok(wide);
    }
    let zero = b.cast(zero, DType::I32)?;
    b.minus(wide, zero)
}

/// A zero point of the left matrix: one number, or one per row.
fn row_parameter(b: &mut Builder, p: Value) -> Result<Value> {
    match b.rank(p) {
        1 if !b.ty(p).numel().is(1) => b.unsqueeze(p, &[1]),
        1 => b.reshape(p, Vec::new()),
        _ => Ok(p),
    }
}

fn column_parameter(b: &mut Builder, p: Value) -> Result<Value> {
    if b.ty(p).numel().is(1) { b.reshape(p, Vec::new()) } else { Ok(p) }
}

pub fn matmul_integer(b: &mut Builder, n: &Node) -> Result<Results> {
    for (operand, name) in [(0, "a_zero_point"), (1, "b_zero_point")] {
        let (x, zero) = (n.input(operand)?, named(operand + 2, name));
        let codes = b.dtype(x);
        parameters::zero_type(b, n, zero, Some(codes))?;
        parameters::spread(b, n, zero, if operand == 0 { Spread::Rows(x) } else { Spread::Columns(x) })?;
    }
    let a_zero = n.optional(2).map(|z| row_parameter(b, z)).transpose()?;
    let b_zero = n.optional(3).map(|z| column_parameter(b, z)).transpose()?;
    let x = centred(b, n.input(0)?, a_zero)?;
    let y = centred(b, n.input(1)?, b_zero)?;
    Ok(product(b, x, y)?.into())
}

/// com.microsoft: quantizes the left operand, multiplies integers, and scales the result.
pub fn dynamic_quantize_matmul(b: &mut Builder, n: &Node) -> Result<Results> {
    factors(b, n, 1, [named(2, "b_scale"), named(3, "b_zero_point")], Spread::Columns(n.input(1)?))?;
    let [x, x_scale, x_zero] = dynamically_quantized(b, n.input(0)?)?;
    let (scales, zeros) = ([x_scale, n.input(2)?], [Some(x_zero), n.optional(3)]);
    Ok(integer_product(b, [x, n.input(1)?], scales, zeros, n.optional(4))?.into())
}

/// com.microsoft: a product of integers with a float result.
pub fn matmul_integer_to_float(b: &mut Builder, n: &Node) -> Result<Results> {
    let (operands, scales) = ([n.input(0)?, n.input(1)?], [n.input(2)?, n.input(3)?]);
    factors(b, n, 0, [named(2, "a_scale"), named(4, "a_zero_point")], Spread::Rows(operands[0]))?;
    factors(b, n, 1, [named(3, "b_scale"), named(5, "b_zero_point")], Spread::Columns(operands[1]))?;
    Ok(integer_product(b, operands, scales, [n.optional(4), n.optional(5)], n.optional(6))?.into())
}

/// Checks scale and zero point of an operand of codes.
pub fn factors(b: &mut Builder, n: &Node, operand: usize, [scale, zero]: [Named; 2], spread: Spread) -> Result<()> {
    let codes = b.dtype(n.input(operand)?);
    parameters::factor(b, n, scale)?;
    parameters::spread(b, n, scale, spread)?;
    parameters::zero_point(b, n, scale, zero, Some(codes))
}

/// A product of codes minus their zero points, scaled, with a float bias.
pub fn integer_product(
    b: &mut Builder,
    operands: [Value; 2],
    scales: [Value; 2],
    zeros: [Option<Value>; 2],
    bias: Option<Value>,
) -> Result<Value> {
    let a_zero = zeros[0].map(|z| row_parameter(b, z)).transpose()?;
    let b_zero = zeros[1].map(|z| column_parameter(b, z)).transpose()?;
    let x = centred(b, operands[0], a_zero)?;
    let y = centred(b, operands[1], b_zero)?;
    let z = product(b, x, y)?;
    let (a_scale, b_scale) = (row_parameter(b, scales[0])?, column_parameter(b, scales[1])?);
    let scale = b.times(a_scale, b_scale)?;
    let to = b.dtype(scale);
    let z = b.cast(z, to)?;
    let z = b.times(z, scale)?;
    match bias {
        Some(bias) => b.plus(z, bias),
        None => Ok(z),
    }
}

pub fn conv_integer(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, w) = (n.input(0)?, n.input(1)?);
    for (codes, zero, spread) in
        [(x, named(2, "x_zero_point"), Spread::Whole), (w, named(3, "w_zero_point"), Spread::Axis(w, 0))]
    {
        let codes = b.dtype(codes);
        parameters::zero_type(b, n, zero, Some(codes))?;
        parameters::spread(b, n, zero, spread)?;
    }
    let x_zero = n.optional(2).map(|z| b.reshape(z, Vec::new())).transpose()?;
    let w_zero = n.optional(3).map(|z| per_filter(b, z, w)).transpose()?;
    // The zero point is subtracted before padding, so that padding stands for zero.
    let x = centred(b, x, x_zero)?;
    let w = centred(b, w, w_zero)?;
    Ok(conv_of(b, n, x, w, None, 0.0)?.into())
}

fn per_filter(b: &mut Builder, p: Value, w: Value) -> Result<Value> {
    if b.ty(p).numel().is(1) {
        return b.reshape(p, Vec::new());
    }
    let rank = b.rank(w);
    b.along(p, 0, rank)
}

pub fn qlinear_conv(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, w) = (n.input(0)?, n.input(3)?);
    linear(b, n, ["x", "w", "y"], [Spread::Whole, Spread::Axis(w, 0), Spread::Whole])?;
    let columns = b.shape(w).first().cloned().unwrap_or(Dim::ONE);
    parameters::bias(b, n, named(8, "B"), &columns)?;
    let x_zero = b.reshape(n.input(2)?, Vec::new())?;
    let w_zero = per_filter(b, n.input(5)?, w)?;
    let rank = b.rank(w);
    let x = centred(b, x, Some(x_zero))?;
    let w = centred(b, w, Some(w_zero))?;
    let y = conv_of(b, n, x, w, n.optional(8), 0.0)?;
    let x_scale = b.reshape(n.input(1)?, Vec::new())?;
    let w_scale = n.input(4)?;
    let w_scale =
        if b.ty(w_scale).numel().is(1) { b.reshape(w_scale, Vec::new())? } else { b.along(w_scale, 1, rank)? };
    let scale = b.times(x_scale, w_scale)?;
    requantized(b, y, scale, n.input(6)?, n.input(7)?)
}

/// Checks two operands, each with its scale and zero point, and the result's scale and zero point.
fn linear(b: &mut Builder, n: &Node, names: [&'static str; 3], spreads: [Spread; 3]) -> Result<()> {
    let labels = |name: &str| match name {
        "x" => ("x_scale", "x_zero_point"),
        "w" => ("w_scale", "w_zero_point"),
        "a" => ("a_scale", "a_zero_point"),
        "b" => ("b_scale", "b_zero_point"),
        _ => ("y_scale", "y_zero_point"),
    };
    for (operand, name) in names[..2].iter().enumerate() {
        let (scale, zero) = labels(name);
        let first = 3 * operand;
        factors(b, n, first, [named(first + 1, scale), named(first + 2, zero)], spreads[operand])?;
    }
    let (scale, zero) = labels(names[2]);
    parameters::divisor(b, n, named(6, scale))?;
    parameters::spread(b, n, named(6, scale), spreads[2])?;
    parameters::zero_point(b, n, named(6, scale), named(7, zero), None)
}

/// Converts an `i32` accumulator with a scale to the result's scale and type.
fn requantized(b: &mut Builder, y: Value, scale: Value, to_scale: Value, to_zero: Value) -> Result<Results> {
    let to = b.dtype(to_zero);
    let wide = b.dtype(scale);
    let wide = if wide.bits() < 32 { DType::F32 } else { wide };
    let y = b.cast(y, wide)?;
    let scale = b.cast(scale, wide)?;
    let y = b.times(y, scale)?;
    let to_scale = b.cast(to_scale, wide)?;
    let (to_scale, to_zero) = (row_parameter(b, to_scale)?, row_parameter(b, to_zero)?);
    Ok(quantized(b, y, to_scale, Some(to_zero), to, true)?.into())
}

pub fn qlinear_matmul(b: &mut Builder, n: &Node) -> Result<Results> {
    let (rows, columns) = (Spread::Rows(n.input(0)?), Spread::Columns(n.input(3)?));
    linear(b, n, ["a", "b", "y"], [rows, columns, rows])?;
    let a_zero = row_parameter(b, n.input(2)?)?;
    let b_zero = column_parameter(b, n.input(5)?)?;
    let x = centred(b, n.input(0)?, Some(a_zero))?;
    let y = centred(b, n.input(3)?, Some(b_zero))?;
    let z = product(b, x, y)?;
    let (a_scale, b_scale) = (row_parameter(b, n.input(1)?)?, column_parameter(b, n.input(4)?)?);
    let scale = b.times(a_scale, b_scale)?;
    requantized(b, z, scale, n.input(6)?, n.input(7)?)
}
