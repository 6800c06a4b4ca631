//! Contractions with coded weights by instructions that multiply bytes.
//!
//! A row of the left operand becomes numbers of 16 bits: with `m` its largest magnitude, an element `x` is
//! `q = round(x * LARGEST / m)`, at most half a unit, `m / (2 * LARGEST) = 1.5e-5 m`, off. In two digits,
//! `q = 256 h + l` with `-128 <= h, l <= 127`, it meets the codes in two exact byte products. So the only error, besides
//! that of the additions of blocks' sums in `f32`, is
//!
//! ```text
//! |error| <= 1.5e-5 * m * sum(|w|)
//! ```
//!
//! a column, and about the square root of the contracted elements smaller as a rule, since the rounding errors of the
//! elements have nothing to do with each other. That takes half of the instructions that multiply-adds of `f32` would
//! take on vectors as wide.
//!
//! Codes are moved to the top bits of their bytes, where they stand for `2^(8 - bits)` times their number; those 128 off
//! are corrected by the sums of the digits, which are computed once a row. A block of up to [`NARROW`] elements has sums
//! `256 H + L` that fit 32 bits; longer ones keep both sums apart, up to [`LONGEST`] elements.
//!
//! A row with an infinity or a NaN, or whose largest element's reciprocal is out of range, is computed in `f32`
//! instead, with all rows of its register tile.

use mcc_targets::Arch;
use mcc_targets::dot_schedule::coded_tile;
use mcc_targets::schedule;

use super::coded::{Columns, Weights};
use crate::ir::{DType, Dim};
use crate::lower::kir::{Addr, Bin, Builder, Cmp, DotKind, Elem, Ty, Val};
use crate::lower::numbers;

/// The largest number of two signed digits.
const LARGEST: f64 = 32639.0;

/// Contracted elements whose sums fit 32 bits.
const NARROW: i64 = 512;

/// Contracted elements whose sums of one digit fit 32 bits.
const LONGEST: i64 = 1 << 16;

/// Rows are cut into digits in multiples of this.
const ALIGNED: i64 = 16;

/// Digits a round of the innermost loop.
const ROUND: i64 = 16;

/// Rounds of a block that are not worth a loop.
const UNROLLED: i64 = 4;

/// Bytes of digits that should stay in the second-level cache while the weights pass.
const ROW_BYTES: i64 = 256 << 10;

/// Added to a float of up to 22 bits, leaves it rounded in the low bits.
const MAGIC: i64 = 0x4b40_0000;

/// Magnitudes whose reciprocals, and those times what codes stand for, are in range, as bits.
const LEAST_BITS: i64 = 0x0da2_4260;
const MOST_BITS: i64 = 0x7e96_7699;

/// Whether the weights are of a kind that this computes.
pub(super) fn fits(w: &Weights<'_, '_>) -> bool {
    !w.table
        && w.lanes > 1
        && (w.coded.block as i64).min(w.depth) <= LONGEST
        && w.depth > 0
        && ALIGNED % i64::from(w.lanes) == 0
}

