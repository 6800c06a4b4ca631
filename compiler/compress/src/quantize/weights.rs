//! Codes of weights.

use mcc_ir::Result;

use super::grid::Grid;
use crate::layers::Layer;
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

/// The codes of a layer's weights.
///
/// # Errors
/// When the moments do not fit the layer.
pub fn encode(layer: &Layer, matrix: &Matrix, moments: &[Moments], step: &Quantize) -> Result<Option<Codes>> {
    let Weights::Int(bits) = step.weights else { return Ok(None) };
    let groups = moments.len().max(1);
    let (rows, columns) = (matrix.rows / groups, matrix.columns);
    let mut whole = Codes { grid: Grid { bits, block: columns, scales: Vec::new() }, codes: Vec::new() };
    for (group, moments) in moments.iter().enumerate() {
        let part = Matrix { rows, columns, data: matrix.data[group * rows * columns..][..rows * columns].to_vec() };
        let grid = Grid::fit(&part, bits, step.block, &moments.energies());
        let codes = match step.rounding {
            Rounding::Nearest => grid.nearest(&part),
            Rounding::Gptq | Rounding::Adaround => grid.nearest(&part),
        };
        whole.grid.block = grid.block;
        whole.grid.scales.extend(grid.scales);
        whole.codes.extend(codes);
    }
    let _ = layer;
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
