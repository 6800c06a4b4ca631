//! A few planes side by side, pixel by pixel: images on their way to channels last, channels dealt to groups.

use super::super::kir::{Builder, Elem, Ty, Val};
use mcc_targets::Target;

/// How many planes there can be, of elements of so many bytes.
pub(super) fn planes(bytes: usize) -> std::ops::RangeInclusive<i64> {
    if bytes == 1 { 2..=4 } else { 2..=3 }
}

/// Elements of each plane that are moved at once.
pub(super) fn length(target: &Target, bytes: usize, planes: i64) -> u32 {
    match bytes {
        // Where bytes go anywhere in a register, as many as fit; else each 16 bytes of the result need four words.
        1 if target.has_fast_lookups() => 16,
        1 if planes == 3 => 4,
        _ => target.vector_bytes / 4,
    }
}

/// Moves a vector of each plane of bytes, whose pointers these are, to `to`.
pub(super) fn interleave_bytes(k: &mut Builder, planes: &[Val], to: Val, lanes: u32) {
    let vectors: Vec<Val> = planes
        .iter()
        .map(|&plane| {
            let from = k.at(plane, 0);
            k.load(Ty::new(Elem::I8, lanes), from)
        })
        .collect();
    let all = side_by_side(k, &vectors);
    let count = planes.len() as u32;
    // Of three planes the result is two vectors and one.
    let mut first = 0;
    while first < count {
        let some = 1 << (count - first).ilog2();
        let own = |i: u32| (first * lanes + i) % count * lanes + (first * lanes + i) / count;
        let pattern: Vec<u8> = (0..some * lanes).map(|i| own(i) as u8).collect();
        let v = k.shuffle(all, all, &pattern);
        let to = k.at(to, (first * lanes) as i32);
        k.store(to, v);
        first += some;
    }
}

/// Up to four vectors as one, the last ones repeated to make two or four.
pub(super) fn side_by_side(k: &mut Builder, vectors: &[Val]) -> Val {
    let joined = |k: &mut Builder, a: Val, b: Val| {
        let all: Vec<u8> = (0..2 * k.ty(a).lanes).map(|i| i as u8).collect();
        k.shuffle(a, b, &all)
    };
    let pairs: Vec<Val> = vectors.chunks(2).map(|pair| joined(k, pair[0], pair[pair.len() - 1])).collect();
    if let [near, far] = *pairs { joined(k, near, far) } else { pairs[0] }
}

/// Moves a vector of each plane of 4-byte elements, whose pointers these are, to `to`.
pub(super) fn interleave(k: &mut Builder, planes: &[Val], to: Val, lanes: u32) {
    let ty = Ty::new(Elem::F32, lanes);
    let count = planes.len() as u32;
    let vectors: Vec<Val> = planes
        .iter()
        .map(|&plane| {
            let from = k.at(plane, 0);
            k.load(ty, from)
        })
        .collect();
    for part in 0..count {
        let place = |lane: u32| ((part * lanes + lane) % count, (part * lanes + lane) / count);
        let pair: Vec<u8> = (0..lanes)
            .map(|lane| match place(lane) {
                (1, pixel) => (lanes + pixel) as u8,
                // The third plane's lanes follow.
                (_, pixel) => pixel as u8,
            })
            .collect();
        let mut v = k.shuffle(vectors[0], vectors[1], &pair);
        if let Some(&third) = vectors.get(2) {
            let with: Vec<u8> = (0..lanes)
                .map(|lane| match place(lane) {
                    (2, pixel) => (lanes + pixel) as u8,
                    _ => lane as u8,
                })
                .collect();
            v = k.shuffle(v, third, &with);
        }
        let to = k.at(to, (part * ty.bytes()) as i32);
        k.store(to, v);
    }
}
