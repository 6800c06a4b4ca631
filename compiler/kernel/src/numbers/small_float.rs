//! Floats narrower than 32 bits: conversions between codes in `I32` lanes and `F32`, by integer operations.

use crate::kir::{Bin, Builder, Cmp, Elem, Val};
use mcc_ir::DType;

/// A format: 1 sign bit, then exponent, then mantissa.
struct Format {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i64,
    specials: Specials,
}

/// Codes that are not finite numbers.
#[derive(Clone, Copy, PartialEq)]
enum Specials {
    /// The top exponent is for infinities and NaN.
    Ieee,
    /// All ones is NaN; no infinities (`fn`).
    AllOnes,
    /// The code of negative zero is NaN; no infinities, no negative zero (`fnuz`).
    NegativeZero,
    /// None.
    Finite,
}

fn format(dtype: DType) -> Option<Format> {
    let (exponent_bits, mantissa_bits, bias, specials) = match dtype {
        DType::F16 => (5, 10, 15, Specials::Ieee),
        DType::F8E4M3FN => (4, 3, 7, Specials::AllOnes),
        DType::F8E4M3FNUZ => (4, 3, 8, Specials::NegativeZero),
        DType::F8E5M2 => (5, 2, 15, Specials::Ieee),
        DType::F8E5M2FNUZ => (5, 2, 16, Specials::NegativeZero),
        DType::F4E2M1 => (2, 1, 1, Specials::Finite),
        _ => return None,
    };
    Some(Format { exponent_bits, mantissa_bits, bias, specials })
}

impl Format {
    fn sign(&self) -> i64 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// Code of the largest finite number.
    fn max(&self) -> i64 {
        match self.specials {
            Specials::Ieee => self.infinity() - 1,
            Specials::AllOnes => self.sign() - 2,
            Specials::NegativeZero | Specials::Finite => self.sign() - 1,
        }
    }

    /// The code that infinity would have in an IEEE format.
    fn infinity(&self) -> i64 {
        ((1 << self.exponent_bits) - 1) << self.mantissa_bits
    }

    fn nan(&self) -> i64 {
        match self.specials {
            Specials::Ieee => self.infinity() | 1 << (self.mantissa_bits - 1),
            Specials::AllOnes => self.sign() - 1,
            Specials::NegativeZero | Specials::Finite => self.sign(),
        }
    }

    /// Code for infinity and numbers out of range, by the tables of ONNX Cast; `f16` never saturates.
    fn overflow(&self, saturate: bool) -> i64 {
        let may_saturate = self.exponent_bits + self.mantissa_bits < 8;
        match self.specials {
            Specials::Finite => self.max(),
            _ if saturate && may_saturate => self.max(),
            Specials::Ieee => self.infinity(),
            Specials::AllOnes | Specials::NegativeZero => self.nan(),
        }
    }
}

/// Bits of `F32`.
const INFINITY: i64 = 0x7f80_0000;
const QUIET_NAN: i64 = 0x7fc0_0000;
const MAGNITUDE: i64 = 0x7fff_ffff;

/// The values of codes (zero-extended in `I32` lanes).
pub(super) fn decode(k: &mut Builder, dtype: DType, code: Val) -> Val {
    if dtype == DType::F16 && k.has_halves() {
        let code = k.convert(code, Elem::I16);
        let v = k.half_to_float(code);
        k.note_code(v, dtype, code);
        return v;
    }
    let v = numbers_of(k, dtype, code);
    k.note_code(v, dtype, code);
    v
}

fn numbers_of(k: &mut Builder, dtype: DType, code: Val) -> Val {
    let ty = k.ty(code);
    let float = ty.with(Elem::F32);
    match (dtype, format(dtype)) {
        (DType::F8E8M0, _) => {
            let bits = shift(k, Bin::Shl, code, 23);
            // Code 0 is 2^-127, an `F32` subnormal; 255 is NaN.
            let bits = replace(k, Cmp::Eq, code, 0, 0x0040_0000, bits);
            let bits = replace(k, Cmp::Eq, code, 255, QUIET_NAN, bits);
            k.bitcast(bits, float)
        }
        (_, Some(f)) => {
            let width = f.exponent_bits + f.mantissa_bits;
            let magnitude = and(k, code, f.sign() - 1);
            let sign = k.bin(Bin::Xor, code, magnitude);
            let sign = shift(k, Bin::Shl, sign, 31 - width);
            // Read as an `F32`, the magnitude is off by a power of two; the product is exact, including subnormals.
            let placed = shift(k, Bin::Shl, magnitude, 23 - f.mantissa_bits);
            let scaled = k.bitcast(placed, float);
            let scale = k.float(2f64.powi(127 - f.bias as i32), float);
            let scaled = k.mul(scaled, scale);
            let bits = k.bitcast(scaled, ty);
            let bits = match f.specials {
                Specials::Ieee => {
                    let top = or(k, placed, INFINITY);
                    let limit = k.int_of(f.infinity(), ty);
                    let special = k.cmp(Cmp::Ge, magnitude, limit);
                    k.select(special, top, bits)
                }
                Specials::AllOnes => replace(k, Cmp::Eq, magnitude, f.nan(), QUIET_NAN, bits),
                Specials::NegativeZero => replace(k, Cmp::Eq, code, f.nan(), QUIET_NAN, bits),
                Specials::Finite => bits,
            };
            let bits = k.bin(Bin::Or, bits, sign);
            k.bitcast(bits, float)
        }
        (_, None) => {
            let bits = shift(k, Bin::Shl, code, 16);
            k.bitcast(bits, float)
        }
    }
}

