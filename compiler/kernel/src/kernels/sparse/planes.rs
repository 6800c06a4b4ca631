//! Channels-first operands and results of sparse products: planes are copied to the staging buffer, and sums are stored
//! without a transpose.
//!
//! Padding beside lines, and elements that are read but never stored, are cleared once; lines of padding are cleared
//! for tiles that have them.

use super::{Image, Room, Sparse, Tile};
use crate::kernels::support::loops;
use crate::kir::{Addr, Bin, Builder, Cmp, Elem, Ty, Val};
use mcc_ir::{DType, Layout};

/// Where to store the sums of a block directly from registers.
#[derive(Clone, Copy)]
pub(super) struct Straight {
    /// Whether some have no place there: then all are kept in memory.
    pub(super) partly: Val,
    /// The row of the block's first channel, and the column of the part's first element.
    row: Val,
    col: Val,
}

impl Straight {
    /// Stores the sums of an output channel.
    pub(super) fn store(&self, k: &mut Builder, sparse: &Sparse<'_, '_>, place: Val, sums: &[Val]) {
        let row = k.add(self.row, place);
        for (v, &sum) in sums.iter().enumerate() {
            let col = k.add_int(self.col, v as i64 * sparse.lanes);
            sparse.e.store(k, row, col, sum);
        }
    }
}

impl Sparse<'_, '_> {
    /// Stages a matrix: the pixels from `first` on, of every channel of an image.
    pub(super) fn copy_rows(&self, k: &mut Builder, room: &Room, batch: Val, first: Val, count: Val) {
        let (span, plane_bytes) = (k.int(self.span), k.mul_int(count, 4));
        let left = k.sub(count, first);
        let valid = k.bin(Bin::Min, left, span);
        let before = k.mul_int(batch, self.channels);
        let (zero, channels) = (k.int(0), k.int(self.channels));
        let lanes = self.lanes as u32;
        let x = loops::pointer_at(k, self.e.operand(0), first, 4);
        k.for_each(zero, channels, 1, |k, channel| {
            let n = k.add(before, channel);
            let skip = k.mul(n, plane_bytes);
            let from = k.add(x, skip);
            let skip = k.mul_int(channel, self.plane * 4);
            let to = k.add(room.staged, skip);
            let whole = loops::round_down(k, valid, lanes);
            fill(k, to, whole, span, lanes);
            loops::columns(k, zero, valid, lanes, |k, at, lanes| copy(k, to, at, from, at, lanes));
        });
    }

    /// Clears the constant padding between and around the lines of images.
    pub(super) fn clear(&self, k: &mut Builder, room: &Room) {
        let bytes = k.int(self.channels * self.plane * 4);
        k.fill_zero(room.staged, bytes);
    }

    /// Stages the lines of every phase, for results from `line` on of the image at `x`.
    pub(super) fn copy_lines(&self, k: &mut Builder, image: &Image, room: &Room, x: Val, line: Val) {
        let (pitch, phase_size) = (self.staging.pitch as i64, self.staging.phase as i64);
        let lines = (self.staging.lines as i64 + image.reach[0]).min(phase_size / pitch);
        let (zero, channels, end) = (k.int(0), k.int(self.channels), k.int(lines));
        let stride = image.strides[0];
        // For each remainder, the range of lines inside the image, and the address of the first line.
        let rows: Vec<_> = (0..image.phases[0])
            .map(|row| {
                let before = row - image.before[0];
                // Line `l` of a tile is line `(line + l) * stride + before` of the image.
                let bound = |k: &mut Builder, inside: i64| {
                    let inside = k.int(inside);
                    let bound = k.sub(inside, line);
                    let bound = k.bin(Bin::Min, bound, end);
                    k.bin(Bin::Max, bound, zero)
                };
                let from = if before >= 0 { zero } else { bound(k, ceil_div(-before, stride)) };
                let to = bound(k, ceil_div(image.data[0] - before, stride));
                let to = k.bin(Bin::Max, from, to);
                let first = k.mul_int(line, stride);
                let first = k.add_int(first, before);
                let skip = k.mul_int(first, image.steps[0] * 4);
                (from, to, k.add(x, skip))
            })
            .collect();
        let to_phase = |k: &mut Builder, to: Val, row: usize, column: i64| {
            k.add_int(to, (row as i64 * image.phases[1] + column) * phase_size * 4)
        };
        // Clear lines of an earlier tile where this one has padding.
        for (row, &(first, last, _)) in rows.iter().enumerate() {
            let (above, below, all) = (k.mul_int(first, pitch), k.mul_int(last, pitch), k.int(lines * pitch));
            let (begins, ends) = (k.cmp(Cmp::Gt, first, zero), k.cmp(Cmp::Lt, last, end));
            let any = k.bin(Bin::Or, begins, ends);
            k.when(any, |k| {
                k.for_each(zero, channels, 1, |k, channel| {
                    let jump = k.mul_int(channel, self.plane * 4);
                    let to = k.add(room.staged, jump);
                    for column in 0..image.phases[1] {
                        let to = to_phase(k, to, row, column);
                        fill(k, to, zero, above, self.lanes as u32);
                        fill(k, to, below, all, self.lanes as u32);
                    }
                });
            });
        }
        let channel_bytes = image.data[0] * image.data[1] * 4;
        k.for_each(zero, channels, 1, |k, channel| {
            let (skip, jump) = (k.mul_int(channel, channel_bytes), k.mul_int(channel, self.plane * 4));
            let to = k.add(room.staged, jump);
            for (row, &(first, last, x)) in rows.iter().enumerate() {
                let x = k.add(x, skip);
                let to = to_phase(k, to, row, 0);
                k.for_each(first, last, 1, |k, l| {
                    let skip = k.mul_int(l, image.strides[0] * image.steps[0] * 4);
                    let from = k.add(x, skip);
                    let skip = k.mul_int(l, pitch * 4);
                    let to = k.add(to, skip);
                    for column in 0..image.phases[1] {
                        let to = to_phase(k, to, 0, column);
                        self.copy_line(k, image, to, from, column * image.columns - image.before[1]);
                    }
                });
            }
        });
    }

