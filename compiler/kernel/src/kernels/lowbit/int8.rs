//! Contractions with low-bit weights by byte products.
//!
//! Rows become 16-bit numbers of two digits ([`super::int8_split`]), `q = 256 h + l`. Each digit is multiplied by the
//! weights, which are signed bytes, in an exact byte product. That takes half the instructions of `f32` multiply-adds
//! on vectors of the same width. Errors come only from `q` and from adding blocks' sums in `f32`.
//!
//! The weights of a group of columns are decoded to bytes, zero points subtracted, for all rows of a block. If products
//! take unsigned bytes first, `h + 128` replaces `h`, and sums start at -128 times the sum of the block's weights,
//! which is computed while decoding. Weights of 8-bit codes minus their zero points do not fit bytes: the zero points
//! are multiplied by the sums of the row's numbers instead.
//! With a single tile of rows, weights are decoded where they are used: the codes themselves are the unsigned bytes,
//! and the values to subtract from them are multiplied by the sums of the row's numbers.
//! Blocks of up to [`MAX_NARROW_ELEMENTS`] elements have sums `256 H + L` that fit 32 bits; longer ones keep both
//! separate, up to [`MAX_BLOCK_ELEMENTS`] elements.
//!
//! A row that digits cannot represent is computed in `f32` instead, with all rows of its register tile.

mod bytes;

use mcc_targets::schedule::lowbit::{MAX_UNROLLED_ROUNDS, MIN_FETCHING_TILES, ROUND_ELEMENTS};
use mcc_targets::{Arch, schedule};

use super::int8_split::{Digits, Elements, PADDED_ELEMENTS};
use super::{Columns, Weights};
use crate::kir::{Addr, Bin, Builder, Cmp, DotKind, Elem, Ty, Val};
use mcc_ir::Dim;

/// The most contracted elements whose sums fit 32 bits, for signed bytes and for unsigned ones.
const MAX_NARROW_ELEMENTS: i64 = 512;
const MAX_UNSIGNED_NARROW_ELEMENTS: i64 = 256;

/// The most contracted elements whose sums of one digit fit 32 bits.
const MAX_BLOCK_ELEMENTS: i64 = 1 << 16;

/// Whether this file supports the weights.
pub(crate) fn fits(w: &Weights<'_, '_>) -> bool {
    !w.table
        && w.lanes > 1
        && (w.coded.block as i64).min(w.depth) <= MAX_BLOCK_ELEMENTS
        && w.depth > 0
        && PADDED_ELEMENTS % i64::from(w.lanes) == 0
}

/// `rows` contiguous rows.
pub(crate) fn product(w: &Weights<'_, '_>, k: &mut Builder, rows: &Dim) {
    let target = &w.e.request.config.target;
    let several = w.blocks > 1;
    let panel_vectors = w.panel / w.lanes;
    let mut tile = schedule::lowbit::row_tile(target, several, rows.as_const());
    // Groups are whole panels, or panels are whole groups.
    if tile.vectors > panel_vectors {
        tile.vectors = tile.vectors / panel_vectors * panel_vectors;
    } else {
        tile.vectors = 1 << (31 - tile.vectors.leading_zeros());
    }
    let unit = i64::from(tile.rows);
    let padded = (w.depth + PADDED_ELEMENTS - 1) / PADDED_ELEMENTS * PADDED_ELEMENTS;
    let mut block = (schedule::lowbit::cached_rows_bytes(target) / (2 * padded) / unit).max(1) * unit;
    let shared = schedule::threads::shared_rows(unit as u64, rows.as_const(), Some(w.columns), tile.vectors * w.lanes);
    let shared = shared.filter(|_| w.e.request.config.threads > 1);
    if let Some(rows) = shared {
        block = rows.min(block);
    }
    let kept = rows.as_const().map_or(block, |r| r.min(block));
    let signed = target.arch == Arch::Aarch64;
    let group = i64::from(tile.vectors * w.lanes);
    // One tile of rows decodes nothing to memory.
    let one_tile = rows.as_const().is_some_and(|r| r <= unit);
    let unsigned_codes = one_tile && !signed;
    let signed = signed || unsigned_codes;
    let summed = unsigned_codes || w.has_zeros() && w.coded.bits == 8;
    let digits = Digits::new(w, k, kept, signed, summed);
    let written = (!one_tile).then(|| Written {
        bytes: w.e.scratch(k, Dim::from(w.elements() * group)),
        starts: (!signed).then(|| w.e.scratch(k, Dim::from(w.blocks * group * 4))),
    });
    let narrow = if unsigned_codes { MAX_UNSIGNED_NARROW_ELEMENTS } else { MAX_NARROW_ELEMENTS };
    let wide = (w.coded.block as i64).min(w.depth) > narrow;
    let d = Product { w, rows: unit, wide, signed, unsigned_codes, digits, written };
    let (zero, count) = (k.int(0), k.dim(rows));
    let round = |k: &mut Builder, first: Val| {
        let last = k.add_int(first, block);
        let last = k.bin(Bin::Min, last, count);
        k.for_each(first, last, 1, |k, row| d.digits.cut(k, first, row));
        w.each_group(k, tile.vectors, |k, columns| {
            if let Some(written) = &d.written {
                d.write_out(k, written, &columns);
            }
            d.tiles(k, rows, first, last, &columns);
        });
    };
    match rows.as_const() {
        Some(r) if r <= block => round(k, zero),
        _ => k.parallel_if(shared.is_some(), zero, count, block, round),
    }
}