/// The codes (zero-extended in `I32` lanes) of numbers rounded half to even; `f8e8m0` rounds up.
pub(super) fn encode(k: &mut Builder, dtype: DType, v: Val, saturate: bool) -> Val {
    // A value that was loaded or rounded before is not encoded again.
    if let Some(code) = k.code_of(v, dtype) {
        return k.uconvert(code, Elem::I32);
    }
    if dtype == DType::F16 && k.has_halves() {
        let code = k.float_to_half(v);
        return k.uconvert(code, Elem::I32);
    }
    let float = k.ty(v);
    let ty = float.with(Elem::I32);
    let bits = k.bitcast(v, ty);
    let abs = and(k, bits, MAGNITUDE);
    match (dtype, format(dtype)) {
        (DType::F8E8M0, _) => {
            let rest = k.int_of(0x7f_ffff, ty);
            let up = k.bin(Bin::Add, abs, rest);
            let code = shift(k, Bin::Shr, up, 23);
            // Up to half of 2^-126 rounds to 2^-127.
            let code = replace(k, Cmp::Le, abs, 0x0040_0000, 0, code);
            let code = replace(k, Cmp::Gt, code, 254, if saturate { 254 } else { 255 }, code);
            replace(k, Cmp::Gt, abs, INFINITY, 255, code)
        }
        (_, Some(f)) => {
            let drop = 23 - f.mantissa_bits;
            let last = shift(k, Bin::Shr, abs, drop);
            let odd = and(k, last, 1);
            let rebias = k.int_of(((f.bias - 127) << 23) + (1 << (drop - 1)) - 1, ty);
            let sum = k.bin(Bin::Add, abs, rebias);
            let sum = k.bin(Bin::Add, sum, odd);
            let normal = shift(k, Bin::Sar, sum, drop);
            // Adding a number whose last place is the format's smallest subnormal rounds in the adder.
            let magic_exponent = 24 - f.bias - i64::from(f.mantissa_bits);
            let magic = k.float(2f64.powi(magic_exponent as i32), float);
            let tiny = k.bitcast(abs, float);
            let tiny = k.add(tiny, magic);
            let tiny = k.bitcast(tiny, ty);
            let magic_bits = k.int_of((magic_exponent + 127) << 23, ty);
            let subnormal = k.sub(tiny, magic_bits);
            let limit = k.int_of((128 - f.bias) << 23, ty);
            let is_tiny = k.cmp(Cmp::Lt, abs, limit);
            let code = k.select(is_tiny, subnormal, normal);
            let code = replace(k, Cmp::Gt, code, f.max(), f.overflow(saturate), code);
            let sign = k.bin(Bin::Xor, bits, abs);
            let sign = shift(k, Bin::Shr, sign, 31 - f.exponent_bits - f.mantissa_bits);
            let signed = k.bin(Bin::Or, code, sign);
            let signed = match f.specials {
                Specials::NegativeZero => replace(k, Cmp::Eq, code, 0, 0, signed),
                _ => signed,
            };
            replace(k, Cmp::Gt, abs, INFINITY, f.nan(), signed)
        }
        (_, None) => {
            let last = shift(k, Bin::Shr, bits, 16);
            let odd = and(k, last, 1);
            let half = k.int_of(0x7fff, ty);
            let rounded = k.bin(Bin::Add, bits, half);
            let rounded = k.bin(Bin::Add, rounded, odd);
            let code = shift(k, Bin::Shr, rounded, 16);
            replace(k, Cmp::Gt, abs, INFINITY, QUIET_NAN >> 16, code)
        }
    }
}

fn shift(k: &mut Builder, op: Bin, v: Val, count: u32) -> Val {
    let count = k.int(i64::from(count));
    k.bin(op, v, count)
}

fn and(k: &mut Builder, v: Val, c: i64) -> Val {
    let c = k.int_of(c, k.ty(v));
    k.bin(Bin::And, v, c)
}

fn or(k: &mut Builder, v: Val, c: i64) -> Val {
    let c = k.int_of(c, k.ty(v));
    k.bin(Bin::Or, v, c)
}

/// `x op c ? then : otherwise`.
fn replace(k: &mut Builder, op: Cmp, x: Val, c: i64, then: i64, otherwise: Val) -> Val {
    let (c, then) = (k.int_of(c, k.ty(x)), k.int_of(then, k.ty(otherwise)));
    let mask = k.cmp(op, x, c);
    k.select(mask, then, otherwise)
}
