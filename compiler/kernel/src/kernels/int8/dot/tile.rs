//! A register tile: rows times columns, over all contracted bytes.

use super::{Int8Loops, Spot};
use crate::kernels::gemm::ahead::fetch_lines;
use crate::kernels::gemm::{Rows, Tap};
use crate::kernels::int8::bitmask;
use crate::kir::{Addr, Bin, Builder, Elem, Ty, Val};

impl Int8Loops<'_, '_> {
    pub(super) fn tile(&self, k: &mut Builder, spot: &Spot) {
        let rows = match self.table {
            Some(table) => Rows::Table { base: spot.left, table },
            None => Rows::Affine { base: spot.left, bytes: self.row_bytes.clone() },
        };
        let pointers = rows.pointers(k, spot.row, spot.rows);
        let zero = k.zero(Ty::new(Elem::I32, self.lanes));
        let matrices = self.by_matrices(spot);
        let count = if matrices { Self::matrix_sums(spot) } else { (spot.rows * spot.vectors) as usize };
        let mut state = vec![zero; count];
        state.push(spot.right);
        state.extend(self.expanding.iter().flat_map(|(values, masks, _)| values.iter().chain([masks])));
        state.extend(spot.next.iter().flatten().map(|n| n.from));
        let start = k.int(0);
        let mut sums = self.taps(k, &self.taps, start, &pointers, spot, &state);
        if matrices {
            sums = Self::rows_of_matrices(k, spot, &sums);
        }
        if self.sink.is_none() && self.shares_leaves(spot) {
            let rows: Vec<Val> = (0..spot.rows).map(|i| k.add_int(spot.row, i64::from(i))).collect();
            let sums = &sums[..(spot.rows * spot.vectors) as usize];
            return self.e.store_pixels(k, &rows, spot.col, sums);
        }
        for i in 0..spot.rows {
            let row = k.add_int(spot.row, i64::from(i));
            let sums = &sums[(i * spot.vectors) as usize..][..spot.vectors as usize];
            match self.sink {
                None => self.e.store_columns(k, row, spot.col, sums, spot.columns.min(self.width())),
                Some(sink) => self.sink_columns(k, sink, row, spot, sums),
            }
        }
    }

    /// Whether leaves that rows of a tile share are loaded once: if no load can be an operand for all lanes, and rows
    /// are not full vectors of bytes.
    fn shares_leaves(&self, spot: &Spot) -> bool {
        let whole = spot.columns.min(self.width()) == spot.vectors * self.lanes;
        whole && self.e.request.config.target.vector_bytes == 32 && self.lanes == 8 && spot.vectors <= 2
    }

    /// Stores sums without an epilogue.
    fn sink_columns(&self, k: &mut Builder, sink: Val, row: Val, spot: &Spot, sums: &[Val]) {
        for (v, &sum) in sums.iter().enumerate() {
            let begin = v as u32 * self.lanes;
            let some = spot.columns.saturating_sub(begin).min(self.lanes);
            let col = k.add_int(spot.col, i64::from(begin));
            let store = |k: &mut Builder, col: Val, v: Val| {
                let start = k.mul_int(row, self.columns);
                let index = k.add(start, col);
                let to = k.at_index(sink, index, 4);
                k.store(to, v);
            };
            if some == self.lanes {
                store(k, col, sum);
            } else if some > 1 && k.has_masks() {
                let count = k.int(i64::from(some));
                k.partly(count, self.lanes, |k| store(k, col, sum));
            } else {
                for lane in 0..some {
                    let (one, col) = (k.lane(sum, lane as u8), k.add_int(col, i64::from(lane)));
                    store(k, col, one);
                }
            }
        }
    }

