//! What is done to a model: steps in their order, as a TOML file has them and as the command line's flags make them.
//!
//! ```toml
//! seed = 0
//! samples = 128
//!
//! [[steps]]
//! method = "prune"
//! pattern = "2:4"
//!
//! [[steps]]
//! method = "quantize"
//! weights = "int8"
//! activations = "uint8"
//! ```

mod steps;

use std::fmt;
use std::str::FromStr;

use mcc::targets::schedule::blocks::WIDTHS;
use mcc_ir::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::codebook::Fit;
use crate::layers::Layer;
use crate::ranges::Calibration;

pub use steps::{LowRank, Recover};

/// What is done to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Recipe {
    /// Where all random choices start.
    pub seed: u64,
    /// How many of the calibration samples are used at most; which ones, the seed says.
    pub samples: usize,
    /// What is done, in this order.
    pub steps: Vec<Step>,
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe { seed: 0, samples: 128, steps: Vec::new() }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Step {
    /// Sets weights to zero.
    Prune(Prune),
    /// Stores weights, and computes with activations, in fewer bits.
    Quantize(Quantize),
    /// Trains what is left to do what the given model does.
    Recover(Recover),
    /// Makes a layer two smaller ones.
    LowRank(LowRank),
}

/// Which layers a step is for: names with `*` for any text, or operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection<'a> {
    /// These only; all if there are none.
    pub only: &'a [String],
    /// But not these.
    pub except: &'a [String],
}

/// Sets weights to zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Prune {
    /// Which weights go together.
    pub pattern: Pattern,
    /// The share of weights that becomes zero; given by the pattern for `N:M`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// How weights are ranked.
    pub criterion: Criterion,
    /// Whether all layers have the same share, or the least important weights of all go.
    pub scope: Scope,
    /// Whether the remaining weights of a layer make up for those that go.
    pub reconstruct: bool,
    /// Whether layers are pruned also where zeros do not make the target faster.
    pub everywhere: bool,
    /// Layers that the step is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Layers that the step leaves alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl Default for Prune {
    fn default() -> Prune {
        Prune {
            pattern: Pattern::Elements,
            share: None,
            criterion: Criterion::default(),
            scope: Scope::default(),
            reconstruct: true,
            everywhere: false,
            only: Vec::new(),
            except: Vec::new(),
        }
    }
}

/// The blocks that products of bytes skip: output channels by inputs.
const BYTES: [usize; 2] = [16, 4];

/// Which weights become zero together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// Each by itself.
    Elements,
    /// All but `keep` of every `of` neighbours of a row.
    OutOf {
        /// How many stay.
        keep: usize,
        /// Of how many.
        of: usize,
        /// Output channels in which the same ones stay; none: as the target's kernels gain.
        rows: Option<usize>,
    },
    /// Blocks of the weight matrix: output channels by inputs; none: as the target's kernels gain.
    Blocks(Option<[usize; 2]>),
    /// Whole channels, which disappear from the model.
    Channels,
}

/// How weights are ranked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// By the sum of magnitudes.
    L1,
    /// By the sum of squares.
    L2,
    /// By chance.
    Random,
    /// By magnitude times the root mean square of what it multiplies (Sun et al. 2023, Wanda).
    Activation,
    /// By the change of the model's outputs, to the first order (Molchanov et al. 2019): for channels.
    Taylor,
    /// By the error that removing it makes in the layer's output.
    #[default]
    Error,
}

/// What a share is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Each layer loses the same share.
    #[default]
    Layer,
    /// All layers together; those that lose least give most.
    Global,
}

/// Stores weights in fewer bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Quantize {
    /// The type of weights.
    pub weights: Weights,
    /// The type of activations.
    pub activations: Activations,
    /// How ranges of activations are chosen.
    pub calibration: Calibration,
    /// Inputs that share a scale; none: 32 with codes of 4 bits and less and in products also of up to 7, else all of a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
    /// How weights are rounded to codes.
    pub rounding: Rounding,
    /// How the entries of tables are found.
    pub table: Fit,
    /// Whether factors move between layers first, so that the channels of each activation have similar ranges.
    pub equalize: bool,
    /// Whether biases make up for what rounding weights adds to the mean.
    pub bias_correction: bool,
    /// Layers that the step is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Layers that the step leaves alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl Default for Quantize {
    fn default() -> Quantize {
        Quantize {
            weights: Weights::Int(8),
            activations: Activations::Uint8,
            calibration: Calibration::default(),
            block: None,
            rounding: Rounding::default(),
            table: Fit::default(),
            equalize: false,
            bias_correction: true,
            only: Vec::new(),
            except: Vec::new(),
        }
    }
}

