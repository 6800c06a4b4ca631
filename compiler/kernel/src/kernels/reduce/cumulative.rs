//! Running sums and products. The result has no epilogue.

use super::run::{combine, one};
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{columns, product};
use crate::kir::{Builder, Ty};
use crate::numbers;
use mcc_ir::Result;
use mcc_ir::{BinaryOp, CumulativeKind};

/// ONNX CumSum and CumProd: lanes are neighbours along the axes after `axis`.
pub fn cumulative(
    e: &Emit<'_>,
    k: &mut Builder,
    kind: CumulativeKind,
    axis: usize,
    exclusive: bool,
    reverse: bool,
) -> Result<()> {
    let (x, dtype) = (e.shape(0), e.dtype(0));
    let (zero, n) = (k.int(0), k.dim(&x[axis]));
    let (outer, inner) = (k.dim(&product(&x[..axis])), k.dim(&product(&x[axis + 1..])));
    let last = k.add_int(n, -1);
    k.for_each(zero, outer, 1, |k, o| {
        let block = k.mul(o, n);
        columns(k, zero, inner, e.lanes(dtype), |k, i, lanes| {
            let (op, init) = match kind {
                CumulativeKind::Sum => (BinaryOp::Add, k.zero(Ty::new(numbers::compute_elem(dtype), lanes))),
                CumulativeKind::Prod => (BinaryOp::Mul, one(k, dtype, lanes)),
            };
            k.fold_loop(zero, n, 1, &[init], |k, j, acc| {
                let j = if reverse { k.sub(last, j) } else { j };
                let row = k.add(block, j);
                let start = k.mul(row, inner);
                let index = k.add(start, i);
                let v = e.load(k, 0, index, lanes);
                let next = combine(k, op, dtype, acc[0], v);
                e.store_flat(k, index, if exclusive { acc[0] } else { next });
                vec![next]
            });
        });
    });
    Ok(())
}
