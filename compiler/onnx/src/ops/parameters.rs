//! Checks of scales and zero points. Values that are not constant are not checked.

use super::super::builder::{self, Builder};
use super::super::node::Node;
use mcc_ir::{DType, DTypeClass, Dim, Error, Result, Value};

/// An input of an operator.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// Its index.
    pub input: usize,
    /// Its name in the operator's definition.
    pub name: &'static str,
}

/// The input at an index, which has a name.
pub const fn named(input: usize, name: &'static str) -> Named {
    Named { input, name }
}

/// The valid numbers of scales and zero points.
#[derive(Debug, Clone, Copy)]
pub enum Spread {
    /// One.
    Whole,
    /// One, or one per element of an axis of a tensor; the attribute `axis` gives the axis, or else the number here.
    Axis(Value, i64),
    /// One, or one per row of a matrix, or per row of each matrix.
    Rows(Value),
    /// One, or one per column of a matrix, or per column of each matrix.
    Columns(Value),
}

/// Checks the scale of a quantization, which divides: it must be positive and finite.
///
/// # Errors
/// When it is not valid.
pub fn divisor(b: &mut Builder, n: &Node, scale: Named) -> Result<()> {
    values(b, n, scale, |v| v.is_finite() && v > 0.0, "positive and finite")
}

/// Checks the scale of a dequantization, which multiplies: it must be finite. Zero gives zeros, as defined.
///
/// # Errors
/// When it is not valid.
pub fn factor(b: &mut Builder, n: &Node, scale: Named) -> Result<()> {
    values(b, n, scale, f64::is_finite, "finite")
}

