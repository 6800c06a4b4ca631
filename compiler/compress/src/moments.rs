//! Second moments of the data of layers: what every layer-wise method needs to know of the calibration data.
//!
//! A change `D` of a layer's weights changes its output by `D X`, whose squared sum is `trace(D H D^T)` with the Gram
//! matrix `H = X X^T` of the unfolded data (Hassibi and Stork 1993; Frantar and Alistarh 2022).

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, MatRef, Par};
use mcc_ir::{Result, Tensor};
use rayon::prelude::*;

use crate::layers::Layer;
use crate::matrix::Matrix;
use crate::model::Model;
use crate::observe::{Setting, observe};
use crate::unfold::{Data, Unfolded};

/// Positions of the output that each sample contributes at most; more add little but time.
pub(crate) const POSITIONS: usize = 2048;

/// Bytes of Gram matrices that are held at once.
pub const GRAM_BYTES: usize = 1 << 30;

/// Columns from which several threads work on one matrix.
const SHARED: usize = 768;

/// Moments of the data of one group of a layer's channels.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Inputs of each sum.
    pub columns: usize,
    /// The number of positions.
    pub count: usize,
    /// The mean of each column.
    pub means: Vec<f64>,
    /// The Gram matrix `X X^T`, columns by columns.
    pub gram: Vec<f64>,
}

impl Moments {
    fn new(columns: usize) -> Moments {
        Moments { columns, count: 0, means: vec![0.0; columns], gram: vec![0.0; columns * columns] }
    }

    /// Adds positions; the lower half of the Gram matrix is left out until [`Moments::finish`].
    fn add(&mut self, data: &Unfolded, threads: Par) {
        let n = self.columns;
        let x = MatRef::from_row_major_slice(&data.data, data.rows, n);
        let mut product = faer::Mat::<f32>::zeros(n, n);
        let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
        matmul(product.as_mut(), lower, Accum::Replace, x.transpose(), whole, x, whole, 1.0, threads);
        // A column of the lower half is a row of the upper one, and both lie in one piece.
        for column in 0..n {
            let sums = &mut self.gram[column * n + column..(column + 1) * n];
            let from = product.col(column).subrows(column, n - column);
            sums.iter_mut().zip(from.iter()).for_each(|(sum, &v)| *sum += f64::from(v));
        }
        for row in data.data.chunks_exact(n) {
            self.means.iter_mut().zip(row).for_each(|(mean, &v)| *mean += f64::from(v));
        }
        self.count += data.rows;
    }

    fn finish(&mut self) {
        let n = self.columns;
        for row in 0..n {
            for column in 0..row {
                self.gram[row * n + column] = self.gram[column * n + row];
            }
        }
        let count = self.count.max(1) as f64;
        self.means.iter_mut().for_each(|mean| *mean /= count);
    }

    /// The squared sum of the results that rows of weights give: the trace of `W H W^T`.
    pub fn energy(&self, weights: &[f64]) -> f64 {
        let n = self.columns;
        let w = MatRef::from_row_major_slice(weights, weights.len() / n, n);
        let gram = MatRef::from_row_major_slice(&self.gram, n, n);
        let mut product = faer::Mat::<f64>::zeros(w.nrows(), n);
        let threads = if n < SHARED { Par::Seq } else { Par::rayon(0) };
        faer::linalg::matmul::matmul(product.as_mut(), Accum::Replace, w, gram, 1.0, threads);
        (0..w.nrows()).map(|row| (0..n).map(|c| product[(row, c)] * w[(row, c)]).sum::<f64>()).sum::<f64>().max(0.0)
    }

    /// The moments of the data of two layers together, a list of groups each.
    pub fn join(mut some: Vec<Moments>, others: Vec<Moments>) -> Vec<Moments> {
        for (m, other) in some.iter_mut().zip(others) {
            let (a, b) = (m.count as f64, other.count as f64);
            let total = (a + b).max(1.0);
            m.means.iter_mut().zip(&other.means).for_each(|(x, y)| *x = (*x * a + y * b) / total);
            m.gram.iter_mut().zip(&other.gram).for_each(|(x, y)| *x += y);
            m.count += other.count;
        }
        some
    }

    /// The mean square of each column.
    pub fn energies(&self) -> Vec<f64> {
        let count = self.count.max(1) as f64;
        (0..self.columns).map(|c| self.gram[c * self.columns + c] / count).collect()
    }
}

/// Chunks of items whose Gram matrices fit in memory together; an item that alone does not is a chunk of its own.
pub fn by_gram_bytes<T>(items: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut chunks, mut from, mut held) = (Vec::new(), 0, 0);
    for (n, item) in items.iter().enumerate() {
        if n > from && held + bytes(item) > GRAM_BYTES {
            chunks.push(&items[from..n]);
            (from, held) = (n, 0);
        }
        held += bytes(item);
    }
    chunks.push(&items[from..]);
    chunks
}

/// The relative error of a layer's result when its weights `old` become `new`: the root of the squared differences over
/// that of the squares.
pub fn relative_error(old: &Matrix, new: &Matrix, moments: &[Moments]) -> f64 {
    let rows = old.rows / moments.len().max(1);
    let (mut off, mut all) = (0.0, 0.0);
    for (group, moments) in moments.iter().enumerate() {
        let part = |m: &Matrix| -> Vec<f64> {
            m.data[group * rows * m.columns..][..rows * m.columns].iter().map(|&v| f64::from(v)).collect()
        };
        let (old, new) = (part(old), part(new));
        let lost: Vec<f64> = old.iter().zip(&new).map(|(a, b)| a - b).collect();
        off += moments.energy(&lost);
        all += moments.energy(&old);
    }
    if off > 0.0 { (off / all.max(f64::MIN_POSITIVE)).sqrt() } else { 0.0 }
}

/// The moments of layers' data, a list of groups per layer.
///
/// # Errors
/// When the model does not compile or run on a sample.
pub fn moments(model: &Model, layers: &[Layer], setting: &Setting) -> Result<Vec<Vec<Moments>>> {
    let names: Vec<&str> = layers.iter().map(|l| l.input.as_str()).collect();
    let fresh = |l: &Layer| vec![Moments::new(l.columns()); l.kind.groups()];
    let mut all: Vec<Vec<Moments>> = layers.iter().map(fresh).collect();
    observe(model, &names, setting, &mut |sample, values: &[Tensor]| {
        // Small matrices are worked on side by side, large ones one after the other by all threads.
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for ((layer, groups), value) in layers.iter().zip(&mut all).zip(values) {
            let list = if layer.columns() < SHARED { &mut small } else { &mut large };
            list.push((layer, groups, value));
        }
        let add = |(layer, groups, value): (&Layer, &mut Vec<Moments>, &Tensor), threads: Par| -> Result<()> {
            let data = Data::of(layer, value, POSITIONS, sample)?;
            groups.par_iter_mut().enumerate().for_each(|(group, m)| m.add(&data.unfold(group), threads));
            Ok(())
        };
        small.into_par_iter().try_for_each(|item| add(item, Par::Seq))?;
        large.into_iter().try_for_each(|item| add(item, Par::rayon(0)))
    })?;
    all.iter_mut().flatten().for_each(Moments::finish);
    Ok(all)
}
