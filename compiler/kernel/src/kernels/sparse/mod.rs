//! Products with sparse weights: matrices and convolutions, of channels-last operands or such that are planes already.
//!
//! Vectors run along the pixels of a tile, so that a non-zero is one scalar that meets some vectors of its channel. Loops,
//! outside in: tiles, whose pixels are staged in planes a channel ([`Staging`]); parts of the tile that fit the
//! registers; blocks of output channels; slices of input channels, whose planes stay in the first-level cache; groups of
//! output channels; non-zeros. Between slices the sums of a block wait in memory; then they are turned back, pixel by pixel,
//! and stored, or as they are where the result is planes ([`planes`]).
//!
//! Loads are what is scarce: several non-zeros come by one load of values and one of offsets.
//!
//! Bytes go by words: four channels of a pixel are an element of a plane, four bytes of weights a non-zero, and what is told
//! of channels below is told of such words.

pub mod blocks;
mod planes;
mod products;

use super::int8::dot;
use super::support::loops;
use super::support::transpose_block::turn;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Addr, Bin, Builder, Cmp, DotKind, Elem, Ty, Val};
use mcc_ir::{ConvSpec, DType, Dim, Error, Layout, Result, Staging};
use mcc_targets::schedule;

/// [`WeightFormat::NonZeros`](mcc_ir::WeightFormat::NonZeros): `(x, heads, slots, offsets, values)`.
pub(super) fn sparse_conv(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    (spec, kernel): (&ConvSpec, &[i64]),
    staging: &Staging,
    (out, stored): (usize, Layout),
) -> Result<()> {
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
    let lanes = i64::from(request.target.vector_bytes / 4).min(span);
    let vectors = i64::from(schedule::sparse::vectors(
        request.target,
        kind.is_some(),
        (span / lanes) as u32,
        staging.abreast as u32,
    ));
    let strides: Vec<Dim> = e.strides(0).iter().map(in_words).collect();
    let image = if kernel.is_empty() {
        None
    } else {
        // One axis is an image of one line.
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
            // Without strides there is but one phase, unless columns have their own.
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
        out: out as i64,
        plane,
        unit,
        span,
        lanes,
        vectors,
    };
    sparse.emit(k, &strides[0])
}

/// What is said of each axis but the channels.
fn without_channels(axes: &[Dim], layout: Layout) -> Vec<Dim> {
    let mut axes = axes.to_vec();
    axes.remove(layout.channels(axes.len()));
    axes
}

/// Where the operand and the result have their channels.
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
    /// How words of bytes are multiplied; none: floats.
    dot: Option<DotKind>,
    staging: &'b Staging,
    image: Option<Image>,
    layouts: Layouts,
    /// Axes of the result but its channels.
    pixels: Vec<Dim>,
    channels: i64,
    out: i64,
    /// Elements of a channel's plane.
    plane: i64,
    /// Elements that an offset counts.
    unit: i64,
    span: i64,
    lanes: i64,
    /// Vectors of the span that are computed at once.
    vectors: i64,
}

/// Scratch memory.
struct Room {
    /// Pointer of each staged pixel's channels.
    pointers: Val,
    /// The planes, and which tile is in them.
    staged: Val,
    current: Val,
    /// Sums of a block: `[block, part of the span]`.
    sums: Val,
    /// The same of some pixels, turned: `[lanes, block]`.
    turned: Val,
    /// Channels of padding.
    zeros: Option<Val>,
    /// Pixel of the image, relative to the tile's first one, or -1, for every element of a span.
    places: Option<Val>,
}

/// A tile of results.
#[derive(Clone, Copy)]
struct Tile {
    /// Which of the images it is of, and that image's first pixel.
    batch: Val,
    start: Val,
    /// Its first pixel, and that behind the last one which it may store.
    first: Val,
    end: Val,
}

