//! Depthwise convolution of bytes: [`WeightFormat::Int8Depthwise`](mcc_ir::WeightFormat::Int8Depthwise).
//!
//! Vectors run along the channels. A column's bytes in four input rows are interleaved channel by channel, so that one
//! instruction multiplies them by four rows of a filter and adds the products. All output columns that use the input
//! column, and several output rows if the filter is small enough, use the same four. The sums are exact, so their order
//! does not matter.

use mcc_targets::schedule;
use mcc_targets::schedule::int8::DepthwiseTile;

use super::dot;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::interleave::side_by_side;
use crate::kernels::support::loops::{cover, shared_axis};
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Bin, Builder, DotKind, Elem, Ty, Val};
use mcc_ir::{ConvSpec, Dim, Error, Result};

/// `(x: channels last, packed: [lines, quads, columns, lanes, 4])`.
pub(crate) fn int8_depthwise(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    spec: &ConvSpec,
    kernel: &[i64],
) -> Result<()> {
    let (x, packed, y) = (&request.operands[0], &request.operands[1], &request.results[0]);
    let malformed = || Error::internal(format!("int8_depthwise of {x} and {packed}"));
    let weights = packed.fixed_shape().filter(|w| w.len() == 5 && !kernel.is_empty()).ok_or_else(malformed)?;
    let (mut spec, mut kernel, mut shape, mut steps) = (spec.clone(), kernel.to_vec(), y.shape.clone(), e.strides(0));
    if kernel.len() == 1 {
        // A line is the only column of a plane.
        (kernel, spec) = (vec![kernel[0], 1], spec.with_axis());
        shape.insert(2, Dim::ONE);
        steps.insert(2, Dim::ZERO);
    }
    let axes = kernel.len();
    let step = steps[axes].as_const().ok_or_else(malformed)?;
    let (rows, last) = (axes - 2, axes - 1);
    let window = [kernel[rows], kernel[last]];
    let strides = [spec.strides[rows], spec.strides[last]];
    let width = shape[axes].as_const().and_then(|c| u64::try_from(c).ok());
    let dense = spec.dilations[rows] == 1;
    let nest = Int8DepthwiseLoops {
        request,
        e,
        spec,
        kernel,
        shape,
        quads: weights[1] as i64,
        padded: weights[3] as i64,
        steps,
        step,
        tile: schedule::int8::depthwise_tile(&request.config.target, window, strides[0], dense, width),
    };
    let zero = k.int(0);
    nest.outer(k, 0, e.operand(0), zero);
    Ok(())
}

struct Int8DepthwiseLoops<'a, 'b> {
    request: &'a KernelRequest<'a>,
    e: &'b Emit<'b>,
    spec: ConvSpec,
    kernel: Vec<i64>,
    /// The shape of the result.
    shape: Vec<Dim>,
    /// Groups of four rows of the window.
    quads: i64,
    /// Lanes of the weights.
    padded: i64,
    /// Bytes between neighbours along each axis of `x`.
    steps: Vec<Dim>,
    /// Bytes between columns of `x`.
    step: i64,
    tile: DepthwiseTile,
}

/// Output rows and columns computed at once, and their position.
#[derive(Clone, Copy)]
struct Spot {
    x: Val,
    /// The first pixel of the result.
    pixel: Val,
    rows: i64,
    columns: i64,
}

impl Int8DepthwiseLoops<'_, '_> {
    fn axes(&self) -> usize {
        self.kernel.len()
    }

    fn shape(&self) -> &[Dim] {
        &self.shape
    }

    /// Loops over the batch and all output axes but the last two; `pixel` is a pixel of the result.
    fn outer(&self, k: &mut Builder, axis: usize, x: Val, pixel: Val) {
        let extent = &self.shape()[axis];
        let rows = self.axes() - 1;
        let zero = k.int(0);
        let all = k.dim(extent);
        let pixel = k.mul(pixel, all);
        // Rows that remain after the last tile are computed one by one.
        let size = if axis == rows { self.tile.rows } else { 1 };
        let stride = if axis == 0 { 1 } else { self.spec.strides[axis - 1] };
        let bytes = &self.steps[axis] * &Dim::from(stride);
        let shared = shared_axis(&self.shape()[..=rows]) == Some(axis);
        let part = |k: &mut Builder, (from, to): (Val, Val), size: i64| {
            let round = |k: &mut Builder, i: Val| {
                let bytes = k.dim(&bytes);
                let offset = k.mul(i, bytes);
                let (x, pixel) = (k.add(x, offset), k.add(pixel, i));
                match axis == rows {
                    true => self.columns(k, x, pixel, size),
                    false => self.outer(k, axis + 1, x, pixel),
                }
            };
            k.parallel_if(shared, from, to, size, round);
        };
        let whole = k.dim(&(&extent.floor_div(&Dim::from(size)) * &Dim::from(size)));
        part(k, (zero, whole), size);
        if size > 1 {
            part(k, (whole, all), 1);
        }
    }