/// The type of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Weights {
    /// Equal steps, of so many bits.
    Int(u32),
    /// A table of so many bits of entries, which lie where the weights are.
    Codebook(u32),
    /// 16-bit floats.
    F16,
    /// 16-bit floats with the exponents of 32-bit ones.
    Bf16,
}

/// The type of activations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activations {
    /// Bytes, with ranges from calibration.
    #[default]
    Uint8,
    /// Bytes, with ranges found at run time.
    Dynamic,
    /// As they are.
    Float,
}

/// How weights are rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Each to the nearest code.
    Nearest,
    /// One after the other; the others make up for each one's error (Frantar et al. 2022).
    #[default]
    Gptq,
    /// Up or down, as gradient descent finds on the layer's output (Nagel et al. 2020).
    Adaround,
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Pattern> {
        match text {
            "elements" => return Ok(Pattern::Elements),
            "channels" => return Ok(Pattern::Channels),
            "blocks" => return Ok(Pattern::Blocks(None)),
            _ => {}
        }
        let (rows, rest) = match text.split_once('x') {
            Some((rows, rest)) => (rows.parse::<usize>().ok().filter(|&r| r > 0), rest),
            None => (None, text),
        };
        let pair = rest.split_once(':').and_then(|(a, b)| Some((a.parse::<usize>().ok()?, b.parse::<usize>().ok()?)));
        match (rows, pair, rest.parse::<usize>()) {
            (_, Some((keep, of)), _)
                if keep > 0 && keep < of && of <= 64 && rows.is_some() == text.contains('x') && rows <= Some(4096) =>
            {
                Ok(Pattern::OutOf { keep, of, rows })
            }
            (Some(rows), None, Ok(columns)) if columns > 0 && rows.saturating_mul(columns) <= 4096 => {
                Ok(Pattern::Blocks(Some([rows, columns])))
            }
            _ => Err(Error::usage(format!("\"{text}\" is no pattern of zeros")).help(
                "give elements, channels, blocks, N:M such as 2:4 (N of M stay), or a shape: ROWSxCOLUMNS such as 16x1 \
                 for blocks, ROWSxN:M such as 16x2:4",
            )),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Elements => f.write_str("elements"),
            Pattern::Channels => f.write_str("channels"),
            Pattern::OutOf { keep, of, rows: None } => write!(f, "{keep}:{of}"),
            Pattern::OutOf { keep, of, rows: Some(rows) } => write!(f, "{rows}x{keep}:{of}"),
            Pattern::Blocks(None) => f.write_str("blocks"),
            Pattern::Blocks(Some([rows, columns])) => write!(f, "{rows}x{columns}"),
        }
    }
}

impl Pattern {
    /// The shapes among which the target chooses, the one that loses least first; a pattern that names its shape has one.
    /// `bytes` tells that the weights become bytes.
    pub fn shapes(self, bytes: bool) -> Vec<Pattern> {
        match (self, bytes) {
            (Pattern::OutOf { keep, of, rows: None }, false) => {
                let heights = std::iter::once(1).chain(WIDTHS.into_iter().rev());
                heights.map(|rows| Pattern::OutOf { keep, of, rows: Some(rows) }).collect()
            }
            (Pattern::OutOf { keep, of, rows: None }, true) => vec![Pattern::OutOf { keep, of, rows: Some(1) }],
            (Pattern::Blocks(None), false) => {
                WIDTHS.into_iter().rev().map(|rows| Pattern::Blocks(Some([rows, 1]))).collect()
            }
            (Pattern::Blocks(None), true) => vec![Pattern::Blocks(Some(BYTES))],
            (shape, _) => vec![shape],
        }
    }
}

impl FromStr for Weights {
    type Err = Error;

