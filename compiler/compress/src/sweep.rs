//! A sweep over the columns of a matrix that fixes them one after the other, while the columns that are left make up for
//! the error: the order of work of GPTQ (Frantar et al. 2022) and SparseGPT (Frantar and Alistarh 2023), with their lazy
//! updates of later blocks of columns.

use crate::curvature::Inverse;

/// Columns whose errors are collected before the others make up for them.
const COLUMNS: usize = 128;

/// Decides what weights become.
pub trait Decide {
    /// Called before the columns `start..end` of all rows are fixed; `rows` (row-major, `columns` each) holds what they
    /// are now.
    fn block(&mut self, rows: &[f32], start: usize, end: usize);

    /// The value of `row`'s weight at `column`. The row from there to the end of the block is what the weights are now.
    fn value(&mut self, row: usize, column: usize, weights: &[f32]) -> f32;
}

/// Fixes all columns of `rows`, in the order of `inverse`, and leaves their values. Blocks of columns begin at multiples of
/// `unit`, so that what is decided about so many columns at once is decided from what they are at that time.
pub fn sweep(rows: &mut [f32], inverse: &Inverse, unit: usize, decide: &mut impl Decide) {
    let n = inverse.columns;
    let unit = unit.clamp(1, n.max(1));
    let mut start = 0;
    while start < n {
        let end = match unit <= COLUMNS {
            true => start + COLUMNS / unit * unit,
            false => (start + COLUMNS).min((start / unit + 1) * unit),
        };
        let end = end.min(n);
        decide.block(rows, start, end);
        let width = end - start;
        let mut errors = vec![0.0f32; rows.len() / n * width];
        for (r, (row, errors)) in rows.chunks_mut(n).zip(errors.chunks_mut(width)).enumerate() {
            fix(row, errors, inverse, start, &mut |column, weights| decide.value(r, column, weights));
        }
        inverse.make_up(rows, &errors, start, end);
        start = end;
    }
}

/// Fixes the first columns of a block in one row; the rest of the block makes up for each error at once.
fn fix(
    row: &mut [f32],
    errors: &mut [f32],
    inverse: &Inverse,
    start: usize,
    value: &mut impl FnMut(usize, &[f32]) -> f32,
) {
    let end = start + errors.len();
    for column in start..end {
        let factor = &inverse.row(column)[..end - column];
        let new = value(column, &row[column..]);
        let error = (row[column] - new) / factor[0];
        errors[column - start] = error;
        row[column] = new;
        if error != 0.0 {
            row[column + 1..end].iter_mut().zip(&factor[1..]).for_each(|(w, u)| *w -= error * u);
        }
    }
}
