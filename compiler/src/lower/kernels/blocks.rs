//! Products with matrices of blocks: the dense micro-kernel with a list of the rows that it meets.
//!
//! A tile of left rows stays in the first-level cache while all panels pass. Of a panel only its blocks are read: their
//! values in order, and for each the number of the right row that it is, which is where in the left rows the elements
//! lie that meet it. Left rows are at constant distances, so that one pointer serves all rows of a tile.

use mcc_targets::block_schedule;

use super::contract::multiply_add;
use super::{Emit, Site};
use crate::ir::Dim;
use crate::lower::kir::{Addr, Bin, Builder, Cmp, Elem, Ty, Val};
use crate::{Error, Result};

/// [`Op::BlockMatMul`](crate::ir::Op::BlockMatMul): `(a: [..., m, k], heads, rows, values: [blocks, tile])`.
pub(super) fn block_matmul(site: &Site<'_>, e: &Emit<'_>, k: &mut Builder, n: &Dim) -> Result<()> {
    let (a, values) = (&site.operands[0], &site.operands[3]);
    let tile = values.shape.last().and_then(Dim::as_const).and_then(|t| u32::try_from(t).ok());
    let (Some(tile), Some((depth, rows))) = (tile.filter(|&t| t > 0), a.shape.split_last()) else {
        return Err(Error::internal(format!("block_matmul of {a} and {values}")));
    };
    let lanes = (site.target.vector_bytes / 4).min(1 << tile.trailing_zeros());
    let vectors = tile / lanes;
    let row_bytes = depth * &Dim::from(4i64);
    let known = row_bytes.as_const().and_then(|b| u64::try_from(b).ok());
    let count: Dim = rows.iter().product();
    let product = Product { e, lanes, vectors, row_bytes, columns: n.clone() };
    product.rows(k, &count, block_schedule::rows(site.target, vectors, known));
    Ok(())
}

/// Bytes of a cache line.
const LINE: i64 = 64;

/// Bytes of values fetched ahead of the block that is multiplied: each is read once a tile, the first time from memory.
const AHEAD: i64 = 4096;

struct Product<'a, 'b> {
    e: &'b Emit<'a>,
    lanes: u32,
    /// Vectors of a panel.
    vectors: u32,
    row_bytes: Dim,
    columns: Dim,
}

/// A register tile: its first row, how many, and the pointers of its left rows.
struct Tile {
    row: Val,
    pointers: Vec<(Val, i32)>,
}

/// A round of a panel's loop.
struct Step<'a> {
    tile: &'a Tile,
    /// Blocks in it.
    count: u32,
    /// Sets of sums that take turns.
    sets: usize,
}

impl Product<'_, '_> {
    /// Columns of a panel.
    fn width(&self) -> u32 {
        self.lanes * self.vectors
    }

    /// All rows, in tiles of at most `most`.
    fn rows(&self, k: &mut Builder, count: &Dim, most: u32) {
        let known = count.as_const().and_then(|c| u32::try_from(c).ok());
        // Tiles of about equal size where the number of rows is known.
        let most = known.filter(|&c| c > 0).map_or(most, |c| c.div_ceil(c.div_ceil(most)));
        let by_rows = known.is_none_or(|c| c >= 4 * most);
        let (mut done, mut size) = (Dim::ZERO, most);
        while size > 0 {
            let step = Dim::from(i64::from(size));
            let until = &done + &(&(count - &done).floor_div(&step) * &step);
            let (start, end) = (k.dim(&done), k.dim(&until));
            let round = &mut |k: &mut Builder, row: Val| self.panels(k, row, size, by_rows);
            match by_rows {
                true => k.parallel(start, end, size.into(), round),
                false => k.for_each(start, end, size.into(), round),
            }
            let rest = (count - &until).as_const().and_then(|r| u32::try_from(r).ok());
            size = rest.unwrap_or(size / 2);
            done = until;
        }
    }

    /// All panels of `count` rows.
    fn panels(&self, k: &mut Builder, row: Val, count: u32, whole: bool) {
        let tile = self.tile(k, row, count);
        self.fetch(k, &tile);
        let width = Dim::from(i64::from(self.width()));
        let full = self.columns.floor_div(&width);
        let rest = &self.columns - &(&full * &width);
        let (zero, end) = (k.int(0), k.dim(&full));
        let each = &mut |k: &mut Builder, panel: Val| self.panel(k, &tile, panel, None);
        match whole {
            true => k.for_each(zero, end, 1, each),
            false => k.parallel(zero, end, 1, each),
        }
        if rest.is(0) {
            return;
        }
        let rest = k.dim(&rest);
        let last = &mut |k: &mut Builder| match k.as_int(rest) {
            Some(_) => self.panel(k, &tile, end, Some(rest)),
            None => {
                let some = k.cmp(Cmp::Lt, zero, rest);
                k.when(some, &mut |k| self.panel(k, &tile, end, Some(rest)));
            }
        };
        if whole { last(k) } else { k.once(last) }
    }

    /// Fetches the rows of a tile in order; blocks ask for them here and there.
    fn fetch(&self, k: &mut Builder, tile: &Tile) {
        let (zero, end) = (k.int(0), k.dim(&self.row_bytes));
        k.for_each(zero, end, LINE, &mut |k, byte| {
            for &(pointer, offset) in &tile.pointers {
                let at = k.at_index(pointer, byte, 1);
                k.prefetch(Addr { offset: at.offset + offset, ..at });
            }
        });
    }

