//! What calibration shows about the data of layers, in a reference and in the model as it is now.
//!
//! Layers that are changed one after the other see data that earlier changes have moved. Fitting a layer to the
//! reference's results on the present data, instead of to its own results, makes up for that as well (the asymmetric
//! calibration of Nagel et al. 2020 and Li et al. 2025).

use std::collections::BTreeMap;

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};
use mcc_ir::{Result, Tensor};
use rayon::prelude::*;

use super::fit::{Problem, dot};
use super::product::{Key, Product};
use crate::model::Model;
use crate::moments::POSITIONS;
use crate::observe::{Setting, Tap};
use crate::unfold::Unfolded;

/// Damping of the Gram matrix, relative to its mean diagonal, for data of infinitely many positions.
const DAMPING: f64 = 1e-4;

/// What damping grows by if a sum has as many inputs as there are positions.
const DAMPING_FEW: f64 = 0.1;

/// All positions count, as many as a sample contributes.
pub const ALL: usize = usize::MAX;

/// So many positions for each input of a sum are enough for a fit of all of them; more would hardly change it.
pub const ENOUGH: usize = 16;

/// Positions that each sample contributes at least, if it has them.
const LEAST: usize = 256;

/// Second moments of the data of one group of a layer's channels.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The number of positions.
    pub count: usize,
    /// The number of positions that they stand for: what is left out for speed says no less.
    seen: usize,
    /// `X^T X` of the present data: columns by columns.
    pub gram: Mat<f64>,
    /// `R^T X`: columns of the reference's data by columns of the present data.
    pub cross: Mat<f64>,
    /// `R^T R`, where the reference has other columns.
    pub reference_gram: Option<Mat<f64>>,
    /// The mean of each column of the present data.
    pub means: Vec<f64>,
    /// The mean of each column of the reference's data.
    pub reference_means: Vec<f64>,
}

/// Rows of a layer as columns of a matrix: inputs by output channels.
pub type Rows = Mat<f64>;

/// The output channels of the reference's products that the present ones still have; all if a product is not named.
pub type Kept = BTreeMap<Key, Vec<usize>>;

/// The squared error of a result, and the squared result; sums of several add up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Error {
    /// The error.
    pub squared: f64,
    /// The result.
    pub of: f64,
}

impl Error {
    /// The error relative to the result.
    pub fn relative(self) -> f64 {
        (self.squared.max(0.0) / self.of.max(f64::MIN_POSITIVE)).sqrt()
    }
}

impl std::ops::AddAssign for Error {
    fn add_assign(&mut self, other: Error) {
        self.squared += other.squared;
        self.of += other.of;
    }
}

impl Evidence {
    fn new(reference: usize, columns: usize) -> Evidence {
        Evidence {
            count: 0,
            seen: 0,
            gram: Mat::zeros(columns, columns),
            cross: Mat::zeros(reference, columns),
            reference_gram: (reference != columns).then(|| Mat::zeros(reference, reference)),
            means: vec![0.0; columns],
            reference_means: vec![0.0; reference],
        }
    }

    /// Adds positions; the upper halves of Gram matrices are left out until [`Evidence::finish`]. Without a reference
    /// of its own, the data is its own reference.
    fn add(&mut self, reference: Option<&Unfolded>, present: &Unfolded) {
        let x = matrix(present);
        add(&mut self.gram, &square(x));
        if let Some(reference) = reference {
            let r = matrix(reference);
            let mut cross = Mat::<f32>::zeros(r.ncols(), x.ncols());
            matmul(cross.as_mut(), Accum::Replace, r.transpose(), x, 1.0, Par::rayon(0));
            add(&mut self.cross, &cross);
            if let Some(gram) = &mut self.reference_gram {
                add(gram, &square(r));
            }
        }
        for (means, data) in [(&mut self.means, present), (&mut self.reference_means, reference.unwrap_or(present))] {
            for row in data.data.chunks_exact(data.columns) {
                means.iter_mut().zip(row).for_each(|(mean, &v)| *mean += f64::from(v));
            }
        }
        self.count += present.rows;
    }

