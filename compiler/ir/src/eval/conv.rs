//! Convolutions: windows are copied into columns, followed by a matrix product.

use super::matmul;
use super::number::{Number, by_class};
use super::{elementwise, index, movement};
use crate::Result;
use crate::{ConvSpec, Layout, Tensor};

pub(super) fn conv(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, spec: &ConvSpec, result: &[usize]) -> Result<Tensor> {
    let first = channels_first(x, spec.layout)?;
    let shape = first_shape(result, spec.layout);
    let y = by_class!(x.dtype(), correlate(&first, w, bias, spec, &shape))?;
    from_channels_first(&y, spec.layout)
}

pub(super) fn packed_conv(
    x: &Tensor,
    packed: &Tensor,
    spec: &ConvSpec,
    out: usize,
    result: &[usize],
) -> Result<Tensor> {
    // [group, panels, k..., in, tile] -> [group, k..., in, panels, tile] -> [group, k..., in, out/group].
    let rank = packed.shape().len();
    let mut perm: Vec<usize> = [0].into_iter().chain(2..rank - 1).chain([1, rank - 1]).collect();
    let wide = movement::transpose(packed, &perm)?;
    let mut shape = wide.shape()[..rank - 2].to_vec();
    shape.push(packed.shape()[1] * packed.shape()[rank - 1]);
    let mut ranges: Vec<_> = shape.iter().map(|&n| (0, 1, n)).collect();
    ranges[rank - 2].2 = out / spec.group;
    let w = movement::slice(&wide.reshaped(shape)?, &ranges)?;
    // -> [group, out/group, in, k...] -> [out, in, k...].
    perm = [0, rank - 2, rank - 3].into_iter().chain(1..rank - 3).collect();
    let w = movement::transpose(&w, &perm)?;
    let w = w.reshaped([&[out][..], &w.shape()[2..]].concat())?;
    conv(x, &elementwise::cast(&w, x.dtype(), true)?, None, spec, result)
}

pub(super) fn depthwise_conv(x: &Tensor, w: &Tensor, spec: &ConvSpec, result: &[usize]) -> Result<Tensor> {
    // [k..., channels] -> [channels, 1, k...].
    let rank = w.shape().len();
    let perm: Vec<usize> = [rank - 1].into_iter().chain(0..rank - 1).collect();
    let w = movement::transpose(w, &perm)?;
    let w = w.reshaped([&[w.shape()[0], 1][..], &w.shape()[1..]].concat())?;
    conv(x, &w, None, spec, result)
}

pub(super) fn conv_transpose(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    spec: &ConvSpec,
    result: &[usize],
) -> Result<Tensor> {
    let first = channels_first(x, spec.layout)?;
    let shape = first_shape(result, spec.layout);
    let y = by_class!(x.dtype(), spread(&first, w, bias, spec, &shape))?;
    from_channels_first(&y, spec.layout)
}

pub(super) fn col2im(x: &Tensor, spec: &ConvSpec, kernel: &[i64], result: &[usize]) -> Result<Tensor> {
    let kernel: Vec<usize> = kernel.iter().map(|&k| k as usize).collect();
    by_class!(x.dtype(), sum_columns(x, spec, &kernel, result))
}

/// Transposes `[batch, d..., channels]` to `[batch, channels, d...]`.
pub(super) fn channels_first(x: &Tensor, layout: Layout) -> Result<Tensor> {
    let rank = x.shape().len();
    match layout {
        Layout::ChannelsFirst => Ok(x.clone()),
        Layout::ChannelsLast => {
            movement::transpose(x, &[&[0, rank - 1][..], &(1..rank - 1).collect::<Vec<_>>()].concat())
        }
    }
}

/// The inverse of [`channels_first`].
pub(super) fn from_channels_first(x: &Tensor, layout: Layout) -> Result<Tensor> {
    let rank = x.shape().len();
    match layout {
        Layout::ChannelsFirst => Ok(x.clone()),
        Layout::ChannelsLast => movement::transpose(x, &[&[0][..], &(2..rank).collect::<Vec<_>>(), &[1]].concat()),
    }
}

/// A shape of either layout as channels-first.
pub(super) fn first_shape(shape: &[usize], layout: Layout) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if layout == Layout::ChannelsLast {
        shape[1..].rotate_right(1);
    }
    shape
}

/// Calls `f(kernel index, window index, element)` for every element of every window that is inside the data; all three
/// are row-major positions.
fn windows(
    spec: &ConvSpec,
    kernel: &[usize],
    counts: &[usize],
    data: &[usize],
    mut f: impl FnMut(usize, usize, usize),
) {
    let (k_strides, c_strides, d_strides) = (index::strides(kernel), index::strides(counts), index::strides(data));
    index::each(kernel, |k| {
        index::each(counts, |c| {
            let mut element = 0;
            for axis in 0..data.len() {
                let at =
                    c[axis] as i64 * spec.strides[axis] + k[axis] as i64 * spec.dilations[axis] - spec.pads[axis].0;
                if !(0..data[axis] as i64).contains(&at) {
                    return;
                }
                element += at as usize * d_strides[axis];
            }
            f(index::flat(k, &k_strides), index::flat(c, &c_strides), element);
        });
    });
}

