//! Fits the scales of rounded weights to the layer's output: given the codes, the error is a quadratic function of the
//! scales, so that one small system of equations per row gives the best ones.
//!
//! Contract: codes stay, and no row's error grows. Results do not depend on the number of threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use mcc_ir::{Error, Result};
use rayon::prelude::*;

use crate::curvature::{ROWS, row_errors, solved};
use crate::gptq::Rounded;
use crate::matrix::Matrix;

/// What is added to the diagonal of each row's system, as a part of it, for steps towards the scales as they are.
const DAMPING: f64 = 1e-3;

/// The most that a scale is multiplied or divided by.
const MOST: f64 = 2.0;

/// Changes the scales of `rounded` for less error of the layer's output, with the Gram matrix of its inputs.
///
/// # Errors
/// When sizes do not agree, or the Gram matrix holds a number that is not finite.
pub fn refit(weights: &Matrix, gram: &[f64], rounded: Rounded) -> Result<Rounded> {
    let n = weights.columns;
    if rounded.codes.len() != weights.data.len() || gram.len() != n * n {
        return Err(Error::internal(format!(
            "{} codes and {} moments of {n} columns",
            rounded.codes.len(),
            gram.len()
        )));
    }
    if weights.data.is_empty() {
        return Ok(rounded);
    }
    let given = row_errors(weights, &rounded.values, gram)?;
    let (width, groups) = (rounded.group.clamp(1, n), rounded.levels.len() / weights.rows);
    let chunks: Vec<usize> = (0..weights.rows).step_by(ROWS).collect();
    let factors: Vec<Vec<f64>> = chunks
        .into_par_iter()
        .map(|first| {
            let rows = first..weights.rows.min(first + ROWS);
            let part = rows.start * n..rows.end * n;
            factors(&weights.data[part.clone()], &rounded.values.data[part], gram, [n, width, groups])
        })
        .collect();
    let mut result = rounded.clone();
    result.levels.iter_mut().zip(factors.iter().flatten()).for_each(|(l, &factor)| *l = l.times(factor));
    result.values.data.par_iter_mut().enumerate().filter(|(_, v)| **v != 0.0).for_each(|(at, v)| {
        *v = result.levels[at / n * groups + at % n / width].value(result.codes[at]);
    });
    let errors = row_errors(weights, &result.values, gram)?;
    for row in (0..weights.rows).filter(|&row| errors[row] > given[row]) {
        let (all, own) = (row * n..(row + 1) * n, row * groups..(row + 1) * groups);
        result.values.data[all.clone()].copy_from_slice(&rounded.values.data[all]);
        result.levels[own.clone()].clone_from_slice(&rounded.levels[own]);
    }
    Ok(result)
}

/// What the scales of some rows are multiplied by, row by row and group by group.
fn factors(weights: &[f32], values: &[f32], gram: &[f64], [n, width, groups]: [usize; 3]) -> Vec<f64> {
    let rows = weights.len() / n;
    let wide: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
    let (values, gram) = (MatRef::from_row_major_slice(&wide, rows, n), MatRef::from_row_major_slice(gram, n, n));
    let mut systems = vec![0.0; rows * groups * groups];
    let mut right = vec![0.0; rows * groups];
    let mut product = vec![0.0; rows * n];
    for group in 0..groups {
        let (start, len) = (group * width, width.min(n - group * width));
        let into = MatMut::from_row_major_slice_mut(&mut product, rows, n);
        let (part, of) = (values.subcols(start, len), gram.subrows(start, len));
        matmul(into, Accum::Replace, part, of, 1.0, Par::Seq);
        for row in 0..rows {
            let (product, own) = (&product[row * n..(row + 1) * n], row * n..(row + 1) * n);
            let off = weights[own.clone()].iter().zip(&wide[own.clone()]).map(|(&w, v)| f64::from(w) - v);
            right[row * groups + group] = off.zip(product).map(|(d, p)| d * p).sum();
            for (other, (v, p)) in wide[own].chunks(width).zip(product.chunks(width)).enumerate() {
                systems[(row * groups + group) * groups + other] = v.iter().zip(p).map(|(v, p)| v * p).sum();
            }
        }
    }
    let solve = |row: usize| -> Vec<f64> {
        let system = &mut systems[row * groups * groups..(row + 1) * groups * groups].to_vec();
        let mean = (0..groups).map(|g| system[g * groups + g]).sum::<f64>() / groups as f64;
        (0..groups).for_each(|g| system[g * groups + g] += DAMPING * (system[g * groups + g] + 1e-6 * mean));
        let changes = solved(system, &right[row * groups..(row + 1) * groups]).unwrap_or_else(|| vec![0.0; groups]);
        changes.into_iter().map(|c| (1.0 + c).clamp(1.0 / MOST, MOST)).collect()
    };
    (0..rows).flat_map(solve).collect()
}

#[cfg(test)]
mod tests {
    use mcc_ir::Random;

    use super::*;
    use crate::gptq::{Group, Options, nearest};
    use crate::levels::Levels;

    fn data(rows: usize, columns: usize, seed: u64) -> Matrix {
        let mut random = Random::new(seed);
        Matrix { rows, columns, data: (0..rows * columns).map(|_| random.real() as f32).collect() }
    }

    #[test]
    fn scales_are_the_best_of_their_codes() {
        let (weights, inputs) = (data(5, 24, 1), data(40, 24, 2));
        let gram: Vec<f64> = (0..24 * 24)
            .map(|at| (0..40).map(|r| f64::from(inputs.row(r)[at / 24]) * f64::from(inputs.row(r)[at % 24])).sum())
            .collect();
        let levels = |_: Group<'_>| Levels::Steps { scale: 0.3, zero: 0, lowest: -4, highest: 3 };
        let rounded = nearest(&weights, &Options { group: Some(8), ..Options::default() }, &levels);
        let before = row_errors(&weights, &rounded.values, &gram).unwrap();
        let codes = rounded.codes.clone();
        let fitted = refit(&weights, &gram, rounded).unwrap();
        let after = row_errors(&weights, &fitted.values, &gram).unwrap();
        assert_eq!(fitted.codes, codes);
        for (row, (before, after)) in before.iter().zip(&after).enumerate() {
            assert!(after < before, "row {row}: {after} after {before}");
            // Any other scale of a group is worse, or next to nothing better.
            for group in 0..3 {
                for factor in [0.97f32, 1.03] {
                    let mut moved = fitted.values.clone();
                    moved.row_mut(row)[group * 8..(group + 1) * 8].iter_mut().for_each(|v| *v *= factor);
                    let moved = row_errors(&weights, &moved, &gram).unwrap()[row];
                    assert!(moved > 0.999 * after, "row {row}, group {group}: {moved} instead of {after}");
                }
            }
        }
    }

    #[test]
    fn rows_without_data_keep_their_scales() {
        let weights = data(3, 16, 3);
        let levels = |_: Group<'_>| Levels::Steps { scale: 0.5, zero: 0, lowest: -2, highest: 1 };
        let rounded = nearest(&weights, &Options::default(), &levels);
        let fitted = refit(&weights, &vec![0.0; 256], rounded.clone()).unwrap();
        assert_eq!(fitted.values, rounded.values);
        assert!(refit(&weights, &[0.0; 9], rounded).is_err());
    }
}
