//! Depthwise convolution over channels-last data: vectors run along the channels, several output columns at once.
//!
//! Within a row of windows, each input vector is loaded once and used for all output columns that need it, of two
//! output lines if there are enough registers. With one channel, vectors run along the window instead, and each
//! column's lanes are summed at the end.

use mcc_targets::choices::Problem;
use mcc_targets::schedule;

use crate::kernels::gemm::multiply_add;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{IndexRange, cover, rest, shared_axis};
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Bin, Builder, Cmp, Ty, Val};
use crate::numbers;
use mcc_ir::{ConvSpec, Dim, Error, Result};

/// [`WeightFormat::Depthwise`](mcc_ir::WeightFormat::Depthwise): `(x: channels last, w: [k..., channels])`.
pub(crate) fn depthwise_conv(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    spec: &ConvSpec,
) -> Result<()> {
    let (nest, zero) = (DepthwiseLoops::new(request, e, spec)?, k.int(0));
    nest.rows(k, 0, e.operand(0), zero);
    Ok(())
}

/// The pixels `first..last` of its result.
pub(crate) fn pixels(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    spec: &ConvSpec,
    first: Val,
    last: Val,
) -> Result<()> {
    let nest = DepthwiseLoops::new(request, e, spec)?;
    let width = k.dim(&request.results[0].shape[nest.kernel.len()]);
    let line = k.bin(Bin::UDiv, first, width);
    let end = k.add_int(last, -1);
    let end = k.bin(Bin::UDiv, end, width);
    let (end, zero) = (k.add_int(end, 1), k.int(0));
    k.for_each(line, end, 1, |k, line| {
        let row = k.mul(line, width);
        let (from, to) = (k.sub(first, row), k.sub(last, row));
        let columns = IndexRange { first: k.bin(Bin::Max, from, zero), end: k.bin(Bin::Min, to, width) };
        let x = nest.line_at(k, line);
        nest.some_columns(k, Place { x, row }, columns, [1, nest.columns]);
    });
    Ok(())
}

struct DepthwiseLoops<'a, 'b> {
    request: &'a KernelRequest<'a>,
    e: &'b Emit<'b>,
    spec: &'a ConvSpec,
    kernel: Vec<i64>,
    channels: i64,
    lanes: i64,
    /// Output columns computed at once.
    columns: i64,
    /// Output lines computed at once.
    lines: i64,
    /// Bytes between neighbours along each axis of `x`.
    steps: Vec<Dim>,
    /// Elements between columns of `x`.
    step: i64,
}

impl<'a, 'b> DepthwiseLoops<'a, 'b> {
    fn new(request: &'a KernelRequest<'a>, e: &'b Emit<'b>, spec: &'a ConvSpec) -> Result<DepthwiseLoops<'a, 'b>> {
        let (x, w, y) = (&request.operands[0], &request.operands[1], &request.results[0]);
        let axes = x.rank().saturating_sub(2);
        let malformed = || Error::internal(format!("depthwise_conv of {x} and {w}"));
        let weights = w.fixed_shape().filter(|w| axes > 0 && w.len() == axes + 1).ok_or_else(malformed)?;
        let weights: Vec<i64> = weights.iter().map(|&d| d as i64).collect();
        let elem = numbers::compute_elem(x.dtype);
        let strides = e.strides(0);
        let steps = strides.iter().map(|stride| stride * &Dim::from(x.dtype.size())).collect();
        let step = strides[axes].as_const().ok_or_else(malformed)?;
        let columns = &y.shape[axes];
        let width = columns.as_const().and_then(|c| u64::try_from(c).ok());
        let text = request.problem();
        let problem = Problem { text: &text, layer: request.layer };
        let (channels, kernel) = (weights[axes], weights[..axes].to_vec());
        let columns = schedule::products::depthwise_columns(request.config, problem, width) as i64;
        // Lines share input if the stride and the dilation between them are 1.
        let overlap = channels > 1
            && axes > 1
            && kernel[axes - 2] > 1
            && spec.strides[axes - 2] == 1
            && spec.dilations[axes - 2] == 1;
        let lines = if overlap {
            schedule::products::depthwise_lines(&request.config.target, columns, kernel[axes - 1])
        } else {
            1
        };
        Ok(DepthwiseLoops {
            request,
            e,
            spec,
            channels,
            kernel,
            lanes: i64::from(request.config.target.vector_bytes / elem.bytes()),
            columns,
            lines,
            steps,
            step,
        })
    }

