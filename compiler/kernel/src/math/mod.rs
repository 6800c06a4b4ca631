//! Elementary functions on registers, `F32` and `F64`, in any number of lanes, without branches (except for the range
//! reduction of huge angles) and without a library.
//!
//! The polynomials are minimax fits on the stated intervals (Remez exchange in 50 digits), highest power first, for
//! `F32` and for `F64`. Errors stay within about 2 units in the last place; the tests assert each function's bound.
//! Zeros keep their sign if the function is odd; infinities, NaN and subnormals follow IEEE 754.
//! A target without fused multiply-add rounds twice in [`Math::fma`]: nothing here needs the single rounding.

mod exp;
mod gelu;
mod hyperbolic;
mod inverse;
mod log;
mod pow;
mod rem;
#[cfg(test)]
mod tests;
mod trig;

pub use exp::{erf, exp, exp_nonpositive, sigmoid, tanh};
pub use gelu::gelu;
pub use hyperbolic::{acosh, asinh, atanh, cosh, sinh, softplus};
pub use inverse::{acos, asin, atan};
pub use log::log;
pub use pow::pow;
pub use rem::rem;
pub use trig::{cos, sin, tan};

use super::kir::{Bin, Builder, Cmp, Elem, Ty, Un, Val};

/// A builder with short names for arithmetic on one float type.
struct Math<'a> {
    k: &'a mut Builder,
    ty: Ty,
    /// The integer type of the same width.
    int: Ty,
}

