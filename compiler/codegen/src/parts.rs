//! How emitters for vectors of 128 bits split a kernel's values into registers: a vector is as many as its lanes need, the
//! low lanes first; the lanes above those of a value are undefined.

use mcc_kernel::kir::{Elem, Ty};

/// Number of lanes of an element in a register.
pub fn capacity(elem: Elem) -> u32 {
    16 / elem.bytes()
}

/// Number of registers of a value.
pub fn part_count(ty: Ty) -> usize {
    if ty.lanes == 1 { 1 } else { ty.bytes().div_ceil(16) as usize }
}

/// The register of a lane, and the lane within it.
pub fn place(ty: Ty, lane: u32) -> (usize, u8) {
    let capacity = capacity(ty.elem);
    ((lane / capacity) as usize, (lane % capacity) as u8)
}

/// Each register of a value with its number of valid lanes.
pub fn lanes_of<R: Copy>(ty: Ty, parts: &[R]) -> Vec<(R, u32)> {
    let capacity = capacity(ty.elem);
    parts.iter().enumerate().map(|(i, &p)| (p, (ty.lanes - i as u32 * capacity).min(capacity))).collect()
}

/// The integer of twice the size.
pub fn double(elem: Elem) -> Elem {
    match elem {
        Elem::I8 => Elem::I16,
        Elem::I16 => Elem::I32,
        _ => Elem::I64,
    }
}

/// The integer of half the size.
pub fn half(elem: Elem) -> Elem {
    match elem {
        Elem::I64 => Elem::I32,
        Elem::I32 => Elem::I16,
        _ => Elem::I8,
    }
}
