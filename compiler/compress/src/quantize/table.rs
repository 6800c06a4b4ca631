//! Non-uniform codes: entries of one table for a whole layer, times a factor per row or per run of a row.
//!
//! This is the form that the compiler keeps in its objects: see `passes/src/pack/codebook.rs`. A table for each group of
//! rows instead gains next to nothing: divided by their factors, the weights of all rows are distributed alike.

use std::sync::Arc;

use mcc_ir::Result;
use serde::{Deserialize, Serialize};

use super::runs::Runs;
use crate::codebook::{self, Codebooks, Fit};
use crate::levels::Levels;
use crate::matrix::Matrix;
use crate::moments::Moments;

/// Turns of fitting the table and the factors.
const TURNS: usize = 4;

/// Factors that are tried for each run, and the least and the largest, as parts of the one that makes the largest entry the
/// largest weight.
const CANDIDATES: usize = 24;
const PARTS: [f64; 2] = [0.6, 1.3];

/// A table and the factors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Bits of a code.
    pub bits: u32,
    /// The entries, ascending.
    pub entries: Vec<f32>,
    /// Inputs that share a factor.
    pub runs: Runs,
    /// A factor per row and run, row-major.
    pub factors: Vec<f32>,
}

/// What tables are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Bits of a code.
    pub bits: u32,
    /// Inputs that share a factor.
    pub runs: Runs,
    /// How entries are found.
    pub fit: Fit,
    /// Whether weights that are 0 stay exactly 0.
    pub keep_zeros: bool,
}

impl Table {
    /// Fits a table to weights, weighted by their inputs' mean squares: weights are divided by their factors and clustered;
    /// then each run's factor is the one with the least error.
    ///
    /// # Errors
    /// When a weight is not finite.
    pub fn fit(matrix: &Matrix, options: Options, moments: &[Moments]) -> Result<Table> {
        let Options { bits, runs, fit, keep_zeros } = options;
        let (rows, columns) = (matrix.rows, matrix.columns);
        let per_group = rows / moments.len().max(1);
        let energies: Vec<Vec<f64>> = moments.iter().map(Moments::energies).collect();
        let energy = |at: usize| energies[at / columns / per_group][at % columns] + f64::MIN_POSITIVE;
        let place = |at: usize| runs.place(at, columns);
        let mut factors = spreads(matrix, runs);
        let mut entries = Vec::new();
        for _ in 0..TURNS {
            let divided: Vec<f32> = matrix.data.iter().enumerate().map(|(at, w)| w / factors[place(at)]).collect();
            let weighed = |at: usize| energy(at) * f64::from(factors[place(at)]).powi(2);
            let weighed: Vec<f64> = (0..divided.len()).map(weighed).collect();
            // One row of all weights, so that each has an importance of its own.
            let options = codebook::Options { bits, rows_per_table: 1, fit, keep_zeros };
            let fitted = Codebooks::fit(&divided, rows * columns, Some(&weighed), options)?;
            let mut sums = vec![[0.0; 2]; factors.len()];
            for (at, &weight) in matrix.data.iter().enumerate() {
                let entry = f64::from(fitted.centres[usize::from(fitted.codes[at])]);
                let [with, of] = &mut sums[place(at)];
                *with += energy(at) * entry * f64::from(weight);
                *of += energy(at) * entry * entry;
            }
            for (factor, [with, of]) in factors.iter_mut().zip(sums) {
                // A run of next to nothing keeps its factor: others may not be numbers after division.
                let best = (with / of) as f32;
                if best > *factor * MOST_NARROW {
                    *factor = best;
                }
            }
            entries = fitted.centres;
        }
        Ok(Table { bits, entries, runs, factors })
    }

    /// What codes of a whole row mean.
    pub fn of_row(&self, entries: &Arc<[f32]>, row: usize) -> Levels {
        Levels::Table { entries: entries.clone(), factor: self.factors[row] }
    }

    /// Levels for the weights of a run: the factor with the least squared error, weighted by each input's mean square.
    pub fn best(entries: &Arc<[f32]>, weights: &[f32], energies: &[f64]) -> Levels {
        let largest = |values: &[f32]| values.iter().fold(0.0f64, |m, &v| m.max(f64::from(v.abs())));
        let whole = largest(weights) / largest(entries).max(f64::MIN_POSITIVE);
        let with = |factor: f64| Levels::Table { entries: entries.clone(), factor: factor as f32 };
        if whole < f64::from(f32::MIN_POSITIVE) || !whole.is_finite() {
            return with(1.0);
        }
        let error = |levels: &Levels| -> f64 {
            let off = |w: f32| f64::from(w) - f64::from(levels.value(levels.code(w)));
            weights.iter().zip(energies).map(|(&w, e)| off(w).powi(2) * (e + f64::MIN_POSITIVE)).sum()
        };
        let part = |n: usize| PARTS[1] - (PARTS[1] - PARTS[0]) * n as f64 / (CANDIDATES - 1) as f64;
        let candidates = (0..CANDIDATES).map(|n| with(whole * part(n)));
        let tried = candidates.map(|levels| (error(&levels), levels));
        tried.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(with(whole), |(_, levels)| levels)
    }

    /// The weights of codes.
    pub fn weights(&self, codes: &[i32], rows: usize, columns: usize) -> Matrix {
        let factor = |at: usize| self.factors[self.runs.place(at, columns)];
        let weight = |(at, &c): (usize, &i32)| self.entries[c as usize] * factor(at);
        Matrix { rows, columns, data: codes.iter().enumerate().map(weight).collect() }
    }
}

/// How much smaller a turn may make a factor.
const MOST_NARROW: f32 = 1e-3;

/// The root mean square of the weights of each run; 1 if all are zero or nearly.
fn spreads(matrix: &Matrix, runs: Runs) -> Vec<f32> {
    let mut sums = vec![(0.0f64, 0usize); matrix.rows * runs.count(matrix.columns)];
    for (at, &w) in matrix.data.iter().enumerate() {
        let (sum, count) = &mut sums[runs.place(at, matrix.columns)];
        (*sum, *count) = (*sum + f64::from(w) * f64::from(w), *count + 1);
    }
    let spread = |(sum, count): (f64, usize)| (sum / count.max(1) as f64).sqrt() as f32;
    sums.into_iter().map(spread).map(|s| if s > f32::MIN_POSITIVE.sqrt() { s } else { 1.0 }).collect()
}
