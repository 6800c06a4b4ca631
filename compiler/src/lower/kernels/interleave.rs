//! Two or three planes of 4-byte elements side by side, pixel by pixel: images on their way to channels last.

use super::super::kir::{Builder, Elem, Ty, Val};

/// How many planes there can be.
pub(super) const PLANES: std::ops::RangeInclusive<i64> = 2..=3;

/// Moves a vector of each plane, whose pointers these are, to `to`.
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
