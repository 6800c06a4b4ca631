//! Attention without the matrix of scores: a block of queries at a time visits blocks of keys.
//!
//! The scores of a block have one row per key and one lane per query: the softmax needs no operations across lanes,
//! keys and values are read in place, and only the queries are transposed. The softmax is online: when a block of keys
//! has a larger maximum, the previous sums are scaled down, so scratch memory does not grow with the number of keys.
//! Rounds of the parallel loops are blocks of queries of one head.
//!
//! A maximum is at least the lowest finite number, so that a block of scores that are all negative infinity gives zeros
//! instead of NaN; if all blocks are such, the sum is zero and the result NaN, as without blocks.

use mcc_targets::schedule::loops::{ATTENTION_QUERY_VECTORS, MAX_ATTENTION_KEYS};
use mcc_targets::{Arch, schedule};

use crate::kernels::gemm::strided::{Left, Products, Right, StridedRows, StridedTile, tiles, transpose};
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{columns, pointer_at};
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Val};
use crate::math;
use mcc_ir::{Dim, Error, Result, TensorType};

/// Bytes of an element.
const SIZE: i64 = 4;

/// [`Op::Attention`](mcc_ir::Op::Attention).
pub(crate) fn attention(
    request: &KernelRequest<'_>,
    e: &Emit<'_>,
    k: &mut Builder,
    scale: f64,
    guarded: bool,
) -> Result<()> {
    let malformed = || Error::internal(format!("attention of {:?}", request.operands));
    let fixed = |ty: &TensorType, axis: usize| ty.shape.get(axis).and_then(Dim::as_const).ok_or_else(malformed);
    let [q, keys, values, mask @ ..] = request.operands else { return Err(malformed()) };
    let [batch, queries, ..] = q.shape.as_slice() else { return Err(malformed()) };
    let (heads, groups) = (fixed(q, 2)?, fixed(keys, 2)?);
    let lanes = request.config.target.vector_bytes / SIZE as u32;
    let count = keys.shape[1].clone();
    let block = match count.as_const() {
        Some(n) if n > 0 => {
            (n + (n + MAX_ATTENTION_KEYS - 1) / MAX_ATTENTION_KEYS - 1)
                / ((n + MAX_ATTENTION_KEYS - 1) / MAX_ATTENTION_KEYS)
        }
        _ => MAX_ATTENTION_KEYS,
    };
    let (depth, width) = (fixed(q, 3)?, fixed(values, 3)?);
    let row = i64::from(ATTENTION_QUERY_VECTORS * lanes) * SIZE;
    let padded = (width + i64::from(lanes) - 1) / i64::from(lanes) * i64::from(lanes) * SIZE;
    let full_mask = mask.first().is_some_and(|mask| !mask.shape[2].is(1));
    let mut scratch = |bytes: i64| e.scratch(k, Dim::from(bytes));
    let a = Attention {
        e,
        scale,
        guarded,
        heads,
        group: heads / groups.max(1),
        depth,
        width,
        count,
        block,
        queries: queries.clone(),
        mask: mask.first(),
        lanes,
        products: Products { lanes, by_lane: request.config.target.arch == Arch::Aarch64 },
        rows_of: &|vectors| schedule::products::tile(&request.config.target, vectors).rows,
        padded,
        transposed: scratch(depth * row),
        scores: scratch(block * row),
        masks: if full_mask { Some(scratch(block * row)) } else { None },
        sums: scratch(row / SIZE * padded),
        stats: scratch(3 * row),
    };
    let all = k.dim(&(batch * &Dim::from(heads)));
    let unit = i64::from(ATTENTION_QUERY_VECTORS * lanes);
    let whole = queries.floor_div(&Dim::from(unit));
    let (blocks, done) = (k.dim(&whole), k.dim(&(&whole * &Dim::from(unit))));
    let rest = queries - &(&whole * &Dim::from(unit));
    if !whole.is(0) {
        k.parallel_pairs(all, blocks, |k, head, i| {
            let (first, rows) = (k.mul_int(i, unit), k.int(unit));
            a.block(k, head, first, rows, ATTENTION_QUERY_VECTORS);
        });
    }
    if rest.is(0) {
        return Ok(());
    }
    let (zero, rest_val) = (k.int(0), k.dim(&rest));
    k.parallel(zero, all, 1, |k, head| match rest.as_const() {
        Some(rest) => a.block(k, head, done, rest_val, (rest as u32).div_ceil(lanes)),
        None => k.for_each(zero, rest_val, lanes.into(), |k, i| {
            let (first, left, most) = (k.add(done, i), k.sub(rest_val, i), k.int(lanes.into()));
            let rows = k.bin(Bin::Min, left, most);
            a.block(k, head, first, rows, 1);
        }),
    });
    Ok(())
}

