//! Greedy suppression of overlapping boxes. The boxes kept so far are contiguous in scratch memory, so that a box is
//! compared only with those.

use super::run::as_mask;
use crate::kernels::support::emit::Emit;
use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Val};
use mcc_ir::Result;

/// See [`mcc_ir::Op::NonMaxSuppression`].
pub fn non_max_suppression(e: &Emit<'_>, k: &mut Builder) -> Result<()> {
    let float = Ty::new(Elem::F32, 1);
    let shape = e.shape(1);
    let kept = e.scratch(k, &shape[1] * &16i64.into());
    let counter = e.scratch(k, 8i64.into());
    let (zero, one, groups, n) = (k.int(0), k.int(1), k.dim(&shape[0]), k.dim(&shape[1]));
    let place = k.at(counter, 0);
    let threshold = e.load(k, 2, zero, 1);
    let none = k.zero(float);
    k.for_each(zero, groups, 1, |k, g| {
        k.store(place, zero);
        let base = k.mul(g, n);
        k.for_each(zero, n, 1, |k, i| {
            let at = k.add(base, i);
            e.store_flat(k, at, zero);
            let live = e.load(k, 1, at, 1);
            let live = as_mask(k, live);
            k.when(live, |k| {
                let first = k.mul_int(at, 4);
                let mine: Vec<Val> = (0..4)
                    .map(|c| {
                        let at = k.add_int(first, c);
                        e.load(k, 0, at, 1)
                    })
                    .collect();
                let area = area(k, &mine);
                let count = k.load(Ty::I64, place);
                let hits = k.fold_loop(zero, count, 1, &[zero], |k, j, hits| {
                    let first = k.mul_int(j, 4);
                    let other: Vec<Val> = (0..4)
                        .map(|c| {
                            let at = k.add_int(first, c);
                            let from = k.at_index(kept, at, 4);
                            k.load(float, from)
                        })
                        .collect();
                    let hit = overlap(k, &mine, area, &other, threshold, none);
                    let hit = k.select(hit, one, zero);
                    vec![k.add(hits[0], hit)]
                })[0];
                let free = k.cmp(Cmp::Eq, hits, zero);
                k.when(free, |k| {
                    let first = k.mul_int(count, 4);
                    for (c, &v) in mine.iter().enumerate() {
                        let at = k.add_int(first, c as i64);
                        let to = k.at_index(kept, at, 4);
                        k.store(to, v);
                    }
                    let next = k.add_int(count, 1);
                    k.store(place, next);
                    e.store_flat(k, at, one);
                });
            });
        });
    });
    Ok(())
}

fn area(k: &mut Builder, corners: &[Val]) -> Val {
    let (height, width) = (k.sub(corners[2], corners[0]), k.sub(corners[3], corners[1]));
    k.mul(height, width)
}

/// Whether the intersection exceeds `threshold` times the union, and is not empty.
fn overlap(k: &mut Builder, a: &[Val], area_a: Val, b: &[Val], threshold: Val, none: Val) -> Val {
    let corners = [
        k.bin(Bin::Max, a[0], b[0]),
        k.bin(Bin::Max, a[1], b[1]),
        k.bin(Bin::Min, a[2], b[2]),
        k.bin(Bin::Min, a[3], b[3]),
    ];
    let (height, width) = (k.sub(corners[2], corners[0]), k.sub(corners[3], corners[1]));
    let (height, width) = (k.bin(Bin::Max, height, none), k.bin(Bin::Max, width, none));
    let shared = k.mul(height, width);
    let area_b = area(k, b);
    let both = k.add(area_a, area_b);
    let union = k.sub(both, shared);
    let ratio = k.bin(Bin::Div, shared, union);
    // Empty boxes give 0 / 0, which is never greater.
    k.cmp(Cmp::Gt, ratio, threshold)
}
