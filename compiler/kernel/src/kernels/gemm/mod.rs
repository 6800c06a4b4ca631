//! The contraction loop nest that matrix products and convolutions share.
//!
//! A register tile multiplies rows of the left operand by a panel of columns of the right one. A left row is a base
//! pointer to runs: contiguous contracted elements, repeated over outer loops ([`Tap`]s) at constant strides. The right
//! operand is read in the same order, one vector (or several side by side) per contracted element.
//!
//! Loops, outermost first: blocks of rows that stay in the L2 cache, panels, row tiles, taps, the run. Statements are
//! created in the order in which the emitter should keep them: the vectors of a step, then per row its scalar and its
//! multiply-adds, which keeps the fewest values live. [`tile`] has the loops of one register tile.

pub mod ahead;
pub mod packed;
pub mod strided;
mod tile;

use mcc_targets::choices::Problem;
use mcc_targets::schedule::{Tile, products, threads};

use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::IndexRange;
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Addr, Bin, Builder, Cmp, Ty, Val};
use crate::numbers;
use mcc_ir::{DType, Dim};

use ahead::{Ahead, Fetch};
pub(super) use tile::multiply_add;

/// An outer loop of the contraction.
#[derive(Clone)]
pub(super) struct Tap {
    /// Number of rounds.
    pub(super) count: Dim,
    /// Bytes between rounds in the left operand.
    pub(super) bytes: Dim,
}

/// The addresses of left rows.
pub(super) enum Rows {
    /// At `base + row * bytes`.
    Affine {
        /// Pointer of row 0.
        base: Val,
        /// Bytes between rows.
        bytes: Dim,
    },
    /// At `base + table[row]`, an `i64` of bytes.
    Table {
        /// Pointer that the offsets are relative to.
        base: Val,
        /// Pointer to the offsets.
        table: Val,
    },
}

impl Rows {
    /// Pointers to `count` rows, starting at `row`.
    pub(super) fn pointers(&self, k: &mut Builder, row: Val, count: u32) -> Vec<Val> {
        match self {
            Rows::Affine { base, bytes } => {
                let bytes = k.dim(bytes);
                let offset = k.mul(row, bytes);
                let mut pointer = k.add(*base, offset);
                let mut pointers = vec![pointer];
                for _ in 1..count {
                    pointer = k.add(pointer, bytes);
                    pointers.push(pointer);
                }
                pointers
            }
            Rows::Table { base, table } => {
                let entry = k.at_index(*table, row, 8);
                let at = |i: u32| Addr { offset: entry.offset + 8 * i as i32, ..entry };
                (0..count)
                    .map(|i| {
                        let offset = k.load(Ty::I64, at(i));
                        k.add(*base, offset)
                    })
                    .collect()
            }
        }
    }
}

/// The layout of the right operand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Panels {
    /// Panels of this many columns, the last one padded with zeros. A tile may span several.
    Packed(u32),
    /// Row-major, without padding.
    Rows,
}

/// What all contractions of a kernel share.
pub(super) struct Contraction<'a, 'b> {
    pub(super) emit: &'b Emit<'a>,
    pub(super) left: DType,
    pub(super) right: DType,
    pub(super) tile: Tile,
    /// Lanes of a vector of accumulators.
    pub(super) lanes: u32,
    /// Whether the target can multiply by one element of a vector.
    pub(super) by_lane: bool,
    pub(super) panels: Panels,
    pub(super) taps: Vec<Tap>,
    /// Contiguous elements of a left row.
    pub(super) run: Dim,
    /// Number of rows of all contractions.
    count: Dim,
    /// Rows in a block.
    block: i64,
    /// The most bytes of weights to prefetch.
    ahead_bytes: i64,
    /// Whether narrower tiles keep the number of rows.
    one_size: bool,
    /// Whether threads share the blocks of rows instead of the tiles of columns.
    pub(super) by_rows: bool,
}