    /// Loops over the batch and all output axes but the last; `row` is a row of the result, that is, a pixel.
    fn rows(&self, k: &mut Builder, axis: usize, x: Val, row: Val) {
        let shape = &self.request.results[0].shape;
        let (zero, end) = (k.int(0), k.dim(&shape[axis]));
        let row = k.mul(row, end);
        if axis + 1 < self.kernel.len() {
            let steps = Steps { from: zero, to: end, step: 1 };
            return self.along(k, axis, Place { x, row }, steps, |k, at| self.rows(k, axis + 1, at.x, at.row));
        }
        let whole = &shape[axis].floor_div(&Dim::from(self.lines)) * &Dim::from(self.lines);
        let middle = k.dim(&whole);
        for (from, to, lines) in [(zero, middle, self.lines), (middle, end, 1)] {
            if from == to {
                continue;
            }
            self.along(k, axis, Place { x, row }, Steps { from, to, step: lines }, |k, at| {
                let all = k.dim(&shape[axis + 1]);
                let row = k.mul(at.row, all);
                self.columns(k, Place { row, ..at }, lines);
            });
        }
    }

    /// A loop along an output axis that is not the last one.
    fn along(&self, k: &mut Builder, axis: usize, at: Place, steps: Steps, body: impl FnOnce(&mut Builder, Place)) {
        let stride = if axis == 0 { 1 } else { self.spec.strides[axis - 1] };
        let bytes = &self.steps[axis] * &Dim::from(stride);
        let round = |k: &mut Builder, i: Val| {
            let bytes = k.dim(&bytes);
            let offset = k.mul(i, bytes);
            let at = Place { x: k.add(at.x, offset), row: k.add(at.row, i) };
            body(k, at);
        };
        k.parallel_if(
            shared_axis(&self.request.results[0].shape[..self.kernel.len()]) == Some(axis),
            steps.from,
            steps.to,
            steps.step,
            round,
        );
    }

    /// Pointer to the windows of a line of the result; lines are numbered over the batch and all axes but the last.
    fn line_at(&self, k: &mut Builder, line: Val) -> Val {
        let shape = &self.request.results[0].shape;
        let (mut x, mut line) = (self.e.operand(0), line);
        for axis in (0..self.kernel.len()).rev() {
            let stride = if axis == 0 { 1 } else { self.spec.strides[axis - 1] };
            let (extent, bytes) = (k.dim(&shape[axis]), k.dim(&(&self.steps[axis] * &Dim::from(stride))));
            let (outer, i) = (k.bin(Bin::UDiv, line, extent), k.bin(Bin::URem, line, extent));
            let offset = k.mul(if axis == 0 { line } else { i }, bytes);
            (x, line) = (k.add(x, offset), outer);
        }
        x
    }

    /// Some output lines: tiles, then the remaining columns.
    fn columns(&self, k: &mut Builder, at: Place, lines: i64) {
        let all = &self.request.results[0].shape[self.kernel.len()];
        if all.as_const().is_none() {
            let (zero, all) = (k.int(0), k.dim(all));
            return self.some_columns(k, at, IndexRange { first: zero, end: all }, [lines, self.columns]);
        }
        let tile = Dim::from(self.columns);
        let full = &all.floor_div(&tile) * &tile;
        let rest = all - &full;
        let (zero, full, end) = (k.int(0), k.dim(&full), k.dim(all));
        k.parallel(zero, full, self.columns, |k, column| {
            self.tile(k, at, column, [lines, self.columns]);
        });
        let step = rest.as_const().unwrap_or(1);
        if step > 0 {
            k.parallel(full, end, step, |k, column| self.tile(k, at, column, [lines, step]));
        }
    }

