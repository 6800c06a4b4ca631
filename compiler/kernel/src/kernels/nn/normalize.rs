//! Normalisation of rows by their mean and variance.

use crate::kernels::reduce::run::{Fold, fold_run};
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{cover, product};
use crate::kernels::support::request::missing;
use crate::kir::{Bin, Builder, Ty, Un, Val};
use crate::numbers;
use mcc_ir::Result;

/// Over the axes from `axis` on: `(x - mean) / sqrt(variance + epsilon)`, without `center` `x / sqrt(mean(x²) +
/// epsilon)`.
pub fn normalize(e: &Emit<'_>, k: &mut Builder, axis: usize, epsilon: f64, center: bool) -> Result<()> {
    let (x, lanes) = (e.shape(0), e.lanes(e.dtype(0)));
    let one = Ty::new(numbers::compute_elem(e.dtype(0)), 1);
    let (outer, tail) = x.split_at(axis);
    let Some((last, inner_rows)) = tail.split_last() else { return missing(e.request) };
    let (zero, outer, inner_rows) = (k.int(0), k.dim(&product(outer)), k.dim(&product(inner_rows)));
    let (n, cols) = (k.dim(&product(tail)), k.dim(last));
    let count = k.convert(n, one.elem);
    k.parallel(zero, outer, 1, |k, o| {
        let base = k.mul(o, n);
        let load = |k: &mut Builder, i: Val, lanes: u32| {
            let at = k.add(base, i);
            e.load(k, 0, at, lanes)
        };
        let sum = |k: &mut Builder, step: &dyn Fn(&mut Builder, Val, Val) -> Val| {
            let sum = fold_run(
                k,
                n,
                lanes,
                Fold {
                    init: &|k, lanes| k.zero(Ty::new(one.elem, lanes)),
                    step: &|k, acc, i| {
                        let v = load(k, i, k.ty(acc).lanes);
                        step(k, acc, v)
                    },
                    merge: &|k, a, b| k.add(a, b),
                },
            );
            k.bin(Bin::Div, sum, count)
        };
        let mean = center.then(|| sum(k, &|k, acc, v| k.add(acc, v)));
        let variance = sum(k, &|k, acc, v| {
            let d = away(k, v, mean);
            k.fma(d, d, acc)
        });
        let epsilon = k.float(epsilon, one);
        let lifted = k.add(variance, epsilon);
        let root = k.un(Un::Sqrt, lifted);
        let unit = k.float(1.0, one);
        let scale = k.bin(Bin::Div, unit, root);
        let first = k.mul(o, inner_rows);
        k.for_each(zero, inner_rows, 1, |k, r| {
            let row = k.add(first, r);
            let start = k.mul(r, cols);
            cover(k, cols, lanes, |k, col, lanes| {
                let i = k.add(start, col);
                let v = load(k, i, lanes);
                let v = away(k, v, mean);
                let scale = k.splat(scale, lanes);
                let v = k.mul(v, scale);
                e.store(k, row, col, v);
            });
        });
    });
    Ok(())
}

/// The difference from the mean, if there is one.
fn away(k: &mut Builder, v: Val, mean: Option<Val>) -> Val {
    let Some(mean) = mean else { return v };
    let mean = k.splat(mean, k.ty(v).lanes);
    k.sub(v, mean)
}
