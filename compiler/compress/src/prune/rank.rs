//! How much each weight matters.

use faer::{Mat, Par};
use mcc_ir::Result;
use mcc_ir::random::Random;

use super::evidence::Rows;
use super::fit::{Factor, Problem};
use super::zones::Zones;
use crate::layers::Layer;
use crate::recipe::Criterion;
use crate::recipe::Prune;

/// The multiplier of the Fowler-Noll-Vo hash of 64 bits.
const FNV_PRIME: u64 = 0x100_0000_01b3;

/// Ranks weights as a step says.
pub struct Ranking<'a> {
    /// The step.
    pub step: &'a Prune,
    /// Where chance starts.
    pub seed: u64,
}

impl Ranking<'_> {
    /// Whether scores depend on data.
    pub fn needs_data(&self) -> bool {
        matches!(self.step.criterion, Criterion::Activation | Criterion::Error)
    }

    /// A score for each weight, in the matrix's order; the score of a block is their sum.
    ///
    /// # Errors
    /// When the data is not finite.
    pub fn scores(&self, layer: &Layer, rows: &Rows, problem: Option<&Problem>, zones: &Zones) -> Result<Vec<f64>> {
        // Layers of one size lose different weights.
        let mut random = Random::new(
            layer.output.bytes().fold(self.seed, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(FNV_PRIME)),
        );
        let each = |of: &mut dyn FnMut(usize, f64) -> f64| -> Vec<f64> {
            (0..rows.ncols()).flat_map(|r| rows.col_as_slice(r).iter().enumerate()).map(|(j, &w)| of(j, w)).collect()
        };
        Ok(match (self.step.criterion, problem) {
            (Criterion::L1, _) => each(&mut |_, w| w.abs()),
            (Criterion::Random, _) => each(&mut |_, _| random.real() + 1.0),
            // Recipes have no Taylor criterion but for channels, which are ranked otherwise.
            (Criterion::L2 | Criterion::Taylor, _) | (_, None) => each(&mut |_, w| w * w),
            (Criterion::Activation, Some(p)) => each(&mut |j, w| w.abs() * p.gram[(j, j)].sqrt()),
            (Criterion::Error, Some(p)) if !self.step.reconstruct => each(&mut |j, w| w * w * p.gram[(j, j)]),
            (Criterion::Error, Some(p)) => removal_errors(rows, p, zones)?,
        })
    }

    /// What scores of different layers are divided by to be comparable.
    pub fn scale(&self, rows: &Rows, problem: Option<&Problem>) -> f64 {
        let energy = || problem.map_or(1.0, |p| p.energy(rows)).max(f64::MIN_POSITIVE);
        match self.step.criterion {
            Criterion::L1 | Criterion::L2 | Criterion::Random | Criterion::Taylor => 1.0,
            Criterion::Activation => energy().sqrt(),
            Criterion::Error => energy(),
        }
    }
}

/// The error that removing each bundle of a row's weights makes, if the others make up for it (LeCun et al. 1989,
/// Hassibi and Stork 1993): `w_B (A^-1)_BB^-1 w_B`, spread over the bundle.
fn removal_errors(rows: &Rows, problem: &Problem, zones: &Zones) -> Result<Vec<f64>> {
    let n = rows.nrows();
    let inverse = Factor::of(&problem.gram, Par::rayon(0))?.inverse(Par::rayon(0));
    let mut scores = vec![0.0; n * rows.ncols()];
    let single: Vec<Vec<usize>>;
    let bundles = match zones.bundles() {
        [] => {
            single = (0..n).map(|j| vec![j]).collect();
            &single
        }
        bundles => bundles,
    };
    for bundle in bundles {
        let part = Mat::from_fn(bundle.len(), bundle.len(), |i, j| inverse[(bundle[i], bundle[j])]);
        let factor = Factor::of(&part, Par::Seq)?;
        let weights = Mat::from_fn(bundle.len(), rows.ncols(), |i, r| rows[(bundle[i], r)]);
        let mut solved = weights.clone();
        factor.solve(solved.as_mut(), Par::Seq);
        for r in 0..rows.ncols() {
            let error: f64 = (0..bundle.len()).map(|i| weights[(i, r)] * solved[(i, r)]).sum();
            bundle.iter().for_each(|j| scores[r * n + j] = error / bundle.len() as f64);
        }
    }
    Ok(scores)
}
