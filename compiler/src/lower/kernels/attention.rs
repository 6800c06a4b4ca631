//! Attention without the matrix of scores: a block of queries at a time goes over blocks of keys.
//!
//! Scores of a block are kept with a row for each key and a lane for each query: the softmax then needs nothing across
//! lanes, keys and values are read where they are, and only the queries are turned. The softmax streams: when a block of
//! keys has a larger maximum, what was summed before is scaled down, so that scratch memory does not grow with the number
//! of keys. Rounds of the parallel loops are blocks of queries of one head.
//!
//! A maximum is at least the least finite number, so that a block of scores that are all negative infinity leaves zeros and
//! not NaN; where all blocks are such, the sum is zero and the result NaN, as without blocks.

use mcc_targets::{Arch, schedule};

use super::nest::{columns, pointer_at};
use super::pointwise::turn_block;
use super::{Emit, Site};
use crate::ir::{Dim, TensorType};
use crate::lower::kir::{Bin, Builder, Cmp, Elem, Ty, Val};
use crate::lower::math;
use crate::{Error, Result};

/// Vectors of queries in a block.
const VECTORS: u32 = 4;

/// Most keys in a block.
const KEYS: i64 = 320;

/// Bytes of an element.
const SIZE: i64 = 4;

/// [`Op::Attention`](crate::ir::Op::Attention).
pub(super) fn attention(site: &Site<'_>, e: &Emit<'_>, k: &mut Builder, scale: f64) -> Result<()> {
    let malformed = || Error::internal(format!("attention of {:?}", site.operands));
    let fixed = |ty: &TensorType, axis: usize| ty.shape.get(axis).and_then(Dim::as_const).ok_or_else(malformed);
    let [q, keys, values, mask @ ..] = site.operands else { return Err(malformed()) };
    let [batch, queries, ..] = q.shape.as_slice() else { return Err(malformed()) };
    let (heads, groups) = (fixed(q, 2)?, fixed(keys, 2)?);
    let lanes = site.target.vector_bytes / SIZE as u32;
    let count = keys.shape[1].clone();
    let block = match count.as_const() {
        Some(n) if n > 0 => (n + (n + KEYS - 1) / KEYS - 1) / ((n + KEYS - 1) / KEYS),
        _ => KEYS,
    };
    let (depth, width) = (fixed(q, 3)?, fixed(values, 3)?);
    let row = i64::from(VECTORS * lanes) * SIZE;
    let padded = (width + i64::from(lanes) - 1) / i64::from(lanes) * i64::from(lanes) * SIZE;
    let full_mask = mask.first().is_some_and(|mask| !mask.shape[2].is(1));
    let mut scratch = |bytes: i64| e.scratch(k, Dim::from(bytes));
    let a = Attention {
        e,
        scale,
        heads,
        group: heads / groups.max(1),
        depth,
        width,
        count,
        block,
        queries: queries.clone(),
        mask: mask.first(),
        lanes,
        by_lane: site.target.arch == Arch::Aarch64,
        rows_of: &|vectors| schedule::tile(site.target, vectors).rows,
        padded,
        turned: scratch(depth * row),
        scores: scratch(block * row),
        masks: if full_mask { Some(scratch(block * row)) } else { None },
        sums: scratch(row / SIZE * padded),
        stats: scratch(3 * row),
    };
    let all = k.dim(&(batch * &Dim::from(heads)));
    let unit = i64::from(VECTORS * lanes);
    let whole = queries.floor_div(&Dim::from(unit));
    let (blocks, done) = (k.dim(&whole), k.dim(&(&whole * &Dim::from(unit))));
    let rest = queries - &(&whole * &Dim::from(unit));
    if !whole.is(0) {
        k.parallel_pairs(all, blocks, &mut |k, head, i| {
            let (first, rows) = (k.mul_int(i, unit), k.int(unit));
            a.block(k, head, first, rows, VECTORS);
        });
    }
    if rest.is(0) {
        return Ok(());
    }
    let (zero, rest_val) = (k.int(0), k.dim(&rest));
    k.parallel(zero, all, 1, &mut |k, head| match rest.as_const() {
        Some(rest) => a.block(k, head, done, rest_val, (rest as u32).div_ceil(lanes)),
        None => k.for_each(zero, rest_val, lanes.into(), &mut |k, i| {
            let (first, left, most) = (k.add(done, i), k.sub(rest_val, i), k.int(lanes.into()));
            let rows = k.bin(Bin::Min, left, most);
            a.block(k, head, first, rows, 1);
        }),
    });
    Ok(())
}

