//! Products with sparse weights: matrices and convolutions, with operands that are channels last or channels first.
//!
//! Vectors run along the pixels of a tile, so that a non-zero is one scalar times some vectors of its channel. Loops,
//! outermost first: tiles, whose pixels are staged in one plane per channel ([`Staging`]); parts of the tile that fit
//! the registers; blocks of output channels; slices of input channels, whose planes stay in the L1 cache; groups of
//! output channels; non-zeros. Between slices the sums of a block are in memory; then they are transposed to pixels and
//! stored, or stored without a transpose if the result is planes ([`planes`]).
//!
//! Loads are the bottleneck: several non-zeros share one load of values and one of offsets.
//!
//! Bytes are processed in words: an element of a plane is four channels of a pixel, a non-zero is four bytes of
//! weights, and "channels" below means such words.

pub mod blocks;
mod pixels;
mod planes;
mod products;

use super::int8::dot;
use super::support::loops;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Bin, Builder, Cmp, DotKind, Elem, Ty, Val};
use mcc_ir::{DType, Dim, Error, Layout, Packed, Result, Staging};
use mcc_targets::schedule;

/// [`WeightFormat::NonZeros`](mcc_ir::WeightFormat::NonZeros): `(x, heads, slots, offsets, values)`.
pub(super) fn sparse_conv(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    p: &Packed,
    staging: &Staging,
    stored: Layout,
) -> Result<()> {
    let Packed { spec, kernel, out, .. } = p;
    let (x, y) = (&request.operands[0], &request.results[0]);
    let malformed = || Error::internal(format!("sparse_conv of {x} as {staging:?}"));
    let channels = x.shape.get(spec.layout.channels(x.rank())).and_then(Dim::as_const).ok_or_else(malformed)?;
    let kind = match x.dtype {
        DType::F32 => None,
        bytes => Some(dot::kind(bytes, &request.constants[4])),
    };
    let in_words = |elements: &Dim| elements.floor_div(&Dim::from(Staging::elements(x.dtype)));
    let channels = channels / Staging::elements(x.dtype) as i64;
    let span = i64::try_from(staging.span).map_err(|_| malformed())?;
    let lanes = i64::from(request.config.target.vector_bytes / 4).min(span);
    let vectors = i64::from(schedule::sparse::vectors(
        &request.config.target,
        kind.is_some(),
        (span / lanes) as u32,
        staging.abreast as u32,
    ));
    let strides: Vec<Dim> = e.strides(0).iter().map(in_words).collect();
    let image = if kernel.is_empty() {
        None
    } else {
        // A single axis is an image of one line.
        let two = |v: &[i64], one: i64| if v.len() == 1 { [one, v[0]] } else { [v[0], v[1]] };
        let extents = |shape: &[Dim]| -> Option<Vec<i64>> { shape.iter().map(Dim::as_const).collect() };
        let fixed = |shape: &[Dim], layout: Layout| {
            extents(&without_channels(shape, layout)[1..]).map(|v| two(&v, 1)).ok_or_else(malformed)
        };
        let before: Vec<i64> = spec.pads.iter().map(|p| p.0).collect();
        let steps = extents(&without_channels(&strides, spec.layout)[1..]).ok_or_else(malformed)?;
        Some(Image {
            data: fixed(&x.shape, spec.layout)?,
            results: fixed(&y.shape, stored)?,
            before: two(&before, 0),
            strides: two(&spec.strides, 1),
            phases: two(&staging.phases(spec, kernel), 1),
            reach: two(&staging.reach(spec, kernel), 0),
            // Without strides there is only one phase, unless columns have their own.
            columns: if staging.aligned { spec.dilations[kernel.len() - 1] } else { 1 },
            steps: two(&steps, 0),
        })
    };
    let pixels = without_channels(&y.shape, stored);
    let (plane, unit) = (staging.plane(spec, kernel) as i64, staging.unit(spec, kernel) as i64);
    let layouts = Layouts { read: spec.layout, stored };
    let sparse = Sparse {
        e,
        dot: kind,
        staging,
        image,
        layouts,
        pixels,
        channels,
        out: *out as i64,
        plane,
        unit,
        span,
        lanes,
        vectors,
    };
    sparse.emit(k, &strides[0])
}

/// The axes without the channels.
fn without_channels(axes: &[Dim], layout: Layout) -> Vec<Dim> {
    let mut axes = axes.to_vec();
    axes.remove(layout.channels(axes.len()));
    axes
}

/// The layouts of the operand and the result.
#[derive(Clone, Copy)]
struct Layouts {
    read: Layout,
    stored: Layout,
}

