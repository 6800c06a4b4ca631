//! Which weights of an output channel share a scale: all, or runs of neighbouring inputs.
//!
//! A convolution's run holds neighbouring input channels at one place of the window, since the compiler's kernels read
//! the weights in that order: place by place, and channel by channel within.

use serde::{Deserialize, Serialize};

use crate::layers::{Kind, Layer};

/// Runs of inputs; the last may have fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// Inputs that share a scale.
    pub size: usize,
    /// Columns of the matrix from one of them to the next: the places of the window.
    pub window: usize,
}

impl Runs {
    /// All inputs of a row together.
    pub fn whole(columns: usize) -> Runs {
        Runs { size: columns.max(1), window: 1 }
    }

    /// Runs of `size` inputs, where a layer's form can say that; else all together. A convolution's channels must be whole
    /// runs, of half the size if need be.
    pub fn of(layer: &Layer, size: Option<usize>) -> Runs {
        let whole = Runs::whole(layer.columns());
        let Some(size) = size.filter(|&size| size < layer.columns()) else { return whole };
        match &layer.kind {
            Kind::Product { .. } | Kind::Recurrent(_) => Runs { size, window: 1 },
            Kind::Conv(w) if w.groups == 1 => {
                let sizes = [size, size / 2].into_iter().filter(|&s| s >= LEAST && layer.shape[1].is_multiple_of(s));
                sizes.max().map_or(whole, |size| Runs { size, window: w.kernel.iter().product() })
            }
            Kind::Conv(_) | Kind::ConvTranspose(_) => whole,
        }
    }

    /// Runs of a row.
    pub fn count(&self, columns: usize) -> usize {
        columns.div_ceil(self.size * self.window) * self.window
    }

    /// The run of a column.
    pub fn at(&self, column: usize) -> usize {
        column / (self.size * self.window) * self.window + column % self.window
    }

    /// The run of a weight among those of all rows.
    pub fn place(&self, at: usize, columns: usize) -> usize {
        at / columns * self.count(columns) + self.at(at % columns)
    }

    /// The columns, run after run.
    pub fn order(&self, columns: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..columns).collect();
        order.sort_by_key(|&column| self.at(column));
        order
    }
}

/// The fewest inputs of a run that the compiler's kernels know.
const LEAST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_follow_each_other() {
        for (size, window, columns) in [(4, 1, 10), (4, 3, 24), (24, 1, 24), (2, 9, 36)] {
            let runs = Runs { size, window };
            let order = runs.order(columns);
            let of: Vec<usize> = order.iter().map(|&c| runs.at(c)).collect();
            let want: Vec<usize> = (0..columns).map(|at| at / size).collect();
            assert_eq!(of, want, "{runs:?} of {columns}");
            assert_eq!(runs.count(columns), columns.div_ceil(size));
            // Members of a run are `window` apart.
            assert!(order[..size].windows(2).all(|w| w[1] - w[0] == window));
        }
    }
}
