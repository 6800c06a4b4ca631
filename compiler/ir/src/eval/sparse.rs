//! Correlation with weights given as non-zeros.

use crate::{ConvSpec, DType, Layout, Staging, Tensor};
use crate::{Error, Result};

/// `(x, heads, slots, offsets, values)`.
pub(super) fn sparse_conv(
    operands: &[Tensor],
    spec: &ConvSpec,
    kernel: &[i64],
    staging: &Staging,
    result: &[usize],
    stored: Layout,
) -> Result<Tensor> {
    let [x, heads, slots, offsets, values] = operands else {
        return Err(Error::internal("sparse weights have five operands"));
    };
    let [heads, slots, offsets] = [heads, slots, offsets].map(Tensor::to_i64s);
    let dtype = x.dtype();
    let (data, results) = (Activations::new(spec.layout, x.shape()), Activations::new(stored, result));
    let together = Staging::elements(dtype);
    let channels = data.channels / together;
    let (plane, places) = (staging.plane(spec, kernel), staging.places(spec, kernel));
    let malformed = |what: &str, n: i64| Error::invalid(format!("sparse weights: {what} {n} is out of range"));
    // The start of each result's window, and for each tap whether it is inside and its distance from the start.
    let windows = Windows { spec, kernel, data: data.extents(kernel), results: results.extents(kernel) };
    let out = results.channels;
    let rows: usize = results.pixels.iter().product();
    let (x, values) = (x.to_f64s(), values.to_f64s());
    let mut sums = vec![0.0; rows * out];
    let (unit, blocks) = (staging.unit(spec, kernel), staging.listed(out, channels));
    for (slot, &place) in slots.iter().enumerate() {
        let (group, turn) = (slot / staging.abreast, slot % staging.abreast);
        let o = blocks[group] + place as usize;
        if o >= out {
            continue;
        }
        // Non-zeros come in whole turns of the group's channels, which are counted in offsets.
        let (from, abreast, shared) = (heads[group], staging.abreast as i64, staging.shared as i64);
        let rounds = ((heads[group + 1] - from) / shared + abreast / shared - 1) / (abreast / shared);
        for n in (0..rounds).map(|round| from + round * abreast + turn as i64) {
            let at = usize::try_from(n)
                .ok()
                .filter(|&n| n < values.len() / together)
                .ok_or_else(|| malformed("entry", n))?;
            let offset = *offsets.get(at / staging.shared).ok_or_else(|| malformed("entry", n))?;
            let offset = usize::try_from(offset).map_err(|_| malformed("offset", offset))? * unit;
            let (channel, place) = (offset / plane, offset % plane);
            // The plane of zeros.
            if channel == channels && place == 0 {
                continue;
            }
            let tap = places.iter().position(|&p| p == place).filter(|_| channel < channels);
            let tap = tap.ok_or_else(|| malformed("offset", offset as i64))?;
            for row in 0..rows {
                if let Some(pixel) = windows.pixel(row, tap) {
                    for n in 0..together {
                        let met = x[data.index(pixel, channel * together + n)];
                        sums[results.index(row, o)] += values[at * together + n] * met;
                    }
                }
            }
        }
    }
    if dtype == DType::F32 {
        return Tensor::from_f64s(dtype, result.to_vec(), &sums);
    }
    let wrapped: Vec<i64> = sums.iter().map(|&sum| i64::from(sum as i64 as i32)).collect();
    Tensor::from_i64s(DType::I32, result.to_vec(), &wrapped)
}

/// Activations as pixels with channels.
struct Activations {
    layout: Layout,
    channels: usize,
    /// Extents of all axes but the channels.
    pixels: Vec<usize>,
}

impl Activations {
    fn new(layout: Layout, shape: &[usize]) -> Activations {
        let mut pixels = shape.to_vec();
        let channels = pixels.remove(layout.channels(shape.len()));
        Activations { layout, channels, pixels }
    }

    /// Spatial extents for a window.
    fn extents(&self, kernel: &[i64]) -> &[usize] {
        &self.pixels[self.pixels.len() - kernel.len()..]
    }

    fn index(&self, pixel: usize, channel: usize) -> usize {
        match self.layout {
            Layout::ChannelsLast => pixel * self.channels + channel,
            Layout::ChannelsFirst => {
                let plane: usize = self.pixels[1..].iter().product();
                (pixel / plane * self.channels + channel) * plane + pixel % plane
            }
        }
    }
}

/// The pixels that windows read.
struct Windows<'a> {
    spec: &'a ConvSpec,
    kernel: &'a [i64],
    data: &'a [usize],
    results: &'a [usize],
}

impl Windows<'_> {
    /// The pixel of a result's window at a tap, unless it is padding.
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
        // The remaining part of the row's number is the batch index.
        Some(pixel + row * stride)
    }
}
