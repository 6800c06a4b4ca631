//! How element types are held in registers: the compute type of each, loads, stores and conversions.
//!
//! | in memory | in registers |
//! |---|---|
//! | `f32`, `f16`, `bf16`, 8- and 4-bit floats | `F32` |
//! | `f64` | `F64` |
//! | `i64`, `u64` | `I64` |
//! | all other integers | `I32`, always in the range of their own type (`u32`: its bits) |
//! | `bool` | `I32`, 0 or 1 |
//!
//! Arithmetic on narrow floats keeps `F32` precision; rounding happens at stores and casts. Out-of-range conversions
//! from float to integer give an unspecified value of the type and never trap.

mod small_float;
#[cfg(test)]
mod tests;

use super::kir::{Addr, Bin, Builder, Cmp, Elem, Ty, Val};
use mcc_ir::{DType, DTypeClass};

/// The register element of a type.
pub fn compute_elem(dtype: DType) -> Elem {
    match dtype {
        DType::F64 => Elem::F64,
        DType::I64 | DType::U64 => Elem::I64,
        _ if dtype.is_float() => Elem::F32,
        _ => Elem::I32,
    }
}

/// Loads `lanes` consecutive elements into the compute type.
pub fn load(k: &mut Builder, dtype: DType, from: Addr, lanes: u32) -> Val {
    let elem = compute_elem(dtype);
    if dtype.size() as u32 == elem.bytes() {
        return k.load(Ty::new(elem, lanes), from);
    }
    let signed = dtype.class() == DTypeClass::Signed;
    let narrow = Ty::new(if dtype.size() == 1 { Elem::I8 } else { Elem::I16 }, lanes);
    if dtype == DType::F16 && k.has_halves() && has_own_register(lanes) {
        let code = k.load(narrow, from);
        let v = k.half_to_float(code);
        k.note_code(v, dtype, code);
        return v;
    }
    // Registers wider than 16 bytes have widening and narrowing moves, but no fast byte shuffles.
    let code = if has_own_register(lanes) {
        let v = k.load(narrow, from);
        if signed { k.convert(v, Elem::I32) } else { k.uconvert(v, Elem::I32) }
    } else if lanes.is_multiple_of(4) {
        load_widening(k, narrow, from, signed)
    } else {
        by_lanes(k, Ty::new(Elem::I32, lanes), |k, lane| {
            let at = Addr { offset: from.offset + lane as i32 * dtype.size() as i32, ..from };
            let v = k.load(narrow.with_lanes(1), at);
            if signed { k.convert(v, Elem::I32) } else { k.uconvert(v, Elem::I32) }
        })
    };
    if dtype.is_float() { small_float::decode(k, dtype, code) } else { code }
}

/// Whether `lanes` narrow elements are loaded and stored in a register of their own.
fn has_own_register(lanes: u32) -> bool {
    lanes == 1 || lanes > 4
}

/// Loads a full register of narrow integers: all bytes at once; each is then moved to the top of its lane and shifted
/// down, which extends it.
fn load_widening(k: &mut Builder, narrow: Ty, from: Addr, signed: bool) -> Val {
    let wide = Ty::new(Elem::I32, narrow.lanes);
    let packed = match narrow.bytes() {
        _ if k.part(narrow.lanes).is_some() => k.load(narrow, from),
        4 => {
            let v = k.load(Ty::new(Elem::I32, 1), from);
            let v = k.splat(v, wide.bytes() / 4);
            k.bitcast(v, Ty::new(narrow.elem, wide.bytes() / narrow.elem.bytes()))
        }
        8 => {
            let v = k.load(Ty::I64, from);
            let v = k.splat(v, wide.bytes() / 8);
            k.bitcast(v, Ty::new(narrow.elem, wide.bytes() / narrow.elem.bytes()))
        }
        _ => k.load(narrow, from),
    };
    let copies = 4 / narrow.elem.bytes();
    let pattern: Vec<u8> = (0..narrow.lanes * copies).map(|i| (i / copies) as u8).collect();
    let spread = k.shuffle(packed, packed, &pattern);
    let spread = k.bitcast(spread, wide);
    let count = k.int(i64::from(32 - 8 * narrow.elem.bytes()));
    k.bin(if signed { Bin::Sar } else { Bin::Shr }, spread, count)
}

