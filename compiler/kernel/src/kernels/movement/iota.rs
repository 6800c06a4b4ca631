//! Indices along an axis.

use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{parallel_coordinates, spot};
use crate::kir::Builder;
use crate::numbers;
use mcc_ir::DType;
use mcc_ir::Result;

/// Each element is its index along `axis`.
pub fn iota(e: &Emit<'_>, k: &mut Builder, dtype: DType, axis: usize) -> Result<()> {
    let shape = e.out_shape();
    parallel_coordinates(k, shape, |k, coords| {
        let v = numbers::cast(k, coords[axis], DType::I64, dtype, false);
        let (row, col) = spot(k, shape, coords);
        e.store(k, row, col, v);
    });
    Ok(())
}
