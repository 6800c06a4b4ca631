//! The exact floating-point remainder, as C's `fmod`.

use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Un, Val};
use crate::numbers::by_lanes;

/// `x - trunc(x / y) y`, exact, with the sign of `x`; NaN for `y = 0` and infinite `x`.
pub fn rem(k: &mut Builder, x: Val, y: Val) -> Val {
    let ty = k.ty(x);
    by_lanes(k, ty, |k, lane| {
        let (a, b) = (k.lane(x, lane as u8), k.lane(y, lane as u8));
        let (a, b) = (k.convert(a, Elem::F64), k.convert(b, Elem::F64));
        let r = remainder(k, a, b, ty.elem == Elem::F64);
        k.convert(r, ty.elem)
    })
}

/// Long division: a round computes 26 bits of the quotient, whose products with halves of the divisor are exact.
fn remainder(k: &mut Builder, x: Val, y: Val, is_double: bool) -> Val {
    let ty = Ty::new(Elem::F64, 1);
    let (a, b) = (k.un(Un::Abs, x), k.un(Un::Abs, y));
    let (zero, infinity, small) = (k.float(0.0, ty), k.float(f64::INFINITY, ty), k.float(2f64.powi(26), ty));
    let quotient = k.bin(Bin::Div, a, b);
    // Quotients span 2^277 for `f32`, 2^2098 for `f64`: that many rounds if the first one does not suffice.
    let (one, many) = (k.int(1), k.int(if is_double { 84 } else { 12 }));
    let near = k.cmp(Cmp::Lt, quotient, small);
    let rounds = k.select(near, one, many);
    let half = k.int(!((1 << 27) - 1));
    let start = k.int(0);
    let (down, up) = (k.float(2f64.powi(-600), ty), k.float(2f64.powi(600), ty));
    let bound = k.float(2f64.powi(300), ty);
    let done = k.fold_loop(start, rounds, 1, &[a], |k, _, state| {
        let r = state[0];
        // If the quotient is out of range, a multiple of the divisor is used instead.
        let mut divisor = b;
        let mut reduced = r;
        for _ in 0..2 {
            reduced = k.mul(reduced, down);
            let trial = k.bin(Bin::Div, reduced, b);
            let far = k.cmp(Cmp::Gt, trial, bound);
            let larger = k.mul(divisor, up);
            divisor = k.select(far, larger, divisor);
        }
        let q = k.bin(Bin::Div, r, divisor);
        let q = k.un(Un::Trunc, q);
        let q = masked(k, q, half);
        let high = masked(k, divisor, half);
        let low = k.sub(divisor, high);
        let product = k.mul(q, high);
        let left = k.sub(r, product);
        let product = k.mul(q, low);
        let left = k.sub(left, product);
        // The quotient may have been rounded up.
        let below = k.cmp(Cmp::Lt, left, zero);
        let fixed = k.add(left, divisor);
        vec![k.select(below, fixed, left)]
    });
    let r = done[0];
    // With an infinite divisor the result is the dividend; 0 / 0 and inf / y gave NaN.
    let infinite = k.cmp(Cmp::Eq, b, infinity);
    let finite = k.cmp(Cmp::Lt, a, infinity);
    let keep = k.bin(Bin::And, infinite, finite);
    let r = k.select(keep, a, r);
    let by_zero = k.cmp(Cmp::Eq, b, zero);
    let nan = k.float(f64::NAN, ty);
    let r = k.select(by_zero, nan, r);
    let r = k.select(finite, r, nan);
    let bits = k.bitcast(x, Ty::I64);
    let sign = k.int(i64::MIN);
    let sign = k.bin(Bin::And, bits, sign);
    let bits = k.bitcast(r, Ty::I64);
    let bits = k.bin(Bin::Or, bits, sign);
    k.bitcast(bits, ty)
}

fn masked(k: &mut Builder, v: Val, mask: Val) -> Val {
    let ty = k.ty(v);
    let bits = k.bitcast(v, Ty::I64);
    let bits = k.bin(Bin::And, bits, mask);
    k.bitcast(bits, ty)
}