    /// One line of a phase; its first column is column `dx` of the image.
    fn copy_line(&self, k: &mut Builder, image: &Image, to: Val, from: Val, dx: i64) {
        let (pitch, stride, lanes) = (self.staging.pitch as i64, image.strides[1], self.lanes as u32);
        let first = ceil_div((-dx).max(0), stride).min(pitch);
        let last = ceil_div((image.data[1] - dx).max(0), stride).clamp(first, pitch);
        let zero = k.int(0);
        let (to, from) = (k.add_int(to, first * 4), k.add_int(from, (first * stride + dx) * 4));
        let count = k.int(last - first);
        if stride == 1 {
            return loops::cover(k, count, lanes, |k, at, lanes| copy(k, to, at, from, at, lanes));
        }
        // Alternate elements of two vectors, if loads may end with the last element needed.
        let pairs = stride == 2 && lanes >= 4;
        let whole = if pairs { (last - first - 1).max(0) / self.lanes * self.lanes } else { 0 };
        let ty = Ty::new(Elem::F32, lanes);
        let pair = |k: &mut Builder, at: Val, left: i64| {
            let even: Vec<u8> = (0..lanes as u8).map(|i| 2 * i).collect();
            let index = k.mul_int(at, 2);
            let [low, high] = [0, 1].map(|n| {
                let source = k.at_index(from, index, 4);
                let source = Addr { offset: source.offset + n * self.lanes as i32 * 4, ..source };
                let there = k.int(2 * left - 1 - i64::from(n) * self.lanes);
                k.load_part(ty, source, there)
            });
            let (v, place, left) = (k.shuffle(low, high, &even), k.at_index(to, at, 4), k.int(left));
            k.store_part(place, v, left);
        };
        let done = k.int(whole);
        k.for_each(zero, done, self.lanes, |k, at| pair(k, at, self.lanes + 1));
        if pairs && k.has_masks() && last > first {
            return pair(k, done, last - first - whole);
        }
        k.for_each(done, count, 1, |k, at| {
            let index = k.mul_int(at, stride);
            copy(k, to, at, from, index, 1);
        });
    }

    /// The first pixel of the part of a tile that starts at element `start`, and the number of contiguous pixels from
    /// there, if there are no gaps between lines.
    fn run(&self, k: &mut Builder, tile: Tile, start: Val) -> (Val, Val) {
        let (before, pixels) = (k.sub(tile.first, tile.start), k.sub(tile.end, tile.start));
        let first = k.add(before, start);
        let most = match &self.image {
            None => pixels,
            Some(image) => {
                let all = k.add_int(before, self.staging.lines as i64 * image.results[1]);
                k.bin(Bin::Min, all, pixels)
            }
        };
        let (zero, whole) = (k.int(0), k.int(self.vectors * self.lanes));
        let left = k.sub(most, first);
        let left = k.bin(Bin::Max, left, zero);
        (first, k.bin(Bin::Min, left, whole))
    }

    /// Where sums may be stored directly from registers, if at all: sums of whole groups, into planes in which the
    /// elements of a part are contiguous.
    pub(super) fn straight(&self, k: &mut Builder, tile: Tile, start: Val, first: Val, count: i64) -> Option<Straight> {
        let between = self.image.as_ref().is_some_and(|image| image.results[1] != self.staging.pitch as i64);
        let lanes = self.e.lanes(DType::F32) == self.lanes as u32;
        let whole = count % self.staging.abreast as i64 == 0;
        if self.layouts.stored != Layout::ChannelsFirst || between || !lanes || !whole {
            return None;
        }
        let (col, valid) = self.run(k, tile, start);
        let part = k.int(self.vectors * self.lanes);
        let row = k.mul_int(tile.batch, self.out);
        Some(Straight { partly: k.cmp(Cmp::Ne, valid, part), row: k.add(row, first), col })
    }

