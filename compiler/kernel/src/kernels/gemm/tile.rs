//! The sums of one register tile: taps, the run, and its unrolled rounds.

use super::ahead::fetch_lines;
use super::{Contraction, Panels, Shape, Tap, Weights};
use crate::kir::{Addr, Builder, Elem, Ty, Val};
use crate::numbers;
use mcc_ir::Dim;

/// The inputs of a step of the contraction.
struct TileStep<'a> {
    /// Pointer to each left row.
    rows: &'a [Val],
    /// Bytes between contracted elements of the right operand.
    right_bytes: &'a Dim,
    shape: Shape,
    /// Sets of accumulators that are used in turn.
    sets: usize,
    /// Cache lines of weights to prefetch per round.
    fetched: i64,
}

impl Contraction<'_, '_> {
    /// The address of the vector at a column of a tile, for the contracted element at `right`.
    fn vector_at(&self, k: &mut Builder, right: Val, column: u32) -> Addr {
        let size = self.right.size() as i32;
        let Panels::Packed(panel) = self.panels else { return k.at(right, column as i32 * size) };
        let within = (column % panel) as i32 * size;
        let apart = &self.panel_bytes(panel) * &Dim::from(i64::from(column / panel));
        match apart.as_const().and_then(|b| i32::try_from(b).ok()) {
            Some(apart) => k.at(right, apart + within),
            None => {
                let apart = k.dim(&apart);
                let base = k.add(right, apart);
                k.at(base, within)
            }
        }
    }

    /// The sums of a tile, row by row.
    pub(super) fn sums(
        &self,
        k: &mut Builder,
        rows: &[Val],
        weights: Weights,
        right_bytes: &Dim,
        shape: Shape,
    ) -> Vec<Val> {
        let ty = Ty::new(numbers::compute_elem(self.left), shape.lanes);
        let size = (shape.rows * shape.vectors) as usize;
        // A multiply-add has a latency of about four cycles, and two start per cycle: eight independent sums hide it.
        let sets = if ty.elem.is_float() { 8usize.div_ceil(size).min(self.tile.unroll as usize) } else { 1 };
        let zero = k.zero(ty);
        let mut state = vec![zero; size * sets];
        state.push(weights.right);
        state.extend(weights.next.map(|n| n.from));
        let start = k.int(0);
        let step = TileStep { rows, right_bytes, shape, sets, fetched: weights.next.map_or(0, |n| n.lines) };
        let state = self.taps(k, &self.taps, start, &step, &state);
        let mut sums = state[..size].to_vec();
        for set in 1..sets {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = k.add(*sum, state[set * size + i]);
            }
        }
        sums
    }

    fn taps(&self, k: &mut Builder, taps: &[Tap], offset: Val, step: &TileStep<'_>, state: &[Val]) -> Vec<Val> {
        let Some((tap, inner)) = taps.split_first() else {
            return self.run(k, offset, step, state);
        };
        let (start, end) = (k.int(0), k.dim(&tap.count));
        k.fold_loop(start, end, 1, state, |k, i, state| {
            let bytes = k.dim(&tap.bytes);
            let bytes = k.mul(i, bytes);
            let offset = k.add(offset, bytes);
            self.taps(k, inner, offset, step, state)
        })
    }

    /// The contiguous run: rounds of several steps, then the tail. The state is the sums, the right pointer, and the
    /// prefetch pointer, if any.
    fn run(&self, k: &mut Builder, offset: Val, step: &TileStep<'_>, state: &[Val]) -> Vec<Val> {
        let size = self.left.size() as i64;
        let unroll = i64::from(self.tile.unroll);
        let bytes = Dim::from(size);
        let whole = &self.run.floor_div(&Dim::from(unroll)) * &Dim::from(unroll);
        let rest = &self.run - &whole;
        let (whole, all) = (k.dim(&(&whole * &bytes)), k.dim(&(&self.run * &bytes)));
        let (middle, end) = (k.add(offset, whole), k.add(offset, all));
        let state =
            k.fold_loop(offset, middle, unroll * size, state, |k, at, state| self.round(k, at, step, unroll, state));
        match rest.as_const() {
            Some(0) => state,
            Some(rest) => self.round(k, middle, step, rest, &state),
            None => k.fold_loop(middle, end, size, &state, |k, at, state| self.round(k, at, step, 1, state)),
        }
    }

    /// `count` contracted elements, from byte `at` of the left rows.
    fn round(&self, k: &mut Builder, at: Val, step: &TileStep<'_>, count: i64, state: &[Val]) -> Vec<Val> {
        let Shape { rows, vectors, lanes, last } = step.shape;
        // Rows are loaded one vector at a time.
        if self.by_lane && lanes > 1 && count > i64::from(lanes) {
            let state = self.round(k, at, step, lanes.into(), state);
            let at = k.add_int(at, i64::from(lanes) * self.left.size() as i64);
            return self.round(k, at, step, count - i64::from(lanes), &state);
        }
        let size = self.left.size() as i32;
        let sums = rows as usize * vectors as usize * step.sets;
        let mut right = state[sums];
        let mut state = state.to_vec();
        // Prefetch the weights of the next columns.
        if let Some(next) = state.get_mut(sums + 1).filter(|_| count == i64::from(self.tile.unroll)) {
            *next = fetch_lines(k, *next, step.fetched, self.emit.request.config.target.machine);
        }
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
                    let from = self.vector_at(k, right, v * lanes);
                    let from = Addr { offset: from.offset + offset, ..from };
                    let part = last.filter(|_| self.panels == Panels::Rows && v + 1 == vectors);
                    let Some(count) = part else { return numbers::load(k, self.right, from, lanes) };
                    let mut loaded = None;
                    k.partly(count, lanes, |k| loaded = Some(numbers::load(k, self.right, from, lanes)));
                    loaded.unwrap_or(right)
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

/// `a * b + c` in any compute type.
pub(in crate::kernels) fn multiply_add(k: &mut Builder, a: Val, b: Val, c: Val) -> Val {
    match k.ty(c).elem {
        Elem::F32 | Elem::F64 => k.fma(a, b, c),
        _ => {
            let product = k.mul(a, b);
            k.add(c, product)
        }
    }
}
