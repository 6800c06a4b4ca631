//! Fits the weights that remain to the layer's output.

use mcc_ir::{Error, Result};
use rayon::prelude::*;

use crate::curvature::{ROWS, times_gram};
use crate::matrix::Matrix;

/// A row is done when its gradient has become this small, relative to the first.
const TOLERANCE: f64 = 1e-4;

/// Changes the weights of `values` that are kept so that the error of the output, relative to that with `weights`, becomes
/// least: conjugate gradients, preconditioned by the diagonal, in at most so many steps. No row's error grows.
///
/// # Errors
/// When sizes do not agree.
pub fn fit(weights: &Matrix, values: Matrix, kept: &[bool], gram: &[f64], steps: usize) -> Result<Matrix> {
    let n = weights.columns;
    let sizes = [values.data.len(), kept.len()];
    if sizes != [weights.data.len(); 2] || gram.len() != n * n {
        return Err(Error::internal(format!(
            "weights, values, mask and Gram matrix do not fit: {sizes:?}, {n} columns"
        )));
    }
    if steps == 0 || n == 0 {
        return Ok(values);
    }
    // A column whose input is always 0 has no gradient; its weight stays.
    let scale: Vec<f64> = (0..n).map(|c| gram[c * n + c]).map(|d| if d > 0.0 { 1.0 / d } else { 0.0 }).collect();
    let mut data = values.data;
    let chunks = data.par_chunks_mut(ROWS * n).zip(weights.data.par_chunks(ROWS * n)).zip(kept.par_chunks(ROWS * n));
    chunks.for_each(|((values, weights), kept)| {
        let change = fitted(weights, values, kept, gram, &scale, steps);
        values.iter_mut().zip(change).for_each(|(v, c)| *v = (f64::from(*v) + c) as f32);
    });
    Ok(Matrix { rows: weights.rows, columns: n, data })
}

/// What is added to the weights of some rows.
fn fitted(weights: &[f32], values: &[f32], kept: &[bool], gram: &[f64], scale: &[f64], steps: usize) -> Vec<f64> {
    let n = scale.len();
    let masked = |mut v: Vec<f64>| {
        v.iter_mut().zip(kept).filter(|(_, kept)| !**kept).for_each(|(v, _)| *v = 0.0);
        v
    };
    let off: Vec<f64> = weights.iter().zip(values).map(|(&w, &v)| f64::from(w) - f64::from(v)).collect();
    let mut change = vec![0.0; values.len()];
    let mut residual = masked(times_gram(&off, gram, n));
    let scaled = |r: &[f64]| -> Vec<f64> { r.iter().enumerate().map(|(i, r)| r * scale[i % n]).collect() };
    let mut direction = scaled(&residual);
    let dots = |a: &[f64], b: &[f64]| -> Vec<f64> {
        a.chunks(n).zip(b.chunks(n)).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum()).collect()
    };
    let mut energy = dots(&residual, &direction);
    let done: Vec<f64> = energy.iter().map(|e| e * TOLERANCE * TOLERANCE).collect();
    for _ in 0..steps {
        if energy.iter().zip(&done).all(|(e, done)| e <= done) {
            break;
        }
        let product = masked(times_gram(&direction, gram, n));
        let curvature = dots(&direction, &product);
        let length: Vec<f64> = energy
            .iter()
            .zip(&curvature)
            .zip(&done)
            .map(|((&e, &c), &done)| if c > 0.0 && e > done { e / c } else { 0.0 })
            .collect();
        for i in 0..change.len() {
            change[i] += length[i / n] * direction[i];
            residual[i] -= length[i / n] * product[i];
        }
        let next = scaled(&residual);
        let gained = dots(&residual, &next);
        for i in 0..direction.len() {
            let old = energy[i / n];
            direction[i] = next[i] + if old > 0.0 { gained[i / n] / old * direction[i] } else { 0.0 };
        }
        energy = gained;
    }
    change
}