impl Sparse<'_, '_> {
    fn emit(&self, k: &mut Builder, batch_step: &Dim) -> Result<()> {
        let room = self.room(k);
        let Some(image) = &self.image else {
            // Planes are of an image each; channels-last images follow one another.
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
                self.staged(k, &room, (n, blocks), |k| match self.layouts.read {
                    Layout::ChannelsLast => {
                        self.point_at_rows(k, &room, first, end);
                        self.stage(k, &room);
                    }
                    Layout::ChannelsFirst => self.copy_rows(k, &room, batch, (before, count)),
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
            self.staged(k, &room, (n, blocks), |k| match self.layouts.read {
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

    /// All tiles, with the blocks of each: shared by threads as they are where there are enough of them, else cut into their
    /// blocks.
    fn tiles(&self, k: &mut Builder, room: &Room, tiles: &Dim, body: impl FnOnce(&mut Builder, Val, Option<Val>)) {
        if !k.shares() || tiles.as_const().is_some_and(|n| n >= schedule::threads::MIN_SHARED_ROUNDS) {
            return loops::around(k, tiles, |k, tile| body(k, tile, None));
        }
        let (tiles, blocks, none) = (k.dim(tiles), k.int(self.blocks()), k.int(-1));
        let to = k.at(room.current, 0);
        k.store(to, none);
        k.parallel_pairs(tiles, blocks, |k, tile, block| body(k, tile, Some(block)));
    }

    /// Stages a tile. Of its blocks in one call, where they come one by one, only the first one does.
    fn staged(
        &self,
        k: &mut Builder,
        room: &Room,
        (tile, block): (Val, Option<Val>),
        stage: impl FnOnce(&mut Builder),
    ) {
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

    /// What sums are.
    fn sum(&self, lanes: u32) -> Ty {
        Ty::new(if self.dot.is_some() { Elem::I32 } else { Elem::F32 }, lanes)
    }

    /// Blocks of output channels.
    fn blocks(&self) -> i64 {
        (self.out + self.block() - 1) / self.block()
    }

    /// Output channels of a block.
    fn block(&self) -> i64 {
        self.staging.block as i64
    }

    /// The same, in whole vectors.
    fn turned(&self) -> i64 {
        (self.block() + self.lanes - 1) / self.lanes * self.lanes
    }

    fn room(&self, k: &mut Builder) -> Room {
        let mut bytes = |n: i64| self.e.scratch(k, Dim::from(n));
        let turns = self.layouts.read == Layout::ChannelsLast;
        let pointers = bytes(if turns { self.plane * 8 } else { 0 });
        let staged = bytes((self.channels * self.plane + self.span) * 4);
        let current = bytes(8);
        let sums = bytes(self.turned() * self.vectors * self.lanes * 4);
        let turned =
            bytes(if self.layouts.stored == Layout::ChannelsLast { self.turned() * self.lanes * 4 } else { 0 });
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
        Room { pointers, staged, current, sums, turned, zeros, places }
    }

    // ---- where pixels are ----

    /// Rows from `first` on; those beyond the last one are as the last.
    fn point_at_rows(&self, k: &mut Builder, room: &Room, first: Val, count: Val) {
        let (zero, end, last) = (k.int(0), k.int(self.span), k.add_int(count, -1));
        k.for_each(zero, end, 1, |k, i| {
            let row = k.add(first, i);
            let row = k.bin(Bin::Min, row, last);
            let offset = k.mul_int(row, self.channels * 4);
            let (pointer, to) = (k.add(self.e.operand(0), offset), k.at_index(room.pointers, i, 8));
            k.store(to, pointer);
        });
    }

    /// Lines of every phase, for results from `line` on of the image at `x`; padding is zeros.
    fn point_at_lines(&self, k: &mut Builder, image: &Image, room: &Room, x: Val, line: Val) {
        let zeros = room.zeros.unwrap_or(x);
        let lines = self.staging.lines as i64 + image.reach[0];
        let (pitch, phase_size) = (self.staging.pitch as i64, self.staging.phase as i64);
        let zero = k.int(0);
        for phase in 0..image.phases[0] * image.phases[1] {
            let (row, column) = (phase / image.phases[1], phase % image.phases[1]);
            let (dy, dx) = (row - image.before[0], column * image.columns - image.before[1]);
            let start = phase * phase_size;
            let lines = lines.min(phase_size / pitch);
            let (line_end, column_end) = (k.int(lines), k.int(pitch));
            k.for_each(zero, line_end, 1, |k, l| {
                let y = k.add(line, l);
                let y = k.mul_int(y, image.strides[0]);
                let y = k.add_int(y, dy);
                let height = k.int(image.data[0]);
                let inside = k.cmp(Cmp::ULt, y, height);
                let skip = k.mul_int(y, image.steps[0] * 4);
                let source = k.add(x, skip);
                let first = k.mul_int(l, pitch);
                let first = k.add_int(first, start);
                k.for_each(zero, column_end, 1, |k, c| {
                    let column = k.mul_int(c, image.strides[1]);
                    let column = k.add_int(column, dx);
                    let width = k.int(image.data[1]);
                    let within = k.cmp(Cmp::ULt, column, width);
                    let skip = k.mul_int(column, image.steps[1] * 4);
                    let pointer = k.add(source, skip);
                    let pointer = k.select(within, pointer, zeros);
                    let pointer = k.select(inside, pointer, zeros);
                    let at = k.add(first, c);
                    let to = k.at_index(room.pointers, at, 8);
                    k.store(to, pointer);
                });
            });
            // What is read but never stored.
            let (rest, end) = (k.int(start + lines * pitch), k.int(start + phase_size));
            k.for_each(rest, end, 1, |k, at| {
                let to = k.at_index(room.pointers, at, 8);
                k.store(to, zeros);
            });
        }
    }

    /// Which pixel each element of a span is, counted from the tile's first.
    fn find_places(&self, k: &mut Builder, image: &Image, room: &Room) {
        let Some(places) = room.places else { return };
        let (zero, end, pitch, none) = (k.int(0), k.int(self.span), k.int(self.staging.pitch as i64), k.int(-1));
        k.for_each(zero, end, 1, |k, at| {
            let line = k.bin(Bin::Div, at, pitch);
            let before = k.mul(line, pitch);
            let column = k.sub(at, before);
            let start = k.mul_int(line, image.results[1]);
            let pixel = k.add(start, column);
            let (width, lines) = (k.int(image.results[1]), k.int(self.staging.lines as i64));
            let within = k.cmp(Cmp::Lt, column, width);
            let pixel = k.select(within, pixel, none);
            let inside = k.cmp(Cmp::Lt, line, lines);
            let pixel = k.select(inside, pixel, none);
            let to = k.at_index(places, at, 8);
            k.store(to, pixel);
        });
    }

    // ---- a tile ----

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
                let straight = self.straight(k, (tile, start), first, count);
                self.slices(k, room, start, (first, count), straight);
                match straight {
                    None => self.store(k, room, (tile, start), first, count),
                    Some(to) => k.when(to.partly, |k| self.store(k, room, (tile, start), first, count)),
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

    /// Turns pixels' channels into channels' pixels.
    fn stage(&self, k: &mut Builder, room: &Room) {
        let lanes = self.lanes as u32;
        let (zero, end) = (k.int(0), k.int(self.plane));
        let (whole, rest) = (self.channels / self.lanes * self.lanes, self.channels % self.lanes);
        let plane_bytes = self.plane * 4;
        k.for_each(zero, end, self.lanes, |k, at| {
            let pixel = |k: &mut Builder, i: u32| {
                let from = k.at_index(room.pointers, at, 8);
                k.load(Ty::I64, Addr { offset: from.offset + 8 * i as i32, ..from })
            };
            let bytes = k.mul_int(at, 4);
            let to = k.add(room.staged, bytes);
            let ty = Ty::new(Elem::F32, lanes);
            let (whole_end, rest_count) = (k.int(whole), k.int(rest));
            let some = |k: &mut Builder, channel: Val, count: i64| {
                let rows: Vec<Val> = (0..lanes)
                    .map(|i| {
                        let pointer = pixel(k, i);
                        let from = k.at_index(pointer, channel, 4);
                        if count == self.lanes { k.load(ty, from) } else { k.load_part(ty, from, rest_count) }
                    })
                    .collect();
                let skip = k.mul_int(channel, plane_bytes);
                let mut to = k.add(to, skip);
                for v in turn(k, rows).into_iter().take(count as usize) {
                    let here = k.at(to, 0);
                    k.store(here, v);
                    to = k.add_int(to, plane_bytes);
                }
            };
            k.for_each(zero, whole_end, self.lanes, |k, channel| some(k, channel, self.lanes));
            if rest > 0 && (k.has_masks() || self.lanes == 1) {
                return some(k, whole_end, rest);
            }
            let all = k.int(self.channels);
            k.for_each(whole_end, all, 1, |k, channel| {
                let skip = k.mul_int(channel, plane_bytes);
                let to = k.add(to, skip);
                for i in 0..lanes {
                    let pointer = pixel(k, i);
                    let from = k.at_index(pointer, channel, 4);
                    let v = k.load(Ty::new(Elem::F32, 1), from);
                    let to = k.at(to, 4 * i as i32);
                    k.store(to, v);
                }
            });
        });
    }

    /// Turns the sums of a block and stores those that are pixels.
    fn store(&self, k: &mut Builder, room: &Room, (tile, start): (Tile, Val), first: Val, count: i64) {
        if self.layouts.stored == Layout::ChannelsFirst {
            return self.store_planes(k, room, (tile, start), first, count);
        }
        let lanes = self.lanes as u32;
        let ty = Ty::new(Elem::F32, lanes);
        let part = self.vectors * self.lanes;
        let (zero, end, channels, width) = (k.int(0), k.int(part), k.int(count), k.int(self.lanes));
        k.for_each(zero, end, self.lanes, |k, at| {
            k.for_each(zero, channels, self.lanes, |k, channel| {
                let skip = k.mul_int(channel, part * 4);
                let from = k.add(room.sums, skip);
                let rows: Vec<Val> = (0..lanes)
                    .map(|i| {
                        let from = k.at_index(from, at, 4);
                        k.load(ty, Addr { offset: from.offset + (i64::from(i) * part * 4) as i32, ..from })
                    })
                    .collect();
                for (i, v) in turn(k, rows).into_iter().enumerate() {
                    let to = k.at_index(room.turned, channel, 4);
                    k.store(Addr { offset: to.offset + (i as i64 * self.turned() * 4) as i32, ..to }, v);
                }
            });
            let at = k.add(start, at);
            k.for_each(zero, width, 1, |k, i| {
                let place = k.add(at, i);
                let place = match room.places {
                    None => place,
                    Some(places) => {
                        let from = k.at_index(places, place, 8);
                        k.load(Ty::I64, from)
                    }
                };
                let row = k.add(tile.first, place);
                let within = k.cmp(Cmp::Lt, row, tile.end);
                let pixel = match room.places {
                    None => within,
                    Some(_) => {
                        let inside = k.cmp(Cmp::Ge, place, zero);
                        k.bin(Bin::And, within, inside)
                    }
                };
                k.when(pixel, |k| {
                    let skip = k.mul_int(i, self.turned() * 4);
                    let from = k.add(room.turned, skip);
                    if self.dot.is_some() {
                        return self.store_words(k, from, (row, first), count);
                    }
                    let lanes = self.e.lanes(DType::F32);
                    loops::columns(k, zero, channels, lanes, |k, c, lanes| {
                        let at = k.at_index(from, c, 4);
                        let v = k.load(self.sum(lanes), at);
                        let col = k.add(first, c);
                        self.e.store(k, row, col, v);
                    });
                });
            });
        });
    }

    /// Stores `count` sums of bytes from a pointer on, as columns from `first` on: several vectors together, of which the
    /// epilogue may make bytes.
    fn store_words(&self, k: &mut Builder, from: Val, (row, first): (Val, Val), count: i64) {
        let piece = schedule::loops::STORED_VECTORS * self.lanes;
        let some = |k: &mut Builder, at: Val, count: i64| {
            let from = k.at_index(from, at, 4);
            let vectors: Vec<Val> = (0..(count + self.lanes - 1) / self.lanes)
                .map(|v| {
                    k.load(
                        self.sum(self.lanes as u32),
                        Addr { offset: from.offset + (v * self.lanes * 4) as i32, ..from },
                    )
                })
                .collect();
            let col = k.add(first, at);
            self.e.store_columns(k, row, col, &vectors, count as u32);
        };
        let (zero, whole) = (k.int(0), k.int(count / piece * piece));
        k.for_each(zero, whole, piece, |k, at| some(k, at, piece));
        if count % piece > 0 {
            some(k, whole, count % piece);
        }
    }
}
