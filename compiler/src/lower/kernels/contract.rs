//! The contraction loop nest that matrix products and convolutions share.
//!
//! Rows of the left operand meet panels of columns of the right one in a register tile. A left row is a base pointer
//! from which the contracted elements lie in runs: contiguous elements, repeated over outer loops ([`Tap`]s) at fixed
//! distances. The right operand is read in the same order, one vector (or several side by side) a contracted element.
//!
//! Loops, outside in: blocks of rows that stay in the second-level cache, panels, row tiles, taps, the run. Statements
//! are made in the order in which the emitter should keep them: the vectors of a step, then row by row its scalar and
//! its multiply-adds, which keeps the fewest values alive. Where the target has registers that the emitter's vectors do
//! not fill, the register tile of `f32` is a statement of its own instead, see [`super::wide`].

use mcc_targets::schedule::{self, Tile};

use super::{Emit, Site};
use crate::ir::{DType, Dim};
use crate::lower::kir::{Addr, Bin, Builder, Cmp, Elem, Ty, Val, tile};
use crate::lower::numbers;

/// An outer loop of the contraction.
pub(super) struct Tap {
    /// How often.
    pub(super) count: Dim,
    /// Bytes between its steps in the left operand.
    pub(super) bytes: Dim,
}

/// Where left rows begin.
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
        /// Pointer that offsets count from.
        base: Val,
        /// Pointer of the offsets.
        table: Val,
    },
}

impl Rows {
    /// Pointers of `count` rows from `row` on.
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

/// How the right operand lies in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Panels {
    /// Panel by panel, each as wide as the tile, the last one filled up with zeros.
    Packed,
    /// Row-major, as many columns as there are.
    Rows,
}

/// What does not change between the contractions of one kernel.
pub(super) struct Contraction<'a, 'b> {
    pub(super) emit: &'b Emit<'a>,
    pub(super) left: DType,
    pub(super) right: DType,
    pub(super) tile: Tile,
    /// Lanes of a vector of accumulators.
    pub(super) lanes: u32,
    /// Whether the target multiplies by an element of a vector.
    pub(super) by_lane: bool,
    pub(super) panels: Panels,
    pub(super) taps: Vec<Tap>,
    /// Contiguous elements of a left row.
    pub(super) run: Dim,
    /// Rows in a block.
    pub(super) block: i64,
    /// Memory of the wide inner loop, where the target has one: its frame, the sums after it.
    pub(super) frame: Option<Val>,
}

/// One contraction: its operands, extents and place in the result.
pub(super) struct Job {
    pub(super) rows: Rows,
    /// How many rows.
    pub(super) count: Dim,
    /// How many columns.
    pub(super) columns: Dim,
    /// Pointer of the right operand.
    pub(super) right: Val,
    /// Row and column of the result's first element.
    pub(super) out: (Val, Val),
    /// Where to store sums instead of in the result: rows of `columns` elements of the compute type.
    pub(super) sink: Option<Val>,
}

/// A register tile of some loop: fewer rows or columns at the ends.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) rows: u32,
    pub(super) vectors: u32,
    pub(super) lanes: u32,
}

/// Which columns of a tile are stored.
#[derive(Clone, Copy)]
enum Valid {
    All,
    Some(u32),
    Below(Val),
}

impl<'a, 'b> Contraction<'a, 'b> {
    /// Chooses the schedule of a kernel of `site` whose panels are `columns` wide (0: as wide as is best) and whose
    /// rows take `row_bytes` of the left operand each.
    pub(super) fn new(
        site: &Site<'_>,
        emit: &'b Emit<'a>,
        k: &mut Builder,
        panel: u64,
        count: &Dim,
        row_bytes: &Dim,
    ) -> Contraction<'a, 'b> {
        let (left, right) = (site.operands[0].dtype, site.operands[1].dtype);
        let elem = numbers::compute_elem(left);
        // Panels may have been packed for narrower vectors.
        let most = site.target.vector_bytes / elem.bytes();
        let lanes = if panel == 0 { most } else { most.min(1 << panel.trailing_zeros().min(31)) };
        let vectors = (panel / u64::from(lanes)).max(1) as u32;
        let mut shape = schedule::tile(site.target, vectors);
        if let Some(rows) = count.as_const().and_then(|c| u32::try_from(c).ok()).filter(|&c| c > 0) {
            shape.rows = rows.div_ceil(rows.div_ceil(shape.rows));
        }
        let row_bytes = row_bytes.as_const().and_then(|b| u64::try_from(b).ok()).unwrap_or(4096);
        let block = i64::try_from(schedule::row_block(shape, row_bytes)).unwrap_or(i64::MAX);
        let by_lane = site.target.arch == mcc_targets::Arch::Aarch64 && left == DType::F32;
        let (taps, run, panels) = (Vec::new(), Dim::ZERO, Panels::Packed);
        let wide = left == DType::F32 && right == DType::F32 && panel == 16 && schedule::wide(site.target);
        let sums = i64::from(tile::MAX_ROWS * tile::COLUMNS * 4);
        let frame = wide.then(|| emit.scratch(k, Dim::from(tile::BYTES + sums)));
        Contraction { emit, left, right, tile: shape, lanes, by_lane, panels, taps, run, block, frame }
    }

