//! Convolution by minimal filtering. For 3x3 filters, F(2x2, 3x3) takes 16 multiplications for 4 results instead of 36,
//! F(4x4, 3x3) takes 36 for 16 instead of 144, F(6x6, 3x3) takes 64 for 36 instead of 324; along one axis, F(4, 5)
//! takes 8 for 4 instead of 20.
//!
//! A block of tiles is transformed, multiplied by one matrix per plane, and transformed back. Untransformed weights are
//! transformed as well ([`super::winograd_weights`]): all of them first if they are small, otherwise a few columns at a
//! time while the transformed block stays in memory.
//! Blocks are as many whole rows of tiles as keep the transformed data in the L2 cache; the last block is not cut but
//! overlaps the previous one.

use mcc_targets::choices::Problem;
use mcc_targets::schedule;

use super::winograd_maps::{gather, spread};
use super::winograd_weights::{Filters, Part, Source, clear};
use crate::kernels::gemm::{Contraction, Extents, Job, Panels, Rows};
use crate::kernels::lowbit::Weights;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::around;
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Bin, Builder, Cmp, Ty, Val};
use crate::numbers;
use mcc_ir::{Dim, Error, Filtering, Filters as FilterForm, Packed, Result};

/// [`WeightFormat::Filtered`](mcc_ir::WeightFormat::Filtered): `(x: [batch, spatial..., in], weights...)`.
pub(crate) fn winograd_conv(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    p: &Packed,
    tile: &[i64],
    size: &[Dim],
    form: FilterForm,
) -> Result<()> {
    let (kernel, dilations, out) = (&p.kernel, &p.spec.dilations, p.out);
    let (x, weights) = (&request.operands[0], &request.operands[1]);
    let ty = Ty::new(numbers::compute_elem(x.dtype), 1);
    let lanes = i64::from(request.config.target.vector_bytes / ty.elem.bytes());
    let malformed = |what: &str| Error::internal(format!("winograd_conv of {x} and {weights}: {what}"));
    let fixed = |dims: &[Dim]| -> Result<Vec<i64>> {
        let dims: Option<Vec<i64>> = dims.iter().map(Dim::as_const).collect();
        dims.ok_or_else(|| malformed("extents are not constant"))
    };
    let channels = x.shape.last().and_then(Dim::as_const).ok_or_else(|| malformed("channels are not constant"))?;
    let out = out as i64;
    if x.dtype.size() != ty.elem.bytes() as usize {
        return Err(malformed("narrow elements"));
    }
    let filterings = Filtering::of_axes(tile, kernel).ok_or_else(|| malformed("no such filtering"))?;
    let (size, strides) = (fixed(size)?, fixed(&e.strides(0)[1..x.rank() - 1])?);
    // A single axis is an axis of images with one column.
    let axis = |a: usize| {
        let of = |v: &[i64], one: i64| v.get(a).copied().unwrap_or(one);
        let (f, size, dilation) = (filterings[a], of(&size, 1), of(dilations, 1));
        Axis {
            m: f.results as i64,
            n: f.elements() as i64,
            size,
            dilation,
            stride: of(&strides, 0),
            tiles: f.tiles(size as usize, dilation as usize) as i64,
        }
    };
    let axes = [axis(0), axis(1)];
    // The widest vectors that the channels fill.
    let lanes = lanes.min(1 << (channels | out).trailing_zeros().min(6));
    let shape = fixed(&weights.shape)?;
    let columns = *shape.last().ok_or_else(|| malformed("the weights are not packed"))?;
    let source = match (form, shape.as_slice()) {
        (FilterForm::Plain, &[_, panels, ..]) => {
            Some(Source::Memory { at: e.operand(1), dtype: weights.dtype, panels })
        }
        (FilterForm::LowBit(coded), _) => {
            let taps = kernel.iter().product();
            Some(Source::Codes(Weights::new(request, e, coded, [taps, out])?))
        }
        _ => None,
    };
    let filters = source.map(|source| Filters::new(request, e, k, source, filterings, channels, columns));
    let mut nest =
        WinogradLoops { request, e, axes, ty, lanes, channels, out, block: 0, planes: axes[0].n * axes[1].n };
    let Some(filters) = filters else {
        nest.block = nest.rows_of_tiles();
        let plane_bytes = nest.bytes((out + columns - 1) / columns * channels * columns);
        nest.by_blocks(k, columns, Planes { at: e.operand(1), bytes: plane_bytes });
        return Ok(());
    };
    let text = request.problem();
    let problem = Problem { text: &text, layer: request.layer };
    let units = [filters.unit(), filters.panel];
    let part = schedule::filtering::filter_part(request.config, problem, nest.planes, [channels, out], units);
    if let Some(columns) = part.columns {
        nest.block = nest.even_blocks(schedule::filtering::waiting_block_bytes(&request.config.target), 1);
        nest.by_columns(k, &filters, [columns, part.channels]);
    } else {
        nest.block = nest.rows_of_tiles();
        let panels = (out + filters.panel - 1) / filters.panel;
        let plane_bytes = filters.plane_bytes(panels, channels);
        let all = e.scratch(k, Dim::from(nest.planes * plane_bytes));
        let zero = k.int(0);
        filters.transform(k, Part { panel: zero, panels, channel: zero, channels }, all);
        nest.by_blocks(k, filters.to_panel, Planes { at: all, bytes: plane_bytes });
    }
    Ok(())
}

