//! Sequences of different lengths, each reversed up to its own length.

use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{each_coordinate, flat, product, spot};
use crate::kir::{Bin, Builder, Cmp};
use mcc_ir::Result;

/// ONNX ReverseSequence; batch and time are the first two axes in either order.
pub fn reverse_sequence(e: &Emit<'_>, k: &mut Builder, batch_axis: usize, time_axis: usize) -> Result<()> {
    let x = e.shape(0);
    let depth = batch_axis.max(time_axis) + 1;
    let (lead_shape, tail) = x.split_at(depth);
    each_coordinate(k, lead_shape, |k, coords| {
        // A length beyond the axis is clamped.
        let extent = k.dim(&x[time_axis]);
        let length = e.load_index(k, 1, coords[batch_axis]);
        let length = k.bin(Bin::Min, length, extent);
        let time = coords[time_axis];
        let last = k.add_int(length, -1);
        let mirrored = k.sub(last, time);
        let inside = k.cmp(Cmp::Lt, time, length);
        let mut source = coords.to_vec();
        source[time_axis] = k.select(inside, mirrored, time);
        let block = flat(k, lead_shape, &source);
        let run = k.dim(&product(tail));
        let from = k.mul(block, run);
        if tail.is_empty() {
            let (row, col) = spot(k, x, coords);
            e.relay(k, 0, from, row, col, 1);
        } else {
            let lead = flat(k, lead_shape, coords);
            e.relay_block(k, 0, from, lead, tail);
        }
    });
    Ok(())
}