    /// The state is the sums and pointers: to weights, to values and masks, to weights to prefetch.
    fn taps(&self, k: &mut Builder, taps: &[Tap], offset: Val, rows: &[Val], spot: &Spot, state: &[Val]) -> Vec<Val> {
        let Some((tap, inner)) = taps.split_first() else { return self.run(k, offset, rows, spot, state) };
        let (start, end) = (k.int(0), k.dim(&tap.count));
        k.fold_loop(start, end, 1, state, |k, i, state| {
            let bytes = k.dim(&tap.bytes);
            let bytes = k.mul(i, bytes);
            let offset = k.add(offset, bytes);
            self.taps(k, inner, offset, rows, spot, state)
        })
    }

    /// Rounds of several steps, single steps, then the remaining bytes.
    fn run(&self, k: &mut Builder, offset: Val, rows: &[Val], spot: &Spot, state: &[Val]) -> Vec<Val> {
        let round = 4 * i64::from(self.tile.unroll);
        let whole = self.run / round * round;
        let middle = k.add_int(offset, whole);
        let (vectors, fetched) = (spot.vectors as usize, spot.next.iter().flatten().collect::<Vec<_>>());
        let mut state = k.fold_loop(offset, middle, round, state, |k, at, state| {
            let held: Option<Vec<Val>> = self.by_lane.then(|| {
                let held = rows.iter().map(|&row| {
                    let from = k.at_index(row, at, 1);
                    k.load(Ty::new(Elem::I8, round as u32), from)
                });
                held.collect()
            });
            // Prefetch the weights of the next columns.
            let (state, next) = state.split_at(state.len() - fetched.len());
            let machine = self.e.request.config.target.machine;
            let next = next.iter().zip(&fetched).map(|(&next, f)| fetch_lines(k, next, f.lines, machine));
            let next: Vec<Val> = next.collect();
            let mut state = match &held {
                Some(held) if self.by_matrices(spot) => {
                    let operands = Self::paired(k, held);
                    self.matrix_steps(k, state, vectors, self.tile.unroll, &operands)
                }
                Some(held) => {
                    self.steps(k, state, vectors, self.tile.unroll, |k, row, step| self.spread(k, held[row], step))
                }
                None => self.steps(k, state, vectors, self.tile.unroll, |k, row, step| {
                    let from = k.at_index(rows[row], at, 1);
                    self.everywhere(k, Addr { offset: from.offset + 4 * step as i32, ..from })
                }),
            };
            state.extend(next);
            state
        });
        let next = state.split_off(state.len() - fetched.len());
        state = self.rest(k, middle, whole, rows, spot, &state);
        state.extend(next);
        state
    }

    /// The rest of a run, starting at `middle`; `whole` bytes are done.
    fn rest(&self, k: &mut Builder, middle: Val, whole: i64, rows: &[Val], spot: &Spot, state: &[Val]) -> Vec<Val> {
        let left = self.run - whole;
        let (vectors, steps) = (spot.vectors as usize, ((left + 3) / 4) as u32);
        let word = |k: &mut Builder, row: usize, step: u32| {
            let from = k.at_index(rows[row], middle, 1);
            let from = Addr { offset: from.offset + 4 * step as i32, ..from };
            self.word(k, from, left - 4 * i64::from(step))
        };
        if !self.by_matrices(spot) {
            return self.steps(k, state, vectors, steps, word);
        }
        let operands = Self::paired_words(k, rows.len(), steps, word);
        self.matrix_steps(k, state, vectors, steps, &operands)
    }

    /// The next four bytes of a run in every lane, of which only `left` are left: those after it are zero.
    fn word(&self, k: &mut Builder, from: Addr, left: i64) -> Val {
        if left >= 4 {
            return self.everywhere(k, from);
        }
        let bytes = Ty::new(Elem::I8, 4 * self.lanes);
        if self.run >= 4 {
            // The run's last four bytes, without those of the previous step.
            let had = 4 - left;
            let four = self.everywhere(k, Addr { offset: from.offset - had as i32, ..from });
            let (words, bits) = (k.bitcast(four, Ty::new(Elem::I32, self.lanes)), k.int(8 * had));
            let words = k.bin(Bin::Shr, words, bits);
            return k.bitcast(words, bytes);
        }
        let few = some_bytes(k, from, left);
        let all = k.splat(few, self.lanes);
        k.bitcast(all, bytes)
    }

