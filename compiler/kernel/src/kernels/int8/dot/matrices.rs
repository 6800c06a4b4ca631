//! Register tiles of products of matrices: [`Inst::MatrixDot`](crate::kir::Inst::MatrixDot).
//!
//! An operand is eight contracted bytes of two rows, or of two columns. Rows are taken in pairs; of an odd number the last
//! one makes a pair with itself. Weights are stored for products of four bytes, so that all levels share them: the words of
//! two steps are interleaved when they are loaded.

use super::{Int8Loops, Spot};
use crate::kir::{Builder, Elem, Ty, Val};

/// Columns of a vector of sums.
const LANES: u32 = 4;
/// Sums of a pair of rows and a vector of columns.
const QUADRANTS: usize = 2;

impl Int8Loops<'_, '_> {
    /// Whether a tile is computed by products of matrices.
    pub(super) fn by_matrices(&self, spot: &Spot) -> bool {
        self.e.request.config.target.has_matrix_dot() && self.lanes == LANES && self.masked.is_none() && spot.rows > 1
    }

    /// Number of vectors of sums of a tile.
    pub(super) fn matrix_sums(spot: &Spot) -> usize {
        QUADRANTS * (spot.rows.div_ceil(2) * spot.vectors) as usize
    }

    /// The sums of each row, of matrices of sums.
    pub(super) fn rows_of_matrices(k: &mut Builder, spot: &Spot, sums: &[Val]) -> Vec<Val> {
        let (vectors, words) = (spot.vectors as usize, Ty::new(Elem::I32, LANES));
        let mut rows = Vec::with_capacity((spot.rows * spot.vectors) as usize);
        for row in 0..spot.rows as usize {
            for v in 0..vectors {
                let first = QUADRANTS * (row / 2 * vectors + v);
                let both = halves(k, sums[first], sums[first + 1], row % 2);
                rows.push(k.bitcast(both, words));
            }
        }
        rows
    }

    /// Operands of pairs of rows, of 16 bytes of each row: the first eight, and the last.
    pub(super) fn paired(k: &mut Builder, held: &[Val]) -> [Vec<Val>; 2] {
        [0, 1].map(|half| {
            let pairs = held.chunks(2).map(|pair| halves(k, pair[0], pair[pair.len() - 1], half));
            pairs.collect()
        })
    }

    /// Operands of pairs of rows, of steps whose words `word` gives for a row, in every lane.
    pub(super) fn paired_words(
        k: &mut Builder,
        rows: usize,
        steps: u32,
        mut word: impl FnMut(&mut Builder, usize, u32) -> Val,
    ) -> Vec<Vec<Val>> {
        let words = Ty::new(Elem::I32, LANES);
        let of_row = |k: &mut Builder, row: usize, step: u32, word: &mut dyn FnMut(&mut Builder, usize, u32) -> Val| {
            let first = word(k, row, step);
            let first = k.bitcast(first, words);
            let second = if step + 1 < steps { word(k, row, step + 1) } else { k.zero(words) };
            let second = k.bitcast(second, words);
            k.shuffle(first, second, &[0, 4, 1, 5])
        };
        let mut operands = Vec::new();
        for step in (0..steps).step_by(2) {
            let all: Vec<Val> = (0..rows).map(|row| of_row(k, row, step, &mut word)).collect();
            operands.push(all.chunks(2).map(|pair| halves(k, pair[0], pair[pair.len() - 1], 0)).collect());
        }
        operands
    }

    /// Adds the products of `operands`, which are those of pairs of steps, with the weights of `steps` steps. The state is
    /// the sums and the pointer to weights.
    pub(super) fn matrix_steps(
        &self,
        k: &mut Builder,
        state: &[Val],
        vectors: usize,
        steps: u32,
        operands: &[Vec<Val>],
    ) -> Vec<Val> {
        let mut state = state.to_vec();
        let Some(right) = state.pop() else { return state };
        let (bytes, words) = (Ty::new(Elem::I8, 4 * LANES), Ty::new(Elem::I32, LANES));
        for (n, pairs) in operands.iter().enumerate() {
            let step = 2 * n as u32;
            for v in 0..vectors {
                let place = |k: &mut Builder, step| self.column_at(k, right, v as u32, step);
                let at = place(k, step);
                let first = k.load(words, at);
                // The rows' bytes are zero where there is no second step.
                let second = if step + 1 < steps {
                    let at = place(k, step + 1);
                    k.load(words, at)
                } else {
                    first
                };
                for (quadrant, pattern) in [[0, 4, 1, 5], [2, 6, 3, 7]].iter().enumerate() {
                    let columns = k.shuffle(first, second, pattern);
                    let columns = k.bitcast(columns, bytes);
                    for (p, &pair) in pairs.iter().enumerate() {
                        let pair = k.bitcast(pair, bytes);
                        let sum = &mut state[QUADRANTS * (p * vectors + v) + quadrant];
                        *sum = k.matrix_dot(self.kind, pair, columns, *sum);
                    }
                }
            }
        }
        state.push(k.add_int(right, i64::from(4 * steps * self.panel)));
        state
    }
}

/// The first or last eight bytes of one vector, then those of another.
fn halves(k: &mut Builder, a: Val, b: Val, half: usize) -> Val {
    let longs = Ty::new(Elem::I64, 2);
    let (a, b) = (k.bitcast(a, longs), k.bitcast(b, longs));
    k.shuffle(a, b, &[half as u8, 2 + half as u8])
}
