//! Codes of equal steps: the scale of each row, or of each run of a row.

use super::runs::Runs;
pub use crate::levels::single;
use crate::matrix::Matrix;
use crate::moments::Moments;
use serde::{Deserialize, Serialize};

/// Scales of a matrix's codes. A weight is its code times the scale of its run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Bits of a code.
    pub bits: u32,
    /// Inputs that share a scale.
    pub runs: Runs,
    /// A scale per row and run, row-major; all are positive and exact in 32-bit floats.
    pub scales: Vec<f64>,
}

/// Scales that are tried for each block, as parts of the one that reaches its largest weight.
const CANDIDATES: usize = 48;

/// The smallest of them, for short codes and for those of six bits and more, whose steps are worth little.
const LEAST: [f64; 2] = [0.4, 0.8];

/// The scale of a block of zeros; any would do.
const SCALE_OF_ZEROS: f64 = 1.0 / 1024.0;

impl Grid {
    /// The scale of a block with the least squared error, weighted by each input's mean square.
    pub fn best(bits: u32, weights: &[f32], energies: &[f64]) -> f64 {
        let largest = weights.iter().fold(0.0f64, |m, &v| m.max(f64::from(v.abs())));
        if largest == 0.0 {
            return SCALE_OF_ZEROS;
        }
        let whole = largest / f64::from(Grid::highest(bits));
        let (mut best, mut least) = (single(whole), f64::INFINITY);
        let (least_part, candidates) = if bits < 6 { (LEAST[0], CANDIDATES) } else { (LEAST[1], CANDIDATES / 4) };
        for n in 0..candidates {
            let part = 1.0 - (1.0 - least_part) * n as f64 / candidates as f64;
            let scale = single(whole * part);
            let off = |w: f32| f64::from(w) - f64::from(Grid::code(bits, f64::from(w), scale)) * scale;
            let error: f64 = weights.iter().zip(energies).map(|(&w, e)| off(w).powi(2) * (e + f64::MIN_POSITIVE)).sum();
            if error < least {
                (best, least) = (scale, error);
            }
        }
        best
    }

    /// The scale of each row of a group of channels, if all groups share them.
    pub fn shared(matrix: &Matrix, bits: u32, moments: &[Moments]) -> Vec<f64> {
        let rows = matrix.rows / moments.len().max(1);
        let energies: Vec<Vec<f64>> = moments.iter().map(Moments::energies).collect();
        let scale = |row: usize| {
            let of = |(group, e): (usize, &Vec<f64>)| Grid::best(bits, matrix.row(group * rows + row), e);
            energies.iter().enumerate().map(of).fold(0.0, f64::max)
        };
        (0..rows).map(scale).collect()
    }

    /// The largest code.
    pub fn highest(bits: u32) -> i32 {
        (1 << (bits - 1)) - 1
    }

    /// The smallest code. The products of AVX2 need weights without -128.
    pub fn lowest(bits: u32) -> i32 {
        if bits == 8 { -Grid::highest(bits) } else { -Grid::highest(bits) - 1 }
    }

    fn code(bits: u32, weight: f64, scale: f64) -> i32 {
        ((weight / scale).round_ties_even() as i32).clamp(Grid::lowest(bits), Grid::highest(bits))
    }

    /// The weights of codes.
    pub fn weights(&self, codes: &[i32], rows: usize, columns: usize) -> Matrix {
        let scale = |at: usize| self.scales[self.runs.place(at, columns)];
        let weight = |(at, &c): (usize, &i32)| (f64::from(c) * scale(at)) as f32;
        Matrix { rows, columns, data: codes.iter().enumerate().map(weight).collect() }
    }

    /// Codes with a scale per row, each nearest to its weight.
    pub fn by_row(matrix: &Matrix, bits: u32) -> (Grid, Vec<i32>) {
        let even = vec![1.0; matrix.columns];
        let scales: Vec<f64> = (0..matrix.rows).map(|row| Grid::best(bits, matrix.row(row), &even)).collect();
        let code = |(at, &w): (usize, &f32)| Grid::code(bits, f64::from(w), scales[at / matrix.columns]);
        let codes = matrix.data.iter().enumerate().map(code).collect();
        (Grid { bits, runs: Runs::whole(matrix.columns), scales }, codes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_weigh_saturation_against_steps() {
        let weights: Vec<f32> = (0..64).map(|i| if i == 0 { 2.0 } else { (i % 13) as f32 / 13.0 }).collect();
        let even = vec![1.0; 64];
        // Of int8 an outlier takes its share; int3 cuts it off, unless it matters most.
        assert!((Grid::best(8, &weights, &even) - 2.0 / 127.0).abs() < 0.005);
        let mut first = even.clone();
        first[0] = 1e4;
        assert!(Grid::best(3, &weights, &even) < Grid::best(3, &weights, &first));
    }

    #[test]
    fn zeros_stay_zeros_and_codes_stay_in_range() {
        let matrix = Matrix { rows: 2, columns: 2, data: vec![0.0, 0.0, -3.0, 0.0] };
        for bits in 2..=8 {
            let (grid, codes) = Grid::by_row(&matrix, bits);
            assert!(codes.iter().all(|c| (Grid::lowest(bits)..=Grid::highest(bits)).contains(c)));
            let back = grid.weights(&codes, 2, 2);
            assert_eq!((back.data[0], back.data[1], back.data[3]), (0.0, 0.0, 0.0));
            assert!((back.data[2] + 3.0).abs() < 1.6, "{bits}: {back:?}");
        }
    }
}
