//! In which order the channels of a family go: those first whose removal the products that read them make up for best.
//!
//! Channels are removed one after the other; after each, the readers' other weights are the best for what is left (the
//! structured form of optimal brain surgery, Kurtic et al. 2023, ZipLM). Two channels that say the same are thus not
//! both removed because each could be spared.
//!
//! What it costs to remove a unit `U` of a reader with weights `W` (inputs by outputs) and the inverse `V` of the Gram
//! matrix of its inputs is `tr(V_UU^-1 (W W^T)_UU)`, and after a removal both `V` and `W W^T` of a family's inputs depend
//! only on what they were: no other input and no output of the reader has to be looked at.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use mcc_ir::Result;
use rayon::prelude::*;

use crate::prune::evidence::Rows;
use crate::prune::fit::{Factor, Problem};

/// A product that reads channels, its rows of one group: what is the same for all families that it reads.
pub struct Solved {
    /// The inverse of the Gram matrix of its data.
    inverse: Mat<f64>,
    rows: Rows,
    /// The squared result.
    energy: f64,
}

impl Solved {
    /// Rows with the problem that they solve.
    ///
    /// # Errors
    /// When the data is not finite.
    pub fn new(problem: &Problem, rows: Rows) -> Result<Solved> {
        let energy = problem.energy(&rows).max(f64::MIN_POSITIVE);
        let inverse = Factor::of(&problem.gram, Par::rayon(0))?.inverse(Par::rayon(0));
        Ok(Solved { inverse, rows, energy })
    }
}

/// The inputs of a reader that a family's channels are.
pub struct Reader {
    inverse: Mat<f64>,
    /// `W W^T`.
    moments: Mat<f64>,
    /// The inputs of each unit.
    inputs: Vec<Vec<usize>>,
    /// The squared result of all inputs.
    energy: f64,
}

impl Reader {
    /// A reader of units, each with its columns.
    pub fn new(solved: &Solved, columns: &[Vec<usize>]) -> Reader {
        let all = columns.concat();
        let inverse = Mat::from_fn(all.len(), all.len(), |i, j| solved.inverse[(all[i], all[j])]);
        let rows = Mat::from_fn(all.len(), solved.rows.ncols(), |i, r| solved.rows[(all[i], r)]);
        let mut moments = Mat::zeros(all.len(), all.len());
        matmul(moments.as_mut(), Accum::Replace, rows.as_ref(), rows.transpose(), 1.0, Par::rayon(0));
        let mut first = 0;
        let inputs = columns.iter().map(|columns| {
            first += columns.len();
            (first - columns.len()..first).collect()
        });
        Reader { inputs: inputs.collect(), inverse, moments, energy: solved.energy }
    }

    /// A factor of the block of the inverse of some inputs.
    fn factor(&self, inputs: &[usize]) -> Result<Factor> {
        Factor::of(&Mat::from_fn(inputs.len(), inputs.len(), |i, j| self.inverse[(inputs[i], inputs[j])]), Par::Seq)
    }

    /// The relative error of the result without a unit.
    fn cost(&self, unit: usize) -> Result<f64> {
        let inputs = &self.inputs[unit];
        if inputs.is_empty() {
            return Ok(0.0);
        }
        if let &[only] = inputs.as_slice() {
            // Of rounding, an inverse may be left that is no more.
            let own = self.inverse[(only, only)];
            return Ok(if own > 0.0 { self.moments[(only, only)] / own / self.energy } else { 0.0 });
        }
        let mut solved = Mat::from_fn(inputs.len(), inputs.len(), |i, j| self.moments[(inputs[i], inputs[j])]);
        self.factor(inputs)?.solve(solved.as_mut(), Par::Seq);
        Ok((0..inputs.len()).map(|i| solved[(i, i)]).sum::<f64>() / self.energy)
    }

    /// Removes a unit; the other weights make up for it.
    fn remove(&mut self, unit: usize) -> Result<()> {
        let gone = self.inputs[unit].clone();
        if gone.is_empty() {
            return Ok(());
        }
        let factor = self.factor(&gone)?;
        let n = self.inverse.ncols();
        // The weights change by `-S W_U` with `S = V_:U V_UU^-1`, so that `W W^T` loses `S Z + (S Z)^T`.
        let strip = |from: &Mat<f64>| Mat::from_fn(gone.len(), n, |i, j| from[(gone[i], j)]);
        let (own, mut moments) = (strip(&self.inverse), strip(&self.moments));
        let mut share = own.clone();
        factor.solve(share.as_mut(), Par::Seq);
        let block = Mat::from_fn(gone.len(), gone.len(), |i, j| moments[(i, gone[j])]);
        matmul(moments.as_mut(), Accum::Add, block.as_ref(), share.as_ref(), -0.5, Par::Seq);
        let par = Par::rayon(0);
        matmul(self.inverse.as_mut(), Accum::Add, share.transpose(), own.as_ref(), -1.0, par);
        matmul(self.moments.as_mut(), Accum::Add, share.transpose(), moments.as_ref(), -1.0, par);
        matmul(self.moments.as_mut(), Accum::Add, moments.transpose(), share.as_ref(), -1.0, par);
        // What is gone takes no part in anything.
        for &c in &gone {
            for i in 0..n {
                for matrix in [&mut self.inverse, &mut self.moments] {
                    (matrix[(i, c)], matrix[(c, i)]) = (0.0, 0.0);
                }
            }
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
        readers.par_iter_mut().try_for_each(|reader| reader.remove(unit))?;
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