/// Rows as digits, and how to multiply them by the weights.
struct Product<'a, 'b, 'c> {
    w: &'c Weights<'a, 'b>,
    /// Rows of a register tile.
    rows: i64,
    /// Whether the sums of both digits are separate.
    wide: bool,
    /// Whether digits are signed.
    signed: bool,
    /// Whether codes are multiplied undecoded.
    unsigned_codes: bool,
    digits: Digits<'a, 'b, 'c>,
    /// Where weights are decoded to; `None` if they are decoded where they are used.
    written: Option<Written>,
}

/// A register tile.
#[derive(Clone, Copy)]
struct Tile {
    rows: i64,
    vectors: u32,
}

/// Pointers to the data of a block.
struct BlockPointers {
    weights: Val,
    parameters: Val,
    /// Initial sums of high digits.
    starts: Val,
    /// Sums of the rows' numbers.
    sums: Val,
}

/// Weights decoded to memory.
struct Written {
    /// The bytes of a group of columns: four elements of each column per step.
    bytes: Val,
    /// Initial sums of high digits of each block, if not zero.
    starts: Option<Val>,
}

impl Product<'_, '_, '_> {
    fn line_bytes(&self) -> i64 {
        self.w.e.request.config.target.machine.line_bytes()
    }

    /// The rows of a block in register tiles: full ones, then smaller ones. Only the last block has a tail.
    fn tiles(&self, k: &mut Builder, rows: &Dim, first: Val, last: Val, columns: &Columns) {
        let size = self.rows;
        let bound = k.add_int(last, 1 - size);
        let ahead = self.ahead(rows, columns.vectors);
        k.for_each(first, bound, size, |k, row| {
            let done = k.sub(row, first);
            for &(start, group, bytes) in &ahead {
                let from = [columns.codes, columns.parameters][start];
                let offset = k.mul_int(done, bytes / size);
                let from = k.add(from, offset);
                for line in (0..bytes).step_by(self.line_bytes() as usize) {
                    let at = k.int(group + line);
                    let at = k.at_index(from, at, 1);
                    k.prefetch(at);
                }
            }
            self.tile(k, first, row, size, columns);
        });
        let mut done = &rows.floor_div(&Dim::from(size)) * &Dim::from(size);
        let rest = (rows - &done).as_const();
        let mut step = rest.unwrap_or(size / 2);
        while step > 0 {
            let until = &done + &(&(rows - &done).floor_div(&Dim::from(step)) * &Dim::from(step));
            let (start, end) = (k.dim(&done), k.dim(&until));
            let (start, end) = (k.bin(Bin::Max, start, first), k.bin(Bin::Min, end, last));
            k.for_each(start, end, step, |k, row| self.tile(k, first, row, step, columns));
            done = until;
            step = if rest.is_some() { 0 } else { step / 2 };
        }
    }

    /// The next columns' codes and scales that each tile of rows prefetches before they are decoded: which of the two,
    /// the byte offset from the current ones, and the number of bytes.
    fn ahead(&self, rows: &Dim, vectors: u32) -> Vec<(usize, i64, i64)> {
        let w = self.w;
        let tiles = rows.as_const().map_or(0, |rows| rows / self.rows);
        let width = vectors * w.lanes;
        if self.written.is_none()
            || tiles < MIN_FETCHING_TILES
            || !width.is_multiple_of(w.panel)
            || w.e.request.config.target.vector_bytes == 16
        {
            return Vec::new();
        }
        let panels = i64::from(width / w.panel);
        let line = self.line_bytes();
        let part = |bytes: i64| (bytes / tiles + line - 1) / line * line;
        let streams = [panels * w.panel_bytes(), panels * w.blocks * w.block_bytes()];
        streams.into_iter().enumerate().map(|(n, bytes)| (n, bytes, part(bytes))).collect()
    }

    fn tile(&self, k: &mut Builder, first: Val, row: Val, rows: i64, columns: &Columns) {
        let local = k.sub(row, first);
        let scales: Vec<Val> = (0..rows)
            .map(|r| {
                let at = k.at_index(self.digits.scales, local, 4);
                k.load(Ty::new(Elem::F32, 1), Addr { offset: at.offset + 4 * r as i32, ..at })
            })
            .collect();
        // NaN if one of them is.
        let mut all = scales[0];
        for &scale in &scales[1..] {
            all = k.add(all, scale);
        }
        let odd = k.cmp(Cmp::Ne, all, all);
        k.choose(
            odd,
            |k| {
                let end = k.add_int(row, rows);
                k.for_each(row, end, 1, |k, row| {
                    let from = self.w.row(k, row);
                    let sums = self.w.sums(k, columns, &[from]);
                    self.w.store(k, columns, row, &sums);
                });
                Vec::new()
            },
            |k| {
                let sums = self.product(k, local, rows, columns);
                for (r, sums) in (0i64..).zip(sums.chunks(columns.vectors as usize)) {
                    let scale = k.splat(scales[r as usize], self.w.lanes);
                    let results: Vec<Val> = sums.iter().map(|&s| k.mul(s, scale)).collect();
                    let row = k.add_int(row, r);
                    self.w.store(k, columns, row, &results);
                }
                Vec::new()
            },
        );
    }

    /// Sums of a tile, row by row, in units of the rows' numbers.
    fn product(&self, k: &mut Builder, local: Val, rows: i64, columns: &Columns) -> Vec<Val> {
        let (w, vectors) = (self.w, columns.vectors);
        let tile = Tile { rows, vectors };
        let size = rows as usize * vectors as usize;
        let digits = self.digits.row(k, local);
        let sums = self.digits.row_sums(k, local);
        let block = w.coded.block as i64;
        let full = if w.blocks > 1 { w.depth / block } else { 0 };
        let nothing = k.zero(Ty::new(Elem::F32, w.lanes));
        let (zero, end) = (k.int(0), k.int(full * block));
        let mut state = vec![nothing; size];
        let weights = self.written.as_ref().map_or(columns.codes, |written| written.bytes);
        let starts = self.written.as_ref().and_then(|written| written.starts).unwrap_or(weights);
        state.extend([columns.parameters, weights, starts, sums]);
        let one = |k: &mut Builder, at: Val, count: i64, state: &[Val], fresh: bool| {
            let (totals, rest) = state.split_at(size);
            let &[parameters, weights, starts, sums] = rest else { return state.to_vec() };
            let pointers = BlockPointers { weights, parameters, starts, sums };
            let (products, weights) = self.block(k, Elements { row: digits, at, count }, &pointers, tile);
            let mut next = self.scaled(k, &products, &pointers, tile, (!fresh).then_some(totals));
            next.extend([
                k.add_int(parameters, w.block_bytes()),
                weights,
                k.add_int(starts, i64::from(4 * vectors * w.lanes)),
                k.add_int(sums, self.digits.sum_bytes),
            ]);
            next
        };
        state = k.fold_loop(zero, end, block, &state, |k, at, state| one(k, at, block, state, false));
        if full * block < w.depth {
            state = one(k, end, w.depth - full * block, &state, full == 0);
        }
        state.truncate(size);
        state
    }

    /// Sums of high and low digits of a block: for each row, first the high ones, then the low ones.
    fn block(&self, k: &mut Builder, elements: Elements, pointers: &BlockPointers, tile: Tile) -> (Vec<Val>, Val) {
        let Elements { row: digits, at, count } = elements;
        let &BlockPointers { weights, parameters, starts, .. } = pointers;
        let Tile { rows, vectors } = tile;
        let words = Ty::new(Elem::I32, self.w.lanes);
        let zero = k.zero(words);
        let start = |v: u32| match self.written.as_ref().and_then(|written| written.starts) {
            Some(_) => {
                let from = k.at(starts, (v * words.bytes()) as i32);
                k.load(words, from)
            }
            None => zero,
        };
        let high: Vec<Val> = (0..vectors).map(start).collect();
        let low = vec![zero; vectors as usize];
        let subtracts = self.written.is_none() && !self.unsigned_codes;
        let less = if subtracts { self.less(k, parameters, vectors) } else { Vec::new() };
        // Sums of weights that are not decoded to memory are computed here.
        let sums = if self.written.is_none() && !self.signed { vectors as usize } else { 0 };
        let mut state: Vec<Val> = (0..rows).flat_map(|_| [&high[..], &low]).flatten().copied().collect();
        state.extend(vec![zero; sums]);
        state.push(weights);
        let in_word = self.w.coded.in_word() as i64;
        let elements = (count + in_word - 1) / in_word * in_word;
        let rounds = elements / ROUND_ELEMENTS;
        let round = |at: Val| Elements { row: digits, at, count: ROUND_ELEMENTS };
        let mut at = at;
        if rounds <= MAX_UNROLLED_ROUNDS {
            for _ in 0..rounds {
                state = self.steps(k, round(at), &less, tile, &state);
                at = k.add_int(at, ROUND_ELEMENTS);
            }
        } else {
            let end = k.add_int(at, rounds * ROUND_ELEMENTS);
            state = k.fold_loop(at, end, ROUND_ELEMENTS, &state, |k, at, state| {
                self.steps(k, round(at), &less, tile, state)
            });
            at = end;
        }
        let left = elements - rounds * ROUND_ELEMENTS;
        if left > 0 {
            state = self.steps(k, Elements { row: digits, at, count: left }, &less, tile, &state);
        }
        let weights = state.pop().unwrap_or(weights);
        let sums = state.split_off(state.len() - sums);
        for (v, &sum) in sums.iter().enumerate() {
            let seven = k.int(7);
            let start = k.bin(Bin::Shl, sum, seven);
            for row in state.chunks_mut(2 * vectors as usize) {
                row[v] = k.sub(row[v], start);
            }
        }
        (state, weights)
    }

    /// Steps of four elements: one round, or less.
    fn steps(&self, k: &mut Builder, elements: Elements, less: &[Val], tile: Tile, state: &[Val]) -> Vec<Val> {
        let Tile { rows, vectors } = tile;
        let count = elements.count / 4;
        let w = self.w;
        let mut state = state.to_vec();
        let Some(pointer) = state.pop() else { return state };
        let from = k.at_index(elements.row, elements.at, 1);
        let four = Ty::new(Elem::I8, 4 * w.lanes);
        // High digits of the rows, then low ones.
        let place = |n: usize| from.offset + (n as i64 * self.digits.padded) as i32;
        // If spreading lanes takes separate instructions, a round's digits are loaded once.
        let by_lane = w.e.request.config.target.arch == Arch::Aarch64 && count * 4 == ROUND_ELEMENTS;
        let held: Vec<Val> = (0..if by_lane { 2 * rows as usize } else { 0 })
            .map(|n| k.load(Ty::new(Elem::I8, ROUND_ELEMENTS as u32), Addr { offset: place(n), ..from }))
            .collect();
        let kind = if self.signed && !self.unsigned_codes { DotKind::S8S8 } else { DotKind::U8S8 };
        let in_word = i64::from(8 / w.coded.bits);
        let mut words = Vec::new();
        for step in 0..count {
            let weights: Vec<Val> = if self.written.is_some() {
                let of = |v| {
                    let from = k.at(pointer, ((step * i64::from(vectors) + v) * i64::from(four.bytes())) as i32);
                    k.load(four, from)
                };
                (0..i64::from(vectors)).map(of).collect()
            } else {
                if step % in_word == 0 {
                    words = (0..vectors).map(|v| w.words(k, pointer, v, step / in_word)).collect();
                }
                let within = (step % in_word) as u32;
                let less = |v: usize| less.get(v).copied();
                words.iter().enumerate().map(|(v, &word)| self.four_elements(k, word, within, less(v))).collect()
            };
            let (sums, totals) = state.split_at_mut(2 * rows as usize * vectors as usize);
            for (total, &weights) in totals.iter_mut().zip(&weights) {
                *total = self.summed(k, weights, *total);
            }
            for (n, sums) in sums.chunks_mut(vectors as usize).enumerate() {
                let left = match held.get(n) {
                    Some(&held) => {
                        let pattern: Vec<u8> = (0..4 * w.lanes).map(|i| (4 * step) as u8 + (i % 4) as u8).collect();
                        k.shuffle(held, held, &pattern)
                    }
                    None => {
                        // As a float, which emitters load into all lanes at once.
                        let offset = place(n) + 4 * step as i32;
                        let one = k.load(Ty::new(Elem::F32, 1), Addr { offset, ..from });
                        let all = k.splat(one, w.lanes);
                        k.bitcast(all, four)
                    }
                };
                for (sum, &weights) in sums.iter_mut().zip(&weights) {
                    let (a, b) = if self.unsigned_codes { (weights, left) } else { (left, weights) };
                    *sum = k.dot(kind, a, b, *sum);
                }
            }
        }
        let passed = match self.written {
            Some(_) => count * i64::from(vectors * four.bytes()),
            None => count / in_word * w.word_bytes(),
        };
        state.push(k.add_int(pointer, passed));
        state
    }

    /// The sums of a block, scaled and added to `totals`, if any.
    fn scaled(
        &self,
        k: &mut Builder,
        products: &[Val],
        pointers: &BlockPointers,
        tile: Tile,
        totals: Option<&[Val]>,
    ) -> Vec<Val> {
        let &BlockPointers { parameters, sums, .. } = pointers;
        let (w, rows, vectors) = (self.w, tile.rows, tile.vectors as usize);
        let parameters: Vec<(Val, Option<Val>)> = (0..vectors as u32)
            .map(|v| {
                let scale = w.scale(k, parameters, v);
                let zero = if self.digits.sum_bytes > 0 { w.zero(k, parameters, v) } else { None };
                let mut less = zero.map(|zero| k.convert(zero, Elem::F32));
                if self.unsigned_codes {
                    let middle = k.float(f64::from(w.coded.middle()), k.ty(scale));
                    less = Some(less.map_or(middle, |zero| k.add(zero, middle)));
                }
                (scale, less)
            })
            .collect();
        let mut results = Vec::with_capacity(rows as usize * vectors);
        for r in 0..rows as usize {
            let at = k.at(sums, (r as i64 * w.blocks * self.digits.sum_bytes) as i32);
            for v in 0..vectors {
                let (high, low) = (products[2 * r * vectors + v], products[(2 * r + 1) * vectors + v]);
                let mut sum = if self.wide {
                    let (high, low) = (k.convert(high, Elem::F32), k.convert(low, Elem::F32));
                    let base = k.float(256.0, k.ty(high));
                    k.fma(high, base, low)
                } else {
                    let eight = k.int(8);
                    let high = k.bin(Bin::Shl, high, eight);
                    let sum = k.add(high, low);
                    k.convert(sum, Elem::F32)
                };
                let (scale, zero) = parameters[v];
                if let Some(zero) = zero {
                    let one = k.load(Ty::new(Elem::F32, 1), at);
                    let all = k.splat(one, w.lanes);
                    sum = k.fma(zero, all, sum);
                }
                results.push(match totals {
                    Some(totals) => k.fma(sum, scale, totals[r * vectors + v]),
                    None => k.mul(sum, scale),
                });
            }
        }
        results
    }
}
