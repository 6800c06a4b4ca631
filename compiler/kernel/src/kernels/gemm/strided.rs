//! Register tiles of `f32` products whose operands have any stride, and their users: loops over tiles, and the
//! transpose of rows into columns.

use crate::kernels::elementwise::transpose_block;
use crate::kernels::support::loops::{pointer_at, round_down};
use crate::kir::{Addr, Bin, Builder, Elem, Ty, Val};

/// Bytes of an element.
const SIZE: i64 = 4;

/// How the target multiplies.
pub(crate) struct Products {
    /// Lanes of its vectors.
    pub(crate) lanes: u32,
    /// Whether it can multiply by one element of a vector.
    pub(crate) by_lane: bool,
}

/// Left rows of a product.
pub(crate) enum Left {
    /// Pointers to rows whose contracted elements are contiguous.
    Along(Vec<Val>),
    /// A pointer to adjacent rows, and the bytes between contracted elements.
    Across(Val, i64),
}

/// Right vectors of a product.
#[derive(Clone, Copy)]
pub(crate) struct Right {
    pub(crate) pointer: Val,
    /// Bytes between contracted elements.
    pub(crate) step: i64,
}

/// A register tile: rows, and vectors of columns.
#[derive(Clone, Copy)]
pub(crate) struct StridedTile {
    pub(crate) rows: u32,
    pub(crate) vectors: u32,
    /// Lanes of a vector.
    pub(crate) lanes: u32,
    /// Number of lanes that are in memory, if not all.
    pub(crate) part: Option<Val>,
}

/// Rows at any stride.
#[derive(Clone, Copy)]
pub(crate) struct StridedRows {
    /// Pointer to the first one.
    pub(crate) base: Val,
    /// Bytes between rows.
    pub(crate) step: Val,
}

impl Products {
    /// Adds the products of left rows and right vectors over `depth` contracted elements to `init`.
    pub(crate) fn product(
        &self,
        k: &mut Builder,
        left: &Left,
        right: Right,
        depth: Val,
        tile: StridedTile,
        init: Vec<Val>,
    ) -> Vec<Val> {
        let StridedTile { rows, vectors, lanes, part } = tile;
        let (ty, one) = (Ty::new(Elem::F32, lanes), Ty::new(Elem::F32, 1));
        // With rounds of a vector's length, each row is loaded as one vector of contracted elements.
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
                        k.load(Ty::new(Elem::F32, self.lanes), from)
                    })
                    .collect(),
                _ => Vec::new(),
            };
            for element in 0..count {
                let columns: Vec<Val> = (0..vectors)
                    .map(|v| {
                        let from = k.at(pointers[0], (element * right.step) as i32 + (v * ty.bytes()) as i32);
                        let mut loaded = None;
                        match part {
                            Some(count) => k.partly(count, lanes, |k| loaded = Some(k.load(ty, from))),
                            None => loaded = Some(k.load(ty, from)),
                        }
                        loaded.unwrap_or(state[0])
                    })
                    .collect();
                let across: Vec<Val> = match left {
                    &Left::Across(_, step) if spread && rows.is_multiple_of(4) => (0..rows / 4)
                        .map(|four| {
                            let from = k.at(pointers[1], (element * step) as i32 + 16 * four as i32);
                            k.load(Ty::new(Elem::F32, self.lanes), from)
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
                            Addr { offset: from.offset + (element * SIZE) as i32, ..from }
                        }
                        &Left::Across(_, step) => k.at(pointers[1], (element * step + i64::from(r) * SIZE) as i32),
                    };
                    let scalar = k.load(one, from);
                    let all = k.splat(scalar, lanes);
                    sums.iter_mut().zip(&columns).for_each(|(sum, &c)| *sum = k.fma(c, all, *sum));
                }
            }
            let next = k.add_int(pointers[0], count * right.step);
            let other = match left {
                Left::Along(_) => pointers[1],
                &Left::Across(_, step) => k.add_int(pointers[1], count * step),
            };
            sums.extend([next, other]);
            sums
        };
        let (zero, whole) = (k.int(0), round_down(k, depth, unroll as u32));
        let mut state = init;
        let size = state.len();
        let other = match left {
            Left::Along(_) => right.pointer,
            Left::Across(pointer, _) => *pointer,
        };
        state.extend([right.pointer, other]);
        let state = k.fold_loop(zero, whole, unroll, &state, |k, at, state| round(k, at, unroll, state));
        let state = k.fold_loop(whole, depth, 1, &state, |k, at, state| round(k, at, 1, state));
        state[..size].to_vec()
    }
}

/// Visits `0..count` in tiles of `most`; the tail is one tile, or single steps if its length is unknown.
pub(crate) fn tiles(k: &mut Builder, count: Val, most: u32, mut body: impl FnMut(&mut Builder, Val, u32)) {
    let (zero, step) = (k.int(0), i64::from(most));
    if let Some(n) = k.as_int(count) {
        let whole = k.int(n / step * step);
        k.for_each(zero, whole, step, |k, i| body(k, i, most));
        if n % step != 0 {
            body(k, whole, (n % step) as u32);
        }
        return;
    }
    let step_val = k.int(step);
    let whole = k.bin(Bin::UDiv, count, step_val);
    let whole = k.mul_int(whole, step);
    k.for_each(zero, whole, step, |k, i| body(k, i, most));
    k.for_each(whole, count, 1, |k, i| body(k, i, 1));
}

/// Transposes `rows` rows of `columns` elements into columns.
pub(crate) fn transpose(k: &mut Builder, from: StridedRows, to: StridedRows, rows: Val, columns: Val) {
    let (zero, ty) = (k.int(0), Ty::new(Elem::F32, 1));
    let at = |k: &mut Builder, of: StridedRows, row: Val, column: Val| {
        let offset = k.mul(row, of.step);
        let base = k.add(of.base, offset);
        pointer_at(k, base, column, SIZE as usize)
    };
    let single = |k: &mut Builder, row: Val, column: Val| {
        let (from, to) = (at(k, from, row, column), at(k, to, column, row));
        let (from, to) = (k.at(from, 0), k.at(to, 0));
        let v = k.load(ty, from);
        k.store(to, v);
    };
    let (whole_rows, whole_columns) = (round_down(k, rows, 4), round_down(k, columns, 4));
    k.for_each(zero, whole_rows, 4, |k, row| {
        k.for_each(zero, whole_columns, 4, |k, column| {
            let (source, target) = (at(k, from, row, column), at(k, to, column, row));
            transpose_block(k, source, from.step, target, to.step);
        });
        k.for_each(whole_columns, columns, 1, |k, column| {
            for r in 0..4 {
                let row = k.add_int(row, r);
                single(k, row, column);
            }
        });
    });
    k.for_each(whole_rows, rows, 1, |k, row| {
        k.for_each(zero, columns, 1, |k, column| single(k, row, column));
    });
}
