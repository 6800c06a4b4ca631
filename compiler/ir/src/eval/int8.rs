//! Correlation of bytes with packed weights, element by element.

use super::{conv, elementwise};
use crate::Result;
use crate::{ConvSpec, DType, Dim, Tensor, planes};

pub(super) fn int8_conv(
    x: &Tensor,
    packed: &Tensor,
    spec: &ConvSpec,
    kernel: &[i64],
    out: usize,
    result: &[usize],
) -> Result<Tensor> {
    let byte = |t: &Tensor, at: usize| match t.dtype() {
        DType::I8 => i64::from(t.data()[at] as i8),
        _ => i64::from(t.data()[at]),
    };
    let (axes, shape) = (kernel.len(), x.shape());
    let channels = shape[shape.len() - 1];
    let per_group = channels / spec.group;
    let run = spec.runs(kernel, &Dim::from(per_group)).1.as_const().unwrap_or(0);
    let &[_, panels, taps, steps, tile, _] = packed.shape() else {
        return Err(crate::Error::internal("packed bytes have six axes"));
    };
    // Distances in elements between neighbours along the batch and the spatial axes.
    let mut strides = vec![channels; axes + 1];
    for axis in (0..axes).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    let outer = axes - usize::from(axes > 0 && spec.joins_last());
    let mut values = Vec::with_capacity(result.iter().product());
    let rows: usize = result[..result.len() - 1].iter().product();
    for row in 0..rows {
        // Without a window, rows are contiguous.
        let mut start = row * channels;
        if axes > 0 {
            let mut rest = row;
            start = 0;
            for axis in (0..=axes).rev() {
                let step = if axis == 0 { 1 } else { spec.strides[axis - 1] as usize };
                start += rest % result[axis] * step * strides[axis];
                rest /= result[axis];
            }
        }
        for o in 0..out {
            let (group, column) = (o / (out / spec.group), o % (out / spec.group));
            let mut sum = 0i64;
            for tap in 0..taps {
                let (mut rest, mut at) = (tap, start + group * per_group);
                for axis in (0..outer).rev() {
                    at += rest % kernel[axis] as usize * spec.dilations[axis] as usize * strides[axis + 1];
                    rest /= kernel[axis] as usize;
                }
                let panel = ((group * panels + column / tile) * taps + tap) * steps;
                for i in 0..run as usize {
                    let weight = ((panel + i / 4) * tile + column % tile) * 4 + i % 4;
                    sum += byte(x, at + i) * byte(packed, weight);
                }
            }
            values.push(i64::from(sum as i32));
        }
    }
    Tensor::from_i64s(DType::I32, result.to_vec(), &values)
}

pub(super) fn int8_depthwise(
    x: &Tensor,
    packed: &Tensor,
    spec: &ConvSpec,
    kernel: &[i64],
    result: &[usize],
) -> Result<Tensor> {
    let &[_, quads, columns, lanes, _] = packed.shape() else {
        return Err(crate::Error::internal("packed filters have five axes"));
    };
    let [_, rows, _] = planes(kernel);
    let window = kernel.iter().product::<i64>() as usize;
    let mut weights = Vec::with_capacity(spec.group * window);
    for channel in 0..spec.group {
        for place in 0..window {
            let (line, column) = (place / columns, place % columns);
            let (line, row) = (line / rows as usize, line % rows as usize);
            let at = (((line * quads + row / 4) * columns + column) * lanes + channel) * 4 + row % 4;
            weights.push(packed.i64_at(at));
        }
    }
    let shape = [spec.group, 1].into_iter().chain(kernel.iter().map(|&k| k as usize)).collect();
    let w = Tensor::from_i64s(DType::I32, shape, &weights)?;
    conv::conv(&elementwise::cast(x, DType::I32, true)?, &w, None, spec, result)
}
