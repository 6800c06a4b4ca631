//! Element-wise operators.

use super::super::builder::Builder;
use super::super::node::{Node, Results};
use super::super::tensor;
use mcc_ir::{BinaryOp, DType, DTypeClass, Error, Op, ReduceKind, Result, UnaryOp, Value};

/// Before version 7 operands broadcast only on request, and then along a given axis.
fn legacy_operands(b: &mut Builder, n: &Node) -> Result<(Value, Value)> {
    let (x, mut y) = (n.input(0)?, n.input(1)?);
    if n.version < 7 && n.flag("broadcast", false)? {
        let (rx, ry) = (b.rank(x), b.rank(y));
        let first = match n.try_int("axis")? {
            Some(a) => super::super::builder::axis(a, rx)?,
            None => rx.saturating_sub(ry),
        };
        let trailing: Vec<usize> = (ry..rx.saturating_sub(first)).collect();
        y = b.unsqueeze(y, &trailing)?;
    }
    Ok((x, y))
}

macro_rules! binary_importers {
    ($($name:ident => $op:ident),* $(,)?) => {
        $(pub fn $name(b: &mut Builder, n: &Node) -> Result<Results> {
            let (x, y) = legacy_operands(b, n)?;
            Ok(b.binary(BinaryOp::$op, x, y)?.into())
        })*
    };
}

binary_importers! {
    add => Add, sub => Sub, mul => Mul, div => Div, and => And, or => Or, xor => Xor,
    equal => Equal, less => Less, less_or_equal => LessOrEqual, greater => Greater, greater_or_equal => GreaterOrEqual,
    bitwise_and => And, bitwise_or => Or, bitwise_xor => Xor,
}

macro_rules! unary_importers {
    ($($name:ident => $op:ident),* $(,)?) => {
        $(pub fn $name(b: &mut Builder, n: &Node) -> Result<Results> {
            Ok(b.unary(UnaryOp::$op, n.input(0)?)?.into())
        })*
    };
}

unary_importers! {
    neg => Neg, abs => Abs, sign => Sign, floor => Floor, ceil => Ceil, round => Round, sqrt => Sqrt,
    reciprocal => Reciprocal, exp => Exp, log => Log, sin => Sin, cos => Cos, tan => Tan, asin => Asin, acos => Acos,
    atan => Atan, sinh => Sinh, cosh => Cosh, tanh => Tanh, asinh => Asinh, acosh => Acosh, atanh => Atanh,
    erf => Erf, sigmoid => Sigmoid, softplus => Softplus, not => Not, bitwise_not => BitNot, is_nan => IsNan,
}

/// The exponent may have another type; the result has the base's.
pub fn pow(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, y) = legacy_operands(b, n)?;
    let (base, exponent) = (b.dtype(x), b.dtype(y));
    let common = match (base.is_float(), exponent.is_float()) {
        _ if base == exponent => base,
        (true, _) => base,
        (false, true) => exponent,
        (false, false) => DType::I64,
    };
    let (x, y) = (b.cast(x, common)?, b.cast(y, common)?);
    let r = b.binary(BinaryOp::Pow, x, y)?;
    Ok(b.cast(r, base)?.into())
}

pub fn modulo(b: &mut Builder, n: &Node) -> Result<Results> {
    let f = if n.flag("fmod", false)? { BinaryOp::Rem } else { BinaryOp::Mod };
    Ok(b.binary(f, n.input(0)?, n.input(1)?)?.into())
}

pub fn bit_shift(b: &mut Builder, n: &Node) -> Result<Results> {
    let f = match n.text("direction", "")?.as_str() {
        "LEFT" => BinaryOp::ShiftLeft,
        "RIGHT" => BinaryOp::ShiftRight,
        other => return Err(Error::invalid(format!("attribute direction is \"{other}\""))),
    };
    let (x, by) = (n.input(0)?, n.input(1)?);
    let y = b.binary(f, x, by)?;
    if f == BinaryOp::ShiftLeft || b.dtype(x).class() != DTypeClass::Signed {
        return Ok(y.into());
    }
    // Signed numbers keep their sign: `~(~x >> n)` shifts in ones.
    let flipped = b.unary(UnaryOp::BitNot, x)?;
    let flipped = b.binary(f, flipped, by)?;
    let negative = b.unary(UnaryOp::BitNot, flipped)?;
    let below = b.with(BinaryOp::Less, x, 0.0)?;
    Ok(b.select(below, negative, y)?.into())
}

fn fold(b: &mut Builder, n: &Node, f: BinaryOp) -> Result<Value> {
    let mut operands = n.tensors()?.into_iter();
    let first = operands.next().ok_or_else(|| Error::invalid("no operand"))?;
    operands.try_fold(first, |acc, x| b.binary(f, acc, x))
}

