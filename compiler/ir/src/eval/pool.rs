//! Pooling.

use super::conv::{channels_first, first_shape, from_channels_first};
use super::number::extreme;
use super::{index, number};
use crate::Result;
use crate::{DType, PoolKind, PoolSpec, Tensor};

pub(super) fn pool(x: &Tensor, spec: &PoolSpec, result: &[usize]) -> Result<Tensor> {
    let first = channels_first(x, spec.layout)?;
    let shape = first_shape(result, spec.layout);
    let values = first.to_f64s();
    let extent: usize = first.shape()[2..].iter().product();
    let start = match spec.kind {
        PoolKind::Max => extreme(x.dtype(), false),
        PoolKind::Average { .. } | PoolKind::Lp { .. } => 0.0,
    };
    let mut y = Vec::with_capacity(shape.iter().product());
    let mut winners = Vec::with_capacity(y.capacity());
    each_window(spec, &shape, &first.shape()[2..], |plane, elements, padded| {
        let mut winner = elements.first().copied();
        let mut acc = start;
        for &e in elements {
            let v = values[plane * extent + e];
            match spec.kind {
                PoolKind::Max if v > acc || v.is_nan() => (acc, winner) = (v, Some(e)),
                PoolKind::Max => {}
                PoolKind::Average { .. } => acc += v,
                PoolKind::Lp { p } => acc += v.abs().powi(p as i32),
            }
        }
        winners.push(plane * extent + winner.unwrap_or(0));
        y.push(match spec.kind {
            PoolKind::Max => acc,
            PoolKind::Average { include_pad: true } => acc / padded as f64,
            PoolKind::Average { include_pad: false } => acc / elements.len() as f64,
            PoolKind::Lp { p } => acc.powf(1.0 / f64::from(p)),
        });
    });
    let y = match spec.kind {
        // Selected, not computed, so that 64-bit integers keep all their bits.
        PoolKind::Max if !x.dtype().is_float() => {
            let all = first.to_i64s();
            let taken: Vec<i64> = winners.iter().map(|&w| all[w]).collect();
            Tensor::from_i64s(x.dtype(), shape, &taken)?
        }
        PoolKind::Max | PoolKind::Average { .. } | PoolKind::Lp { .. } => Tensor::from_f64s(x.dtype(), shape, &y)?,
    };
    from_channels_first(&y, spec.layout)
}

pub(super) fn max_pool_with_indices(
    x: &Tensor,
    spec: &PoolSpec,
    column_major: bool,
    result: &[usize],
) -> Result<Vec<Tensor>> {
    let values = x.to_i64s();
    let floats = x.to_f64s();
    let greater = |a: usize, b: usize| match x.dtype().is_float() {
        true => floats[a] > floats[b] || floats[a].is_nan() && !floats[b].is_nan(),
        false => number::wide(x.dtype(), values[a]) > number::wide(x.dtype(), values[b]),
    };
    let data = &x.shape()[2..];
    let extent: usize = data.iter().product();
    let mut indices = Vec::with_capacity(result.iter().product());
    each_window(spec, result, data, |plane, elements, _| {
        let best = elements
            .iter()
            .copied()
            .reduce(|best, e| if greater(plane * extent + e, plane * extent + best) { e } else { best });
        let best = best.unwrap_or(0);
        let within = if column_major { transposed_position(best, data) } else { best };
        indices.push((plane * extent + within) as i64);
    });
    Ok(vec![pool(x, spec, result)?, Tensor::from_i64s(DType::I64, result.to_vec(), &indices)?])
}

/// The column-major position of the element at a row-major position.
fn transposed_position(mut position: usize, shape: &[usize]) -> usize {
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = position % shape[axis];
        position /= shape[axis];
    }
    index.iter().zip(shape).rev().fold(0, |acc, (i, n)| acc * n + i)
}

/// Calls `f(plane, elements inside the data, elements inside data and padding)` for every window of every plane
/// (batch and channel), in order.
fn each_window(spec: &PoolSpec, result: &[usize], data: &[usize], mut f: impl FnMut(usize, &[usize], usize)) {
    let kernel: Vec<usize> = spec.kernel.iter().map(|&k| k as usize).collect();
    let strides = index::strides(data);
    let planes: usize = result[..2].iter().product();
    for plane in 0..planes {
        index::each(&result[2..], |window| {
            let mut elements = Vec::new();
            let mut padded = 0;
            index::each(&kernel, |k| {
                let (mut element, mut in_data, mut in_padding) = (0, true, true);
                for axis in 0..data.len() {
                    let from = window[axis] as i64 * spec.strides[axis] - spec.pads[axis].0;
                    let at = from + k[axis] as i64 * spec.dilations[axis];
                    in_data &= (0..data[axis] as i64).contains(&at);
                    in_padding &= at < data[axis] as i64 + spec.pads[axis].1;
                    element += at.max(0) as usize * strides[axis];
                }
                padded += usize::from(in_padding);
                if in_data {
                    elements.push(element);
                }
            });
            f(plane, &elements, padded);
        });
    }
}