/// Stores all lanes of a value of the compute type, rounding to a narrower float (half to even).
pub fn store(k: &mut Builder, dtype: DType, to: Addr, v: Val) {
    let ty = k.ty(v);
    if dtype.size() as u32 == ty.elem.bytes() {
        k.store(to, v);
        return;
    }
    if let Some(code) = k.code_of(v, dtype).filter(|&code| k.ty(code).elem == Elem::I8) {
        k.store(to, code);
        return;
    }
    if dtype == DType::F16 && k.has_halves() && has_own_register(ty.lanes) {
        let code = match k.code_of(v, dtype) {
            Some(code) => k.convert(code, Elem::I16),
            None => k.float_to_half(v),
        };
        return k.store(to, code);
    }
    // A saturated cast is in range already; one that overflowed stays so.
    let code = if dtype.is_float() { small_float::encode(k, dtype, v, false) } else { v };
    let narrow = if dtype.size() == 1 { Elem::I8 } else { Elem::I16 };
    if has_own_register(ty.lanes) {
        let narrowed = k.convert(code, narrow);
        k.store(to, narrowed);
        return;
    }
    if !ty.lanes.is_multiple_of(4) {
        for lane in 0..ty.lanes {
            let one = k.lane(code, lane as u8);
            let narrowed = k.convert(one, narrow);
            k.store(Addr { offset: to.offset + lane as i32 * dtype.size() as i32, ..to }, narrowed);
        }
        return;
    }
    let step = 4 / narrow.bytes();
    let parts = k.bitcast(code, Ty::new(narrow, ty.lanes * step));
    let bytes = ty.lanes * narrow.bytes();
    if bytes > 8 || k.part(ty.lanes).is_some() {
        let pattern: Vec<u8> = (0..ty.lanes).map(|i| (i * step) as u8).collect();
        let packed = k.shuffle(parts, parts, &pattern);
        k.store(to, packed);
        return;
    }
    // The low lanes hold the packed elements; the rest is padding.
    let pattern: Vec<u8> = (0..ty.lanes * step).map(|i| (i % ty.lanes * step) as u8).collect();
    let packed = k.shuffle(parts, parts, &pattern);
    let whole = if bytes == 4 { Elem::I32 } else { Elem::I64 };
    let packed = k.bitcast(packed, Ty::new(whole, ty.bytes() / whole.bytes()));
    let low = k.lane(packed, 0);
    k.store(to, low);
}

/// ONNX Cast between compute types. `saturate` affects only results of 8-bit floats.
pub fn cast(k: &mut Builder, v: Val, from: DType, to: DType, saturate: bool) -> Val {
    if from == to {
        return v;
    }
    match (from.class(), to.class()) {
        (DTypeClass::Bool, DTypeClass::Bool) => v,
        (_, DTypeClass::Bool) => {
            let zero = k.zero_like(v);
            let mask = k.cmp(Cmp::Ne, v, zero);
            let int = k.mask_to_int(mask);
            k.convert(int, Elem::I32)
        }
        (DTypeClass::Float, DTypeClass::Float) => float_to_float(k, v, from, to, saturate),
        (_, DTypeClass::Float) => {
            let elem = compute_elem(to);
            let unsigned = matches!(from, DType::U32 | DType::U64);
            let f = if unsigned { k.uconvert(v, elem) } else { k.convert(v, elem) };
            round_to(k, f, to, saturate)
        }
        (DTypeClass::Float, _) => {
            let elem = compute_elem(to);
            let unsigned = matches!(to, DType::U32 | DType::U64);
            let i = if unsigned { k.uconvert(v, elem) } else { k.convert(v, elem) };
            wrap(k, i, to)
        }
        _ => {
            let i = if from == DType::U32 { k.uconvert(v, compute_elem(to)) } else { k.convert(v, compute_elem(to)) };
            if holds(to, from) { i } else { wrap(k, i, to) }
        }
    }
}