struct Attention<'a, 'b> {
    e: &'b Emit<'a>,
    scale: f64,
    heads: i64,
    /// Heads that share keys and values.
    group: i64,
    /// Elements of a query.
    depth: i64,
    /// Elements of a value.
    width: i64,
    /// Keys.
    count: Dim,
    /// Keys in a block.
    block: i64,
    queries: Dim,
    mask: Option<&'b TensorType>,
    lanes: u32,
    /// Whether the target multiplies by an element of a vector.
    by_lane: bool,
    /// Rows of the register tile for some vectors of columns.
    rows_of: &'b dyn Fn(u32) -> u32,
    /// Bytes of a row of `sums`.
    padded: i64,
    /// Scratch memory: the block's queries, a row for each of their elements.
    turned: Val,
    /// A row for each key of a block.
    scores: Val,
    /// The mask of a block, if it has a row for each query: a row for each key.
    masks: Option<Val>,
    /// A row for each query of the block: the result before its division.
    sums: Val,
    /// For each query of the block: the maximum so far, the sum of exponentials, and what scales earlier sums.
    stats: Val,
}

/// Left rows of a product.
enum Left {
    /// Pointers of rows whose contracted elements are adjacent.
    Along(Vec<Val>),
    /// A pointer to as many adjacent rows, and bytes between their contracted elements.
    Across(Val, i64),
}

impl Attention<'_, '_> {
    fn ty(&self) -> Ty {
        Ty::new(Elem::F32, self.lanes)
    }

    /// A block of `rows` queries from `first` on, in so many vectors.
    fn block(&self, k: &mut Builder, head: Val, first: Val, rows: Val, vectors: u32) {
        let (heads, group) = (k.int(self.heads), k.int(self.group));
        let batch = k.bin(Bin::UDiv, head, heads);
        let skip = k.mul(batch, heads);
        let head = k.sub(head, skip);
        let shared = k.bin(Bin::UDiv, head, group);
        let (groups, queries, count) = (self.heads / self.group, k.dim(&self.queries), k.dim(&self.count));
        // Where a token's part of a head begins.
        let at = |k: &mut Builder, operand: usize, (tokens, token): (Val, Val), heads: i64, head: Val, size: i64| {
            let token = {
                let start = k.mul(batch, tokens);
                k.add(start, token)
            };
            let place = k.mul_int(token, heads);
            let place = k.add(place, head);
            let place = k.mul_int(place, size);
            pointer_at(k, self.e.operand(operand), place, SIZE as usize)
        };
        let zero = k.int(0);
        let q = at(k, 0, (queries, first), self.heads, head, self.depth);
        let keys = at(k, 1, (count, zero), groups, shared, self.depth);
        let values = at(k, 2, (count, zero), groups, shared, self.width);
        let mask = self.mask.map(|mask| self.mask_at(k, mask, (batch, head, first)));
        let (row, steps) = (i64::from(vectors * self.lanes) * SIZE, k.int(self.heads * self.depth * SIZE));
        let (to_step, depth) = (k.int(row), k.int(self.depth));
        turn(k, (q, steps), (self.turned, to_step), (rows, depth));
        if self.scale != 1.0 {
            let factor = k.float(self.scale, self.ty());
            k.for_each(zero, depth, 1, &mut |k, t| {
                for v in 0..vectors {
                    let at = self.lane_at(k, self.turned, t, row, v);
                    let x = k.load(self.ty(), at);
                    let x = k.mul(x, factor);
                    k.store(at, x);
                }
            });
        }
        self.clear(k, rows, vectors);
        k.for_each(zero, count, self.block, &mut |k, start| {
            let (left, most) = (k.sub(count, start), k.int(self.block));
            let held = k.bin(Bin::Min, left, most);
            let (key_step, value_step) = (groups * self.depth, groups * self.width);
            let mut part = |base: Val, step: i64| {
                let offset = k.mul_int(start, step * SIZE);
                k.add(base, offset)
            };
            let (keys, values) = (part(keys, key_step), part(values, value_step));
            let mask = mask.map(|(pointer, step)| (part(pointer, 1), step));
            self.score(k, (keys, key_step * SIZE), held, vectors);
            if let (Some((pointer, step)), Some(masks)) = (mask, self.masks) {
                turn(k, (pointer, step), (masks, to_step), (rows, held));
            }
            self.exponentials(k, mask.map(|m| m.0), held, vectors);
            self.weigh(k, (values, value_step * SIZE), held, rows, row);
        });
        let row_of = k.mul(batch, queries);
        let row_of = k.add(row_of, first);
        self.finish(k, (row_of, head), rows);
    }

