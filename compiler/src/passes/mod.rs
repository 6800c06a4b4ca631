//! Graph to graph: every rewrite that does not depend on how kernels are written.
//!
//! [Regions](crate::ir::If) are rewritten at the same stage, by the same passes, each as a graph of its own: no pass but `conditions`
//! looks into one from outside.
//!
//! A pass takes a valid graph and leaves a valid graph that computes the same (up to rounding where a pass says so),
//! tells whether it changed anything, and changes nothing when it runs again on its own result. Passes are near
//! linear in nodes and bytes of constants. [`PIPELINE`] is the one place that knows their order.

mod canonical;
mod layout;
mod pack;
mod prune;
mod quantize;
mod sparse;
mod support;

use mcc_targets::Target;

use crate::Result;
use crate::ir::{Graph, Stage, verify_at};

pub use quantize::WITHOUT_BYTE_PRODUCTS;

/// One pass: its name, what it does, and why it stands where it stands.
pub struct Pass {
    /// Name, as in `--dump-ir`.
    pub name: &'static str,
    /// Rewrites the graph; tells whether anything changed.
    pub run: fn(&mut Graph, &Target) -> Result<bool>,
    /// Why it stands where it stands.
    pub why: &'static str,
    /// Whether lowering relies on it: it runs at `-O0` too. All others only make models faster and smaller.
    pub required: bool,
}

impl Pass {
    /// Runs the pass on a graph, then on its regions; tells whether anything changed.
    ///
    /// # Errors
    /// When the pass finds the model at fault.
    pub fn apply(&self, graph: &mut Graph, target: &Target) -> Result<bool> {
        let changed = (self.run)(graph, target)?;
        if changed {
            // Rewrites leave what they replaced behind; without this it would count as a user of its operands.
            graph.remove_dead();
        }
        Ok(graph.edit_regions(&mut |region| self.apply(region, target))? || changed)
    }
}

/// Passes that run in turn, again and again while any of them changes something, `rounds` times at most.
pub struct Phase {
    /// What the phase is for.
    pub name: &'static str,
    /// Bound on the repetitions; 1 for phases whose passes run once.
    pub rounds: usize,
    /// The stage that the graph is at from here on: its rules hold after each pass of the phase. Only passes of the phase that
    /// packs see graphs that hold packed operations; those that run there besides may fold and share them, not rewrite them.
    pub leaves: Stage,
    /// In order.
    pub passes: &'static [Pass],
}

const fn pass(name: &'static str, run: fn(&mut Graph, &Target) -> Result<bool>, why: &'static str) -> Pass {
    Pass { name, run, why, required: false }
}

const fn required(name: &'static str, run: fn(&mut Graph, &Target) -> Result<bool>, why: &'static str) -> Pass {
    Pass { name, run, why, required: true }
}