    /// Stores the sums of a block that are pixels: one row per channel.
    pub(super) fn store_planes(&self, k: &mut Builder, room: &Room, tile: Tile, start: Val, first: Val, count: i64) {
        let part = self.vectors * self.lanes;
        let lanes = self.e.lanes(DType::F32).min(self.lanes as u32);
        let (zero, channels) = (k.int(0), k.int(count));
        let row = k.mul_int(tile.batch, self.out);
        let row = k.add(row, first);
        let before = k.sub(tile.first, tile.start);
        // Stores elements `from..to` of the part, starting at column `col`.
        let run = |k: &mut Builder, (from, to): (Val, Val), col: Val| {
            k.for_each(zero, channels, 1, |k, channel| {
                let row = k.add(row, channel);
                let skip = k.mul_int(channel, part * 4);
                let sums = k.add(room.sums, skip);
                loops::columns(k, from, to, lanes, |k, at, lanes| {
                    let place = k.at_index(sums, at, 4);
                    let v = k.load(Ty::new(Elem::F32, lanes), place);
                    let skip = k.sub(at, from);
                    let col = k.add(col, skip);
                    self.e.store(k, row, col, v);
                });
            });
        };
        let image = match &self.image {
            Some(image) if image.results[1] != self.staging.pitch as i64 => image,
            _ => {
                let (first, valid) = self.run(k, tile, start);
                return run(k, (zero, valid), first);
            }
        };
        // Pieces of lines; the elements in between are not pixels.
        let (pitch, width) = (k.int(self.staging.pitch as i64), image.results[1]);
        let (by, done) = (k.int(width), k.add_int(start, part));
        let line = k.bin(Bin::Div, before, by);
        let most = k.int(image.results[0]);
        let most = k.sub(most, line);
        let lines = k.int(self.staging.lines as i64);
        let most = k.bin(Bin::Min, most, lines);
        let mut from = k.bin(Bin::Div, start, pitch);
        let to = k.add_int(done, self.staging.pitch as i64 - 1);
        let to = k.bin(Bin::Div, to, pitch);
        if let Some(vectors) = self.vectors_of_lines(image) {
            // Whole lines, some of which may be beyond the image's end.
            let col = k.mul_int(from, width);
            let col = k.add(col, before);
            let all = k.cmp(Cmp::Le, to, most);
            k.when(all, |k| {
                k.for_each(zero, channels, 1, |k, channel| {
                    let row = k.add(row, channel);
                    let skip = k.mul_int(channel, part * 4);
                    let sums = k.add(room.sums, skip);
                    for &(at, after, count) in &vectors {
                        let (place, col, ty) = (k.at(sums, at), k.add_int(col, after), Ty::new(Elem::F32, lanes));
                        let v = k.load(ty, place);
                        self.e.store_columns(k, row, col, &[v], count);
                    }
                });
            });
            // Otherwise line by line.
            from = k.select(all, to, from);
        }
        let to = k.bin(Bin::Min, to, most);
        k.for_each(from, to, 1, |k, l| {
            let begin = k.mul(l, pitch);
            let end = k.add_int(begin, width);
            let (from, to) = (k.bin(Bin::Max, begin, start), k.bin(Bin::Min, end, done));
            // A part may start after the end of a line.
            let to = k.bin(Bin::Max, from, to);
            let skip = k.sub(from, begin);
            let col = k.mul_int(l, width);
            let col = k.add(col, skip);
            let col = k.add(col, before);
            let (from, to) = (k.sub(from, start), k.sub(to, start));
            run(k, (from, to), col);
        });
    }
}

impl Sparse<'_, '_> {
    /// For a part of whole lines of whole vectors: the vectors that have pixels, each with its byte offset in the part,
    /// its first pixel, and its number of pixels.
    fn vectors_of_lines(&self, image: &Image) -> Option<Vec<(i32, i64, u32)>> {
        let (pitch, width, part) = (self.staging.pitch as i64, image.results[1], self.vectors * self.lanes);
        if self.lanes != i64::from(self.e.lanes(DType::F32)) || part % pitch != 0 || pitch % self.lanes != 0 {
            return None;
        }
        let vectors = (0..part).step_by(self.lanes as usize).filter_map(|at| {
            let (line, column) = (at / pitch, at % pitch);
            let count = (width - column).min(self.lanes);
            (count > 0).then_some((4 * at as i32, line * width + column, count as u32))
        });
        Some(vectors.collect())
    }
}

/// Division by a positive number, rounded up.
fn ceil_div(n: i64, by: i64) -> i64 {
    -(-n).div_euclid(by)
}

fn copy(k: &mut Builder, to: Val, at: Val, from: Val, index: Val, lanes: u32) {
    let source = k.at_index(from, index, 4);
    let v = k.load(Ty::new(Elem::F32, lanes), source);
    let place = k.at_index(to, at, 4);
    k.store(place, v);
}

/// Clears elements `from..to`.
fn fill(k: &mut Builder, at: Val, from: Val, to: Val, lanes: u32) {
    loops::columns(k, from, to, lanes, |k, i, lanes| {
        let (place, zero) = (k.at_index(at, i, 4), k.zero(Ty::new(Elem::F32, lanes)));
        k.store(place, zero);
    });
}
