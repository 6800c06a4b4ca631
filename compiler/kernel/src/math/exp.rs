//! Functions based on the exponential: `exp`, `tanh`, `sigmoid`, `erf`.

use super::Math;
use crate::kir::{Builder, Cmp, Val};

/// `(e^r - 1 - r) / r²` for `|r| <= ln(2) / 2`; errors 2^-28 and 2^-64.
const EXP_F32: [f64; 5] =
    [0.0013950615956491836, 0.008368953341200936, 0.04166620388931954, 0.16666518308658929, 0.5000000095803195];
const EXP_F64: [f64; 11] = [
    2.0927013291924297e-09,
    2.5112348416370125e-08,
    2.7557233106646933e-07,
    2.755723392954036e-06,
    2.480158737409264e-05,
    0.00019841269897361943,
    0.0013888888888858209,
    0.008333333333316617,
    0.04166666666666673,
    0.16666666666666685,
    0.5,
];

/// `e^x`.
pub fn exp(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    m.exp_of_sum(x, None)
}

/// `e^x` for `x <= 0`, in fewer instructions.
pub fn exp_nonpositive(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    m.exp_nonpositive(x)
}

/// `1 / (1 + e^-x)`.
pub fn sigmoid(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let abs = m.abs(x);
    let minus = m.neg(abs);
    let e = m.exp_nonpositive(minus);
    let negative = m.is(Cmp::Lt, x, 0.0);
    let one = m.c(1.0);
    let above = m.select(negative, e, one);
    let below = m.add(e, one);
    m.div(above, below)
}

/// Hyperbolic tangent: `(e^2x - 1) / (e^2x - 1 + 2)`.
pub fn tanh(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let abs = m.abs(x);
    // The result is 1 from 9.02 (`F64`: 19.1) on.
    let abs = m.at_most(abs, m.pick(10.0, 20.0));
    let twice = m.add(abs, abs);
    let e = m.exp_minus_one(twice);
    let below = m.addc(e, 2.0);
    let y = m.div(e, below);
    m.with_sign_of(y, x)
}

/// `erf(√z) / √z - 1` for `z <= 1`; errors 2^-29 and 2^-62.
const ERF_F32: [f64; 7] = [
    7.853853470973432e-05,
    -0.0008010191147344025,
    0.005188327383650985,
    -0.0268538117584398,
    0.11283585143855661,
    -0.3761262582390605,
    0.12837916572704033,
];
const ERF_F64: [f64; 13] = [
    5.945252694006674e-11,
    -1.136566101227789e-09,
    1.4657878655670556e-08,
    -1.635002505755278e-07,
    1.6460972802127468e-06,
    -1.4925593505968311e-05,
    0.00012055331036859567,
    -0.0008548326978740998,
    0.005223977624780843,
    -0.026866170645072893,
    0.11283791670954857,
    -0.3761263890318375,
    0.1283791670955126,
];

/// `ln(erfc(t))` on `[0.92, 4]`; error 2^-29 after weighting with `erfc`.
const LOG_ERFC_F32: [f64; 7] = [
    0.00019494086089695683,
    -0.003033639431159598,
    0.022189582646645837,
    -0.10385600323360715,
    -0.6372661430513024,
    -1.1276271856452555,
    -0.00020705681005599218,
];
/// `ln(erfc(1 + t))` for `1 + t` on `[0.98, 6]`; error 2^-59 after weighting.
const LOG_ERFC_F64: [f64; 19] = [
    1.0983267237752044e-12,
    -3.023934006415187e-11,
    3.83719893364617e-10,
    -2.9647221697557845e-09,
    1.5349624895392035e-08,
    -5.338690894646683e-08,
    1.0057861008114126e-07,
    1.378195212828951e-07,
    -2.0534661097261564e-06,
    9.603019665662612e-06,
    -2.7155040127759236e-05,
    2.6275810551404978e-05,
    0.000237323230796556,
    -0.0019779027561576856,
    0.01003382540552702,
    -0.04156109804493763,
    -0.8431072563585092,
    -2.6389675142347917,
    -1.8496055099332482,
];

/// The error function: odd polynomial below 1, `1 - e^g(x)` above.
pub fn erf(k: &mut Builder, x: Val) -> Val {
    let m = &mut Math::new(k, x);
    let z = m.mul(x, x);
    let p = m.poly_of(z, &ERF_F32, &ERF_F64);
    let small = m.fma(p, x, x);

    let abs = m.abs(x);
    // The result is 1 from 3.92 (`F64`: 5.93) on.
    let t = m.at_most(abs, m.pick(4.0, 6.0));
    let g = if m.is_double() {
        let t = m.addc(t, -1.0);
        m.poly(t, &LOG_ERFC_F64)
    } else {
        m.poly(t, &LOG_ERFC_F32)
    };
    let (n, r) = m.split(g);
    let p = m.exp_of_rest(r);
    let one = m.i(m.bias() << m.mantissa());
    let power = m.k.add(n, one);
    let power = m.float(power);
    let minus = m.neg(p);
    let one = m.c(1.0);
    let large = m.fma(minus, power, one);
    let large = m.with_sign_of(large, x);

    let is_small = m.is(Cmp::Lt, abs, 1.0);
    m.select(is_small, small, large)
}

