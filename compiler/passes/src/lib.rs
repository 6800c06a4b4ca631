//! Passes: graph rewrites that do not depend on how kernels are written.
//!
//! The same passes rewrite [regions](mcc_ir::If), at the same stage, each as a graph of its own: only `conditions` looks into
//! a region from outside.
//!
//! A pass takes a valid graph and leaves a valid graph that computes the same values (up to rounding where the pass
//! says so), returns whether it changed anything, and changes nothing when run again on its own result. Its time is
//! about linear in nodes and bytes of constants. [`PIPELINE`] is the only place that defines the order.

mod canonical;
mod layout;
mod pack;
pub mod prune;
mod quantize;
mod sparse;
mod support;

use mcc_targets::Config;

use mcc_ir::Result;
use mcc_ir::{Graph, Stage, verify_at};

pub use quantize::WITHOUT_BYTE_PRODUCTS;

/// A pass: its name, its function, and the reason for its position.
pub struct Pass {
    /// Name, as in `--dump-ir`.
    pub name: &'static str,
    /// Rewrites the graph; returns whether anything changed.
    pub run: fn(&mut Graph, &Config) -> Result<bool>,
    /// The reason for its position.
    pub why: &'static str,
    /// Whether lowering relies on it, so that it also runs at `-O0`. All others only make models faster and smaller.
    pub required: bool,
}

impl Pass {
    /// Runs the pass on a graph, then on its regions; returns whether anything changed.
    ///
    /// # Errors
    /// When the pass finds the model invalid.
    pub fn apply(&self, graph: &mut Graph, config: &Config) -> Result<bool> {
        let changed = (self.run)(graph, config)?;
        if changed {
            // Rewrites leave replaced nodes behind, which would count as users of their operands.
            graph.remove_dead();
        }
        Ok(graph.edit_regions(&mut |region| self.apply(region, config))? || changed)
    }
}

/// Passes that run in turn, repeatedly while any of them changes something, at most `rounds` times.
pub struct Phase {
    /// Name of the phase.
    pub name: &'static str,
    /// Maximum number of repetitions; 1 for phases whose passes run once.
    pub rounds: usize,
    /// The graph's stage from here on: its rules hold after each pass of the phase. Only passes of the packing phase
    /// see packed operations; passes of other kinds that run there may fold and share them, not rewrite them.
    pub leaves: Stage,
    /// The passes, in order.
    pub passes: &'static [Pass],
}

const fn pass(name: &'static str, run: fn(&mut Graph, &Config) -> Result<bool>, why: &'static str) -> Pass {
    Pass { name, run, why, required: false }
}

const fn required(name: &'static str, run: fn(&mut Graph, &Config) -> Result<bool>, why: &'static str) -> Pass {
    Pass { name, run, why, required: true }
}