    fn finish(&mut self, paired: bool) {
        for gram in std::iter::once(&mut self.gram).chain(&mut self.reference_gram) {
            for column in 0..gram.ncols() {
                for row in 0..column {
                    gram[(row, column)] = gram[(column, row)];
                }
            }
        }
        if !paired {
            self.cross = self.gram.clone();
        }
        let count = self.count.max(1) as f64;
        self.means.iter_mut().chain(&mut self.reference_means).for_each(|mean| *mean /= count);
    }

    /// Takes the means out of the moments: what is left is what a free bias cannot make up for.
    fn centred(&self) -> (Mat<f64>, Mat<f64>) {
        let count = self.count as f64;
        let (mut gram, mut cross) = (self.gram.clone(), self.cross.clone());
        for (matrix, rows) in [(&mut gram, &self.means), (&mut cross, &self.reference_means)] {
            for (column, mean) in self.means.iter().enumerate() {
                let values = matrix.col_as_slice_mut(column).iter_mut().zip(rows);
                values.for_each(|(v, other)| *v -= count * mean * other);
            }
        }
        (gram, cross)
    }

    /// The fit of rows to the reference's results: `reference` are the reference's rows, `present` what the rows are
    /// drawn to where data says nothing; `free` tells that a bias makes up for the mean.
    pub fn problem(&self, reference: &Rows, present: &Rows, free: bool) -> Problem {
        let (mut gram, cross) = if free { self.centred() } else { (self.gram.clone(), self.cross.clone()) };
        let n = gram.ncols();
        let mut target = Mat::<f64>::zeros(n, reference.ncols());
        matmul(target.as_mut(), Accum::Replace, cross.transpose(), reference.as_ref(), 1.0, Par::rayon(0));
        let mean = (0..n).map(|j| gram[(j, j)]).sum::<f64>() / n.max(1) as f64;
        let few = (n as f64 / self.seen.max(1) as f64).min(1.0);
        // Data that is always zero must not make the matrix singular.
        let damping = (mean * (DAMPING + DAMPING_FEW * few)).max(f64::MIN_POSITIVE.sqrt());
        (0..n).for_each(|j| gram[(j, j)] += damping);
        target += damping * present;
        Problem { gram, target }
    }

    /// The relative error of rows, against the reference's rows on its own data where that has other columns.
    pub fn error(&self, reference: &Rows, present: &Rows, free: bool) -> Error {
        let count = if free { self.count as f64 } else { 0.0 };
        let energy = |gram: &Mat<f64>, means: &[f64], rows: &Rows| -> f64 {
            let mut product = Mat::<f64>::zeros(rows.nrows(), rows.ncols());
            matmul(product.as_mut(), Accum::Replace, gram.as_ref(), rows.as_ref(), 1.0, Par::rayon(0));
            let mean = |row: &[f64]| -> f64 { row.iter().zip(means).map(|(w, m)| w * m).sum() };
            dot(rows, &product) - (0..rows.ncols()).map(|r| count * mean(rows.col_as_slice(r)).powi(2)).sum::<f64>()
        };
        let Some(gram) = &self.reference_gram else {
            return Error {
                squared: energy(&self.gram, &self.means, &(present - reference)),
                of: energy(&self.gram, &self.means, reference),
            };
        };
        let of = energy(gram, &self.reference_means, reference);
        let (_, cross) = if free { self.centred() } else { (Mat::new(), self.cross.clone()) };
        let mut target = Mat::<f64>::zeros(present.nrows(), present.ncols());
        matmul(target.as_mut(), Accum::Replace, cross.transpose(), reference.as_ref(), 1.0, Par::rayon(0));
        Error { squared: of + energy(&self.gram, &self.means, present) - 2.0 * dot(present, &target), of }
    }