/// `rows` rows, which follow one another.
pub(super) fn product(w: &Weights<'_, '_>, k: &mut Builder, rows: &Dim) {
    let target = w.e.site.target;
    let several = w.blocks > 1;
    let panel_vectors = w.panel / w.lanes;
    let mut tile = coded_tile(target, several, rows.as_const());
    // Groups are whole panels, or panels are whole groups.
    if tile.vectors > panel_vectors {
        tile.vectors = tile.vectors / panel_vectors * panel_vectors;
    } else {
        tile.vectors = 1 << (31 - tile.vectors.leading_zeros());
    }
    let padded = (w.depth + ALIGNED - 1) / ALIGNED * ALIGNED;
    let unit = i64::from(tile.rows);
    let mut block = (ROW_BYTES / (2 * padded) / unit).max(1) * unit;
    let shared = schedule::shared_rows(unit as u64, rows.as_const(), Some(w.columns), tile.vectors * w.lanes);
    let shared = shared.filter(|_| target.threads > 1);
    if let Some(rows) = shared {
        block = rows.min(block);
    }
    let kept = rows.as_const().map_or(block, |r| r.min(block));
    let block_length = (w.coded.block as i64).min(w.depth);
    let wide = block_length > NARROW;
    let signed = target.arch == Arch::Aarch64 && !target.has("i8mm");
    let per_block = (if signed {
        0
    } else if wide {
        8
    } else {
        4
    }) + 4 * i64::from(w.zeros);
    let scratch = |k: &mut Builder, bytes: i64| w.e.scratch(k, Dim::from(kept * bytes));
    let digits = scratch(k, 2 * padded);
    let sums = scratch(k, (w.blocks * per_block).max(4));
    let scales = scratch(k, 4);
    let d = Digits { w, rows: unit, padded, wide, signed, per_block, digits, sums, scales };
    let (zero, count) = (k.int(0), k.dim(rows));
    let mut round = |k: &mut Builder, first: Val| {
        let last = k.add_int(first, block);
        let last = k.bin(Bin::Min, last, count);
        k.for_each(first, last, 1, &mut |k, row| d.cut(k, first, row));
        w.each_group(k, tile.vectors, &mut |k, columns| d.tiles(k, rows, (first, last), &columns));
    };
    match rows.as_const() {
        Some(r) if r <= block => round(k, zero),
        _ if shared.is_some() => k.parallel(zero, count, block, &mut round),
        _ => k.for_each(zero, count, block, &mut round),
    }
}

/// Rows as digits, and how they meet the weights.
struct Digits<'a, 'b, 'c> {
    w: &'c Weights<'a, 'b>,
    /// Rows of a register tile.
    rows: i64,
    /// Bytes of a row's digits of one kind.
    padded: i64,
    /// Whether the sums of both digits are kept apart.
    wide: bool,
    /// Whether the byte products are of signed codes.
    signed: bool,
    /// Bytes of corrections a row and block.
    per_block: i64,
    /// A row's high digits, then its low ones.
    digits: Val,
    /// What is subtracted from the sums of a row and block, and the row's sum.
    sums: Val,
    /// What a row's sums are multiplied by; NaN for rows to be computed in `f32`.
    scales: Val,
}

/// Sums of the bits of a vector of numbers, and of their high digits.
#[derive(Clone, Copy)]
struct Sums {
    all: Val,
    high: Val,
}

