//! Least-squares fits of rows of which some weights are zero.

use std::collections::HashMap;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::{factor, inverse, solve};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, Par};
use mcc_ir::{Error, Result};
use rayon::prelude::*;

use super::evidence::Rows;

/// What damping is multiplied by until a matrix has a factor.
const MORE_DAMPING: f64 = 10.0;

/// Which weights stay, in the order of a layer's matrix.
pub type Mask = Vec<bool>;

/// Rows `x` with the least sum of `x^T A x - 2 x^T t`: the squared error of their results, up to a constant.
#[derive(Debug, Clone)]
pub struct Problem {
    /// `A`: inputs by inputs, positive definite.
    pub gram: Mat<f64>,
    /// `t`: inputs by rows.
    pub target: Rows,
}

/// The Cholesky factor of a positive definite matrix.
pub struct Factor(Mat<f64>);

impl Factor {
    /// Factors a matrix; one that is not positive definite because of rounding is damped until it is.
    ///
    /// # Errors
    /// When it has no number for an entry.
    pub fn of(matrix: &Mat<f64>, par: Par) -> Result<Factor> {
        let n = matrix.ncols();
        let mean = (0..n).map(|j| matrix[(j, j)].abs()).sum::<f64>() / n.max(1) as f64;
        let mut damping = 0.0;
        while mean.is_finite() && damping <= mean.max(1.0) {
            let mut factor = matrix.clone();
            (0..n).for_each(|j| factor[(j, j)] += damping);
            let scratch = factor::cholesky_in_place_scratch::<f64>(n, par, Default::default());
            let mut memory = MemBuffer::new(scratch);
            let (plain, stack) = (Default::default(), MemStack::new(&mut memory));
            if factor::cholesky_in_place(factor.as_mut(), plain, par, stack, Default::default()).is_ok() {
                return Ok(Factor(factor));
            }
            damping = (damping * MORE_DAMPING).max(mean * f64::EPSILON.sqrt());
        }
        Err(Error::invalid("the data of a layer has values that are not finite").help("check the calibration data"))
    }

    /// Replaces right-hand sides by solutions.
    pub fn solve(&self, sides: MatMut<'_, f64>, par: Par) {
        let stack = &mut MemBuffer::new(solve::solve_in_place_scratch::<f64>(self.0.ncols(), sides.ncols(), par));
        solve::solve_in_place(self.0.as_ref(), sides, par, MemStack::new(stack));
    }

    /// The inverse of the matrix.
    pub fn inverse(&self, par: Par) -> Mat<f64> {
        let n = self.0.ncols();
        let mut result = Mat::zeros(n, n);
        let stack = &mut MemBuffer::new(inverse::inverse_scratch::<f64>(n, par));
        inverse::inverse(result.as_mut(), self.0.as_ref(), par, MemStack::new(stack));
        for column in 0..n {
            for row in 0..column {
                result[(row, column)] = result[(column, row)];
            }
        }
        result
    }
}

impl Problem {
    /// The best rows with these non-zeros. Rows with the same non-zeros share a factor.
    ///
    /// # Errors
    /// When the data is not finite.
    pub fn solve(&self, mask: &[bool]) -> Result<Rows> {
        let n = self.gram.ncols();
        let mut alike: Vec<(&[bool], Vec<usize>)> = Vec::new();
        let mut places: HashMap<&[bool], usize> = HashMap::new();
        for (row, kept) in mask.chunks_exact(n).enumerate() {
            let place = *places.entry(kept).or_insert_with(|| {
                alike.push((kept, Vec::new()));
                alike.len() - 1
            });
            alike[place].1.push(row);
        }
        // Many small factors are computed side by side, a single one by all cores.
        let par = if alike.len() == 1 { Par::rayon(0) } else { Par::Seq };
        let solved: Vec<Result<(Vec<usize>, Mat<f64>)>> = alike
            .par_iter()
            .map(|(kept, rows)| {
                let kept: Vec<usize> = (0..n).filter(|&j| kept[j]).collect();
                let gram = Mat::from_fn(kept.len(), kept.len(), |i, j| self.gram[(kept[i], kept[j])]);
                let mut sides = Mat::from_fn(kept.len(), rows.len(), |i, r| self.target[(kept[i], rows[r])]);
                Factor::of(&gram, par)?.solve(sides.as_mut(), par);
                Ok((kept, sides))
            })
            .collect();
        let mut result = Mat::zeros(n, self.target.ncols());
        for (solved, (_, rows)) in solved.into_iter().zip(&alike) {
            let (kept, values) = solved?;
            for (r, &row) in rows.iter().enumerate() {
                kept.iter().enumerate().for_each(|(i, &j)| result[(j, row)] = values[(i, r)]);
            }
        }
        Ok(result)
    }

    /// The squared error of rows, up to a constant that is the same for all.
    pub fn error(&self, rows: &Rows) -> f64 {
        let mut product = Mat::<f64>::zeros(rows.nrows(), rows.ncols());
        matmul(product.as_mut(), Accum::Replace, self.gram.as_ref(), rows.as_ref(), 1.0, Par::rayon(0));
        product -= 2.0 * &self.target;
        dot(rows, &product)
    }

    /// The squared results of rows.
    pub fn energy(&self, rows: &Rows) -> f64 {
        let mut product = Mat::<f64>::zeros(rows.nrows(), rows.ncols());
        matmul(product.as_mut(), Accum::Replace, self.gram.as_ref(), rows.as_ref(), 1.0, Par::rayon(0));
        dot(rows, &product)
    }
}

/// The sum of the products of elements.
pub fn dot(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    let column = |c: usize| -> f64 { a.col_as_slice(c).iter().zip(b.col_as_slice(c)).map(|(a, b)| a * b).sum() };
    (0..a.ncols()).map(column).sum()
}

/// Rows without the weights that go.
pub fn masked(rows: &Rows, mask: &[bool]) -> Rows {
    let n = rows.nrows();
    Mat::from_fn(n, rows.ncols(), |j, r| if mask[r * n + j] { rows[(j, r)] } else { 0.0 })
}