/// One contraction: its operands, extents and place in the result.
pub(super) struct Job {
    pub(super) rows: Rows,
    /// Number of rows.
    pub(super) count: Dim,
    /// Number of columns.
    pub(super) columns: Dim,
    /// Pointer to the right operand.
    pub(super) right: Val,
    /// Row and column of the result's first element.
    pub(super) out: (Val, Val),
    /// Where to store sums, if not in the result: rows of `columns` elements of the compute type.
    pub(super) sink: Option<Val>,
    /// Whether to add the sums to the stored values.
    pub(super) adds: bool,
}

/// A register tile of a loop, with fewer rows or columns at the ends.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) rows: u32,
    pub(super) vectors: u32,
    pub(super) lanes: u32,
    /// Number of valid lanes in the last vector; `None` for all.
    pub(super) last: Option<Val>,
}

/// Extents of a contraction.
#[derive(Clone, Copy)]
pub(super) struct Extents<'a> {
    pub(super) rows: &'a Dim,
    pub(super) columns: &'a Dim,
    /// Contracted elements.
    pub(super) depth: &'a Dim,
}

impl<'a, 'b> Contraction<'a, 'b> {
    /// Chooses the schedule of a kernel for contractions of these extents; a left row has `row_bytes` bytes.
    pub(super) fn new(
        request: &KernelRequest<'_>,
        emit: &'b Emit<'a>,
        panels: Panels,
        extents: Extents<'_>,
        row_bytes: &Dim,
    ) -> Contraction<'a, 'b> {
        let Extents { rows: count, columns, depth } = extents;
        let (left, right) = (request.operands[0].dtype, request.operands[1].dtype);
        let text = request.problem();
        let problem = Problem { text: &text, layer: request.layer };
        let most = request.config.target.vector_bytes / numbers::compute_elem(left).bytes();
        let columns = columns.as_const().and_then(|c| u64::try_from(c).ok());
        let (lanes, vectors) = match panels {
            Panels::Packed(panel) => {
                // Panels may be packed for narrower vectors.
                let lanes = most.min(1 << panel.trailing_zeros());
                (lanes, products::packed_vectors(request.config, problem, lanes, panel, columns))
            }
            Panels::Rows => (most, products::row_vectors(request.config, problem, most, columns)),
        };
        let mut shape = products::tile(&request.config.target, vectors);
        let row_bytes = row_bytes.as_const().and_then(|b| u64::try_from(b).ok()).unwrap_or(products::ASSUMED_ROW_BYTES);
        let [rows, depth] = [count, depth].map(|d| d.as_const().and_then(|c| u64::try_from(c).ok()));
        let block = products::row_block(request.config, problem, shape, row_bytes, rows);
        let block = i64::try_from(block).unwrap_or(i64::MAX);
        let threads_rows = threads::shared_rows(
            products::row_unit(&request.config.target, shape),
            count.as_const(),
            columns.and_then(|c| i64::try_from(c).ok()),
            vectors * lanes,
        )
        .filter(|_| request.config.threads > 1);
        let (by_rows, block) = (threads_rows.is_some(), threads_rows.map_or(block, |rows| rows.min(block)));
        shape.rows = products::tile_rows(request.config, problem, shape, depth, !is_blocked(count, block));
        let by_lane = request.config.target.arch == mcc_targets::Arch::Aarch64 && left == DType::F32;
        let (taps, run) = (Vec::new(), Dim::ZERO);
        let (count, one_size) = (count.clone(), request.config.target.vector_bytes == 16);
        let mut c = Contraction {
            emit,
            left,
            right,
            tile: shape,
            lanes,
            by_lane,
            panels,
            taps,
            run,
            count,
            block,
            ahead_bytes: products::ahead_bytes(request.config, problem),
            one_size,
            by_rows,
        };
        c.tile.rows = c.rows_of(vectors);
        c
    }

    /// Bytes between contracted elements in a right operand of `columns` columns.
    pub(super) fn right_bytes(&self, columns: &Dim) -> Dim {
        match self.panels {
            Panels::Packed(panel) => Dim::from(i64::from(panel) * self.right.size() as i64),
            Panels::Rows => columns * &Dim::from(self.right.size()),
        }
    }

