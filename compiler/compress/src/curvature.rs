//! The curvature of a layer's error: products with the Gram matrix of its inputs, and a factor of its inverse.
//!
//! A change `d` of a row of weights adds `d H d^T` to the squared error of the layer's output, `H = X X^T` being the Gram
//! matrix of the inputs. Methods that fix weights one by one let the others make up for it, and need the inverse of what
//! remains of `H`: Frantar and Alistarh, "Optimal Brain Compression" (2022).
//!
//! Contract: results do not depend on the number of threads. A matrix that is not positive definite, as with inputs that
//! are always 0 or fewer samples than columns, is normal: the diagonal is raised until it is.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use mcc_ir::{Error, Result};
use rayon::prelude::*;

use crate::matrix::Matrix;

/// Rows that are worked on together, so that results do not depend on how threads share them.
pub const ROWS: usize = 32;

/// How often the damping is multiplied by 10 before a matrix is given up.
const MAX_RAISES: usize = 12;

/// The order in which columns are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they are.
    Given,
    /// Those with the largest inputs first: their errors are made up for by the most others.
    Energy,
}

/// A factor of the inverse of a Gram matrix: `inverse(P H P^T) = U^T U` with an upper triangular `U` and the columns in
/// an order `P`. Row `i` of `U` is, but for a factor, how the columns after `i` make up for an error at `i`.
pub struct Inverse {
    /// Rows and columns.
    pub columns: usize,
    /// The columns in the order of the factor.
    pub order: Vec<usize>,
    /// What was added to the diagonal.
    pub damping: f64,
    factor: Vec<f32>,
}

impl Inverse {
    /// Of a Gram matrix whose diagonal is raised by `damping` times its mean, or by as much as it takes.
    ///
    /// # Errors
    /// When the matrix is not square of `columns`, or holds a number that is not finite.
    pub fn of(gram: &[f64], columns: usize, order: Order, damping: f64) -> Result<Inverse> {
        check(gram, columns)?;
        let energy = |c: usize| gram[c * columns + c];
        let mut places: Vec<usize> = (0..columns).collect();
        if order == Order::Energy {
            places.sort_by(|&a, &b| energy(b).total_cmp(&energy(a)));
        }
        let mean = (0..columns).map(energy).sum::<f64>() / columns.max(1) as f64;
        let unit = if mean > 0.0 { mean } else { 1.0 };
        let mut damping = damping.max(1e-12) * unit;
        for _ in 0..MAX_RAISES {
            // The factor of the reversed matrix is lower triangular; reversed again, it is the upper one.
            let entry = |i: usize, j: usize| {
                let (row, column) = (places[columns - 1 - i], places[columns - 1 - j]);
                gram[row * columns + column] + if i == j { damping } else { 0.0 }
            };
            if let Some(factor) = inverse_factor(columns, entry) {
                return Ok(Inverse { columns, order: places, damping, factor });
            }
            damping *= 10.0;
        }
        Err(Error::internal(format!(
            "a Gram matrix of {columns} columns is not positive definite at damping {damping:e}"
        )))
    }

    /// Row `i` of the factor, from the diagonal on.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.factor[i * self.columns + i..(i + 1) * self.columns]
    }

    /// Subtracts `errors` (rows by `end - start`) times rows `start..end` of the factor from the columns of `rows` (of
    /// `columns` each) from `end` on.
    pub fn make_up(&self, rows: &mut [f32], errors: &[f32], start: usize, end: usize) {
        let n = self.columns;
        if end == n || rows.is_empty() {
            return;
        }
        let count = rows.len() / n;
        let factor = MatRef::from_row_major_slice(&self.factor, n, n).submatrix(start, end, end - start, n - end);
        let errors = MatRef::from_row_major_slice(errors, count, end - start);
        let rest = MatMut::from_row_major_slice_mut(rows, count, n).submatrix_mut(0, end, count, n - end);
        matmul(rest, Accum::Add, errors, factor, -1.0, Par::Seq);
    }
}

fn check(gram: &[f64], columns: usize) -> Result<()> {
    if gram.len() != columns * columns {
        return Err(Error::internal(format!("a Gram matrix of {} elements for {columns} columns", gram.len())));
    }
    match gram.iter().find(|v| !v.is_finite()) {
        Some(bad) => Err(Error::invalid(format!("the squares of a layer's inputs sum to {bad}"))
            .help("are there infinities or NaNs in the calibration data?")),
        None => Ok(()),
    }
}

