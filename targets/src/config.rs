//! The target and the options for the code.

use crate::choices::Choices;
use crate::machine::Machine;
use crate::{Target, UnknownTarget};

/// A target, the caller's options, and measured choices.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The target.
    pub target: Target,
    /// The machine whose figures decide the form of the weights: the same for all CPUs of an object, which share them.
    pub weights_machine: &'static Machine,
    /// The largest number of threads that a run may use; with 1, code has no support for threads.
    pub threads: u32,
    /// Which weights are stored as non-zeros only.
    pub sparsity: Sparsity,
    /// Whether a small object is more important than speed.
    pub compact: bool,
    /// How float weights are stored.
    pub weights: WeightFloats,
    /// Whether the compiler checks its own work after every stage; the code is the same. The default is true if debug
    /// assertions are enabled.
    pub checked: bool,
    /// Choices that overrule the schedules' defaults.
    pub choices: Choices,
}

impl Config {
    /// The default options for a triple and a `--cpu` value.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn new(triple: &str, cpu: Option<&str>) -> Result<Config, UnknownTarget> {
        Target::new(triple, cpu).map(Config::from)
    }

    /// The default options for this machine, at a `--cpu` level.
    ///
    /// # Errors
    /// As [`Target::host`].
    pub fn host(cpu: Option<&str>) -> Result<Config, UnknownTarget> {
        Target::host(cpu).map(Config::from)
    }
}

impl From<Target> for Config {
    /// The default options: one thread, sparse forms where they are faster, weights as the model has them.
    fn from(target: Target) -> Config {
        Config {
            weights_machine: target.machine,
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

/// How float weights are stored.
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

/// When weights with zeros are stored as non-zeros only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sparsity {
    /// If the cost model predicts that it is faster.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Wherever a kernel supports it.
    Force,
}
