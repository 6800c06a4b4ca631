//! Sine, cosine, tangent: Cody-Waite reduction by π/2 in four parts; for huge angles Payne-Hanek reduction, one lane at
//! a time, only if some lane needs it.

use super::Math;
use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Val};

/// `(sin(√z) / √z - 1) / z` for `√z <= π/4`; errors 2^-28 and 2^-58.
const SIN_F32: [f64; 3] = [-0.00019516656010400594, 0.008332173544454015, -0.16666654873441916];
const SIN_F64: [f64; 6] = [
    1.5896505493075368e-10,
    -2.5050753276784885e-08,
    2.7557313662155604e-06,
    -0.00019841269829725544,
    0.008333333333322316,
    -0.16666666666666632,
];

/// `(cos(√z) - 1 + z/2) / z²`; errors 2^-33 and 2^-64.
const COS_F32: [f64; 3] = [2.443773120301767e-05, -0.001388736146085693, 0.041666646748007505];
const COS_F64: [f64; 6] = [
    -1.1359449734244015e-11,
    2.0875719580512697e-09,
    -2.755731432620495e-07,
    2.4801587289395594e-05,
    -0.0013888888888873992,
    0.0416666666666666,
];

/// π/2 in parts short enough that products with the quotients of the fast reduction are exact.
const PARTS_F32: [f64; 4] = [1.5703125, 0.0004837512969970703, 7.549533620476723e-08, 2.563344151594519e-12];
const PARTS_F64: [f64; 4] =
    [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_711_166_5e-21, 8.478_427_660_368_9e-32];

/// The bits of 2/π after the point, preceded by a word of zeros.
const TWO_OVER_PI: [u64; 20] = [
    0,
    0xa2f9836e4e441529,
    0xfc2757d1f534ddc0,
    0xdb6295993c439041,
    0xfe5163abdebbc561,
    0xb7246e3a424dd2e0,
    0x06492eea09d1921c,
    0xfe1deb1cb129a73e,
    0xe88235f52ebb4484,
    0xe99c7026b45f7e41,
    0x3991d639835339f4,
    0x9c845f8bbdf9283b,
    0x1ff897ffde05980f,
    0xef2f118b5a0a6d1f,
    0x6d367ecf27cb09b7,
    0x4f463f669e5fea2d,
    0x7527bac7ebe5f17b,
    0x3d0739f78a5292ea,
    0x6bfb5fb11f8d5d08,
    0x56033046fc7b6bab,
];

/// Sine.
pub fn sin(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let (quadrant, r) = reduce(m, x);
    let y = wave(m, quadrant, r);
    let sign = m.sign_bit(x);
    m.flip(y, sign)
}

/// Cosine.
pub fn cos(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let (quadrant, r) = reduce(m, x);
    let next = m.iadd(quadrant, 1);
    wave(m, next, r)
}

/// Tangent.
pub fn tan(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let (quadrant, r) = reduce(m, x);
    let (s, c) = sin_and_cos(m, r);
    let odd = is_odd(m, quadrant);
    let (above, below) = (m.select(odd, c, s), m.select(odd, s, c));
    let y = m.div(above, below);
    let negated = m.neg(y);
    let y = m.select(odd, negated, y);
    let sign = m.sign_bit(x);
    m.flip(y, sign)
}

/// The sine of `quadrant * π/2 + r`.
fn wave(m: &mut Math<'_>, quadrant: Val, r: Val) -> Val {
    let (s, c) = sin_and_cos(m, r);
    let odd = is_odd(m, quadrant);
    let y = m.select(odd, c, s);
    let sign = m.iand(quadrant, 2);
    let sign = m.shl(sign, m.pick(30, 62));
    m.flip(y, sign)
}

fn is_odd(m: &mut Math<'_>, quadrant: Val) -> Val {
    let bit = m.iand(quadrant, 1);
    let zero = m.i(0);
    m.cmp(Cmp::Ne, bit, zero)
}