/// The inverse of the Cholesky factor of a matrix, with both axes reversed, row-major; `None` if the matrix is not
/// positive definite.
fn inverse_factor(n: usize, entry: impl Fn(usize, usize) -> f64) -> Option<Vec<f32>> {
    let mut lower = Mat::from_fn(n, n, |i, j| if i >= j { entry(i, j) } else { 0.0 });
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f64>(n, Par::Seq, Default::default()));
    let stack = MemStack::new(&mut memory);
    cholesky_in_place(lower.as_mut(), Default::default(), Par::Seq, stack, Default::default()).ok()?;
    let mut inverse = Mat::<f64>::zeros(n, n);
    invert_lower_triangular(inverse.as_mut(), lower.as_ref(), Par::Seq);
    drop(lower);
    let mut factor = vec![0.0; n * n];
    for i in 0..n {
        for j in i..n {
            let v = inverse[(n - 1 - i, n - 1 - j)] as f32;
            if !v.is_finite() {
                return None;
            }
            factor[i * n + j] = v;
        }
    }
    // A pivot that rounds to 0 would be divided by.
    (0..n).all(|i| factor[i * n + i] > 0.0).then_some(factor)
}

/// The solution of a positive definite system of equations, whose matrix is row-major; `None` if it is not definite.
pub fn solved(matrix: &[f64], right: &[f64]) -> Option<Vec<f64>> {
    let n = right.len();
    let mut lower = Mat::from_fn(n, n, |i, j| matrix[i * n + j]);
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f64>(n, Par::Seq, Default::default()));
    cholesky_in_place(lower.as_mut(), Default::default(), Par::Seq, MemStack::new(&mut memory), Default::default())
        .ok()?;
    let mut x = right.to_vec();
    for i in 0..n {
        let known: f64 = (0..i).map(|j| lower[(i, j)] * x[j]).sum();
        x[i] = (x[i] - known) / lower[(i, i)];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| lower[(j, i)] * x[j]).sum();
        x[i] = (x[i] - known) / lower[(i, i)];
    }
    x.iter().all(|v| v.is_finite()).then_some(x)
}

/// A Gram matrix whose diagonal is raised by a part of its mean: what few samples do not show counts a little, too.
pub fn damped(gram: &[f64], columns: usize, part: f64) -> Vec<f64> {
    let mean = (0..columns).map(|c| gram[c * columns + c]).sum::<f64>() / columns.max(1) as f64;
    let mut gram = gram.to_vec();
    (0..columns).for_each(|c| gram[c * columns + c] += part * mean);
    gram
}

/// `rows` times the Gram matrix, row-major.
pub fn times_gram(rows: &[f64], gram: &[f64], columns: usize) -> Vec<f64> {
    let mut product = vec![0.0; rows.len()];
    if columns == 0 {
        return product;
    }
    let gram = MatRef::from_row_major_slice(gram, columns, columns);
    let chunks = product.par_chunks_mut(ROWS * columns).zip(rows.par_chunks(ROWS * columns));
    chunks.for_each(|(product, rows)| {
        let count = rows.len() / columns;
        let rows = MatRef::from_row_major_slice(rows, count, columns);
        let product = MatMut::from_row_major_slice_mut(product, count, columns);
        matmul(product, Accum::Replace, rows, gram, 1.0, Par::Seq);
    });
    product
}

/// The squared error that each row adds to the layer's output when `new` takes the place of `old`.
///
/// # Errors
/// When sizes do not agree.
pub fn row_errors(old: &Matrix, new: &Matrix, gram: &[f64]) -> Result<Vec<f64>> {
    check(gram, old.columns)?;
    if (old.rows, old.columns) != (new.rows, new.columns) {
        return Err(Error::internal("matrices of different shapes are compared"));
    }
    let change: Vec<f64> = old.data.iter().zip(&new.data).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect();
    let product = times_gram(&change, gram, old.columns);
    let n = old.columns.max(1);
    let rows = change.chunks(n).zip(product.chunks(n));
    // Rounding can give a little less than 0.
    Ok(rows.map(|(d, p)| d.iter().zip(p).map(|(d, p)| d * p).sum::<f64>().max(0.0)).collect())
}