impl<'a> Math<'a> {
    fn new(k: &'a mut Builder, x: Val) -> Math<'a> {
        let ty = k.ty(x);
        let int = ty.with(ty.elem.int());
        Math { k, ty, int }
    }

    fn is_double(&self) -> bool {
        self.ty.elem == Elem::F64
    }

    /// One of two constants or tables, depending on the type.
    fn pick<T>(&self, single: T, double: T) -> T {
        if self.is_double() { double } else { single }
    }

    /// Bits of the mantissa.
    fn mantissa(&self) -> i64 {
        self.pick(23, 52)
    }

    fn bias(&self) -> i64 {
        self.pick(127, 1023)
    }

    /// The bits of a float in the type's format.
    fn bits_of(&self, v: f64) -> i64 {
        self.pick(i64::from((v as f32).to_bits()), v.to_bits() as i64)
    }

    fn c(&mut self, v: f64) -> Val {
        self.k.float(v, self.ty)
    }

    fn i(&mut self, v: i64) -> Val {
        self.k.int_of(v, self.int)
    }

    fn add(&mut self, a: Val, b: Val) -> Val {
        self.k.add(a, b)
    }

    fn sub(&mut self, a: Val, b: Val) -> Val {
        self.k.sub(a, b)
    }

    fn mul(&mut self, a: Val, b: Val) -> Val {
        self.k.mul(a, b)
    }

    fn div(&mut self, a: Val, b: Val) -> Val {
        self.k.bin(Bin::Div, a, b)
    }

    fn fma(&mut self, a: Val, b: Val, c: Val) -> Val {
        self.k.fma(a, b, c)
    }

    fn addc(&mut self, a: Val, c: f64) -> Val {
        let c = self.c(c);
        self.add(a, c)
    }

    fn mulc(&mut self, a: Val, c: f64) -> Val {
        let c = self.c(c);
        self.mul(a, c)
    }

    /// `a * b + c` for a constant `b`.
    fn fmac(&mut self, a: Val, b: f64, c: Val) -> Val {
        let b = self.c(b);
        self.fma(a, b, c)
    }

    fn sqrt(&mut self, a: Val) -> Val {
        self.k.un(Un::Sqrt, a)
    }

    fn abs(&mut self, a: Val) -> Val {
        self.k.un(Un::Abs, a)
    }

    fn neg(&mut self, a: Val) -> Val {
        self.k.un(Un::Neg, a)
    }

    fn cmp(&mut self, op: Cmp, a: Val, b: Val) -> Val {
        self.k.cmp(op, a, b)
    }

    /// `x op c`.
    fn is(&mut self, op: Cmp, x: Val, c: f64) -> Val {
        let c = self.c(c);
        self.cmp(op, x, c)
    }

    fn select(&mut self, mask: Val, a: Val, b: Val) -> Val {
        self.k.select(mask, a, b)
    }

    /// `mask ? c : x`.
    fn set(&mut self, mask: Val, c: f64, x: Val) -> Val {
        let c = self.c(c);
        self.select(mask, c, x)
    }

    /// `mask ? a : b` of constants.
    fn choice(&mut self, mask: Val, a: f64, b: f64) -> Val {
        let (a, b) = (self.c(a), self.c(b));
        self.select(mask, a, b)
    }

    fn both(&mut self, a: Val, b: Val) -> Val {
        self.k.bin(Bin::And, a, b)
    }

    fn either(&mut self, a: Val, b: Val) -> Val {
        self.k.bin(Bin::Or, a, b)
    }

    fn bits(&mut self, v: Val) -> Val {
        self.k.bitcast(v, self.int)
    }

    fn float(&mut self, v: Val) -> Val {
        self.k.bitcast(v, self.ty)
    }

    fn iadd(&mut self, a: Val, c: i64) -> Val {
        let c = self.i(c);
        self.k.add(a, c)
    }

    fn iand(&mut self, a: Val, c: i64) -> Val {
        let c = self.i(c);
        self.k.bin(Bin::And, a, c)
    }

    fn shl(&mut self, a: Val, count: i64) -> Val {
        let count = self.k.int(count);
        self.k.bin(Bin::Shl, a, count)
    }

    fn shr(&mut self, a: Val, count: i64) -> Val {
        let count = self.k.int(count);
        self.k.bin(Bin::Shr, a, count)
    }

    fn xor(&mut self, a: Val, b: Val) -> Val {
        self.k.bin(Bin::Xor, a, b)
    }

    /// The sign bit of a float, as an integer.
    fn sign_bit(&mut self, x: Val) -> Val {
        let bits = self.bits(x);
        let mask = self.pick(i64::from(i32::MIN), i64::MIN);
        self.iand(bits, mask)
    }

    /// Flips the sign of `y` where the sign bit (as an integer) is set.
    fn flip(&mut self, y: Val, sign: Val) -> Val {
        let bits = self.bits(y);
        let bits = self.xor(bits, sign);
        self.float(bits)
    }

    /// `y`, which is not negative, with the sign of `x`.
    fn with_sign_of(&mut self, y: Val, x: Val) -> Val {
        let sign = self.sign_bit(x);
        self.flip(y, sign)
    }

    /// The smaller of `x` and `c`; NaN stays NaN.
    fn at_most(&mut self, x: Val, c: f64) -> Val {
        let c = self.c(c);
        self.k.bin(Bin::Min, x, c)
    }

    /// The larger of `x` and `c`; NaN stays NaN.
    fn at_least(&mut self, x: Val, c: f64) -> Val {
        let c = self.c(c);
        self.k.bin(Bin::Max, x, c)
    }

    /// A polynomial, highest power first.
    fn poly(&mut self, x: Val, coefficients: &[f64]) -> Val {
        let mut terms = coefficients.iter();
        let mut sum = self.c(terms.next().copied().unwrap_or(0.0));
        for &c in terms {
            let c = self.c(c);
            sum = self.fma(sum, x, c);
        }
        sum
    }

    /// The polynomial of the type.
    fn poly_of(&mut self, x: Val, single: &[f64], double: &[f64]) -> Val {
        let table = self.pick(single, double);
        self.poly(x, table)
    }

    /// A number that rounds its addend to an integer, held in the sum's low bits.
    fn magic(&self) -> f64 {
        self.pick(12_582_912.0, 6_755_399_441_055_744.0)
    }

    /// Clears the low half of the mantissa: products of such numbers are exact.
    fn high_half(&mut self, x: Val) -> Val {
        let bits = self.bits(x);
        let mask = self.pick(!0xfff, !0x7ff_ffff);
        let bits = self.iand(bits, mask);
        self.float(bits)
    }

    fn infinity(&mut self) -> Val {
        self.c(f64::INFINITY)
    }
}
