//! Who makes and measures candidates: the [machine](super::machine::Machine), or a test.

use mcc_ir::Result;

use super::Figures;
use super::problem::{Assignment, Problem};
use super::sensitivity::Sensitivities;

/// A whole model's cost, by site.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// Milliseconds of each site, with what follows it up to the next one; their sum is the whole.
    pub ms: Vec<f64>,
    /// Bytes of each site's constants.
    pub bytes: Vec<f64>,
    /// Bytes of everything else in the object.
    pub rest_bytes: f64,
}

/// Makes and measures candidates.
pub trait Bench {
    /// Measures whole candidates, in turns.
    ///
    /// # Errors
    /// When one cannot be made or measured.
    fn figures(&mut self, candidates: &[Assignment]) -> Result<Vec<Figures>>;

    /// Measures the parts of a candidate.
    ///
    /// # Errors
    /// When it cannot be made or measured; [`Unsupported`](mcc_ir::Error::Unsupported) if no site can take its options.
    fn parts(&mut self, candidate: &Assignment) -> Result<Parts>;

    /// Measures or estimates what each possible option of each site loses by itself.
    ///
    /// # Errors
    /// When a candidate cannot be made or measured.
    fn sensitivities(&mut self, problem: &Problem, possible: &[Vec<usize>]) -> Result<Sensitivities>;
}
