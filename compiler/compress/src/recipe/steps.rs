//! Steps that change what layers compute: low rank, and recovery.

use std::path::PathBuf;

use mcc_ir::Error;
use serde::{Deserialize, Serialize};

use super::{Scope, Selection, Step};

impl Step {
    /// What its type does not check.
    pub(super) fn faults(&self) -> Vec<String> {
        match self {
            Step::Prune(prune) => prune.faults(),
            Step::Quantize(quantize) => quantize.faults(),
            Step::Recover(recover) => recover.faults(),
            Step::LowRank(low_rank) => low_rank.faults(),
        }
    }
}

/// Steps that cannot come after those before them.
pub(super) fn misplaced(steps: &[Step]) -> Vec<Error> {
    let is_final = |step: &Step| matches!(step, Step::Prune(_) | Step::Quantize(_));
    let late = |n: usize| matches!(steps[n], Step::LowRank(_)) && steps[..n].iter().any(is_final);
    let equalizes = |step: &Step| matches!(step, Step::Quantize(q) if q.equalize);
    let factors = |n: usize| {
        let quantized = steps[..n].iter().any(|s| matches!(s, Step::Quantize(_)));
        let trained = steps.iter().any(|s| matches!(s, Step::Recover(_)));
        match equalizes(&steps[n]) {
            true if quantized => {
                Some("factors move between layers before any is quantized: equalize in the first such step")
            }
            true if trained => Some("recovery compares data whose channels equalizing divides: leave one of them out"),
            _ => None,
        }
    };
    let text = "low rank comes before pruning and quantization, which need the layers as they will be";
    let late = |n: usize| late(n).then_some(text);
    let faults = (0..steps.len()).flat_map(|n| late(n).into_iter().chain(factors(n)).map(move |text| (n, text)));
    faults.map(|(n, text)| Error::usage(text).within(format!("step {}", n + 1))).collect()
}

/// Makes layers two smaller ones, whose product is of low rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LowRank {
    /// The share of multiply-adds that is saved.
    pub share: f64,
    /// Whether it is that of each layer, or of the model, where the layers that lose least save most.
    pub scope: Scope,
    /// Layers that the step is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Layers that the step leaves alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl Default for LowRank {
    fn default() -> LowRank {
        LowRank { share: 0.0, scope: Scope::Global, only: Vec::new(), except: Vec::new() }
    }
}

impl LowRank {
    /// Which layers it is for.
    pub fn selection(&self) -> Selection<'_> {
        Selection { only: &self.only, except: &self.except }
    }

    pub(super) fn faults(&self) -> Vec<String> {
        match self.share > 0.0 && self.share < 1.0 {
            true => Vec::new(),
            false => vec![format!("the share {} of multiply-adds to save is not between 0 and 1", self.share)],
        }
    }
}

/// Trains the compressed model's blocks to give what the given model's do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Recover {
    /// How much is computed, as a part of the usual.
    pub effort: f64,
    /// Whether the whole model is trained at last.
    pub together: bool,
    /// Classes of the samples, to learn besides: a file as `mcc eval --labels` reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Layers that the step is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Layers that the step leaves alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl Default for Recover {
    fn default() -> Recover {
        Recover { effort: 1.0, together: true, labels: None, only: Vec::new(), except: Vec::new() }
    }
}

impl Recover {
    /// Which layers it is for.
    pub fn selection(&self) -> Selection<'_> {
        Selection { only: &self.only, except: &self.except }
    }

    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(self.effort > 0.0 && self.effort.is_finite()) {
            faults.push(format!("an effort of {} is not above 0", self.effort));
        }
        if self.labels.is_some() && !self.together {
            faults.push("labels are learnt by the whole model, so together = false contradicts them".to_string());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::Recipe;

    #[test]
    fn nonsense_is_refused() {
        let error = |text: &str| Recipe::parse(text).unwrap_err().to_string();
        let low_rank = "[[steps]]\nmethod = \"low-rank\"\nshare =";
        let equalize = "[[steps]]\nmethod = \"quantize\"\nequalize = true";
        for (text, part) in [
            ("[[steps]]\nmethod = \"recover\"\neffort = 0.0".to_string(), "an effort of 0 is not above 0"),
            (format!("{low_rank} 1.0"), "not between 0 and 1"),
            (format!("[[steps]]\nmethod = \"quantize\"\n{low_rank} 0.5"), "before pruning"),
            (format!("[[steps]]\nmethod = \"quantize\"\n{equalize}"), "in the first such step"),
            (format!("{equalize}\n[[steps]]\nmethod = \"recover\""), "leave one of them out"),
        ] {
            assert!(error(&text).contains(part), "{text}: {}", error(&text));
        }
    }
}