/// Rows of tiles of an image, starting at `first`.
#[derive(Clone, Copy)]
struct Block {
    image: Val,
    first: Val,
}

/// Transformed weights: a plane for each element of a tile.
#[derive(Clone, Copy)]
struct Planes {
    at: Val,
    /// Bytes of a plane.
    bytes: i64,
}

/// Sums of a block, and whether products are added to the stored values.
#[derive(Clone, Copy)]
struct Sums {
    at: Val,
    columns: i64,
    adds: bool,
}

/// The tiles along an axis.
#[derive(Clone, Copy)]
struct Axis {
    /// Results of a tile; its elements in `x` and in transformed space.
    m: i64,
    n: i64,
    /// Total number of results.
    size: i64,
    /// Results between neighbours in a tile.
    dilation: i64,
    /// Elements between neighbours in `x`.
    stride: i64,
    tiles: i64,
}

impl Axis {
    /// The first result of a tile, and the first element that it reads.
    fn start(&self, k: &mut Builder, tile: Val) -> Val {
        if self.dilation == 1 {
            return k.mul_int(tile, self.m);
        }
        let by = k.int(self.dilation);
        let turn = k.bin(Bin::Div, tile, by);
        // Previous rounds skipped all but the first result of each of their tiles.
        let skipped = k.mul_int(turn, (self.m - 1) * self.dilation);
        k.add(tile, skipped)
    }

    /// Runs `then` for the `nth` result of a tile, at `at`, if it exists: the extent may end within a tile.
    fn inside(&self, k: &mut Builder, nth: i64, at: Val, then: impl FnOnce(&mut Builder)) {
        let turns = self.tiles / self.dilation;
        if ((turns - 1) * self.m + nth + 1) * self.dilation <= self.size {
            return then(k);
        }
        let extent = k.int(self.size);
        let exists = k.cmp(Cmp::Lt, at, extent);
        k.when(exists, then);
    }
}

struct WinogradLoops<'a, 'b> {
    request: &'b KernelRequest<'b>,
    e: &'b Emit<'a>,
    axes: [Axis; 2],
    /// A scalar of the compute type.
    ty: Ty,
    lanes: i64,
    channels: i64,
    out: i64,
    /// Rows of tiles in a block.
    block: i64,
    planes: i64,
}

impl WinogradLoops<'_, '_> {
    fn bytes(&self, elements: i64) -> i64 {
        elements * i64::from(self.ty.elem.bytes())
    }

