//! Indices along an axis.

use crate::Result;
use crate::ir::DType;
use crate::lower::kernels::support::emit::Emit;
use crate::lower::kernels::support::loops::{parallel_nest, spot};
use crate::lower::kir::Builder;
use crate::lower::numbers;

/// Each element is its index along `axis`.
pub fn iota(e: &Emit<'_>, k: &mut Builder, dtype: DType, axis: usize) -> Result<()> {
    let shape = e.out_shape();
    parallel_nest(k, shape, &mut |k, coords| {
        let v = numbers::cast(k, coords[axis], DType::I64, dtype, false);
        let (row, col) = spot(k, shape, coords);
        e.store(k, row, col, v);
    });
    Ok(())
}