/// For an angle of at most π/4.
fn sin_and_cos(m: &mut Math<'_>, r: Val) -> (Val, Val) {
    let z = m.mul(r, r);
    let p = m.poly_of(z, &SIN_F32, &SIN_F64);
    let cube = m.mul(z, r);
    let s = m.fma(cube, p, r);
    let p = m.poly_of(z, &COS_F32, &COS_F64);
    let one = m.c(1.0);
    let half = m.fmac(z, -0.5, one);
    // The rounding error of the difference.
    let back = m.sub(one, half);
    let half_z = m.mulc(z, 0.5);
    let lost = m.sub(back, half_z);
    let square = m.mul(z, z);
    let tail = m.fma(square, p, lost);
    let c = m.add(half, tail);
    (s, c)
}

/// `|x| = quadrant * π/2 + r`, `|r| <= π/4`; the quadrant in the low two bits of an integer.
fn reduce(m: &mut Math<'_>, x: Val) -> (Val, Val) {
    let a = m.abs(x);
    let magic = m.magic();
    let magic = m.c(magic);
    let t = m.fmac(a, std::f64::consts::FRAC_2_PI, magic);
    let n = m.sub(t, magic);
    let quadrant = m.bits(t);
    let mut r = a;
    for part in m.pick(PARTS_F32, PARTS_F64) {
        r = m.fmac(n, -part, r);
    }
    let limit = m.pick(6400.0, 1_600_000.0);
    let huge = m.is(Cmp::Ge, a, limit);
    let any = m.k.any_true(huge);
    let (int, ty) = (m.int, m.ty);
    let chosen = m.k.choose(any, |k| huge_angles(k, a, quadrant, r, int, ty, limit), |_| vec![quadrant, r]);
    (chosen[0], chosen[1])
}

/// Recomputes the lanes of at least `limit`: one round per lane, which processes lane 0 and then rotates the vectors by
/// one.
fn huge_angles(k: &mut Builder, a: Val, quadrant: Val, r: Val, int: Ty, ty: Ty, limit: f64) -> Vec<Val> {
    let turn: Vec<u8> = (0..ty.lanes).map(|i| ((i + 1) % ty.lanes) as u8).collect();
    let (start, end) = (k.int(0), k.int(i64::from(ty.lanes)));
    let done = k.fold_loop(start, end, 1, &[a, quadrant, r], |k, _, state| {
        let &[a, quadrant, r] = state else { return state.to_vec() };
        let angle = k.lane(a, 0);
        let (q, rest) = payne_hanek(k, angle);
        let (old_q, old_rest) = (k.lane(quadrant, 0), k.lane(r, 0));
        let bound = k.float(limit, ty.with_lanes(1));
        let huge = k.cmp(Cmp::Ge, angle, bound);
        let q = k.convert(q, int.elem);
        let (q, rest) = (k.select(huge, q, old_q), k.select(huge, rest, old_rest));
        if ty.lanes == 1 {
            return vec![a, q, rest];
        }
        let (quadrant, r) = (k.with_lane(quadrant, q, 0), k.with_lane(r, rest, 0));
        [a, quadrant, r].map(|v| k.shuffle(v, v, &turn)).to_vec()
    });
    vec![done[1], done[2]]
}

