//! A matrix of numbers, row-major.

use serde::{Deserialize, Serialize};

/// A matrix: a row per output channel of a layer, a column per input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// Output channels.
    pub rows: usize,
    /// Inputs of each.
    pub columns: usize,
    /// Elements, row-major.
    pub data: Vec<f32>,
}

impl Matrix {
    /// A matrix of zeros.
    pub fn zeros(rows: usize, columns: usize) -> Matrix {
        Matrix { rows, columns, data: vec![0.0; rows * columns] }
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.columns..(row + 1) * self.columns]
    }

    /// One row, to be changed.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.columns..(row + 1) * self.columns]
    }

    /// The share of elements that are zero.
    pub fn zero_share(&self) -> f64 {
        let zeros = self.data.iter().filter(|v| **v == 0.0).count();
        zeros as f64 / self.data.len().max(1) as f64
    }
}

impl Matrix {
    /// The relative distance of another matrix: the root of the squared differences over that of the squares.
    pub fn distance(&self, other: &Matrix) -> f64 {
        let square = |v: f64| v * v;
        let pairs = self.data.iter().zip(&other.data);
        let off: f64 = pairs.map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
        let all: f64 = self.data.iter().map(|v| square(f64::from(*v))).sum();
        if all > 0.0 { (off / all).sqrt() } else { 0.0 }
    }
}