    /// A few rows: tiles, then the remaining columns.
    fn columns(&self, k: &mut Builder, x: Val, row: Val, rows: i64) {
        let all = &self.shape()[self.axes()];
        let extent = k.dim(all);
        let first = k.mul(row, extent);
        let bytes = self.step * self.spec.strides[self.axes() - 1];
        let size = self.tile.columns;
        let full = &all.floor_div(&Dim::from(size)) * &Dim::from(size);
        let rest = (all - &full).as_const().unwrap_or(1);
        let (zero, full) = (k.int(0), k.dim(&full));
        let tiles = |k: &mut Builder, (from, to): (Val, Val), columns: i64| {
            k.parallel(from, to, columns, |k, column| {
                let offset = k.mul_int(column, bytes);
                let (x, pixel) = (k.add(x, offset), k.add(first, column));
                self.tile(k, Spot { x, pixel, rows, columns });
            });
        };
        tiles(k, (zero, full), size);
        if rest > 0 {
            tiles(k, (full, extent), rest);
        }
    }

    fn tile(&self, k: &mut Builder, spot: Spot) {
        let channels = self.spec.group as i64;
        let mut lanes = i64::from(self.request.config.target.vector_bytes / 4);
        while !k.has_masks() && lanes > channels {
            lanes /= 2;
        }
        let channels = k.int(channels);
        let width = k.dim(&self.shape()[self.axes()]);
        cover(k, channels, lanes as u32, |k, channel, lanes| {
            let zero = k.zero(Ty::new(Elem::I32, lanes));
            let sums = vec![zero; (spot.rows * spot.columns) as usize];
            let four = k.mul_int(channel, 4);
            let (x, w) = (k.add(spot.x, channel), k.add(self.e.operand(1), four));
            let sums = self.lines(k, 0, x, w, spot, &sums);
            let mut pixels = Vec::with_capacity(sums.len());
            for row in 0..spot.rows {
                let down = k.mul_int(width, row);
                let first = k.add(spot.pixel, down);
                pixels.extend((0..spot.columns).map(|column| k.add_int(first, column)));
            }
            self.e.store_pixels(k, &pixels, channel, &sums);
        });
    }

    /// Kernel axes before the last two.
    fn lines(&self, k: &mut Builder, axis: usize, x: Val, w: Val, spot: Spot, sums: &[Val]) -> Vec<Val> {
        let rows = self.axes() - 2;
        if axis == rows {
            return self.quads(k, x, w, spot, sums);
        }
        let inner: i64 = self.kernel[axis + 1..rows].iter().product();
        let w_bytes = inner * self.quads * self.quad_bytes();
        let x_bytes = &self.steps[axis + 1] * &Dim::from(self.spec.dilations[axis]);
        let (zero, end) = (k.int(0), k.int(self.kernel[axis]));
        k.fold_loop(zero, end, 1, sums, |k, i, sums| {
            let bytes = k.dim(&x_bytes);
            let (x_offset, w_offset) = (k.mul(i, bytes), k.mul_int(i, w_bytes));
            let at = (k.add(x, x_offset), k.add(w, w_offset));
            self.lines(k, axis + 1, at.0, at.1, spot, sums)
        })
    }

    /// Bytes of the weights of four rows.
    fn quad_bytes(&self) -> i64 {
        self.kernel[self.axes() - 1] * self.padded * 4
    }