fn add_bias<T: Number>(values: &mut [T], bias: Option<&Tensor>, positions: usize) {
    if let Some(bias) = bias {
        let bias = T::all(bias);
        for (i, run) in values.chunks_mut(positions.max(1)).enumerate() {
            run.iter_mut().for_each(|v| *v = v.plus(bias[i % bias.len()]));
        }
    }
}

fn correlate<T: Number>(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    spec: &ConvSpec,
    result: &[usize],
) -> Result<Tensor> {
    let (kernel, counts, data) = (&w.shape()[2..], &result[2..], &x.shape()[2..]);
    let (out, per_group) = (w.shape()[0] / spec.group, w.shape()[1]);
    let window: usize = kernel.iter().product();
    let positions: usize = counts.iter().product();
    let extent: usize = data.iter().product();
    let (values, weights) = (T::all(x), T::all(w));
    let mut y = Vec::with_capacity(result.iter().product());
    for n in 0..x.shape()[0] {
        for g in 0..spec.group {
            let mut columns = vec![T::ZERO; per_group * window * positions];
            let channel = (n * spec.group + g) * per_group;
            windows(spec, kernel, counts, data, |k, c, element| {
                for i in 0..per_group {
                    columns[(i * window + k) * positions + c] = values[(channel + i) * extent + element];
                }
            });
            let size = out * per_group * window;
            let w = &weights[g * size..(g + 1) * size];
            matmul::product(w, &columns, out, per_group * window, positions, &mut y);
        }
    }
    add_bias(&mut y, bias, positions);
    T::tensor(x.dtype(), result.to_vec(), &y)
}

fn spread<T: Number>(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    spec: &ConvSpec,
    result: &[usize],
) -> Result<Tensor> {
    let (kernel, counts) = (&w.shape()[2..], &x.shape()[2..]);
    let (per_group, out) = (w.shape()[0] / spec.group, w.shape()[1]);
    let window: usize = kernel.iter().product();
    let positions: usize = counts.iter().product();
    let extent: usize = result[2..].iter().product();
    let (values, weights) = (T::all(x), T::all(w));
    let mut y = vec![T::ZERO; result.iter().product()];
    for n in 0..x.shape()[0] {
        for g in 0..spec.group {
            // Columns: the transposed weights [out * window, in] times the values [in, positions].
            let size = per_group * out * window;
            let w = &weights[g * size..(g + 1) * size];
            let rows = out * window;
            let transposed: Vec<T> = (0..size).map(|i| w[i % per_group * rows + i / per_group]).collect();
            let channel = (n * spec.group + g) * per_group * positions;
            let mut columns = Vec::new();
            let operand = &values[channel..channel + per_group * positions];
            matmul::product(&transposed, operand, rows, per_group, positions, &mut columns);
            let image = &mut y[(n * spec.group + g) * out * extent..][..out * extent];
            sum_windows(&columns, spec, kernel, counts, &result[2..], image);
        }
    }
    add_bias(&mut y, bias, extent);
    T::tensor(x.dtype(), result.to_vec(), &y)
}

/// Adds columns `[channels * window, positions]` to an image `[channels, data...]`.
fn sum_windows<T: Number>(
    columns: &[T],
    spec: &ConvSpec,
    kernel: &[usize],
    counts: &[usize],
    data: &[usize],
    image: &mut [T],
) {
    let (window, positions) = (kernel.iter().product::<usize>(), counts.iter().product::<usize>());
    let extent: usize = data.iter().product();
    let channels = image.len().checked_div(extent).unwrap_or(0);
    windows(spec, kernel, counts, data, |k, c, element| {
        for i in 0..channels {
            let at = &mut image[i * extent + element];
            *at = at.plus(columns[(i * window + k) * positions + c]);
        }
    });
}

fn sum_columns<T: Number>(x: &Tensor, spec: &ConvSpec, kernel: &[usize], result: &[usize]) -> Result<Tensor> {
    let data = &result[2..];
    let reach = |i: usize| (kernel[i] as i64 - 1) * spec.dilations[i] + 1;
    let padded = |i: usize| data[i] as i64 + spec.pads[i].0 + spec.pads[i].1;
    let counts: Vec<usize> = (0..data.len()).map(|i| ((padded(i) - reach(i)) / spec.strides[i] + 1) as usize).collect();
    let values = T::all(x);
    let mut y = vec![T::ZERO; result.iter().product()];
    let (columns, image) = (values.len() / result[0].max(1), y.len() / result[0].max(1));
    for n in 0..result[0] {
        let part = &values[n * columns..(n + 1) * columns];
        sum_windows(part, spec, kernel, &counts, data, &mut y[n * image..(n + 1) * image]);
    }
    T::tensor(x.dtype(), result.to_vec(), &y)
}
