//! Inverse trigonometric functions, with the reductions of FreeBSD's `e_asin.c` and Cephes' `atan.c`.

use super::Math;
use crate::kir::{Builder, Cmp, Val};

/// `(atan(√z) / √z - 1) / z` for `√z <= tan(π/8)`; errors 2^-30 and 2^-59.
const ATAN_F32: [f64; 5] =
    [-0.06078856251400002, 0.10594276637818267, -0.142436286330878, 0.19998478559075064, -0.3333331534199716];
const ATAN_F64: [f64; 11] = [
    -0.017892334747389934,
    0.03805149417797872,
    -0.05038811243893265,
    0.058477844962048206,
    -0.06663090296475283,
    0.07692059062091292,
    -0.09090897696095433,
    0.11111110781425927,
    -0.14285714280158035,
    0.19999999999953225,
    -0.333333333333332,
];

/// `(asin(√z) / √z - 1) / z` for `z <= ¼`; errors 2^-27 and 2^-59.
const ASIN_F32: [f64; 5] =
    [0.04223032880038999, 0.024141122496643512, 0.04547831499161228, 0.07495232908958384, 0.1666675412388814];
const ASIN_F64: [f64; 13] = [
    0.03270169938751635,
    -0.021115953003185986,
    0.021790085639117926,
    0.003672424587256695,
    0.010789255321037557,
    0.011397305240624135,
    0.01398101698997189,
    0.01735159563353934,
    0.022372215898263485,
    0.03038194267555335,
    0.044642857175280604,
    0.07499999999970103,
    0.16666666666666763,
];

/// π/2, π/4, π: rounded, and the remainder.
const HALF_PI: [(f64, f64); 2] =
    [(1.5707963705062866, -4.3711390001862426e-08), (std::f64::consts::FRAC_PI_2, 6.123233995736766e-17)];
const QUARTER_PI: [(f64, f64); 2] =
    [(0.7853981852531433, -2.1855695000931213e-08), (std::f64::consts::FRAC_PI_4, 3.061616997868383e-17)];

/// Arc tangent: of `t`; of `(t - 1) / (t + 1)` around 1; of `-1 / t` above.
pub fn atan(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let a = m.abs(x);
    let middle = m.is(Cmp::Gt, a, 0.414_213_562_373_095);
    let large = m.is(Cmp::Gt, a, 2.414_213_562_373_095);
    let (half, quarter) = (m.pick(HALF_PI[0], HALF_PI[1]), m.pick(QUARTER_PI[0], QUARTER_PI[1]));
    let (less, more) = (m.addc(a, -1.0), m.addc(a, 1.0));
    let one = m.c(1.0);
    let above = m.select(middle, less, a);
    let above = m.set(large, -1.0, above);
    let below = m.select(middle, more, one);
    let below = m.select(large, a, below);
    let base = m.choice(middle, quarter.0, 0.0);
    let base = m.set(large, half.0, base);
    let low = m.choice(middle, quarter.1, 0.0);
    let low = m.set(large, half.1, low);
    let t = m.div(above, below);
    let z = m.mul(t, t);
    let p = m.poly_of(z, &ATAN_F32, &ATAN_F64);
    let p = m.mul(p, z);
    let tail = m.fma(p, t, low);
    let tail = m.add(t, tail);
    let y = m.add(base, tail);
    m.with_sign_of(y, x)
}

/// Shared by arc sine and cosine: `asin(t) = t + t p`, where above ½ `t = √((1 - |x|) / 2)`.
struct Arc {
    is_large: Val,
    t: Val,
    p: Val,
    /// `t` above ½ in two parts, the first one exact when doubled or subtracted.
    high: Val,
    low: Val,
}

fn arc(m: &mut Math<'_>, x: Val) -> Arc {
    let abs = m.abs(x);
    let is_large = m.is(Cmp::Gt, abs, 0.5);
    let one = m.c(1.0);
    let left = m.sub(one, abs);
    let left = m.mulc(left, 0.5);
    let square = m.mul(abs, abs);
    let z = m.select(is_large, left, square);
    let root = m.sqrt(left);
    let t = m.select(is_large, root, abs);
    let p = m.poly_of(z, &ASIN_F32, &ASIN_F64);
    let p = m.mul(p, z);
    let high = m.high_half(root);
    let exact = m.mul(high, high);
    let rest = m.sub(left, exact);
    let sum = m.add(root, high);
    let low = m.div(rest, sum);
    // At 1 the quotient is 0 / 0.
    let positive = m.is(Cmp::Gt, sum, 0.0);
    let zero = m.c(0.0);
    let low = m.select(positive, low, zero);
    Arc { is_large, t, p, high, low }
}

/// Arc sine; NaN outside of [-1, 1].
pub fn asin(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let a = arc(m, x);
    let small = m.fma(a.t, a.p, a.t);
    let half = m.pick(HALF_PI[0], HALF_PI[1]);
    let quarter = m.c(m.pick(QUARTER_PI[0], QUARTER_PI[1]).0);
    // π/2 - 2 (t + t p) = π/4 - (2 t p - (low - 2 c) - (π/4 - 2 f)), with t = f + c.
    let twice = m.add(a.t, a.t);
    let product = m.mul(twice, a.p);
    let missing = m.c(half.1);
    let correction = m.fmac(a.low, -2.0, missing);
    let inner = m.sub(product, correction);
    let outer = m.fmac(a.high, -2.0, quarter);
    let difference = m.sub(inner, outer);
    let large = m.sub(quarter, difference);
    let y = m.select(a.is_large, large, small);
    m.with_sign_of(y, x)
}

/// Arc cosine; NaN outside of [-1, 1].
pub fn acos(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let a = arc(m, x);
    let (high, low) = m.pick(HALF_PI[0], HALF_PI[1]);
    // Around 0: π/2 - (x + x p).
    let missing = m.c(low);
    let product = m.mul(x, a.p);
    let tail = m.sub(missing, product);
    let tail = m.sub(x, tail);
    let half = m.c(high);
    let small = m.sub(half, tail);
    // Near 1: 2 (t + t p), with t = f + c; near -1: π - 2 (t + t p).
    let part = m.fma(a.p, a.t, a.low);
    let near_one = m.add(a.high, part);
    let near_one = m.add(near_one, near_one);
    let missing = m.c(-low);
    let part = m.fma(a.p, a.t, missing);
    let part = m.add(a.t, part);
    let minus_two = m.c(-2.0);
    let pi = m.c(2.0 * high);
    let near_minus = m.fma(part, minus_two, pi);
    let negative = m.is(Cmp::Lt, x, 0.0);
    let large = m.select(negative, near_minus, near_one);
    m.select(a.is_large, large, small)
}
