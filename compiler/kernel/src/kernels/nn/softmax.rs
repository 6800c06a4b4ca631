//! Softmax: the row's maximum, exponentials in scratch memory, their sum, the quotients.

use crate::kernels::reduce::run::{Fold, arithmetic, fold_run, lowest};
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{columns, cover, parallel_coordinates, product};
use crate::kir::{Bin, Builder, Ty, Val};
use crate::{math, numbers, scalar};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, Dim, UnaryOp};

/// ONNX Softmax and LogSoftmax.
pub fn softmax(e: &Emit<'_>, k: &mut Builder, axis: usize, log: bool) -> Result<()> {
    if axis + 1 == e.shape(0).len() {
        last_axis(e, k, log)
    } else {
        inner_axis(e, k, axis, log)
    }
    Ok(())
}

fn last_axis(e: &Emit<'_>, k: &mut Builder, log: bool) {
    let dtype = e.dtype(0);
    let (float, lanes) = (arithmetic(dtype), e.lanes(dtype));
    let elem = numbers::compute_elem(dtype);
    let Some((extent, rows)) = e.shape(0).split_last() else { return };
    let row_bytes = extent * &Dim::from(i64::from(elem.bytes()));
    let scratch = e.scratch(k, row_bytes);
    let (zero, n, rows) = (k.int(0), k.dim(extent), k.dim(&product(rows)));
    k.parallel(zero, rows, 1, |k, row| {
        let base = k.mul(row, n);
        let load = |k: &mut Builder, i: Val, lanes: u32| {
            let at = k.add(base, i);
            e.load(k, 0, at, lanes)
        };
        let max = fold_run(
            k,
            n,
            lanes,
            Fold {
                init: &|k, lanes| lowest(k, dtype, lanes),
                step: &|k, acc, i| {
                    let v = load(k, i, k.ty(acc).lanes);
                    k.bin(Bin::Max, acc, v)
                },
                merge: &|k, a, b| k.bin(Bin::Max, a, b),
            },
        );
        cover(k, n, lanes, |k, i, lanes| {
            let v = load(k, i, lanes);
            let max = k.splat(max, lanes);
            let v = k.sub(v, max);
            let v = math::exp_nonpositive(k, v);
            let to = k.at_index(scratch, i, elem.bytes());
            k.store(to, v);
        });
        let sum = fold_run(
            k,
            n,
            lanes,
            Fold {
                init: &|k, lanes| k.zero(Ty::new(elem, lanes)),
                step: &|k, acc, i| {
                    let from = k.at_index(scratch, i, elem.bytes());
                    let v = k.load(k.ty(acc), from);
                    k.add(acc, v)
                },
                merge: &|k, a, b| k.add(a, b),
            },
        );
        if log {
            let log_sum = scalar::unary(k, UnaryOp::Log, float, sum);
            cover(k, n, lanes, |k, i, lanes| {
                let v = load(k, i, lanes);
                let (max, log_sum) = (k.splat(max, lanes), k.splat(log_sum, lanes));
                let v = k.sub(v, max);
                let v = k.sub(v, log_sum);
                e.store(k, row, i, v);
            });
        } else {
            let one = k.float(1.0, Ty::new(elem, 1));
            let scale = k.bin(Bin::Div, one, sum);
            cover(k, n, lanes, |k, i, lanes| {
                let from = k.at_index(scratch, i, elem.bytes());
                let v = k.load(Ty::new(elem, lanes), from);
                let scale = k.splat(scale, lanes);
                let v = k.mul(v, scale);
                e.store(k, row, i, v);
            });
        }
    });
}

/// Along an axis other than the last: as many adjacent rows as there are lanes.
fn inner_axis(e: &Emit<'_>, k: &mut Builder, axis: usize, log: bool) {
    let dtype = e.dtype(0);
    let (float, lanes) = (arithmetic(dtype), e.lanes(dtype));
    let elem = numbers::compute_elem(dtype);
    let x = e.shape(0);
    let Some((last, before)) = x.split_last() else { return };
    let scratch = e.scratch(k, &x[axis] * &Dim::from(i64::from(elem.bytes() * lanes)));
    let (zero, n, cols) = (k.int(0), k.dim(&x[axis]), k.dim(last));
    let (outer, middle) = (product(&x[..axis]), product(&before[axis + 1..]));
    let middle_val = k.dim(&middle);
    parallel_coordinates(k, &[outer, middle], |k, coords| {
        let block = k.mul(coords[0], n);
        columns(k, zero, cols, lanes, |k, col, lanes| {
            let ty = Ty::new(elem, lanes);
            let row_of = |k: &mut Builder, j: Val| {
                let j = k.add(block, j);
                let row = k.mul(j, middle_val);
                k.add(row, coords[1])
            };
            let load = |k: &mut Builder, j: Val| {
                let row = row_of(k, j);
                let start = k.mul(row, cols);
                let at = k.add(start, col);
                e.load(k, 0, at, lanes)
            };
            let slot = |k: &mut Builder, j: Val| {
                let bytes = k.mul_int(j, i64::from(ty.bytes()));
                k.at_index(scratch, bytes, 1)
            };
            let init = lowest(k, dtype, lanes);
            let max = k.fold_loop(zero, n, 1, &[init], |k, j, accs| {
                let v = load(k, j);
                vec![k.bin(Bin::Max, accs[0], v)]
            })[0];
            let init = k.zero(ty);
            let sum = k.fold_loop(zero, n, 1, &[init], |k, j, accs| {
                let v = load(k, j);
                let v = k.sub(v, max);
                let v = math::exp_nonpositive(k, v);
                let to = slot(k, j);
                k.store(to, v);
                vec![k.add(accs[0], v)]
            })[0];
            let log_sum = if log { Some(scalar::unary(k, UnaryOp::Log, float, sum)) } else { None };
            k.for_each(zero, n, 1, |k, j| {
                let v = match log_sum {
                    Some(log_sum) => {
                        let v = load(k, j);
                        let v = k.sub(v, max);
                        k.sub(v, log_sum)
                    }
                    None => {
                        let from = slot(k, j);
                        let v = k.load(ty, from);
                        scalar::binary(k, BinaryOp::Div, float, v, sum)
                    }
                };
                let row = row_of(k, j);
                e.store(k, row, col, v);
            });
        });
    });
}
