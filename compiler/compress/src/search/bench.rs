//! Who makes and measures candidates: the [machine](super::machine::Machine), or a test.

use mcc_ir::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Figures;
use super::problem::{Assignment, Problem};
use super::sensitivity::Sensitivities;
use crate::cache::Cache;

/// A whole model's cost, by site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// A bench that keeps what it measured: a search that is repeated with the same cache takes the same way, and goes on where
/// it stopped.
pub struct Kept<'a, B> {
    /// Who measures.
    pub bench: B,
    /// Where results are kept.
    pub cache: &'a Cache,
}

impl<B: Bench> Bench for Kept<'_, B> {
    fn figures(&mut self, candidates: &[Assignment]) -> Result<Vec<Figures>> {
        let cache = self.cache.within(&[&bytes(candidates)?]);
        cache.get("figures", 0, || self.bench.figures(candidates))
    }

    fn parts(&mut self, candidate: &Assignment) -> Result<Parts> {
        let cache = self.cache.within(&[&bytes(candidate)?]);
        cache.get("parts", 0, || self.bench.parts(candidate))
    }

    fn sensitivities(&mut self, problem: &Problem, possible: &[Vec<usize>]) -> Result<Sensitivities> {
        let cache = self.cache.within(&[&bytes(possible)?]);
        cache.get("sensitivities", 0, || self.bench.sensitivities(problem, possible))
    }
}

fn bytes(of: &(impl Serialize + ?Sized)) -> Result<Vec<u8>> {
    postcard::to_stdvec(of).map_err(|e| Error::internal(format!("a candidate: {e}")))
}