/// Whether integer type `to` holds every value of `from` (both have the same register element).
fn holds(to: DType, from: DType) -> bool {
    let spare = to.bits().saturating_sub(from.bits());
    match (from.class(), to.class()) {
        (DTypeClass::Signed, DTypeClass::Unsigned) => false,
        (DTypeClass::Bool, _) => true,
        (DTypeClass::Unsigned, DTypeClass::Signed) => spare > 0,
        _ => to.bits() >= from.bits(),
    }
}

/// Wraps a register integer to the range of a type, keeping its low bits.
pub fn wrap(k: &mut Builder, v: Val, dtype: DType) -> Val {
    let bits = dtype.bits();
    if bits >= 32 {
        return v;
    }
    let ty = k.ty(v);
    if dtype.class() == DTypeClass::Signed {
        let count = k.int(i64::from(32 - bits));
        let high = k.bin(Bin::Shl, v, count);
        return k.bin(Bin::Sar, high, count);
    }
    let mask = k.int_of((1 << bits) - 1, ty);
    k.bin(Bin::And, v, mask)
}

fn float_to_float(k: &mut Builder, v: Val, from: DType, to: DType, saturate: bool) -> Val {
    match (compute_elem(from), compute_elem(to)) {
        (Elem::F64, Elem::F32) if to == DType::F32 => k.convert(v, Elem::F32),
        (Elem::F64, Elem::F32) => {
            // The bits that `F32` cannot hold are merged into its last bit, so that rounding twice equals rounding
            // once.
            let ty = k.ty(v).with(Elem::I64);
            let bits = k.bitcast(v, ty);
            let (lost, last) = (k.int_of((1 << 29) - 1, ty), k.int_of(1 << 29, ty));
            let dropped = k.bin(Bin::And, bits, lost);
            let carried = k.bin(Bin::Add, dropped, lost);
            let sticky = k.bin(Bin::And, carried, last);
            let keep = k.int_of(!((1 << 29) - 1), ty);
            let kept = k.bin(Bin::And, bits, keep);
            let odd = k.bin(Bin::Or, kept, sticky);
            let odd = k.bitcast(odd, ty.with(Elem::F64));
            let single = k.convert(odd, Elem::F32);
            round_to(k, single, to, saturate)
        }
        (_, Elem::F64) => k.convert(v, Elem::F64),
        _ => round_to(k, v, to, saturate),
    }
}

/// Rounds a register float to the precision and range of a type.
fn round_to(k: &mut Builder, v: Val, to: DType, saturate: bool) -> Val {
    if matches!(to, DType::F32 | DType::F64) || k.code_of(v, to).is_some() {
        return v;
    }
    let code = small_float::encode(k, to, v, saturate);
    small_float::decode(k, to, code)
}

/// Reinterprets the bits as another type of the same size, between compute types.
pub fn bitcast(k: &mut Builder, v: Val, from: DType, to: DType) -> Val {
    let ty = k.ty(v);
    let code = match from {
        DType::F32 | DType::F64 => k.bitcast(v, ty.with(ty.elem.int())),
        _ if from.is_float() => small_float::encode(k, from, v, false),
        _ => v,
    };
    match to {
        DType::F32 | DType::F64 => k.bitcast(code, ty.with(compute_elem(to))),
        _ if to.is_float() => {
            let bits = if to.size() == 1 { DType::U8 } else { DType::U16 };
            let code = wrap(k, code, bits);
            small_float::decode(k, to, code)
        }
        _ => wrap(k, code, to),
    }
}

/// A vector computed lane by lane.
pub fn by_lanes(k: &mut Builder, ty: Ty, mut each: impl FnMut(&mut Builder, u32) -> Val) -> Val {
    let mut v = k.zero(ty);
    for lane in 0..ty.lanes {
        let one = each(k, lane);
        v = if ty.lanes == 1 { one } else { k.with_lane(v, one, lane as u8) };
    }
    v
}
