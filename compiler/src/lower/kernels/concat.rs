//! Tensors side by side: runs of contiguous elements, copied.

use super::Emit;
use super::nest::product;
use crate::Result;
use crate::lower::kir::Builder;

/// For every coordinate of the axes before `axis`, a run of each operand in turn.
pub fn concat(e: &Emit<'_>, k: &mut Builder, axis: usize) -> Result<()> {
    let out = e.out_shape();
    let (zero, outer) = (k.int(0), k.dim(&product(&out[..axis])));
    // Without an epilogue the runs cross rows; with one, an inner axis is walked row by row.
    let rows_apart = !e.is_plain() && axis + 1 < out.len();
    let tail = &out[axis + 1..];
    let extent = k.dim(&out[axis]);
    k.for_each(zero, outer, 1, &mut |k, o| {
        let mut lead = k.mul(o, extent);
        for n in 0..e.site.operands.len() {
            let own = k.dim(&e.shape(n)[axis]);
            let inner = k.dim(&product(tail));
            let first = k.mul(o, own);
            let from = k.mul(first, inner);
            if rows_apart {
                k.for_each(zero, own, 1, &mut |k, i| {
                    let skip = k.mul(i, inner);
                    let (from, lead) = (k.add(from, skip), k.add(lead, i));
                    e.relay_block(k, n, from, lead, tail);
                });
            } else if e.is_plain() {
                let (to, run) = (k.mul(lead, inner), k.mul(own, inner));
                e.relay_run(k, n, from, zero, to, run);
            } else {
                let row_start = k.mul(o, extent);
                let col = k.sub(lead, row_start);
                e.relay_run(k, n, from, o, col, own);
            }
            lead = k.add(lead, own);
        }
    });
    Ok(())
}
