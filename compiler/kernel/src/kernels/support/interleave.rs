//! Interleaving a few planes pixel by pixel: images converted to channels last, channels distributed to groups.

use crate::kir::{Builder, Elem, Ty, Val};
use mcc_targets::Target;

/// The supported numbers of planes, for elements of `bytes` bytes.
pub(crate) fn planes(bytes: usize) -> &'static [i64] {
    if bytes == 1 { &[2, 3, 4, 8, 12] } else { &[2, 3] }
}

/// Elements moved at once per plane.
pub(crate) fn length(target: &Target, bytes: usize, planes: i64) -> u32 {
    match bytes {
        // If any byte permutation is cheap, a full register; otherwise each 16 bytes of the result need four words.
        1 if target.has_fast_lookups() => 16,
        1 if planes == 3 => 4,
        _ => target.vector_bytes / 4,
    }
}

/// Interleaves a vector of bytes from each plane pointer into `to`.
pub(crate) fn interleave_bytes(k: &mut Builder, planes: &[Val], to: Val, lanes: u32) {
    let vectors = loaded(k, planes, Ty::new(Elem::I8, lanes));
    if planes.len() > 4 {
        // Each four planes become one plane of words.
        let words: Vec<Val> = vectors
            .chunks(4)
            .map(|four| {
                let all = side_by_side(k, four);
                let bytes = by_pixel(k, all, 4, lanes, 0, 4);
                k.bitcast(bytes, Ty::new(Elem::F32, lanes))
            })
            .collect();
        return store_interleaved(k, &words, to);
    }
    let (all, count) = (side_by_side(k, &vectors), planes.len() as u32);
    // Three planes yield two vectors and one.
    let mut first = 0;
    while first < count {
        let some = 1 << (count - first).ilog2();
        let v = by_pixel(k, all, count, lanes, first, some);
        let to = k.at(to, (first * lanes) as i32);
        k.store(to, v);
        first += some;
    }
}

/// Interleaves bytes of adjacent planes pixel by pixel: `some` result vectors, starting with vector `first`.
fn by_pixel(k: &mut Builder, all: Val, count: u32, lanes: u32, first: u32, some: u32) -> Val {
    let own = |i: u32| (first * lanes + i) % count * lanes + (first * lanes + i) / count;
    let pattern: Vec<u8> = (0..some * lanes).map(|i| own(i) as u8).collect();
    k.shuffle(all, all, &pattern)
}

fn loaded(k: &mut Builder, planes: &[Val], ty: Ty) -> Vec<Val> {
    let one = |&plane: &Val| {
        let from = k.at(plane, 0);
        k.load(ty, from)
    };
    planes.iter().map(one).collect()
}

/// Concatenates up to four vectors, repeating the last ones to get two or four.
pub(crate) fn side_by_side(k: &mut Builder, vectors: &[Val]) -> Val {
    let joined = |k: &mut Builder, a: Val, b: Val| {
        let all: Vec<u8> = (0..2 * k.ty(a).lanes).map(|i| i as u8).collect();
        k.shuffle(a, b, &all)
    };
    let pairs: Vec<Val> = vectors.chunks(2).map(|pair| joined(k, pair[0], pair[pair.len() - 1])).collect();
    if let [near, far] = *pairs { joined(k, near, far) } else { pairs[0] }
}

/// Interleaves a vector of 4-byte elements from each plane pointer into `to`.
pub(crate) fn interleave(k: &mut Builder, planes: &[Val], to: Val, lanes: u32) {
    let vectors = loaded(k, planes, Ty::new(Elem::F32, lanes));
    store_interleaved(k, &vectors, to);
}

/// Stores two or three vectors of 4-byte lanes lane by lane.
fn store_interleaved(k: &mut Builder, vectors: &[Val], to: Val) {
    let (ty, count) = (k.ty(vectors[0]), vectors.len() as u32);
    let lanes = ty.lanes;
    for part in 0..count {
        let place = |lane: u32| ((part * lanes + lane) % count, (part * lanes + lane) / count);
        let pair: Vec<u8> = (0..lanes)
            .map(|lane| match place(lane) {
                (1, pixel) => (lanes + pixel) as u8,
                // The third plane's lanes come last.
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
