//! Elements and rows selected by index. Indices out of range are clamped.

use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{around, flat, parallel_coordinates, product, spot};
use crate::kernels::support::request::missing;
use crate::kir::{Builder, Val};
use mcc_ir::Result;

/// ONNX Gather.
pub fn gather(e: &Emit<'_>, k: &mut Builder, axis: usize) -> Result<()> {
    let (x, indices, out) = (e.shape(0), e.shape(1), e.out_shape());
    let extent = k.dim(&x[axis]);
    let tail = &x[axis + 1..];
    if tail.is_empty() && !e.is_plain() {
        parallel_coordinates(k, out, |k, coords| {
            let (outer, inner) = coords.split_at(axis);
            let at = flat(k, indices, inner);
            let picked = e.load_bounded_index(k, 1, at, extent);
            let from = flat(k, x, &[outer, &[picked]].concat());
            let (row, col) = spot(k, out, coords);
            e.relay(k, 0, from, row, col, 1);
        });
        return Ok(());
    }
    let (zero, count) = (k.int(0), k.dim(&product(indices)));
    let inner = k.dim(&product(tail));
    around(k, &product(&x[..axis]), |k, o| {
        let (first_in, first_out) = (k.mul(o, extent), k.mul(o, count));
        k.parallel(zero, count, 1, |k, j| {
            let picked = e.load_bounded_index(k, 1, j, extent);
            let source = k.add(first_in, picked);
            let from = k.mul(source, inner);
            let lead = k.add(first_out, j);
            e.relay_block(k, 0, from, lead, tail);
        });
    });
    Ok(())
}

/// ONNX GatherElements.
pub fn gather_elements(e: &Emit<'_>, k: &mut Builder, axis: usize) -> Result<()> {
    let (x, out) = (e.shape(0), e.out_shape());
    let extent = k.dim(&x[axis]);
    parallel_coordinates(k, out, |k, coords| {
        let at = flat(k, out, coords);
        let mut source = coords.to_vec();
        source[axis] = e.load_bounded_index(k, 1, at, extent);
        let from = flat(k, x, &source);
        let (row, col) = spot(k, out, coords);
        e.relay(k, 0, from, row, col, 1);
    });
    Ok(())
}

/// ONNX GatherND.
///
/// # Errors
/// When the length of the index tuples is not constant.
pub fn gather_nd(e: &Emit<'_>, k: &mut Builder, batch_dims: usize) -> Result<()> {
    let (x, indices, out) = (e.shape(0), e.shape(1), e.out_shape());
    let Some((tuple, lead_shape)) = indices.split_last() else { return missing(e.request) };
    let Some(tuple) = tuple.as_const().and_then(|t| usize::try_from(t).ok()) else { return missing(e.request) };
    let (picked_axes, tail) = x.split_at(batch_dims + tuple);
    parallel_coordinates(k, lead_shape, |k, coords| {
        let lead = flat(k, lead_shape, coords);
        let mut source = coords[..batch_dims].to_vec();
        source.extend(load_tuple(e, k, lead, tuple, &picked_axes[batch_dims..]));
        let block = flat(k, picked_axes, &source);
        let run = k.dim(&product(tail));
        let from = k.mul(block, run);
        if tail.is_empty() {
            let (row, col) = spot(k, out, coords);
            e.relay(k, 0, from, row, col, 1);
        } else {
            e.relay_block(k, 0, from, lead, tail);
        }
    });
    Ok(())
}

/// The `n`-th index tuple of operand 1, each index clamped to its axis.
pub fn load_tuple(e: &Emit<'_>, k: &mut Builder, n: Val, tuple: usize, axes: &[mcc_ir::Dim]) -> Vec<Val> {
    let first = k.mul_int(n, tuple as i64);
    let mut indices = Vec::with_capacity(tuple);
    for (i, axis) in axes.iter().enumerate() {
        let (at, extent) = (k.add_int(first, i as i64), k.dim(axis));
        indices.push(e.load_bounded_index(k, 1, at, extent));
    }
    indices
}
