//! Searches for the weights that stay such that the fit of the others is best (ADMM on the problem with a bounded number
//! of non-zeros, Meng et al. 2024, ALPS).

use faer::{Mat, Par};
use mcc_ir::Result;

use super::evidence::Rows;
use super::fit::{Factor, Mask, Problem};
use super::zones::Zones;

/// Iterations at most.
const ITERATIONS: usize = 60;

/// Iterations with one penalty.
const SAME_PENALTY: usize = 3;

/// The first penalty, for a matrix with a diagonal of ones.
const FIRST_PENALTY: f64 = 0.1;

/// Weights of which about `zeros` are zero, and the search's choice of which.
pub struct Search<'a> {
    /// The fit.
    pub problem: &'a Problem,
    /// How the weights are cut.
    pub zones: &'a Zones,
    /// Weights that are not zero already.
    pub present: &'a [bool],
    /// How many become zero.
    pub zeros: usize,
}

impl Search<'_> {
    /// The weights that stay, from rows to start with.
    ///
    /// # Errors
    /// When the data is not finite.
    pub fn run(&self, start: &Rows) -> Result<Mask> {
        let (n, rows) = (start.nrows(), start.ncols());
        // Columns of data get length one: the magnitude of a weight is then that of its contribution.
        let gram = &self.problem.gram;
        let lengths: Vec<f64> = (0..n).map(|j| gram[(j, j)].sqrt()).collect();
        let scaled = Mat::from_fn(n, n, |i, j| gram[(i, j)] / (lengths[i] * lengths[j]));
        let target = Mat::from_fn(n, rows, |j, r| self.problem.target[(j, r)] / lengths[j]);
        let mut sparse = Mat::from_fn(n, rows, |j, r| start[(j, r)] * lengths[j]);
        let mut dual = Mat::<f64>::zeros(n, rows);
        let mut penalty = FIRST_PENALTY;
        let mut mask = self.choose(&sparse);
        let mut before = mask.clone();
        let mut factor = None;
        for iteration in 0..ITERATIONS {
            if factor.is_none() {
                let mut damped = scaled.clone();
                (0..n).for_each(|j| damped[(j, j)] += penalty);
                factor = Some(Factor::of(&damped, Par::rayon(0))?);
            }
            let mut dense = &target - &dual + penalty * &sparse;
            if let Some(factor) = &factor {
                factor.solve(dense.as_mut(), Par::rayon(0));
            }
            let moved = &dense + (1.0 / penalty) * &dual;
            mask = self.choose(&moved);
            sparse = super::fit::masked(&moved, &mask);
            dual += penalty * (&dense - &sparse);
            if iteration % SAME_PENALTY == SAME_PENALTY - 1 {
                let changed = mask.iter().zip(&before).filter(|(a, b)| a != b).count();
                if changed == 0 {
                    break;
                }
                let share = changed as f64 / mask.iter().filter(|m| **m).count().max(1) as f64;
                penalty *= if share > 0.1 {
                    1.3
                } else if share > 0.005 {
                    1.2
                } else {
                    1.1
                };
                factor = None;
                before.clone_from(&mask);
            }
        }
        Ok(mask)
    }

    fn choose(&self, rows: &Rows) -> Mask {
        let squares: Vec<f64> = (0..rows.ncols()).flat_map(|r| rows.col_as_slice(r)).map(|w| w * w).collect();
        self.zones.mask(&squares, self.present, self.zeros)
    }
}