/// Rows of scores, one lane per query.
#[derive(Clone, Copy)]
struct ScoreRows {
    count: Val,
    /// Bytes of a key's row.
    bytes: i64,
}

struct Attention<'a, 'b> {
    e: &'b Emit<'a>,
    scale: f64,
    /// Whether the results of queries without any key are zeros.
    guarded: bool,
    heads: i64,
    /// Heads that share keys and values.
    group: i64,
    /// Elements of a query.
    depth: i64,
    /// Elements of a value.
    width: i64,
    /// Number of keys.
    count: Dim,
    /// Keys per block.
    block: i64,
    queries: Dim,
    mask: Option<&'b TensorType>,
    lanes: u32,
    products: Products,
    /// Rows of the register tile for a number of vectors of columns.
    rows_of: &'b dyn Fn(u32) -> u32,
    /// Bytes of a row of `sums`.
    padded: i64,
    /// Scratch memory: the block's queries, one row per element of a query.
    transposed: Val,
    /// One row per key of a block.
    scores: Val,
    /// The mask of a block, one row per key, if the mask has a row for each query.
    masks: Option<Val>,
    /// One row per query of the block: the undivided result.
    sums: Val,
    /// For each query of the block: the maximum so far, the sum of exponentials, and the scale of earlier sums.
    stats: Val,
}

impl Attention<'_, '_> {
    fn ty(&self) -> Ty {
        Ty::new(Elem::F32, self.lanes)
    }

