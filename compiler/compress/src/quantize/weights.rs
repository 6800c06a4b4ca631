//! Codes of weights.

use mcc_ir::Result;

use super::grid::Grid;
use crate::layers::{Kind, Layer};
use crate::matrix::Matrix;
use crate::moments::Moments;
use crate::recipe::{Quantize, Rounding, Weights};

/// A layer's weights as codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// What a code means.
    pub grid: Grid,
    /// A code per weight, in the matrix's order.
    pub codes: Vec<i32>,
}

/// The codes of a layer's weights; `None` if they are of a type without codes.
///
/// # Errors
/// When the moments do not fit the layer.
pub fn encode(layer: &Layer, matrix: &Matrix, moments: &[Moments], step: &Quantize) -> Result<Option<Codes>> {
    let Weights::Int(bits) = step.weights else { return Ok(None) };
    let (rows, columns) = (matrix.rows / moments.len().max(1), matrix.columns);
    let part = |group: usize| {
        let data = matrix.data[group * rows * columns..][..rows * columns].to_vec();
        Matrix { rows, columns, data }
    };
    let fit = |(group, m): (usize, &Moments)| Grid::fit(&part(group), bits, step.block, &m.energies());
    let mut grids: Vec<Grid> = moments.iter().enumerate().map(fit).collect();
    if let Kind::ConvTranspose(_) = layer.kind {
        // Its weights have an axis for the channels of a group only, so that groups share scales.
        let shared: Vec<f64> = (0..rows).map(|row| grids.iter().map(|g| g.scales[row]).fold(0.0, f64::max)).collect();
        grids.iter_mut().for_each(|grid| grid.scales.clone_from(&shared));
    }
    let mut whole =
        Codes { grid: Grid { bits, block: step.block.unwrap_or(columns), scales: Vec::new() }, codes: Vec::new() };
    for (group, grid) in grids.into_iter().enumerate() {
        let part = part(group);
        whole.codes.extend(match step.rounding {
            Rounding::Nearest => grid.nearest(&part),
            Rounding::Gptq | Rounding::Adaround => grid.nearest(&part),
        });
        whole.grid.block = grid.block;
        whole.grid.scales.extend(grid.scales);
    }
    Ok(Some(whole))
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
