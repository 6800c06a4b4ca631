//! What a layer may become.

use mcc_ir::{Error, Result};

use crate::recipe::{Activations, LowRank, Pattern, Prune, Quantize, Scope, Step, Weights};

/// Something that a layer may become.
#[derive(Debug)]
pub struct Opt {
    /// Its name, as `--allow` takes it.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// Whether the layer's data is bytes, so that a border to float data costs.
    pub bytes: bool,
    /// The share of its multiply-adds that becoming two layers saves.
    low_rank: Option<f64>,
    zeros: Option<Zeros>,
    codes: Option<Codes>,
}

/// Weights that become zero.
#[derive(Debug, Clone, Copy)]
struct Zeros {
    pattern: Pattern,
    share: Option<f64>,
}

/// Codes of weights and data.
#[derive(Debug, Clone, Copy)]
struct Codes {
    weights: Weights,
    activations: Activations,
    block: Option<usize>,
}

const INT8: Option<Codes> = Some(Codes { weights: Weights::Int(8), activations: Activations::Uint8, block: None });
const TWO_OF_FOUR: Option<Zeros> = Some(Zeros { pattern: Pattern::OutOf { keep: 2, of: 4, rows: None }, share: None });
const BLOCKS: Option<Zeros> = Some(Zeros { pattern: Pattern::Blocks(None), share: Some(0.8) });

/// Weights as codes, data as floats.
const fn weights_only(weights: Weights, block: Option<usize>) -> Option<Codes> {
    Some(Codes { weights, activations: Activations::Float, block })
}

/// A layer stays as it is.
pub const AS_IT_IS: Opt =
    Opt { name: "float", about: "as it is", bytes: false, low_rank: None, zeros: None, codes: None };

/// All options but the first, to leave a layer as it is.
pub const OPTIONS: &[Opt] = &[
    Opt { name: "int8", about: "8-bit weights and data", bytes: true, codes: INT8, ..AS_IT_IS },
    Opt {
        name: "int8-weights",
        about: "8-bit weights, float data",
        codes: weights_only(Weights::Int(8), None),
        ..AS_IT_IS
    },
    Opt {
        name: "int4",
        about: "4-bit weights with a scale per 32, float data",
        codes: weights_only(Weights::Int(4), Some(32)),
        ..AS_IT_IS
    },
    Opt {
        name: "codebook4",
        about: "weights from a table of 16 values",
        codes: weights_only(Weights::Codebook(4), None),
        ..AS_IT_IS
    },
    Opt { name: "f16", about: "16-bit float weights", codes: weights_only(Weights::F16, None), ..AS_IT_IS },
    Opt { name: "low-rank", about: "two layers of half the multiply-adds", low_rank: Some(0.5), ..AS_IT_IS },
    Opt { name: "2:4", about: "2 of 4 weights zero", zeros: TWO_OF_FOUR, ..AS_IT_IS },
    Opt { name: "blocks", about: "80 % of the weights zero, in blocks", zeros: BLOCKS, ..AS_IT_IS },
    Opt { name: "blocks+int8", about: "the same in 8 bits", bytes: true, zeros: BLOCKS, codes: INT8, ..AS_IT_IS },
];

/// What `--allow` stands for if it is not given.
pub const USUAL: &[&str] = &["int8"];

/// The option with a name.
pub fn find(name: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|o| o.name == name)
}

/// The options with these names, behind the one to leave a layer as it is.
///
/// # Errors
/// When a name is unknown or given twice, or there is none.
pub fn parse(names: &[String]) -> Result<Vec<&'static Opt>> {
    let known = OPTIONS.iter().map(|o| format!("{} ({})", o.name, o.about)).collect::<Vec<_>>().join(", ");
    let mut options = vec![&AS_IT_IS];
    for name in names.iter().filter(|name| *name != AS_IT_IS.name) {
        let found = find(name).ok_or_else(|| Error::usage(format!("\"{name}\" is nothing that a layer may become")));
        let found = found.map_err(|e| e.help(format!("it may become {known}")))?;
        if options.iter().any(|o| o.name == found.name) {
            return Err(Error::usage(format!("\"{name}\" is allowed twice")));
        }
        options.push(found);
    }
    match options.len() {
        1 => Err(Error::usage("layers may only stay as they are").help(format!("allow some of {known}"))),
        _ => Ok(options),
    }
}

impl Opt {
    /// The steps of a recipe, for all layers.
    pub fn steps(&self) -> Vec<Step> {
        let prune =
            |z: Zeros| Step::Prune(Prune { pattern: z.pattern, share: z.share, everywhere: true, ..Prune::default() });
        let quantize = |c: Codes| {
            let Codes { weights, activations, block } = c;
            Step::Quantize(Quantize { weights, activations, block, ..Quantize::default() })
        };
        let low_rank = |share| Step::LowRank(LowRank { share, scope: Scope::Layer, ..LowRank::default() });
        let (low_rank, zeros) = (self.low_rank.map(low_rank), self.zeros.map(prune));
        low_rank.into_iter().chain(zeros).chain(self.codes.map(quantize)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    #[test]
    fn every_option_is_a_recipe() {
        for option in OPTIONS {
            let recipe = Recipe { steps: option.steps(), ..Recipe::default() };
            assert!(recipe.check().is_ok() && !recipe.steps.is_empty(), "{}", option.name);
            assert_eq!(find(option.name).map(|o| o.about), Some(option.about));
        }
        assert!(USUAL.iter().all(|name| find(name).is_some()));
    }

    #[test]
    fn unknown_names_are_refused() {
        let error =
            |names: &[&str]| parse(&names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap_err().to_string();
        assert!(error(&["int7"]).contains("int8 (8-bit weights and data)"));
        assert!(error(&["int8", "int8"]).contains("twice"));
        assert!(error(&["float"]).contains("only stay"));
    }
}
