//! Correlation with weights in blocks.

use crate::{ConvSpec, DType, Tensor};
use crate::{Error, Result};

/// The sums of each window over the blocks of every panel.
pub(super) fn block_conv(
    x: &[Tensor],
    spec: &ConvSpec,
    kernel: &[i64],
    out: usize,
    result: &[usize],
) -> Result<Tensor> {
    let [x, heads, offsets, values] = x else { return Err(Error::internal("blocks have four operands")) };
    let (Some(&channels), Some((_, pixels))) = (x.shape().last(), result.split_last()) else {
        return Err(Error::internal("blocks meet channels"));
    };
    let (blocks, tile, depth) = (values.shape()[0], values.shape()[1], values.shape()[2..].iter().product::<usize>());
    // Distances in elements between neighbours along the batch and the spatial axes.
    let mut strides = vec![channels; kernel.len() + 1];
    for axis in (0..kernel.len()).rev() {
        strides[axis] = strides[axis + 1] * x.shape()[axis + 1];
    }
    let heads = heads.to_i64s();
    let mut sums = Vec::with_capacity(result.iter().product());
    for row in 0..pixels.iter().product::<usize>() {
        // Without a window, rows are contiguous.
        let mut start = row * channels;
        if !kernel.is_empty() {
            (start, _) = pixels.iter().enumerate().rev().fold((0, row), |(start, rest), (axis, &extent)| {
                let step = if axis == 0 { 1 } else { spec.strides[axis - 1] as usize };
                (start + rest % extent * step * strides[axis], rest / extent)
            });
        }
        for column in 0..out {
            let panel = column / tile;
            let mut sum = 0.0;
            for block in heads[panel]..heads[panel + 1] {
                let block = usize::try_from(block).ok().filter(|&b| b < blocks);
                let block = block
                    .ok_or_else(|| Error::invalid(format!("panel {panel} has a block of {blocks} that is none")))?;
                let at = usize::try_from(offsets.i64_at(block)).map_or(usize::MAX, |o| start.saturating_add(o));
                if at.saturating_add(depth) > x.numel() {
                    return Err(Error::invalid(format!("block {block} meets what is behind the operand")));
                }
                for i in 0..depth {
                    sum += x.f64_at(at + i) * values.f64_at((block * tile + column % tile) * depth + i);
                }
            }
            sums.push(sum);
        }
    }
    match x.dtype() {
        DType::F32 => Tensor::from_f64s(DType::F32, result.to_vec(), &sums),
        _ => {
            let sums: Vec<i64> = sums.iter().map(|&sum| i64::from(sum as i64 as i32)).collect();
            Tensor::from_i64s(DType::I32, result.to_vec(), &sums)
        }
    }
}