/// Quadrant (`I64`) and remainder of a scalar: the mantissa times the relevant bits of 2/π, 128 bits of the product.
fn payne_hanek(k: &mut Builder, angle: Val) -> (Val, Val) {
    let elem = k.ty(angle).elem;
    // Words that the exponent can select, for finite arguments.
    let words = if elem == Elem::F64 { 17 } else { 3 };
    let double = k.convert(angle, Elem::F64);
    let bits = k.bitcast(double, Ty::I64);
    let (c52, c62, c63) = (k.int(52), k.int(62), k.int(63));
    let exponent = k.bin(Bin::Shr, bits, c52);
    let fraction = k.int((1 << 52) - 1);
    let fraction = k.bin(Bin::And, bits, fraction);
    let one = k.int(1 << 52);
    let mantissa = k.bin(Bin::Or, fraction, one);
    // angle = mantissa * 2^(exponent - 1075): bits of 2/π before number `exponent - 1077` give multiples of 4.
    let first = k.add_int(exponent, 64 - 1077);
    let c6 = k.int(6);
    let word = k.bin(Bin::Shr, first, c6);
    let shift = k.bin(Bin::And, first, c63);
    let back = k.sub(c63, shift);
    let masks: Vec<Val> = (1..words)
        .map(|i| {
            let i = k.int(i);
            k.cmp(Cmp::Eq, word, i)
        })
        .collect();
    let mut raw = Vec::new();
    for offset in 0..4 {
        let mut v = k.int(TWO_OVER_PI[offset] as i64);
        for (i, &mask) in masks.iter().enumerate() {
            let c = k.int(TWO_OVER_PI[i + 1 + offset] as i64);
            v = k.select(mask, c, v);
        }
        raw.push(v);
    }
    let one = k.int(1);
    let window: Vec<Val> = (0..3)
        .map(|i| {
            let high = k.bin(Bin::Shl, raw[i], shift);
            let low = k.bin(Bin::Shr, raw[i + 1], one);
            let low = k.bin(Bin::Shr, low, back);
            k.bin(Bin::Or, high, low)
        })
        .collect();
    let top = k.mul(mantissa, window[0]);
    let middle_high = high_product(k, mantissa, window[1]);
    let middle_low = k.mul(mantissa, window[1]);
    let bottom = high_product(k, mantissa, window[2]);
    let low = k.add(middle_low, bottom);
    let carry = k.cmp(Cmp::ULt, low, bottom);
    let carry = k.mask_to_int(carry);
    let high = k.add(top, middle_high);
    let high = k.add(high, carry);
    // The top two bits count quarter turns; the rest, as a signed number, is the remaining angle.
    let half = k.int(1 << 61);
    let rounded = k.add(high, half);
    let quadrant = k.bin(Bin::Shr, rounded, c62);
    let turned = k.bin(Bin::Shl, quadrant, c62);
    let left = k.sub(high, turned);
    let left = k.convert(left, Elem::F64);
    let low = k.uconvert(low, Elem::F64);
    let f64s = Ty::new(Elem::F64, 1);
    let scale = k.float(2f64.powi(-64), f64s);
    let low = k.mul(low, scale);
    let left = k.add(left, low);
    let scale = k.float(std::f64::consts::FRAC_PI_2 * 2f64.powi(-62), f64s);
    let rest = k.mul(left, scale);
    let infinity = k.float(f64::INFINITY, f64s);
    let nan = k.float(f64::NAN, f64s);
    let finite = k.cmp(Cmp::Lt, double, infinity);
    let rest = k.select(finite, rest, nan);
    (quadrant, k.convert(rest, elem))
}

/// The high 64 bits of an unsigned product.
fn high_product(k: &mut Builder, a: Val, b: Val) -> Val {
    let (c32, low_half) = (k.int(32), k.int(0xffff_ffff));
    let (a_low, a_high) = (k.bin(Bin::And, a, low_half), k.bin(Bin::Shr, a, c32));
    let (b_low, b_high) = (k.bin(Bin::And, b, low_half), k.bin(Bin::Shr, b, c32));
    let bottom = k.mul(a_low, b_low);
    let bottom = k.bin(Bin::Shr, bottom, c32);
    let cross = k.mul(a_high, b_low);
    let sum = k.add(cross, bottom);
    let other = k.mul(a_low, b_high);
    let sum_low = k.bin(Bin::And, sum, low_half);
    let other = k.add(other, sum_low);
    let (sum_high, other_high) = (k.bin(Bin::Shr, sum, c32), k.bin(Bin::Shr, other, c32));
    let top = k.mul(a_high, b_high);
    let top = k.add(top, sum_high);
    k.add(top, other_high)
}
