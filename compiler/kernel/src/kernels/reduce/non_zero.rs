//! Coordinates of non-zero elements. The last scratch buffer receives their number.

use super::run::as_mask;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{each_coordinate, flat, product};
use crate::kir::{Builder, Ty};
use mcc_ir::Result;

/// ONNX NonZero: counts first, because the result's rows have the length of the count.
pub fn non_zero(e: &Emit<'_>, k: &mut Builder) -> Result<()> {
    let x = e.shape(0);
    let slot = e.scratch(k, 8i64.into());
    let (zero, one, n) = (k.int(0), k.int(1), k.dim(&product(x)));
    let count = k.fold_loop(zero, n, 1, &[zero], |k, i, count| {
        let v = e.load(k, 0, i, 1);
        let some = as_mask(k, v);
        let step = k.select(some, one, zero);
        vec![k.add(count[0], step)]
    })[0];
    // The slot is the next position while the result is written; finally it holds the count.
    let place = k.at(slot, 0);
    k.store(place, zero);
    each_coordinate(k, x, |k, coords| {
        let index = flat(k, x, coords);
        let v = e.load(k, 0, index, 1);
        let some = as_mask(k, v);
        k.when(some, |k| {
            let position = k.load(Ty::I64, place);
            for (axis, &c) in coords.iter().enumerate() {
                let row = k.mul_int(count, axis as i64);
                let at = k.add(row, position);
                let to = k.at_index(e.result(0), at, 8);
                k.store(to, c);
            }
            let next = k.add_int(position, 1);
            k.store(place, next);
        });
    });
    Ok(())
}
