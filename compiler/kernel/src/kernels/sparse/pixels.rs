//! Channels-last operands and results: pixels are addressed by pointers, their channels are transposed into planes, and
//! sums are transposed back into pixels.

use super::{Image, Room, Sparse, Tile};
use crate::kernels::support::loops;
use crate::kernels::support::transpose_block::transpose;
use crate::kir::{Addr, Bin, Builder, Cmp, Elem, Ty, Val};
use mcc_ir::{DType, Layout};
use mcc_targets::schedule;

impl Sparse<'_, '_> {
    /// Rows from `first` on; rows beyond the last one repeat it.
    pub(super) fn point_at_rows(&self, k: &mut Builder, room: &Room, first: Val, count: Val) {
        let (zero, end, last) = (k.int(0), k.int(self.span), k.add_int(count, -1));
        k.for_each(zero, end, 1, |k, i| {
            let row = k.add(first, i);
            let row = k.bin(Bin::Min, row, last);
            let offset = k.mul_int(row, self.channels * 4);
            let (pointer, to) = (k.add(self.e.operand(0), offset), k.at_index(room.pointers, i, 8));
            k.store(to, pointer);
        });
    }

    /// Lines of every phase, for results from `line` on of the image at `x`; padding points to zeros.
    pub(super) fn point_at_lines(&self, k: &mut Builder, image: &Image, room: &Room, x: Val, line: Val) {
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
            // Elements that are read but never stored.
            let (rest, end) = (k.int(start + lines * pitch), k.int(start + phase_size));
            k.for_each(rest, end, 1, |k, at| {
                let to = k.at_index(room.pointers, at, 8);
                k.store(to, zeros);
            });
        }
    }

    /// The pixel of each element of a span, counted from the tile's first.
    pub(super) fn find_places(&self, k: &mut Builder, image: &Image, room: &Room) {
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

    /// Transposes pixels' channels into channels' pixels.
    pub(super) fn stage(&self, k: &mut Builder, room: &Room) {
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
                for v in transpose(k, rows).into_iter().take(count as usize) {
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

    /// Transposes the sums of a block and stores those that are pixels.
    pub(super) fn store(&self, k: &mut Builder, room: &Room, tile: Tile, start: Val, first: Val, count: i64) {
        if self.layouts.stored == Layout::ChannelsFirst {
            return self.store_planes(k, room, tile, start, first, count);
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
                for (i, v) in transpose(k, rows).into_iter().enumerate() {
                    let to = k.at_index(room.transposed, channel, 4);
                    k.store(Addr { offset: to.offset + (i as i64 * self.transposed() * 4) as i32, ..to }, v);
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
                    let skip = k.mul_int(i, self.transposed() * 4);
                    let from = k.add(room.transposed, skip);
                    if self.dot.is_some() {
                        return self.store_words(k, from, row, first, count);
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

    /// Stores `count` sums of bytes from a pointer to the columns from `first` on: several vectors at a time, which the
    /// epilogue may quantize to bytes.
    fn store_words(&self, k: &mut Builder, from: Val, row: Val, first: Val, count: i64) {
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