    fn tile(&self, k: &mut Builder, row: Val, count: u32) -> Tile {
        let bytes = k.dim(&self.row_bytes);
        let offset = k.mul(row, bytes);
        let first = k.add(self.e.operand(0), offset);
        let apart = self.row_bytes.as_const().and_then(|b| i32::try_from(b).ok()).filter(|b| *b < 1 << 24);
        let mut pointer = first;
        let pointers = (0..count).map(|i| match apart {
            Some(apart) => (first, apart * i as i32),
            None => {
                let this = pointer;
                pointer = k.add(pointer, bytes);
                (this, 0)
            }
        });
        Tile { row, pointers: pointers.collect() }
    }

    /// One panel: sums over its blocks, stored. `part`: how many columns the last panel has.
    fn panel(&self, k: &mut Builder, tile: &Tile, panel: Val, part: Option<Val>) {
        let head = |k: &mut Builder, next: i32| {
            let at = k.at_index(self.e.operand(1), panel, 4);
            let head = k.load(Ty::new(Elem::I32, 1), Addr { offset: at.offset + 4 * next, ..at });
            k.convert(head, Elem::I64)
        };
        let (first, last) = (head(k, 0), head(k, 1));
        // Heads that go backwards make a panel without blocks.
        let last = k.bin(Bin::Max, first, last);
        let rows = tile.pointers.len() as u32;
        let sets = block_schedule::sets(rows, self.vectors);
        let size = (rows * self.vectors) as usize;
        let zero = k.zero(Ty::new(Elem::F32, self.lanes));
        let mut state = vec![zero; size * sets as usize];
        let bytes = k.mul_int(first, i64::from(self.width()) * 4);
        state.push(k.add(self.e.operand(3), bytes));
        let round = sets.max(block_schedule::UNROLL);
        let (all, number) = (k.sub(last, first), k.int(round.into()));
        let over = k.bin(Bin::URem, all, number);
        let middle = k.sub(last, over);
        let step = |count: u32| Step { tile, count, sets: sets.min(count) as usize };
        let rounds = |k: &mut Builder, from: Val, to: Val, count: u32, state: &[Val]| {
            k.fold_loop(from, to, count.into(), state, &mut |k, i, state| self.step(k, &step(count), i, state))
        };
        state = rounds(k, first, middle, round, &state);
        state = rounds(k, middle, last, 1, &state);
        let mut sums = state[..size].to_vec();
        for set in 1..sets as usize {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = k.add(*sum, state[set * size + i]);
            }
        }
        self.store(k, tile, panel, part, &sums);
    }

    /// The blocks from block `i` on. The state is the sums and the values' pointer.
    fn step(&self, k: &mut Builder, &Step { tile, count, sets }: &Step<'_>, i: Val, state: &[Val]) -> Vec<Val> {
        let (mut state, values) = (state.to_vec(), state[state.len() - 1]);
        let size = tile.pointers.len() * self.vectors as usize;
        for block in 0..count {
            let at = k.at_index(self.e.operand(2), i, 4);
            let index = k.load(Ty::new(Elem::I32, 1), Addr { offset: at.offset + 4 * block as i32, ..at });
            let index = k.convert(index, Elem::I64);
            let ahead = k.at(values, (i64::from(block * self.width()) * 4 + AHEAD) as i32);
            k.prefetch(ahead);
            let columns: Vec<Val> = (0..self.vectors)
                .map(|v| {
                    let from = k.at(values, ((block * self.vectors + v) * self.lanes * 4) as i32);
                    k.load(Ty::new(Elem::F32, self.lanes), from)
                })
                .collect();
            for (row, &(pointer, offset)) in tile.pointers.iter().enumerate() {
                let from = k.at_index(pointer, index, 4);
                let element = k.load(Ty::new(Elem::F32, 1), Addr { offset: from.offset + offset, ..from });
                let all = k.splat(element, self.lanes);
                for (v, &column) in columns.iter().enumerate() {
                    let sum = &mut state[block as usize % sets * size + row * self.vectors as usize + v];
                    *sum = multiply_add(k, column, all, *sum);
                }
            }
        }
        let next = k.add_int(values, i64::from(count * self.width()) * 4);
        if let Some(pointer) = state.last_mut() {
            *pointer = next;
        }
        state
    }

    fn store(&self, k: &mut Builder, tile: &Tile, panel: Val, part: Option<Val>, sums: &[Val]) {
        let col = k.mul_int(panel, self.width().into());
        for (i, sums) in sums.chunks(self.vectors as usize).enumerate() {
            let row = k.add_int(tile.row, i as i64);
            for (v, &sum) in sums.iter().enumerate() {
                let before = v as i64 * i64::from(self.lanes);
                let col = k.add_int(col, before);
                match part.map(|part| (k.as_int(part), k.add_int(part, -before))) {
                    None => self.e.store(k, row, col, sum),
                    Some((Some(known), left)) => {
                        let left_now = (known - before).clamp(0, self.lanes.into());
                        if left_now == i64::from(self.lanes) {
                            self.e.store(k, row, col, sum);
                        } else if k.has_masks() && left_now > 0 {
                            k.partly(left, self.lanes, &mut |k| self.e.store(k, row, col, sum));
                        } else {
                            (0..left_now).for_each(|lane| self.lane(k, row, col, sum, lane));
                        }
                    }
                    Some((None, left)) => {
                        for lane in 0..i64::from(self.lanes) {
                            let at = k.int(lane);
                            let there = k.cmp(Cmp::Lt, at, left);
                            k.when(there, &mut |k| self.lane(k, row, col, sum, lane));
                        }
                    }
                }
            }
        }
    }

    fn lane(&self, k: &mut Builder, row: Val, col: Val, sum: Val, lane: i64) {
        let (one, col) = (k.lane(sum, lane as u8), k.add_int(col, lane));
        self.e.store(k, row, col, one);
    }
}