    /// Bytes from the packed weights to the next columns' weights, if there are enough tiles of rows to prefetch them.
    fn ahead(&self) -> Option<i64> {
        let Panels::Packed(panel) = self.panels else { return None };
        let one_tile = self.count.as_const().is_some_and(|c| c <= i64::from(self.tile.rows));
        let bytes = self.panel_bytes(panel).as_const()?.checked_mul(i64::from(self.width() / panel))?;
        Some(bytes).filter(|_| !one_tile && !self.one_size && bytes <= self.ahead_bytes)
    }

    /// The share of the next columns' weights that each tile of rows prefetches: equal for all tiles, which keeps
    /// memory busy and requests each line about once.
    fn fetch(&self, shape: Shape) -> Option<Fetch> {
        let bytes = self.ahead()?;
        let depth: Dim = self.taps.iter().map(|t| &t.count).product();
        let rounds = depth.as_const()? * (self.run.as_const()? / i64::from(self.tile.unroll));
        let rows = if self.blocked() { self.block } else { self.count.as_const()? };
        Fetch::new(self.emit.request.config.target.machine, bytes, rows, shape.rows, rounds)
    }

    /// The most rows in a block.
    pub(super) fn block_rows(&self) -> Dim {
        if self.blocked() { Dim::from(self.block) } else { self.count.clone() }
    }

    /// Whether there may be several blocks of rows.
    pub(super) fn blocked(&self) -> bool {
        is_blocked(&self.count, self.block)
    }

    /// Columns of a full tile.
    fn width(&self) -> u32 {
        self.tile.vectors * self.lanes
    }

    /// Emits the loops of one contraction.
    pub(super) fn emit(&self, k: &mut Builder, job: &Job) {
        self.blocks(k, |k, first, last| self.columns(k, job, first, last));
    }

    /// Runs `body` for each block of rows, with its bounds.
    pub(super) fn blocks(&self, k: &mut Builder, body: impl FnOnce(&mut Builder, Val, Val)) {
        let zero = k.int(0);
        let count = k.dim(&self.count);
        if !self.blocked() {
            return body(k, zero, count);
        }
        let round = |k: &mut Builder, first: Val| {
            let last = k.add_int(first, self.block);
            let last = k.bin(Bin::Min, last, count);
            body(k, first, last);
        };
        k.parallel_if(self.by_rows, zero, count, self.block, round);
    }

    /// Bytes between panels of the right operand.
    fn panel_bytes(&self, panel: u32) -> Dim {
        let depth: Dim = self.taps.iter().map(|t| &t.count).product();
        &(&depth * &self.run) * &Dim::from(i64::from(panel) * self.right.size() as i64)
    }

    /// All columns of the rows from `first` to `last`: full-width tiles, then the tail.
    pub(super) fn columns(&self, k: &mut Builder, job: &Job, first: Val, last: Val) {
        let width = Dim::from(i64::from(self.width()));
        let full = job.columns.floor_div(&width);
        let shape = Shape { rows: self.tile.rows, vectors: self.tile.vectors, lanes: self.lanes, last: None };
        let (zero, count) = (k.int(0), k.dim(&full));
        k.parallel(zero, count, 1, |k, i| {
            let column = k.mul_int(i, i64::from(self.width()));
            let bytes = match self.panels {
                Panels::Rows => k.mul_int(column, self.right.size() as i64),
                Panels::Packed(panel) => {
                    let bytes = k.dim(&(&self.panel_bytes(panel) * &Dim::from(i64::from(self.width() / panel))));
                    k.mul(i, bytes)
                }
            };
            self.panel(k, job, IndexRange { first, end: last }, column, bytes, shape);
        });
        let rest = &job.columns - &(&full * &width);
        let start = k.dim(&(&full * &width));
        match rest.as_const().and_then(|r| u32::try_from(r).ok()) {
            Some(0) => {}
            Some(rest) if self.reads_ahead(k) => {
                let vectors = rest.div_ceil(self.lanes);
                let last_lanes = rest - (vectors - 1) * self.lanes;
                let part = (last_lanes < self.lanes).then(|| k.int(last_lanes.into()));
                let bytes = self.column_bytes(k, start);
                let shape = self.shape(vectors, self.lanes, part);
                k.once(|k| self.panel(k, job, IndexRange { first, end: last }, start, bytes, shape));
            }
            rest => self.single_vectors(k, job, IndexRange { first, end: last }, start, rest.is_none()),
        }
    }

