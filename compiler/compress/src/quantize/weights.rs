//! Codes of weights.

use std::borrow::Cow;
use std::sync::Arc;

use mcc_ir::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::grid::Grid;
use super::runs::Runs;
use super::table::{self, Table};
use crate::adaround::{self, adaround};
use crate::curvature::{Order, damped};
use crate::gptq::{self, Group, Rounded, gptq};
use crate::layers::{Kind, Layer};
use crate::levels::Levels;
use crate::matrix::Matrix;
use crate::moments::Moments;
use crate::recipe::{Quantize, Rounding, Weights};
use crate::refit::refit;
use crate::write::Half;

/// Inputs that share a scale, if codes are short and the recipe does not say.
const BLOCK: usize = 32;

/// The share of zeros from which a layer counts as pruned, so that its zeros stay.
const PRUNED: f64 = 0.05;

/// A layer's weights in fewer bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Codes {
    /// What a code means.
    pub form: Form,
    /// A code per weight, in the matrix's order; none for floats.
    pub codes: Vec<i32>,
}

/// What codes mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Form {
    /// Equal steps.
    Steps(Grid),
    /// Entries of a table.
    Table(Table),
    /// 16-bit floats.
    Half(Half),
}

impl Codes {
    /// The weights that the codes mean; `given` are the weights that were rounded.
    pub fn weights(&self, given: &Matrix) -> Matrix {
        let (rows, columns) = (given.rows, given.columns);
        match &self.form {
            Form::Steps(grid) => grid.weights(&self.codes, rows, columns),
            Form::Table(table) => table.weights(&self.codes, rows, columns),
            Form::Half(half) => Matrix { rows, columns, data: given.data.iter().map(|&v| half.round(v)).collect() },
        }
    }

    /// Bits of a weight, its share of scales included.
    pub fn bits(&self, columns: usize) -> f64 {
        let shared = |runs: Runs| if runs.count(columns) > 1 { 32.0 / runs.size as f64 } else { 0.0 };
        match &self.form {
            Form::Steps(grid) => f64::from(grid.bits) + shared(grid.runs),
            Form::Table(table) => f64::from(table.bits) + shared(table.runs),
            Form::Half(_) => 16.0,
        }
    }
}

/// Whether a layer's weights can be of a type: those of grouped transposed convolutions have no axis for the channels of
/// all groups, which a table's factors need.
pub fn fits(layer: &Layer, weights: Weights) -> bool {
    let grouped = matches!(layer.kind, Kind::ConvTranspose(_)) && layer.kind.groups() > 1;
    !(grouped && matches!(weights, Weights::Codebook(_)))
}

/// The codes of a layer's weights.
///
/// # Errors
/// When the moments do not fit the layer, or a weight is not finite.
pub fn encode(layer: &Layer, matrix: &Matrix, moments: &[Moments], step: &Quantize) -> Result<Codes> {
    match step.weights {
        Weights::F16 => halves(matrix, Half::F16),
        Weights::Bf16 => halves(matrix, Half::Bf16),
        Weights::Int(bits) => steps(layer, matrix, moments, step, bits),
        Weights::Codebook(bits) => entries(layer, matrix, moments, step, bits),
    }
}

/// 16-bit floats.
fn halves(matrix: &Matrix, half: Half) -> Result<Codes> {
    match matrix.data.iter().find(|&&v| !half.round(v).is_finite()) {
        Some(v) => Err(Error::unsupported(format!("the weight {v} is too large for {half:?}")).help("give bf16")),
        None => Ok(Codes { form: Form::Half(half), codes: Vec::new() }),
    }
}

/// Codes of equal steps.
fn steps(layer: &Layer, matrix: &Matrix, moments: &[Moments], step: &Quantize, bits: u32) -> Result<Codes> {
    let runs = runs(layer, step, bits);
    let shared = match layer.kind {
        // Its weights have an axis for the channels of a group only, so that groups share scales.
        Kind::ConvTranspose(_) if moments.len() > 1 => Some(Grid::shared(matrix, bits, moments)),
        _ => None,
    };
    let levels = |row: usize, weights: &[f32], energies: &[f64]| {
        let scale = match &shared {
            Some(scales) => scales[row % scales.len()],
            None => Grid::best(bits, weights, energies),
        };
        Levels::Steps { scale, zero: 0, lowest: Grid::lowest(bits), highest: Grid::highest(bits) }
    };
    let how = How { runs, refit: shared.is_none() && bits < 8, rounding: step.rounding };
    let (codes, levels) = round(matrix, moments, how, &levels)?;
    let scale = |l: &Levels| if let Levels::Steps { scale, .. } = l { *scale } else { 1.0 };
    let grid = Grid { bits, runs, scales: levels.iter().map(scale).collect() };
    Ok(Codes { form: Form::Steps(grid), codes })
}

/// Entries of a table.
fn entries(layer: &Layer, matrix: &Matrix, moments: &[Moments], step: &Quantize, bits: u32) -> Result<Codes> {
    let runs = runs(layer, step, bits);
    let options = table::Options { bits, runs, fit: step.table, keep_zeros: matrix.zero_share() > PRUNED };
    let mut table = Table::fit(matrix, options, moments)?;
    let shared: Arc<[f32]> = table.entries.clone().into();
    let whole = runs.count(matrix.columns) == 1;
    let levels = |row: usize, weights: &[f32], energies: &[f64]| match whole {
        true => table.of_row(&shared, row),
        false => Table::best(&shared, weights, energies),
    };
    let (codes, levels) = round(matrix, moments, How { runs, refit: true, rounding: step.rounding }, &levels)?;
    let factor = |l: &Levels| if let Levels::Table { factor, .. } = l { *factor } else { 1.0 };
    table.factors = levels.iter().map(factor).collect();
    Ok(Codes { form: Form::Table(table), codes })
}

