//! Arithmetic on raw bits of lanes: zero-extended; masks are 0 or 1.

use crate::kir::{Bin, Cmp, Elem, Un};

/// A float quantized to a byte, see [`Inst::Quantize`](crate::kir::Inst::Quantize).
pub(super) fn quantized(x: u64, zero: u64, signed: bool) -> i64 {
    let (x, zero) = (float(x, Elem::F32), float(zero, Elem::F32));
    let (low, high) = if signed { (-128.0, 127.0) } else { (0.0, 255.0) };
    (x.round_ties_even() + zero).clamp(low, high) as i64
}

pub(super) fn truncate(bits: u64, elem: Elem) -> u64 {
    match elem.bytes() {
        8 => bits,
        n => bits & ((1 << (8 * n)) - 1),
    }
}

pub(super) fn signed(bits: u64, elem: Elem) -> i64 {
    let unused = 64 - 8 * elem.bytes();
    (bits << unused) as i64 >> unused
}

pub(super) fn float(bits: u64, elem: Elem) -> f64 {
    if elem == Elem::F32 { f64::from(f32::from_bits(bits as u32)) } else { f64::from_bits(bits) }
}

pub(super) fn from_float(v: f64, elem: Elem) -> u64 {
    if elem == Elem::F32 { u64::from((v as f32).to_bits()) } else { v.to_bits() }
}

pub(super) fn binary(op: Bin, elem: Elem, x: u64, y: u64) -> std::result::Result<u64, String> {
    if elem.is_float() {
        // In `f64` these `F32` operations are precise enough that rounding again gives the same result.
        let (a, b) = (float(x, elem), float(y, elem));
        let nan = a.is_nan() || b.is_nan();
        let result = match op {
            Bin::Add => a + b,
            Bin::Sub => a - b,
            Bin::Mul => a * b,
            Bin::Div => a / b,
            Bin::Min | Bin::Max if nan => f64::NAN,
            Bin::Min if a == b => {
                if a.is_sign_negative() {
                    a
                } else {
                    b
                }
            }
            Bin::Max if a == b => {
                if a.is_sign_negative() {
                    b
                } else {
                    a
                }
            }
            Bin::Min => a.min(b),
            Bin::Max => a.max(b),
            _ => return Err(format!("{op:?} of floats")),
        };
        return Ok(from_float(result, elem));
    }
    let (a, b) = (signed(x, elem), signed(y, elem));
    let width = u64::from(8 * elem.bytes());
    let divides = |ok: bool| if ok { Ok(()) } else { Err(format!("{op:?} of {a} by {b}")) };
    let smallest = signed(1 << (width - 1), elem);
    let result = match op {
        Bin::Add => a.wrapping_add(b) as u64,
        Bin::Sub => a.wrapping_sub(b) as u64,
        Bin::Mul => a.wrapping_mul(b) as u64,
        Bin::Div => {
            divides(b != 0 && !(a == smallest && b == -1))?;
            (a / b) as u64
        }
        Bin::Rem => {
            divides(b != 0 && !(a == smallest && b == -1))?;
            (a % b) as u64
        }
        Bin::UDiv => {
            divides(b != 0)?;
            x / y
        }
        Bin::URem => {
            divides(b != 0)?;
            x % y
        }
        Bin::Min => a.min(b) as u64,
        Bin::Max => a.max(b) as u64,
        Bin::UMin => x.min(y),
        Bin::UMax => x.max(y),
        Bin::And => x & y,
        Bin::Or => x | y,
        Bin::Xor => x ^ y,
        Bin::Shl | Bin::Shr | Bin::Sar if y >= width => return Err(format!("{op:?} of {width} bits by {y}")),
        Bin::Shl => x << y,
        Bin::Shr => x >> y,
        Bin::Sar => (a >> y) as u64,
    };
    Ok(truncate(result, elem))
}

pub(super) fn unary(op: Un, elem: Elem, x: u64) -> std::result::Result<u64, String> {
    if matches!(elem, Elem::Mask8 | Elem::Mask16 | Elem::Mask32 | Elem::Mask64) {
        return if op == Un::Not { Ok(x ^ 1) } else { Err(format!("{op:?} of a mask")) };
    }
    if elem.is_float() {
        let sign = 1 << (8 * elem.bytes() - 1);
        let a = float(x, elem);
        let result = match op {
            Un::Neg => return Ok(x ^ sign),
            Un::Abs => return Ok(x & !sign),
            Un::Sqrt => a.sqrt(),
            Un::Floor => a.floor(),
            Un::Ceil => a.ceil(),
            Un::Trunc => a.trunc(),
            Un::Nearest => a.round_ties_even(),
            Un::Not | Un::CountOnes => return Err(format!("{op:?} of a float")),
        };
        return Ok(from_float(result, elem));
    }
    let result = match op {
        Un::Neg => (x as i64).wrapping_neg() as u64,
        Un::Abs => signed(x, elem).wrapping_abs() as u64,
        Un::Not => !x,
        Un::CountOnes => u64::from(x.count_ones()),
        _ => return Err(format!("{op:?} of an integer")),
    };
    Ok(truncate(result, elem))
}

pub(super) fn compare(op: Cmp, elem: Elem, x: u64, y: u64) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match op {
        Cmp::ULt | Cmp::ULe | Cmp::UGt | Cmp::UGe => Some(x.cmp(&y)),
        _ if elem.is_float() => float(x, elem).partial_cmp(&float(y, elem)),
        _ => Some(signed(x, elem).cmp(&signed(y, elem))),
    };
    match op {
        Cmp::Eq => order == Some(Equal),
        Cmp::Ne => order != Some(Equal),
        Cmp::Lt | Cmp::ULt => order == Some(Less),
        Cmp::Le | Cmp::ULe => matches!(order, Some(Less | Equal)),
        Cmp::Gt | Cmp::UGt => order == Some(Greater),
        Cmp::Ge | Cmp::UGe => matches!(order, Some(Greater | Equal)),
    }
}

pub(super) fn convert(bits: u64, from: Elem, to: Elem, is_signed: bool) -> u64 {
    match (from.is_float(), to.is_float()) {
        (true, true) => from_float(float(bits, from), to),
        (true, false) => {
            let v = float(bits, from);
            let width = 8 * to.bytes();
            let result = match (is_signed, width) {
                (true, 64) => v as i64 as u64,
                (true, _) => (v as i64).clamp(-1 << (width - 1), (1 << (width - 1)) - 1) as u64,
                (false, 64) => v as u64,
                (false, _) => (v as u64).min((1 << width) - 1),
            };
            truncate(result, to)
        }
        (false, true) => match (is_signed, to) {
            (true, Elem::F32) => u64::from((signed(bits, from) as f32).to_bits()),
            (true, _) => (signed(bits, from) as f64).to_bits(),
            (false, Elem::F32) => u64::from((bits as f32).to_bits()),
            (false, _) => (bits as f64).to_bits(),
        },
        (false, false) => truncate(if is_signed { signed(bits, from) as u64 } else { bits }, to),
    }
}