    /// Rows of tiles per block, such that the transformed data stays in the L2 cache.
    fn rows_of_tiles(&self) -> i64 {
        let (text, config) = (self.request.problem(), self.request.config);
        let bytes = schedule::filtering::block_bytes(config, Problem { text: &text, layer: self.request.layer });
        // The same number of blocks for each thread, if there are several.
        self.even_blocks(bytes, if config.threads > 1 { i64::from(config.threads.min(4)) } else { 1 })
    }

    /// Rows of tiles per block, for even blocks of at most `bytes` bytes of transformed data; a multiple of `unit`
    /// blocks.
    fn even_blocks(&self, bytes: i64, unit: i64) -> i64 {
        let [down, across] = self.axes.map(|a| a.tiles);
        let most = (bytes / self.bytes(self.planes * across * self.channels)).clamp(1, down);
        let blocks = (down + most - 1) / most;
        let blocks = ((blocks + unit - 1) / unit * unit).min(down);
        (down + blocks - 1) / blocks
    }

    /// Tiles of a block.
    fn block_tiles(&self) -> i64 {
        self.block * self.axes[1].tiles
    }

    /// The products of a block with `columns` columns, in panels of `panel` columns, over `depth` channels.
    fn contraction(&self, panel: i64, [columns, depth]: [i64; 2]) -> Contraction<'_, '_> {
        let mut contraction = Contraction::new(
            self.request,
            self.e,
            Panels::Packed(panel as u32),
            Extents { rows: &Dim::from(self.block_tiles()), columns: &Dim::from(columns), depth: &Dim::from(depth) },
            &Dim::from(self.bytes(depth)),
        );
        contraction.run = Dim::from(depth);
        if self.request.operands[1].dtype != self.request.operands[0].dtype {
            // They are transformed at run time.
            contraction.right = self.request.operands[0].dtype;
        }
        contraction
    }

    /// Multiplies a block's data, starting at some channel, by weights, plane by plane.
    fn multiply(
        &self,
        k: &mut Builder,
        contraction: &Contraction<'_, '_>,
        inputs: Val,
        channel: Val,
        weights: Planes,
        sums: Sums,
    ) {
        let Sums { at: sums, columns, adds } = sums;
        let offset = k.mul_int(channel, self.bytes(1));
        let inputs = k.add(inputs, offset);
        let (left_plane, out_plane) = (self.bytes(self.plane(self.channels)), self.bytes(self.plane(columns)));
        let (zero, planes) = (k.int(0), k.int(self.planes));
        k.for_each(zero, planes, 1, |k, plane| {
            let mut at = |base: Val, bytes: i64| {
                let offset = k.mul_int(plane, bytes);
                k.add(base, offset)
            };
            let (left, right) = (at(inputs, left_plane), at(weights.at, weights.bytes));
            let sink = Some(at(sums, out_plane));
            let rows = Rows::Affine { base: left, bytes: Dim::from(self.bytes(self.channels)) };
            let zero = k.int(0);
            let (count, columns) = (Dim::from(self.block_tiles()), Dim::from(columns));
            contraction.emit(k, &Job { rows, count, columns, right, out: (zero, zero), sink, adds });
        });
    }

    /// Runs `body` for the blocks of each image, with its number, the block's first row of tiles, and a pointer to the
    /// image. Threads share the blocks, or the work within the only one.
    fn blocks(&self, k: &mut Builder, inside: bool, body: impl FnOnce(&mut Builder, Block, Val)) {
        let image_bytes = &self.e.strides(0)[0] * &Dim::from(self.bytes(1));
        let down = self.axes[0].tiles;
        around(k, &self.request.operands[0].shape[0], |k, image| {
            let block = |k: &mut Builder, first: Val| {
                let last = k.int(down - self.block);
                let first = k.bin(Bin::Min, first, last);
                let image_bytes = k.dim(&image_bytes);
                let offset = k.mul(image, image_bytes);
                let x = k.add(self.e.operand(0), offset);
                body(k, Block { image, first }, x);
            };
            if inside && self.block == down {
                let zero = k.int(0);
                return block(k, zero);
            }
            shared_rounds(k, down, self.block, block);
        });
    }