pub fn sum(b: &mut Builder, n: &Node) -> Result<Results> {
    Ok(fold(b, n, BinaryOp::Add)?.into())
}

pub fn mean(b: &mut Builder, n: &Node) -> Result<Results> {
    let sum = fold(b, n, BinaryOp::Add)?;
    Ok(b.with(BinaryOp::Mul, sum, 1.0 / n.arity() as f64)?.into())
}

pub fn max(b: &mut Builder, n: &Node) -> Result<Results> {
    Ok(fold(b, n, BinaryOp::Max)?.into())
}

pub fn min(b: &mut Builder, n: &Node) -> Result<Results> {
    Ok(fold(b, n, BinaryOp::Min)?.into())
}

pub fn where_(b: &mut Builder, n: &Node) -> Result<Results> {
    Ok(b.select(n.input(0)?, n.input(1)?, n.input(2)?)?.into())
}

/// The bounds were attributes before version 11.
pub fn clip(b: &mut Builder, n: &Node) -> Result<Results> {
    let mut x = n.input(0)?;
    let bounds = [(1, "min", BinaryOp::Max), (2, "max", BinaryOp::Min)];
    for (input, attribute, f) in bounds {
        if n.version >= 11 {
            if let Some(bound) = n.optional(input) {
                let scalar = b.reshape(bound, Vec::new())?;
                x = b.binary(f, x, scalar)?;
            }
        } else if let Some(bound) = n.try_float(attribute)? {
            x = b.with(f, x, f64::from(bound))?;
        }
    }
    Ok(x.into())
}

/// The type: a number since version 6, a name before.
fn target_type(n: &Node) -> Result<DType> {
    if n.version >= 6 {
        return tensor::dtype(n.need("to", n.try_int("to")?)?);
    }
    let name = n.text("to", "")?;
    let types = (1..=16).filter_map(|i| mcc_proto::tensor_proto::DataType::try_from(i).ok());
    let named = types.into_iter().find(|t| format!("{t:?}").eq_ignore_ascii_case(&name));
    tensor::dtype(named.map_or(0, |d| d as i32))
}

pub fn cast(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, to) = (n.input(0)?, target_type(n)?);
    cast_to(b, n, x, to)
}

pub fn cast_like(b: &mut Builder, n: &Node) -> Result<Results> {
    let to = b.dtype(n.input(1)?);
    cast_to(b, n, n.input(0)?, to)
}

fn cast_to(b: &mut Builder, n: &Node, x: Value, to: DType) -> Result<Results> {
    if b.dtype(x) == to {
        return Ok(x.into());
    }
    Ok(b.add(Op::Cast { to, saturate: n.flag("saturate", true)? }, &[x])?.into())
}

pub fn bit_cast(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, to) = (n.input(0)?, target_type(n)?);
    if b.dtype(x) == to {
        return Ok(x.into());
    }
    Ok(b.add(Op::Bitcast { to }, &[x])?.into())
}

pub fn identity(_: &mut Builder, n: &Node) -> Result<Results> {
    Ok(n.item(0).clone().into())
}

pub fn relu(b: &mut Builder, n: &Node) -> Result<Results> {
    Ok(b.with(BinaryOp::Max, n.input(0)?, 0.0)?.into())
}

/// `x < 0 ? negative(x) : x`.
fn where_negative(b: &mut Builder, x: Value, negative: Value) -> Result<Value> {
    let below = b.with(BinaryOp::Less, x, 0.0)?;
    b.select(below, negative, x)
}

pub fn leaky_relu(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    Ok(leaky_relu_of(b, x, n.float("alpha", 0.01)?)?.into())
}

/// `x < 0 ? alpha * x : x`.
pub fn leaky_relu_of(b: &mut Builder, x: Value, alpha: f64) -> Result<Value> {
    let scaled = b.with(BinaryOp::Mul, x, alpha)?;
    where_negative(b, x, scaled)
}

pub fn prelu(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, mut slope) = (n.input(0)?, n.input(1)?);
    let rank = b.rank(x);
    if n.version < 7 && b.rank(slope) == 1 && rank > 1 {
        slope = b.along(slope, 1, rank)?;
    }
    let scaled = b.times(x, slope)?;
    Ok(where_negative(b, x, scaled)?.into())
}

