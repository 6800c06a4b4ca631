//! The natural logarithm, after FreeBSD's `e_log.c`: with `x = 2^n (1 + f)`, `s = f / (2 + f)`,
//! `ln(1 + f) = f - f²/2 + s (f²/2 + R(s²))`.

use super::Math;
use crate::kir::{Builder, Cmp, Val};

/// `(ln((1 + s) / (1 - s)) / s - 2) / s²` in powers of `s²`, for `|f| <= √2 - 1`; errors 2^-36 and 2^-58.
const LOG_F32: [f64; 4] = [0.23587820392705164, 0.28537027428232725, 0.4000033931227594, 0.6666666562874553];
const LOG_F64: [f64; 7] = [
    0.14802192111491913,
    0.1531345933668993,
    0.18183586093199883,
    0.22222198181622682,
    0.2857142874592033,
    0.39999999999400165,
    0.6666666666666736,
];

/// Natural logarithm.
pub fn log(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let (n, f) = m.exponent_and_fraction(x);
    let y = m.log_of_parts(n, f, None);
    let infinity = m.infinity();
    let finite = m.cmp(Cmp::Lt, x, infinity);
    let y = m.select(finite, y, x);
    let negative = m.is(Cmp::Lt, x, 0.0);
    let y = m.set(negative, f64::NAN, y);
    let zero = m.is(Cmp::Eq, x, 0.0);
    m.set(zero, f64::NEG_INFINITY, y)
}

impl Math<'_> {
    /// `x = 2^n (1 + f)` for finite `x > 0`, `1 + f` in `[√½, √2)`; `n` as a float.
    pub(super) fn exponent_and_fraction(&mut self, x: Val) -> (Val, Val) {
        let (mantissa, bias) = (self.mantissa(), self.bias());
        let smallest = self.pick(f64::from(f32::MIN_POSITIVE), f64::MIN_POSITIVE);
        let subnormal = self.is(Cmp::Lt, x, smallest);
        let scaled = self.mulc(x, 2f64.powi(mantissa as i32));
        let x = self.select(subnormal, scaled, x);
        let bits = self.bits(x);
        // `√½`, rounded up so that the low bits of the offset are 0.
        let root = self.pick(0x3f35_04f3, 0x3fe6_a09e_0000_0000);
        let moved = self.iadd(bits, (bias << mantissa) - root);
        let exponent = self.shr(moved, mantissa);
        let fraction = self.iand(moved, (1 << mantissa) - 1);
        let fraction = self.iadd(fraction, root);
        let fraction = self.float(fraction);
        let f = self.addc(fraction, -1.0);
        // An integer in the low bits of a large float: a conversion that every target has for every width.
        let magic = self.magic();
        let placed = self.iadd(exponent, self.bits_of(magic));
        let placed = self.float(placed);
        let shifted = magic + bias as f64;
        let offset = self.choice(subnormal, shifted + mantissa as f64, shifted);
        let n = self.sub(placed, offset);
        (n, f)
    }

    /// `n ln(2) + ln(1 + f) + low`.
    pub(super) fn log_of_parts(&mut self, n: Val, f: Val, low: Option<Val>) -> Val {
        let (high_ln2, low_ln2) = self.pick(
            (0.693_138_122_558_593_8, 9.058_000_614_459_160_5e-6),
            (6.931_471_803_691_238_165e-1, 1.908_214_929_270_587_7e-10),
        );
        let below = self.addc(f, 2.0);
        let s = self.div(f, below);
        let z = self.mul(s, s);
        let r = self.poly_of(z, &LOG_F32, &LOG_F64);
        let half = self.mulc(f, 0.5);
        let half_square = self.mul(half, f);
        let sum = self.fma(z, r, half_square);
        let correction = match low {
            Some(low) => self.fmac(n, low_ln2, low),
            None => self.mulc(n, low_ln2),
        };
        let tail = self.fma(s, sum, correction);
        let tail = self.sub(half_square, tail);
        let rest = self.sub(tail, f);
        let minus = self.neg(rest);
        self.fmac(n, high_ln2, minus)
    }

    /// `ln(1 + u)` for `u >= 0` (NaN for NaN; the caller handles infinity).
    pub(super) fn log_one_plus(&mut self, u: Val) -> Val {
        let one = self.c(1.0);
        let w = self.add(u, one);
        // The rounding error of the sum, derived from its larger term.
        let large = self.cmp(Cmp::Gt, u, one);
        let (a, b) = (self.select(large, u, one), self.select(large, one, u));
        let got = self.sub(w, a);
        let lost = self.sub(b, got);
        let low = self.div(lost, w);
        let (n, f) = self.exponent_and_fraction(w);
        self.log_of_parts(n, f, Some(low))
    }
}
