//! Codes of equal steps: the scale of each row, or of each block of a row.

use crate::matrix::Matrix;

/// Scales of a matrix's codes. A weight is its code times the scale of its block.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// Bits of a code.
    pub bits: u32,
    /// Inputs that share a scale; a row's last block may have fewer.
    pub block: usize,
    /// A scale per row and block, row-major; all are positive and exact in 32-bit floats.
    pub scales: Vec<f64>,
}

/// Scales that are tried for each block, as parts of the one that reaches its largest weight.
const CANDIDATES: usize = 48;

/// The smallest of them.
const LEAST: f64 = 0.4;

/// The scale of a block of zeros; any would do.
const SCALE_OF_ZEROS: f64 = 1.0 / 1024.0;

impl Grid {
    /// The scales with the least squared error, weighted by each input's mean square.
    pub fn fit(matrix: &Matrix, bits: u32, block: Option<usize>, energies: &[f64]) -> Grid {
        let block = block.unwrap_or(matrix.columns).clamp(1, matrix.columns);
        let mut grid = Grid { bits, block, scales: Vec::new() };
        for row in 0..matrix.rows {
            for (weights, energies) in matrix.row(row).chunks(block).zip(energies.chunks(block)) {
                let scale = grid.best(weights, energies);
                grid.scales.push(scale);
            }
        }
        grid
    }

    fn best(&self, weights: &[f32], energies: &[f64]) -> f64 {
        let largest = weights.iter().fold(0.0f64, |m, &v| m.max(f64::from(v.abs())));
        if largest == 0.0 {
            return SCALE_OF_ZEROS;
        }
        let whole = largest / f64::from(self.highest());
        let (mut best, mut least) = (single(whole), f64::INFINITY);
        for n in 0..CANDIDATES {
            let part = 1.0 - (1.0 - LEAST) * n as f64 / CANDIDATES as f64;
            let scale = single(whole * part);
            let error: f64 = weights
                .iter()
                .zip(energies)
                .map(|(&w, e)| {
                    let off = f64::from(w) - f64::from(self.code(f64::from(w), scale)) * scale;
                    off * off * (e + f64::MIN_POSITIVE)
                })
                .sum();
            if error < least {
                (best, least) = (scale, error);
            }
        }
        best
    }

    /// Blocks in a row.
    pub fn blocks(&self, columns: usize) -> usize {
        columns.div_ceil(self.block)
    }

    /// The scale of a weight.
    pub fn scale(&self, row: usize, column: usize, columns: usize) -> f64 {
        self.scales[row * self.blocks(columns) + column / self.block]
    }

    /// The largest code.
    pub fn highest(&self) -> i32 {
        (1 << (self.bits - 1)) - 1
    }

    /// The smallest code. The products of AVX2 need weights without -128.
    pub fn lowest(&self) -> i32 {
        if self.bits == 8 { -self.highest() } else { -self.highest() - 1 }
    }

    /// The nearest code.
    pub fn code(&self, weight: f64, scale: f64) -> i32 {
        ((weight / scale).round_ties_even() as i32).clamp(self.lowest(), self.highest())
    }

    /// The nearest code of each weight.
    pub fn nearest(&self, matrix: &Matrix) -> Vec<i32> {
        let columns = matrix.columns;
        let code = |(at, &w): (usize, &f32)| self.code(f64::from(w), self.scale(at / columns, at % columns, columns));
        matrix.data.iter().enumerate().map(code).collect()
    }

    /// The weights of codes.
    pub fn weights(&self, codes: &[i32], rows: usize, columns: usize) -> Matrix {
        let weight = |(at, &c): (usize, &i32)| (f64::from(c) * self.scale(at / columns, at % columns, columns)) as f32;
        Matrix { rows, columns, data: codes.iter().enumerate().map(weight).collect() }
    }
}

/// The nearest 32-bit float.
pub fn single(v: f64) -> f64 {
    f64::from((v as f32).max(f32::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_weigh_saturation_against_steps() {
        let data: Vec<f32> = (0..64).map(|i| if i == 0 { 2.0 } else { (i % 13) as f32 / 13.0 }).collect();
        let matrix = Matrix { rows: 1, columns: 64, data };
        let even = vec![1.0; 64];
        // Of int8 an outlier takes its share; int4 cuts it off, unless it matters most.
        assert!((Grid::fit(&matrix, 8, None, &even).scales[0] - 2.0 / 127.0).abs() < 0.005);
        let mut first = even.clone();
        first[0] = 1e4;
        let (cut, kept) = (Grid::fit(&matrix, 3, None, &even), Grid::fit(&matrix, 3, None, &first));
        assert!(cut.scales[0] < kept.scales[0]);
        // Blocks have scales of their own, and less error.
        let blocks = Grid::fit(&matrix, 4, Some(16), &even);
        assert_eq!(blocks.scales.len(), 4);
        let error = |grid: &Grid| {
            let back = grid.weights(&grid.nearest(&matrix), 1, 64);
            back.data.iter().zip(&matrix.data).map(|(a, b)| (a - b).powi(2)).sum::<f32>()
        };
        assert!(error(&blocks) < error(&Grid::fit(&matrix, 4, None, &even)));
    }

    #[test]
    fn zeros_stay_zeros_and_codes_stay_in_range() {
        let matrix = Matrix { rows: 2, columns: 2, data: vec![0.0, 0.0, -3.0, 0.0] };
        for bits in 2..=8 {
            let grid = Grid::fit(&matrix, bits, None, &[1.0, 1.0]);
            let codes = grid.nearest(&matrix);
            assert!(codes.iter().all(|c| (grid.lowest()..=grid.highest()).contains(c)));
            let back = grid.weights(&codes, 2, 2);
            assert_eq!((back.data[0], back.data[1], back.data[3]), (0.0, 0.0, 0.0));
            assert!((back.data[2] + 3.0).abs() < 1.6, "{bits}: {back:?}");
        }
    }
}
