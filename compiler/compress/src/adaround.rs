//! AdaRound of a layer: decides for each weight whether it is rounded down or up, so that the layer's output changes least
//! (Nagel, Amjad, van Baalen, Louizos and Blankevoort, "Up or Down? Adaptive Rounding for Post-Training Quantization",
//! 2020).
//!
//! The error of the output is `trace((W - Q) H (W - Q)^T)` with the Gram matrix `H` of the inputs, so an iteration takes
//! one product with `H` and no data. Each weight's part of the way up is a rectified sigmoid of a variable, which Adam
//! moves; a regularizer with an annealed exponent drives it to 0 or 1. What results is improved by single codes, each
//! changed to the neighbour that lowers the error, until none does.
//!
//! Contract: no row has a larger error than with the given codes; a row that is worse keeps them. Nothing is drawn at
//! random, and results do not depend on the number of threads.

mod descent;
#[cfg(test)]
mod tests;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use mcc_ir::{Error, Result};
use rayon::prelude::*;

use crate::curvature::{ROWS, row_errors};
use crate::gptq::Rounded;
use crate::levels::Levels;
use crate::matrix::Matrix;

/// How roundings are learned.
#[derive(Clone, Copy, Debug)]
pub struct Options<'o> {
    /// Iterations; 0 for the improvement of single codes only.
    pub iterations: usize,
    /// The weight of the regularizer.
    pub regularization: f32,
    /// The step of Adam.
    pub rate: f32,
    /// The weights that stay; the others are 0. Without it all do.
    pub kept: Option<&'o [bool]>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { iterations: 400, regularization: 0.02, rate: 0.02, kept: None }
    }
}

/// The rectified sigmoid reaches 0 and 1 at finite variables: `clamp(sigmoid(v) * (HIGH - LOW) + LOW, 0, 1)`.
const LOW: f32 = -0.1;
const HIGH: f32 = 1.1;

/// The share of iterations without the regularizer, and its exponents at the beginning and the end.
const WARM_UP: f32 = 0.2;
const EXPONENTS: [f32; 2] = [20.0, 2.0];

/// Changes the codes of `rounded` for less error of the layer's output. Levels stay.
///
/// # Errors
/// When sizes do not agree, or a number is not finite.
pub fn adaround(weights: &Matrix, gram: &[f64], rounded: Rounded, options: &Options<'_>) -> Result<Rounded> {
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
    if let Some(bad) = gram.iter().find(|v| !v.is_finite()) {
        return Err(Error::invalid(format!("the squares of a layer's inputs sum to {bad}")));
    }
    let given = row_errors(weights, &rounded.values, gram)?;
    // The gradient does not need more than f32; the comparison of results does.
    let single: Vec<f32> = gram.iter().map(|&v| v as f32).collect();
    let groups = rounded.levels.len() / weights.rows;
    let layer = Layer { weights, gram: &single, rounded: &rounded, groups, width: group_width(&rounded, weights) };
    let chunks: Vec<usize> = (0..weights.rows).step_by(ROWS).collect();
    let codes: Vec<Vec<i32>> = chunks
        .into_par_iter()
        .map(|first| {
            let rows = first..weights.rows.min(first + ROWS);
            let start = match options.iterations {
                0 => rounded.codes[rows.start * n..rows.end * n].to_vec(),
                _ => layer.learned(rows.clone(), &given[rows.clone()], options),
            };
            descent::descend(&layer, rows, start, options.kept)
        })
        .collect();
    let codes = codes.concat();
    let value = |(at, &code): (usize, &i32)| match options.kept.is_none_or(|kept| kept[at]) {
        true => layer.levels(at).value(code),
        false => 0.0,
    };
    let values = Matrix { rows: weights.rows, columns: n, data: codes.iter().enumerate().map(value).collect() };
    let errors = row_errors(weights, &values, gram)?;
    let mut result = Rounded { codes, values, levels: rounded.levels.clone(), group: rounded.group };
    for row in (0..weights.rows).filter(|&row| errors[row] > given[row]) {
        let all = row * n..(row + 1) * n;
        result.codes[all.clone()].copy_from_slice(&rounded.codes[all.clone()]);
        result.values.data[all.clone()].copy_from_slice(&rounded.values.data[all]);
    }
    Ok(result)
}

fn group_width(rounded: &Rounded, weights: &Matrix) -> usize {
    rounded.group.clamp(1, weights.columns)
}

/// A layer whose roundings are searched.
struct Layer<'l> {
    weights: &'l Matrix,
    gram: &'l [f32],
    rounded: &'l Rounded,
    /// Groups of a row, and their columns.
    groups: usize,
    width: usize,
}

