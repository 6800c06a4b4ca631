//! Non-uniform quantization of a matrix of weights: each group of rows (output channels) has a table of centres, and each
//! weight is a number of a centre.
//!
//! Contract: the same weights and options give the same tables and codes on any number of threads. Every weight has the
//! code of its nearest centre (the lower one if two are as near). Tables are in ascending order and have exactly
//! `2^bits` entries; if a group has fewer different weights, these are the first entries and the last one is repeated, so
//! that nothing is lost.
//!
//! The importance of a column weighs the squared errors of its weights: with the diagonal of the Gram matrix `X X^T` of
//! the layer's inputs, the sum is the layer's error if inputs are uncorrelated.
//!
//! - [`Fit::Quantiles`]: every centre is the mean of as many weights as any other's (equal population).
//! - [`Fit::KMeans`]: least weighted squared error. In one dimension clusters are intervals, and dynamic programming finds
//!   the best ones: H. Wang and M. Song, "Ckmeans.1d.dp", The R Journal 3/2 (2011), with divide and conquer, since the
//!   best starts are monotone. Where a group is too large for that, its weights are first merged with neighbours, and the
//!   result is improved by Lloyd's iteration over all weights (S. Lloyd, "Least squares quantization in PCM", 1982).

mod cluster;
#[cfg(test)]
mod tests;

use mcc_ir::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use cluster::Points;

/// How centres are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Means of equally many weights.
    Quantiles,
    /// Least squared error.
    #[default]
    #[serde(rename = "k-means")]
    KMeans,
}

/// What tables are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bits of a code, 1 to 8.
    pub bits: u32,
    /// Consecutive rows that share a table; 1 is one per output channel, and the number of rows one per tensor.
    pub rows_per_table: usize,
    /// How centres are found.
    pub fit: Fit,
    /// Whether weights that are 0 stay exactly 0: where there are any, one centre is 0 and the others are fitted to the
    /// other weights.
    pub keep_zeros: bool,
}

/// Tables of centres, and the code of every weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Codebooks {
    /// Bits of a code; a table has `2^bits` centres.
    pub bits: u32,
    /// Consecutive rows that share a table.
    pub rows_per_table: usize,
    /// Columns of the matrix.
    pub columns: usize,
    /// The tables, one after the other, each ascending.
    pub centres: Vec<f32>,
    /// The code of every weight, row-major.
    pub codes: Vec<u8>,
}

impl Codebooks {
    /// Fits tables to `weights` (row-major, rows of `columns`), whose columns have the given `importance` or all the same.
    /// Columns of no importance count a millionth of the mean, so that their weights are still near a centre.
    ///
    /// # Errors
    /// When the options are out of range, sizes do not agree, or a number is not finite or an importance is negative.
    pub fn fit(weights: &[f32], columns: usize, importance: Option<&[f64]>, options: Options) -> Result<Codebooks> {
        check(weights, columns, importance, options)?;
        let weigh = importance.map(positive);
        let size = options.rows_per_table.saturating_mul(columns.max(1)).max(1);
        let tables: Vec<Vec<f32>> =
            weights.par_chunks(size).map(|group| table(group, columns, weigh.as_deref(), options)).collect();
        let codes = weights
            .par_chunks(size)
            .zip(&tables)
            .flat_map_iter(|(group, table)| group.iter().map(move |&w| nearest(table, w) as u8));
        let codes = codes.collect();
        let Options { bits, rows_per_table, .. } = options;
        Ok(Codebooks { bits, rows_per_table, columns, centres: tables.concat(), codes })
    }

    /// The table of a row.
    pub fn table(&self, row: usize) -> &[f32] {
        let entries = 1usize << self.bits;
        let first = row / self.rows_per_table.max(1) * entries;
        &self.centres[first..first + entries]
    }

    /// The weights that the codes stand for, row-major.
    pub fn values(&self) -> Vec<f32> {
        let rows = self.codes.chunks(self.columns.max(1)).enumerate();
        rows.flat_map(|(row, codes)| {
            let table = self.table(row);
            codes.iter().map(|&code| table[usize::from(code)])
        })
        .collect()
    }
}

/// The number of the entry of an ascending table that is nearest to a value; of two as near, the lower. The table has an
/// entry.
pub fn nearest(table: &[f32], value: f32) -> usize {
    let above = table.partition_point(|&c| c < value);
    let code = match above {
        0 => 0,
        above if above == table.len() => above - 1,
        above => {
            let (low, high) = (f64::from(table[above - 1]), f64::from(table[above]));
            if f64::from(value) - low <= high - f64::from(value) { above - 1 } else { above }
        }
    };
    // Of entries that are repeated, the first.
    table.partition_point(|&c| c < table[code])
}

fn check(weights: &[f32], columns: usize, importance: Option<&[f64]>, options: Options) -> Result<()> {
    if !(1..=8).contains(&options.bits) {
        return Err(Error::usage(format!("codes of a codebook have 1 to 8 bits, not {}", options.bits)));
    }
    if options.rows_per_table == 0 {
        return Err(Error::usage("a codebook is for 1 row of weights or more, not 0"));
    }
    if !weights.is_empty() && (columns == 0 || !weights.len().is_multiple_of(columns)) {
        return Err(Error::internal(format!("{} weights are no rows of {columns}", weights.len())));
    }
    if let Some(importance) = importance {
        if importance.len() != columns {
            return Err(Error::internal(format!("{} importances of {columns} columns", importance.len())));
        }
        if let Some(bad) = importance.iter().find(|w| !w.is_finite() || **w < 0.0) {
            return Err(Error::invalid(format!("the importance of a column is {bad}"))
                .help("are there infinities or NaNs in the calibration data?"));
        }
    }
    match weights.iter().find(|w| !w.is_finite()) {
        Some(bad) => Err(Error::invalid(format!("a weight is {bad}, and has no nearest entry of a codebook"))),
        None => Ok(()),
    }
}

/// Importances without zeros; all the same if there is nothing else.
fn positive(importance: &[f64]) -> Vec<f64> {
    let mean = importance.iter().sum::<f64>() / importance.len().max(1) as f64;
    match mean > 0.0 {
        true => importance.iter().map(|&w| w.max(mean * 1e-6)).collect(),
        false => vec![1.0; importance.len()],
    }
}

/// The table of one group of rows.
fn table(group: &[f32], columns: usize, weigh: Option<&[f64]>, options: Options) -> Vec<f32> {
    let zeros = options.keep_zeros && group.contains(&0.0);
    let points = group.iter().enumerate().filter(|(_, w)| !zeros || **w != 0.0);
    let points = points.map(|(i, &w)| (f64::from(w), weigh.map_or(1.0, |weigh| weigh[i % columns]))).collect();
    let points = Points::new(points);
    let entries = 1usize << options.bits;
    let wanted = entries - usize::from(zeros);
    let mut centres: Vec<f32> = match options.fit {
        Fit::Quantiles => points.equal_population(wanted),
        Fit::KMeans => points.least_squares(wanted),
    };
    if zeros {
        centres.push(0.0);
    }
    // -0 and 0 are one number.
    centres.iter_mut().for_each(|c| *c += 0.0);
    centres.sort_by(f32::total_cmp);
    centres.dedup();
    let last = centres.last().copied().unwrap_or(0.0);
    centres.resize(entries, last);
    centres
}