    /// A block of `rows` queries, starting at `first`, in `vectors` vectors.
    fn block(&self, k: &mut Builder, head: Val, first: Val, rows: Val, vectors: u32) {
        let (heads, group) = (k.int(self.heads), k.int(self.group));
        let batch = k.bin(Bin::UDiv, head, heads);
        let skip = k.mul(batch, heads);
        let head = k.sub(head, skip);
        let shared = k.bin(Bin::UDiv, head, group);
        let (groups, queries, count) = (self.heads / self.group, k.dim(&self.queries), k.dim(&self.count));
        // Pointer to a token's part of a head.
        let at = |k: &mut Builder, operand: usize, tokens: Val, token: Val, heads: i64, head: Val, size: i64| {
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
        let q = at(k, 0, queries, first, self.heads, head, self.depth);
        let keys = at(k, 1, count, zero, groups, shared, self.depth);
        let values = at(k, 2, count, zero, groups, shared, self.width);
        let mask = self.mask.map(|mask| self.mask_at(k, mask, [batch, head, first]));
        let (row, steps) = (i64::from(vectors * self.lanes) * SIZE, k.int(self.heads * self.depth * SIZE));
        let (to_step, depth) = (k.int(row), k.int(self.depth));
        let transposed = StridedRows { base: self.transposed, step: to_step };
        transpose(k, StridedRows { base: q, step: steps }, transposed, rows, depth);
        if self.scale != 1.0 {
            let factor = k.float(self.scale, self.ty());
            k.for_each(zero, depth, 1, |k, t| {
                for v in 0..vectors {
                    let at = self.lane_at(k, self.transposed, t, row, v);
                    let x = k.load(self.ty(), at);
                    let x = k.mul(x, factor);
                    k.store(at, x);
                }
            });
        }
        self.clear(k, rows, vectors);
        k.for_each(zero, count, self.block, |k, start| {
            let (left, most) = (k.sub(count, start), k.int(self.block));
            let held = k.bin(Bin::Min, left, most);
            let (key_step, value_step) = (groups * self.depth, groups * self.width);
            let mut part = |base: Val, step: i64| {
                let offset = k.mul_int(start, step * SIZE);
                k.add(base, offset)
            };
            let (keys, values) = (part(keys, key_step), part(values, value_step));
            let mask = mask.map(|mask| StridedRows { base: part(mask.base, 1), ..mask });
            self.score(k, keys, key_step * SIZE, held, vectors);
            if let (Some(mask), Some(masks)) = (mask, self.masks) {
                transpose(k, mask, StridedRows { base: masks, step: to_step }, rows, held);
            }
            self.exponentials(k, mask.map(|mask| mask.base), held, vectors);
            let values = Right { pointer: values, step: value_step * SIZE };
            self.weigh(k, values, held, ScoreRows { count: rows, bytes: row });
        });
        let row_of = k.mul(batch, queries);
        let row_of = k.add(row_of, first);
        self.finish(k, row_of, head, rows);
    }

    /// The mask of a block: one row per query, the first of which is at `place`.
    fn mask_at(&self, k: &mut Builder, mask: &TensorType, place: [Val; 3]) -> StridedRows {
        let mut index = k.int(0);
        for (extent, i) in mask.shape.iter().zip(place) {
            let extent_val = k.dim(extent);
            index = k.mul(index, extent_val);
            if !extent.is(1) {
                index = k.add(index, i);
            }
        }
        let keys = k.dim(&mask.shape[3]);
        let index = k.mul(index, keys);
        StridedRows { base: pointer_at(k, self.e.operand(3), index, SIZE as usize), step: k.mul_int(keys, SIZE) }
    }

    /// Vector `v` of row `i` of scratch memory.
    fn lane_at(&self, k: &mut Builder, base: Val, i: Val, row: i64, v: u32) -> crate::kir::Addr {
        let offset = k.mul_int(i, row);
        let base = k.add(base, offset);
        k.at(base, (v * self.ty().bytes()) as i32)
    }

    /// Vector `v` of a row of statistics.
    fn stat(&self, k: &mut Builder, n: u32, v: u32) -> crate::kir::Addr {
        k.at(self.stats, ((n * ATTENTION_QUERY_VECTORS + v) * self.ty().bytes()) as i32)
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
        k.for_each(zero, bytes, self.ty().bytes().into(), |k, at| {
            let to = k.at_index(self.sums, at, 1);
            k.store(to, none);
        });
    }

    /// Products of the keys with the transposed queries.
    fn score(&self, k: &mut Builder, keys: Val, step: i64, held: Val, vectors: u32) {
        let row = i64::from(vectors * self.lanes) * SIZE;
        let width = (1..=vectors).rev().find(|w| vectors.is_multiple_of(*w) && (self.rows_of)(*w) > 1).unwrap_or(1);
        let depth = k.int(self.depth);
        for first in (0..vectors).step_by(width as usize) {
            let offset = i64::from(first * self.ty().bytes());
            let right = k.add_int(self.transposed, offset);
            tiles(k, held, (self.rows_of)(width), |k, j, rows| {
                let skip = k.mul_int(j, step);
                let first_key = k.add(keys, skip);
                let pointers = (0..rows).map(|r| k.add_int(first_key, i64::from(r) * step)).collect();
                let none = k.zero(self.ty());
                let init = vec![none; (rows * width) as usize];
                let right = Right { pointer: right, step: row };
                let tile = StridedTile { rows, vectors: width, lanes: self.lanes, part: None };
                let sums = self.products.product(k, &Left::Along(pointers), right, depth, tile, init);
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

    /// Replaces scores by exponentials; `mask` has one row for all queries unless it is transposed in scratch memory.
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
        let most = k.fold_loop(zero, held, 1, &before, |k, j, most| {
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
                // A NaN need not be the maximum: it remains among the exponentials.
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
        let sums = k.fold_loop(zero, held, 1, &sums, |k, j, sums| {
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

    /// Scales the sums, then adds the products of the exponentials with the values.
    fn weigh(&self, k: &mut Builder, values: Right, held: Val, rows: ScoreRows) {
        let lanes = i64::from(self.lanes);
        let whole = self.width / lanes;
        let most = (1..=4).rev().find(|&w| whole % w == 0 && (self.rows_of)(w as u32) > 1).unwrap_or(1);
        let (zero, end) = (k.int(0), k.int(whole * lanes));
        k.for_each(zero, end, most * lanes, |k, column| {
            let tile = StridedTile { rows: 0, vectors: most as u32, lanes: self.lanes, part: None };
            self.weigh_columns(k, values, held, rows, column, tile);
        });
        let rest = self.width - whole * lanes;
        if rest == 0 {
            return;
        }
        if k.has_masks() {
            let count = k.int(rest);
            let tile = StridedTile { rows: 0, vectors: 1, lanes: self.lanes, part: Some(count) };
            return self.weigh_columns(k, values, held, rows, end, tile);
        }
        let all = k.int(self.width);
        k.for_each(end, all, 1, |k, column| {
            let tile = StridedTile { rows: 0, vectors: 1, lanes: 1, part: None };
            self.weigh_columns(k, values, held, rows, column, tile);
        });
    }

    /// The same for the columns from `column` on; chooses the number of rows of a tile.
    fn weigh_columns(
        &self,
        k: &mut Builder,
        values: Right,
        held: Val,
        rows: ScoreRows,
        column: Val,
        tile: StridedTile,
    ) {
        let StridedTile { vectors, lanes, .. } = tile;
        let ty = Ty::new(Elem::F32, lanes);
        let right = pointer_at(k, values.pointer, column, SIZE as usize);
        let sums = pointer_at(k, self.sums, column, SIZE as usize);
        let scales = k.add_int(self.stats, i64::from(2 * ATTENTION_QUERY_VECTORS * self.ty().bytes()));
        // A multiple of four rows, if multiplications take an element of a vector.
        let most = (self.rows_of)(vectors);
        let most = if self.products.by_lane && most > 4 { most / 4 * 4 } else { most };
        tiles(k, rows.count, most, |k, first, count| {
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
            let left = Left::Across(pointer_at(k, self.scores, first, SIZE as usize), rows.bytes);
            let right = Right { pointer: right, ..values };
            let done = self.products.product(k, &left, right, held, StridedTile { rows: count, ..tile }, init);
            for (&place, &sum) in places.iter().zip(&done) {
                k.store(place, sum);
            }
        });
    }

    /// Divides by the sums of exponentials and stores.
    fn finish(&self, k: &mut Builder, token: Val, head: Val, rows: Val) {
        let (zero, width) = (k.int(0), k.int(self.width));
        let sums = k.add_int(self.stats, i64::from(ATTENTION_QUERY_VECTORS * self.ty().bytes()));
        k.for_each(zero, rows, 1, |k, i| {
            let from = k.at_index(sums, i, SIZE as u32);
            let one = Ty::new(Elem::F32, 1);
            let (sum, unit) = (k.load(one, from), k.float(1.0, one));
            let factor = k.bin(Bin::Div, unit, sum);
            let row = k.add(token, i);
            let row = k.mul_int(row, self.heads);
            let row = k.add(row, head);
            let offset = k.mul_int(i, self.padded);
            let from = k.add(self.sums, offset);
            columns(k, zero, width, self.lanes, |k, column, lanes| {
                let at = k.at_index(from, column, SIZE as u32);
                let v = k.load(Ty::new(Elem::F32, lanes), at);
                let factor = k.splat(factor, lanes);
                let mut v = k.mul(v, factor);
                if self.guarded {
                    // Either all weights of a row are NaN or none is: their sum is then NaN, or zero.
                    let (sum, zero) = (k.splat(sum, lanes), k.zero_like(v));
                    let some = k.cmp(Cmp::Gt, sum, zero);
                    v = k.select(some, v, zero);
                }
                self.e.store(k, row, column, v);
            });
        });
    }
}