    /// Whether a vector may be loaded that extends beyond the last column.
    fn reads_ahead(&self, k: &Builder) -> bool {
        self.panels != Panels::Rows || k.has_masks()
    }

    /// The columns from `start` on, one vector at a time. The tail is a partial vector if possible, otherwise single
    /// columns.
    fn single_vectors(&self, k: &mut Builder, job: &Job, rows: IndexRange, start: Val, unknown: bool) {
        let lanes = i64::from(self.lanes);
        let whole = &job.columns.floor_div(&Dim::from(lanes)) * &Dim::from(lanes);
        let (whole, all) = (k.dim(&whole), k.dim(&job.columns));
        let panel = |k: &mut Builder, column: Val, shape: Shape| {
            let bytes = self.column_bytes(k, column);
            self.panel(k, job, rows, column, bytes, shape);
        };
        k.parallel(start, whole, lanes, |k, c| panel(k, c, self.shape(1, self.lanes, None)));
        if !self.reads_ahead(k) {
            return k.parallel(whole, all, 1, |k, c| panel(k, c, self.shape(1, 1, None)));
        }
        assert!(unknown, "known remainders are one tile");
        let rest = k.sub(all, whole);
        let some = k.cmp(Cmp::Lt, whole, all);
        k.once(|k| k.when(some, |k| panel(k, whole, self.shape(1, self.lanes, Some(rest)))));
    }

    /// Byte offset in the right operand of a column that starts a vector.
    fn column_bytes(&self, k: &mut Builder, column: Val) -> Val {
        let Panels::Packed(panel) = self.panels else { return k.mul_int(column, self.right.size() as i64) };
        let (panel_bytes, panel) = (k.dim(&self.panel_bytes(panel)), k.int(panel.into()));
        let (index, within) = (k.bin(Bin::UDiv, column, panel), k.bin(Bin::URem, column, panel));
        let within = k.mul_int(within, self.right.size() as i64);
        let bytes = k.mul(index, panel_bytes);
        k.add(bytes, within)
    }

    /// The tile for a number of vectors of columns.
    fn shape(&self, vectors: u32, lanes: u32, last: Option<Val>) -> Shape {
        Shape { rows: self.rows_of(vectors), vectors, lanes, last }
    }

    /// Rows of the tile for a number of vectors: if all rows are one block, tiles are of about equal size.
    fn rows_of(&self, vectors: u32) -> u32 {
        let full = self.one_size || vectors == self.tile.vectors;
        let rows = if full { self.tile.rows } else { products::tile(&self.emit.request.config.target, vectors).rows };
        match self.count.as_const().and_then(|c| u32::try_from(c).ok()) {
            Some(count) if count > 0 && !self.blocked() => count.div_ceil(count.div_ceil(rows)),
            _ => rows,
        }
    }

    /// The rows from `first` to `last` of one tile's columns.
    fn panel(&self, k: &mut Builder, job: &Job, rows: IndexRange, column: Val, bytes: Val, shape: Shape) {
        let right = k.add(job.right, bytes);
        let col = k.add(job.out.1, column);
        self.rows(k, job, rows, right, col, shape);
    }

