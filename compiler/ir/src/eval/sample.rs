//! GridSample, as in ONNX's reference implementation.

use super::index;
use super::resize::cubic;
use crate::Result;
use crate::{SampleMode, SamplePadding, Tensor};

/// Bounds of an axis: the coordinates of the first and the last element, or of their outer borders.
fn bounds(n: usize, align_corners: bool) -> (f64, f64) {
    if align_corners { (0.0, n as f64 - 1.0) } else { (-0.5, n as f64 - 0.5) }
}

pub(super) fn grid_sample(
    x: &Tensor,
    grid: &Tensor,
    mode: SampleMode,
    padding: SamplePadding,
    align_corners: bool,
) -> Result<Tensor> {
    let data = &x.shape()[2..];
    let rank = data.len();
    let strides = index::strides(data);
    let extent: usize = data.iter().product();
    let (values, grid_values) = (x.to_f64s(), grid.to_f64s());
    let (batch, channels) = (x.shape()[0], x.shape()[1]);
    let points: usize = grid.shape()[1..=rank].iter().product();
    let mut y = vec![0.0; batch * channels * points];
    for n in 0..batch {
        for p in 0..points {
            let point = &grid_values[(n * points + p) * rank..(n * points + p + 1) * rank];
            // The grid has the innermost axis's coordinate first.
            let axes = (0..rank).map(|axis| {
                let size = data[axis];
                axis_taps(point[rank - 1 - axis], size, mode, padding, align_corners)
            });
            let mut taps = vec![(0usize, 1.0)];
            for (axis, of_axis) in axes.enumerate() {
                let stride = strides[axis];
                let both = |&(at, w): &(usize, f64)| {
                    of_axis.iter().map(move |&(i, v)| (at + i * stride, w * v)).collect::<Vec<_>>()
                };
                taps = taps.iter().flat_map(both).collect();
            }
            for c in 0..channels {
                let plane = &values[(n * channels + c) * extent..(n * channels + c + 1) * extent];
                y[(n * channels + c) * points + p] = taps.iter().map(|&(at, w)| plane[at] * w).sum();
            }
        }
    }
    let shape = [&[batch, channels][..], &grid.shape()[1..=rank]].concat();
    Tensor::from_f64s(x.dtype(), shape, &y)
}

/// Distance outside of the data up to which a coordinate uses elements other than the border.
fn beyond(mode: SampleMode) -> f64 {
    if mode == SampleMode::Cubic { 2.0 } else { 0.0 }
}

/// The elements of an axis for a normalised coordinate, with their weights.
fn axis_taps(
    coordinate: f64,
    n: usize,
    mode: SampleMode,
    padding: SamplePadding,
    align_corners: bool,
) -> Vec<(usize, f64)> {
    let size = n as f64;
    let (low, high) = bounds(n, align_corners);
    let mut at = match align_corners {
        true => (coordinate + 1.0) / 2.0 * (size - 1.0),
        false => ((coordinate + 1.0) * size - 1.0) / 2.0,
    };
    if mode == SampleMode::Nearest {
        at = at.round_ties_even();
    }
    if at < low || at > high {
        at = match padding {
            SamplePadding::Zeros => at,
            SamplePadding::Border => at.clamp(-beyond(mode), size - 1.0 + beyond(mode)),
            SamplePadding::Reflection => reflect(at, low, high),
        };
    }
    let near = at.floor();
    let ratio = at - near;
    let taps: Vec<(f64, f64)> = match mode {
        // A reflected coordinate may be between elements.
        SampleMode::Nearest => vec![(at.trunc(), 1.0)],
        SampleMode::Linear => vec![(near, 1.0 - ratio), (near + 1.0, ratio)],
        SampleMode::Cubic => {
            (-1..=2).map(|i| (near + f64::from(i), cubic(-0.75, (f64::from(i) - ratio).abs()))).collect()
        }
    };
    let inside = |i: f64| i >= 0.0 && i < size;
    let resolve = |(i, w): (f64, f64)| match padding {
        _ if inside(i) => Some((i as usize, w)),
        SamplePadding::Zeros => None,
        SamplePadding::Border => Some((i.clamp(0.0, size - 1.0) as usize, w)),
        SamplePadding::Reflection => Some((reflect(i, low, high).clamp(0.0, size - 1.0) as usize, w)),
    };
    taps.into_iter().filter(|_| n > 0).filter_map(resolve).collect()
}

/// Mirrors a coordinate at both bounds until it is between them.
fn reflect(x: f64, low: f64, high: f64) -> f64 {
    let range = high - low;
    if range <= 0.0 {
        return low.max(0.0);
    }
    let over = if x < low {
        low - x
    } else if x > high {
        x - high
    } else {
        return x;
    };
    let turns = (over / range).floor();
    let rest = over - turns * range;
    let from_low = (x < low) == (turns % 2.0 == 0.0);
    if from_low { low + rest } else { high - rest }
}