    /// Bytes between contracted elements in the right operand of `columns` columns.
    pub(super) fn right_bytes(&self, columns: &Dim) -> Dim {
        match self.panels {
            Panels::Packed => Dim::from(i64::from(self.width()) * self.right.size() as i64),
            Panels::Rows => columns * &Dim::from(self.right.size()),
        }
    }

    /// Columns of a full tile.
    fn width(&self) -> u32 {
        self.tile.vectors * self.lanes
    }

    /// Emits the loops of one contraction.
    pub(super) fn emit(&self, k: &mut Builder, job: &Job) {
        let zero = k.int(0);
        let count = k.dim(&job.count);
        self.fill_frame(k, job);
        if job.count.as_const().is_some_and(|c| c <= self.block + self.block / 2) {
            return self.columns(k, job, zero, count);
        }
        k.for_each(zero, count, self.block, &mut |k, first| {
            let last = k.add_int(first, self.block);
            let last = k.bin(Bin::Min, last, count);
            self.columns(k, job, first, last);
        });
    }

    /// All columns of the rows from `first` to `last`.
    fn columns(&self, k: &mut Builder, job: &Job, first: Val, last: Val) {
        let width = Dim::from(i64::from(self.width()));
        let full = job.columns.floor_div(&width);
        let panel_bytes = match self.panels {
            Panels::Packed => {
                let depth: Dim = self.taps.iter().map(|t| &t.count).product::<Dim>();
                &(&depth * &self.run) * &self.right_bytes(&job.columns)
            }
            Panels::Rows => Dim::from(i64::from(self.width()) * self.right.size() as i64),
        };
        let shape = Shape { rows: self.tile.rows, vectors: self.tile.vectors, lanes: self.lanes };
        let (zero, panels) = (k.int(0), k.dim(&full));
        let at = |k: &mut Builder, panel: Val| {
            let bytes = k.dim(&panel_bytes);
            let bytes = k.mul(panel, bytes);
            let right = k.add(job.right, bytes);
            let col = k.mul_int(panel, i64::from(self.width()));
            (right, k.add(job.out.1, col))
        };
        k.for_each(zero, panels, 1, &mut |k, panel| {
            let (right, col) = at(k, panel);
            self.rows(k, job, (first, last), right, col, shape, Valid::All);
        });
        let rest = &job.columns - &(&full * &width);
        if rest.is(0) {
            return;
        }
        if self.panels == Panels::Packed {
            let (right, col) = at(k, panels);
            if let Some(c) = rest.as_const().and_then(|c| u32::try_from(c).ok()) {
                return self.rows(k, job, (first, last), right, col, shape, Valid::Some(c));
            }
            let some = k.dim(&rest);
            let any = k.cmp(Cmp::Gt, some, zero);
            return k.when(any, &mut |k| {
                self.rows(k, job, (first, last), right, col, shape, Valid::Below(some));
            });
        }
        // Without padding to read, the last columns go by fewer vectors, then by scalars.
        let mut done = &full * &width;
        for (vectors, lanes) in [(2, self.lanes), (1, self.lanes), (1, 1)] {
            let step = Dim::from(i64::from(vectors * lanes));
            let until = &done + &(&(&job.columns - &done).floor_div(&step) * &step);
            let (start, end) = (k.dim(&done), k.dim(&until));
            if start != end {
                k.for_each(start, end, i64::from(vectors * lanes), &mut |k, c| {
                    let bytes = k.mul_int(c, self.right.size() as i64);
                    let right = k.add(job.right, bytes);
                    let col = k.add(job.out.1, c);
                    let shape = Shape { vectors, lanes, ..shape };
                    self.rows(k, job, (first, last), right, col, shape, Valid::All);
                });
            }
            done = until;
        }
    }