/// All of them, in order.
pub const PIPELINE: &[Phase] = &[
    Phase {
        name: "extents",
        rounds: 1,
        leaves: Stage::Imported,
        passes: &[required(
            "known_extents",
            canonical::known_extents::run,
            "first: it makes the graph anew, and all others see more constants",
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
                "while dequantizing and quantizing are as the importer wrote them",
            ),
            pass("signedness", quantize::signedness::run, "before the zero points that it moves become parts of sums"),
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
                "after constants: a known condition's branch, and weights that a region was given, are seen by all others",
            ),
            pass(
                "algebra",
                canonical::algebra::run,
                "brings spellings of one thing to one form before patterns look for it",
            ),
            pass(
                "scatters",
                canonical::scatters::run,
                "before slices: concatenations of slices are what becomes of them",
            ),
            pass(
                "slices",
                canonical::slices::run,
                "turns constant gathers into slices, which the other passes see through",
            ),
            pass("cse", canonical::cse::run, "before patterns: two equal spellings of a mean are then one value"),
            pass(
                "fuse_patterns",
                canonical::fuse_patterns::run,
                "needs canonical constants and shared values; makes work for the rest",
            ),
            pass("reshapes", canonical::reshapes::run, "a scale behind a squeeze then stands behind its convolution"),
            pass("fold_batch_norm", canonical::fold_batch_norm::run, "after algebra moved constants to the right"),
            pass(
                "fold_scales",
                canonical::fold_scales::run,
                "after the cheaper fold_batch_norm took what is next to weights",
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
            "after scales went into weights; before layouts, which depend on channels",
        )],
    },
    Phase {
        name: "layout",
        rounds: 1,
        leaves: Stage::LaidOut,
        passes: &[required(
            "layout",
            layout::run,
            "after patterns, which are written channels-first; before transposes sink",
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
            pass(
                "transposes",
                canonical::transposes::run,
                "lets the transposes that the layout brought meet and cancel",
            ),
            pass("reshapes", canonical::reshapes::run, "a reshape that a transpose kept from sinking"),
            pass(
                "fold_batch_norm",
                canonical::fold_batch_norm::run,
                "scales that a transpose kept from their convolution",
            ),
            pass("algebra", canonical::algebra::run, "what sinking left: reshapes of reshapes, pads of pads"),
            pass("slices", canonical::slices::run, "the same for slices and concatenations"),
            pass("fold_constants", canonical::fold_constants::run, "transposed constants"),
            pass("cse", canonical::cse::run, "one value transposed twice"),
            pass(
                "requantize_affine",
                quantize::requantize_affine::run,
                "after transposes left the chains between dequantizing and quantizing",
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
                "after transposes met: what splits heads is then one of them; before packing",
            ),
            pass(
                "int8_reductions",
                quantize::int8_reductions::run,
                "before floats that a sum needs keep what it sums from being bytes",
            ),
            pass(
                "int8_contractions",
                quantize::int8_contractions::run,
                "what is left for dense is not of bytes; after transposes left the operands",
            ),
            pass(
                "int8_blocks",
                sparse::int8_blocks::run,
                "after int8_contractions, which packs what this looks at; blocks before single zeros",
            ),
            pass(
                "int8_csr",
                sparse::int8_csr::run,
                "blocks before single words, which are faster than bytes of their own",
            ),
            pass("int8_bitmask", sparse::int8_bitmask::run, "after int8_contractions, which packs what this looks at"),
            pass(
                "blocks",
                sparse::blocks::run,
                "what int8_contractions left is of floats; blocks before single non-zeros",
            ),
            pass("csr", sparse::csr::run, "before weights are packed for dense kernels"),
            pass(
                "joined_axes",
                pack::joined_axes::run,
                "what is left are dense convolutions; before dense, which filters lines",
            ),
            pass("fold_constants", canonical::fold_constants::run, "weights of joined axes"),
            pass("merge_pixels", pack::merge_pixels::run, "before dense, which packs what it makes"),
            pass("lowbit", pack::lowbit::run, "takes what is not of bytes, before dense takes the rest as it is"),
            pass("half_weights", pack::half_weights::run, "what is left are weights that dense stores as floats"),
            required("dense", pack::dense::run, "after everything that looks at weights or at convolutions"),
            pass(
                "unit_transposes",
                canonical::unit_transposes::run,
                "last: a transpose that moves no data would hide from `transposes` as a reshape",
            ),
            required("fold_constants", canonical::fold_constants::run, "packed weights"),
            pass("algebra", canonical::algebra::run, "pads and reshapes that packing brought"),
            pass("cse", canonical::cse::run, "two operations that pack the same weights"),
            pass("dead_code", canonical::dead_code::run, "lowering sees only what the outputs need"),
        ],
    },
];

/// How much to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// What lowering relies on.
    Required,
    /// The whole pipeline.
    Full,
}

/// Runs the pipeline. `observer` sees the graph after each pass, under the pass's name. A graph that was made for a later
/// [stage](Stage) goes on from there.
///
/// # Errors
/// When a pass finds the model at fault, or leaves an invalid graph ([`Target::checked`] verifies after every pass).
pub fn run(graph: &mut Graph, target: &Target, effort: Effort, observer: &mut dyn FnMut(&str, &Graph)) -> Result<()> {
    let from = Stage::of(graph);
    for phase in PIPELINE.iter().filter(|phase| phase.leaves >= from) {
        for _ in 0..phase.rounds {
            let mut changed = false;
            for pass in phase.passes.iter().filter(|p| p.required || effort == Effort::Full) {
                changed |= run_one(pass, graph, target, phase.leaves)?;
                observer(pass.name, graph);
            }
            if !changed {
                break;
            }
        }
    }
    Ok(())
}

fn run_one(pass: &Pass, graph: &mut Graph, target: &Target, stage: Stage) -> Result<bool> {
    let place = || format!("pass {}", pass.name);
    let changed = pass.apply(graph, target).map_err(|e| e.within(place()))?;
    if target.checked {
        verify_at(graph, stage).map_err(|e| e.within(place()))?;
    }
    Ok(changed)
}

/// The pass of a name.
pub fn find(name: &str) -> Option<&'static Pass> {
    PIPELINE.iter().flat_map(|phase| phase.passes).find(|pass| pass.name == name)
}