    /// A number of columns known at run time: tiles, the last one of which overlaps the previous one; fewer columns
    /// than a tile use smaller tiles.
    fn some_columns(&self, k: &mut Builder, at: Place, all: IndexRange, [lines, size]: [i64; 2]) {
        let IndexRange { first, end } = all;
        if size <= 1 {
            return k.parallel(first, end, 1, |k, column| self.tile(k, at, column, [lines, 1]));
        }
        let last = k.add_int(end, -size);
        let enough = k.cmp(Cmp::Ge, last, first);
        k.choose(
            enough,
            |k| {
                k.parallel(first, end, size, |k, column| {
                    let column = k.bin(Bin::Min, column, last);
                    self.tile(k, at, column, [lines, size]);
                });
                Vec::new()
            },
            |k| {
                self.some_columns(k, at, all, [lines, size / 4]);
                Vec::new()
            },
        );
    }

    /// A tile of `lines` lines and `count` columns of the result, starting at a column.
    fn tile(&self, k: &mut Builder, at: Place, column: Val, [lines, count]: [i64; 2]) {
        let axes = self.kernel.len();
        let bytes = k.dim(&(&self.steps[axes] * &Dim::from(self.spec.strides[axes - 1])));
        let offset = k.mul(column, bytes);
        let Place { x, row } = Place { x: k.add(at.x, offset), row: k.add(at.row, column) };
        let last = axes - 1;
        if self.channels == 1 && self.spec.dilations[last] == 1 && self.kernel[last] >= self.lanes && self.lanes > 1 {
            return self.dots(k, Place { x, row }, count);
        }
        // With fewer channels than lanes, vectors are shorter; the last vector overlaps the previous one.
        let mut lanes = self.lanes;
        while !k.has_masks() && lanes > self.channels {
            lanes /= 2;
        }
        let channels = k.int(self.channels);
        let all = k.dim(&self.request.results[0].shape[axes]);
        cover(k, channels, lanes as u32, |k, channel, lanes| {
            let ty = Ty::new(numbers::compute_elem(self.request.operands[0].dtype), lanes);
            let sums = vec![k.zero(ty); (lines * count) as usize];
            let w = self.e.operand(1);
            let window = Window { x: self.plus(k, x, channel, 0), w: self.plus(k, w, channel, 1) };
            let sums = self.taps(k, 0, window, lines, &sums);
            let (mut first, mut pixels) = (row, Vec::with_capacity(sums.len()));
            for _ in 0..lines {
                pixels.extend((0..count).map(|i| k.add_int(first, i)));
                first = k.add(first, all);
            }
            self.e.store_pixels(k, &pixels, channel, &sums);
        });
    }

    /// The columns of a tile of the only channel: products of windows and weights in vectors along the last axis.
    fn dots(&self, k: &mut Builder, at: Place, count: i64) {
        let window = Window { x: at.x, w: self.e.operand(1) };
        let ty = Ty::new(numbers::compute_elem(self.request.operands[0].dtype), self.lanes as u32);
        let sums = vec![k.zero(ty); count as usize];
        let whole = self.kernel[self.kernel.len() - 1] / self.lanes * self.lanes;
        let sums = self.dot_lines(k, 0, window, &sums, |k, at, sums| {
            let (zero, end) = (k.int(0), k.int(whole));
            let sums =
                k.fold_loop(zero, end, self.lanes, sums, |k, i, sums| self.dot_step(k, at, i, self.lanes as u32, sums));
            let (mut sums, length) = (sums, k.int(self.kernel[self.kernel.len() - 1]));
            if k.has_masks() {
                rest(k, end, length, self.lanes as u32, |k| {
                    sums = self.dot_step(k, at, end, self.lanes as u32, &sums);
                });
            }
            sums
        });
        let mut totals: Vec<Val> = sums.iter().map(|&sum| k.reduce_lanes(sum, |k, a, b| k.add(a, b))).collect();
        if !k.has_masks() && whole < self.kernel[self.kernel.len() - 1] {
            totals = self.dot_lines(k, 0, window, &totals, |k, at, sums| {
                let (start, end) = (k.int(whole), k.int(self.kernel[self.kernel.len() - 1]));
                k.fold_loop(start, end, 1, sums, |k, i, sums| self.dot_step(k, at, i, 1, sums))
            });
        }
        let zero = k.int(0);
        for (i, total) in totals.into_iter().enumerate() {
            let row = k.add_int(at.row, i as i64);
            self.e.store(k, row, zero, total);
        }
    }