    /// Pointer to the mask of a block's first query, and bytes between its queries.
    fn mask_at(&self, k: &mut Builder, mask: &TensorType, place: (Val, Val, Val)) -> (Val, Val) {
        let mut index = k.int(0);
        for (extent, i) in mask.shape.iter().zip([place.0, place.1, place.2]) {
            let extent_val = k.dim(extent);
            index = k.mul(index, extent_val);
            if !extent.is(1) {
                index = k.add(index, i);
            }
        }
        let keys = k.dim(&mask.shape[3]);
        let index = k.mul(index, keys);
        (pointer_at(k, self.e.operand(3), index, SIZE as usize), k.mul_int(keys, SIZE))
    }

    /// Vector `v` of row `i` of scratch memory.
    fn lane_at(&self, k: &mut Builder, base: Val, i: Val, row: i64, v: u32) -> crate::lower::kir::Addr {
        let offset = k.mul_int(i, row);
        let base = k.add(base, offset);
        k.at(base, (v * self.ty().bytes()) as i32)
    }

    /// Vector `v` of a row of statistics.
    fn stat(&self, k: &mut Builder, n: u32, v: u32) -> crate::lower::kir::Addr {
        k.at(self.stats, ((n * VECTORS + v) * self.ty().bytes()) as i32)
    }

    fn clear(&self, k: &mut Builder, rows: Val, vectors: u32) {
        let (least, none) = (k.float(f64::from(f32::MIN), self.ty()), k.zero(self.ty()));
        for v in 0..vectors {
            for (n, value) in [(0, least), (1, none)] {
                let to = self.stat(k, n, v);
                k.store(to, value);
            }
        }
        let (zero, bytes) = (k.int(0), k.mul_int(rows, self.padded));
        k.for_each(zero, bytes, self.ty().bytes().into(), &mut |k, at| {
            let to = k.at_index(self.sums, at, 1);
            k.store(to, none);
        });
    }

    /// Products of the keys with the turned queries.
    fn score(&self, k: &mut Builder, (keys, step): (Val, i64), held: Val, vectors: u32) {
        let row = i64::from(vectors * self.lanes) * SIZE;
        let width = (1..=vectors).rev().find(|w| vectors.is_multiple_of(*w) && (self.rows_of)(*w) > 1).unwrap_or(1);
        let depth = k.int(self.depth);
        for first in (0..vectors).step_by(width as usize) {
            let offset = i64::from(first * self.ty().bytes());
            let right = k.add_int(self.turned, offset);
            tiles(k, held, (self.rows_of)(width), &mut |k, j, rows| {
                let skip = k.mul_int(j, step);
                let first_key = k.add(keys, skip);
                let pointers = (0..rows).map(|r| k.add_int(first_key, i64::from(r) * step)).collect();
                let none = k.zero(self.ty());
                let init = vec![none; (rows * width) as usize];
                let sums = self.product(k, &Left::Along(pointers), (right, row), depth, (rows, width, None), init);
                for r in 0..rows {
                    let j = k.add_int(j, r.into());
                    for v in 0..width {
                        let to = self.lane_at(k, self.scores, j, row, first + v);
                        k.store(to, sums[(r * width + v) as usize]);
                    }
                }
            });
        }
    }