    fn from_str(text: &str) -> Result<Weights> {
        let bits = |prefix: &str| text.strip_prefix(prefix)?.parse::<u32>().ok();
        match (text, bits("int"), bits("codebook")) {
            ("f16", ..) => Ok(Weights::F16),
            ("bf16", ..) => Ok(Weights::Bf16),
            (_, Some(bits), _) if (2..=8).contains(&bits) => Ok(Weights::Int(bits)),
            (_, _, Some(bits)) if (1..=8).contains(&bits) => Ok(Weights::Codebook(bits)),
            _ => Err(Error::usage(format!("\"{text}\" is no type of weights")).help(
                "give int8, int4, int3, int2, codebook4 (a table of 16 values; codebook1 to codebook8), f16 or bf16",
            )),
        }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weights::Int(bits) => write!(f, "int{bits}"),
            Weights::Codebook(bits) => write!(f, "codebook{bits}"),
            Weights::F16 => f.write_str("f16"),
            Weights::Bf16 => f.write_str("bf16"),
        }
    }
}

/// Types that a recipe holds as text.
macro_rules! as_text {
    ($($ty:ty),*) => {$(
        impl TryFrom<String> for $ty {
            type Error = String;

            fn try_from(text: String) -> Result<$ty, String> {
                text.parse().map_err(|e: Error| e.report().to_string())
            }
        }

        impl From<$ty> for String {
            fn from(value: $ty) -> String {
                value.to_string()
            }
        }
    )*};
}
as_text!(Pattern, Weights);

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// When the text is no recipe; the message says where.
    pub fn parse(text: &str) -> Result<Recipe> {
        let recipe: Recipe = toml::from_str(text).map_err(|e| Error::usage(format!("not a recipe: {e}")))?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The recipe as a file has it.
    ///
    /// # Errors
    /// When it cannot be written, which does not depend on its values.
    pub fn text(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::internal(format!("recipe: {e}")))
    }

    /// Checks what the types do not: shares, and combinations without meaning.
    ///
    /// # Errors
    /// All faults at once.
    pub fn check(&self) -> Result<()> {
        let mut errors = Vec::new();
        if self.samples == 0 {
            errors.push(Error::usage("samples: 0 samples show nothing"));
        }
        errors.extend(steps::misplaced(&self.steps));
        for (n, step) in self.steps.iter().enumerate() {
            let faults = step.faults();
            errors.extend(faults.into_iter().map(|e| Error::usage(e).within(format!("step {}", n + 1))));
        }
        Error::all(errors).map_or(Ok(()), Err)
    }
}

impl Prune {
    /// The share of weights that becomes zero.
    pub fn share(&self) -> f64 {
        match self.pattern {
            Pattern::OutOf { keep, of, .. } => 1.0 - keep as f64 / of as f64,
            _ => self.share.unwrap_or(0.0),
        }
    }

    /// Which layers it is for.
    pub fn selection(&self) -> Selection<'_> {
        Selection { only: &self.only, except: &self.except }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match (self.pattern, self.share) {
            (Pattern::OutOf { .. }, Some(_)) => faults.push(format!("the pattern {} gives the share", self.pattern)),
            (Pattern::OutOf { .. }, None) => {}
            (_, None) => faults.push("pruning needs a share, such as 0.7".to_string()),
            (_, Some(share)) if !(share > 0.0 && share < 1.0) => {
                faults.push(format!("the share {share} of weights that become zero is not between 0 and 1"));
            }
            _ => {}
        }
        if self.criterion == Criterion::Taylor && self.pattern != Pattern::Channels {
            faults.push("the criterion taylor is for channels, not for weights".to_string());
        }
        if matches!(self.pattern, Pattern::OutOf { .. }) && self.scope == Scope::Global {
            faults.push(format!("the pattern {} is for each layer, not global", self.pattern));
        }
        faults
    }
}

impl Step {
    /// Whether layers compute with bytes from then on.
    pub(crate) fn is_bytes(&self) -> bool {
        matches!(self, Step::Quantize(q) if q.activations != Activations::Float)
    }
}