impl Layer<'_> {
    /// The levels of a weight.
    fn levels(&self, at: usize) -> &Levels {
        let n = self.weights.columns;
        &self.rounded.levels[at / n * self.groups + at % n / self.width]
    }

    /// `rows` times the Gram matrix.
    fn product(&self, rows: &[f32], product: &mut [f32]) {
        let n = self.weights.columns;
        let count = rows.len() / n;
        let gram = MatRef::from_row_major_slice(self.gram, n, n);
        let rows = MatRef::from_row_major_slice(rows, count, n);
        matmul(MatMut::from_row_major_slice_mut(product, count, n), Accum::Replace, rows, gram, 1.0, Par::Seq);
    }

    /// Codes of some rows, whose errors are `given` with the codes they have.
    fn learned(&self, rows: std::ops::Range<usize>, given: &[f64], options: &Options<'_>) -> Vec<i32> {
        let n = self.weights.columns;
        let (first, len) = (rows.start * n, rows.len() * n);
        let mut parts: Vec<Part> = (first..first + len).map(|at| self.part(at, options.kept)).collect();
        // Rows count alike, whatever their error: it is in units of what each has now, per weight.
        let unit: Vec<f32> = given.iter().map(|&e| if e > 0.0 { (n as f64 / e) as f32 } else { 0.0 }).collect();
        let (mut off, mut gradient) = (vec![0.0f32; len], vec![0.0f32; len]);
        for iteration in 0..options.iterations {
            let done = (iteration as f32 + 1.0) / options.iterations as f32;
            off.iter_mut().zip(&parts).for_each(|(off, part)| *off = part.off());
            self.product(&off, &mut gradient);
            let exponent = (done >= WARM_UP).then(|| {
                let along = (done - WARM_UP) / (1.0 - WARM_UP);
                EXPONENTS[1] + (EXPONENTS[0] - EXPONENTS[1]) * 0.5 * (1.0 + (along * std::f32::consts::PI).cos())
            });
            for (i, part) in parts.iter_mut().enumerate() {
                part.step(2.0 * gradient[i] * unit[i / n], exponent, iteration, options);
            }
        }
        parts.iter().map(Part::code).collect()
    }

    fn part(&self, at: usize, kept: Option<&[bool]>) -> Part {
        let (levels, weight) = (self.levels(at), self.weights.data[at]);
        let is_kept = kept.is_none_or(|kept| kept[at]);
        let codes = if is_kept { levels.around(weight) } else { [levels.code(0.0); 2] };
        let [low, high] = codes.map(|code| if is_kept { levels.value(code) } else { 0.0 });
        let way = if high > low { ((weight - low) / (high - low)).clamp(0.01, 0.99) } else { 0.0 };
        let sigmoid = (way - LOW) / (HIGH - LOW);
        Part {
            codes,
            low,
            step: high - low,
            weight,
            variable: (sigmoid / (1.0 - sigmoid)).ln(),
            mean: 0.0,
            square: 0.0,
        }
    }
}

/// A weight on its way from one code to the next.
struct Part {
    codes: [i32; 2],
    low: f32,
    step: f32,
    weight: f32,
    variable: f32,
    /// Adam's averages of the gradient and its square.
    mean: f32,
    square: f32,
}

impl Part {
    fn sigmoid(&self) -> f32 {
        1.0 / (1.0 + (-self.variable).exp())
    }

    fn way(&self) -> f32 {
        (self.sigmoid() * (HIGH - LOW) + LOW).clamp(0.0, 1.0)
    }

    /// How far the rounded weight is above the given one.
    fn off(&self) -> f32 {
        self.low + self.way() * self.step - self.weight
    }

    fn code(&self) -> i32 {
        self.codes[usize::from(self.way() >= 0.5)]
    }

    /// One step of Adam, given the derivative of the error by the rounded weight.
    fn step(&mut self, error: f32, exponent: Option<f32>, iteration: usize, options: &Options<'_>) {
        let sigmoid = self.sigmoid();
        let way = sigmoid * (HIGH - LOW) + LOW;
        let slope = if (0.0..=1.0).contains(&way) { sigmoid * (1.0 - sigmoid) * (HIGH - LOW) } else { 0.0 };
        let mut by_way = error * self.step;
        if let Some(exponent) = exponent {
            // The derivative of 1 - |2 way - 1|^exponent.
            let side = 2.0 * way - 1.0;
            by_way -= options.regularization * 2.0 * exponent * side.abs().powf(exponent - 1.0) * side.signum();
        }
        let gradient = by_way * slope;
        const DECAY: [f32; 2] = [0.9, 0.999];
        self.mean = DECAY[0] * self.mean + (1.0 - DECAY[0]) * gradient;
        self.square = DECAY[1] * self.square + (1.0 - DECAY[1]) * gradient * gradient;
        let n = iteration as i32 + 1;
        let (mean, square) = (self.mean / (1.0 - DECAY[0].powi(n)), self.square / (1.0 - DECAY[1].powi(n)));
        self.variable -= options.rate * mean / (square.sqrt() + 1e-8);
    }
}