    /// The rows from `first` to `last` of one panel: full tiles, then smaller ones. Only the last block has a rest.
    #[allow(clippy::too_many_arguments, reason = "the loop nest's state")]
    fn rows(
        &self,
        k: &mut Builder,
        job: &Job,
        (first, last): (Val, Val),
        right: Val,
        col: Val,
        shape: Shape,
        valid: Valid,
    ) {
        let size = i64::from(shape.rows);
        let bound = k.add_int(last, 1 - size);
        k.for_each(first, bound, size, &mut |k, row| self.tile(k, job, row, right, col, shape, valid));
        let mut done = &job.count.floor_div(&Dim::from(size)) * &Dim::from(size);
        let rest = (&job.count - &done).as_const();
        let mut step = rest.unwrap_or(size / 2);
        while step > 0 {
            let until = &done + &(&(&job.count - &done).floor_div(&Dim::from(step)) * &Dim::from(step));
            let (start, end) = (k.dim(&done), k.dim(&until));
            let end = k.bin(Bin::Min, end, last);
            let shape = Shape { rows: step as u32, ..shape };
            k.for_each(start, end, step, &mut |k, row| self.tile(k, job, row, right, col, shape, valid));
            done = until;
            step = if rest.is_some() { 0 } else { step / 2 };
        }
    }

    /// Computes and stores one register tile.
    #[allow(clippy::too_many_arguments, reason = "the loop nest's state")]
    fn tile(&self, k: &mut Builder, job: &Job, row: Val, right: Val, col: Val, shape: Shape, valid: Valid) {
        let pointers = job.rows.pointers(k, row, shape.rows);
        let out_row = k.add(job.out.0, row);
        let wide = self.frame.filter(|_| shape.lanes * shape.vectors == tile::COLUMNS && shape.rows <= tile::MAX_ROWS);
        let sums = match wide {
            Some(frame) => {
                let out = self.plain_out(job).filter(|_| matches!(valid, Valid::All));
                self.wide_sums(k, (frame, out), job, (out_row, col), &pointers, right, shape)
            }
            None => self.sums(k, &pointers, right, &self.right_bytes(&job.columns), shape),
        };
        if sums.is_empty() {
            return;
        }
        let full = match valid {
            Valid::All => shape.vectors * shape.lanes,
            Valid::Some(c) => c,
            Valid::Below(_) => 0,
        };
        for i in 0..shape.rows {
            let r = k.add_int(out_row, i64::from(i));
            for v in 0..shape.vectors {
                let sum = sums[(i * shape.vectors + v) as usize];
                let begin = v * shape.lanes;
                if begin + shape.lanes <= full {
                    let c = k.add_int(col, i64::from(begin));
                    self.store(k, job, r, c, sum);
                    continue;
                }
                for lane in 0..shape.lanes.min(full.saturating_sub(begin)) {
                    let c = k.add_int(col, i64::from(begin + lane));
                    let one = k.lane(sum, lane as u8);
                    self.store(k, job, r, c, one);
                }
            }
        }
        let Valid::Below(end) = valid else { return };
        for column in 0..shape.vectors * shape.lanes {
            let at = k.int(i64::from(column));
            let inside = k.cmp(Cmp::Lt, at, end);
            k.when(inside, &mut |k| {
                for i in 0..shape.rows {
                    let sum = sums[(i * shape.vectors + column / shape.lanes) as usize];
                    let r = k.add_int(out_row, i64::from(i));
                    let c = k.add_int(col, i64::from(column));
                    let one = k.lane(sum, (column % shape.lanes) as u8);
                    self.store(k, job, r, c, one);
                }
            });
        }
    }

    fn store(&self, k: &mut Builder, job: &Job, row: Val, col: Val, v: Val) {
        let Some(sink) = job.sink else { return self.emit.store(k, row, col, v) };
        let columns = k.dim(&job.columns);
        let start = k.mul(row, columns);
        let index = k.add(start, col);
        let to = k.at_index(sink, index, k.ty(v).elem.bytes());
        k.store(to, v);
    }

