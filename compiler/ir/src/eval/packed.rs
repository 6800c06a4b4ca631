//! Products and convolutions with packed weights.

use super::{blocks, conv, int8, lowbit, sparse, winograd};
use crate::Result;
use crate::{Packed, Tensor, WeightFormat, unmask_bytes};

pub(super) fn packed(p: &Packed, x: &[Tensor], result: &[usize]) -> Result<Tensor> {
    let Packed { spec, kernel, out, weights } = p;
    match weights {
        WeightFormat::Dense => conv::packed_conv(&x[0], &x[1], spec, *out, result),
        WeightFormat::Depthwise => conv::depthwise_conv(&x[0], &x[1], spec, result),
        WeightFormat::Int8 { bitmask: false } => int8::int8_conv(&x[0], &x[1], spec, kernel, *out, result),
        WeightFormat::Int8 { bitmask: true } => {
            int8::int8_conv(&x[0], &unmask_bytes(&x[1], &x[2], &x[3])?, spec, kernel, *out, result)
        }
        WeightFormat::Int8Depthwise => int8::int8_depthwise(&x[0], &x[1], spec, kernel, result),
        WeightFormat::Blocks => blocks::block_conv(x, spec, kernel, *out, result),
        WeightFormat::NonZeros { staging, stored } => sparse::sparse_conv(x, spec, kernel, staging, result, *stored),
        WeightFormat::LowBit(format) => lowbit::lowbit_conv(p, *format, x, result),
        WeightFormat::Filtered { tile, filters, .. } => {
            winograd::winograd_conv(x, *filters, [tile, kernel, &spec.dilations], result)
        }
    }
}