impl Quantize {
    /// Which layers it is for.
    pub fn selection(&self) -> Selection<'_> {
        Selection { only: &self.only, except: &self.except }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let floats = self.activations == Activations::Float;
        if !floats && self.weights != Weights::Int(8) {
            faults.push(format!("8-bit activations take int8 weights, not {}; give activations float", self.weights));
        }
        if floats && self.equalize {
            faults.push("equalizing is for 8-bit activations".to_string());
        }
        if let Some(block) = self.block.filter(|b| *b < 16 || !b.is_power_of_two()) {
            faults.push(format!("a block of {block} weights: it holds 16, 32, 64, ..."));
        }
        if self.block.is_some() && !matches!(self.weights, Weights::Int(2..8) | Weights::Codebook(_)) {
            faults.push(format!("blocks are for int4, codebook4 and the like, not {}", self.weights));
        }
        if self.table != Fit::default() && !matches!(self.weights, Weights::Codebook(_)) {
            faults.push(format!("tables are for codebook4 and the like, not {}", self.weights));
        }
        faults
    }
}

impl<'a> Selection<'a> {
    /// Whether a step is for a layer.
    pub fn takes(&self, layer: &Layer) -> bool {
        self.takes_named(&layer.name, &layer.operator)
    }

    /// Whether a step is for a layer of this name and operator.
    pub fn takes_named(&self, name: &str, operator: &str) -> bool {
        let fits = |pattern: &String| fits(pattern, name, operator);
        (self.only.is_empty() || self.only.iter().any(fits)) && !self.except.iter().any(fits)
    }

    /// Patterns that fit no layer: probably misspelt.
    pub fn useless(&self, fits_one: impl Fn(&str) -> bool) -> Vec<&'a str> {
        self.only.iter().chain(self.except).map(String::as_str).filter(|p| !fits_one(p)).collect()
    }
}

/// Whether a pattern is a layer's operator, or fits its name.
pub fn fits(pattern: &str, name: &str, operator: &str) -> bool {
    pattern == operator || matches(pattern, name)
}

/// Whether a text fits a pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            (0..=text.len()).filter(|&n| text.is_char_boundary(n)).any(|n| matches(rest, &text[n..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_read_as_they_are_written() {
        let prune = Prune { pattern: Pattern::OutOf { keep: 2, of: 4, rows: None }, ..Prune::default() };
        let quantize =
            Quantize { weights: Weights::Codebook(4), activations: Activations::Float, ..Default::default() };
        let recipe = Recipe { seed: 7, samples: 9, steps: vec![Step::Prune(prune), Step::Quantize(quantize)] };
        assert_eq!(Recipe::parse(&recipe.text().unwrap()).unwrap(), recipe);
        assert_eq!(Recipe::parse("").unwrap(), Recipe::default());
    }

    #[test]
    fn nonsense_is_refused_with_a_remedy() {
        let error = |text: &str| Recipe::parse(text).unwrap_err().to_string();
        for (text, part) in [
            ("sed = 1", "unknown field `sed`"),
            ("samples = 0", "0 samples"),
            ("[[steps]]\nmethod = \"shrink\"", "unknown variant `shrink`"),
            ("[[steps]]\nmethod = \"prune\"", "needs a share"),
            ("[[steps]]\nmethod = \"prune\"\nshare = 1.5", "not between 0 and 1"),
            ("[[steps]]\nmethod = \"prune\"\npattern = \"4:2\"", "no pattern"),
            ("[[steps]]\nmethod = \"prune\"\npattern = \"0x2:4\"", "no pattern"),
            ("[[steps]]\nmethod = \"prune\"\npattern = \"4x\"", "no pattern"),
            ("[[steps]]\nmethod = \"prune\"\npattern = \"2:4\"\nshare = 0.5", "gives the share"),
            ("[[steps]]\nmethod = \"quantize\"\nweights = \"int9\"", "no type of weights"),
            ("[[steps]]\nmethod = \"quantize\"\nweights = \"int4\"", "give activations float"),
            ("[[steps]]\nmethod = \"quantize\"\nshare = 0.1", "unknown field `share`"),
        ] {
            assert!(error(text).contains(part), "{text}: {}", error(text));
        }
    }

    #[test]
    fn patterns_are_read_as_they_are_written() {
        for text in ["elements", "channels", "blocks", "2:4", "16x2:4", "16x1", "4x4"] {
            let pattern: Pattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), text);
            for (bytes, shape) in
                [false, true].into_iter().flat_map(|b| pattern.shapes(b).into_iter().map(move |s| (b, s)))
            {
                assert_eq!(shape.shapes(bytes), [shape], "{text}");
            }
        }
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b*", "abc", true),
            ("*", "", true),
            ("a*c*", "abd", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