/// `scale * (exp(x / divisor) - 1)` for negative arguments; others are clamped to avoid overflow.
fn exponential(b: &mut Builder, x: Value, divisor: f64, scale: f64) -> Result<Value> {
    let x = b.with(BinaryOp::Min, x, 0.0)?;
    let x = if divisor == 1.0 { x } else { b.with(BinaryOp::Div, x, divisor)? };
    let e = b.unary(UnaryOp::Exp, x)?;
    let e = b.with(BinaryOp::Sub, e, 1.0)?;
    if scale == 1.0 { Ok(e) } else { b.with(BinaryOp::Mul, e, scale) }
}

pub fn elu(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let negative = exponential(b, x, 1.0, n.float("alpha", 1.0)?)?;
    Ok(where_negative(b, x, negative)?.into())
}

pub fn celu(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, alpha) = (n.input(0)?, n.float("alpha", 1.0)?);
    let negative = exponential(b, x, alpha, alpha)?;
    Ok(where_negative(b, x, negative)?.into())
}

/// Version 1 has rounded defaults.
pub fn selu(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let (alpha, gamma) = if n.version < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let (alpha, gamma) = (n.float("alpha", alpha)?, n.float("gamma", gamma)?);
    let negative = exponential(b, x, 1.0, alpha)?;
    let y = where_negative(b, x, negative)?;
    Ok(b.with(BinaryOp::Mul, y, gamma)?.into())
}

pub fn thresholded_relu(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let above = b.with(BinaryOp::Greater, x, n.float("alpha", 1.0)?)?;
    let zero = b.scalar_like(x, 0.0);
    Ok(b.select(above, x, zero)?.into())
}

pub fn hard_sigmoid(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    Ok(hard_sigmoid_of(b, x, n.float("alpha", 0.2)?, n.float("beta", 0.5)?)?.into())
}

/// `alpha * x + beta`, clamped to 0 and 1.
pub fn hard_sigmoid_of(b: &mut Builder, x: Value, alpha: f64, beta: f64) -> Result<Value> {
    let x = b.with(BinaryOp::Mul, x, alpha)?;
    let x = b.with(BinaryOp::Add, x, beta)?;
    b.clamp(x, 0.0, 1.0)
}

pub fn hard_swish(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let gate = hard_sigmoid_of(b, x, 1.0 / 6.0, 0.5)?;
    Ok(b.times(x, gate)?.into())
}

/// `x * sigmoid(alpha * x)`.
pub fn swish_of(b: &mut Builder, x: Value, alpha: f64) -> Result<Value> {
    let scaled = if alpha == 1.0 { x } else { b.with(BinaryOp::Mul, x, alpha)? };
    let gate = b.unary(UnaryOp::Sigmoid, scaled)?;
    b.times(x, gate)
}

pub fn swish(b: &mut Builder, n: &Node) -> Result<Results> {
    let alpha = n.float("alpha", 1.0)?;
    Ok(swish_of(b, n.input(0)?, alpha)?.into())
}

pub fn swiglu(b: &mut Builder, n: &Node) -> Result<Results> {
    let gate = swish_of(b, n.input(0)?, n.float("alpha", 1.0)?)?;
    Ok(b.times(gate, n.input(1)?)?.into())
}

/// com.microsoft: alpha defaults to that of the sigmoid approximation of GELU.
pub fn quick_gelu(b: &mut Builder, n: &Node) -> Result<Results> {
    let alpha = n.float("alpha", 1.702)?;
    Ok(swish_of(b, n.input(0)?, alpha)?.into())
}

pub fn mish(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let s = b.unary(UnaryOp::Softplus, x)?;
    let t = b.unary(UnaryOp::Tanh, s)?;
    Ok(b.times(x, t)?.into())
}

pub fn softsign(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let a = b.unary(UnaryOp::Abs, x)?;
    let a = b.with(BinaryOp::Add, a, 1.0)?;
    Ok(b.over(x, a)?.into())
}

pub fn shrink(b: &mut Builder, n: &Node) -> Result<Results> {
    let (x, lambda, bias) = (n.input(0)?, n.float("lambd", 0.5)?, n.float("bias", 0.0)?);
    let (low, high) = (b.with(BinaryOp::Add, x, bias)?, b.with(BinaryOp::Sub, x, bias)?);
    let (is_low, is_high) = (b.with(BinaryOp::Less, x, -lambda)?, b.with(BinaryOp::Greater, x, lambda)?);
    let zero = b.scalar_like(x, 0.0);
    let y = b.select(is_high, high, zero)?;
    Ok(b.select(is_low, low, y)?.into())
}

pub fn is_inf(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    let y = match (n.flag("detect_negative", true)?, n.flag("detect_positive", true)?) {
        (true, true) => b.unary(UnaryOp::IsInf, x)?,
        (negative, positive) => {
            let infinite = b.unary(UnaryOp::IsInf, x)?;
            let sided = if negative {
                b.with(BinaryOp::Less, x, 0.0)?
            } else if positive {
                b.with(BinaryOp::Greater, x, 0.0)?
            } else {
                b.binary(BinaryOp::Xor, infinite, infinite)?
            };
            b.binary(BinaryOp::And, infinite, sided)?
        }
    };
    Ok(y.into())
}

