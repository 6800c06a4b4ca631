//! Positions of the largest or smallest elements along an axis. NaN counts as the largest.

use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{columns, each_lane, parallel_coordinates, product};
use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Un, Val};
use crate::numbers;
use mcc_ir::Result;
use mcc_ir::{DType, Dim};

/// ONNX ArgMax and ArgMin.
pub fn arg_reduce(e: &Emit<'_>, k: &mut Builder, largest: bool, axis: usize, last: bool) -> Result<()> {
    let (x, dtype) = (e.shape(0), e.dtype(0));
    let tail = &x[axis + 1..];
    let (outer, inner) = (product(&x[..axis]), product(tail));
    let (zero, one, n, stride) = (k.int(0), k.int(1), k.dim(&x[axis]), k.dim(&inner));
    let cols = k.dim(e.out_shape().last().unwrap_or(&Dim::ONE));
    // The result is visited row by row: with inner axes, the last axis is one of them.
    let (row_shape, by_columns) = match (e.is_plain(), tail.split_last()) {
        (false, Some((last, rows))) => (vec![outer, product(rows), last.clone()], true),
        _ => (vec![outer, Dim::ONE, inner], false),
    };
    let width = k.dim(&row_shape[2]);
    let middle = k.dim(&row_shape[1]);
    // Positions have the elements' width, so that one mask selects both.
    let lanes = if numbers::compute_elem(dtype).bytes() == 4 { e.lanes(dtype) } else { 1 };
    parallel_coordinates(k, &row_shape[..2], |k, at| {
        let row = k.mul(at[0], middle);
        let row = k.add(row, at[1]);
        let within = k.mul(at[1], width);
        let first = k.mul(at[0], n);
        let first = k.mul(first, stride);
        let first = k.add(first, within);
        columns(k, zero, width, lanes, |k, col, lanes| {
            let first = k.add(first, col);
            let init = e.load(k, 0, first, lanes);
            let start = if lanes == 1 { zero } else { k.int_of(0, Ty::new(Elem::I32, lanes)) };
            let best = k.fold_loop(one, n, 1, &[init, start], |k, j, best| {
                let skip = k.mul(j, stride);
                let index = k.add(first, skip);
                let v = e.load(k, 0, index, lanes);
                let better = ahead(k, dtype, v, best[0], largest, last);
                let place = if lanes == 1 { j } else { k.convert(j, Elem::I32) };
                let place = k.splat(place, lanes);
                vec![k.select(better, v, best[0]), k.select(better, place, best[1])]
            });
            each_lane(k, lanes, |k, lane| {
                let place = k.lane(best[1], lane);
                let place = k.convert(place, Elem::I64);
                let col = k.add_int(col, i64::from(lane));
                if by_columns {
                    return e.store(k, row, col, place);
                }
                let index = k.mul(row, width);
                let index = k.add(index, col);
                // Rows of the result may be of its kept axis of extent 1, or of outer ones.
                let (row, col) = if e.is_plain() {
                    (zero, index)
                } else {
                    let row = k.bin(Bin::Div, index, cols);
                    (row, k.bin(Bin::Rem, index, cols))
                };
                e.store(k, row, col, place);
            });
        });
    });
    Ok(())
}

/// Whether `a` precedes `b` when the largest (smallest) element is first; with `or_equal`, also if they are equal.
pub fn ahead(k: &mut Builder, dtype: DType, a: Val, b: Val, largest: bool, or_equal: bool) -> Val {
    let unsigned = matches!(dtype, DType::U32 | DType::U64);
    let (high, low) = if largest { (a, b) } else { (b, a) };
    let cmp = match (unsigned, or_equal) {
        (false, false) => Cmp::Gt,
        (false, true) => Cmp::Ge,
        (true, false) => Cmp::UGt,
        (true, true) => Cmp::UGe,
    };
    if dtype.is_float() && !or_equal {
        // Also true if only `high` is NaN.
        let at_most = k.cmp(Cmp::Le, high, low);
        let above = k.un(Un::Not, at_most);
        let number = k.cmp(Cmp::Eq, low, low);
        return k.bin(Bin::And, above, number);
    }
    let order = k.cmp(cmp, high, low);
    if !dtype.is_float() {
        return order;
    }
    let nan = k.cmp(Cmp::Ne, high, high);
    k.bin(Bin::Or, order, nan)
}
