//! In which order the channels of a family go: those first whose removal the layers that read them make up for best.
//!
//! Channels are removed one after the other; after each, the readers' other weights are the best for what is left (the
//! structured form of optimal brain surgery, Kurtic et al. 2023, ZipLM). Two channels that say the same are thus not
//! both removed because each could be spared.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use mcc_ir::Result;
use rayon::prelude::*;

use crate::prune::evidence::Rows;
use crate::prune::fit::{Factor, Problem};

/// The part of a layer that reads a family's channels: its rows of one group.
pub struct Reader {
    /// The inverse of the Gram matrix of its data.
    inverse: Mat<f64>,
    rows: Rows,
    /// The columns of each unit.
    columns: Vec<Vec<usize>>,
    /// The squared result.
    energy: f64,
}

impl Reader {
    /// A reader of units, each with its columns.
    ///
    /// # Errors
    /// When the data is not finite.
    pub fn new(problem: &Problem, rows: Rows, columns: Vec<Vec<usize>>) -> Result<Reader> {
        let energy = problem.energy(&rows).max(f64::MIN_POSITIVE);
        let inverse = Factor::of(&problem.gram, Par::rayon(0))?.inverse(Par::rayon(0));
        Ok(Reader { inverse, rows, columns, energy })
    }

    /// A block of the inverse, and the weights of a unit.
    fn parts(&self, unit: usize) -> Result<(Factor, Mat<f64>)> {
        let columns = &self.columns[unit];
        let block = Mat::from_fn(columns.len(), columns.len(), |i, j| self.inverse[(columns[i], columns[j])]);
        let weights = Mat::from_fn(columns.len(), self.rows.ncols(), |i, r| self.rows[(columns[i], r)]);
        Ok((Factor::of(&block, Par::Seq)?, weights))
    }

    /// The relative error of the result without a unit.
    fn cost(&self, unit: usize) -> Result<f64> {
        if self.columns[unit].is_empty() {
            return Ok(0.0);
        }
        let (factor, weights) = self.parts(unit)?;
        let mut solved = weights.clone();
        factor.solve(solved.as_mut(), Par::Seq);
        let error: f64 = (0..weights.ncols())
            .map(|r| (0..weights.nrows()).map(|i| weights[(i, r)] * solved[(i, r)]).sum::<f64>())
            .sum();
        Ok(error / self.energy)
    }

    /// Removes a unit; the other weights make up for it.
    fn remove(&mut self, unit: usize) -> Result<()> {
        let columns = self.columns[unit].clone();
        if columns.is_empty() {
            return Ok(());
        }
        let (factor, mut weights) = self.parts(unit)?;
        let n = self.inverse.ncols();
        let strip = Mat::from_fn(n, columns.len(), |i, j| self.inverse[(i, columns[j])]);
        factor.solve(weights.as_mut(), Par::Seq);
        matmul(self.rows.as_mut(), Accum::Add, strip.as_ref(), weights.as_ref(), -1.0, Par::rayon(0));
        let mut solved = strip.transpose().to_owned();
        factor.solve(solved.as_mut(), Par::Seq);
        matmul(self.inverse.as_mut(), Accum::Add, strip.as_ref(), solved.as_ref(), -1.0, Par::rayon(0));
        // What is gone takes no part in anything.
        for &c in &columns {
            (0..self.rows.ncols()).for_each(|r| self.rows[(c, r)] = 0.0);
            (0..n).for_each(|i| (self.inverse[(i, c)], self.inverse[(c, i)]) = (0.0, 0.0));
        }
        Ok(())
    }
}

/// Units in the order in which they go, each with the error that its removal adds.
///
/// # Errors
/// When the data is not finite.
pub fn by_error(mut readers: Vec<Reader>, units: usize, removed: usize) -> Result<Vec<(usize, f64)>> {
    let mut left: Vec<usize> = (0..units).collect();
    let mut order = Vec::new();
    while order.len() < removed.min(units) {
        let cost = |&unit: &usize| -> Result<f64> { readers.iter().map(|reader| reader.cost(unit)).sum() };
        let costs: Vec<f64> = left.par_iter().map(cost).collect::<Result<_>>()?;
        let Some(place) = (0..left.len()).min_by(|&a, &b| costs[a].total_cmp(&costs[b])) else { break };
        let unit = left.remove(place);
        for reader in &mut readers {
            reader.remove(unit)?;
        }
        order.push((unit, costs[place].max(0.0)));
    }
    Ok(order)
}

/// The same for given scores.
pub fn by_score(scores: &[f64], removed: usize) -> Vec<(usize, f64)> {
    let mut order: Vec<(usize, f64)> = scores.iter().copied().enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    order.truncate(removed);
    order
}
