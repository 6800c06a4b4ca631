//! Functions of one `f64`.

use crate::UnaryOp;

/// A float function, if the operation is one.
pub(super) fn float_function(f: UnaryOp) -> Option<fn(f64) -> f64> {
    use UnaryOp::*;
    Some(match f {
        Neg => |x| -x,
        Abs => f64::abs,
        Sign => |x| if x == 0.0 || x.is_nan() { x } else { x.signum() },
        Floor => f64::floor,
        Ceil => f64::ceil,
        Round => f64::round_ties_even,
        Sqrt => f64::sqrt,
        Reciprocal => |x| 1.0 / x,
        Exp => f64::exp,
        Log => f64::ln,
        Sin => f64::sin,
        Cos => f64::cos,
        Tan => f64::tan,
        Asin => f64::asin,
        Acos => f64::acos,
        Atan => f64::atan,
        Sinh => f64::sinh,
        Cosh => f64::cosh,
        Tanh => f64::tanh,
        Asinh => f64::asinh,
        Acosh => f64::acosh,
        Atanh => f64::atanh,
        Erf => erf,
        Gelu => gelu,
        Sigmoid => sigmoid,
        Softplus => softplus,
        Not | BitNot | IsNan | IsInf => return None,
    })
}

/// `x Φ(x)`. Below -9 the result is less than 1e-17.
fn gelu(x: f64) -> f64 {
    if x < -9.0 { -0.0 } else { 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)) }
}

/// `1 / (1 + exp(-x))`.
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `log(1 + exp(x))`.
pub(super) fn softplus(x: f64) -> f64 {
    if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() }
}

/// The error function, by the series `2/sqrt(pi) exp(-x²) sum(2^n x^(2n+1) / (2n+1)!!)`: all terms have the same sign,
/// so nothing cancels. From 6 on the result rounds to 1.
pub(super) fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x.abs() >= 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > sum.abs() * 1e-18 {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}
