//! The data that a layer's rows multiply, as a matrix: a row per position of the output, a column per column of the
//! layer's [`Matrix`](crate::matrix::Matrix) (the `im2col` of the literature).

use mcc_ir::{Error, Result, Tensor};

use crate::layers::{AutoPad, Kind, Layer, Window};
use crate::recurrent::Part;

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

/// A layer's data on one sample, ready to be unfolded.
pub struct Data {
    elements: Vec<f32>,
    columns: usize,
    total: usize,
    taken: Vec<usize>,
    form: Form,
}

/// Where the elements of a position are.
enum Form {
    /// One after the other.
    Rows,
    /// In runs of rows, those of each group in turn.
    Runs {
        groups: usize,
        /// Rows of a run.
        run: usize,
    },
    /// In planes of channels.
    Planes {
        channels: usize,
        per_group: usize,
        plane: usize,
        outputs: usize,
        taps: usize,
        /// For each taken position and tap, where in a plane the element is; [`PADDING`] if nowhere.
        sources: Vec<u32>,
    },
}

/// The source of an element outside the data, which is zero.
const PADDING: u32 = u32::MAX;

impl Data {
    /// The data for at most `limit` positions, evenly spread; `shift` moves which ones.
    ///
    /// # Errors
    /// When it does not fit the layer, which compiling reports before.
    pub fn of(layer: &Layer, tensor: &Tensor, limit: usize, shift: usize) -> Result<Data> {
        let elements = tensor.to_f32s().ok_or_else(|| Error::internal(format!("a layer's data is {}", tensor.ty())))?;
        let columns = layer.columns();
        match &layer.kind {
            Kind::Product { .. } => {
                let total = elements.len() / columns;
                Ok(Data { elements, columns, total, taken: positions(total, limit, shift), form: Form::Rows })
            }
            Kind::Recurrent(recurrence) => {
                let groups = recurrence.groups();
                let total = elements.len() / columns / groups;
                let taken = positions(total, limit, shift);
                let form = match recurrence.part {
                    Part::Data => Form::Rows,
                    Part::States => Form::Runs { groups, run: recurrence.run_of_states(tensor.shape()).max(1) },
                };
                Ok(Data { elements, columns, total, taken, form })
            }
            Kind::Conv(w) | Kind::ConvTranspose(w) => {
                let transposed = matches!(layer.kind, Kind::ConvTranspose(_));
                let spatial = Spatial::of(w, tensor.shape(), transposed)
                    .ok_or_else(|| Error::internal(format!("data of \"{}\" does not fit its window", layer.name)))?;
                let outputs = spatial.to.iter().product();
                let total = spatial.batch * outputs;
                let taken = positions(total, limit, shift);
                let form = Form::Planes {
                    channels: spatial.channels,
                    per_group: spatial.channels / w.groups,
                    plane: spatial.from.iter().product(),
                    outputs,
                    taps: w.kernel.iter().product(),
                    sources: spatial.sources(&taken),
                };
                Ok(Data { elements, columns, total, taken, form })
            }
        }
    }

    /// The number of positions, of which some are taken.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The data of one group of channels.
    pub fn unfold(&self, group: usize) -> Unfolded {
        let (rows, columns) = (self.taken.len(), self.columns);
        let mut data = vec![0.0; rows * columns];
        let into = data.chunks_exact_mut(columns);
        match &self.form {
            Form::Rows => {
                let row = |&p: &usize| &self.elements[p * columns..(p + 1) * columns];
                into.zip(self.taken.iter().map(row)).for_each(|(to, from)| to.copy_from_slice(from));
            }
            Form::Runs { groups, run } => {
                let place = |p: usize| (p / run * groups + group) * run + p % run;
                let row = |&p: &usize| &self.elements[place(p) * columns..(place(p) + 1) * columns];
                into.zip(self.taken.iter().map(row)).for_each(|(to, from)| to.copy_from_slice(from));
            }
            Form::Planes { channels, per_group, plane, outputs, taps, sources } => {
                for ((row, position), sources) in into.zip(&self.taken).zip(sources.chunks_exact(*taps)) {
                    let first = (position / outputs * channels + group * per_group) * plane;
                    for (channel, row) in row.chunks_exact_mut(*taps).enumerate() {
                        let from = &self.elements[first + channel * plane..][..*plane];
                        for (to, &source) in row.iter_mut().zip(sources).filter(|(_, s)| **s != PADDING) {
                            *to = from[source as usize];
                        }
                    }
                }
            }
        }
        Unfolded { rows, columns, data }
    }
}

/// Which of `total` positions are taken.
fn positions(total: usize, limit: usize, shift: usize) -> Vec<usize> {
    if total <= limit {
        return (0..total).collect();
    }
    (0..limit).map(|n| (n * total / limit + shift) % total).collect()
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

    /// Where in a plane the elements of positions' windows are.
    fn sources(&self, taken: &[usize]) -> Vec<u32> {
        let outputs: usize = self.to.iter().product();
        let taps: usize = self.window.kernel.iter().product();
        let taps: Vec<Vec<usize>> = (0..taps).map(|tap| coordinates(tap, &self.window.kernel)).collect();
        let mut sources = Vec::with_capacity(taken.len() * taps.len());
        for &position in taken {
            let at = coordinates(position % outputs, &self.to);
            sources.extend(taps.iter().map(|tap| self.source(&at, tap).map_or(PADDING, |s| s as u32)));
        }
        sources
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