impl Math<'_> {
    /// `x = n ln(2) + r` with the nearest integer `n`, in the exponent's position.
    pub(super) fn split(&mut self, x: Val) -> (Val, Val) {
        let magic = self.magic();
        let magic = self.c(magic);
        let t = self.fmac(x, std::f64::consts::LOG2_E, magic);
        let n = self.sub(t, magic);
        // The first part of ln(2) has enough trailing zeros that its product with n is exact.
        let (high, low) = self.pick(
            (0.693359375, -2.121_944_400_546_905_8e-4),
            (6.931_471_803_691_238_165e-1, 1.908_214_929_270_587_7e-10),
        );
        let r = self.fmac(n, -high, x);
        let r = self.fmac(n, -low, r);
        // The shift drops all bits of the magic number.
        let bits = self.bits(t);
        let n = self.shl(bits, self.mantissa());
        (n, r)
    }

    /// `e^r - 1` for a remainder of [`Math::split`].
    pub(super) fn exp_minus_one_of_rest(&mut self, r: Val) -> Val {
        let q = self.poly_of(r, &EXP_F32, &EXP_F64);
        let square = self.mul(r, r);
        self.fma(square, q, r)
    }

    /// `e^r` for a remainder of [`Math::split`].
    pub(super) fn exp_of_rest(&mut self, r: Val) -> Val {
        let e = self.exp_minus_one_of_rest(r);
        self.addc(e, 1.0)
    }

    /// `e^(x + low)` for a small `low`.
    pub(super) fn exp_of_sum(&mut self, x: Val, low: Option<Val>) -> Val {
        // Beyond the bounds the result is 0 or infinity.
        let (least, most) = self.pick((-104.0, 89.0), (-745.5, 710.0));
        let x = self.at_least(x, least);
        let x = self.at_most(x, most);
        let (n, r) = self.split(x);
        let r = match low {
            Some(low) => self.add(r, low),
            None => r,
        };
        let p = self.exp_of_rest(r);
        // 2^n may be out of range even if p * 2^n is not: the power is split into two factors.
        let negative = self.is(Cmp::Lt, x, 0.0);
        let (mantissa, bias) = (self.mantissa(), self.bias());
        let (up, down) = (self.i((bias + mantissa + 1) << mantissa), self.i((bias - 1) << mantissa));
        let offset = self.select(negative, up, down);
        let power = self.k.add(n, offset);
        let power = self.float(power);
        let rest = self.choice(negative, 2f64.powi(-1 - mantissa as i32), 2.0);
        let y = self.mul(p, power);
        self.mul(y, rest)
    }

    /// `e^x` for `x <= 0`.
    pub(super) fn exp_nonpositive(&mut self, x: Val) -> Val {
        let x = self.at_least(x, self.pick(-104.0, -745.5));
        let (n, r) = self.split(x);
        let p = self.exp_of_rest(r);
        let mantissa = self.mantissa();
        let power = self.iadd(n, (self.bias() + mantissa + 1) << mantissa);
        let power = self.float(power);
        let y = self.mul(p, power);
        self.mulc(y, 2f64.powi(-1 - mantissa as i32))
    }

    /// `e^x - 1` for `x >= 0` far from overflow.
    pub(super) fn exp_minus_one(&mut self, x: Val) -> Val {
        let (n, r) = self.split(x);
        let e = self.exp_minus_one_of_rest(r);
        let power = self.iadd(n, self.bias() << self.mantissa());
        let power = self.float(power);
        let rest = self.addc(power, -1.0);
        self.fma(power, e, rest)
    }

    /// `e^x / 2` for `x >= 0`, which overflows later than `e^x`.
    pub(super) fn half_exp(&mut self, x: Val) -> Val {
        let x = self.at_most(x, self.pick(89.5, 710.6));
        let (n, r) = self.split(x);
        let p = self.exp_of_rest(r);
        // The last powers in range have a factor that is not: a factor of 2 moves to the other one.
        let twice = self.add(p, p);
        let power = self.iadd(n, (self.bias() - 2) << self.mantissa());
        let power = self.float(power);
        self.mul(twice, power)
    }
}