    /// The rows that a tile's windows cover, in groups of four.
    fn quads(&self, k: &mut Builder, x: Val, w: Val, spot: Spot, sums: &[Val]) -> Vec<Val> {
        let axis = self.axes() - 2;
        let (stride, dilation) = (self.spec.strides[axis], self.spec.dilations[axis]);
        let needed = (spot.rows - 1) * stride + self.kernel[axis];
        let bytes = k.dim(&(&self.steps[axis + 1] * &Dim::from(dilation)));
        let mut sums = sums.to_vec();
        for quad in 0..(needed + 3) / 4 {
            let mut rows = Vec::with_capacity(4);
            for i in 0..4 {
                // Rows beyond the windows have zero weights.
                let row = (4 * quad + i).min(needed - 1);
                let offset = k.mul_int(bytes, row);
                rows.push(k.add(x, offset));
            }
            self.columns_of(k, &rows, w, quad, spot, &mut sums);
        }
        sums
    }

    /// Four rows: each input column is added to the output columns that use it.
    fn columns_of(&self, k: &mut Builder, rows: &[Val], w: Val, quad: i64, spot: Spot, sums: &mut [Val]) {
        let last = self.axes() - 1;
        let (length, stride, dilation) = (self.kernel[last], self.spec.strides[last], self.spec.dilations[last]);
        let lanes = sums.first().map_or(1, |&s| k.ty(s).lanes);
        let weights: Vec<Vec<Option<Val>>> = (0..spot.rows)
            .map(|row| (0..length).map(|column| self.weights(k, w, quad, row, column, lanes)).collect())
            .collect();
        let reach = (spot.columns - 1) * stride + (length - 1) * dilation;
        for column in 0..=reach {
            // The output columns that use this input column, and the weights of each.
            let uses: Vec<(usize, usize)> = (0..length)
                .filter_map(|i| {
                    let first = column - i * dilation;
                    let fits = first >= 0 && first % stride == 0 && first / stride < spot.columns;
                    fits.then_some(((first / stride) as usize, i as usize))
                })
                .collect();
            if uses.is_empty() {
                continue;
            }
            let four = self.four(k, rows, column, lanes);
            for (row, weights) in weights.iter().enumerate() {
                for &(output, i) in &uses {
                    let Some(weights) = weights[i] else { continue };
                    let sum = &mut sums[row * spot.columns as usize + output];
                    *sum = k.dot(self.kind(), four, weights, *sum);
                }
            }
        }
    }

    fn kind(&self) -> DotKind {
        dot::kind(self.request.operands[0].dtype, &self.request.constants[1])
    }

    /// The weights of a window's column for the four rows from `4 * quad` on and an output row, if any: for each output
    /// row after the first, they are shifted by some bytes.
    fn weights(&self, k: &mut Builder, w: Val, quad: i64, row: i64, column: i64, lanes: u32) -> Option<Val> {
        let down = row * self.spec.strides[self.axes() - 2];
        let (first, shift) = (quad - down / 4, 8 * (down % 4));
        let bytes = Ty::new(Elem::I8, 4 * lanes);
        let words = Ty::new(Elem::I32, lanes);
        let part = |k: &mut Builder, quad: i64, op: Bin, bits: i64| {
            (0..self.quads).contains(&quad).then(|| {
                let from = k.at(w, (quad * self.quad_bytes() + column * self.padded * 4) as i32);
                let whole = k.load(bytes, from);
                if bits == 0 {
                    return whole;
                }
                let (whole, bits) = (k.bitcast(whole, words), k.int(bits));
                let moved = k.bin(op, whole, bits);
                k.bitcast(moved, bytes)
            })
        };
        let near = part(k, first, Bin::Shl, shift);
        let far = if shift > 0 { part(k, first - 1, Bin::Shr, 32 - shift) } else { None };
        match (near, far) {
            (Some(a), Some(b)) => Some(k.bin(Bin::Or, a, b)),
            (one, other) => one.or(other),
        }
    }

    /// The bytes of a column in four rows, interleaved by channel.
    fn four(&self, k: &mut Builder, rows: &[Val], column: i64, lanes: u32) -> Val {
        let offset = (column * self.step) as i32;
        let mut loaded = Vec::with_capacity(4);
        for (i, &row) in rows.iter().enumerate() {
            let known = rows[..i].iter().position(|&r| r == row);
            let v = match known {
                Some(known) => loaded[known],
                None => {
                    let from = k.at(row, offset);
                    k.load(Ty::new(Elem::I8, lanes), from)
                }
            };
            loaded.push(v);
        }
        let rows = side_by_side(k, &loaded);
        let by_channel: Vec<u8> = (0..4 * lanes).map(|i| (i % 4 * lanes + i / 4) as u8).collect();
        k.shuffle(rows, rows, &by_channel)
    }
}
