//! `x Φ(x)`, the Gaussian error linear unit.

use super::{Math, erf};
use crate::kir::{Bin, Builder, Val};

/// `log2(Φ(-u))` for `u >= 0`: error 2^-26 after weighting with `Φ(-u)`, up to 5.6, where it starts to be lost beside
/// 1; from there to 9 it keeps falling. The last coefficient makes `Φ(0)` exact.
const LOG2_TAIL: [f64; 9] = [
    -2.8349128140095688e-06,
    3.937769198360634e-05,
    -0.00018618024739811072,
    -0.00013693634878934007,
    0.00706342009379452,
    -0.052496178320230326,
    -0.4592081966716636,
    -1.1511052053015605,
    -1.0,
];

/// `-2^r` for `|r| <= 1/2`; error 2^-29.
const MINUS_EXP2: [f64; 7] = [
    -0.000153533619339577,
    -0.0013398874403573874,
    -0.009618437357480504,
    -0.05550332471158992,
    -0.24022647913631748,
    -0.6931472028550447,
    -1.0,
];

/// `x Φ(x)` as `max(x, 0) - |x| Φ(-|x|)`: no cancellation, one exponential and no division. Towards negative infinity
/// it tends to 0.
pub fn gelu(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    if m.is_double() {
        // Far below, `x` is negligible beside the remainder of `1 + erf`.
        let x = m.at_least(x, -40.0);
        let half = m.mulc(x, 0.5);
        let argument = m.mulc(x, std::f64::consts::FRAC_1_SQRT_2);
        let e = erf(m.k, argument);
        return Math::new(k, x).fma(half, e, half);
    }
    let abs = m.abs(x);
    let u = m.at_most(abs, 9.0);
    let t = m.poly(u, &LOG2_TAIL);
    let magic = m.magic();
    let magic = m.c(magic);
    let shifted = m.add(t, magic);
    let n = m.sub(shifted, magic);
    let r = m.sub(t, n);
    let p = m.poly(r, &MINUS_EXP2);
    // The power is added to the exponent, which is far from both limits.
    let n = m.bits(shifted);
    let n = m.shl(n, m.mantissa());
    let p = m.bits(p);
    let tail = m.k.add(p, n);
    let tail = m.float(tail);
    let zero = m.c(-0.0);
    let linear = m.k.bin(Bin::Max, x, zero);
    m.fma(u, tail, linear)
}
