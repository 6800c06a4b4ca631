//! Separable convolutions: a depthwise convolution and the pointwise one that reads it, in one kernel. The intermediate
//! result is computed a block of rows at a time, in scratch memory that the caches hold, where the
//! [usual loops](crate::kernels::gemm) read it. Threads share the blocks; windows of one pixel need no pixel twice.

use super::depthwise::pixels;
use crate::kernels::gemm::{Contraction, Extents, Job, Panels, Rows};
use crate::kernels::support::emit::Emit;
use crate::kernels::support::request::KernelRequest;
use crate::kir::Builder;
use mcc_ir::{ConvSpec, DType, Dim, Error, Op, Packed, Result, TensorType, WeightFormat};
use mcc_targets::schedule;

/// Whether an operation can read its operand 0 a block of rows at a time from a depthwise convolution.
pub(crate) fn is_pointwise(op: &Op, operands: &[TensorType]) -> bool {
    let Some(Packed { spec, kernel, weights: WeightFormat::Dense, .. }) = op.packed() else { return false };
    let unmoved = spec.strides.iter().all(|&s| s == 1) && spec.pads.iter().all(|&p| p == (0, 0)) && spec.group == 1;
    unmoved && operands.iter().all(|ty| ty.dtype == DType::F32) && kernel.iter().all(|&k| k == 1)
}

/// Builds both; the first one's result is operand 0 of the second.
pub(crate) fn separable_conv(
    first: &KernelRequest<'_>,
    spec: &ConvSpec,
    second: &KernelRequest<'_>,
    [feeding, fed]: [&Emit<'_>; 2],
    k: &mut Builder,
) -> Result<()> {
    let (x, packed, y) = (&second.operands[0], &second.operands[1], &second.results[0]);
    let (Some((depth, pixels_of)), Some(tile)) = (x.shape.split_last(), packed.shape.last().and_then(Dim::as_const))
    else {
        return Err(Error::internal(format!("a pointwise convolution of {x} and {packed}")));
    };
    let (rows, columns): (Dim, Dim) = (pixels_of.iter().product(), y.shape.last().cloned().unwrap_or(Dim::ONE));
    let row_bytes = depth * &Dim::from(x.dtype.size());
    let counted = &row_bytes * &Dim::from(schedule::products::CHAINED_ROW_FACTOR);
    let extents = Extents { rows: &rows, columns: &columns, depth };
    let mut contraction = Contraction::new(second, fed, Panels::Packed(tile as u32), extents, &counted);
    contraction.by_rows = true;
    contraction.run = depth.clone();
    let memory = fed.scratch(k, &contraction.block_rows() * &row_bytes);
    let (mut result, right, zero) = (Ok(()), fed.operand(1), k.int(0));
    let block = |k: &mut Builder, from, to| {
        // The address that row 0 would have.
        let bytes = k.dim(&row_bytes);
        let skipped = k.mul(from, bytes);
        let base = k.sub(memory, skipped);
        result = pixels(first, &feeding.storing_at(base), k, spec, from, to);
        let rows_at = Rows::Affine { base, bytes: row_bytes.clone() };
        let job = Job {
            rows: rows_at,
            count: rows.clone(),
            columns: columns.clone(),
            right,
            out: (zero, zero),
            sink: None,
            adds: false,
        };
        contraction.columns(k, &job, from, to);
    };
    if contraction.blocked() {
        contraction.blocks(k, block);
    } else {
        k.once(|k| contraction.blocks(k, block));
    }
    result
}
