//! Codes of weights.

use mcc_ir::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::grid::Grid;
use super::table::Table;
use crate::adaround::{self, adaround};
use crate::curvature::Order;
use crate::gptq::{self, Group, Rounded, gptq};
use crate::layers::{Kind, Layer};
use crate::levels::Levels;
use crate::matrix::Matrix;
use crate::moments::Moments;
use crate::recipe::{Quantize, Rounding, Weights};
use crate::write::Half;

/// Inputs of a product that share a scale, if codes are short and the recipe does not say.
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
        match &self.form {
            Form::Steps(grid) if grid.block < columns => f64::from(grid.bits) + 32.0 / grid.block as f64,
            Form::Steps(grid) => f64::from(grid.bits),
            Form::Table(table) => f64::from(table.bits),
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
        Weights::Codebook(bits) => {
            let table = Table::fit(matrix, bits, moments, matrix.zero_share() > PRUNED)?;
            let levels = |row: usize, _: &[f32], _: &[f64]| table.levels(row);
            let codes = round(matrix, moments, step, None, &levels)?.0;
            Ok(Codes { form: Form::Table(table), codes })
        }
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
    let product = matches!(layer.kind, Kind::Product { .. } | Kind::Recurrent(_));
    let usual = (bits < 8 && product).then_some(BLOCK);
    let block = step.block.or(usual).filter(|&b| b < matrix.columns && product);
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
    let (codes, levels) = round(matrix, moments, step, block, &levels)?;
    let scale = |l: &Levels| if let Levels::Steps { scale, .. } = l { *scale } else { 1.0 };
    let grid = Grid { bits, block: block.unwrap_or(matrix.columns), scales: levels.iter().map(scale).collect() };
    Ok(Codes { form: Form::Steps(grid), codes })
}

/// Rounds weights to levels that a function gives for a row, its weights and their inputs' mean squares.
fn round(
    matrix: &Matrix,
    moments: &[Moments],
    step: &Quantize,
    block: Option<usize>,
    levels: &(impl Fn(usize, &[f32], &[f64]) -> Levels + Sync),
) -> Result<(Vec<i32>, Vec<Levels>)> {
    let (rows, columns) = (matrix.rows / moments.len().max(1), matrix.columns);
    let kept: Vec<bool> = matrix.data.iter().map(|&v| v != 0.0).collect();
    let pruned = matrix.zero_share() > PRUNED;
    let group = |(group, moments): (usize, &Moments)| -> Result<Rounded> {
        let part = group * rows * columns..(group + 1) * rows * columns;
        let weights = Matrix { rows, columns, data: matrix.data[part.clone()].to_vec() };
        let kept = pruned.then(|| &kept[part]);
        let energies = moments.energies();
        let width = block.unwrap_or(columns);
        let of = |g: Group| {
            let first = g.group * width;
            levels(group * rows + g.row, g.weights, &energies[first..first + g.weights.len()])
        };
        // Short codes need that columns with large inputs come first; blocks are rounded from left to right.
        let order = if block.is_none() { Order::Energy } else { Order::Given };
        let options = gptq::Options { group: block, order, kept, ..gptq::Options::default() };
        match step.rounding {
            Rounding::Nearest => Ok(gptq::nearest(&weights, &options, &of)),
            Rounding::Gptq => gptq(&weights, &moments.gram, &options, &of),
            Rounding::Adaround => {
                let rounded = gptq(&weights, &moments.gram, &options, &of)?;
                adaround(&weights, &moments.gram, rounded, &adaround::Options { kept, ..Default::default() })
            }
        }
    };
    let parts: Vec<Rounded> = moments.par_iter().enumerate().map(group).collect::<Result<_>>()?;
    let (mut codes, mut levels) = (Vec::new(), Vec::new());
    for part in parts {
        codes.extend(part.codes);
        levels.extend(part.levels);
    }
    Ok((codes, levels))
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