/// A convolution's geometry: lines, then columns.
struct Image {
    data: [i64; 2],
    results: [i64; 2],
    before: [i64; 2],
    strides: [i64; 2],
    phases: [i64; 2],
    reach: [i64; 2],
    /// Columns between phases.
    columns: i64,
    /// Elements between lines and between pixels of `x`.
    steps: [i64; 2],
}

struct Sparse<'a, 'b> {
    e: &'b Emit<'a>,
    /// How words of bytes are multiplied; `None` for floats.
    dot: Option<DotKind>,
    staging: &'b Staging,
    image: Option<Image>,
    layouts: Layouts,
    /// Axes of the result except its channels.
    pixels: Vec<Dim>,
    channels: i64,
    out: i64,
    /// Elements of a channel's plane.
    plane: i64,
    /// Elements per unit of an offset.
    unit: i64,
    span: i64,
    lanes: i64,
    /// Vectors of the span that are computed at once.
    vectors: i64,
}

/// Scratch memory.
struct Room {
    /// Pointer to each staged pixel's channels.
    pointers: Val,
    /// The planes, and the number of the staged tile.
    staged: Val,
    current: Val,
    /// Sums of a block: `[block, part of the span]`.
    sums: Val,
    /// Sums of some pixels, transposed: `[lanes, block]`.
    transposed: Val,
    /// Channels of padding.
    zeros: Option<Val>,
    /// For every element of a span, the pixel of the image relative to the tile's first one, or -1.
    places: Option<Val>,
}

/// A tile of results.
#[derive(Clone, Copy)]
struct Tile {
    /// The number of its image, and that image's first pixel.
    batch: Val,
    start: Val,
    /// Its first pixel, and the end of the pixels that it may store.
    first: Val,
    end: Val,
}

impl Sparse<'_, '_> {
    fn emit(&self, k: &mut Builder, batch_step: &Dim) -> Result<()> {
        let room = self.room(k);
        let Some(image) = &self.image else {
            // Planes belong to one image each; channels-last images are contiguous.
            let apart = [self.layouts.read, self.layouts.stored].contains(&Layout::ChannelsFirst);
            let (batches, pixels) = self.pixels.split_at(usize::from(apart));
            let (batches, pixels): (Dim, Dim) = (batches.iter().product(), pixels.iter().product());
            let tiles = pixels.ceil_div(&Dim::from(self.span));
            let (count, by) = (k.dim(&pixels), k.dim(&tiles));
            self.tiles(k, &room, &(&batches * &tiles), |k, n, blocks| {
                let batch = if batches.is(1) { k.int(0) } else { k.bin(Bin::Div, n, by) };
                let skip = k.mul(batch, by);
                let tile = k.sub(n, skip);
                let (start, before) = (k.mul(batch, count), k.mul_int(tile, self.span));
                let (first, end) = (k.add(start, before), k.add(start, count));
                self.staged(k, &room, n, blocks, |k| match self.layouts.read {
                    Layout::ChannelsLast => {
                        self.point_at_rows(k, &room, first, end);
                        self.stage(k, &room);
                    }
                    Layout::ChannelsFirst => self.copy_rows(k, &room, batch, before, count),
                });
                self.tile(k, &room, Tile { batch, start, first, end }, blocks);
            });
            return Ok(());
        };
        self.find_places(k, image, &room);
        if self.layouts.read == Layout::ChannelsFirst {
            self.clear(k, &room);
        }
        let per_image = image.results[0] * image.results[1];
        let lines = self.staging.lines as i64;
        let tiles = (image.results[0] + lines - 1) / lines;
        self.tiles(k, &room, &(&self.pixels[0] * &Dim::from(tiles)), |k, n, blocks| {
            let by = k.int(tiles);
            let batch = k.bin(Bin::Div, n, by);
            let (skip, bytes) = (k.mul(batch, by), k.dim(&(batch_step * &Dim::from(4usize))));
            let tile = k.sub(n, skip);
            let line = k.mul_int(tile, lines);
            let offset = k.mul(batch, bytes);
            let x = k.add(self.e.operand(0), offset);
            self.staged(k, &room, n, blocks, |k| match self.layouts.read {
                Layout::ChannelsLast => {
                    self.point_at_lines(k, image, &room, x, line);
                    self.stage(k, &room);
                }
                Layout::ChannelsFirst => self.copy_lines(k, image, &room, x, line),
            });
            let (start, before) = (k.mul_int(batch, per_image), k.mul_int(line, image.results[1]));
            let (first, end) = (k.add(start, before), k.add_int(start, per_image));
            self.tile(k, &room, Tile { batch, start, first, end }, blocks);
        });
        Ok(())
    }

