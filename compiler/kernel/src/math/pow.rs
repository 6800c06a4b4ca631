//! `x^y` as `e^(y ln x)`, the logarithm and the product in two parts each, so that large exponents lose no precision.

use super::Math;
use crate::kir::{Bin, Builder, Cmp, Inst, Un, Val};

/// `((atanh(√z) / √z - 1) / z - ⅓) / z` for `√z <= (√2 - 1) / (√2 + 1)`; errors 2^-44 and 2^-66.
const ATANH_F32: [f64; 4] = [0.09736603742186685, 0.11092353913050237, 0.1428593964443879, 0.1999999907252552];
const ATANH_F64: [f64; 7] = [
    0.06601191283578127,
    0.06628091710557553,
    0.0769339187049219,
    0.09090891906677498,
    0.11111111263004234,
    0.14285714285033485,
    0.2000000000000116,
];

/// An unrounded sum: the second part is below the first one's last place.
#[derive(Clone, Copy)]
struct Pair(Val, Val);

impl Math<'_> {
    /// The exact sum of two numbers, `|a| >= |b|`.
    fn sum(&mut self, a: Val, b: Val) -> Pair {
        let s = self.add(a, b);
        let got = self.sub(s, a);
        let low = self.sub(b, got);
        Pair(s, low)
    }

    /// The exact product of two numbers (Dekker), without fused multiply-add.
    fn product(&mut self, a: Val, b: Val) -> Pair {
        let p = self.mul(a, b);
        let (a1, b1) = (self.high_half(a), self.high_half(b));
        let (a2, b2) = (self.sub(a, a1), self.sub(b, b1));
        let t = self.mul(a1, b1);
        let t = self.sub(t, p);
        let cross = self.mul(a1, b2);
        let t = self.add(t, cross);
        let cross = self.mul(a2, b1);
        let t = self.add(t, cross);
        let last = self.mul(a2, b2);
        let low = self.add(t, last);
        Pair(p, low)
    }

    /// The product of two pairs.
    fn times(&mut self, a: Pair, b: Pair) -> Pair {
        let Pair(p, e) = self.product(a.0, b.0);
        let x = self.mul(a.0, b.1);
        let y = self.mul(a.1, b.0);
        let cross = self.add(x, y);
        let low = self.add(e, cross);
        self.sum(p, low)
    }

    /// `ln(x)` for finite `x > 0`.
    fn log_pair(&mut self, x: Val) -> Pair {
        let (n, f) = self.exponent_and_fraction(x);
        // s = f / (2 + f).
        let two = self.c(2.0);
        let below = self.sum(two, f);
        let quotient = self.div(f, below.0);
        let Pair(p, e) = self.product(quotient, below.0);
        let rest = self.sub(f, p);
        let rest = self.sub(rest, e);
        let missed = self.mul(quotient, below.1);
        let rest = self.sub(rest, missed);
        let low = self.div(rest, below.0);
        let s = Pair(quotient, low);
        // ln((1 + s) / (1 - s)) = 2 (s + s³ (⅓ + s² P)).
        let square = self.times(s, s);
        let p = self.poly_of(square.0, &ATANH_F32, &ATANH_F64);
        let p = self.mul(p, square.0);
        let third = self.pick(
            (0.333_333_343_267_440_8, -9.934_107_462_565_104e-9),
            (0.333_333_333_333_333_3, 1.850_371_707_708_594e-17),
        );
        let high = self.c(third.0);
        let Pair(high, low) = self.sum(high, p);
        let low = self.addc(low, third.1);
        let factor = self.times(square, Pair(high, low));
        let cubic = self.times(s, factor);
        let Pair(high, low) = self.sum(s.0, cubic.0);
        let tail = self.add(s.1, cubic.1);
        let low = self.add(low, tail);
        let (high, low) = (self.add(high, high), self.add(low, low));
        // n ln(2): the first part has enough trailing zeros that its product is exact.
        let ln2 = self.pick(
            (0.693_115_234_375, 3.194_618_494_530_941_5e-5),
            (0.693_147_180_559_890_3, 5.497_923_018_708_371e-14),
        );
        let whole = self.mulc(n, ln2.0);
        let Pair(top, carried) = self.sum(whole, high);
        let low = self.add(low, carried);
        let low = self.fmac(n, ln2.1, low);
        // If the exponent is zero, the logarithm is `high` itself.
        self.sum(top, low)
    }
}

/// `x^y`, with all of IEEE 754's special cases.
pub fn pow(k: &mut Builder, x: Val, y: Val) -> Val {
    if let Some(easy) = by_constant(k, x, y) {
        return easy;
    }
    let m = &mut Math::new(k, x);
    let a = m.abs(x);
    let log = m.log_pair(a);
    // Zero, infinity and NaN are handled by the product with their logarithms.
    let infinity = m.infinity();
    let finite = m.cmp(Cmp::Lt, a, infinity);
    let high = m.select(finite, log.0, a);
    let zero_base = m.is(Cmp::Eq, a, 0.0);
    let high = m.set(zero_base, f64::NEG_INFINITY, high);
    let Pair(e, low) = m.product(high, y);
    let more = m.mul(log.1, y);
    let low = m.add(low, more);
    let magnitude = m.abs(e);
    let moderate = m.is(Cmp::Lt, magnitude, m.pick(128.0, 1024.0));
    let zero = m.c(0.0);
    let low = m.select(moderate, low, zero);
    let size = m.exp_of_sum(e, Some(low));

    // Signs and integers: halves of even integers are integers.
    let whole = m.k.un(Un::Trunc, y);
    let is_integer = m.cmp(Cmp::Eq, whole, y);
    let half = m.mulc(y, 0.5);
    let whole = m.k.un(Un::Trunc, half);
    let fractional = m.cmp(Cmp::Ne, whole, half);
    let is_odd = m.both(is_integer, fractional);
    let sign = m.sign_bit(x);
    let no_sign = m.i(0);
    let sign = m.select(is_odd, sign, no_sign);
    let signed = m.flip(size, sign);
    let negative = m.is(Cmp::Lt, x, 0.0);
    let not_integer = m.k.un(Un::Not, is_integer);
    let undefined = m.both(negative, not_integer);
    let undefined = m.both(undefined, finite);
    let result = m.set(undefined, f64::NAN, signed);

    // 1 for any other operand: 1^y, x^0, and (-1)^±inf.
    let (is_one, no_power) = (m.is(Cmp::Eq, x, 1.0), m.is(Cmp::Eq, y, 0.0));
    let unit = m.either(is_one, no_power);
    let is_unit = m.is(Cmp::Eq, a, 1.0);
    let size_of_y = m.abs(y);
    let endless = m.cmp(Cmp::Eq, size_of_y, infinity);
    let balanced = m.both(is_unit, endless);
    let unit = m.either(unit, balanced);
    m.set(unit, 1.0, result)
}

/// Exponents for which one or two multiplications suffice.
fn by_constant(k: &mut Builder, x: Val, y: Val) -> Option<Val> {
    let &Inst::Float(bits) = k.inst_of(y) else { return None };
    match f64::from_bits(bits) {
        1.0 => Some(x),
        2.0 => Some(k.mul(x, x)),
        3.0 => {
            let square = k.mul(x, x);
            Some(k.mul(square, x))
        }
        -1.0 => {
            let one = k.float(1.0, k.ty(x));
            Some(k.bin(Bin::Div, one, x))
        }
        _ => None,
    }
}