    /// Visits the lines of a window.
    fn dot_lines(
        &self,
        k: &mut Builder,
        axis: usize,
        window: Window,
        sums: &[Val],
        line: impl FnOnce(&mut Builder, Window, &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        if axis + 1 == self.kernel.len() {
            return line(k, window, sums);
        }
        let x_bytes = &self.steps[axis + 1] * &Dim::from(self.spec.dilations[axis]);
        let w_bytes = self.kernel[axis + 1..].iter().product::<i64>() * self.request.operands[1].dtype.size() as i64;
        let (zero, end) = (k.int(0), k.int(self.kernel[axis]));
        k.fold_loop(zero, end, 1, sums, |k, i, sums| {
            let bytes = k.dim(&x_bytes);
            let (x_offset, w_offset) = (k.mul(i, bytes), k.mul_int(i, w_bytes));
            let window = Window { x: k.add(window.x, x_offset), w: k.add(window.w, w_offset) };
            self.dot_lines(k, axis + 1, window, sums, line)
        })
    }

    /// `lanes` elements of a line, starting at `i`, for every column.
    fn dot_step(&self, k: &mut Builder, window: Window, i: Val, lanes: u32, sums: &[Val]) -> Vec<Val> {
        let operands = self.request.operands;
        let stride = self.spec.strides[self.kernel.len() - 1] * self.step * operands[0].dtype.size() as i64;
        let from = k.at_index(window.w, i, operands[1].dtype.size() as u32);
        let weights = numbers::load(k, operands[1].dtype, from, lanes);
        let mut next = Vec::with_capacity(sums.len());
        for (column, &sum) in sums.iter().enumerate() {
            let x = k.add_int(window.x, column as i64 * stride);
            let from = k.at_index(x, i, operands[0].dtype.size() as u32);
            let input = numbers::load(k, operands[0].dtype, from, lanes);
            next.push(multiply_add(k, weights, input, sum));
        }
        next
    }

    fn plus(&self, k: &mut Builder, pointer: Val, elements: Val, operand: usize) -> Val {
        let bytes = k.mul_int(elements, self.request.operands[operand].dtype.size() as i64);
        k.add(pointer, bytes)
    }

    /// Kernel axes from `axis` on; all but the last are loops, or unrolled if the window is small.
    fn taps(&self, k: &mut Builder, axis: usize, window: Window, lines: i64, sums: &[Val]) -> Vec<Val> {
        let Window { x, w } = window;
        let axes = self.kernel.len();
        if axis + 1 == axes {
            return self.line(k, x, &[Some(w)], sums);
        }
        let x_bytes = &self.steps[axis + 1] * &Dim::from(self.spec.dilations[axis]);
        let w_bytes = self.kernel[axis + 1..].iter().product::<i64>()
            * self.channels
            * self.request.operands[1].dtype.size() as i64;
        let at = |k: &mut Builder, i: Val| {
            let bytes = k.dim(&x_bytes);
            let (x_offset, w_offset) = (k.mul(i, bytes), k.mul_int(i, w_bytes));
            Window { x: k.add(x, x_offset), w: k.add(w, w_offset) }
        };
        let small = self.kernel.iter().product::<i64>() <= schedule::products::MAX_UNROLLED_WINDOW;
        let each = |k: &mut Builder, from: i64, sums: &[Val], body: &Step<'_>| {
            let to = self.kernel[axis];
            if small {
                return (from..to).fold(sums.to_vec(), |sums, i| {
                    let i = k.int(i);
                    body(k, i, &sums)
                });
            }
            let (start, end) = (k.int(from), k.int(to));
            k.fold_loop(start, end, 1, sums, |k, i, sums| body(k, i, sums))
        };
        if lines == 1 || axis + 2 < axes {
            return each(k, 0, sums, &|k, i, sums| {
                let at = at(k, i);
                self.taps(k, axis + 1, at, lines, sums)
            });
        }
        // The second line of results multiplies each input line by the next line of weights.
        let sums = self.line(k, x, &[Some(w), None], sums);
        let sums = each(k, 1, &sums, &|k, i, sums| {
            let Window { x, w } = at(k, i);
            let before = k.add_int(w, -w_bytes);
            self.line(k, x, &[Some(w), Some(before)], sums)
        });
        let end = k.int(self.kernel[axis]);
        let Window { x, w } = at(k, end);
        let last = k.add_int(w, -w_bytes);
        self.line(k, x, &[None, Some(last)], &sums)
    }