    /// All tiles with their blocks: threads share the tiles if there are enough, otherwise the pairs of tile and block.
    fn tiles(&self, k: &mut Builder, room: &Room, tiles: &Dim, body: impl FnOnce(&mut Builder, Val, Option<Val>)) {
        if !k.shares() || tiles.as_const().is_some_and(|n| n >= schedule::threads::MIN_SHARED_ROUNDS) {
            return loops::around(k, tiles, |k, tile| body(k, tile, None));
        }
        let (tiles, blocks, none) = (k.dim(tiles), k.int(self.blocks()), k.int(-1));
        let to = k.at(room.current, 0);
        k.store(to, none);
        k.parallel_pairs(tiles, blocks, |k, tile, block| body(k, tile, Some(block)));
    }

    /// Stages a tile. If a call computes its blocks one by one, only the first one stages it.
    fn staged(&self, k: &mut Builder, room: &Room, tile: Val, block: Option<Val>, stage: impl FnOnce(&mut Builder)) {
        if block.is_none() {
            return stage(k);
        }
        let at = k.at(room.current, 0);
        let current = k.load(Ty::I64, at);
        let other = k.cmp(Cmp::Ne, current, tile);
        k.when(other, |k| {
            stage(k);
            k.store(at, tile);
        });
    }

    /// The type of sums.
    fn sum(&self, lanes: u32) -> Ty {
        Ty::new(if self.dot.is_some() { Elem::I32 } else { Elem::F32 }, lanes)
    }

    /// Number of blocks of output channels.
    fn blocks(&self) -> i64 {
        (self.out + self.block() - 1) / self.block()
    }

    /// Output channels per block.
    fn block(&self) -> i64 {
        self.staging.block as i64
    }

    /// The same, in whole vectors.
    fn transposed(&self) -> i64 {
        (self.block() + self.lanes - 1) / self.lanes * self.lanes
    }

    fn room(&self, k: &mut Builder) -> Room {
        let mut bytes = |n: i64| self.e.scratch(k, Dim::from(n));
        let turns = self.layouts.read == Layout::ChannelsLast;
        let pointers = bytes(if turns { self.plane * 8 } else { 0 });
        let staged = bytes((self.channels * self.plane + self.span) * 4);
        let current = bytes(8);
        let sums = bytes(self.transposed() * self.vectors * self.lanes * 4);
        let transposed =
            bytes(if self.layouts.stored == Layout::ChannelsLast { self.transposed() * self.lanes * 4 } else { 0 });
        let zeros = (turns && self.image.is_some()).then(|| bytes(self.channels * 4));
        let by_pixel = self.image.is_some() && self.layouts.stored == Layout::ChannelsLast;
        let places = by_pixel.then(|| bytes(self.span * 8));
        let (behind, size) = (k.int(self.channels * self.plane * 4), k.int(self.span * 4));
        let behind = k.add(staged, behind);
        k.fill_zero(behind, size);
        if let Some(zeros) = zeros {
            let bytes = k.int(self.channels * 4);
            k.fill_zero(zeros, bytes);
        }
        Room { pointers, staged, current, sums, transposed, zeros, places }
    }

    /// The results of one block of a staged tile, or of all.
    fn tile(&self, k: &mut Builder, room: &Room, tile: Tile, only: Option<Val>) {
        let part = self.vectors * self.lanes;
        let (zero, span) = (k.int(0), k.int(self.span));
        let (block, rest) = (self.block(), self.out % self.block());
        let (end, all) = (k.int(self.out - rest), k.int(self.out));
        let (first, last) = match only {
            Some(n) => {
                let first = k.mul_int(n, block);
                (first, k.add_int(first, block))
            }
            None => (zero, all),
        };
        let whole = k.bin(Bin::Min, last, end);
        k.for_each(zero, span, part, |k, start| {
            let some = |k: &mut Builder, first: Val, count: i64| {
                let straight = self.straight(k, tile, start, first, count);
                self.slices(k, room, start, first, count, straight);
                match straight {
                    None => self.store(k, room, tile, start, first, count),
                    Some(to) => k.when(to.partly, |k| self.store(k, room, tile, start, first, count)),
                }
            };
            k.for_each(first, whole, block, |k, first| some(k, first, block));
            match only {
                _ if rest == 0 => {}
                None => some(k, end, rest),
                Some(_) => {
                    let is_last = k.cmp(Cmp::Gt, last, end);
                    k.when(is_last, |k| some(k, end, rest));
                }
            }
        });
    }
}