    /// The sums of a tile, row by row.
    fn sums(&self, k: &mut Builder, rows: &[Val], right: Val, right_bytes: &Dim, shape: Shape) -> Vec<Val> {
        let ty = Ty::new(numbers::compute_elem(self.left), shape.lanes);
        let size = (shape.rows * shape.vectors) as usize;
        // A multiply-add takes about four cycles and two start a cycle: eight independent sums keep it busy.
        let sets = if ty.elem.is_float() { 8usize.div_ceil(size).min(self.tile.unroll as usize) } else { 1 };
        let zero = k.zero(ty);
        let mut state = vec![zero; size * sets];
        state.push(right);
        let start = k.int(0);
        let step = Step { rows, right_bytes, shape, sets };
        let state = self.taps(k, &self.taps, start, &step, &state);
        let mut sums = state[..size].to_vec();
        for set in 1..sets {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = k.add(*sum, state[set * size + i]);
            }
        }
        sums
    }

    fn taps(&self, k: &mut Builder, taps: &[Tap], offset: Val, step: &Step<'_>, state: &[Val]) -> Vec<Val> {
        let Some((tap, inner)) = taps.split_first() else {
            return self.run(k, offset, step, state);
        };
        let (start, end) = (k.int(0), k.dim(&tap.count));
        k.fold_loop(start, end, 1, state, &mut |k, i, state| {
            let bytes = k.dim(&tap.bytes);
            let bytes = k.mul(i, bytes);
            let offset = k.add(offset, bytes);
            self.taps(k, inner, offset, step, state)
        })
    }

    /// The contiguous run: rounds of several steps, then what is left. The state is the sums and the right pointer.
    fn run(&self, k: &mut Builder, offset: Val, step: &Step<'_>, state: &[Val]) -> Vec<Val> {
        let size = self.left.size() as i64;
        let unroll = i64::from(self.tile.unroll);
        let bytes = Dim::from(size);
        let whole = &self.run.floor_div(&Dim::from(unroll)) * &Dim::from(unroll);
        let rest = &self.run - &whole;
        let (whole, all) = (k.dim(&(&whole * &bytes)), k.dim(&(&self.run * &bytes)));
        let (middle, end) = (k.add(offset, whole), k.add(offset, all));
        let state = k.fold_loop(offset, middle, unroll * size, state, &mut |k, at, state| {
            self.round(k, at, step, unroll, state)
        });
        match rest.as_const() {
            Some(0) => state,
            Some(rest) => self.round(k, middle, step, rest, &state),
            None => k.fold_loop(middle, end, size, &state, &mut |k, at, state| self.round(k, at, step, 1, state)),
        }
    }

    /// `count` contracted elements from byte `at` of the left rows on.
    fn round(&self, k: &mut Builder, at: Val, step: &Step<'_>, count: i64, state: &[Val]) -> Vec<Val> {
        let Shape { rows, vectors, lanes } = step.shape;
        let size = self.left.size() as i32;
        let (sums, mut right) = (state.len() - 1, state[state.len() - 1]);
        let mut state = state.to_vec();
        let left_at = |k: &mut Builder, row: usize, element: i64| {
            let from = k.at_index(step.rows[row], at, 1);
            Addr { offset: from.offset + element as i32 * size, ..from }
        };
        let by_lane = self.by_lane && count == i64::from(lanes) && lanes > 1;
        let held: Vec<Val> = (0..if by_lane { rows as usize } else { 0 })
            .map(|row| {
                let from = left_at(k, row, 0);
                numbers::load(k, self.left, from, lanes)
            })
            .collect();
        let stride = step.right_bytes.as_const().and_then(|b| i32::try_from(b).ok()).filter(|b| b.abs() < 1 << 24);
        for element in 0..count {
            let offset = stride.map_or(0, |s| s * element as i32);
            let columns: Vec<Val> = (0..vectors)
                .map(|v| {
                    let from = k.at(right, offset + (v * lanes) as i32 * self.right.size() as i32);
                    numbers::load(k, self.right, from, lanes)
                })
                .collect();
            let set = element as usize % step.sets * (rows * vectors) as usize;
            for row in 0..rows as usize {
                let first = set + row * vectors as usize;
                let sums = &mut state[first..first + vectors as usize];
                if by_lane {
                    for (sum, &c) in sums.iter_mut().zip(&columns) {
                        *sum = k.fma_lane(c, held[row], element as u8, *sum);
                    }
                    continue;
                }
                let from = left_at(k, row, element);
                let scalar = numbers::load(k, self.left, from, 1);
                let all = k.splat(scalar, lanes);
                for (sum, &c) in sums.iter_mut().zip(&columns) {
                    *sum = multiply_add(k, c, all, *sum);
                }
            }
            if stride.is_none() {
                let bytes = k.dim(step.right_bytes);
                right = k.add(right, bytes);
            }
        }
        state[sums] = match stride {
            Some(s) => k.add_int(right, i64::from(s) * count),
            None => right,
        };
        state
    }
}

/// What a step of the contraction needs.
struct Step<'a> {
    /// Pointer of each left row.
    rows: &'a [Val],
    /// Bytes between contracted elements of the right operand.
    right_bytes: &'a Dim,
    shape: Shape,
    /// Sets of sums that take turns.
    sets: usize,
}

/// `a * b + c` in any compute type.
pub(super) fn multiply_add(k: &mut Builder, a: Val, b: Val, c: Val) -> Val {
    match k.ty(c).elem {
        Elem::F32 | Elem::F64 => k.fma(a, b, c),
        _ => {
            let product = k.mul(a, b);
            k.add(c, product)
        }
    }
}
