//! The data that a layer's rows multiply, as a matrix: a row per position of the output, a column per column of the
//! layer's [`Matrix`](crate::matrix::Matrix) (the `im2col` of the literature).

use mcc_ir::{Error, Result, Tensor};

use crate::layers::{AutoPad, Kind, Layer, Window};

/// Data of one group of a layer's channels, for some positions of its output.
#[derive(Debug, Clone, PartialEq)]
pub struct Unfolded {
    /// Positions.
    pub rows: usize,
    /// Inputs of each sum.
    pub columns: usize,
    /// Elements, row-major.
    pub data: Vec<f32>,
}

/// The data of a group for at most `limit` positions, evenly spread; `shift` moves which ones.
///
/// # Errors
/// When the data does not fit the layer, which compiling reports before.
pub fn unfold(layer: &Layer, input: &Tensor, group: usize, limit: usize, shift: usize) -> Result<Unfolded> {
    let data = input.to_f32s().ok_or_else(|| Error::internal(format!("data of \"{}\" is not f32", layer.name)))?;
    match &layer.kind {
        Kind::Product { .. } => Ok(product(&data, layer.columns(), limit, shift)),
        Kind::Conv(w) | Kind::ConvTranspose(w) => {
            let transposed = matches!(layer.kind, Kind::ConvTranspose(_));
            let spatial = Spatial::of(w, input.shape(), transposed)
                .ok_or_else(|| Error::internal(format!("data of \"{}\" does not fit its window", layer.name)))?;
            Ok(spatial.unfold(&data, group, limit, shift))
        }
    }
}

/// Which of `total` positions are taken.
fn positions(total: usize, limit: usize, shift: usize) -> Vec<usize> {
    if total <= limit {
        return (0..total).collect();
    }
    (0..limit).map(|n| (n * total / limit + shift) % total).collect()
}

fn product(data: &[f32], columns: usize, limit: usize, shift: usize) -> Unfolded {
    let taken = positions(data.len() / columns, limit, shift);
    let rows = taken.iter().flat_map(|&p| &data[p * columns..(p + 1) * columns]).copied().collect();
    Unfolded { rows: taken.len(), columns, data: rows }
}

/// A window over data of given extents.
struct Spatial<'w> {
    window: &'w Window,
    transposed: bool,
    batch: usize,
    channels: usize,
    /// Extents of the data and of the output.
    from: Vec<usize>,
    to: Vec<usize>,
    /// Padding before each axis.
    before: Vec<i64>,
}

impl<'w> Spatial<'w> {
    fn of(window: &'w Window, shape: &[usize], transposed: bool) -> Option<Spatial<'w>> {
        let [batch, channels, from @ ..] = shape else { return None };
        let rank = window.kernel.len();
        if from.len() != rank || channels % window.groups != 0 {
            return None;
        }
        let (mut to, mut before) = (Vec::new(), Vec::new());
        for axis in 0..rank {
            let (extent, stride) = (from[axis] as i64, window.strides[axis] as i64);
            let reach = (window.kernel[axis] as i64 - 1) * window.dilations[axis] as i64 + 1;
            let whole = match (window.auto_pad, transposed) {
                (AutoPad::Explicit, _) => window.pads[axis] + window.pads[rank + axis],
                (AutoPad::Valid, _) => 0,
                (_, false) => ((extent + stride - 1) / stride - 1) * stride + reach - extent,
                (_, true) => reach - stride,
            }
            .max(if window.auto_pad == AutoPad::Explicit { i64::MIN } else { 0 });
            before.push(match window.auto_pad {
                AutoPad::Explicit => window.pads[axis],
                AutoPad::Valid => 0,
                AutoPad::SameUpper => whole / 2,
                AutoPad::SameLower => whole - whole / 2,
            });
            let out = match transposed {
                false => (extent + whole - reach) / stride + 1,
                // Positions that only output padding adds have no data.
                true => (extent - 1) * stride + reach - whole,
            };
            to.push(usize::try_from(out).ok()?);
        }
        Some(Spatial { window, transposed, batch: *batch, channels: *channels, from: from.to_vec(), to, before })
    }

    fn unfold(&self, data: &[f32], group: usize, limit: usize, shift: usize) -> Unfolded {
        let taps: usize = self.window.kernel.iter().product();
        let per_group = self.channels / self.window.groups;
        let columns = per_group * taps;
        let (plane, outputs): (usize, usize) = (self.from.iter().product(), self.to.iter().product());
        let taken = positions(self.batch * outputs, limit, shift);
        let mut unfolded = vec![0.0; taken.len() * columns];
        for (row, &position) in taken.iter().enumerate() {
            let (image, at) = (position / outputs, coordinates(position % outputs, &self.to));
            let channels = (image * self.channels + group * per_group) * plane;
            for tap in 0..taps {
                let Some(source) = self.source(&at, &coordinates(tap, &self.window.kernel)) else { continue };
                for channel in 0..per_group {
                    unfolded[row * columns + channel * taps + tap] = data[channels + channel * plane + source];
                }
            }
        }
        Unfolded { rows: taken.len(), columns, data: unfolded }
    }

    /// Where in a plane of the data the tap of an output's window lies; `None` in the padding.
    fn source(&self, at: &[usize], tap: &[usize]) -> Option<usize> {
        let mut place = 0;
        for axis in 0..at.len() {
            let (stride, reach) =
                (self.window.strides[axis] as i64, tap[axis] as i64 * self.window.dilations[axis] as i64);
            let x = match self.transposed {
                false => at[axis] as i64 * stride + reach - self.before[axis],
                true => {
                    let scaled = at[axis] as i64 + self.before[axis] - reach;
                    (scaled % stride == 0).then_some(scaled / stride)?
                }
            };
            let x = usize::try_from(x).ok().filter(|&x| x < self.from[axis])?;
            place = place * self.from[axis] + x;
        }
        Some(place)
    }
}

/// The coordinates of an element, row-major.
fn coordinates(mut at: usize, extents: &[usize]) -> Vec<usize> {
    let mut coordinates = vec![0; extents.len()];
    for axis in (0..extents.len()).rev() {
        coordinates[axis] = at % extents[axis];
        at /= extents[axis];
    }
    coordinates
}