    /// Scores become exponentials; `mask` has one row for all queries unless it lies turned in scratch memory.
    fn exponentials(&self, k: &mut Builder, mask: Option<Val>, held: Val, vectors: u32) {
        let (ty, zero) = (self.ty(), k.int(0));
        let row = i64::from(vectors * self.lanes) * SIZE;
        let all = |k: &mut Builder, n: u32| -> Vec<Val> {
            (0..vectors)
                .map(|v| {
                    let from = self.stat(k, n, v);
                    k.load(ty, from)
                })
                .collect()
        };
        let before = all(k, 0);
        let most = k.fold_loop(zero, held, 1, &before, &mut |k, j, most| {
            let level = mask.filter(|_| self.masks.is_none()).map(|mask| {
                let from = k.at_index(mask, j, SIZE as u32);
                let one = k.load(Ty::new(Elem::F32, 1), from);
                k.splat(one, self.lanes)
            });
            let next = most.iter().enumerate().map(|(v, &most)| {
                let at = self.lane_at(k, self.scores, j, row, v as u32);
                let mut score = k.load(ty, at);
                let added = level.or_else(|| {
                    let from = self.lane_at(k, self.masks?, j, row, v as u32);
                    Some(k.load(ty, from))
                });
                if let Some(added) = added {
                    score = k.add(score, added);
                    k.store(at, score);
                }
                // A NaN need not be the maximum: it stays among the exponentials.
                let larger = k.cmp(Cmp::Gt, score, most);
                k.select(larger, score, most)
            });
            next.collect()
        });
        let mut sums = all(k, 1);
        for v in 0..vectors as usize {
            let fall = k.sub(before[v], most[v]);
            let fall = math::exp_nonpositive(k, fall);
            sums[v] = k.mul(sums[v], fall);
            for (n, value) in [(0, most[v]), (2, fall)] {
                let to = self.stat(k, n, v as u32);
                k.store(to, value);
            }
        }
        let sums = k.fold_loop(zero, held, 1, &sums, &mut |k, j, sums| {
            let next = sums.iter().enumerate().map(|(v, &sum)| {
                let at = self.lane_at(k, self.scores, j, row, v as u32);
                let score = k.load(ty, at);
                let score = k.sub(score, most[v]);
                let p = math::exp_nonpositive(k, score);
                k.store(at, p);
                k.add(sum, p)
            });
            next.collect()
        });
        for (v, &sum) in sums.iter().enumerate() {
            let to = self.stat(k, 1, v as u32);
            k.store(to, sum);
        }
    }

    /// Adds products of the exponentials with values to the sums, which are scaled down first.
    fn weigh(&self, k: &mut Builder, (values, step): (Val, i64), held: Val, rows: Val, row: i64) {
        let lanes = i64::from(self.lanes);
        let whole = self.width / lanes;
        let most = (1..=4).rev().find(|&w| whole % w == 0 && (self.rows_of)(w as u32) > 1).unwrap_or(1);
        let (zero, end) = (k.int(0), k.int(whole * lanes));
        k.for_each(zero, end, most * lanes, &mut |k, column| {
            self.weigh_columns(k, (values, step), held, (rows, row), column, (most as u32, self.lanes, None));
        });
        let rest = self.width - whole * lanes;
        if rest == 0 {
            return;
        }
        if k.has_masks() {
            let count = k.int(rest);
            return self.weigh_columns(k, (values, step), held, (rows, row), end, (1, self.lanes, Some(count)));
        }
        let all = k.int(self.width);
        k.for_each(end, all, 1, &mut |k, column| {
            self.weigh_columns(k, (values, step), held, (rows, row), column, (1, 1, None));
        });
    }

    fn weigh_columns(
        &self,
        k: &mut Builder,
        (values, step): (Val, i64),
        held: Val,
        (rows, row): (Val, i64),
        column: Val,
        (vectors, lanes, part): (u32, u32, Option<Val>),
    ) {
        let ty = Ty::new(Elem::F32, lanes);
        let right = pointer_at(k, values, column, SIZE as usize);
        let sums = pointer_at(k, self.sums, column, SIZE as usize);
        let scales = k.add_int(self.stats, i64::from(2 * VECTORS * self.ty().bytes()));
        // Several of four rows, where a vector holds four.
        let most = (self.rows_of)(vectors);
        let most = if self.by_lane && most > 4 { most / 4 * 4 } else { most };
        tiles(k, rows, most, &mut |k, first, count| {
            let places: Vec<_> = (0..count)
                .flat_map(|r| (0..vectors).map(move |v| (r, v)))
                .map(|(r, v)| {
                    let i = k.add_int(first, r.into());
                    let offset = k.mul_int(i, self.padded);
                    let base = k.add(sums, offset);
                    k.at(base, (v * ty.bytes()) as i32)
                })
                .collect();
            let init = places.iter().enumerate().map(|(n, &place)| {
                let i = k.add_int(first, n as i64 / i64::from(vectors));
                let scale = k.at_index(scales, i, SIZE as u32);
                let scale = k.load(Ty::new(Elem::F32, 1), scale);
                let (scale, sum) = (k.splat(scale, lanes), k.load(ty, place));
                k.mul(sum, scale)
            });
            let init = init.collect();
            let left = Left::Across(pointer_at(k, self.scores, first, SIZE as usize), row);
            let done = self.product(k, &left, (right, step), held, (count, vectors, Some((lanes, part))), init);
            for (&place, &sum) in places.iter().zip(&done) {
                k.store(place, sum);
            }
        });
    }