    /// Block by block, with all weights `[planes, panels, channels, panel]` in memory.
    fn by_blocks(&self, k: &mut Builder, panel: i64, weights: Planes) {
        let inputs = self.scratch(k, self.channels);
        let sums = self.scratch(k, self.out);
        let contraction = self.contraction(panel, [self.out, self.channels]);
        self.blocks(k, false, |k, block, x| {
            self.transform(k, x, block.first, inputs);
            let zero = k.int(0);
            let products = Sums { at: sums, columns: self.out, adds: false };
            self.multiply(k, &contraction, inputs, zero, weights, products);
            self.restore(k, block, sums, zero, self.out);
        });
    }

    /// `width` columns at a time: their weights are transformed by slices of the channels, for one transformed block of
    /// data.
    fn by_columns(&self, k: &mut Builder, filters: &Filters<'_, '_>, [width, slice]: [i64; 2]) {
        let inputs = self.scratch(k, self.channels);
        let sums = self.scratch(k, width);
        let weights = self.e.scratch(k, Dim::from(self.planes * filters.plane_bytes(width / filters.panel, slice)));
        let several = slice < self.channels;
        let (full, rest) = (self.out / width, self.out % width);
        let group = |k: &mut Builder, columns: i64, block: Block, number: Val| {
            let panels = (columns + filters.panel - 1) / filters.panel;
            let contraction = self.contraction(filters.to_panel, [columns, slice]);
            let column = k.mul_int(number, width);
            let panel = k.mul_int(number, width / filters.panel);
            if several {
                clear(k, sums, self.bytes(self.planes * self.plane(width)), self.lanes as u32);
            }
            let (zero, end) = (k.int(0), k.int(self.channels));
            k.for_each(zero, end, slice, |k, channel| {
                filters.transform(k, Part { panel, panels, channel, channels: slice }, weights);
                let weights = Planes { at: weights, bytes: filters.plane_bytes(panels, slice) };
                let products = Sums { at: sums, columns, adds: several };
                self.multiply(k, &contraction, inputs, channel, weights, products);
            });
            self.restore(k, block, sums, column, columns);
        };
        self.blocks(k, true, |k, block, x| {
            self.transform(k, x, block.first, inputs);
            shared_rounds(k, full, 1, |k, number| group(k, width, block, number));
            if rest > 0 {
                let number = k.int(full);
                k.once(|k| group(k, rest, block, number));
            }
        });
    }

    /// Scratch memory for a block's planes of `channels` channels.
    fn scratch(&self, k: &mut Builder, channels: i64) -> Val {
        self.e.scratch(k, Dim::from(self.bytes(self.planes * self.plane(channels))))
    }

    /// The tiles of the block that starts at row `first`: the start of each along both axes, and its number in the
    /// block.
    fn tiles(&self, k: &mut Builder, first: Val, body: impl FnOnce(&mut Builder, [Val; 2], Val)) {
        let across = self.axes[1].tiles;
        let (zero, down, end) = (k.int(0), k.int(self.block), k.int(across));
        k.for_each(zero, down, 1, |k, ty| {
            let row = k.add(first, ty);
            let (top, before) = (self.axes[0].start(k, row), k.mul_int(ty, across));
            k.for_each(zero, end, 1, |k, tx| {
                let (left, number) = (self.axes[1].start(k, tx), k.add(before, tx));
                body(k, [top, left], number);
            });
        });
    }