    /// What must be added to a row's bias to give the reference's mean result.
    pub fn shift(&self, reference: &[f64], present: &[f64]) -> f64 {
        let mean = |row: &[f64], means: &[f64]| -> f64 { row.iter().zip(means).map(|(w, m)| w * m).sum() };
        mean(reference, &self.reference_means) - mean(present, &self.means)
    }
}

fn matrix(data: &Unfolded) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(&data.data, data.rows, data.columns)
}

/// `X^T X`, its lower half.
fn square(x: MatRef<'_, f32>) -> Mat<f32> {
    let mut gram = Mat::<f32>::zeros(x.ncols(), x.ncols());
    let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    triangular::matmul(gram.as_mut(), lower, Accum::Replace, x.transpose(), whole, x, whole, 1.0, Par::rayon(0));
    gram
}

fn add(sum: &mut Mat<f64>, more: &Mat<f32>) {
    for column in 0..sum.ncols() {
        let more = more.col_as_slice(column);
        sum.col_as_slice_mut(column).iter_mut().zip(more).for_each(|(s, &v)| *s += f64::from(v));
    }
}

/// The evidence of some products' data, a list of groups each; the reference has the same products, and may be the
/// model itself. `enough` positions for each input are looked at, if there are as many.
///
/// # Errors
/// When a model does not compile or run on a sample.
pub fn evidence(
    reference: &Model,
    model: &Model,
    kept: &Kept,
    some: &[Product],
    enough: usize,
    setting: &Setting,
) -> Result<Vec<Vec<Evidence>>> {
    let paired = !std::ptr::eq(reference, model);
    let mut originals = Vec::new();
    for product in some {
        originals.push(product.again(reference)?);
    }
    let columns = some.iter().zip(&originals).map(|(p, old)| [old.layer.columns(), p.layer.columns()]);
    let columns: Vec<[usize; 2]> = columns.collect();
    let fresh = |(p, c): (&Product, &[usize; 2])| vec![Evidence::new(c[0], c[1]); p.layer.kind.groups()];
    let mut all: Vec<Vec<Evidence>> = some.iter().zip(&columns).map(fresh).collect();
    let tap = |model: &Model, products: &[Product]| {
        let names: Vec<&str> = products.iter().map(|p| p.layer.input.as_str()).collect();
        Tap::new(model, &names, setting)
    };
    let mut taps = vec![tap(model, some)?];
    if paired {
        taps.push(tap(reference, &originals)?);
    }
    let taps: Vec<&Tap> = taps.iter().collect();
    let limit = |columns: usize| {
        let share = enough.saturating_mul(columns).div_ceil(setting.samples.len().max(1));
        POSITIONS.min(share.max(LEAST))
    };
    let each = &mut |sample: usize, values: &[Tensor]| {
        let (now, before) = values.split_at(some.len());
        for (n, groups) in all.iter_mut().enumerate() {
            let limit = limit(columns[n][0]);
            let data = some[n].data(&now[n], limit, sample)?;
            let old = before.get(n).map(|values| originals[n].data(values, limit, sample)).transpose()?;
            groups.par_iter_mut().enumerate().for_each(|(group, evidence)| {
                let old = old.as_ref().map(|d| d.unfold(old_group(&some[n], &originals[n], kept, group)));
                evidence.add(old.as_ref(), &data.unfold(group));
                evidence.seen += data.total().min(POSITIONS);
            });
        }
        Ok(())
    };
    Tap::run_all(&taps, setting, each)?;
    all.iter_mut().flatten().for_each(|evidence| evidence.finish(paired));
    Ok(all)
}

/// The reference's group of channels that is a group now.
fn old_group(product: &Product, original: &Product, kept: &Kept, group: usize) -> usize {
    let per_group = |p: &Product| p.layer.rows() / p.layer.kind.groups();
    let first = group * per_group(product);
    kept.get(&product.key()).map_or(first, |rows| rows[first]) / per_group(original)
}
