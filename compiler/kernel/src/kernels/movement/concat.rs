//! Concatenation: runs of contiguous elements, copied, except for operands that are already stored in the result.

use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{dot, each_coordinate, flat, product};
use crate::kir::Builder;
use crate::view::View;
use mcc_ir::Dim;
use mcc_ir::Result;

/// For every coordinate of the axes before `axis`, a run of each operand in turn.
pub fn concat(e: &Emit<'_>, k: &mut Builder, axis: usize) -> Result<()> {
    let in_order = |n: usize| e.strides(n) == View::contiguous(e.shape(n)).strides;
    if !e.is_plain() || (0..e.request.operands.len()).any(|n| e.is_inside(n) || !in_order(n)) {
        let mut start = Dim::ZERO;
        for n in 0..e.request.operands.len() {
            if !e.is_inside(n) {
                by_rows(e, k, n, axis, &start);
            }
            start = &start + &e.shape(n)[axis];
        }
        return Ok(());
    }
    let out = e.out_shape();
    let (zero, outer) = (k.int(0), k.dim(&product(&out[..axis])));
    let tail = &out[axis + 1..];
    let extent = k.dim(&out[axis]);
    k.parallel(zero, outer, 1, |k, o| {
        let mut lead = k.mul(o, extent);
        for n in 0..e.request.operands.len() {
            let own = k.dim(&e.shape(n)[axis]);
            let inner = k.dim(&product(tail));
            let first = k.mul(o, own);
            let (from, to, run) = (k.mul(first, inner), k.mul(lead, inner), k.mul(own, inner));
            e.relay_run(k, n, from, zero, to, run);
            lead = k.add(lead, own);
        }
    });
    Ok(())
}

/// Copies one operand, row by row, to the start of its part of `axis`.
fn by_rows(e: &Emit<'_>, k: &mut Builder, operand: usize, axis: usize, start: &Dim) {
    let (shape, strides) = (e.shape(operand), e.strides(operand));
    let Some((last, rows)) = shape.split_last() else { return };
    let out = &e.out_shape()[..rows.len()];
    each_coordinate(k, rows, |k, coords| {
        let from = dot(k, &strides, coords);
        let start = k.dim(start);
        let mut to = coords.to_vec();
        let mut col = k.int(0);
        match to.get_mut(axis) {
            Some(coord) => *coord = k.add(*coord, start),
            None => col = start,
        }
        let (row, count) = (flat(k, out, &to), k.dim(last));
        e.relay_run(k, operand, from, row, col, count);
    });
}