/// All phases, in order.
pub const PIPELINE: &[Phase] = &[
    Phase {
        name: "extents",
        rounds: 1,
        leaves: Stage::Imported,
        passes: &[required(
            "known_extents",
            canonical::known_extents::run,
            "first: it rebuilds the graph, and all other passes then see more constants",
        )],
    },
    Phase {
        name: "quantization",
        rounds: 1,
        leaves: Stage::Imported,
        passes: &[
            pass(
                "qdq_propagation",
                quantize::qdq_propagation::run,
                "while dequantizing and quantizing still have the importer's form",
            ),
            pass("signedness", quantize::signedness::run, "before the zero points that it shifts are merged into sums"),
            pass("qdq_contractions", quantize::qdq_contractions::run, "before dequantized weights become constants"),
        ],
    },
    Phase {
        name: "canonical",
        rounds: 4,
        leaves: Stage::Canonical,
        passes: &[
            pass("fold_constants", canonical::fold_constants::run, "first: every later rule looks for constants"),
            pass(
                "conditions",
                canonical::conditions::run,
                "after constants: all other passes then see a known condition's branch, and weights passed to a region",
            ),
            pass("algebra", canonical::algebra::run, "brings expressions to the form that later patterns match"),
            pass("scatters", canonical::scatters::run, "before slices, since scatters become concatenations of slices"),
            pass("slices", canonical::slices::run, "turns constant gathers into slices, which the other passes handle"),
            pass("cse", canonical::cse::run, "before patterns: two equal means are then one value"),
            pass(
                "fuse_patterns",
                canonical::fuse_patterns::run,
                "needs canonical constants and shared values; its results are simplified by the rest",
            ),
            pass("reshapes", canonical::reshapes::run, "a scale after a squeeze is then next to its convolution"),
            pass("fold_batch_norm", canonical::fold_batch_norm::run, "after algebra has moved constants to the right"),
            pass(
                "fold_scales",
                canonical::fold_scales::run,
                "after the cheaper fold_batch_norm has folded scales next to weights",
            ),
            pass(
                "transposes",
                canonical::transposes::run,
                "cancels the model's own transposes, also around batch norms",
            ),
        ],
    },
    Phase {
        name: "pruning",
        rounds: 1,
        leaves: Stage::Canonical,
        passes: &[pass(
            "prune",
            prune::run,
            "after scales are folded into weights; before layout, which depends on channels",
        )],
    },
    Phase {
        name: "layout",
        rounds: 1,
        leaves: Stage::LaidOut,
        passes: &[required(
            "layout",
            layout::run,
            "after patterns, which match channels-first graphs; before transposes sink",
        )],
    },
    Phase {
        name: "canonical layout",
        rounds: 4,
        leaves: Stage::LaidOut,
        passes: &[
            pass(
                "channels_last_norm",
                layout::channels_last_norm::run,
                "normalisations between channels-last convolutions",
            ),
            pass("transposes", canonical::transposes::run, "cancels the transposes that layout added"),
            pass("reshapes", canonical::reshapes::run, "reshapes that a transpose blocked"),
            pass(
                "fold_batch_norm",
                canonical::fold_batch_norm::run,
                "scales that a transpose separated from their convolution",
            ),
            pass(
                "algebra",
                canonical::algebra::run,
                "simplifies the results of sinking: reshapes of reshapes, pads of pads",
            ),
            pass("slices", canonical::slices::run, "the same for slices and concatenations"),
            pass("fold_constants", canonical::fold_constants::run, "transposed constants"),
            pass("cse", canonical::cse::run, "one value transposed twice"),
            pass(
                "requantize_affine",
                quantize::requantize_affine::run,
                "after transposes have moved out of the chains between dequantizing and quantizing",
            ),
        ],
    },
    Phase {
        name: "packing",
        rounds: 1,
        leaves: Stage::Packed,
        passes: &[
            pass(
                "attention",
                canonical::attention::run,
                "after transposes have cancelled, so that heads are split by a single one; before packing",
            ),
            pass(
                "int8_reductions",
                quantize::int8_reductions::run,
                "before int8_contractions: sums of bytes need no float operand, so that its other uses can be bytes",
            ),
            pass(
                "int8_contractions",
                quantize::int8_contractions::run,
                "before dense, which takes the float products; after transposes have moved out of the operands",
            ),
            pass(
                "int8_blocks",
                sparse::int8_blocks::run,
                "after int8_contractions, which packs its operands; blocks before single zeros",
            ),
            pass(
                "int8_csr",
                sparse::int8_csr::run,
                "after int8_blocks; words before int8_bitmask, since they are faster",
            ),
            pass("int8_bitmask", sparse::int8_bitmask::run, "after int8_contractions, which packs its operands"),
            pass(
                "blocks",
                sparse::blocks::run,
                "after int8_contractions, so that only float products remain; blocks before single non-zeros",
            ),
            pass("csr", sparse::csr::run, "before weights are packed for dense kernels"),
            pass(
                "joined_axes",
                pack::joined_axes::run,
                "after sparse passes, so that only dense convolutions remain; before dense, which filters along one axis",
            ),
            pass("fold_constants", canonical::fold_constants::run, "weights of joined axes"),
            pass("merge_pixels", pack::merge_pixels::run, "before dense, which packs its results"),
            pass(
                "lowbit",
                pack::lowbit::run,
                "after int8 products; before dense, which stores all remaining weights as floats",
            ),
            pass(
                "half_weights",
                pack::half_weights::run,
                "after lowbit: only weights that dense stores as floats remain",
            ),
            required("dense", pack::dense::run, "after all passes that match weights or convolutions"),
            pass(
                "unit_transposes",
                canonical::unit_transposes::run,
                "last: as reshapes, these transposes would be hidden from `transposes`",
            ),
            required("fold_constants", canonical::fold_constants::run, "packed weights"),
            pass("algebra", canonical::algebra::run, "pads and reshapes that packing added"),
            pass("cse", canonical::cse::run, "two operations that pack the same weights"),
            pass("dead_code", canonical::dead_code::run, "lowering sees only what the outputs need"),
        ],
    },
];

/// Which passes to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// The passes that lowering relies on.
    Required,
    /// The whole pipeline.
    Full,
}

/// Runs the pipeline. `observer` sees the graph after each pass, with the pass's name. For a graph that is at a later
/// [stage](Stage) already, the phases before that stage are skipped.
///
/// # Errors
/// When a pass finds the model at fault, or leaves an invalid graph ([`Config::checked`] verifies after every pass).
pub fn run(graph: &mut Graph, config: &Config, effort: Effort, observer: &mut dyn FnMut(&str, &Graph)) -> Result<()> {
    let from = Stage::of(graph);
    for phase in PIPELINE.iter().filter(|phase| phase.leaves >= from) {
        for _ in 0..phase.rounds {
            let mut changed = false;
            for pass in phase.passes.iter().filter(|p| p.required || effort == Effort::Full) {
                changed |= run_one(pass, graph, config, phase.leaves)?;
                observer(pass.name, graph);
            }
            if !changed {
                break;
            }
        }
    }
    Ok(())
}

fn run_one(pass: &Pass, graph: &mut Graph, config: &Config, stage: Stage) -> Result<bool> {
    let place = || format!("pass {}", pass.name);
    let changed = pass.apply(graph, config).map_err(|e| e.within(place()))?;
    if config.checked {
        verify_at(graph, stage).map_err(|e| e.within(place()))?;
    }
    Ok(changed)
}

/// The pass with a name.
pub fn find(name: &str) -> Option<&'static Pass> {
    PIPELINE.iter().flat_map(|phase| phase.passes).find(|pass| pass.name == name)
}
