//! Hyperbolic functions, their inverses, and `softplus`.

use super::Math;
use crate::kir::{Builder, Cmp, Val};

/// Hyperbolic sine.
pub fn sinh(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let abs = m.abs(x);
    // From here on e^-x is negligible beside e^x.
    let limit = m.pick(10.0, 20.0);
    let bounded = m.at_most(abs, limit);
    let e = m.exp_minus_one(bounded);
    let below = m.addc(e, 1.0);
    let quotient = m.div(e, below);
    let sum = m.add(e, quotient);
    let small = m.mulc(sum, 0.5);
    let large = m.half_exp(abs);
    let is_large = m.is(Cmp::Gt, abs, limit);
    let y = m.select(is_large, large, small);
    m.with_sign_of(y, x)
}

/// Hyperbolic cosine.
pub fn cosh(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let abs = m.abs(x);
    let half = m.half_exp(abs);
    let quarter = m.c(0.25);
    let other = m.div(quarter, half);
    m.add(half, other)
}

/// `ln(1 + e^x)`: `max(x, 0) + ln(1 + e^-|x|)`.
pub fn softplus(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let abs = m.abs(x);
    let minus = m.neg(abs);
    let e = m.exp_nonpositive(minus);
    let tail = m.log_one_plus(e);
    let positive = m.is(Cmp::Gt, x, 0.0);
    let zero = m.c(0.0);
    let linear = m.select(positive, x, zero);
    m.add(linear, tail)
}

/// Inverse hyperbolic sine: `ln(1 + a + a² / (1 + √(1 + a²)))` with `a = |x|`.
pub fn asinh(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let a = m.abs(x);
    let square = m.mul(a, a);
    let hypotenuse = m.addc(square, 1.0);
    let hypotenuse = m.sqrt(hypotenuse);
    let below = m.addc(hypotenuse, 1.0);
    let quotient = m.div(square, below);
    let u = m.add(a, quotient);
    let y = log_of_sum(m, a, u);
    m.with_sign_of(y, x)
}

/// Inverse hyperbolic cosine: `ln(1 + t + √(2t + t²))` with `t = x - 1`; NaN below 1.
pub fn acosh(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let t = m.addc(x, -1.0);
    let factor = m.addc(t, 2.0);
    let product = m.mul(t, factor);
    let root = m.sqrt(product);
    let u = m.add(t, root);
    let y = log_of_sum(m, x, u);
    let outside = m.is(Cmp::Lt, x, 1.0);
    m.set(outside, f64::NAN, y)
}

/// `ln(1 + u)`, or if `a` is so large that `1 + u` is `2a` (or overflows), `ln(a) + ln(2)`.
fn log_of_sum(m: &mut Math<'_>, a: Val, u: Val) -> Val {
    let limit = m.pick(2f64.powi(14), 2f64.powi(28));
    let large = m.is(Cmp::Gt, a, limit);
    let zero = m.c(0.0);
    let bounded = m.select(large, zero, u);
    let small = m.log_one_plus(bounded);
    let (n, f) = m.exponent_and_fraction(a);
    let n = m.addc(n, 1.0);
    let big = m.log_of_parts(n, f, None);
    let y = m.select(large, big, small);
    let infinity = m.infinity();
    let finite = m.cmp(Cmp::Lt, a, infinity);
    m.select(finite, y, a)
}

/// Inverse hyperbolic tangent: `½ ln(1 + 2a + 2a² / (1 - a))` with `a = |x|`; NaN above 1.
pub fn atanh(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let a = m.abs(x);
    let one = m.c(1.0);
    let below = m.sub(one, a);
    let twice = m.add(a, a);
    let quotient = m.div(a, below);
    let small = m.fma(twice, quotient, twice);
    let large = m.div(twice, below);
    let half = m.c(0.5);
    let is_small = m.cmp(Cmp::Lt, a, half);
    let u = m.select(is_small, small, large);
    let y = m.log_one_plus(u);
    let y = m.mul(y, half);
    let pole = m.cmp(Cmp::Eq, a, one);
    let y = m.set(pole, f64::INFINITY, y);
    let outside = m.cmp(Cmp::Gt, a, one);
    let y = m.set(outside, f64::NAN, y);
    m.with_sign_of(y, x)
}