/// Which weights of a layer share a scale. Convolutions say it for blocks of 4-bit codes and of entries only.
fn runs(layer: &Layer, step: &Quantize, bits: u32) -> Runs {
    let product = matches!(layer.kind, Kind::Product { .. } | Kind::Recurrent(_));
    let is_table = matches!(step.weights, Weights::Codebook(_));
    let can = product || bits <= 4 || is_table;
    let usual = (bits <= 4 || bits < 8 && product && !is_table).then_some(BLOCK);
    Runs::of(layer, step.block.or(usual).filter(|_| can))
}

/// How weights are rounded.
#[derive(Clone, Copy)]
struct How {
    runs: Runs,
    /// Whether scales are fitted to the codes, and codes to the scales again.
    refit: bool,
    rounding: Rounding,
}

/// Rounds weights to levels that a function gives for a row, its weights and their inputs' mean squares.
fn round(
    matrix: &Matrix,
    moments: &[Moments],
    how: How,
    levels: &(impl Fn(usize, &[f32], &[f64]) -> Levels + Sync),
) -> Result<(Vec<i32>, Vec<Levels>)> {
    let (rows, columns) = (matrix.rows / moments.len().max(1), matrix.columns);
    let order = how.runs.order(columns);
    let pruned = matrix.zero_share() > PRUNED;
    let group = |(group, moments): (usize, &Moments)| -> Result<Rounded> {
        let first = group * rows;
        let weights = (first..first + rows).flat_map(|row| order.iter().map(move |&c| matrix.row(row)[c])).collect();
        let weights = Matrix { rows, columns, data: weights };
        let kept: Option<Vec<bool>> = pruned.then(|| weights.data.iter().map(|&v| v != 0.0).collect());
        let energies = moments.energies();
        let energies: Vec<f64> = order.iter().map(|&c| energies[c]).collect();
        let of = |g: Group| {
            let start = g.group * how.runs.size;
            levels(first + g.row, g.weights, &energies[start..start + g.weights.len()])
        };
        rounded(&weights, &in_order(&moments.gram, &order), how, kept.as_deref(), &of)
    };
    let parts: Vec<Rounded> = moments.par_iter().enumerate().map(group).collect::<Result<_>>()?;
    let (mut codes, mut levels) = (vec![0; matrix.data.len()], Vec::new());
    let codes_of_rows = parts.iter().flat_map(|part| part.codes.chunks(columns.max(1)));
    for (row, part) in codes_of_rows.enumerate() {
        order.iter().zip(part).for_each(|(&c, &code)| codes[row * columns + c] = code);
    }
    parts.into_iter().for_each(|part| levels.extend(part.levels));
    Ok((codes, levels))
}

/// A Gram matrix with its columns in another order.
fn in_order<'g>(gram: &'g [f64], order: &[usize]) -> Cow<'g, [f64]> {
    if order.is_sorted() {
        return gram.into();
    }
    order.iter().flat_map(|&r| order.iter().map(move |&c| gram[r * order.len() + c])).collect()
}

/// Rounds the weights of a group of channels, whose runs follow each other.
fn rounded(
    weights: &Matrix,
    gram: &[f64],
    how: How,
    kept: Option<&[bool]>,
    levels: &(impl Fn(Group<'_>) -> Levels + Sync),
) -> Result<Rounded> {
    let runs = how.runs.count(weights.columns);
    // Short codes need that columns with large inputs come first; runs are rounded from left to right.
    let order = if runs == 1 { Order::Energy } else { Order::Given };
    let options = gptq::Options { group: Some(how.runs.size), order, kept, ..gptq::Options::default() };
    if how.rounding == Rounding::Nearest {
        return Ok(gptq::nearest(weights, &options, levels));
    }
    let mut rounded = gptq(weights, gram, &options, levels)?;
    let learned = adaround::Options { kept, ..Default::default() };
    let single = adaround::Options { iterations: 0, ..learned };
    let learns = if how.rounding == Rounding::Adaround { learned } else { single };
    if !how.refit {
        return if how.rounding == Rounding::Adaround {
            adaround(weights, gram, rounded, &learns)
        } else {
            Ok(rounded)
        };
    }
    let gram = damped(gram, weights.columns, options.damping);
    rounded = refit(weights, &gram, rounded)?;
    rounded = adaround(weights, &gram, rounded, &learns)?;
    refit(weights, &gram, rounded)
}

/// What must be added to biases so that other weights leave the mean of each output as it was.
pub fn bias_shift(old: &Matrix, new: &Matrix, moments: &[Moments]) -> Vec<f32> {
    let rows = old.rows / moments.len().max(1);
    let shift = |row: usize| -> f32 {
        let means = &moments[row / rows].means;
        let lost = old.row(row).iter().zip(new.row(row)).zip(means);
        lost.map(|((a, b), m)| (f64::from(*a) - f64::from(*b)) * m).sum::<f64>() as f32
    };
    (0..old.rows).map(shift).collect()
}
