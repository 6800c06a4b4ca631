//! What to compile for, and what is wanted of the code.

use crate::choices::Choices;
use crate::{Target, UnknownTarget};

/// A machine, what the caller prefers, and what was measured on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The machine.
    pub target: Target,
    /// Most threads that a run may use; with 1, code knows of no threads.
    pub threads: u32,
    /// Which weights are kept as their non-zeros.
    pub sparsity: Sparsity,
    /// Whether bytes of the object count for more than time.
    pub compact: bool,
    /// How weights that are floats are stored.
    pub weights: WeightFloats,
    /// Whether the compiler checks its own work, stage by stage; code is the same. The default is that of debug assertions.
    pub checked: bool,
    /// What was measured to be faster than what the schedules say.
    pub choices: Choices,
}

impl Config {
    /// The usual preferences for a triple and a `--cpu` value.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn new(triple: &str, cpu: Option<&str>) -> Result<Config, UnknownTarget> {
        Target::new(triple, cpu).map(Config::from)
    }

    /// The usual preferences for this machine, at a `--cpu` level.
    ///
    /// # Errors
    /// As [`Target::host`].
    pub fn host(cpu: Option<&str>) -> Result<Config, UnknownTarget> {
        Target::host(cpu).map(Config::from)
    }
}

impl From<Target> for Config {
    /// The usual preferences: one thread, sparsity where it is faster, weights as the model has them.
    fn from(target: Target) -> Config {
        Config {
            target,
            threads: 1,
            sparsity: Sparsity::Auto,
            compact: false,
            weights: WeightFloats::AsGiven,
            checked: cfg!(debug_assertions),
            choices: Choices::default(),
        }
    }
}

/// How weights that are floats are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WeightFloats {
    /// As the model has them.
    #[default]
    AsGiven,
    /// Rounded to IEEE's 16 bits.
    F16,
    /// Rounded to the upper 16 bits of `f32`.
    Bf16,
}

/// When weights with zeros are kept as their non-zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sparsity {
    /// Where the cost model finds that faster.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Wherever there is a kernel for it.
    Force,
}