impl Digits<'_, '_, '_> {
    // ---- rows to digits ----

    /// Cuts a row into digits; `first` is the first row of the block.
    fn cut(&self, k: &mut Builder, first: Val, row: Val) {
        let (w, lanes) = (self.w, self.w.lanes);
        let (from, local) = (w.row(k, row), k.sub(row, first));
        let bits = self.largest(k, from);
        let bits_ty = k.ty(bits);
        // All zeros are as good as any other number, times zero.
        let (nothing, one) = (k.int_of(0, bits_ty), k.int_of(0x3f80_0000, bits_ty));
        let empty = k.cmp(Cmp::Eq, bits, nothing);
        let bits = k.select(empty, one, bits);
        let (least, span) = (k.int_of(LEAST_BITS, bits_ty), k.int_of(MOST_BITS - LEAST_BITS, bits_ty));
        let above = k.sub(bits, least);
        let ordinary = k.cmp(Cmp::ULe, above, span);
        let float = Ty::new(Elem::F32, 1);
        let m = k.bitcast(bits, float);
        let largest = k.float(LARGEST, float);
        let inverse = k.bin(Bin::Div, largest, m);
        let unit = k.float(1.0 / LARGEST / f64::from(1u32 << (8 - w.coded.bits)), float);
        let scale = k.mul(m, unit);
        let odd = k.float(f64::NAN, float);
        let scale = k.select(ordinary, scale, odd);
        let to = k.at_index(self.scales, local, 4);
        k.store(to, scale);
        let inverse = k.splat(inverse, lanes);
        let start = k.mul_int(local, 2 * self.padded);
        let high = k.add(self.digits, start);
        let start = k.mul_int(local, w.blocks * self.per_block);
        let sums = k.add(self.sums, start);
        let block = w.coded.block as i64;
        let full = if w.blocks > 1 { w.depth / block } else { 0 };
        let (zero, end) = (k.int(0), k.int(full * block));
        let step = self.per_block;
        let sums = k.fold_loop(zero, end, block, &[sums], &mut |k, at, sums| {
            self.cut_block(k, (from, at, block), inverse, high, sums[0]);
            vec![k.add_int(sums[0], step)]
        });
        if full * block < w.depth {
            self.cut_block(k, (from, end, w.depth - full * block), inverse, high, sums[0]);
        }
    }

    /// The bits of the largest magnitude of a row: more than infinity's if there is a NaN.
    fn largest(&self, k: &mut Builder, from: Val) -> Val {
        let ty = Ty::new(Elem::I32, self.w.lanes);
        let (zero, nothing, magnitude) = (k.int(0), k.zero(ty), k.int_of(0x7fff_ffff, ty));
        let larger = |k: &mut Builder, x: Val, most: Val| {
            let bits = k.bitcast(x, ty);
            let bits = k.bin(Bin::And, bits, magnitude);
            k.bin(Bin::Max, bits, most)
        };
        // Several at once, which need not wait for one another.
        const AT_ONCE: i64 = 4;
        let lanes = i64::from(self.w.lanes);
        let whole = self.w.depth / (lanes * AT_ONCE) * (lanes * AT_ONCE);
        let end = k.int(whole);
        let most = k.fold_loop(zero, end, lanes * AT_ONCE, &[nothing; AT_ONCE as usize], &mut |k, at, most| {
            (0i64..)
                .zip(most)
                .map(|(n, &most)| {
                    let at = k.add_int(at, n * lanes);
                    let x = self.elements(k, from, at, lanes);
                    larger(k, x, most)
                })
                .collect()
        });
        let mut most = most.into_iter().reduce(|a, b| k.bin(Bin::Max, a, b)).unwrap_or(nothing);
        let mut done = whole;
        while done < self.w.depth {
            let at = k.int(done);
            let x = self.elements(k, from, at, self.w.depth - done);
            most = larger(k, x, most);
            done += lanes;
        }
        k.reduce_lanes(most, &mut |k, a, b| k.bin(Bin::Max, a, b))
    }

    /// A vector of a row's elements, of which there are so many; the others are zero.
    fn elements(&self, k: &mut Builder, from: Val, at: Val, count: i64) -> Val {
        let lanes = self.w.lanes;
        let ty = Ty::new(Elem::F32, lanes);
        let from = k.at_index(from, at, 4);
        if count >= i64::from(lanes) {
            return k.load(ty, from);
        }
        if k.has_masks() {
            let count = k.int(count);
            return k.load_part(ty, from, count);
        }
        let mut v = k.zero(ty);
        for lane in 0..count as u8 {
            let one = k.load(ty.with_lanes(1), Addr { offset: from.offset + 4 * i32::from(lane), ..from });
            v = k.with_lane(v, one, lane);
        }
        v
    }

    /// Digits of `count` elements from `at` on, and their sums.
    fn cut_block(&self, k: &mut Builder, (from, at, count): (Val, Val, i64), inverse: Val, high: Val, sums: Val) {
        let lanes = i64::from(self.w.lanes);
        let ty = Ty::new(Elem::I32, self.w.lanes);
        let zero = k.zero(ty);
        let whole = count / lanes * lanes;
        let end = k.add_int(at, whole);
        let state = k.fold_loop(at, end, lanes, &[zero, zero], &mut |k, at, state| {
            let next = self.cut_vector(k, (from, at, lanes), inverse, high, Sums { all: state[0], high: state[1] });
            vec![next.all, next.high]
        });
        let mut state = Sums { all: state[0], high: state[1] };
        let mut vectors = whole / lanes;
        // What fills the last step up is zero.
        while vectors * lanes < (count + ALIGNED - 1) / ALIGNED * ALIGNED {
            let at = k.add_int(at, vectors * lanes);
            state = self.cut_vector(k, (from, at, (count - vectors * lanes).max(0)), inverse, high, state);
            vectors += 1;
        }
        if self.per_block == 0 {
            return;
        }
        let add = &mut |k: &mut Builder, a: Val, b: Val| k.add(a, b);
        let scalar = ty.with_lanes(1);
        let all = k.reduce_lanes(state.all, add);
        let offset = k.int_of(MAGIC.wrapping_mul(vectors * lanes) as i32 as i64, scalar);
        let all = k.sub(all, offset);
        let shifted = |k: &mut Builder, v: Val, by: i64| {
            let by = k.int(by);
            k.bin(Bin::Shl, v, by)
        };
        let mut to = 0;
        let mut put = |k: &mut Builder, v: Val| {
            let at = k.at(sums, to);
            k.store(at, v);
            to += 4;
        };
        // Codes are 128 off.
        if !self.signed && self.wide {
            let tops = k.reduce_lanes(state.high, add);
            let offset = k.int_of((MAGIC >> 8) * vectors * lanes, scalar);
            let tops = k.sub(tops, offset);
            let upper = shifted(k, tops, 8);
            let low = k.sub(all, upper);
            for digits in [tops, low] {
                let correction = shifted(k, digits, 7);
                put(k, correction);
            }
        } else if !self.signed {
            let correction = shifted(k, all, 7);
            put(k, correction);
        }
        if self.w.zeros {
            let sum = k.convert(all, Elem::F32);
            let unit = k.float(-f64::from(1u32 << (8 - self.w.coded.bits)), scalar.with(Elem::F32));
            let sum = k.mul(sum, unit);
            put(k, sum);
        }
    }

    fn cut_vector(
        &self,
        k: &mut Builder,
        (from, at, count): (Val, Val, i64),
        inverse: Val,
        high: Val,
        sums: Sums,
    ) -> Sums {
        let x = if count > 0 { self.elements(k, from, at, count) } else { k.zero_like(inverse) };
        let magic = k.float(f64::from(f32::from_bits(MAGIC as u32)), k.ty(x));
        let rounded = k.fma(x, inverse, magic);
        let ty = k.ty(rounded).with(Elem::I32);
        let bits = k.bitcast(rounded, ty);
        let half = k.int_of(128, ty);
        let raised = k.add(bits, half);
        let eight = k.int(8);
        let tops = k.bin(Bin::Sar, raised, eight);
        let to = k.at_index(high, at, 1);
        numbers::store(k, DType::I8, to, tops);
        numbers::store(k, DType::I8, Addr { offset: to.offset + self.padded as i32, ..to }, bits);
        Sums { all: k.add(sums.all, bits), high: k.add(sums.high, tops) }
    }

    // ---- products ----

    /// The rows of a block in register tiles: full ones, then smaller ones. Only the last block has a rest.
    fn tiles(&self, k: &mut Builder, rows: &Dim, (first, last): (Val, Val), columns: &Columns) {
        let size = self.rows;
        let bound = k.add_int(last, 1 - size);
        k.for_each(first, bound, size, &mut |k, row| self.tile(k, first, row, size, columns));
        let mut done = &rows.floor_div(&Dim::from(size)) * &Dim::from(size);
        let rest = (rows - &done).as_const();
        let mut step = rest.unwrap_or(size / 2);
        while step > 0 {
            let until = &done + &(&(rows - &done).floor_div(&Dim::from(step)) * &Dim::from(step));
            let (start, end) = (k.dim(&done), k.dim(&until));
            let (start, end) = (k.bin(Bin::Max, start, first), k.bin(Bin::Min, end, last));
            k.for_each(start, end, step, &mut |k, row| self.tile(k, first, row, step, columns));
            done = until;
            step = if rest.is_some() { 0 } else { step / 2 };
        }
    }

    fn tile(&self, k: &mut Builder, first: Val, row: Val, rows: i64, columns: &Columns) {
        let local = k.sub(row, first);
        let scales: Vec<Val> = (0..rows)
            .map(|r| {
                let at = k.at_index(self.scales, local, 4);
                k.load(Ty::new(Elem::F32, 1), Addr { offset: at.offset + 4 * r as i32, ..at })
            })
            .collect();
        // NaN if one is.
        let mut all = scales[0];
        for &scale in &scales[1..] {
            all = k.add(all, scale);
        }
        let odd = k.cmp(Cmp::Ne, all, all);
        k.choose(
            odd,
            &mut |k| {
                let end = k.add_int(row, rows);
                k.for_each(row, end, 1, &mut |k, row| {
                    let from = self.w.row(k, row);
                    let sums = self.w.sums(k, columns, from);
                    self.w.store(k, columns, row, &sums);
                });
                Vec::new()
            },
            &mut |k| {
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
        let w = self.w;
        let size = rows as usize * columns.vectors as usize;
        let start = k.mul_int(local, 2 * self.padded);
        let digits = k.add(self.digits, start);
        let start = k.mul_int(local, w.blocks * self.per_block);
        let sums = k.add(self.sums, start);
        let block = w.coded.block as i64;
        let full = if w.blocks > 1 { w.depth / block } else { 0 };
        let nothing = k.zero(Ty::new(Elem::F32, w.lanes));
        let (zero, end) = (k.int(0), k.int(full * block));
        let mut state = vec![nothing; size];
        state.extend([columns.codes, columns.parameters, sums]);
        let one = |k: &mut Builder, at: Val, count: i64, state: &[Val], fresh: bool| {
            let (totals, rest) = state.split_at(size);
            let (codes, parameters, sums) = (rest[0], rest[1], rest[2]);
            let (bytes, codes) = self.block(k, (digits, at, count), codes, rows, columns.vectors);
            let mut next =
                self.scaled(k, &bytes, (parameters, sums), rows, columns.vectors, (!fresh).then_some(totals));
            next.push(codes);
            next.push(k.add_int(parameters, w.block_bytes()));
            next.push(k.add_int(sums, self.per_block));
            next
        };
        state = k.fold_loop(zero, end, block, &state, &mut |k, at, state| one(k, at, block, state, false));
        if full * block < w.depth {
            state = one(k, end, w.depth - full * block, &state, full == 0);
        }
        state.truncate(size);
        state
    }

    /// Sums of high and of low digits of a block: for each row, first those of the one, then of the other.
    fn block(
        &self,
        k: &mut Builder,
        (digits, at, count): (Val, Val, i64),
        codes: Val,
        rows: i64,
        vectors: u32,
    ) -> (Vec<Val>, Val) {
        let zero = k.zero(Ty::new(Elem::I32, self.w.lanes));
        let in_word = self.w.coded.in_word() as i64;
        let words = (count + in_word - 1) / in_word;
        let in_round = ROUND / in_word;
        let rounds = words / in_round;
        let mut state = vec![zero; 2 * rows as usize * vectors as usize];
        state.push(codes);
        let mut at = at;
        if rounds <= UNROLLED {
            for _ in 0..rounds {
                state = self.words(k, (digits, at, in_round), rows, vectors, &state);
                at = k.add_int(at, ROUND);
            }
        } else {
            let end = k.add_int(at, rounds * ROUND);
            state = k.fold_loop(at, end, ROUND, &state, &mut |k, at, state| {
                self.words(k, (digits, at, in_round), rows, vectors, state)
            });
            at = end;
        }
        let left = words - rounds * in_round;
        if left > 0 {
            state = self.words(k, (digits, at, left), rows, vectors, &state);
        }
        let codes = state.pop().unwrap_or(codes);
        (state, codes)
    }

    /// `count` words of codes with the digits from `at` on: a round, or less.
    fn words(
        &self,
        k: &mut Builder,
        (digits, at, count): (Val, Val, i64),
        rows: i64,
        vectors: u32,
        state: &[Val],
    ) -> Vec<Val> {
        let (w, bits) = (self.w, self.w.coded.bits);
        let mut state = state.to_vec();
        let Some(codes) = state.pop() else { return state };
        let from = k.at_index(digits, at, 1);
        let by_lane = w.e.site.target.arch == Arch::Aarch64;
        let steps = i64::from(8 / bits);
        let bytes = Ty::new(Elem::I8, 4 * w.lanes);
        // Where lanes are spread by instructions of their own, a round's digits are loaded once.
        let held: Option<Vec<Val>> = (by_lane && count * steps * 4 == ROUND).then(|| {
            (0..2 * rows)
                .map(|n| {
                    let from = Addr { offset: from.offset + (n * self.padded) as i32, ..from };
                    k.load(Ty::new(Elem::I8, ROUND as u32), from)
                })
                .collect()
        });
        for word in 0..count {
            let words: Vec<Val> = (0..vectors).map(|v| w.words(k, codes, v, word)).collect();
            for step in 0..steps {
                let weights: Vec<Val> = words.iter().map(|&v| self.four_elements(k, v, step as u32)).collect();
                let place = 4 * (word * steps + step);
                for (n, sums) in (0i64..).zip(state.chunks_mut(vectors as usize)) {
                    let left = match &held {
                        Some(held) => {
                            let pattern: Vec<u8> = (0..4 * w.lanes).map(|i| place as u8 + (i % 4) as u8).collect();
                            k.shuffle(held[n as usize], held[n as usize], &pattern)
                        }
                        None => {
                            // As a float, which emitters load into all lanes at once.
                            let offset = from.offset + (n * self.padded + place) as i32;
                            let four = k.load(Ty::new(Elem::F32, 1), Addr { offset, ..from });
                            let all = k.splat(four, w.lanes);
                            k.bitcast(all, bytes)
                        }
                    };
                    for (sum, &weights) in sums.iter_mut().zip(&weights) {
                        let kind = if self.signed { DotKind::S8S8 } else { DotKind::U8S8 };
                        *sum = k.dot(kind, weights, left, *sum);
                    }
                }
            }
        }
        state.push(k.add_int(codes, count * w.word_bytes()));
        state
    }

    /// Four neighbouring elements' codes in the top bits of their bytes.
    fn four_elements(&self, k: &mut Builder, words: Val, step: u32) -> Val {
        let (bits, ty) = (self.w.coded.bits, k.ty(words));
        let mut v = words;
        if step > 0 {
            let count = k.int((step * bits).into());
            v = k.bin(Bin::Shl, v, count);
        }
        if bits < 8 {
            let top = 0xff & (0xff << (8 - bits));
            let mask = k.int_of(i64::from((top * 0x0101_0101u32) as i32), ty);
            v = k.bin(Bin::And, v, mask);
        }
        if self.signed {
            let flip = k.int_of(i64::from(0x8080_8080u32 as i32), ty);
            v = k.bin(Bin::Xor, v, flip);
        }
        k.bitcast(v, Ty::new(Elem::I8, 4 * ty.lanes))
    }

    /// The sums of a block, corrected and scaled, added to `totals` if there are any.
    fn scaled(
        &self,
        k: &mut Builder,
        bytes: &[Val],
        (parameters, sums): (Val, Val),
        rows: i64,
        vectors: u32,
        totals: Option<&[Val]>,
    ) -> Vec<Val> {
        let (w, vectors) = (self.w, vectors as usize);
        let parameters: Vec<(Val, Option<Val>)> = (0..vectors).map(|v| w.parameters(k, parameters, v as u32)).collect();
        let mut results = Vec::with_capacity(rows as usize * vectors);
        for r in 0..rows as usize {
            let row = r as i64 * w.blocks * self.per_block;
            let everywhere = |k: &mut Builder, offset: i64, elem: Elem| {
                let from = k.at(sums, (row + offset) as i32);
                let one = k.load(Ty::new(Elem::F32, 1), from);
                let all = k.splat(one, w.lanes);
                k.bitcast(all, Ty::new(elem, w.lanes))
            };
            for v in 0..vectors {
                let (high, low) = (bytes[2 * r * vectors + v], bytes[(2 * r + 1) * vectors + v]);
                let mut sum = if self.wide {
                    let (mut high, mut low) = (high, low);
                    if !self.signed {
                        let (h, l) = (everywhere(k, 0, Elem::I32), everywhere(k, 4, Elem::I32));
                        (high, low) = (k.sub(high, h), k.sub(low, l));
                    }
                    let (high, low) = (k.convert(high, Elem::F32), k.convert(low, Elem::F32));
                    let base = k.float(256.0, k.ty(high));
                    k.fma(high, base, low)
                } else {
                    let eight = k.int(8);
                    let high = k.bin(Bin::Shl, high, eight);
                    let mut sum = k.add(high, low);
                    if !self.signed {
                        let correction = everywhere(k, 0, Elem::I32);
                        sum = k.sub(sum, correction);
                    }
                    k.convert(sum, Elem::F32)
                };
                let (scale, zero) = parameters[v];
                if let Some(zero) = zero {
                    let all = everywhere(k, self.per_block - 4, Elem::F32);
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