    /// Adds one line of input to every column of the tile, times a line of weights for each line of results, if any.
    fn line(&self, k: &mut Builder, x: Val, ws: &[Option<Val>], sums: &[Val]) -> Vec<Val> {
        let last = self.kernel.len() - 1;
        let (length, stride, dilation) = (self.kernel[last], self.spec.strides[last], self.spec.dilations[last]);
        let size = |operand: usize| self.request.operands[operand].dtype.size() as i64;
        if length > schedule::products::MAX_UNROLLED_WINDOW {
            let (zero, end) = (k.int(0), k.int(length));
            return k.fold_loop(zero, end, 1, sums, |k, i, sums| {
                let w_offset = k.mul_int(i, self.channels * size(1));
                let x_offset = k.mul_int(i, dilation * self.step * size(0));
                let x = k.add(x, x_offset);
                let ws: Vec<Option<Val>> = ws.iter().map(|w| w.map(|w| k.add(w, w_offset))).collect();
                self.columns_of(k, x, &ws, sums, [1, stride, 1])
            });
        }
        self.columns_of(k, x, ws, sums, [length, stride, dilation])
    }

    fn columns_of(
        &self,
        k: &mut Builder,
        x: Val,
        ws: &[Option<Val>],
        sums: &[Val],
        [length, stride, dilation]: [i64; 3],
    ) -> Vec<Val> {
        let lanes = sums.first().map_or(1, |&s| k.ty(s).lanes);
        let operands = self.request.operands;
        let load = |k: &mut Builder, pointer: Val, operand: usize, element: i64| {
            let element = k.int(element * if operand == 0 { self.step } else { self.channels });
            let from = k.at_index(pointer, element, operands[operand].dtype.size() as u32);
            numbers::load(k, operands[operand].dtype, from, lanes)
        };
        let weights: Vec<Vec<Val>> =
            ws.iter().map(|w| w.map_or_else(Vec::new, |w| (0..length).map(|i| load(k, w, 1, i)).collect())).collect();
        let mut sums = sums.to_vec();
        let columns = sums.len() / ws.len();
        let reach = (columns as i64 - 1) * stride + (length - 1) * dilation;
        for column in 0..=reach {
            // The output columns that use this input column, and the weight of each.
            let uses: Vec<(usize, usize)> = (0..length)
                .filter_map(|i| {
                    let first = column - i * dilation;
                    let output = first / stride;
                    let fits = first >= 0 && first % stride == 0 && output < columns as i64;
                    fits.then_some((output as usize, i as usize))
                })
                .collect();
            if uses.is_empty() {
                continue;
            }
            let input = load(k, x, 0, column);
            for (sums, weights) in sums.chunks_mut(columns).zip(&weights) {
                for &(output, i) in &uses {
                    if let Some(&weight) = weights.get(i) {
                        sums[output] = multiply_add(k, weight, input, sums[output]);
                    }
                }
            }
        }
        sums
    }
}

/// Pointer to the windows in the data, and the row of the result.
#[derive(Clone, Copy)]
struct Place {
    x: Val,
    row: Val,
}

/// Pointers into the data and the weights.
#[derive(Clone, Copy)]
struct Window {
    x: Val,
    w: Val,
}

/// Indices from `from` (inclusive) to `to` (exclusive), by `step`.
#[derive(Clone, Copy)]
struct Steps {
    from: Val,
    to: Val,
    step: i64,
}

/// Updates the sums in a step along a kernel axis.
type Step<'a> = dyn Fn(&mut Builder, Val, &[Val]) -> Vec<Val> + 'a;
