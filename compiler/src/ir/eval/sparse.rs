//! Correlation with weights given by their non-zeros.

use crate::ir::{ConvSpec, Staging, Tensor};
use crate::{Error, Result};

/// `(x, heads, slots, offsets, values)`.
pub(super) fn sparse_conv(
    x: &[Tensor],
    spec: &ConvSpec,
    kernel: &[i64],
    staging: &Staging,
    result: &[usize],
) -> Result<Tensor> {
    let (x, heads, slots, offsets, values) = (&x[0], x[1].to_i64s(), x[2].to_i64s(), x[3].to_i64s(), x[4].to_f64s());
    let shape = x.shape();
    let channels = shape[shape.len() - 1];
    let (plane, places) = (staging.plane(spec, kernel), staging.places(spec, kernel));
    let malformed = |what: &str, n: i64| Error::invalid(format!("sparse weights: {what} {n} leads nowhere"));
    // Where each result's window begins, and for each tap whether it is inside and how far from there.
    let windows = Windows::new(spec, kernel, shape, result);
    let out = result[result.len() - 1];
    let rows: usize = result[..result.len() - 1].iter().product();
    let x = x.to_f64s();
    let mut sums = vec![0.0; rows * out];
    for (slot, &place) in slots.iter().enumerate() {
        let (group, turn) = (slot / staging.abreast, slot % staging.abreast);
        let o = slot / Staging::BLOCK * Staging::BLOCK + place as usize;
        if o >= out {
            continue;
        }
        let (from, to) = (heads[group], heads[group + 1]);
        for n in (from + turn as i64..to).step_by(staging.abreast) {
            let at = usize::try_from(n).ok().filter(|&n| n < values.len()).ok_or_else(|| malformed("entry", n))?;
            let offset = usize::try_from(offsets[at]).map_err(|_| malformed("offset", offsets[at]))?;
            let (channel, place) = (offset / plane, offset % plane);
            // The plane of zeros.
            if channel == channels && place == 0 {
                continue;
            }
            let tap = places.iter().position(|&p| p == place).filter(|_| channel < channels);
            let tap = tap.ok_or_else(|| malformed("offset", offsets[at]))?;
            for row in 0..rows {
                if let Some(pixel) = windows.pixel(row, tap) {
                    sums[row * out + o] += values[at] * x[pixel * channels + channel];
                }
            }
        }
    }
    Tensor::from_f64s(crate::ir::DType::F32, result.to_vec(), &sums)
}

/// Which pixels windows meet.
struct Windows<'a> {
    spec: &'a ConvSpec,
    kernel: &'a [i64],
    data: &'a [usize],
    results: &'a [usize],
}

impl<'a> Windows<'a> {
    fn new(spec: &'a ConvSpec, kernel: &'a [i64], x: &'a [usize], result: &'a [usize]) -> Windows<'a> {
        let data = if kernel.is_empty() { &[] } else { &x[1..x.len() - 1] };
        Windows { spec, kernel, data, results: &result[result.len() - 1 - kernel.len()..result.len() - 1] }
    }

    /// The pixel that a result's window has at a tap, unless that is padding.
    fn pixel(&self, row: usize, tap: usize) -> Option<usize> {
        let (mut row, mut tap, mut stride, mut pixel) = (row, tap, 1, 0);
        for axis in (0..self.kernel.len()).rev() {
            let (position, step) = (row % self.results[axis], tap % self.kernel[axis] as usize);
            (row, tap) = (row / self.results[axis], tap / self.kernel[axis] as usize);
            let at = position as i64 * self.spec.strides[axis] + step as i64 * self.spec.dilations[axis]
                - self.spec.pads[axis].0;
            let at = usize::try_from(at).ok().filter(|&at| at < self.data[axis])?;
            pixel += at * stride;
            stride *= self.data[axis];
        }
        // What is left of the row's number is the batch's.
        Some(pixel + row * stride)
    }
}