/// `0.5 * x * (1 + erf(x / sqrt(2)))`.
pub fn gelu_exact(b: &mut Builder, x: Value) -> Result<Value> {
    b.unary(UnaryOp::Gelu, x)
}

/// `0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x³)))`.
pub fn gelu_tanh(b: &mut Builder, x: Value) -> Result<Value> {
    let square = b.times(x, x)?;
    let inner = b.with(BinaryOp::Mul, square, 0.044715)?;
    let inner = b.with(BinaryOp::Add, inner, 1.0)?;
    let scaled = b.with(BinaryOp::Mul, x, (2.0 / std::f64::consts::PI).sqrt())?;
    let t = b.times(inner, scaled)?;
    let t = b.unary(UnaryOp::Tanh, t)?;
    let half = b.with(BinaryOp::Mul, x, 0.5)?;
    let gate = b.with(BinaryOp::Add, t, 1.0)?;
    b.times(half, gate)
}

pub fn gelu(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = n.input(0)?;
    Ok(match n.text("approximate", "none")?.as_str() {
        "tanh" => gelu_tanh(b, x)?,
        _ => gelu_exact(b, x)?,
    }
    .into())
}

/// com.microsoft FastGelu, BiasGelu: adds an optional bias first.
pub fn fast_gelu(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = with_bias(b, n)?;
    Ok(gelu_tanh(b, x)?.into())
}

pub fn bias_gelu(b: &mut Builder, n: &Node) -> Result<Results> {
    let x = with_bias(b, n)?;
    Ok(gelu_exact(b, x)?.into())
}

fn with_bias(b: &mut Builder, n: &Node) -> Result<Value> {
    match n.optional(1) {
        Some(bias) => b.plus(n.input(0)?, bias),
        None => n.input(0),
    }
}

pub fn cum_sum(b: &mut Builder, n: &Node) -> Result<Results> {
    cumulative(b, n, mcc_ir::CumulativeKind::Sum)
}

pub fn cum_prod(b: &mut Builder, n: &Node) -> Result<Results> {
    cumulative(b, n, mcc_ir::CumulativeKind::Prod)
}

fn cumulative(b: &mut Builder, n: &Node, kind: mcc_ir::CumulativeKind) -> Result<Results> {
    let x = n.input(0)?;
    let axis = b.ints(n.input(1)?, "the axis")?;
    let axis = super::super::builder::axis(axis.first().copied().unwrap_or(0), b.rank(x))?;
    let (exclusive, reverse) = (n.flag("exclusive", false)?, n.flag("reverse", false)?);
    Ok(b.add(Op::Cumulative { kind, axis, exclusive, reverse }, &[x])?.into())
}

/// At inference it returns its input; the mask is all true.
pub fn dropout(b: &mut Builder, n: &Node) -> Result<Results> {
    if let Some(training) = n.optional(2)
        && b.known_floats(training).is_none_or(|t| t.iter().any(|&t| t != 0.0))
        && n.optional(1).is_none_or(|r| b.known_floats(r).is_none_or(|r| r.iter().any(|&r| r != 0.0)))
    {
        return Err(Error::unsupported("Dropout in training mode"));
    }
    let x = n.input(0)?;
    let shape = b.shape(x);
    let mask_type = if n.version < 10 { b.dtype(x) } else { DType::Bool };
    let mask = b.splat(mask_type, 1.0, shape)?;
    Ok([x, mask].into())
}

/// The square, for reductions such as the mean of squares.
pub fn square(b: &mut Builder, x: Value) -> Result<Value> {
    b.times(x, x)
}

/// `log(sum(exp(x)))` without overflow.
pub fn log_sum_exp(b: &mut Builder, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
    let top = b.reduce(ReduceKind::Max, x, axes, true)?;
    let bound = match b.dtype(x) {
        DType::F64 => f64::MAX,
        DType::F16 => 65504.0,
        _ => f64::from(f32::MAX),
    };
    // An infinite maximum would give infinity minus infinity.
    let top = b.clamp(top, -bound, bound)?;
    let shifted = b.minus(x, top)?;
    let e = b.unary(UnaryOp::Exp, shifted)?;
    let sum = b.reduce(ReduceKind::Sum, e, axes, true)?;
    let log = b.unary(UnaryOp::Log, sum)?;
    let y = b.plus(log, top)?;
    if keep { Ok(y) } else { b.squeeze(y, axes) }
}