    /// Full tiles, then smaller ones. Only the last block has a tail; if there is one block of known length, the tail
    /// may be spread over its tiles.
    fn rows(&self, k: &mut Builder, job: &Job, all: IndexRange, right: Val, col: Val, shape: Shape) {
        let IndexRange { first, end: last } = all;
        let size = i64::from(shape.rows);
        let tiles = |k: &mut Builder, from: Val, to: Val, rows: i64| {
            let shape = Shape { rows: rows as u32, ..shape };
            let fetch = self.fetch(shape);
            k.for_each(from, to, rows, |k, row| {
                let next = fetch.map(|f| {
                    let done = k.sub(row, first);
                    Ahead { from: f.start(k, right, done), lines: f.a_round }
                });
                self.tile(k, job, row, Weights { right, next }, col, shape);
            });
        };
        if let Some(count) = job.count.as_const().filter(|&c| !self.blocked() && products::spreads_rest(c, size)) {
            let number = (count + size - 1) / size;
            let smaller = count / number;
            let middle = k.int(count % number * (smaller + 1));
            tiles(k, first, middle, smaller + 1);
            return tiles(k, middle, last, smaller);
        }
        let bound = k.add_int(last, 1 - size);
        tiles(k, first, bound, size);
        let mut done = &job.count.floor_div(&Dim::from(size)) * &Dim::from(size);
        let rest = (&job.count - &done).as_const();
        let mut step = rest.unwrap_or(size / 2);
        while step > 0 {
            let until = &done + &(&(&job.count - &done).floor_div(&Dim::from(step)) * &Dim::from(step));
            let (start, end) = (k.dim(&done), k.dim(&until));
            let end = k.bin(Bin::Min, end, last);
            tiles(k, start, end, step);
            done = until;
            step = if rest.is_some() { 0 } else { step / 2 };
        }
    }

    /// Computes and stores one register tile.
    fn tile(&self, k: &mut Builder, job: &Job, row: Val, weights: Weights, col: Val, shape: Shape) {
        let pointers = job.rows.pointers(k, row, shape.rows);
        let out_row = k.add(job.out.0, row);
        let sums = self.sums(k, &pointers, weights, &self.right_bytes(&job.columns), shape);
        for i in 0..shape.rows {
            let r = k.add_int(out_row, i64::from(i));
            for v in 0..shape.vectors {
                let sum = sums[(i * shape.vectors + v) as usize];
                let c = k.add_int(col, i64::from(v * shape.lanes));
                match shape.last.filter(|_| v + 1 == shape.vectors) {
                    None => self.store(k, job, r, c, sum),
                    Some(count) => self.store_first(k, job, r, c, sum, count),
                }
            }
        }
    }

    /// Stores the first `count` lanes of a sum.
    fn store_first(&self, k: &mut Builder, job: &Job, row: Val, col: Val, sum: Val, count: Val) {
        match k.as_int(count).filter(|_| !k.has_masks()) {
            Some(count) => {
                for lane in 0..count {
                    let (one, col) = (k.lane(sum, lane as u8), k.add_int(col, lane));
                    self.store(k, job, row, col, one);
                }
            }
            None => {
                let lanes = k.ty(sum).lanes;
                k.partly(count, lanes, |k| self.store(k, job, row, col, sum));
            }
        }
    }

    fn store(&self, k: &mut Builder, job: &Job, row: Val, col: Val, v: Val) {
        let Some(sink) = job.sink else { return self.emit.store(k, row, col, v) };
        let columns = k.dim(&job.columns);
        let start = k.mul(row, columns);
        let index = k.add(start, col);
        let to = k.at_index(sink, index, k.ty(v).elem.bytes());
        let mut v = v;
        if job.adds {
            let before = k.load(k.ty(v), to);
            v = k.add(before, v);
        }
        k.store(to, v);
    }
}

/// Whether `count` rows may need several blocks. A small tail joins the previous block.
fn is_blocked(count: &Dim, block: i64) -> bool {
    count.as_const().is_none_or(|c| c > block + block / 2)
}

/// The weights that a register tile reads.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    /// Pointer to the first element.
    right: Val,
    /// The weights to prefetch.
    next: Option<Ahead>,
}
