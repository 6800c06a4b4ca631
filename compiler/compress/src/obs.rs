//! One-shot pruning with reconstruction: sets weights of a layer to zero, and lets the others make up for it.
//!
//! Weights are chosen in a sweep over the columns by what removing them costs, given what the columns that are left can
//! make up for (Frantar and Alistarh, "SparseGPT", 2023; "Optimal Brain Compression", 2022). Then all weights that remain
//! are fitted to the layer's output: conjugate gradients on the squared error, restricted to them (as Meng et al., "ALPS",
//! 2024, do after their own choice).
//!
//! Contract: no group of [`ROWS`] rows has a larger error than if its smallest weights had been removed in the same
//! pattern; where it would, the smallest are removed, and the others fitted all the same. Results do not depend on the
//! number of threads. At a minimum of the fit the error of the remaining weights is orthogonal to what they can express,
//! so quantizing them afterwards ([`crate::gptq`] with a mask) adds its own error and no more.

mod choice;
mod fit;
#[cfg(test)]
mod tests;

use mcc_ir::{Error, Result};
use rayon::prelude::*;

use crate::curvature::{Inverse, Order, ROWS, row_errors};
use crate::matrix::Matrix;
use crate::sweep::sweep;

pub use fit::fit;

/// Which weights may be removed together, and how many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern<'p> {
    /// Blocks of `rows` consecutive output channels by `columns` consecutive inputs, of which a share is removed; 1 by 1
    /// for single weights. Blocks at the ends of axes may be smaller.
    Blocks {
        /// Output channels of a block, which divide [`ROWS`].
        rows: usize,
        /// Inputs of a block.
        columns: usize,
        /// The share of blocks that is removed, 0 to 1.
        share: f64,
    },
    /// Of every `of` consecutive inputs of a row, `keep` stay. The last inputs, if fewer, keep as many.
    Few {
        /// Weights that stay.
        keep: usize,
        /// Of so many, at most 16.
        of: usize,
    },
    /// The weights that stay, row-major.
    Given(&'p [bool]),
}

/// How weights are removed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options<'p> {
    /// Which weights are removed.
    pub pattern: Pattern<'p>,
    /// What is added to the diagonal of the Gram matrix, relative to its mean; 0.01 is usual.
    pub damping: f64,
    /// Steps of the fit at most. Each takes one product of the weights with the Gram matrix.
    pub steps: usize,
}

/// A pruned layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruned {
    /// The weights; 0 where removed.
    pub values: Matrix,
    /// Which weights stay, row-major.
    pub kept: Vec<bool>,
    /// The squared error that each row adds to the layer's output.
    pub errors: Vec<f64>,
}

/// Prunes `weights`, given the Gram matrix of the layer's inputs (columns by columns, row-major).
///
/// # Errors
/// When the pattern is impossible, sizes do not agree, or a number is not finite.
pub fn prune(weights: &Matrix, gram: &[f64], options: &Options<'_>) -> Result<Pruned> {
    check(weights, &options.pattern)?;
    if weights.data.is_empty() {
        return Ok(Pruned { values: weights.clone(), kept: Vec::new(), errors: vec![0.0; weights.rows] });
    }
    let inverse = Inverse::of(gram, weights.columns, Order::Given, options.damping)?;
    let chunks = weights.data.par_chunks(ROWS * weights.columns).enumerate();
    let parts: Vec<Vec<f32>> = chunks
        .map(|(chunk, rows)| {
            let mut values = rows.to_vec();
            let first = chunk * ROWS * weights.columns;
            let mut choice = choice::Choice::new(&options.pattern, weights.columns, &inverse, first);
            sweep(&mut values, &inverse, choice.unit(), &mut choice);
            values
        })
        .collect();
    let swept = pruned(weights, parts.concat(), gram, &options.pattern, options.steps)?;
    let smallest = choice::smallest(weights, &options.pattern);
    let mut smallest = pruned(weights, smallest, gram, &options.pattern, 0)?;
    let total = |errors: &[f64]| -> f64 { errors.iter().sum() };
    let worse: Vec<bool> =
        swept.errors.chunks(ROWS).zip(smallest.errors.chunks(ROWS)).map(|(a, b)| total(a) > total(b)).collect();
    if !worse.contains(&true) {
        return Ok(swept);
    }
    smallest = pruned(weights, smallest.values.data, gram, &options.pattern, options.steps)?;
    Ok(chosen(swept, smallest, &worse))
}

/// Of each group of rows, one of two results.
fn chosen(mut swept: Pruned, other: Pruned, which: &[bool]) -> Pruned {
    let columns = swept.values.columns;
    for row in (0..swept.values.rows).filter(|row| which[row / ROWS]) {
        let all = row * columns..(row + 1) * columns;
        swept.values.data[all.clone()].copy_from_slice(&other.values.data[all.clone()]);
        swept.kept[all.clone()].copy_from_slice(&other.kept[all]);
        swept.errors[row] = other.errors[row];
    }
    swept
}

/// Pruned weights, with those that stay fitted in so many steps.
fn pruned(weights: &Matrix, data: Vec<f32>, gram: &[f64], pattern: &Pattern<'_>, steps: usize) -> Result<Pruned> {
    let kept: Vec<bool> = match pattern {
        Pattern::Given(kept) => kept.to_vec(),
        Pattern::Blocks { .. } | Pattern::Few { .. } => data.iter().map(|&v| v != 0.0).collect(),
    };
    let values = Matrix { data, ..Matrix::zeros(weights.rows, weights.columns) };
    let values = fit(weights, values, &kept, gram, steps)?;
    let errors = row_errors(weights, &values, gram)?;
    Ok(Pruned { values, kept, errors })
}

fn check(weights: &Matrix, pattern: &Pattern<'_>) -> Result<()> {
    match *pattern {
        Pattern::Blocks { share, .. } if !(0.0..=1.0).contains(&share) => {
            return Err(Error::usage(format!("a share of {share} of the weights cannot be removed")).help("0 to 1"));
        }
        Pattern::Blocks { rows, columns, .. } if rows == 0 || columns == 0 || !ROWS.is_multiple_of(rows) => {
            return Err(Error::usage(format!("weights cannot be removed in blocks of {rows}x{columns}"))
                .help(format!("a block's rows must divide {ROWS}")));
        }
        Pattern::Few { keep, of } if of > 16 || keep > of || keep == 0 => {
            return Err(Error::usage(format!("weights cannot be removed so that {keep} of {of} stay"))
                .help("the pattern N:M keeps N of M, 1 to M, and M is at most 16"));
        }
        Pattern::Given(kept) if kept.len() != weights.data.len() => {
            return Err(Error::internal(format!("a mask of {} for {} weights", kept.len(), weights.data.len())));
        }
        Pattern::Blocks { .. } | Pattern::Few { .. } | Pattern::Given(_) => {}
    }
    match weights.data.iter().find(|w| !w.is_finite()) {
        Some(bad) => Err(Error::invalid(format!("a weight is {bad}"))),
        None => Ok(()),
    }
}