    /// `init` and the products of left rows with right vectors over `depth` contracted elements. `right` is a pointer and the
    /// bytes between contracted elements; the last part is the lanes of a vector and of how many there is memory, unless
    /// all.
    fn product(
        &self,
        k: &mut Builder,
        left: &Left,
        right: (Val, i64),
        depth: Val,
        (rows, vectors, narrow): (u32, u32, Option<(u32, Option<Val>)>),
        init: Vec<Val>,
    ) -> Vec<Val> {
        let (lanes, part) = narrow.unwrap_or((self.lanes, None));
        let (ty, one) = (Ty::new(Elem::F32, lanes), Ty::new(Elem::F32, 1));
        // Rounds of a vector's length let each row be one vector of contracted elements.
        let unroll = i64::from(if self.by_lane { self.lanes } else { 4 });
        let round = |k: &mut Builder, at: Val, count: i64, state: &[Val]| -> Vec<Val> {
            let size = state.len() - 2;
            let (mut sums, pointers) = (state[..size].to_vec(), [state[size], state[size + 1]]);
            let spread = lanes > 1 && self.by_lane;
            let along: Vec<Val> = match left {
                Left::Along(rows) if spread && count == i64::from(self.lanes) => rows
                    .iter()
                    .map(|&row| {
                        let from = k.at_index(row, at, SIZE as u32);
                        k.load(self.ty(), from)
                    })
                    .collect(),
                _ => Vec::new(),
            };
            for element in 0..count {
                let columns: Vec<Val> = (0..vectors)
                    .map(|v| {
                        let from = k.at(pointers[0], (element * right.1) as i32 + (v * ty.bytes()) as i32);
                        let mut loaded = None;
                        match part {
                            Some(count) => k.partly(count, lanes, &mut |k| loaded = Some(k.load(ty, from))),
                            None => loaded = Some(k.load(ty, from)),
                        }
                        loaded.unwrap_or(state[0])
                    })
                    .collect();
                let across: Vec<Val> = match left {
                    &Left::Across(_, step) if spread && rows.is_multiple_of(4) => (0..rows / 4)
                        .map(|four| {
                            let from = k.at(pointers[1], (element * step) as i32 + 16 * four as i32);
                            k.load(self.ty(), from)
                        })
                        .collect(),
                    _ => Vec::new(),
                };
                for r in 0..rows {
                    let sums = &mut sums[(r * vectors) as usize..][..vectors as usize];
                    let held = along.get(r as usize).map(|&held| (held, element as u8));
                    let held = held.or_else(|| across.get(r as usize / 4).map(|&held| (held, (r % 4) as u8)));
                    if let Some((held, lane)) = held {
                        sums.iter_mut().zip(&columns).for_each(|(sum, &c)| *sum = k.fma_lane(c, held, lane, *sum));
                        continue;
                    }
                    let from = match left {
                        Left::Along(rows) => {
                            let from = k.at_index(rows[r as usize], at, SIZE as u32);
                            crate::lower::kir::Addr { offset: from.offset + (element * SIZE) as i32, ..from }
                        }
                        &Left::Across(_, step) => k.at(pointers[1], (element * step + i64::from(r) * SIZE) as i32),
                    };
                    let scalar = k.load(one, from);
                    let all = k.splat(scalar, lanes);
                    sums.iter_mut().zip(&columns).for_each(|(sum, &c)| *sum = k.fma(c, all, *sum));
                }
            }
            let next = k.add_int(pointers[0], count * right.1);
            let other = match left {
                Left::Along(_) => pointers[1],
                &Left::Across(_, step) => k.add_int(pointers[1], count * step),
            };
            sums.extend([next, other]);
            sums
        };
        let (zero, whole) = (k.int(0), super::nest::round_down(k, depth, unroll as u32));
        let mut state = init;
        let size = state.len();
        let other = match left {
            Left::Along(_) => right.0,
            Left::Across(pointer, _) => *pointer,
        };
        state.extend([right.0, other]);
        let state = k.fold_loop(zero, whole, unroll, &state, &mut |k, at, state| round(k, at, unroll, state));
        let state = k.fold_loop(whole, depth, 1, &state, &mut |k, at, state| round(k, at, 1, state));
        state[..size].to_vec()
    }