fn values(b: &mut Builder, n: &Node, Named { input, name }: Named, good: fn(f64) -> bool, must: &str) -> Result<()> {
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

/// Checks a zero point: its type must be that of the quantized tensor, its number that of the scales.
///
/// # Errors
/// When either differs.
pub fn zero_point(b: &mut Builder, n: &Node, scale: Named, zero: Named, codes: Option<DType>) -> Result<()> {
    let Some(zero_point) = n.optional(zero.input) else { return Ok(()) };
    let dtype = b.dtype(zero_point);
    zero_type(b, n, zero, codes)?;
    if matches!(dtype, DType::I32 | DType::U32) || dtype.class() == DTypeClass::Float {
        let known = b.known_floats(zero_point).unwrap_or_default();
        if let Some(other) = known.iter().find(|&&z| z != 0.0) {
            return Err(Error::invalid(format!("input {} is {other}", zero.name))
                .help(format!("the zero point of a tensor of {dtype} is zero, or left out")));
        }
    }
    let (scale_shape, shape) = (b.shape(n.input(scale.input)?), b.shape(zero_point));
    let count = |shape: &[Dim]| shape.iter().product::<Dim>().as_const();
    match (count(&scale_shape), count(&shape)) {
        (Some(scales), Some(zeros)) if scales != zeros => {
            Err(Error::invalid(format!("input {} has {zeros} elements, but {} has {scales}", zero.name, scale.name))
                .help("there must be one zero point per scale"))
        }
        (Some(_), Some(_)) if scale_shape.len() > 1 && shape.len() > 1 && scale_shape != shape => {
            let shapes = (b.ty(zero_point), b.ty(n.input(scale.input)?));
            Err(Error::invalid(format!("input {} is {} for scales {}", zero.name, shapes.0, shapes.1))
                .help("zero points must have the shape of their scales"))
        }
        _ => Ok(()),
    }
}

/// Checks the type of a zero point: `codes`, or where that is not known one that something can be quantized to.
///
/// # Errors
/// When it has another type.
pub fn zero_type(b: &Builder, n: &Node, Named { input, name }: Named, codes: Option<DType>) -> Result<()> {
    let Some(zero_point) = n.optional(input) else { return Ok(()) };
    let dtype = b.dtype(zero_point);
    match codes {
        Some(codes) if codes != dtype => {
            Err(Error::invalid(format!("input {name} is {dtype} for a tensor of {codes}"))
                .help("a zero point must have the type of the quantized tensor"))
        }
        None if !is_code(dtype) => Err(not_codes(&format!("input {name} is {}", b.ty(zero_point)))),
        _ => Ok(()),
    }
}

/// Whether a type can represent quantized values: integers of up to 16 bits, or floats of up to 8.
pub fn is_code(dtype: DType) -> bool {
    match dtype.class() {
        DTypeClass::Float => dtype.bits() <= 8,
        DTypeClass::Signed | DTypeClass::Unsigned => dtype.bits() <= 16,
        _ => false,
    }
}

/// The error for a type that cannot represent quantized values.
pub fn not_codes(what: &str) -> Error {
    Error::invalid(format!("{what}, which is not a type of quantized tensors"))
        .help("quantized tensors hold integers of up to 16 bits, or floats of up to 8")
}

/// Checks an integer bias, in units of the product of both scales: one element per column.
///
/// # Errors
/// When it has another type or length.
pub fn bias(b: &Builder, n: &Node, Named { input, name }: Named, columns: &Dim) -> Result<()> {
    let Some(bias) = n.optional(input) else { return Ok(()) };
    if b.dtype(bias) != DType::I32 {
        return Err(Error::invalid(format!("input {name} is {}", b.ty(bias)))
            .help("a quantized bias is i32, in units of the operands' scales multiplied, with zero point 0"));
    }
    match (b.ty(bias).numel().as_const(), columns.as_const()) {
        (Some(have), Some(want)) if have != want => {
            Err(Error::invalid(format!("input {name} has {have} elements for {want} output channels"))
                .help("there must be one per output channel"))
        }
        _ => Ok(()),
    }
}

/// Checks that a parameter has one element, or one per element of an axis.
///
/// # Errors
/// When it has another number.
pub fn spread(b: &mut Builder, n: &Node, Named { input, name }: Named, spread: Spread) -> Result<()> {
    let Some(p) = n.optional(input) else { return Ok(()) };
    let Some(count) = b.ty(p).numel().as_const() else { return Ok(()) };
    if count == 1 {
        return Ok(());
    }
    let (x, axis) = match spread {
        Spread::Axis(x, axis) => (x, axis),
        Spread::Rows(x) | Spread::Columns(x) => return of_matrix(b, p, name, x, matches!(spread, Spread::Rows(_))),
        Spread::Whole => {
            return Err(Error::invalid(format!("input {name} has {count} elements"))
                .help("this operator takes one scale and zero point per tensor"));
        }
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

fn of_matrix(b: &Builder, p: Value, name: &str, x: Value, rows: bool) -> Result<()> {
    let (shape, parts) = (b.shape(x), b.shape(p));
    let rank = shape.len();
    // The axes that are not summed, if it is a matrix.
    let own = rank.checked_sub(if rows { 2 } else { 1 }).filter(|_| rank > 1);
    let differ = |a: &Dim, b: &Dim| matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a != b);
    let fits = own.is_some_and(|own| match parts.len() {
        1 => !differ(&parts[0], &shape[own]),
        _ => {
            let summed = if rows { rank - 1 } else { rank - 2 };
            let want = |axis: usize| if axis == summed { Dim::ONE } else { shape[axis].clone() };
            parts.len() == rank && (0..rank).all(|axis| !differ(&parts[axis], &want(axis)))
        }
    });
    if fits {
        return Ok(());
    }
    let which = if rows { "row" } else { "column" };
    Err(Error::invalid(format!("input {name} is {} for {}", b.ty(p), b.ty(x))).help(format!(
        "there must be one, or one per {which}, since summed elements must share a scale and zero point"
    )))
}

/// Checks scales in blocks along an axis: their number must match the attribute `block_size`.
///
/// # Errors
/// When it does not match.
pub fn blocks(b: &mut Builder, x: Value, p: Value, name: &str, axis: i64, block: i64) -> Result<()> {
    if block < 1 {
        return Err(Error::invalid(format!("attribute block_size is {block}"))
            .help("it must be 0, or the number of elements of a block"));
    }
    let axis = builder::axis(axis, b.rank(x)).map_err(|e| e.within("attribute axis"))?;
    let (shape, parts) = (b.shape(x), b.shape(p));
    if shape.len() != parts.len() {
        return Err(Error::invalid(format!("input {name} is {} for {} in blocks", b.ty(p), b.ty(x)))
            .help("blocked scales must have the rank of the quantized tensor; block_size 0 means scales per axis"));
    }
    for (n, (extent, count)) in shape.iter().zip(&parts).enumerate() {
        let (Some(extent), Some(count)) = (extent.as_const(), count.as_const()) else { continue };
        let want = if n == axis { extent / block + i64::from(extent % block != 0) } else { extent };
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
