//! What scales and zero points must be. Those that are no constants are taken as they come.

use super::super::builder::{self, Builder};
use super::super::node::Node;
use crate::ir::{DType, DTypeClass, Value};
use crate::{Error, Result};

/// An input by its number, and its name in the operator's definition.
pub type Named = (usize, &'static str);

/// How many scales and zero points there may be.
#[derive(Debug, Clone, Copy)]
pub enum Spread {
    /// One.
    Whole,
    /// One, or one an element of an axis of a tensor; the axis as the attribute `axis` gives it, or as the operator says.
    Axis(Value, i64),
}

/// Checks the scale of a quantization, which divides: positive and finite.
///
/// # Errors
/// When it cannot be one.
pub fn divisor(b: &mut Builder, n: &Node, scale: Named) -> Result<()> {
    values(b, n, scale, |v| v.is_finite() && v > 0.0, "positive and finite")
}

/// Checks the scale of a dequantization, which multiplies: finite. Zero gives zeros, as the operator is defined.
///
/// # Errors
/// When it cannot be one.
pub fn factor(b: &mut Builder, n: &Node, scale: Named) -> Result<()> {
    values(b, n, scale, f64::is_finite, "finite")
}

fn values(b: &mut Builder, n: &Node, (input, name): Named, good: fn(f64) -> bool, must: &str) -> Result<()> {
    let scale = n.input(input)?;
    let dtype = b.dtype(scale);
    if !dtype.is_float() {
        return Err(Error::invalid(format!("input {name} is {}, not a float", b.ty(scale))));
    }
    let Some(known) = b.known_floats(scale) else { return Ok(()) };
    match known.iter().position(|&v| !good(v)) {
        Some(at) => Err(Error::invalid(format!("input {name} is {} at element {at}", known[at]))
            .help(format!("a scale must be {must}: calibrate and quantize this tensor again"))),
        None => Ok(()),
    }
}

/// Checks a zero point: of the type that is quantized to or from, and as many as there are scales.
///
/// # Errors
/// When it contradicts.
pub fn zero_point(b: &mut Builder, n: &Node, scale: Named, zero: Named, codes: Option<DType>) -> Result<()> {
    let Some(zero_point) = n.optional(zero.0) else { return Ok(()) };
    let dtype = b.dtype(zero_point);
    if let Some(codes) = codes.filter(|&codes| codes != dtype) {
        return Err(Error::invalid(format!("input {} is {dtype} for a tensor of {codes}", zero.1))
            .help("a zero point has the type of the quantized tensor"));
    }
    if matches!(dtype, DType::I32 | DType::U32) || dtype.class() == DTypeClass::Float {
        let known = b.known_floats(zero_point).unwrap_or_default();
        if let Some(other) = known.iter().find(|&&z| z != 0.0) {
            return Err(Error::invalid(format!("input {} is {other}", zero.1))
                .help(format!("the zero point of a tensor of {dtype} is zero, or left out")));
        }
    }
    let (scale_shape, shape) = (b.shape(n.input(scale.0)?), b.shape(zero_point));
    let count = |shape: &[crate::ir::Dim]| shape.iter().product::<crate::ir::Dim>().as_const();
    match (count(&scale_shape), count(&shape)) {
        (Some(scales), Some(zeros)) if scales != zeros => {
            Err(Error::invalid(format!("input {} has {zeros} elements, but {} has {scales}", zero.1, scale.1))
                .help("there is one zero point a scale"))
        }
        _ => Ok(()),
    }
}

/// Checks that a parameter has one element, or one an element of an axis.
///
/// # Errors
/// When it has another number.
pub fn spread(b: &mut Builder, n: &Node, (input, name): Named, spread: Spread) -> Result<()> {
    let Some(p) = n.optional(input) else { return Ok(()) };
    let Some(count) = b.ty(p).numel().as_const() else { return Ok(()) };
    if count == 1 {
        return Ok(());
    }
    let Spread::Axis(x, axis) = spread else {
        return Err(Error::invalid(format!("input {name} has {count} elements"))
            .help("this operator takes one scale and zero point a tensor"));
    };
    let axis = builder::axis(axis, b.rank(x)).map_err(|e| e.within("attribute axis"))?;
    match b.shape(x)[axis].as_const() {
        Some(extent) if extent != count => {
            Err(Error::invalid(format!("input {name} has {count} elements for axis {axis} of {}", b.ty(x)))
                .help(format!("it needs 1 or {extent}, or another attribute axis")))
        }
        _ => Ok(()),
    }
}

/// Checks scales in blocks along an axis: as many as the attribute `block_size` makes of it.
///
/// # Errors
/// When they contradict.
pub fn blocks(b: &mut Builder, x: Value, (p, name): (Value, &str), axis: i64, block: i64) -> Result<()> {
    if block < 0 {
        return Err(Error::invalid(format!("attribute block_size is {block}")).help("it is 0, or a block's elements"));
    }
    let axis = builder::axis(axis, b.rank(x)).map_err(|e| e.within("attribute axis"))?;
    let (shape, parts) = (b.shape(x), b.shape(p));
    if shape.len() != parts.len() {
        return Err(Error::invalid(format!("input {name} is {} for {} in blocks", b.ty(p), b.ty(x)))
            .help("blocked scales have the rank of what is quantized; block_size 0 stands for scales of an axis"));
    }
    for (n, (extent, count)) in shape.iter().zip(&parts).enumerate() {
        let (Some(extent), Some(count)) = (extent.as_const(), count.as_const()) else { continue };
        let want = if n == axis { (extent + block - 1) / block } else { extent };
        if count != want {
            return Err(Error::invalid(format!(
                "input {name} is {} for {} with block_size {block} along axis {axis}",
                b.ty(p),
                b.ty(x)
            ))
            .help(format!("axis {n} of it must have {want} elements")));
        }
    }
    Ok(())
}