    /// Divides by the sums of exponentials and stores.
    fn finish(&self, k: &mut Builder, (token, head): (Val, Val), rows: Val) {
        let (zero, width) = (k.int(0), k.int(self.width));
        let sums = k.add_int(self.stats, i64::from(VECTORS * self.ty().bytes()));
        k.for_each(zero, rows, 1, &mut |k, i| {
            let from = k.at_index(sums, i, SIZE as u32);
            let one = Ty::new(Elem::F32, 1);
            let (sum, unit) = (k.load(one, from), k.float(1.0, one));
            let factor = k.bin(Bin::Div, unit, sum);
            let row = k.add(token, i);
            let row = k.mul_int(row, self.heads);
            let row = k.add(row, head);
            let offset = k.mul_int(i, self.padded);
            let from = k.add(self.sums, offset);
            columns(k, zero, width, self.lanes, &mut |k, column, lanes| {
                let at = k.at_index(from, column, SIZE as u32);
                let v = k.load(Ty::new(Elem::F32, lanes), at);
                let factor = k.splat(factor, lanes);
                let v = k.mul(v, factor);
                self.e.store(k, row, column, v);
            });
        });
    }
}

/// Visits `0..count` in tiles of `most`, and what remains in one tile, or one by one where it is not known how many remain.
fn tiles(k: &mut Builder, count: Val, most: u32, body: &mut dyn FnMut(&mut Builder, Val, u32)) {
    let (zero, step) = (k.int(0), i64::from(most));
    if let Some(n) = k.as_int(count) {
        let whole = k.int(n / step * step);
        k.for_each(zero, whole, step, &mut |k, i| body(k, i, most));
        if n % step != 0 {
            body(k, whole, (n % step) as u32);
        }
        return;
    }
    let step_val = k.int(step);
    let whole = k.bin(Bin::UDiv, count, step_val);
    let whole = k.mul_int(whole, step);
    k.for_each(zero, whole, step, &mut |k, i| body(k, i, most));
    k.for_each(whole, count, 1, &mut |k, i| body(k, i, 1));
}

/// Turns rows into columns: pointers and bytes between rows, then how many rows and columns.
fn turn(k: &mut Builder, from: (Val, Val), to: (Val, Val), (rows, columns): (Val, Val)) {
    let (zero, ty) = (k.int(0), Ty::new(Elem::F32, 1));
    let at = |k: &mut Builder, (base, step): (Val, Val), row: Val, column: Val| {
        let offset = k.mul(row, step);
        let base = k.add(base, offset);
        pointer_at(k, base, column, SIZE as usize)
    };
    let single = |k: &mut Builder, row: Val, column: Val| {
        let (from, to) = (at(k, from, row, column), at(k, to, column, row));
        let (from, to) = (k.at(from, 0), k.at(to, 0));
        let v = k.load(ty, from);
        k.store(to, v);
    };
    let (whole_rows, whole_columns) = (super::nest::round_down(k, rows, 4), super::nest::round_down(k, columns, 4));
    k.for_each(zero, whole_rows, 4, &mut |k, row| {
        k.for_each(zero, whole_columns, 4, &mut |k, column| {
            let (source, target) = (at(k, from, row, column), at(k, to, column, row));
            turn_block(k, source, from.1, target, to.1);
        });
        k.for_each(whole_columns, columns, 1, &mut |k, column| {
            for r in 0..4 {
                let row = k.add_int(row, r);
                single(k, row, column);
            }
        });
    });
    k.for_each(whole_rows, rows, 1, &mut |k, row| {
        k.for_each(zero, columns, 1, &mut |k, column| single(k, row, column));
    });
}