    /// The weights of a vector of columns, of a step.
    pub(super) fn column_at(&self, k: &mut Builder, right: Val, vector: u32, step: u32) -> Addr {
        let column = vector * self.lanes;
        let (panel, within) = (column / self.panel, i64::from(step * self.panel + column % self.panel) * 4);
        far(k, right, i64::from(panel) * self.panel_bytes + within)
    }

    /// Steps of four contracted elements each; `left` loads a row's bytes of a step into every lane.
    fn steps(
        &self,
        k: &mut Builder,
        state: &[Val],
        vectors: usize,
        count: u32,
        mut left: impl FnMut(&mut Builder, usize, u32) -> Val,
    ) -> Vec<Val> {
        let mut state = state.to_vec();
        let mut expanding = None;
        if let Some((values, _, kept)) = &self.expanding {
            let masks = state.pop();
            let values = state.split_off(state.len() - values.len());
            expanding = masks.map(|masks| (values, masks, *kept));
        }
        let Some(right) = state.pop() else { return state };
        let bytes = Ty::new(Elem::I8, 4 * self.lanes);
        for step in 0..count {
            let columns: Vec<Val> = (0..vectors as u32)
                .map(|v| {
                    let place = self.column_at(k, right, v, step);
                    match &mut expanding {
                        Some((values, masks, kept)) => {
                            // One bit per byte.
                            let panel = v * self.lanes / self.panel;
                            let mask = far(k, *masks, i64::from(panel) * self.panel_bytes / 8 + i64::from(8 * step));
                            bitmask::word(k, mask, &mut values[v as usize], kept.then_some(place))
                        }
                        None => k.load(bytes, place),
                    }
                })
                .collect();
            for (row, sums) in state.chunks_mut(columns.len()).enumerate() {
                let all = left(k, row, step);
                for (sum, &c) in sums.iter_mut().zip(&columns) {
                    *sum = k.dot(self.kind, all, c, *sum);
                }
            }
        }
        state.push(k.add_int(right, i64::from(4 * count * self.panel)));
        if let Some((values, masks, _)) = expanding {
            state.extend(values);
            state.push(k.add_int(masks, i64::from(8 * count)));
        }
        state
    }

    /// Four bytes in every lane. Loaded as a float, which emitters load into all lanes at once.
    fn everywhere(&self, k: &mut Builder, from: Addr) -> Val {
        let four = k.load(Ty::new(Elem::F32, 1), from);
        let all = k.splat(four, self.lanes);
        k.bitcast(all, Ty::new(Elem::I8, 4 * self.lanes))
    }

    /// Four bytes of a vector in every lane.
    fn spread(&self, k: &mut Builder, held: Val, step: u32) -> Val {
        let pattern: Vec<u8> = (0..4 * self.lanes).map(|i| (4 * step + i % 4) as u8).collect();
        k.shuffle(held, held, &pattern)
    }
}

/// The address `bytes` bytes after a pointer; the offset may exceed 32 bits.
fn far(k: &mut Builder, base: Val, bytes: i64) -> Addr {
    match i32::try_from(bytes) {
        Ok(near) => k.at(base, near),
        Err(_) => {
            let base = k.add_int(base, bytes);
            k.at(base, 0)
        }
    }
}

/// One to three bytes in the low end of an `i32`.
fn some_bytes(k: &mut Builder, from: Addr, count: i64) -> Val {
    let low = k.load(Ty::new(if count == 1 { Elem::I8 } else { Elem::I16 }, 1), from);
    let low = k.uconvert(low, Elem::I32);
    if count < 3 {
        return low;
    }
    let high = k.load(Ty::new(Elem::I8, 1), Addr { offset: from.offset + 2, ..from });
    let high = k.uconvert(high, Elem::I32);
    let sixteen = k.int(16);
    let high = k.bin(Bin::Shl, high, sixteen);
    k.bin(Bin::Or, low, high)
}
