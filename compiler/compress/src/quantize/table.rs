//! Non-uniform codes: entries of one table for a whole layer, times a factor per row.
//!
//! This is the form that the compiler keeps in its objects: see `passes/src/pack/codebook.rs`.

use mcc_ir::Result;
use serde::{Deserialize, Serialize};

use crate::codebook::{self, Codebooks, Fit};
use crate::levels::Levels;
use crate::matrix::Matrix;
use crate::moments::Moments;

/// Turns of fitting the table and the factors.
const TURNS: usize = 4;

/// A table and the rows' factors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Bits of a code.
    pub bits: u32,
    /// The entries, ascending.
    pub entries: Vec<f32>,
    /// A factor per row.
    pub factors: Vec<f32>,
}

impl Table {
    /// Fits a table to weights, weighted by their inputs' mean squares: rows are divided by their factors and clustered;
    /// then each row's factor is the one with the least error.
    ///
    /// # Errors
    /// When a weight is not finite.
    pub fn fit(matrix: &Matrix, bits: u32, moments: &[Moments], keep_zeros: bool) -> Result<Table> {
        let (rows, columns) = (matrix.rows, matrix.columns);
        let per_group = rows / moments.len().max(1);
        let energies: Vec<Vec<f64>> = moments.iter().map(Moments::energies).collect();
        let importance = |row: usize, factor: f32| {
            let square = f64::from(factor) * f64::from(factor);
            energies[row / per_group].iter().map(move |e| (e + f64::MIN_POSITIVE) * square)
        };
        let mut factors: Vec<f32> = (0..rows).map(|row| spread(matrix.row(row))).collect();
        let mut entries = Vec::new();
        for _ in 0..TURNS {
            let divided = |at: usize| matrix.data[at] / factors[at / columns];
            let divided: Vec<f32> = (0..rows * columns).map(divided).collect();
            let weighed: Vec<f64> = (0..rows).flat_map(|row| importance(row, factors[row])).collect();
            // One row of all weights, so that each has an importance of its own.
            let options = codebook::Options { bits, rows_per_table: 1, fit: Fit::KMeans, keep_zeros };
            let fitted = Codebooks::fit(&divided, rows * columns, Some(&weighed), options)?;
            for row in 0..rows {
                let (mut with, mut of) = (0.0, 0.0);
                for (column, e) in importance(row, 1.0).enumerate() {
                    let at = row * columns + column;
                    let entry = f64::from(fitted.centres[usize::from(fitted.codes[at])]);
                    with += e * entry * f64::from(matrix.data[at]);
                    of += e * entry * entry;
                }
                // A row of next to nothing keeps its factor: others may not be numbers after division.
                let factor = (with / of) as f32;
                if factor > factors[row] * MOST_NARROW {
                    factors[row] = factor;
                }
            }
            entries = fitted.centres;
        }
        Ok(Table { bits, entries, factors })
    }

    /// What the codes of a row mean.
    pub fn levels(&self, row: usize) -> Levels {
        Levels::Table(self.entries.iter().map(|e| e * self.factors[row]).collect())
    }

    /// The weights of codes.
    pub fn weights(&self, codes: &[i32], rows: usize, columns: usize) -> Matrix {
        let weight = |(at, &c): (usize, &i32)| self.entries[c as usize] * self.factors[at / columns];
        Matrix { rows, columns, data: codes.iter().enumerate().map(weight).collect() }
    }
}

/// How much smaller a turn may make a row's factor.
const MOST_NARROW: f32 = 1e-3;

/// The root mean square of weights; 1 if all are zero or nearly.
fn spread(weights: &[f32]) -> f32 {
    let sum: f32 = weights.iter().map(|w| w * w).sum();
    let spread = (sum / weights.len().max(1) as f32).sqrt();
    if spread > f32::MIN_POSITIVE.sqrt() { spread } else { 1.0 }
}