    /// Transforms a block to `[planes, tiles, channels]`.
    fn transform(&self, k: &mut Builder, x: Val, first: Val, to: Val) {
        let vector = Ty::new(self.ty.elem, self.lanes as u32);
        let plane = self.bytes(self.plane(self.channels));
        let [lines, columns] = self.axes;
        let apart = self.axes.map(|a| self.bytes(a.dilation * a.stride));
        self.tiles(k, first, |k, [top, left], number| {
            let (down, right) = (k.mul_int(top, self.bytes(lines.stride)), k.mul_int(left, self.bytes(columns.stride)));
            let from = k.add(x, down);
            let from = k.add(from, right);
            let offset = k.mul_int(number, self.bytes(self.channels));
            let to = k.add(to, offset);
            let (zero, end) = (k.int(0), k.int(self.bytes(self.channels)));
            k.for_each(zero, end, self.bytes(self.lanes), |k, c| {
                let (from, to) = (k.add(from, c), k.add(to, c));
                let spread_columns: Vec<Vec<Val>> = (0..columns.n)
                    .map(|column| {
                        let line = |line: i64| {
                            let offset = k.int(line * apart[0] + column * apart[1]);
                            let at = k.at_index(from, offset, 1);
                            k.load(vector, at)
                        };
                        let elements: Vec<Val> = (0..lines.n).map(line).collect();
                        spread(k, &elements)
                    })
                    .collect();
                for line in 0..lines.n {
                    let elements: Vec<Val> = spread_columns.iter().map(|c| c[line as usize]).collect();
                    for (column, v) in spread(k, &elements).into_iter().enumerate() {
                        let offset = k.int((line * columns.n + column as i64) * plane);
                        let at = k.at_index(to, offset, 1);
                        k.store(at, v);
                    }
                }
            });
        });
    }

    /// Transforms a block's sums `[planes, tiles, count]` back and stores them in the columns from `column` on.
    fn restore(&self, k: &mut Builder, block: Block, from: Val, column: Val, count: i64) {
        let vector = Ty::new(self.ty.elem, self.lanes as u32);
        let plane = self.bytes(self.plane(count));
        let [lines, columns] = self.axes;
        self.tiles(k, block.first, |k, [top, left], number| {
            let offset = k.mul_int(number, self.bytes(count));
            let from = k.add(from, offset);
            let (zero, end) = (k.int(0), k.int(count));
            let above = k.mul_int(block.image, lines.size);
            k.for_each(zero, end, self.lanes, |k, o| {
                let (bytes, column_of) = (k.mul_int(o, self.bytes(1)), k.add(column, o));
                let base = k.add(from, bytes);
                let gathered: Vec<Vec<Val>> = (0..columns.n)
                    .map(|column| {
                        let line = |line: i64| {
                            let offset = k.int((line * columns.n + column) * plane);
                            let at = k.at_index(base, offset, 1);
                            k.load(vector, at)
                        };
                        let sums: Vec<Val> = (0..lines.n).map(line).collect();
                        gather(k, &sums, lines.m)
                    })
                    .collect();
                for line in 0..lines.m {
                    let sums: Vec<Val> = gathered.iter().map(|c| c[line as usize]).collect();
                    let values = gather(k, &sums, columns.m);
                    let y = k.add_int(top, line * lines.dilation);
                    lines.inside(k, line, y, |k| {
                        for (column, &v) in values.iter().enumerate() {
                            let z = k.add_int(left, column as i64 * columns.dilation);
                            columns.inside(k, column as i64, z, |k| {
                                let row = k.add(above, y);
                                let row = k.mul_int(row, columns.size);
                                let row = k.add(row, z);
                                self.e.store(k, row, column_of, v);
                            });
                        }
                    });
                }
            });
        });
    }

    /// Elements between planes of `channels` channels: not a multiple of a page, because such addresses share cache
    /// sets.
    fn plane(&self, channels: i64) -> i64 {
        let elements = self.block * self.axes[1].tiles * channels;
        schedule::filtering::plane_bytes(self.request.config.target.machine, self.bytes(elements)) / self.bytes(1)
    }
}

/// A loop from 0 whose rounds threads share; the steps of a round depend on each other and are not shared.
fn shared_rounds(k: &mut Builder, end: i64, step: i64, body: impl FnOnce(&mut Builder, Val)) {
    let (zero, last) = (k.int(0), k.int(end));
    if end > step {
        return k.parallel(zero, last, step, body);
    }
    k.once(|k| k.for_each(zero, last, step, body));
}
